"""Errors of the machine description.

WsesimError
├── UnknownNameError
│   └── UnknownMachineError    no preset of that name and no TOML file there
└── InvalidInputError
    └── MachineFileError       a machine's TOML lacks a field, has one too many, or a number out of range
"""

from __future__ import annotations

from wsesim.errors import InvalidInputError, UnknownNameError


class UnknownMachineError(UnknownNameError):
    """No preset of that name and no TOML file there."""


class MachineFileError(InvalidInputError):
    """A machine's TOML lacks a field, has one too many, or a number out of range."""
