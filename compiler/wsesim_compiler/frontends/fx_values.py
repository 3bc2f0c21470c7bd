"""What goes in and out of an ExportedProgram: tokens, parameters, buffers; and torch's types as ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from wsesim_compiler.errors import ExportError, MissingBufferError
from wsesim_compiler.ir import TOKENS, Constant, NodeType, Parameter, TensorType, Value

if TYPE_CHECKING:
    from torch import fx
    from torch.export import ExportedProgram

_DTYPES = {
    "float64": "f64",
    "float32": "f32",
    "float16": "f16",
    "bfloat16": "bf16",
    "int64": "i64",
    "int32": "i32",
    "int16": "i16",
    "int8": "i8",
    "uint8": "u8",
    "bool": "bool",
    "complex64": "c64",
}
_CONSTANT_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class Placeholders:
    """What an exported program reads: `names` maps its FX placeholders to names in the Graph.

    `symbol` is torch's name of the number of tokens, `outputs` the positions of what the user's forward
    returns.
    """

    inputs: tuple[Value, ...]
    parameters: tuple[Parameter, ...]
    constants: tuple[Constant, ...]
    names: dict[str, str]
    symbol: str
    outputs: tuple[int, ...]


def read_placeholders(program: ExportedProgram, inv_freq: tuple[float, ...] | None) -> Placeholders:
    """Inputs, parameters and constants by the signature; raises ExportError or MissingBufferError."""
    signature = program.graph_signature
    kinds = {spec.arg.name: spec for spec in signature.input_specs if hasattr(spec.arg, "name")}
    nodes = [n for n in program.graph_module.graph.nodes if n.op == "placeholder" and n.name in kinds]
    user = [node for node in nodes if _kind(kinds[node.name]) == "USER_INPUT" and _is_tensor(node)]
    symbol = _token_symbol(user)
    names: dict[str, str] = {node.name: node.name for node in user}
    inputs = tuple(Value(node.name, _tensor_type(node, symbol)) for node in user)
    first_of = _first_names(program)
    parameters: dict[str, Parameter] = {}
    constants: dict[str, Constant] = {}
    for node in nodes:
        target = first_of.get(kinds[node.name].target, kinds[node.name].target)
        if _kind(kinds[node.name]) == "PARAMETER":
            names[node.name] = target
            parameters[target] = Parameter(target, _tensor_type(node, symbol))
        elif _kind(kinds[node.name]) in ("BUFFER", "CONSTANT_TENSOR") and node.users:
            names[node.name] = target
            constants[target] = _constant(target, node, program, inv_freq)
    returned = enumerate(signature.output_specs)
    outputs = tuple(index for index, spec in returned if spec.kind.name == "USER_OUTPUT")
    return Placeholders(inputs, tuple(parameters.values()), tuple(constants.values()), names, symbol, outputs)


def _kind(spec: Any) -> str:
    return str(spec.kind.name)


def _is_tensor(node: fx.Node) -> bool:
    return hasattr(node.meta.get("val"), "dtype")


def _token_symbol(user: list[fx.Node]) -> str:
    if len(user) != 1:
        raise ExportError(f"the program has {len(user)} tensor inputs; the compiler reads one, the tokens")
    shape = user[0].meta["val"].shape
    dims = [str(dim) for dim in shape]
    if len(dims) not in (1, 2) or (len(dims) == 2 and dims[0] != "1"):
        raise ExportError(f"the tokens are [{', '.join(dims)}]; export them as [1, T] or [T]")
    if isinstance(shape[-1], int):
        raise ExportError(f"the number of tokens is fixed to {dims[-1]}; export it dynamic (dynamic_shapes)")
    return dims[-1]


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
    type_ = _tensor_type(node, "")
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


def _tensor_type(node: fx.Node, symbol: str) -> TensorType:
    type_ = type_of(node.meta["val"], symbol)
    if not isinstance(type_, TensorType):
        raise ExportError(f"{node.name} has a size that is neither a number nor {TOKENS}")
    return type_


def type_of(value: Any, symbol: str) -> NodeType | None:
    """Our type of a fake tensor, or of several; None if a size is neither a number nor T."""
    if isinstance(value, tuple | list):
        parts = [type_of(part, symbol) for part in value]
        tensors = tuple(part for part in parts if isinstance(part, TensorType))
        return tensors if len(tensors) == len(parts) else None
    dims = tuple(int(d) if isinstance(d, int) else TOKENS if str(d) == symbol else None for d in value.shape)
    known = tuple(dim for dim in dims if dim is not None)
    return TensorType(known, dtype_name(value.dtype) or "other") if len(known) == len(dims) else None


def dtype_name(dtype: object) -> str | None:
    """Our name of a torch dtype, None for anything else."""
    return _DTYPES.get(str(dtype).removeprefix("torch."))


def source_name(node: fx.Node) -> str:
    """Path of the torch module whose forward made a node, as in its parameters' names."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path = stack[-1][0] if stack else ""
    return "" if path.startswith("_empty_nn_module_stack") else path.removeprefix("L['self']").lstrip(".")
