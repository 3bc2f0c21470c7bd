"""An opened ONNX file -> raw Graph: its nodes in order, each folded if it depends on nothing but T, else written in the
raw vocabulary.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from wsesim.errors import first_line
from wsesim_compiler.errors import OnnxFileError, ShapeError, Unsupported, UnsupportedOperatorError
from wsesim_compiler.frontends.census import refuse_unknown
from wsesim_compiler.frontends.onnx.attention import ATTENTION_RULES
from wsesim_compiler.frontends.onnx.builder import Builder
from wsesim_compiler.frontends.onnx.file import OnnxFile, live_nodes
from wsesim_compiler.frontends.onnx.fold import BENDING, FOLDS
from wsesim_compiler.frontends.onnx.inputs import bound_inputs, logits_of
from wsesim_compiler.frontends.onnx.names import source_name
from wsesim_compiler.frontends.onnx.norms import NORM_RULES
from wsesim_compiler.frontends.onnx.quantized import QUANTIZED_RULES
from wsesim_compiler.frontends.onnx.rope_source import RopeSource
from wsesim_compiler.frontends.onnx.rule import Rule
from wsesim_compiler.frontends.onnx.rules import RULES
from wsesim_compiler.frontends.onnx.tensors import DTYPES, Tensor, tensor_of
from wsesim_compiler.frontends.onnx.values import (
    LARGEST_STATIC,
    PROBES,
    UNKNOWN,
    UNREAD,
    Dynamic,
    NotReadError,
    Operand,
    ReadValue,
    Static,
    Unknown,
    Weight,
    by_tokens,
    constant,
    counted,
    largest_whole,
    scalar,
    shortest,
)
from wsesim_compiler.frontends.onnx.weights import WeightView
from wsesim_compiler.ir import TOKENS, Graph
from wsesim_compiler.operators.elementwise import FLOATS

if TYPE_CHECKING:
    from onnx import AttributeProto, NodeProto

_ALL_RULES: dict[str, Rule] = {**RULES, **NORM_RULES, **ATTENTION_RULES, **QUANTIZED_RULES}
_MISTAKES = (ShapeError, ValueError, IndexError, TypeError, KeyError, AttributeError, OverflowError, ArithmeticError)
"""What a rule or a fold raises for operands and attributes that its operator cannot have."""
_OF_HEAD_ROWS = (
    "Reshape",
    "RMSNormalization",
    "SimplifiedLayerNormalization",
    "com.microsoft.SimplifiedLayerNormalization",
)
_VIEWS = ("Cast", "Expand", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
_LARGEST_FOLDED = (
    1 << 14
)  # elements of a float tensor that is computed with before it meets a token: RoPE's frequencies
_STATIC_BYTES = 1 << 28


class Reader:
    """Reads one file; `weights` of the result are the views that the graph's parameters name."""

    def __init__(self, file: OnnxFile, rope: RopeSource) -> None:
        self.file = file
        self.build = Builder(self.rewritten, rope)
        self.values: dict[str, ReadValue] = {}
        self.unsupported: list[Unsupported] = []
        self.static_bytes = 0

    def read(self) -> Graph:
        """The raw graph. Raises OnnxFileError or UnsupportedOperatorError with every operator that is not read."""
        live = live_nodes(self.file, logits_of(self.file))
        refuse_unknown(self.file.path.name, ((kind(node), source_name(node)) for node in live), is_known)
        self.values.update(bound_inputs(self.file, self.build))
        for node in live:
            self.step(node)
        if self.unsupported:
            raise UnsupportedOperatorError(self.file.path.name, self.unsupported)
        outputs = self.outputs()
        build = self.build
        graph = Graph(
            self.file.path.stem,
            tuple(build.inputs),
            build.parameters(),
            tuple(build.constants),
            tuple(build.nodes.values()),
            outputs,
        )
        return graph.live()

    def outputs(self) -> tuple[str, ...]:
        """Names of the logits: what the file returns beside its caches."""
        values = {name: self.value(name) for name in logits_of(self.file)}
        for name, value in values.items():
            if isinstance(value, Unknown):
                raise OnnxFileError(
                    self.file.path, f"output {name!r} is a result that is not read: cached keys or values"
                )
        try:
            return tuple(self.build.name(value) for value in values.values() if not isinstance(value, Unknown))
        except NotReadError as error:
            raise OnnxFileError(self.file.path, f"its output {', '.join(values)} is {error}") from None

    def step(self, node: NodeProto) -> None:
        """Read one node; what it makes is UNKNOWN if it is not read."""
        given = [self.value(name) for name in node.input]
        self.build.base = next((name for name in node.output if name), node.op_type)
        self.build.source = source_name(node)
        results: tuple[ReadValue | None, ...] = (UNKNOWN,) * len(node.output)
        operands = [value for value in given if not isinstance(value, Unknown)]
        try:
            if UNREAD in given:
                raise NotReadError(
                    "of a result that is not read: cached keys or values, or what a norm keeps for training"
                )
            if len(operands) == len(given):
                results = self.results(node, operands)
        except NotReadError as error:
            self.refuse(node, str(error))
        except _MISTAKES as error:
            self.refuse(node, f"its operands or attributes do not fit ({first_line(error)})")
        for index, name in enumerate(node.output):
            result = results[index] if index < len(results) else None
            self.values[name] = UNREAD if result is None else result

    def refuse(self, node: NodeProto, reason: str) -> None:
        self.unsupported.append(Unsupported(kind(node), source_name(node), reason))

    def value(self, name: str) -> ReadValue | None:
        """What a name stands for; an initialiser becomes a Weight or a Static when it is first read."""
        if not name:
            return None
        if name not in self.values:
            self.values[name] = _initialiser(self.file.tensors[name])
        return self.values[name]

    def results(self, node: NodeProto, operands: list[Operand]) -> tuple[Operand, ...]:
        """What a node makes of operands that are all known."""
        given = self.attributes(node)
        rows = [
            operand for operand in operands if isinstance(operand, Dynamic) and operand.name in self.build.head_rows
        ]
        if rows and kind(node) not in _OF_HEAD_ROWS:
            raise NotReadError("of rows that are as many as tokens times heads")
        if kind(node) in _SPECIAL:
            return (_SPECIAL[kind(node)](self, given, *operands),)
        small = [self.small(operand) for operand in operands] if not _has_tokens(operands) else operands
        if kind(node) in FOLDS and all(operand is None or isinstance(operand, Static) for operand in small):
            return (self.folded(node, given, small),)
        return self.written(node, given, operands)

    def written(self, node: NodeProto, given: dict[str, Any], operands: list[Operand]) -> tuple[Operand, ...]:
        """What a node makes, as raw operators."""
        rule = _ALL_RULES.get(kind(node))
        if rule is None:
            raise NotReadError("" if kind(node) not in FOLDS else "of values that are not known before the model runs")
        unknown = sorted(set(given) - rule.attributes)
        if unknown:
            raise NotReadError(f"with {', '.join(unknown)}")
        made = rule.emit(self.build, {**given, "outputs": len(node.output)}, *_trimmed(operands))
        return made if isinstance(made, tuple) else (made,)

    def rewritten(self, value: Static) -> Operand:
        """A static value as the raw operators of the node that made it."""
        assert value.node is not None
        base, source = self.build.base, self.build.source
        self.build.base, self.build.source = value.node.output[0], source_name(value.node)
        made = self.written(value.node, self.attributes(value.node), list(value.operands))[0]
        self.build.base, self.build.source = base, source
        return made

    def folded(self, node: NodeProto, given: dict[str, Any], operands: list[Operand]) -> Static:
        """A node of static operands, computed for each T."""
        statics = [operand for operand in operands if isinstance(operand, Static)]
        fold = FOLDS[kind(node)]
        arrays = []
        for index in range(len(PROBES)):
            values = [operand.arrays[index] if isinstance(operand, Static) else None for operand in operands]
            with np.errstate(all="ignore"):
                arrays.append(np.asarray(fold(given, *_trimmed(values))))
        self.account(sum(array.nbytes for array in arrays))
        varies = any(_varies(operand) for operand in statics)
        largest = max((operand.largest for operand in statics), default=0)
        bend = max((operand.bend for operand in statics), default=0)
        bend = max(bend, largest) if varies and kind(node) in BENDING else bend
        made = largest_whole(arrays[0])
        largest = max(largest, made) if made > PROBES[0] + 1 or not varies else largest  # lengths add up, too
        dtype = _folded_dtype(node, given, statics, arrays[0])
        depth = 1 + max((operand.depth for operand in statics), default=0)
        past = kind(node) in _VIEWS and any(operand.past for operand in statics)
        value = Static(tuple(arrays), dtype, node, tuple(operands), largest, bend, depth, past)
        if self.build.single and _is_newest_position(node, value, statics):
            return by_tokens(np.arange, dtype)
        return dataclasses.replace(value, depth=0) if counted(value) else value

    def account(self, size_bytes: int) -> None:
        """Static values are few and small in a model; a file that asks for more is not one."""
        self.static_bytes += size_bytes
        if self.static_bytes > _STATIC_BYTES:
            raise NotReadError(f"its tables need more than {_STATIC_BYTES:,} bytes")

    def small(self, operand: Operand) -> Operand:
        """A small tensor of the weights as a static value, if there is no token in what it meets."""
        if (
            not isinstance(operand, Weight)
            or len(operand.view.shape) > 3
            or np.prod(operand.view.shape) > _LARGEST_FOLDED
        ):
            return operand
        if len([dim for dim in operand.view.shape if dim != 1]) > 1 or operand.view.blocks is not None:
            return operand
        told = None if operand.view.available() else self.build.rope.frequencies(operand.view.tensor.size)
        values = operand.view.load() if told is None else np.reshape(told, operand.view.shape)
        return dataclasses.replace(constant(values.astype(np.float64), operand.view.dtype), depth=0)

    def attributes(self, node: NodeProto) -> dict[str, Any]:
        return {attribute.name: self.attribute(attribute) for attribute in node.attribute}

    def attribute(self, given: AttributeProto) -> Any:
        """A number, text, tuple of numbers, or array."""
        match given.type:
            case given.FLOAT:
                return shortest(given.f)
            case given.INT:
                return given.i
            case given.STRING:
                return given.s.decode(errors="replace")
            case given.TENSOR:
                return _initialiser(tensor_of(self.file.path, given.t))
            case given.FLOATS:
                return tuple(map(shortest, given.floats))
            case given.INTS:
                return tuple(given.ints)
        raise NotReadError(f"with {given.name}")


