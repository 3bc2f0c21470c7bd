"""The table of operators: each with its shape rule and its NumPy meaning side by side, and no cost.

Recognised vocabulary, every value [T, features], C cached tokens before the T new ones:

    embedding(tokens [T], @weight [V, d]) -> [T, d]
    rmsnorm(x [T, d], @weight [d]) {eps}
    qk_norm(x [T, heads * head_dim], @weight [head_dim]) {head_dim, heads, eps}: each head by itself
    linear(x [T, i], @weight [o, i] (, @bias [o])) {start, stop, transpose} -> [T, o]; of a packed weight and bias
        only [start, stop); @weight is [i, o] if transpose
    rope(x [T, heads * head_dim], %inv_freq [head_dim / 2]) {head_dim, heads, pairing: half | interleaved}
    attention(q [T, heads * head_dim], k, v [T, kv_heads * head_dim]) {head_dim, heads, kv_heads, scale,
        window}
    swiglu(gate, up) = silu(gate) * up
    add(a, b)
    head(x [T, d], @weight [V, d] (, @bias [V])) -> [T, V], the logits; tied if @weight is the embedding's

`attention` is causal, and with a `window` a token sees no more than so many positions, its own the last; `rope` turns
token t by its position C + t. The raw vocabulary is torch's: `aten` names without namespace and overload, tensors as
operands, all else as attributes by the schema's names. The canonical one keeps one spelling of each.
"""

from __future__ import annotations

from collections.abc import Sequence

from wsesim_compiler.errors import ShapeError
from wsesim_compiler.ir import Attributes, NodeType, Shape, TensorType
from wsesim_compiler.operators import contraction, creation, elementwise, llama, views
from wsesim_compiler.operators.operator import CANONICAL, RAW, RECOGNIZED, Operator

OPERATORS: dict[str, Operator] = {
    operator.name: operator
    for module in (elementwise, views, creation, contraction, llama)
    for operator in module.OPERATORS
}
STAGES = (RAW, CANONICAL, RECOGNIZED)


def vocabulary(stage: str) -> frozenset[str]:
    """Names of the operators that a graph of a stage may hold."""
    return frozenset(name for name, operator in OPERATORS.items() if stage in operator.stages)


def infer_shape(op: str, operands: Sequence[NodeType], attributes: Attributes) -> Shape | list[Shape]:
    """Shape of an operator's result (a list for several results) by its rule; raises ShapeError."""
    shapes: list[Shape] = []
    for operand in operands:
        parts = (operand,) if isinstance(operand, TensorType) else operand
        shapes += [part.shape for part in parts]
    try:
        return OPERATORS[op].shape(*shapes, **dict(attributes))
    except (TypeError, ValueError, IndexError) as error:
        raise error if isinstance(error, ShapeError) else ShapeError(str(error)) from error
