"""One ExportedProgram -> Graph: walks the FX nodes, by torch's own operator schemas."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from wsesim_compiler.errors import ExportError, ShapeError, Unsupported, UnsupportedOperatorError
from wsesim_compiler.frontends.census import refuse_unknown
from wsesim_compiler.frontends.fx_cache import is_position_range
from wsesim_compiler.frontends.fx_values import (
    Placeholders,
    read_placeholders,
    source_name,
    type_of,
)
from wsesim_compiler.frontends.many_tokens import for_many_tokens, one_token
from wsesim_compiler.frontends.torch_dtypes import dtype_name
from wsesim_compiler.ir import TOKENS, Attribute, Graph, Node, NodeType, TensorType
from wsesim_compiler.operators.operator import RAW
from wsesim_compiler.ops import OPERATORS, vocabulary

if TYPE_CHECKING:
    from torch import fx
    from torch.export import ExportedProgram

_WRAPPERS = ("wrap_with_set_grad_enabled", "wrap_with_autocast")
_PLACEMENT = frozenset({"device", "layout", "pin_memory", "memory_format", "non_blocking", "copy", "implicit"})
"""Arguments that say where and how torch stores a tensor, not what it holds."""
_TRAINING = frozenset({"padding_idx", "scale_grad_by_freq", "sparse"})
"""Arguments that only say how a gradient is made."""

_OPERANDS = {"embedding": ("indices", "weight")}
"""Operators whose tensors come in an order of ours; all others keep the schema's."""


def read_program(program: ExportedProgram, name: str, inv_freq: tuple[float, ...] | None) -> Graph:
    """Raw Graph of an exported program; raises UnsupportedOperatorError with all unknown operators."""
    refuse_unknown(name, _operators(program.graph_module), lambda op: _out_of_place(op) in vocabulary(RAW))
    placeholders = read_placeholders(program, inv_freq)
    reader = _Reader(placeholders)
    outputs = reader.read(program.graph_module, dict(placeholders.names))
    if reader.unsupported:
        raise UnsupportedOperatorError(name, reader.unsupported)
    kept = [outputs[index] for index in placeholders.outputs]
    if not all(isinstance(output, str) for output in kept):
        raise ExportError(f"{name} returns something that is not a tensor")
    graph = Graph(
        name,
        placeholders.inputs,
        placeholders.parameters,
        placeholders.constants,
        (*placeholders.given, *reader.nodes),
        tuple(kept),
    )
    return graph.live()


def _operators(module: fx.GraphModule) -> Iterator[tuple[str, str]]:
    """Name and source of every operator that makes a tensor, those of inlined regions included."""
    for part in module.modules():
        for node in getattr(getattr(part, "graph", None), "nodes", ()):
            schema = getattr(node.target, "_schema", None)
            if node.op == "call_function" and schema is not None and _makes_tensors(node.meta.get("val")):
                yield schema.name.split("::")[-1], source_name(node)


def _makes_tensors(value: Any) -> bool:
    return hasattr(value, "shape") or isinstance(value, tuple | list)


def _out_of_place(op: str) -> str:
    """The name of an operator without the underscore of one that works in place."""
    return op.removesuffix("_") if op.endswith("_") and not op.endswith("__") else op


