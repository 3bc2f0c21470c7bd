"""The values of options, parsed from the command line. Each parser raises ArgumentTypeError in one line."""

from __future__ import annotations

import argparse
import re
from typing import Any, get_args

from wsesim.errors import InvalidInputError, brief
from wsesim.machine import parse_setting
from wsesim.toolchain.options import Option


def parser_of(option: Option) -> Any:
    """The function that parses an option's value."""
    kinds = get_args(option.type) or (option.type,)
    if option.metavar == "WxH":
        return size
    return integer if int in kinds else number if float in kinds else str


def integer(text: str) -> int:
    """Decimal digits with or without a sign."""
    if not re.fullmatch(r"[+-]?[0-9]{1,20}", text):
        raise argparse.ArgumentTypeError(f"{brief(text)} is not an integer")
    return int(text)


def number(text: str) -> float:
    """A decimal number, as Python writes it but without underscores."""
    try:
        if "_" in text:
            raise ValueError
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{brief(text)} is not a number") from None


def setting(text: str) -> tuple[str, Any]:
    """fabric.hop_cycles=1 as its field and value."""
    try:
        return parse_setting(text)
    except InvalidInputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def size(text: str) -> tuple[int, int]:
    """190x128 as (190, 128)."""
    columns, _, rows = text.partition("x")
    if not (re.fullmatch("[0-9]{1,9}", columns) and re.fullmatch("[0-9]{1,9}", rows)):
        raise argparse.ArgumentTypeError(f"{brief(text)} is not WxH, columns x rows, as 190x128")
    return int(columns), int(rows)
