"""The page of a report in a real browser: nothing is asked of a network, and every PE says what the engine did."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from selenium.webdriver.common.keys import Keys

from tests.chromium import DESKTOP, PHONE, Page, opened
from tests.programs import UNTIED, program
from tests.test_dead_pes import toy
from tests.test_left_out import TINY, small, with_gaps
from wsesim.engine.observe.traffic import pieces_of, wafer_busy_cycles, wafer_link_wavelets
from wsesim.engine.steps.timing import Step, Timing
from wsesim.machine import load_machine
from wsesim.program import Program
from wsesim.program.routes import routed
from wsesim.report.page.contents import page_contents
from wsesim.report.page.page import report_page
from wsesim.report.report import Report, report
from wsesim.toolchain.options import Lowering, StepOptions
from wsesim.toolchain.reporting import ReportFiles, write_report_of
from wsesim_compiler.placement.ground import LeftOut

EVIL = "</script><script>document.title = 'run'</script>"
DEAD = (750, 900)


@dataclasses.dataclass(frozen=True)
class Made:
    """A model on a whole wafer with a dead PE, one step of it, and its page."""

    program: Program
    step: Step
    report: Report
    path: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    machine = load_machine("wse3").with_({"dead": [list(DEAD)]}, name="wse3")
    placed = dataclasses.replace(program(UNTIED, machine), model=EVIL)
    step = Timing(placed).decode(100)
    said = report(placed, step)
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(report_page(page_contents(placed, step, said, f"wsesim report {EVIL}")), encoding="utf-8")
    return Made(placed, step, said, path)


@pytest.fixture(scope="module")
def page(made: Made) -> Iterator[Page]:
    with opened(made.path) as page:
        yield page


@pytest.fixture(autouse=True)
def quiet(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test that uses the page, its console is empty and it has asked for nothing but its file."""
    yield
    if "page" in request.fixturenames:
        assert_quiet(request.getfixturevalue("page"), request.getfixturevalue("made").path)


def assert_quiet(page: Page, path: Path) -> None:
    assert page.console() == []
    assert [url for url in page.requests() if not url.startswith("data:") and url != path.absolute().as_uri()] == []


def look_at(page: Page, x: int, y: int) -> None:
    """Zooms from the whole wafer to one PE with the wheel, and clicks it."""
    page.keys("0")
    page.scroll_to("#wafer")
    for _ in range(60):
        if page.run("return wsesimReport.explorer.view.scale") > 30:
            break
        page.wheel(*page.point(x, y), -240)
    page.click(*page.point(x, y))
    page.until(lambda: page.run("return wsesimReport.inspector.element.dataset.pe") == f"{x},{y}", "no PE was shown")