class _Reader:
    """Appends nodes; `environment` maps an FX name to a value's name, a size, or a list of these."""

    def __init__(self, placeholders: Placeholders) -> None:
        self.sizes = placeholders.sizes
        self.empty = set(placeholders.empty)
        self.nodes: list[Node] = []
        self.types: dict[str, NodeType] = {}
        for defined in (placeholders.inputs, placeholders.parameters, placeholders.constants, placeholders.given):
            self.types |= {each.name: each.type for each in defined}
        self.unsupported: list[Unsupported] = []
        self.taken = {*placeholders.names.values(), *self.types}

    def read(self, module: fx.GraphModule, environment: dict[str, Any]) -> list[Any]:
        """Read one graph module; the references of its outputs."""
        for node in module.graph.nodes:
            if node.op == "get_attr":
                environment[node.name] = getattr(module, str(node.target))
            elif node.op == "call_function":
                environment[node.name] = self.call(node, environment)
            elif node.op == "output":
                return [self.reference(argument, environment) for argument in node.args[0]]
        raise ExportError("the exported program has no output")

    def reference(self, argument: Any, environment: dict[str, Any]) -> Any:
        return environment[argument.name] if hasattr(argument, "graph") else argument

    def call(self, node: fx.Node, environment: dict[str, Any]) -> Any:
        value = node.meta.get("val")
        target: Any = node.target
        if target is operator.getitem:
            return self.getitem(node, environment)
        if str(target) in _WRAPPERS or getattr(target, "__name__", "") in _WRAPPERS:
            return self.inline(node, environment)
        if value is None or type(value).__name__ == "SymBool":  # assertions compute nothing
            return None
        if not hasattr(value, "shape") and not isinstance(value, tuple | list):
            return self.size(node, value)
        return self.tensor(node, target, environment)

    def size(self, node: fx.Node, value: Any) -> Any:
        known = self.sizes.dim(value)
        if known is None:
            reason = f"the size {value} is neither a number nor {TOKENS}"
            self.unsupported.append(Unsupported(str(node.target), source_name(node), reason))
        return known

    def inline(self, node: fx.Node, environment: dict[str, Any]) -> list[Any]:
        at, body = next(
            (index, environment[argument.name])
            for index, argument in enumerate(node.args)
            if hasattr(argument, "graph") and hasattr(environment.get(argument.name), "graph")
        )
        inputs = [self.reference(argument, environment) for argument in node.args[at + 1 :]]
        names = [inner.name for inner in body.graph.nodes if inner.op == "placeholder"]
        return self.read(body, dict(zip(names, inputs, strict=True)))

    def getitem(self, node: fx.Node, environment: dict[str, Any]) -> Any:
        source, index = self.reference(node.args[0], environment), node.args[1]
        if isinstance(source, list):
            return source[index]
        return self.append(node, "getitem", [source], {"index": index})

    def tensor(self, node: fx.Node, target: Any, environment: dict[str, Any]) -> str:
        schema = getattr(target, "_schema", None)
        op = schema.name.split("::")[-1] if schema else str(target)
        operands, attributes = self.arguments(node, schema, environment) if schema else ([], {})
        if self.is_empty(node):
            self.empty.add(str(node.name))
            return str(node.name)
        if op == "cat":
            operands = [name for name in operands if name not in self.empty]
        in_place = op if _out_of_place(op) != op else ""
        op = _out_of_place(op)
        reason = _refusal(op, attributes)
        if reason is not None or any(name in self.empty for name in operands):
            self.unsupported.append(
                Unsupported(in_place or op, source_name(node), reason or "of cached keys or values")
            )
        made = self.append(node, op, operands, attributes)
        if in_place:
            environment[node.args[0].name] = made  # what reads it from here on reads what was written
        return made

    def is_empty(self, node: fx.Node) -> bool:
        """Whether the result holds nothing when nothing is cached."""
        return 0 in [self.sizes.dim(dim) for dim in getattr(node.meta["val"], "shape", ())]

    def arguments(
        self, node: fx.Node, schema: Any, environment: dict[str, Any]
    ) -> tuple[list[str], dict[str, Attribute]]:
        """Tensor operands in order, and every other argument that differs from its default."""
        tensors: dict[str, list[str]] = {}
        attributes: dict[str, Attribute] = {}
        positional = dict(zip((argument.name for argument in schema.arguments), node.args, strict=False))
        for argument in schema.arguments:
            given = {**positional, **node.kwargs}.get(argument.name, argument.default_value)
            names = self.tensor_names(given, environment)
            if names is not None:
                tensors[argument.name] = names
                attributes.update(_index_positions(argument.name, given))
            elif given != argument.default_value and argument.name not in _PLACEMENT | _TRAINING:
                attributes[argument.name] = self.attribute(given, environment)
        order = _OPERANDS.get(schema.name.split("::")[-1], tuple(tensors))
        return [name for key in order for name in tensors[key]], attributes

    def tensor_names(self, given: Any, environment: dict[str, Any]) -> list[str] | None:
        """Names of a tensor argument or a list of them; None if the argument is something else."""
        if isinstance(given, list | tuple):
            names = [self.tensor_names(part, environment) for part in given if part is not None]
            return [n for part in names if part for n in part] if names and all(names) else None
        if not hasattr(given, "graph") or not hasattr(given.meta.get("val"), "dtype"):
            return None
        return [environment[given.name]]

    def attribute(self, given: Any, environment: dict[str, Any]) -> Attribute:
        if isinstance(given, list | tuple):
            return tuple(self.attribute(part, environment) for part in given)
        value = self.reference(given, environment)
        if value is None or isinstance(value, int | float | bool | str):
            return value
        return dtype_name(value) or self.sizes.dim(value)

    def append(self, node: fx.Node, op: str, operands: list[str], attributes: dict[str, Attribute]) -> str:
        name = self.unique(node.name)
        type_ = type_of(node.meta["val"], self.sizes)
        if self.sizes.single and isinstance(type_, TensorType):
            many = self.for_many(node, op, operands, attributes, type_)
            if many is None:
                return name
            attributes, type_ = many
        if type_ is None:
            reason = f"the result {node.meta['val']} has a size that is neither a number nor {TOKENS}"
            self.unsupported.append(Unsupported(op, source_name(node), reason))
            return name
        pairs = tuple(sorted(attributes.items()))
        self.types[name] = type_
        self.nodes.append(Node(name, op, tuple(operands), pairs, type_, source_name(node)))
        return name

    def for_many(
        self, node: fx.Node, op: str, operands: list[str], attributes: dict[str, Attribute], type_: TensorType
    ) -> tuple[dict[str, Attribute], TensorType] | None:
        """A one-token program's node as one for T tokens; None, and said once, where it or an operand is none."""
        if is_position_range(node):
            return {**attributes, "end": TOKENS}, TensorType((TOKENS,), type_.dtype)
        if op == "scaled_dot_product_attention" and len(operands) == 3:  # the newest token sees everything
            attributes = {**attributes, "is_causal": True}
        types = [known for name in operands if isinstance(known := self.types.get(name), TensorType)]
        if len(types) < len(operands):
            return None
        made = one_token(type_.shape)
        try:
            found, shape = for_many_tokens(op, types, attributes, made)
        except ShapeError as error:
            self.unsupported.append(Unsupported(op, source_name(node), str(error)))
            return None
        return found, TensorType(shape, type_.dtype)

    def unique(self, name: str) -> str:
        """Inlined regions bring names that the outer graph has too."""
        candidate, count = name, 0
        while candidate in self.taken:
            count += 1
            candidate = f"{name}.{count}"
        self.taken.add(candidate)
        return candidate


def _index_positions(argument: str, given: Any) -> dict[str, Attribute]:
    if argument != "indices" or not isinstance(given, list | tuple):
        return {}
    return {"positions": tuple(index for index, part in enumerate(given) if part is not None)}


def _refusal(op: str, attributes: dict[str, Attribute]) -> str | None:
    if op not in vocabulary(RAW):
        return ""
    unknown = sorted(set(attributes) - OPERATORS[op].attributes)
    return f"with {', '.join(unknown)}" if unknown else None
