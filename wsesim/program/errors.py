"""Errors of Programs.

WsesimError
├── InvalidInputError
│   └── ProgramTextError       a text or file that is not a Program, with the line
├── VerificationError
│   └── ProgramRuleError       a Program that breaks a rule, with the rule and the offender
└── DoesNotFitError
    └── SramError              a block whose PEs need more bytes than they have
"""

from __future__ import annotations

from wsesim.errors import DoesNotFitError, InvalidInputError, VerificationError


class ProgramTextError(InvalidInputError):
    """A text or file that is not a Program."""


class ProgramRuleError(VerificationError):
    """A Program that breaks a rule of `verify_program`."""


class SramError(DoesNotFitError):
    """A block whose PEs need more bytes than they have."""
