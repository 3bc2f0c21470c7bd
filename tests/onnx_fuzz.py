"""Seeded damage to ONNX files, and what may come of it: a model, or a clean error, and no file read elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from wsesim.errors import WsesimError
from wsesim.toolchain.onnx_model import understand_onnx

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
_opened: list[str] = []
_watching = False


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching and event == "open" and isinstance(arguments[0], str | bytes | Path):
        _opened.append(str(arguments[0]))


@cache
def _install() -> None:
    """Once: a hook cannot be taken away again."""
    sys.addaudithook(_hook)


@contextmanager
def files_read() -> Iterator[list[str]]:
    """The files that are opened meanwhile."""
    global _watching
    _install()
    _opened.clear()
    _watching = True
    try:
        yield _opened
    finally:
        _watching = False


def try_file(path: Path) -> str:
    """Read a file and its weights: "read", or the name of the WsesimError that it raised; anything else is raised."""
    try:
        model = understand_onnx(str(path))
        for name in model.weights.names():
            model.weights.load(name)
    except WsesimError as error:
        assert str(error)
        return type(error).__name__
    return "read"


def damaged(whole: bytes, rng: np.random.Generator) -> bytes:
    """A file's bytes with one to three damages: of bytes, or of the model that they hold."""
    if rng.random() < 0.25:
        return _bytes(whole, rng)
    file = onnx.ModelProto.FromString(whole)
    for _ in range(int(rng.integers(1, 4))):
        _DAMAGES[int(rng.integers(len(_DAMAGES)))](file.graph, rng)
    return file.SerializeToString()


def _bytes(whole: bytes, rng: np.random.Generator) -> bytes:
    if rng.random() < 0.4:
        return whole[: int(rng.integers(len(whole)))]
    changed = bytearray(whole)
    for at in rng.integers(len(whole), size=int(rng.integers(1, 8))):
        changed[at] = int(rng.integers(256))
    return bytes(changed)


def _one(items: Any, rng: np.random.Generator) -> Any:
    return items[int(rng.integers(len(items)))] if len(items) else None


def _drop(graph: Any, rng: np.random.Generator) -> None:
    items = (graph.node, graph.initializer, graph.input, graph.output)[int(rng.choice(4, p=(0.5, 0.3, 0.1, 0.1)))]
    if len(items):
        del items[int(rng.integers(len(items)))]


def _twice(graph: Any, rng: np.random.Generator) -> None:
    items = (graph.node, graph.initializer)[int(rng.integers(2))]
    if len(items):
        items.append(_one(items, rng))


def _swap(graph: Any, rng: np.random.Generator) -> None:
    first, second = (int(rng.integers(len(graph.node))) for _ in range(2)) if len(graph.node) else (0, 0)
    if first != second:
        kept = onnx.NodeProto.FromString(graph.node[first].SerializeToString())
        graph.node[first].CopyFrom(graph.node[second])
        graph.node[second].CopyFrom(kept)


def _rewire(graph: Any, rng: np.random.Generator) -> None:
    node, other = _one(graph.node, rng), _one(graph.node, rng)
    names = [*other.output, *(tensor.name for tensor in graph.initializer), ""] if other else []
    if node and len(node.input) and names:
        node.input[int(rng.integers(len(node.input)))] = _one(names, rng)


def _retype(graph: Any, rng: np.random.Generator) -> None:
    node, other = _one(graph.node, rng), _one(graph.node, rng)
    if node:
        node.op_type = other.op_type if rng.random() < 0.8 else "Mystery"


def _renumber(graph: Any, rng: np.random.Generator) -> None:
    node = _one(graph.node, rng)
    attribute = _one(node.attribute, rng) if node else None
    if attribute is None:
        return
    attribute.i = int(_one(_NUMBERS, rng))
    if len(attribute.ints):
        attribute.ints[int(rng.integers(len(attribute.ints)))] = int(_one(_NUMBERS, rng))
    if rng.random() < 0.1:
        attribute.name = "mystery"


def _reshape(graph: Any, rng: np.random.Generator) -> None:
    tensor = _one(graph.initializer, rng)
    if tensor and len(tensor.dims):
        tensor.dims[int(rng.integers(len(tensor.dims)))] = int(_one(_NUMBERS, rng))
    elif tensor:
        tensor.dims.append(int(_one(_NUMBERS, rng)))


def _redate(graph: Any, rng: np.random.Generator) -> None:
    """Small integers are shapes, axes and bounds: other numbers in them."""
    small = [t for t in graph.initializer if t.data_type == onnx.TensorProto.INT64 and t.raw_data]
    tensor = _one(small, rng)
    if tensor:
        values = np.frombuffer(tensor.raw_data, np.int64).copy()
        values[int(rng.integers(len(values)))] = int(_one(_NUMBERS, rng))
        tensor.raw_data = values.tobytes()


def _move(graph: Any, rng: np.random.Generator) -> None:
    external = [tensor for tensor in graph.initializer if len(tensor.external_data)]
    entry = _one(_one(external, rng).external_data, rng) if external else None
    if entry:
        entry.value = _one(_PLACES, rng) if entry.key == "location" else str(_one(_NUMBERS, rng))


def _redeclare(graph: Any, rng: np.random.Generator) -> None:
    value = _one([*graph.input, *graph.output], rng)
    dim = _one(value.type.tensor_type.shape.dim, rng) if value else None
    if dim:
        dim.dim_value = int(_one(_NUMBERS, rng))
    elif value:
        value.type.tensor_type.elem_type = int(rng.integers(20))


_DAMAGES: tuple[Callable[[Any, np.random.Generator], None], ...] = (
    *(_drop, _twice, _swap, _rewire, _retype, _renumber, _reshape, _redate, _move, _redeclare),
)
