"""canonicalize: raw Graph -> canonical Graph.

One spelling per operation: identities and casts between floats go, every reshaping is `reshape` to the
explicit shape, every transposition `permute`, every split `slice`, every fill `full`; squares are products,
roots in a denominator `rsqrt`. What nothing depends on goes. The values of the outputs stay, but for
rounding in the casts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TypeAlias

from wsesim_compiler.ir import Attribute, Dim, Graph, Node, TensorType, attributes
from wsesim_compiler.operators.elementwise import FLOATS
from wsesim_compiler.operators.operator import CANONICAL
from wsesim_compiler.operators.views import END
from wsesim_compiler.verify import verify

_Rewrite: TypeAlias = "Callable[[Node, _Emitted], Node | str]"
"""The node in place of a raw one, or the name of the value that it equals."""


def canonicalize(graph: Graph) -> Graph:
    """The same model with one spelling per operation; raises GraphVerificationError where there is none."""
    emitted = _Emitted(graph)
    for node in graph.nodes:
        emitted.add(node)
    outputs = tuple(emitted.aliases.get(name, name) for name in graph.outputs)
    result = graph.replace(nodes=tuple(emitted.nodes.values()), outputs=outputs).live()
    verify(result, CANONICAL)
    return result


class _Emitted:
    """Canonical nodes so far; `aliases` names the value that a dropped node equals, `raw` the raw nodes."""

    def __init__(self, graph: Graph) -> None:
        self.raw = graph.producers()
        self.types = graph.types()
        self.nodes: dict[str, Node] = {}
        self.aliases: dict[str, str] = {}

    def add(self, node: Node) -> None:
        inputs = tuple(self.aliases.get(name, name) for name in node.inputs)
        result = _rewritten(dataclasses.replace(node, inputs=inputs), self)
        if isinstance(result, str):
            self.aliases[node.name] = result
        elif isinstance(result.type, TensorType):
            self.nodes[node.name] = result

    def insert(self, node: Node) -> str:
        """Add a node that no raw one stands for; its name."""
        self.nodes[node.name] = node
        self.types[node.name] = node.type
        return node.name

    def type(self, name: str) -> TensorType:
        """Type of a value with one result."""
        type_ = self.types[name]
        assert isinstance(type_, TensorType), name
        return type_

    def producer(self, name: str, op: str) -> Node | None:
        """The canonical node of a value if it is made by `op`."""
        node = self.nodes.get(name)
        return node if node is not None and node.op == op else None


def _rewritten(node: Node, emitted: _Emitted) -> Node | str:
    rewrite = _REWRITES.get(node.op)
    return node if rewrite is None else rewrite(node, emitted)


def _as(node: Node, op: str, *inputs: str, **attributes_: Attribute) -> Node:
    return dataclasses.replace(node, op=op, inputs=inputs, attributes=attributes(**attributes_))


def _identity(node: Node, emitted: _Emitted) -> str:
    return node.inputs[0]


def _cast(node: Node, emitted: _Emitted) -> Node | str:
    before, after = emitted.type(node.inputs[0]).dtype, node.tensor.dtype
    if before == after or (before in FLOATS and after in FLOATS):
        return node.inputs[0]
    return _as(node, "cast", node.inputs[0], dtype=after)


def _reshape(node: Node, emitted: _Emitted) -> Node | str:
    source = node.inputs[0]
    before = emitted.producer(source, "reshape")
    source = before.inputs[0] if before else source
    return source if emitted.type(source).shape == node.shape else _as(node, "reshape", source, shape=node.shape)


def _transpose(node: Node, emitted: _Emitted) -> Node | str:
    rank = len(node.shape)
    order = list(range(rank))
    if node.op == "transpose":
        first, second = node.integer("dim0") % rank, node.integer("dim1") % rank
        order[first], order[second] = order[second], order[first]
    return _permuted(node, tuple(order) if node.op == "transpose" else tuple(reversed(order)), emitted)


def _permute(node: Node, emitted: _Emitted) -> Node | str:
    dims = node.attribute("dims")
    assert isinstance(dims, tuple)
    return _permuted(node, tuple(int(d) % len(dims) for d in dims if isinstance(d, int)), emitted)


def _permuted(node: Node, order: tuple[int, ...], emitted: _Emitted) -> Node | str:
    source = node.inputs[0]
    before = emitted.producer(source, "permute")
    inner = before.attribute("dims") if before else None
    if before is not None and isinstance(inner, tuple):
        source, order = before.inputs[0], tuple(int(str(inner[index])) for index in order)
    return source if order == tuple(range(len(order))) else _as(node, "permute", source, dims=order)


def _expand(node: Node, emitted: _Emitted) -> Node | str:
    same = emitted.type(node.inputs[0]).shape == node.shape
    return node.inputs[0] if same else _as(node, "expand", node.inputs[0], size=node.shape)


def _slice(node: Node, emitted: _Emitted) -> Node | str:
    given = dict(node.attributes)
    bounds = given.get("start", 0), given.get("end"), given.get("step", 1)
    return _sliced(node, node.inputs[0], node.attribute("dim", 0), bounds, emitted)


def _sliced(node: Node, source: str, dim: Attribute, bounds: tuple[Attribute, ...], emitted: _Emitted) -> Node | str:
    shape = emitted.type(source).shape
    assert isinstance(dim, int)
    if shape == node.shape:
        return source
    start, end, step = bounds
    named = {"start": start or None, "end": None if end == END else end, "step": None if step == 1 else step}
    written = {name: value for name, value in named.items() if value is not None}
    return _as(node, "slice", source, dim=dim % len(shape), **written)


def _getitem(node: Node, emitted: _Emitted) -> Node | str:
    """A part of a split is the slice after the parts before it; of `unbind`, one row."""
    split = emitted.raw[node.inputs[0]]
    source, dim = emitted.aliases.get(split.inputs[0], split.inputs[0]), split.attribute("dim", 0)
    index = node.integer("index")
    assert isinstance(dim, int) and isinstance(split.type, tuple)
    if split.op == "unbind":
        return _as(node, "select", source, dim=dim % len(emitted.type(source).shape), index=index)
    sizes = [int(part.shape[dim]) for part in split.type]
    start = sum(sizes[:index])
    return _sliced(node, source, dim, (start, start + sizes[index], 1), emitted)


def _select(node: Node, emitted: _Emitted) -> Node:
    shape = emitted.type(node.inputs[0]).shape
    dim, index = node.attribute("dim", 0), node.integer("index")
    assert isinstance(dim, int)
    size: Dim = shape[dim]
    at = index + size if index < 0 and isinstance(size, int) else index
    return _as(node, "select", node.inputs[0], dim=dim % len(shape), index=at)


def _join(node: Node, emitted: _Emitted) -> Node | str:
    dim = node.attribute("dim", 0)
    assert isinstance(dim, int)
    if node.op == "cat" and len(node.inputs) == 1:
        return node.inputs[0]
    return _as(node, node.op, *node.inputs, dim=dim % len(node.shape))


def _repeat(node: Node, emitted: _Emitted) -> Node | str:
    return node.inputs[0] if emitted.type(node.inputs[0]).shape == node.shape else node


def _fill(node: Node, emitted: _Emitted) -> Node:
    kind = next((value for prefix, value in _FILLED.items() if prefix in node.op), None)
    value = node.attribute("fill_value", node.attribute("s")) if kind is None else kind
    return _as(node, "full", size=node.shape, fill_value=value, dtype=node.tensor.dtype)


def _neutral(node: Node, neutral: float, emitted: _Emitted) -> bool:
    same = len(node.inputs) == 1 and emitted.type(node.inputs[0]) == node.type
    return same and node.attribute("other") == neutral


def _sum(node: Node, emitted: _Emitted) -> Node | str:
    return node.inputs[0] if _neutral(node, 0, emitted) else node


def _product(node: Node, emitted: _Emitted) -> Node | str:
    return node.inputs[0] if _neutral(node, 1, emitted) else node


def _quotient(node: Node, emitted: _Emitted) -> Node | str:
    root = emitted.producer(node.inputs[-1], "sqrt") if len(node.inputs) == 2 else None
    if root is None:
        return _product(node, emitted)
    inverse = dataclasses.replace(root, name=f"{node.name}.rsqrt", op="rsqrt")
    return _as(node, "mul", node.inputs[0], emitted.insert(inverse))


def _reciprocal(node: Node, emitted: _Emitted) -> Node:
    root = emitted.producer(node.inputs[0], "sqrt")
    return node if root is None else _as(node, "rsqrt", *root.inputs)


def _power(node: Node, emitted: _Emitted) -> Node | str:
    source, exponent = node.inputs[0], node.attribute("exponent")
    if exponent == 1:
        return source
    if exponent == 2:
        return _as(node, "mul", source, source)
    roots = {0.5: "sqrt", -0.5: "rsqrt", -1: "reciprocal"}
    known = isinstance(exponent, int | float) and exponent in roots
    return _as(node, roots[float(str(exponent))], source) if known else node


def _reversed_difference(node: Node, emitted: _Emitted) -> Node:
    if len(node.inputs) == 2:
        return _as(node, "sub", *reversed(node.inputs))
    negative = dataclasses.replace(_as(node, "neg", node.inputs[0]), name=f"{node.name}.neg")
    return _as(node, "add", emitted.insert(negative), other=node.attribute("other"))


def _logical(node: Node, emitted: _Emitted) -> Node:
    word = node.op.strip("_").removeprefix("bitwise_")
    logical = node.tensor.dtype == "bool"
    return dataclasses.replace(node, op=f"{'logical' if logical else 'bitwise'}_{word}")


def _attention(node: Node, emitted: _Emitted) -> Node:
    kept = {name: value for name, value in node.attributes if name != "dropout_p"}
    return _as(node, node.op, *node.inputs, **kept)


_FILLED = {"ones": 1.0, "zeros": 0.0}
_REWRITES: dict[str, _Rewrite] = {
    **dict.fromkeys(("contiguous", "clone", "alias", "detach", "lift_fresh_copy", "dropout"), _identity),
    **dict.fromkeys(("to", "_to_copy", "type_as", "cast"), _cast),
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "flatten", "unflatten"), _reshape),
    **dict.fromkeys(("squeeze", "unsqueeze"), _reshape),
    **dict.fromkeys(("transpose", "t", "numpy_T"), _transpose),
    **dict.fromkeys(("expand", "expand_as"), _expand),
    **dict.fromkeys(("cat", "stack"), _join),
    **dict.fromkeys(("repeat", "repeat_interleave"), _repeat),
    **dict.fromkeys(("ones", "zeros", "new_ones", "new_zeros", "ones_like", "zeros_like"), _fill),
    **dict.fromkeys(("new_full", "full_like", "scalar_tensor"), _fill),
    **dict.fromkeys(("add", "sub"), _sum),
    **dict.fromkeys(("__and__", "__or__", "bitwise_and", "bitwise_or", "bitwise_not"), _logical),
    "permute": _permute,
    "slice": _slice,
    "getitem": _getitem,
    "select": _select,
    "mul": _product,
    "div": _quotient,
    "reciprocal": _reciprocal,
    "pow": _power,
    "rsub": _reversed_difference,
    "bmm": lambda node, emitted: dataclasses.replace(node, op="matmul"),
    "scaled_dot_product_attention": _attention,
}
