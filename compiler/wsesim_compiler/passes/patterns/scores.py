"""The core of causal attention: torch's fused one, or product, scale, mask, softmax, product.

What lies between the two products is not matched but computed: on random scores it must be a scaling and a
causal mask.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from wsesim_compiler.ir import Node
from wsesim_compiler.operators.operator import Array
from wsesim_compiler.passes.patterns.matching import PROBE_TOKENS, Matcher

_LONGEST_PROBE = 1100
_HIDDEN = -1e4  # finfo(float16).min is -65504; masks add that, -1e9 or -inf
SCORE_OPS = ("add", "sub", "mul", "div", "where", "masked_fill", "reshape", "expand", "maximum", "clamp")


@dataclass(frozen=True, slots=True)
class Core:
    """Attention over whole heads: `root` makes [.., heads, T, head_dim] from the values q, k and v.

    `transposed_keys`: k is [.., head_dim, T].
    """

    root: Node
    q: str
    k: str
    v: str
    scale: float
    transposed_keys: bool


class NotAttentionError(Exception):
    """Why something that looks like attention is not causal attention as the compiler knows it."""


def find_core(matcher: Matcher, node: Node) -> Core | None:
    """The core whose fused node or softmax this is; None if it is neither. Raises NotAttentionError."""
    if node.op == "scaled_dot_product_attention":
        return _fused(matcher, node)
    return _eager(matcher, node) if node.op == "softmax" else None


def _fused(matcher: Matcher, node: Node) -> Core:
    q, k, v, *masks = node.inputs
    head_dim = matcher.made[q].shape[-1] if q in matcher.made else None
    if not isinstance(head_dim, int):
        raise NotAttentionError("its queries are an input of the model")
    for mask in masks:
        tokens = _probe_tokens(matcher, [mask])
        _require_causal(_as_scores(matcher.value(mask, tokens)), tokens)
    if not masks and node.attribute("is_causal") is not True:
        raise NotAttentionError("it is not causal")
    scale = 1 / math.sqrt(head_dim) if node.attribute("scale") is None else node.number("scale")
    return Core(node, q, k, v, scale, False)


def _as_scores(mask: Array) -> Array:
    return np.where(mask, 0.0, -np.inf) if mask.dtype == bool else mask


def _eager(matcher: Matcher, node: Node) -> Core:
    region, boundary = matcher.region(node.inputs, SCORE_OPS)
    product = matcher.node(boundary[0], "matmul") if len(boundary) == 1 else None
    if product is None or node.attribute("dim") not in (-1, len(node.shape) - 1):
        raise NotAttentionError("the softmax is not over the products of queries and keys")
    weights = _without_nan(matcher, node)
    mixed = matcher.only_user(weights.name)
    if mixed is None or mixed.op != "matmul" or mixed.inputs[0] != weights.name:
        raise NotAttentionError("the softmax is not multiplied by values")
    tokens = _probe_tokens(matcher, [inner.name for inner in region])
    sizes = [tokens if dim == "T" else int(dim) for dim in product.shape]
    scores = np.random.default_rng(0).standard_normal(sizes)
    masked = matcher.evaluate(node.inputs[0], region, {product.name: scores}, tokens)
    scale = float(np.ravel(masked)[0] / np.ravel(scores)[0])
    visible = np.tril(np.ones((tokens, tokens), bool))
    scaled = scale * scores[..., visible]
    if masked.shape != scores.shape or not np.allclose(masked[..., visible], scaled, rtol=1e-9, atol=1e-12):
        raise NotAttentionError("its scores are neither scaled nor masked as causal attention's")
    _require_causal(np.where(visible, 0.0, masked), tokens)
    q, k = product.inputs
    return Core(mixed, q, k, mixed.inputs[1], scale, True)


def _without_nan(matcher: Matcher, softmax: Node) -> Node:
    """The softmax, or the choice of zeros where it is NaN: a causal mask hides no row as a whole, so nowhere."""
    users = {user.op: user for user in matcher.users[softmax.name]}
    test, choice = users.get("isnan"), users.get("where")
    if test is None or choice is None or len(users) != 2 or softmax.name in matcher.graph.outputs:
        return softmax
    kept = choice.inputs == (test.name, softmax.name) and choice.attribute("self") == 0
    return choice if kept and matcher.only_user(test.name) is choice else softmax


def _probe_tokens(matcher: Matcher, names: Iterable[str]) -> int:
    """T at which every length in the mask's making (a window, the size of a stored table) would show."""
    made = matcher.ancestors([name for name in names if name in matcher.static])
    tables = {name for node in made for name in node.inputs if name in matcher.constants}
    sizes = [int(dim) for name in tables for dim in matcher.constants[name].type.shape if dim != 1]
    lengths = [length for node in made for length in _lengths(node) if length >= PROBE_TOKENS]
    tokens = min(sizes) if sizes else max((2 * length + 3 for length in lengths), default=PROBE_TOKENS)
    if tokens > _LONGEST_PROBE:
        longest = max([*sizes, *lengths])
        raise NotAttentionError(f"its mask depends on the length {longest}: sliding windows are not supported")
    return tokens


def _lengths(node: Node) -> list[int]:
    """Lengths and positions among a node's attributes: whole numbers that are no sentinel of torch."""
    kept = (node.attribute(name) for name in ("other", "diagonal", "start", "end", "index"))
    return [abs(int(v)) for v in kept if isinstance(v, int | float) and abs(v) < 2**31 and v == int(v)]


def _require_causal(mask: Array, tokens: int) -> None:
    """The additive mask [.., T, T] shows position j to i if and only if j <= i."""
    visible = np.tril(np.ones((tokens, tokens), bool))
    if mask.shape[-2:] != visible.shape:
        raise NotAttentionError(f"its mask is {list(mask.shape)} for {tokens} tokens")
    if not (np.all(mask[..., visible] == 0) and np.all(mask[..., ~visible] <= _HIDDEN)):
        raise NotAttentionError("its mask is not causal (a sliding window, padding or a bias is not supported)")
