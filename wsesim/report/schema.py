"""The stamp of the JSON outputs: which shape they have, and which version of wsesim wrote them."""

from __future__ import annotations

from typing import Any

from wsesim.version import __version__

SCHEMA_VERSION = 1
"""Raised when a field is renamed, removed, or means something else; a new field does not raise it. docs/report.md."""


def stamped(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields after `schema_version` and `wsesim_version`."""
    return {"schema_version": SCHEMA_VERSION, "wsesim_version": __version__, **fields}