def is_known(operator: str) -> bool:
    """Whether there is a rule for an operator."""
    return any(operator in known for known in (_ALL_RULES, FOLDS, _SPECIAL))


def kind(node: NodeProto) -> str:
    """Operator of a node: its name, after its domain if that is not the default one."""
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"


def _constant(reader: Reader, given: dict[str, Any], *operands: Operand) -> Static | Weight:
    (value,) = given.values()
    if isinstance(value, Static | Weight):
        return value
    array = np.asarray(value)
    return constant(array, "f32" if array.dtype.kind == "f" else "i64")


def _shape(reader: Reader, given: dict[str, Any], x: Operand) -> Static:
    kept = slice(given.get("start", 0), given.get("end"))
    if isinstance(x, Static):
        return Static(tuple(np.array(array.shape[kept], np.int64) for array in x.arrays), "i64")
    shape = reader.build.shape(x)[kept]
    return by_tokens(lambda tokens: np.array([tokens if dim == TOKENS else dim for dim in shape], np.int64))


def _is_newest_position(node: NodeProto, value: Static, operands: list[Static]) -> bool:
    """Whether a value of a file for one token is that token's position, T - 1: a range from the cached length, or that
    length added to [0].
    """
    alone = all(array.ndim and array.size == 1 for array in value.arrays)
    found = [array.max(initial=-1) for array in value.arrays]
    if not alone or value.dtype not in ("i64", "i32") or found != [tokens - 1 for tokens in PROBES]:
        return False
    counted_from_zero = any(scalar(operand) == 0 and operand.arrays[0].ndim for operand in operands)
    return node.op_type == "Range" or (node.op_type == "Add" and counted_from_zero)


