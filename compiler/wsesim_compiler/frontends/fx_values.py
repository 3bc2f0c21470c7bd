"""What goes in and out of an ExportedProgram: tokens, parameters, buffers; and torch's types as ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from wsesim_compiler.errors import ExportError, MissingBufferError
from wsesim_compiler.frontends.fx_cache import (
    Sizes,
    cached_symbols,
    is_cache,
    position_nodes,
    tokens_input,
    written_buffers,
)
from wsesim_compiler.frontends.torch_dtypes import dtype_name
from wsesim_compiler.ir import TOKENS, Constant, Node, NodeType, Parameter, TensorType, Value, attributes

if TYPE_CHECKING:
    from torch import fx
    from torch.export import ExportedProgram

_CONSTANT_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class Placeholders:
    """What an exported program reads: `names` maps its FX placeholders to names in the Graph.

    `given`: nodes that stand for positions, padding masks and a static cache's buffers. `empty`: placeholders of cached
    keys and values. `outputs`: positions of what the user's forward returns, but for keys and values.
    """

    inputs: tuple[Value, ...]
    parameters: tuple[Parameter, ...]
    constants: tuple[Constant, ...]
    names: dict[str, str]
    given: tuple[Node, ...]
    empty: frozenset[str]
    sizes: Sizes
    outputs: tuple[int, ...]


def read_placeholders(program: ExportedProgram, inv_freq: tuple[float, ...] | None) -> Placeholders:
    """Inputs, parameters and constants by the signature; raises ExportError or MissingBufferError."""
    signature = program.graph_signature
    kinds = {spec.arg.name: spec for spec in signature.input_specs if hasattr(spec.arg, "name")}
    nodes = [n for n in program.graph_module.graph.nodes if n.op == "placeholder" and n.name in kinds]
    user = [node for node in nodes if _kind(kinds[node.name]) == "USER_INPUT" and _is_tensor(node)]
    tokens = tokens_input(user)
    beside = [node for node in user if node is not tokens]
    written = written_buffers(list(program.graph_module.graph.nodes))
    sizes = _sizes(tokens, beside, written)
    names: dict[str, str] = {tokens.name: tokens.name}
    inputs = (Value(tokens.name, _tokens_type(tokens, sizes)),)
    given = [made for node in beside if not is_cache(node) for made in position_nodes(node, sizes, node.name)]
    names |= {node.name: node.name for node in beside}
    first_of = _first_names(program)
    parameters: dict[str, Parameter] = {}
    constants: dict[str, Constant] = {}
    for node in nodes:
        target = first_of.get(kinds[node.name].target, kinds[node.name].target)
        if _kind(kinds[node.name]) == "PARAMETER":
            names[node.name] = target
            parameters[target] = Parameter(target, _tensor_type(node, sizes))
        elif node.name in written and node.users:
            names[node.name] = target
            type_ = _tensor_type(node, sizes)
            given.append(Node(target, "zeros", (), attributes(size=type_.shape, dtype=type_.dtype), type_))
        elif _kind(kinds[node.name]) in ("BUFFER", "CONSTANT_TENSOR") and node.users:
            names[node.name] = target
            constants[target] = _constant(target, node, program, inv_freq)
    empty = frozenset(node.name for node in beside if is_cache(node))
    outputs = _user_outputs(program, keep_caches=not empty)
    weights = tuple(parameters.values()), tuple(constants.values())
    return Placeholders(inputs, *weights, names, tuple(given), empty, sizes, outputs)


def _user_outputs(program: ExportedProgram, *, keep_caches: bool) -> tuple[int, ...]:
    """Positions of the user's outputs; where keys and values come in, those that go out are left out."""
    returned = list(zip(program.graph_signature.output_specs, _output_node(program).args[0], strict=True))
    user = [(index, node) for index, (spec, node) in enumerate(returned) if spec.kind.name == "USER_OUTPUT"]
    return tuple(index for index, node in user if keep_caches or not _is_heads(node))


