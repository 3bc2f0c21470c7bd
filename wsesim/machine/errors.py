"""Errors of the machine description.

WsesimError
├── UnknownNameError
│   └── UnknownMachineError    no preset of that name and no TOML file there
└── InvalidInputError
    └── MachineFileError       a machine's TOML or settings lack a field, have an unknown one, or one out of range
"""

from __future__ import annotations

from wsesim.errors import InvalidInputError, UnknownNameError


class UnknownMachineError(UnknownNameError):
    """No preset of that name and no TOML file there."""


class MachineFileError(InvalidInputError):
    """A machine's TOML, its settings or its numbers: a field is missing, unknown, of another type or out of range."""