_SPECIAL: dict[str, Any] = {"Constant": _constant, "Shape": _shape}
_Arrays: TypeAlias = "list[Any]"


def _trimmed(operands: _Arrays) -> _Arrays:
    """Without the operands that are left out at the end."""
    kept = list(operands)
    while kept and kept[-1] is None:
        kept.pop()
    return kept


def _has_tokens(operands: list[Operand]) -> bool:
    return any(not isinstance(operand, Static | Weight) for operand in operands if operand is not None)


def _varies(value: Static) -> bool:
    return any(not np.array_equal(value.arrays[0], array) for array in value.arrays[1:])


def _initialiser(tensor: Tensor) -> Weight | Static:
    """Floats of more than one element are weights, all else is known."""
    count = int(np.prod(tensor.shape)) if tensor.shape else 1
    if (tensor.dtype in FLOATS and count > 1) or tensor.dtype in ("u8", "i8") or count > LARGEST_STATIC:
        return Weight(WeightView(tensor))
    return _numbers(tensor)


def _numbers(tensor: Tensor) -> Static:
    array = tensor.array()
    if tensor.dtype == "bf16":
        return constant(WeightView(tensor).load().astype(np.float64), "bf16")
    return constant(array.astype(np.float64) if tensor.dtype in FLOATS else array, tensor.dtype)


def _folded_dtype(node: NodeProto, given: dict[str, Any], operands: list[Static], array: Any) -> str:
    if node.op_type == "Cast":
        return DTYPES[given["to"]][0]
    if node.op_type == "ConstantOfShape" and isinstance(given.get("value"), Static):
        return str(given["value"].dtype)
    if node.op_type == "CastLike":
        return operands[1].dtype
    if array.dtype.kind == "b":
        return "bool"
    if node.op_type == "Where":
        return operands[1].dtype
    return operands[0].dtype if (operands and array.dtype.kind != "f") or _float_first(operands) else "f32"


def _float_first(operands: list[Static]) -> bool:
    return bool(operands) and operands[0].dtype in FLOATS