def _is_heads(node: Any) -> bool:
    """Keys or values [1, heads, tokens, features] are; logits are not."""
    return hasattr(node, "meta") and _is_tensor(node) and len(node.meta["val"].shape) == 4


def _output_node(program: ExportedProgram) -> fx.Node:
    return next(node for node in program.graph_module.graph.nodes if node.op == "output")


def _sizes(tokens: fx.Node, beside: list[fx.Node], written: frozenset[str]) -> Sizes:
    """Torch's names of T and C; a program with a cache may be one for a single token."""
    shape = tokens.meta["val"].shape
    dims = [str(dim) for dim in shape]
    if len(dims) not in (1, 2) or (len(dims) == 2 and dims[0] != "1"):
        raise ExportError(f"the tokens are [{', '.join(dims)}]; export them as [1, T] or [T]")
    cached = cached_symbols(beside, dims[-1])
    if isinstance(shape[-1], int):
        if shape[-1] != 1 or not (cached or written):
            raise ExportError(f"the number of tokens is fixed to {dims[-1]}; export it dynamic (dynamic_shapes)")
        return Sizes("", cached, single=True)
    return Sizes(dims[-1], cached)


def _tokens_type(tokens: fx.Node, sizes: Sizes) -> TensorType:
    type_ = _tensor_type(tokens, sizes)
    return TensorType((*type_.shape[:-1], TOKENS), type_.dtype)


def _kind(spec: Any) -> str:
    return str(spec.kind.name)


def _is_tensor(node: fx.Node) -> bool:
    return hasattr(node.meta.get("val"), "dtype")


def _first_names(program: ExportedProgram) -> dict[str, str]:
    """Tied parameters: every name of a tensor to the first one."""
    first: dict[object, str] = {}
    names: dict[str, str] = {}
    for name, tensor in program.state_dict.items():
        key = (tensor.untyped_storage()._cdata, tensor.storage_offset(), tuple(tensor.shape))
        names[name] = first.setdefault(key, name)
    return names


def _constant(target: str, node: fx.Node, program: ExportedProgram, inv_freq: tuple[float, ...] | None) -> Constant:
    tensor = program.state_dict.get(target, program.constants.get(target))
    type_ = _tensor_type(node, Sizes(""))
    shape = tuple(int(dim) for dim in type_.shape)
    if tensor is None or tensor.device.type == "meta":
        if inv_freq is None or shape != (len(inv_freq),):
            raise MissingBufferError(target, shape)
        return Constant(target, type_, tuple(float(np.float32(value)) for value in inv_freq))
    if tensor.numel() > _CONSTANT_LIMIT:
        raise ExportError(
            f"buffer {target!r} {list(shape)} is too large for a constant ({_CONSTANT_LIMIT:,} elements); "
            "compute the table in forward, from a buffer of RoPE's inverse frequencies or from positions"
        )
    return Constant(target, type_, tuple(tensor.detach().flatten().tolist()))


def _tensor_type(node: fx.Node, sizes: Sizes) -> TensorType:
    type_ = type_of(node.meta["val"], sizes)
    if not isinstance(type_, TensorType):
        raise ExportError(f"{node.name} has a size that is neither a number nor {TOKENS}")
    return type_


def type_of(value: Any, sizes: Sizes) -> NodeType | None:
    """Our type of a fake tensor, or of several; None if a size is neither a number nor T."""
    if isinstance(value, tuple | list):
        parts = [type_of(part, sizes) for part in value]
        tensors = tuple(part for part in parts if isinstance(part, TensorType))
        return tensors if len(tensors) == len(parts) else None
    dims = tuple(sizes.dim(dim) for dim in value.shape)
    known = tuple(dim for dim in dims if dim is not None)
    return TensorType(known, dtype_name(value.dtype) or "other") if len(known) == len(dims) else None


def source_name(node: fx.Node) -> str:
    """Path of the torch module whose forward made a node, as in its parameters' names."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path = stack[-1][0] if stack else ""
    return "" if path.startswith("_empty_nn_module_stack") else path.removeprefix("L['self']").lstrip(".")
