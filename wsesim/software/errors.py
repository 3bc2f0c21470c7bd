"""Errors of the software description.

WsesimError
├── UnknownNameError
│   └── UnknownSoftwareError    no preset of that name and no TOML file there
└── InvalidInputError
    └── SoftwareFileError       a TOML lacks a field, has an unknown one, or a step that cannot be read
"""

from __future__ import annotations

from wsesim.errors import InvalidInputError, UnknownNameError


class UnknownSoftwareError(UnknownNameError):
    """No preset of that name and no TOML file there."""


class SoftwareFileError(InvalidInputError):
    """A software's TOML: a field is missing, unknown or out of range, or a step of a form cannot be read."""
