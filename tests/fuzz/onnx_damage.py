"""Damage to an ONNX file: of its bytes, or of the model that they hold."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import onnx

from tests.fuzz.damage import damage_bytes

_PLACES = (
    "/etc/hostname",
    "../secret",
    "link",
    "model.onnx",
    "a/../../secret",
    "C:\\secret",
    "",
    "\0",
    "absent",
    "pipe",
)
_NUMBERS = (0, 1, -1, 2, 3, 7, 8, 11, 40, 2**31 - 1, 2**31, 2**62, -(2**63))


def damage_onnx(rng: Random, whole: bytes) -> bytes:
    """One to three damages of the bytes or, mostly, of the model."""
    if rng.random() < 0.25:
        return damage_bytes(rng, whole)
    file = onnx.ModelProto.FromString(whole)
    for _ in range(rng.randint(1, 3)):
        rng.choice(_DAMAGES)(file.graph, rng)
    damaged: bytes = file.SerializeToString()
    return damaged


def _one(items: Any, rng: Random) -> Any:
    return rng.choice(items) if len(items) else None


def _drop(graph: Any, rng: Random) -> None:
    (items,) = rng.choices((graph.node, graph.initializer, graph.input, graph.output), (5, 3, 1, 1))
    if len(items):
        del items[rng.randrange(len(items))]


def _twice(graph: Any, rng: Random) -> None:
    items = rng.choice((graph.node, graph.initializer))
    if len(items):
        items.append(_one(items, rng))


def _swap(graph: Any, rng: Random) -> None:
    first, second = (rng.randrange(len(graph.node)) for _ in range(2)) if len(graph.node) else (0, 0)
    if first != second:
        kept = onnx.NodeProto.FromString(graph.node[first].SerializeToString())
        graph.node[first].CopyFrom(graph.node[second])
        graph.node[second].CopyFrom(kept)


def _rewire(graph: Any, rng: Random) -> None:
    node, other = _one(graph.node, rng), _one(graph.node, rng)
    names = [*other.output, *(tensor.name for tensor in graph.initializer), ""] if other else []
    if node and len(node.input) and names:
        node.input[rng.randrange(len(node.input))] = _one(names, rng)


def _retype(graph: Any, rng: Random) -> None:
    node, other = _one(graph.node, rng), _one(graph.node, rng)
    if node:
        node.op_type = other.op_type if rng.random() < 0.8 else "Mystery"


def _renumber(graph: Any, rng: Random) -> None:
    node = _one(graph.node, rng)
    attribute = _one(node.attribute, rng) if node else None
    if attribute is None:
        return
    attribute.i = int(_one(_NUMBERS, rng))
    if len(attribute.ints):
        attribute.ints[rng.randrange(len(attribute.ints))] = int(_one(_NUMBERS, rng))
    if rng.random() < 0.1:
        attribute.name = "mystery"


def _reshape(graph: Any, rng: Random) -> None:
    tensor = _one(graph.initializer, rng)
    if tensor and len(tensor.dims):
        tensor.dims[rng.randrange(len(tensor.dims))] = int(_one(_NUMBERS, rng))
    elif tensor:
        tensor.dims.append(int(_one(_NUMBERS, rng)))


def _redate(graph: Any, rng: Random) -> None:
    """Small integers are shapes, axes and bounds: other numbers in them."""
    small = [t for t in graph.initializer if t.data_type == onnx.TensorProto.INT64 and t.raw_data]
    tensor = _one(small, rng)
    if tensor:
        values = np.frombuffer(tensor.raw_data, np.int64).copy()
        values[rng.randrange(len(values))] = int(_one(_NUMBERS, rng))
        tensor.raw_data = values.tobytes()


def _move(graph: Any, rng: Random) -> None:
    external = [tensor for tensor in graph.initializer if len(tensor.external_data)]
    entry = _one(_one(external, rng).external_data, rng) if external else None
    if entry:
        entry.value = _one(_PLACES, rng) if entry.key == "location" else str(_one(_NUMBERS, rng))


def _redeclare(graph: Any, rng: Random) -> None:
    value = _one([*graph.input, *graph.output], rng)
    dim = _one(value.type.tensor_type.shape.dim, rng) if value else None
    if dim:
        dim.dim_value = int(_one(_NUMBERS, rng))
    elif value:
        value.type.tensor_type.elem_type = rng.randrange(20)


_DAMAGES: tuple[Callable[[Any, Random], None], ...] = (
    *(_drop, _twice, _swap, _rewire, _retype, _renumber, _reshape, _redate, _move, _redeclare),
)
