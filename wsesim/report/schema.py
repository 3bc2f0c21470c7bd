"""The stamp of all JSON outputs: the version of their schema, and the version of wsesim."""

from __future__ import annotations

from typing import Any

from wsesim.version import __version__

SCHEMA_VERSION = 1
"""It rises when a field is renamed, removed or redefined; a new field does not raise it (docs/report.md)."""


def stamped(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields, with `schema_version` and `wsesim_version` before them."""
    return {"schema_version": SCHEMA_VERSION, "wsesim_version": __version__, **fields}
