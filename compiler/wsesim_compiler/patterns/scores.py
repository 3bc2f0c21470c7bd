"""The core of causal attention: torch's fused one, or product, scale, mask, softmax, product.

What lies between the two products is not matched but computed: on random scores it must be a scaling and a
causal mask.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from wsesim_compiler.ir import Node
from wsesim_compiler.operators.operator import Array
from wsesim_compiler.patterns.masks import NotAttentionError, find_window
from wsesim_compiler.patterns.matching import Matcher

SCORE_OPS = ("add", "sub", "mul", "div", "where", "masked_fill", "reshape", "expand", "maximum", "clamp")


@dataclass(frozen=True, slots=True)
class Core:
    """Attention over whole heads: `root` makes [.., heads, T, head_dim] from the values q, k and v.

    `transposed_keys`: k is [.., head_dim, T]. `window`: how many positions a token sees, None for all before it.
    """

    root: Node
    q: str
    k: str
    v: str
    scale: float
    transposed_keys: bool
    window: int | None


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
    if not masks and node.attribute("is_causal") is not True:
        raise NotAttentionError("it is not causal")
    if any(mask not in matcher.static for mask in masks):
        raise NotAttentionError("its mask is not made of positions alone")
    window = None
    if masks:
        positions = matcher.type(masks[0]).shape[-1]
        window = find_window(matcher, masks, lambda m, tokens: _as_scores(m.value(masks[0], tokens)), positions)
    scale = 1 / math.sqrt(head_dim) if node.attribute("scale") is None else node.number("scale")
    return Core(node, q, k, v, scale, False, window)


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
    scales: list[float] = []

    def mask(m: Matcher, tokens: int) -> Array:
        sizes = [tokens if dim == "T" else int(dim) for dim in product.shape]
        scores = np.random.default_rng(0).standard_normal(sizes)
        masked = m.evaluate(node.inputs[0], region, {product.name: scores}, tokens)
        scale, added = _scale_and_mask(masked, scores)
        scales.append(scale)
        return added

    window = find_window(matcher, [inner.name for inner in region], mask, product.shape[-1])
    q, k = product.inputs
    return Core(mixed, q, k, mixed.inputs[1], scales[0], True, window)


def _without_nan(matcher: Matcher, softmax: Node) -> Node:
    """The softmax, or the choice of zeros where it is NaN: a causal mask hides no row as a whole, so nowhere."""
    users = {user.op: user for user in matcher.users[softmax.name]}
    test, choice = users.get("isnan"), users.get("where")
    if test is None or choice is None or len(users) != 2 or softmax.name in matcher.graph.outputs:
        return softmax
    kept = choice.inputs == (test.name, softmax.name) and choice.attribute("self") == 0
    return choice if kept and matcher.only_user(test.name) is choice else softmax


def _scale_and_mask(masked: Array, scores: Array) -> tuple[float, Array]:
    """`masked` as scale * scores + mask: the scale is that of the first token's own score."""
    if masked.shape != scores.shape:
        raise NotAttentionError("its scores are neither scaled nor masked as causal attention's")
    scale = float(np.ravel(masked)[0] / np.ravel(scores)[0])
    same = np.isclose(masked, scale * scores, rtol=1e-9, atol=1e-12)
    return scale, np.where(same, 0.0, masked)
