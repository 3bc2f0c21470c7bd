"""Rule: how an ONNX operator is written in the raw vocabulary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from wsesim_compiler.frontends.onnx.values import Operand

Given: TypeAlias = dict[str, Any]
Results: TypeAlias = "Operand | tuple[Operand, ...]"


@dataclass(frozen=True, slots=True)
class Rule:
    """`emit(builder, attributes, *operands)` gives the result, or several; any other attribute is refused."""

    emit: Callable[..., Results]
    attributes: frozenset[str]


def rule(emit: Callable[..., Results], attributes: str = "") -> Rule:
    """A Rule whose attributes are written as words."""
    return Rule(emit, frozenset(attributes.split()))
