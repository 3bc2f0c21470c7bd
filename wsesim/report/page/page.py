"""The page of a report: one HTML file with its contents, its style and its script. It asks nothing of any network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from typing import Any

STYLES = ("page.css", "explorer.css")
SCRIPTS = (
    "base.js",
    "packed.js",
    "colours.js",
    "wafer.js",
    "layers.js",
    "view.js",
    "drawing.js",
    "input.js",
    "explorer.js",
    "inspector.js",
    "latency.js",
    "timeline.js",
    "table.js",
    "operators.js",
    "compiled.js",
    "main.js",
)
"""In the order in which they build on each other. All share one scope."""


def report_page(contents: Mapping[str, Any]) -> str:
    """The whole file. `contents` are those of `page_contents`."""
    report = contents["report"]
    return _filled(
        _asset("page.html"),
        title=escape(f"{report['model']} on {report['machine']}: wsesim report"),
        style="\n".join(map(_asset, STYLES)),
        contents=script_json(contents),
        script='"use strict";\n' + "\n".join(map(_asset, SCRIPTS)),
    )


def script_json(contents: Mapping[str, Any]) -> str:
    """JSON that may stand inside of a `<script>`: no text in it can end the element."""
    return json.dumps(contents, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _asset(name: str) -> str:
    return (files("wsesim.report.page") / "assets" / name).read_text(encoding="utf-8")


def _filled(template: str, **parts: str) -> str:
    """The template with each `{{name}}` replaced once."""
    for name, text in parts.items():
        before, _, after = template.partition("{{" + name + "}}")
        template = before + text + after
    return template