def places(made: Made) -> list[tuple[int, int]]:
    """PEs that differ: of each block, of the critical path, on a route between blocks, and beside all of them."""
    corners = [(b.x + b.columns - 1, b.y + b.rows // 2) for b in made.program.blocks]
    busy = made.report.path[len(made.report.path) // 2].to_pe
    return [*corners[:2], corners[-1], busy, (760, 1170)]


def test_a_click_shows_what_the_engine_counted(made: Made, page: Page) -> None:
    machine = made.program.machine
    size = machine.columns, machine.rows
    busy = wafer_busy_cycles(pieces_of(made.step.runs), *size)
    wavelets = wafer_link_wavelets(pieces_of(made.step.runs), *size)
    memory = {m.block: m for m in made.program.memory}
    for x, y in places(made):
        look_at(page, x, y)
        block = next((b.name for b in made.program.blocks if b.rect.has(x, y)), "")
        assert page.value("block") == block
        assert int(page.value("busy_cycles")) == busy[y, x]
        shown = [int(e.get_attribute("data-value")) for e in page.all('[data-field^="cycles:"]')]
        assert sum(shown) == busy[y, x]
        directions = [int(page.value(f"wavelets_{name}")) for name in ("east", "west", "north", "south")]
        assert directions == wavelets[y, x].tolist()
        on_path = sum(s.cycles for s in made.report.path if s.to_pe == (x, y))
        assert int(page.value("path_cycles")) == on_path
        if block:
            own = memory[block]
            held = [int(page.value(kind)) for kind in ("weight_bytes", "kv_bytes", "buffer_bytes", "sram_bytes")]
            assert held == [own.weight_bytes, own.kv_bytes, own.buffer_bytes, own.total_bytes]
            free = dict(made.report.sram_free_bytes)[block]
            assert int(page.value("free")) == free


def test_the_colours_of_a_router_are_those_of_the_program(made: Made, page: Page) -> None:
    x, y = next((path.position(1)) for name, path in routed(made.program) if name != "feedback")
    look_at(page, x, y)
    block = next((b.name for b in made.program.blocks if b.rect.has(x, y)), None)
    held = {c for use in made.program.colours if use.block == block for c in use.colours}
    for _, path in routed(made.program):
        if any((x, y) == path.position(hop) for hop in range(path.total_hops + 1)):
            held.add(path.colour)
    assert page.value("colours") == ",".join(map(str, sorted(held)))


@pytest.mark.parametrize("direction", ["east", "west", "north", "south"])
def test_the_browser_unpacks_every_value(made: Made, page: Page, direction: str) -> None:
    """A weighted sum over all PEs tells any two layers apart."""
    machine = made.program.machine
    wavelets = wafer_link_wavelets(pieces_of(made.step.runs), machine.columns, machine.rows)
    plane = wavelets[:, :, ["east", "west", "north", "south"].index(direction)].ravel()
    script = """const done = arguments[1];
        wsesimReport.wafer.wavelets(arguments[0]).then((values) => {
          let sum = 0; values.forEach((value, i) => sum += value * (i % 9973)); done([values.length, sum]); });"""
    found = page.driver.execute_async_script(script, direction)
    assert found == [plane.size, int((plane * (np.arange(plane.size) % 9973)).sum())]


def test_every_layer_has_a_legend_with_its_unit(page: Page) -> None:
    for choice in page.all(".layer"):
        choice.click()
        name = choice.get_attribute("data-layer")
        page.until(partial(page.run, f"return wsesimReport.explorer.layer.id === '{name}'"), "the layer is not shown")
        unit = page.run("return wsesimReport.explorer.layer.unit")
        legend = page.find(".legend").text
        assert choice.get_attribute("aria-pressed") == "true"
        assert unit in legend and legend
        assert page.run("return new Set(wsesimReport.explorer.values).size") > 1
    assert "dead: 1 PEs" in page.find(".legend").text
    page.all(".layer")[0].click()


def test_keys_buttons_and_drags_move_the_view(page: Page) -> None:
    view = "const {x, y, scale} = wsesimReport.explorer.view; return [x, y, scale]"
    page.scroll_to("#wafer")
    page.keys("0")
    whole = page.run(view)
    page.keys("+")
    page.find('.zoom button[title^="Zoom in"]').click()
    nearer = page.run(view)
    assert nearer[2] == pytest.approx(whole[2] * 1.6**2)
    page.keys(Keys.ARROW_RIGHT, Keys.ARROW_DOWN)
    moved = page.run(view)
    assert moved[0] > nearer[0] and moved[1] > nearer[1] and moved[2] == nearer[2]
    page.drag(60, 40)
    dragged = page.run(view)
    assert dragged[0] == pytest.approx(moved[0] - 60 / moved[2]) and dragged[1] == pytest.approx(
        moved[1] - 40 / moved[2]
    )
    page.keys("0")
    assert page.run(view) == whole
    page.find(".goto input").send_keys("12, 34", Keys.ENTER)
    assert page.run("return wsesimReport.explorer.selected") == {"x": 12, "y": 34}
    page.keys(Keys.SHIFT + Keys.ARROW_RIGHT)
    assert page.run("return wsesimReport.explorer.selected") == {"x": 13, "y": 34}
    page.keys(Keys.ESCAPE)
    assert page.run("return wsesimReport.explorer.selected") is None


def test_the_table_sums_to_the_report_and_filters_and_sorts(made: Made, page: Page) -> None:
    def foot(key: str) -> str:
        return str(page.find(f'tfoot [data-key="{key}"]').text)

    def column(key: str) -> list[str]:
        return [str(cell.text) for cell in page.all(f'tbody [data-key="{key}"]')]

    for group in ("operator", "block", "name"):
        page.run("const s = document.querySelector('#operators select'); s.value = arguments[0];"
                 "s.dispatchEvent(new Event('change'))", group)  # fmt: skip
        assert foot("total") == f"{made.report.cycles:,}"
        for kind, cycles in made.report.by_kind().items():
            assert foot(kind) == f"{cycles:,}"
    shown = column("total")
    numbers = [int(text.replace(",", "").replace("–", "0")) for text in shown]
    assert numbers == sorted(numbers, reverse=True)
    field = page.find('#operators input[type="search"]')
    field.send_keys("layer1 qkv")
    assert column("label") == ["layer1.qkv"]
    field.clear()
    field.send_keys(" ", Keys.BACKSPACE)
    page.find("#operators thead button").click()
    assert column("label") == sorted(column("label"))


def test_no_name_of_a_model_is_markup(made: Made, page: Page) -> None:
    assert page.driver.title.startswith(EVIL)
    assert page.find("#title").text == f"{EVIL} on wse3"
    assert EVIL in page.find(".command code").text


def test_a_phone_shows_all_of_it_and_pinches(made: Made) -> None:
    with opened(made.path, PHONE, dark=True) as page:
        assert page.run("return document.documentElement.scrollWidth") == PHONE[0]
        page.run("document.querySelector('.stage').scrollIntoView({block: 'center'})")
        before = page.run("return wsesimReport.explorer.view.scale")
        page.pinch(60, 240)
        assert page.run("return wsesimReport.explorer.view.scale") == pytest.approx(4 * before, rel=0.05)
        assert page.run("return getComputedStyle(document.body).colorScheme") == "dark"
        assert_quiet(page, made.path)


def test_a_pe_that_its_block_leaves_out_says_so(tmp_path: Path) -> None:
    placed = with_gaps(small(TINY, "shared"), toy(8, set()), LeftOut((1, 3), (2, 5)))
    step, block, path = Timing(placed).decode(10), placed.blocks[0], tmp_path / "report.html"
    contents = page_contents(placed, step, report(placed, step), "wsesim report")
    path.write_text(report_page(contents), encoding="utf-8")
    with opened(path) as page:
        for x, y, said in ((block.x, block.y, False), (block.left_out_columns[0], block.y, True)):
            look_at(page, x, y)
            note = page.run("return wsesimReport.inspector.element.textContent")
            assert ("Its block leaves this PE out" in note) == said


@pytest.mark.slow
def test_the_page_of_llama_is_small_and_soon_there(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report_of("llama3.1-8b", StepOptions(), Lowering(), ReportFiles(path), "wsesim report llama3.1-8b")
    assert path.stat().st_size < 5_000_000
    with opened(path, DESKTOP) as page:
        assert page.run("return wsesimReport.drawnAfterMs") < 2000
        look_at(page, 300, 200)
        assert page.value("block") == "layer6"
        assert_quiet(page, path)
