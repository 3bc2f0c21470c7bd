"""The oracle: computes any Graph at any stage with NumPy; every pass keeps what it computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from wsesim_compiler.errors import InterpretError
from wsesim_compiler.ir import TOKENS, Attribute, Constant, Graph, Node, Shape, Value
from wsesim_compiler.operators.llama import KVState
from wsesim_compiler.operators.operator import Array
from wsesim_compiler.ops import OPERATORS

Weights: TypeAlias = Mapping[str, Any] | Callable[[str], Any]


def interpret(
    graph: Graph,
    weights: Weights,
    inputs: Mapping[str, Any],
    *,
    cached: KVState | None = None,
    dtype: type[np.floating[Any]] = np.float64,
) -> tuple[Array, ...]:
    """Arrays of the graph's outputs, computed in `dtype`.

    `weights` gives a parameter's array by name, `inputs` an array per graph input. `cached` is the KV state
    of a recognised graph: read as the C tokens before these, and extended by these; without it C is 0.
    Raises InterpretError for a missing or wrong-shaped array.
    """
    if cached is not None and not any(node.op == "attention" for node in graph.nodes):
        raise InterpretError(f"graph {graph.name!r} has no `attention` to keep cached tokens; recognise it first")
    tokens = _token_count(graph.inputs, inputs)
    state = KVState() if cached is None else cached
    values: dict[str, Any] = {value.name: np.asarray(inputs[value.name]) for value in graph.inputs}
    load = weights if callable(weights) else weights.__getitem__
    for parameter in graph.parameters:
        values[parameter.name] = _as_float(_loaded(load, parameter.name, parameter.type.shape), dtype)
    for constant in graph.constants:
        values[constant.name] = constant_array(constant, dtype)
    for node in graph.nodes:
        values[node.name] = compute(node, [values[name] for name in node.inputs], tokens, state, dtype)
    state.length += tokens
    return tuple(values[name] for name in graph.outputs)


def compute(
    node: Node,
    operands: list[Any],
    tokens: int,
    state: KVState | None = None,
    dtype: type[np.floating[Any]] = np.float64,
) -> Any:
    """Value of one node for T = `tokens`; a list of arrays for an operator with several results."""
    operator = OPERATORS[node.op]
    attributes = {name: _bound(value, tokens) for name, value in node.attributes}
    arrays = operands[0] if node.op == "getitem" else operands
    if operator.stateful:
        result = operator.meaning(*arrays, **attributes, state=state or KVState(), node=node.name)
    else:
        result = operator.meaning(*arrays, **attributes)
    return [_as_float(part, dtype) for part in result] if isinstance(result, list) else _as_float(result, dtype)


def constant_array(constant: Constant, dtype: type[np.floating[Any]] = np.float64) -> Array:
    """A constant's values in its shape."""
    shape = [int(dim) for dim in constant.type.shape]
    return _as_float(np.asarray(constant.values).reshape(shape), dtype)


def _bound(value: Attribute, tokens: int) -> Any:
    if isinstance(value, tuple):
        return tuple(_bound(part, tokens) for part in value)
    return tokens if value == TOKENS else value


def _as_float(value: Any, dtype: type[np.floating[Any]]) -> Array:
    array = np.asarray(value)
    return array.astype(dtype, copy=False) if array.dtype.kind == "f" else array


def _loaded(load: Callable[[str], Any], name: str, shape: Shape) -> Array:
    try:
        array = np.asarray(load(name))
    except KeyError:
        raise InterpretError(f"there are no weights for parameter {name!r}") from None
    if array.shape != shape:
        raise InterpretError(f"weights of {name!r} are {list(array.shape)}, the graph needs {list(shape)}")
    return array


def _token_count(declared: tuple[Value, ...], inputs: Mapping[str, Any]) -> int:
    counts: set[int] = set()
    for value in declared:
        if value.name not in inputs:
            raise InterpretError(f"input {value.name!r} {list(value.type.shape)} is missing")
        shape = np.shape(inputs[value.name])
        if len(shape) != len(value.type.shape) or not all(map(_agrees, value.type.shape, shape)):
            raise InterpretError(f"input {value.name!r} is {list(shape)}, expected {list(value.type.shape)}")
        counts.update(n for dim, n in zip(value.type.shape, shape, strict=True) if dim == TOKENS)
    if len(counts) > 1:
        raise InterpretError(f"inputs disagree on the number of tokens: {sorted(counts)}")
    return counts.pop() if counts else 1


def _agrees(declared: int | str, actual: int) -> bool:
    return declared in (TOKENS, actual)
