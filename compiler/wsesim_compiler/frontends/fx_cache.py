"""Exported programs with a KV cache of their own, read as if nothing was cached and T tokens were new.

Keys and values come in as inputs (the cache grows) or lie in buffers (a static cache is written in place). With C = 0
the former are empty and the latter zeros; positions are 0 to T - 1, and the model is the same as one without a cache.
A program for one token is read as one for T.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from wsesim_compiler.errors import ExportError
from wsesim_compiler.frontends.torch_dtypes import dtype_name
from wsesim_compiler.ir import TOKENS, Node, Shape, TensorType, attributes

if TYPE_CHECKING:
    from torch import fx

_ALIASES = ("to", "_to_copy", "alias", "detach", "clone", "view", "lift_fresh_copy", "detach_")


@dataclass(slots=True)
class Sizes:
    """What torch's sizes are: `symbol` is its name of T, `cached` its names of C; `single`: it says 1 for T."""

    symbol: str
    cached: frozenset[str] = field(default_factory=frozenset)
    single: bool = False

    def dim(self, value: Any) -> Any:
        """A size as a number or T, with C = 0; None if it is another expression."""
        if isinstance(value, int | float | bool):
            return value
        node = getattr(value, "node", None)
        expression = value if node is None else node.expr
        if not hasattr(expression, "free_symbols"):
            return None
        known = {s: 0 for s in expression.free_symbols if str(s) in self.cached}
        text = str(expression.subs(known)) if known else str(expression)
        if self.single and known and text == "1":
            return TOKENS
        return TOKENS if text == self.symbol else int(text) if text.lstrip("-").isdigit() else None

    def counts_cached(self, value: Any) -> bool:
        """Whether a size depends on C."""
        node = getattr(value, "node", None)
        symbols = getattr(getattr(node, "expr", None), "free_symbols", ())
        return any(str(symbol) in self.cached for symbol in symbols)


def tokens_input(inputs: list[fx.Node]) -> fx.Node:
    """The input that the embedding is indexed by. Raises ExportError."""
    if len(inputs) == 1:
        return inputs[0]
    found = [node for node in inputs if _indexes_embedding(node)]
    if len(found) != 1:
        names = ", ".join(node.name for node in inputs)
        raise ExportError(f"the program has the tensor inputs {names}; none of them alone is what an embedding reads")
    return found[0]


def _indexes_embedding(node: fx.Node) -> bool:
    for user in node.users:
        op = _op(user)
        if (op == "embedding" and user.args[1] is node) or (op in _ALIASES and _indexes_embedding(user)):
            return True
    return False


def cached_symbols(inputs: list[fx.Node], symbol: str) -> frozenset[str]:
    """Torch's names of the cached lengths: symbols of the keys' and values' sizes. Raises ExportError."""
    names: set[str] = set()
    for node in filter(is_cache, inputs):
        found = {str(dim) for dim in node.meta["val"].shape if not isinstance(dim, int)} - {symbol}
        if len(found) != 1:
            shape = [str(dim) for dim in node.meta["val"].shape]
            raise ExportError(
                f"input {node.name!r} [{', '.join(shape)}] looks like cached keys or values, but not one dimension of "
                "it is dynamic; export the cached length, and it alone, as Dim.AUTO"
            )
        names |= found
    return frozenset(names)


def is_cache(node: fx.Node) -> bool:
    """Keys or values: floats of heads, tokens and features."""
    value = node.meta["val"]
    return bool(value.dtype.is_floating_point) and len(value.shape) >= 3


def position_nodes(node: fx.Node, sizes: Sizes, name: str) -> list[Node]:
    """What stands for an input beside the tokens: positions 0 to T - 1, or a mask that hides nothing.

    Raises ExportError for an input that is neither.
    """
    value = node.meta["val"]
    dtype = dtype_name(value.dtype) or "other"
    length = sizes.dim(value.shape[-1]) if value.shape else None
    ahead = all(isinstance(dim, int) and dim == 1 for dim in value.shape[:-1])
    new = length == TOKENS or (sizes.single and length == 1)
    if not ahead or not new or value.dtype.is_floating_point:
        shown = ", ".join(str(dim) for dim in value.shape)
        raise ExportError(
            f"input {node.name!r} [{shown}] {dtype} is neither the tokens, nor positions [1, T], nor a padding mask, "
            "nor cached keys or values; make it in forward"
        )
    shape: Shape = (*(1 for _ in value.shape[:-1]), TOKENS)
    if dtype == "bool" or sizes.counts_cached(value.shape[-1]):
        return [Node(name, "ones", (), attributes(size=shape, dtype=dtype), TensorType(shape, dtype))]
    flat = Node(f"{name}.range", "arange", (), attributes(end=TOKENS, dtype=dtype), TensorType((TOKENS,), dtype))
    return [flat, Node(name, "reshape", (flat.name,), attributes(shape=shape), TensorType(shape, dtype))]


def written_buffers(nodes: list[fx.Node]) -> frozenset[str]:
    """Names of the placeholders that are written in place: static caches, and counters of what they hold."""
    written: set[str] = set()
    for node in nodes:
        op = _op(node)
        if op.endswith("_") and not op.endswith("__") and node.args and hasattr(node.args[0], "users"):
            source: Any = node.args[0]
            while source.op != "placeholder" and _op(source) in _ALIASES:
                source = source.args[0]
            if source.op == "placeholder":
                written.add(source.name)
    return frozenset(written)


def is_position_range(node: fx.Node) -> bool:
    """Whether arange(1) is the one new token's: a count of cached tokens is added to it."""
    if _op(node) != "arange":
        return False
    for user in node.users:
        others = [argument for argument in user.args if argument is not node and hasattr(argument, "meta")]
        if _op(user) == "add" and any(_is_count(argument.meta.get("val")) for argument in others):
            return True
    return False


def _is_count(value: Any) -> bool:
    shape = getattr(value, "shape", None)
    return type(value).__name__ == "SymInt" if shape is None else len(shape) == 0 and not value.dtype.is_floating_point


def _op(node: fx.Node) -> str:
    schema = getattr(node.target, "_schema", None)
    return schema.name.split("::")[-1] if schema else ""
