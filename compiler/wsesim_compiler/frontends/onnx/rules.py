"""How each ONNX operator is written in the raw vocabulary, where its operands are not known before the model runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from wsesim_compiler.frontends.onnx.builder import Builder
from wsesim_compiler.frontends.onnx.rule import Given, Rule, rule
from wsesim_compiler.frontends.onnx.tensors import DTYPES
from wsesim_compiler.frontends.onnx.values import (
    Dynamic,
    NotReadError,
    Operand,
    Weight,
    integers,
    scalar,
)
from wsesim_compiler.frontends.onnx.views import VIEW_RULES
from wsesim_compiler.ir import TOKENS
from wsesim_compiler.operators.elementwise import FLOATS
from wsesim_compiler.operators.operator import broadcast


def _unary(op: str) -> Rule:
    return rule(lambda build, given, x: build.add(op, x))


def _binary(op: str, reverse: str = "", dtype: str | None = None) -> Rule:
    return rule(_either(op, reverse, dtype))


def _either(op: str, reverse: str = "", dtype: str | None = None) -> Callable[..., Operand]:
    """`reverse` is the operator for a number as first operand; without it the two cannot be exchanged."""

    def emit(build: Builder, given: Given, x: Operand, y: Operand) -> Operand:
        for one, number, name in ((x, scalar(y), op), (y, scalar(x), reverse)):
            if number is not None and name and _keeps_shape(build, x, y, one):
                return build.add(name, one, dtype=dtype, other=number)
        return build.add(op, x, y, dtype=dtype)

    return emit


def _keeps_shape(build: Builder, x: Operand, y: Operand, kept: Operand) -> bool:
    return broadcast(build.shape(x), build.shape(y)) == build.shape(kept)


def _add(build: Builder, given: Given, x: Operand, y: Operand) -> Operand:
    """A bias after a product with weights belongs to it."""
    for product, bias in ((x, y), (y, x)):
        made = build.made_by(product, "linear")
        if (
            made is not None
            and len(made.inputs) == 2
            and isinstance(bias, Weight)
            and bias.view.shape == made.shape[-1:]
        ):
            return build.add("linear", Dynamic(made.inputs[0]), Dynamic(made.inputs[1]), bias)
    return _sum(build, given, x, y)


def _divide(build: Builder, given: Given, x: Operand, y: Operand) -> Operand:
    if build.tensor(x).dtype not in FLOATS:
        raise NotReadError("a quotient of whole numbers")
    number = scalar(x)
    if number is None or not _keeps_shape(build, x, y, y):
        return build.add("div", x, y)
    inverse = build.add("reciprocal", y)
    return inverse if number == 1 else build.add("mul", inverse, other=number)


def _power(build: Builder, given: Given, x: Operand, y: Operand) -> Operand:
    number = scalar(y)
    return build.add("pow", x, y) if number is None else build.add("pow", x, exponent=number)


def _any_number(op: str) -> Rule:
    exchanged = _either(op, op)

    def emit(build: Builder, given: Given, *operands: Operand) -> Operand:
        result = operands[0]
        for operand in operands[1:]:
            result = exchanged(build, given, result, operand)
        return result

    return rule(emit)


def _where(build: Builder, given: Given, condition: Operand, yes: Operand, no: Operand) -> Operand:
    found = {"self": scalar(yes), "other": scalar(no)}
    numbers: dict[str, Any] = {name: number for name, number in found.items() if number is not None}
    rest = [value for value in (yes, no) if scalar(value) is None]
    shapes = [build.shape(value) for value in (condition, *rest)]
    if broadcast(*shapes) != broadcast(build.shape(condition), build.shape(yes), build.shape(no)):
        raise NotReadError("a choice that is wider than its condition")
    return build.add("where", condition, *rest, dtype=build.tensor(yes).dtype, **numbers)


def _cast(build: Builder, given: Given, x: Operand) -> Operand:
    if given["to"] not in DTYPES:
        raise NotReadError(f"to the element type {given['to']}")
    return _to(build, x, DTYPES[given["to"]][0])


def _cast_like(build: Builder, given: Given, x: Operand, like: Operand) -> Operand:
    return _to(build, x, build.tensor(like).dtype)


def _to(build: Builder, x: Operand, dtype: str) -> Operand:
    same = build.tensor(x).dtype == dtype or (isinstance(x, Weight) and dtype in FLOATS)
    return x if same else build.add("to", x, dtype=dtype)


def _clip(build: Builder, given: Given, x: Operand, low: Operand = None, high: Operand = None) -> Operand:
    bounds: dict[str, Any] = {name: scalar(value) for name, value in (("min", low), ("max", high)) if value is not None}
    if None in bounds.values():
        raise NotReadError("to bounds that are no numbers")
    return build.add("clamp", x, **bounds)


def _same(build: Builder, given: Given, x: Operand, *ignored: Operand) -> Operand:
    return x


def _softmax(build: Builder, given: Given, x: Operand) -> Operand:
    scores = build.shape(x)
    if build.single and scores[-2:] == (TOKENS, TOKENS) and not _is_masked(build, x):
        x = build.add("where", _lower_triangle(build), x, other=-math.inf)
    return build.add("softmax", x, dim=given.get("axis", -1))


def _is_masked(build: Builder, scores: Operand) -> bool:
    """Whether a mask was added to the scores, or chose among them."""
    made = build.nodes.get(scores.name) if isinstance(scores, Dynamic) else None
    return made is not None and made.op in ("where", "add", "masked_fill")


def _lower_triangle(build: Builder) -> Operand:
    """The mask [T, T] of the positions that each token sees; the newest, the only one of its file, sees all."""
    ones = build.add("full", size=(TOKENS, TOKENS), fill_value=1, dtype="i64")
    return build.add("ne", build.add("tril", ones, diagonal=0), dtype="bool", other=0)


def _reduce(op: str) -> Rule:
    def emit(build: Builder, given: Given, x: Operand, axes: Operand = None) -> Operand:
        along = tuple(given.get("axes", ())) if axes is None else integers(axes)
        if not along:
            raise NotReadError("over no axes or all")
        return build.add(op, x, dim=along, keepdim=bool(given.get("keepdims", 1)))

    return rule(emit, "axes keepdims noop_with_empty_axes")


def _matmul(build: Builder, given: Given, x: Operand, y: Operand) -> Operand:
    if isinstance(y, Weight) and len(y.view.shape) == 2 and y.view.blocks is None:
        return build.add("linear", x, Weight(y.view.transpose()))
    if len(build.shape(x)) < 2 or len(build.shape(y)) < 2:
        raise NotReadError("of a vector")
    return build.add("matmul", x, y)


def _einsum(build: Builder, given: Given, *operands: Operand) -> Operand:
    return build.add("einsum", *operands, equation=given["equation"])


def _gemm(build: Builder, given: Given, x: Operand, y: Operand, bias: Operand = None) -> Operand:
    if (given.get("alpha", 1.0), given.get("transA", 0)) != (1.0, 0) or (
        bias is not None and given.get("beta", 1.0) != 1.0
    ):
        raise NotReadError("with alpha, beta or transA")
    if not isinstance(y, Weight) or len(y.view.shape) != 2:
        raise NotReadError("by something else than weights")
    weight = y if given.get("transB", 0) else Weight(y.view.transpose())
    return build.add("linear", x, weight, *(() if bias is None else (bias,)))


_sum = _either("add", "add")

RULES: dict[str, Rule] = {
    **{
        name: _unary(name.lower())
        for name in ("Neg", "Abs", "Sqrt", "Reciprocal", "Exp", "Log", "Cos", "Sin", "Tanh", "Sigmoid")
    },
    "Not": rule(lambda build, given, x: build.add("logical_not", x)),
    "IsNaN": rule(lambda build, given, x: build.add("isnan", x, dtype="bool")),
    "Add": rule(_add),
    "Sub": _binary("sub", "rsub"),
    "Mul": _binary("mul", "mul"),
    "Div": rule(_divide),
    "Pow": rule(_power),
    "Min": _any_number("minimum"),
    "Max": _any_number("maximum"),
    "Equal": _binary("eq", "eq", "bool"),
    "Less": _binary("lt", "gt", "bool"),
    "LessOrEqual": _binary("le", "ge", "bool"),
    "Greater": _binary("gt", "lt", "bool"),
    "GreaterOrEqual": _binary("ge", "le", "bool"),
    "And": _binary("logical_and", dtype="bool"),
    "Or": _binary("logical_or", dtype="bool"),
    "Where": rule(_where),
    "Clip": rule(_clip),
    "Cast": rule(_cast, "to saturate round_mode"),
    "CastLike": rule(_cast_like, "saturate round_mode"),
    "Identity": rule(_same),
    "Dropout": rule(_same, "seed"),
    "Softmax": rule(_softmax, "axis"),
    "ReduceMean": _reduce("mean"),
    "ReduceSum": _reduce("sum"),
    "MatMul": rule(_matmul),
    "Einsum": rule(_einsum, "equation"),
    "Gemm": rule(_gemm, "alpha beta transA transB"),
    **VIEW_RULES,
}
