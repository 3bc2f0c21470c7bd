"""The Graph in the making: nodes with inferred types, weights by view, static values written as operators where a node
reads them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from wsesim_compiler.errors import ShapeError
from wsesim_compiler.frontends.many_tokens import for_many_tokens, one_token
from wsesim_compiler.frontends.onnx.rope_source import RopeSource
from wsesim_compiler.frontends.onnx.values import (
    PROBES,
    Dynamic,
    NotReadError,
    Operand,
    Static,
    Weight,
    counted,
    same_everywhere,
    scalar,
    shape_of,
)
from wsesim_compiler.frontends.onnx.weights import WeightView
from wsesim_compiler.ir import (
    TOKENS,
    Attribute,
    Attributes,
    Constant,
    Dim,
    Node,
    NodeType,
    Parameter,
    Shape,
    TensorType,
    Value,
    attributes,
)
from wsesim_compiler.operators.operator import RAW
from wsesim_compiler.operators.views import END
from wsesim_compiler.ops import OPERATORS, infer_shape

_LARGEST_CONSTANT = 1 << 16
_DEEPEST = 120


@dataclass(slots=True)
class Builder:
    """Appends to `nodes`; `base` and `source` name what is made of the ONNX node that is being read.

    `head_rows` names values [.., T, heads, head_dim] that a file has as [.., T * heads, head_dim], which no Graph has.
    Their elements are in the same order, so norms of the rows and a reshape back mean the same.
    `single`: the file is for one token and is read as one for T.
    """

    emit_static: Callable[[Static], Operand]
    rope: RopeSource
    inputs: list[Value] = field(default_factory=list)
    nodes: dict[str, Node] = field(default_factory=dict)
    constants: list[Constant] = field(default_factory=list)
    views: dict[str, WeightView] = field(default_factory=dict)
    types: dict[str, NodeType] = field(default_factory=dict)
    tables: dict[tuple[WeightView, WeightView], tuple[Dynamic, Dynamic]] = field(default_factory=dict)
    head_rows: set[str] = field(default_factory=set)
    single: bool = False
    base: str = "value"
    source: str = ""
    _names: dict[WeightView, str] = field(default_factory=dict)
    _statics: dict[int, tuple[Static, str]] = field(default_factory=dict)

    def input(self, name: str, type_: TensorType) -> Dynamic:
        """An input of the graph."""
        self.inputs.append(Value(self._unique(name), type_))
        self.types[self.inputs[-1].name] = type_
        return Dynamic(self.inputs[-1].name)

    def add(self, op: str, /, *operands: Operand, dtype: str | None = None, **given: Attribute) -> Dynamic:
        """Append a raw operator of these operands; `dtype` of the result, that of the first operand by default."""
        names = [self.name(operand) for operand in operands]
        try:
            known, shape = self._inferred(op, [self.types[name] for name in names], given)
        except ShapeError as error:
            raise NotReadError(str(error)) from None
        assert RAW in OPERATORS[op].stages, op
        kind = dtype or self._dtype(names[0])
        several = isinstance(shape, list)
        type_: NodeType = tuple(TensorType(s, kind) for s in shape) if several else TensorType(tuple(shape), kind)  # type: ignore[arg-type]
        name = self._unique(self.base)
        self.nodes[name] = Node(name, op, tuple(names), known, type_, self.source)
        self.types[name] = type_
        return Dynamic(name)

    def _inferred(
        self, op: str, types: list[NodeType], given: dict[str, Attribute]
    ) -> tuple[Attributes, Shape | list[Shape]]:
        """Attributes and shape of a result; where a file for one token says 1 and T is meant, they are put right."""
        known = attributes(**given)
        try:
            return known, infer_shape(op, types, known)
        except ShapeError:
            tensors = [type_ for type_ in types if isinstance(type_, TensorType)]
            if not self.single or len(tensors) < len(types):
                raise
        ones = [TensorType(one_token(type_.shape), type_.dtype) for type_ in tensors]
        made = infer_shape(op, ones, known)
        if isinstance(made, list):
            raise ShapeError(f"{op} of one token makes several results")
        found, shape = for_many_tokens(op, tensors, given, made)
        return attributes(**found), shape

    def name(self, operand: Operand) -> str:
        """The name by which a node reads a value: a static one is written as operators first."""
        match operand:
            case Dynamic(name):
                return name
            case Weight(view):
                return self._weight(view)
            case Static():
                return self._static(operand)
        raise NotReadError("an operand is left out")

    def tensor(self, operand: Operand) -> TensorType:
        """Type of a value, whether it is in the graph or not."""
        match operand:
            case Dynamic(name):
                type_ = self.types[name]
                assert isinstance(type_, TensorType), name
                return type_
            case Weight(view):
                return TensorType(view.shape, view.dtype)
            case Static():
                return TensorType(shape_of(operand), operand.dtype)
        raise NotReadError("an operand is left out")

    def shape(self, operand: Operand) -> Shape:
        """Shape of a value."""
        return self.tensor(operand).shape

    def made_by(self, operand: Operand, op: str) -> Node | None:
        """The node of a value if `op` makes it."""
        if not isinstance(operand, Dynamic):
            return None
        node = self.nodes.get(operand.name)
        return node if node is not None and node.op == op else None

    def part(self, x: Operand, start: int, stop: int) -> Dynamic:
        """Features [start, stop) of a value; of a product with weights, the product with these rows of the weights."""
        made = self.made_by(x, "linear")
        if made is None:
            whole = stop == self.shape(x)[-1]
            return self.add("slice", x, dim=len(self.shape(x)) - 1, start=start, end=END if whole else stop)
        weights = [Weight(self.views[name].part(start, stop)) for name in made.inputs[1:]]
        return self.add("linear", Dynamic(made.inputs[0]), *weights)

    def parameters(self) -> tuple[Parameter, ...]:
        """A Parameter for each weight that was read."""
        return tuple(Parameter(name, TensorType(view.shape, view.dtype)) for name, view in self.views.items())

    def _dtype(self, name: str) -> str:
        type_ = self.types[name]
        return type_.dtype if isinstance(type_, TensorType) else type_[0].dtype

    def _weight(self, view: WeightView) -> str:
        if view not in self._names:
            rows = "" if view.rows is None else f"[{view.rows[0]}:{view.rows[1]}]"
            name = self._unique(view.tensor.name + rows)
            self._names[view] = name
            self.views[name] = view
            self.types[name] = TensorType(view.shape, view.dtype)
        return self._names[view]

    def _static(self, value: Static) -> str:
        if id(value) not in self._statics:
            self._statics[id(value)] = (value, self._written(value))
        return self._statics[id(value)][1]

    def _written(self, value: Static) -> str:
        number, shape = scalar(value), shape_of(value)
        number = same_everywhere(value) if number is None else number
        if number is not None:
            return self.add("full", size=shape, fill_value=number, dtype=value.dtype).name
        if TOKENS not in shape and value.bend < PROBES[0] and _alike(value):
            return self._constant(value, shape)
        line = counted(value)
        if line is not None:
            return self._range(value, shape, *line)
        if value.node is None or value.depth > _DEEPEST:
            raise NotReadError("a value depends on the number of tokens in a way that is not read")
        return self.name(self.emit_static(value))

    def _constant(self, value: Static, shape: Shape) -> str:
        array = value.arrays[0]
        if array.size > _LARGEST_CONSTANT:
            raise NotReadError(f"a stored table of {list(shape)}")
        name = self._unique(value.node.output[0] if value.node is not None else f"{self.base}.constant")
        self.constants.append(Constant(name, TensorType(shape, value.dtype), tuple(array.ravel().tolist())))
        self.types[name] = self.constants[-1].type
        return name

    def _range(self, value: Static, shape: Shape, axis: int, first: int, step: int) -> str:
        """first + step * index along `axis`."""
        made: Operand = self.add("arange", end=TOKENS, dtype=value.dtype)
        if step != 1:
            made = self.add("mul", made, other=step)
        if first:
            made = self.add("add", made, other=first)
        line: list[Dim] = [1] * len(shape)
        line[axis] = TOKENS
        if len(line) > 1:
            made = self.add("reshape", made, shape=tuple(line))
        if tuple(line) != shape:
            made = self.add("expand", made, size=shape)
        return self.name(made)

    def _unique(self, name: str) -> str:
        taken, candidate, count = self.types, name, 0
        while candidate in taken:
            count += 1
            candidate = f"{name}.{count}"
        return candidate


def _alike(value: Static) -> bool:
    return all(np.array_equal(value.arrays[0], array, equal_nan=array.dtype.kind == "f") for array in value.arrays[1:])
