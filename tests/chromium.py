"""Chromium for tests of pages: a page by its file:// URL, real input, and all that it printed and asked for.

    with opened(path) as page:
        page.click(300, 200)
        assert page.value("block") == "layer0"

Debian's packages chromium and chromium-driver are needed. Without them a test is skipped; with CI set it fails.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.actions.wheel_input import ScrollOrigin
from selenium.webdriver.common.by import By

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
PATIENCE_S = 60.0
DESKTOP, PHONE = (1440, 900), (390, 844)


def programs() -> tuple[str, str]:
    """The paths of chromium and chromedriver. Skips the test without them; fails in CI."""
    found = shutil.which("chromium"), shutil.which("chromedriver")
    if found[0] is None or found[1] is None:
        reason = "no chromium and chromedriver: apt-get install chromium chromium-driver"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    return str(found[0]), str(found[1])


class Page:
    """A page that is open in a browser of its own."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """The first value of `condition` that is true."""
        end_s = time.monotonic() + PATIENCE_S
        while not (found := condition()):
            assert time.monotonic() < end_s, f"{what}: {self.console()}"
            time.sleep(0.02)
        return found

    def find(self, selector: str) -> Any:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def scroll_to(self, selector: str) -> None:
        """Brings an element into view, where a mouse reaches it."""
        _ = self.find(selector).location_once_scrolled_into_view  # a property that scrolls

    def all(self, selector: str) -> list[Any]:
        return list(self.driver.find_elements(By.CSS_SELECTOR, selector))

    def value(self, field: str) -> str:
        """The exact value of a field of the inspector."""
        return str(self.find(f'[data-field="{field}"]').get_attribute("data-value"))

    def point(self, x: int, y: int) -> tuple[float, float]:
        """Where the explorer shows the middle of a PE, from the middle of its canvas."""
        script = """const {canvas, view} = wsesimReport.explorer;
                    const [left, top] = view.toScreen(arguments[0] + 0.5, arguments[1] + 0.5);
                    return [left - canvas.clientWidth / 2, top - canvas.clientHeight / 2];"""
        left, top = self.run(script, x, y)
        return left, top

    def wheel(self, left: float, top: float, amount: int) -> None:
        origin = ScrollOrigin.from_element(self.find(".stage canvas"), round(left), round(top))
        ActionChains(self.driver).scroll_from_origin(origin, 0, amount).perform()

    def click(self, left: float, top: float) -> None:
        canvas = self.find(".stage canvas")
        ActionChains(self.driver).move_to_element_with_offset(canvas, round(left), round(top)).click().perform()

    def drag(self, left: int, top: int) -> None:
        canvas = self.find(".stage canvas")
        ActionChains(self.driver).move_to_element(canvas).click_and_hold().move_by_offset(left, top).release().perform()

    def keys(self, *keys: str) -> None:
        self.find(".stage canvas").send_keys(*keys)

    def pinch(self, start: int, end: int) -> None:
        """Two fingers beside the middle of the canvas; their distance changes from `start` to `end`."""
        box = self.run("const r = document.querySelector('.stage canvas').getBoundingClientRect();"
                       "return [r.left + r.width / 2, r.top + r.height / 2];")  # fmt: skip

        def touch(kind: str, distance: float) -> None:
            points = [{"x": box[0] + side * distance / 2, "y": box[1], "id": n} for n, side in enumerate((-1, 1))]
            event = {"type": kind, "touchPoints": [] if kind == "touchEnd" else points}
            self.driver.execute_cdp_cmd("Input.dispatchTouchEvent", event)

        touch("touchStart", start)
        for step in range(1, 9):
            touch("touchMove", start + (end - start) * step / 8)
        touch("touchEnd", end)

    def console(self) -> list[str]:
        """What the console has printed since the last call."""
        return [f"{entry['level']}: {entry['message']}" for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """The URLs that the page has asked for since the last call, its own file included."""
        events = (json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance"))
        return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]


@contextmanager
def opened(path: Path, size: tuple[int, int] = DESKTOP, *, dark: bool = False) -> Iterator[Page]:
    """The page of a report, once it is drawn."""
    chromium, driver_path = programs()
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = Options()
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.binary_location = chromium
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = webdriver.Chrome(options=options, service=Service(driver_path))
        try:
            metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
            driver.execute_cdp_cmd(
                "Emulation.setTouchEmulationEnabled", {"enabled": size == PHONE, "maxTouchPoints": 5}
            )
            scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
            driver.get("about:blank")
            page = Page(driver)
            page.requests()  # those of the browser's own first page
            driver.get(path.absolute().as_uri())
            page.until(lambda: page.run("return document.documentElement.dataset.ready"), "the report was not drawn")
            yield page
        finally:
            driver.quit()
