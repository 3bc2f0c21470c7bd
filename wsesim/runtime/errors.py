"""Errors of requests.

WsesimError
└── InvalidInputError
    └── RequestError    a prompt, length or parameter that no request can have
"""

from __future__ import annotations

from wsesim.errors import InvalidInputError


class RequestError(InvalidInputError):
    """A prompt, length or parameter that no request can have."""
