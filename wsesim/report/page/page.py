"""Pages: one HTML file each with its contents, its style and its script. A page asks nothing of any network."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from html import escape
from importlib.resources import files
from typing import Any

SHARED = (
    "base.js",
    "shell.js",
    "packed.js",
    "colours.js",
    "wafer.js",
    "layers.js",
    "view.js",
    "drawing.js",
    "input.js",
    "explorer.js",
    "inspector.js",
    "kinds.js",
    "table.js",
)
REPORT = (*SHARED, "latency.js", "timeline.js", "operators.js", "compiled.js", "main.js")
COMPARISON = (*SHARED, "differences.js", "sides.js", "compare.js")
"""Scripts, in the order in which they build on each other. All share one scope."""


def report_page(contents: Mapping[str, Any]) -> str:
    """The whole file. `contents` are those of `page_contents`."""
    report = contents["report"]
    title = f"{report['model']} on {report['machine']}: wsesim report"
    return _page(title, "report.html", ("page.css", "explorer.css"), REPORT, contents)


def comparison_page(contents: Mapping[str, Any]) -> str:
    """The whole file. `contents` are those of `comparison_contents`."""
    labels = " and ".join(side["label"] for side in contents["comparison"]["sides"])
    return _page(
        f"{labels}: wsesim compare", "compare.html", ("page.css", "explorer.css", "compare.css"), COMPARISON, contents
    )


def _page(title: str, main: str, styles: Iterable[str], scripts: Iterable[str], contents: Mapping[str, Any]) -> str:
    return _filled(
        _asset("page.html"),
        title=escape(title),
        style="\n".join(map(_asset, styles)),
        main=_asset(main),
        contents=script_json(contents),
        script='"use strict";\n' + "\n".join(map(_asset, scripts)),
    )


def script_json(contents: Mapping[str, Any]) -> str:
    """JSON that may stand inside of a `<script>`: no text in it can end the element."""
    return json.dumps(contents, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _asset(name: str) -> str:
    return (files("wsesim.report.page") / "assets" / name).read_text(encoding="utf-8")


def _filled(template: str, **parts: str) -> str:
    """The template with each `{{name}}` replaced. What the parts hold is left alone."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], template)
