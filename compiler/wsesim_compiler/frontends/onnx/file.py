"""One `.onnx` file, opened without trusting it: its nodes, inputs, outputs and tensors.

The protobuf is parsed by `onnx`; whatever else a file may say (sizes, places of its data, the order of its nodes) is
checked here. No data is read before it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wsesim.errors import first_line
from wsesim.files import read_bytes
from wsesim_compiler.errors import OnnxFileError
from wsesim_compiler.frontends.onnx.tensors import Tensor, tensor_of

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

OLDEST_OPSET = 13
_MOST_BYTES = (1 << 31) - 1  # of a protobuf; what is more lies beside it
_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True, slots=True)
class Declared:
    """An input or output of the file: ONNX's element type, dimensions as numbers, symbols or "?", None if not given."""

    name: str
    element_type: int
    dims: tuple[int | str, ...] | None


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """What a file holds. `tensors` are its initialisers by name, in the file's order."""

    path: Path
    inputs: tuple[Declared, ...]
    outputs: tuple[Declared, ...]
    nodes: tuple[NodeProto, ...]
    tensors: dict[str, Tensor]


def open_onnx(path: str | Path) -> OnnxFile:
    """The file at `path`.

    Raises InvalidInputError for what cannot be read, and OnnxFileError for what is no model, or breaks the format's
    rules.
    """
    path = Path(path)
    model = _parsed(path)
    _check_opsets(path, model)
    graph: GraphProto = model.graph
    tensors: dict[str, Tensor] = {}
    for proto in graph.initializer:
        if proto.name in tensors:
            raise OnnxFileError(path, f"initialiser {proto.name!r} is defined twice")
        tensors[proto.name] = tensor_of(path, proto)
    if graph.sparse_initializer:
        raise OnnxFileError(path, "sparse initialisers are not read; write them dense")
    inputs = tuple(_declared(path, value) for value in graph.input if value.name not in tensors)
    outputs = tuple(_declared(path, value) for value in graph.output)
    _check_order(path, graph, {value.name for value in inputs} | set(tensors))
    return OnnxFile(path, inputs, outputs, tuple(graph.node), tensors)


def live_nodes(file: OnnxFile, outputs: tuple[str, ...]) -> list[NodeProto]:
    """The nodes that `outputs` depend on, in the file's order."""
    wanted = set(outputs)
    kept: list[NodeProto] = []
    for node in reversed(file.nodes):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            kept.append(node)
    return kept[::-1]


def _parsed(path: Path) -> ModelProto:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.ModelProto.FromString(read_bytes(path, "an ONNX model", _MOST_BYTES))
    except DecodeError as error:
        raise OnnxFileError(path, f"it is damaged, cut off or no ONNX model ({first_line(error)})") from None
    if not model.graph.node:
        raise OnnxFileError(path, "it holds no nodes; it is cut off or no ONNX model")
    if not all(isinstance(text, str) for text in _texts(model.graph)):
        raise OnnxFileError(path, "it is damaged: it holds names that are no text")
    return model


def _texts(graph: GraphProto) -> Iterator[object]:
    """Every text that is read of a file; protobuf gives what is no UTF-8 as bytes."""
    for node in graph.node:
        yield from (node.op_type, node.domain, node.name, *node.input, *node.output)
        for attribute in node.attribute:
            yield from (attribute.name, *_tensor_texts(attribute.t))
        yield from (text for entry in node.metadata_props for text in (entry.key, entry.value))
    for tensor in graph.initializer:
        yield from _tensor_texts(tensor)
    for value in (*graph.input, *graph.output):
        yield from (value.name, *(dim.dim_param for dim in value.type.tensor_type.shape.dim))


def _tensor_texts(tensor: TensorProto) -> Iterator[object]:
    yield tensor.name
    yield from (text for entry in tensor.external_data for text in (entry.key, entry.value))


def _check_opsets(path: Path, model: ModelProto) -> None:
    from onnx.defs import onnx_opset_version

    newest = onnx_opset_version()
    versions = [entry.version for entry in model.opset_import if entry.domain in _DOMAINS]
    if len(versions) != 1 or not OLDEST_OPSET <= versions[0] <= newest:
        found = ", ".join(map(str, versions)) or "none"
        raise OnnxFileError(path, f"its opset is {found}; read are {OLDEST_OPSET} to {newest}")


def _declared(path: Path, value: ValueInfoProto) -> Declared:
    if not value.type.HasField("tensor_type"):
        raise OnnxFileError(path, f"{value.name!r} is not a tensor")
    tensor = value.type.tensor_type
    return Declared(value.name, tensor.elem_type, tuple(_dims(path, value)) if tensor.HasField("shape") else None)


def _dims(path: Path, value: ValueInfoProto) -> Iterator[int | str]:
    for dim in value.type.tensor_type.shape.dim:
        if dim.HasField("dim_value"):
            if dim.dim_value < 0:
                raise OnnxFileError(path, f"{value.name!r} has a dimension of {dim.dim_value}")
            yield dim.dim_value
        else:
            yield dim.dim_param or "?"


def _check_order(path: Path, graph: GraphProto, known: set[str]) -> None:
    """Every value is made once, before it is read: the format's own rule, which leaves no cycles."""
    for node in graph.node:
        for name in node.input:
            if name and name not in known:
                raise OnnxFileError(
                    path,
                    f"{node.op_type} {node.name!r} reads {name!r}, which is no input, initialiser or result before it "
                    "(an initialiser is missing, the nodes are out of order or in a cycle)",
                )
        for name in node.output:
            if name in known:
                raise OnnxFileError(path, f"{node.op_type} {node.name!r} makes {name!r}, which is defined already")
            if name:
                known.add(name)
    for value in graph.output:
        if value.name not in known:
            raise OnnxFileError(path, f"output {value.name!r} is made by no node")
