"""From a projection to the heads that attention reads: splitting, a norm over each head, RoPE, scaling and
repetition of key/value heads.

The nodes between are not matched but computed on a random projection, and the result compared with the
formula: any spelling of the rotation and of the split is recognised, and nothing else is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wsesim_compiler.ir import TOKENS, Node
from wsesim_compiler.operators.llama import PAIRINGS, rotated
from wsesim_compiler.operators.operator import Array
from wsesim_compiler.patterns.masks import NotAttentionError
from wsesim_compiler.patterns.matching import PROBE_TOKENS, Matcher

HEAD_OPS = (
    *(
        "reshape",
        "permute",
        "expand",
        "slice",
        "select",
        "cat",
        "stack",
        "repeat",
        "repeat_interleave",
        "index",
        "index_copy",
    ),
    *("add", "sub", "mul", "div", "neg", "cast"),
)


@dataclass(frozen=True, slots=True)
class Rope:
    """A recognised rotation: `inv_freq` per pair, which elements make a pair."""

    inv_freq: tuple[float, ...]
    pairing: str


@dataclass(frozen=True, slots=True)
class HeadNorm:
    """An RMSNorm over `size` features, by the parameter `weight`; `source` is the module's name."""

    weight: str
    size: int
    eps: float
    source: str


@dataclass(frozen=True, slots=True)
class FoundHeads:
    """`heads` of `head_dim`, split from the features of `source`, normed and rotated as said, times `scale`."""

    source: str
    heads: int
    head_dim: int
    norm: HeadNorm | None
    rope: Rope | None
    scale: float


def find_heads(matcher: Matcher, name: str, transposed: bool = False) -> FoundHeads:
    """What the value [.., heads, T, head_dim] (or [.., head_dim, T] if transposed) is made of.

    Repeated heads (grouped-query attention) count once. Raises NotAttentionError.
    """
    found = _probed(matcher, name)
    rows = _new_rows(_token_major(found.value.swapaxes(-1, -2) if transposed else found.value))
    head_dim = rows.shape[-1]
    heads = found.projection.shape[-1] // head_dim
    split = found.projection.reshape(PROBE_TOKENS, heads, head_dim)
    rows = _once(rows, heads)
    fits = rows.shape == split.shape
    scale = float(np.vdot(split[0], rows[0]) / np.vdot(split[0], split[0])) if fits else 0.0
    if not fits or not _equal(rows[0], scale * split[0]):
        raise NotAttentionError("its heads are not consecutive features of one projection")
    if found.norm is not None and found.norm.size != head_dim:
        raise NotAttentionError("a norm of its queries or keys is not over each head by itself")
    rope = _rope(matcher, split, rows / scale)
    if rope is None and not _equal(rows, scale * split):
        if _from_table(matcher, [node.name for node in found.region]):
            raise NotAttentionError("its cos and sin are stored tables; make them in forward from frequencies")
        raise NotAttentionError(
            "its position embedding is not RoPE over whole heads, computed from inverse frequencies"
        )
    return FoundHeads(found.source, heads, head_dim, found.norm, rope, scale)


@dataclass(frozen=True, slots=True)
class _Probed:
    """A value made from a random `projection` [T, features], the value of `source`, through `region` and `norm`."""

    source: str
    region: list[Node]
    norm: HeadNorm | None
    projection: Array
    value: Array


def _probed(matcher: Matcher, name: str) -> _Probed:
    """What a norm does to a head is known, so it lets the probe's heads through as they are."""
    region, source = _up_to_one(matcher, name)
    normed = matcher.node(source, "rmsnorm")
    if normed is None:
        projection, given = _projection(matcher, source)
        return _Probed(source, region, None, projection, matcher.evaluate(name, region, given, PROBE_TOKENS))
    before, source = _up_to_one(matcher, normed.inputs[0])
    projection, given = _projection(matcher, source)
    heads = matcher.evaluate(normed.inputs[0], before, given, PROBE_TOKENS)
    _require_whole_heads(heads, projection)
    value = matcher.evaluate(name, region, {normed.name: heads}, PROBE_TOKENS)
    norm = HeadNorm(normed.inputs[1], heads.shape[-1], normed.number("eps"), normed.source)
    return _Probed(source, [*before, *region], norm, projection, value)


def _up_to_one(matcher: Matcher, name: str) -> tuple[list[Node], str]:
    region, boundary = matcher.region([name], HEAD_OPS)
    return region, boundary[0] if len(boundary) == 1 else ""


def _projection(matcher: Matcher, source: str) -> tuple[Array, dict[str, Array]]:
    """Random features [T, n] for the value of `source`, and these in its shape by its name."""
    node = matcher.made.get(source)
    features = None if node is None or node.op == "rmsnorm" else _features(node)
    if node is None or features is None:
        raise NotAttentionError("its queries, keys and values are not each made from one projection")
    projection = np.random.default_rng(1).standard_normal((PROBE_TOKENS, features))
    return projection, {source: projection.reshape([_sized(dim) for dim in node.shape])}


def _require_whole_heads(value: Array, probe: Array) -> None:
    """What a norm over heads reads is the projection, split into heads and nothing more."""
    split = probe.reshape(PROBE_TOKENS, -1, value.shape[-1])
    found = value.squeeze()
    if not any(_equal(found, arranged.squeeze()) for arranged in (split, split.swapaxes(0, 1))):
        raise NotAttentionError("a norm of its queries or keys is not over whole heads, or not before the rotation")


def _from_table(matcher: Matcher, names: list[str]) -> bool:
    """Whether a stored table goes in: rounded to its precision, it does not tell the frequencies exactly."""
    made = matcher.ancestors([name for name in names if name in matcher.static])
    read = {name for node in made for name in node.inputs if name in matcher.constants}
    return any(len(matcher.constants[name].type.shape) > 1 for name in read)


def _equal(x: Array, y: Array) -> bool:
    """Equal up to rounding in float64: frequencies of 1e-6 must not hide in a looser tolerance."""
    return x.shape == y.shape and np.allclose(x, y, rtol=1e-9, atol=1e-10)


def _features(node: Node) -> int | None:
    """n of a value [.., T, n] without another dimension than 1 before."""
    shape = node.shape
    if len(shape) < 2 or shape[-2] != TOKENS or any(dim != 1 for dim in shape[:-2]):
        return None
    return shape[-1] if isinstance(shape[-1], int) else None


def _sized(dim: int | str) -> int:
    return dim if isinstance(dim, int) else PROBE_TOKENS


def _token_major(x: Array) -> Array:
    """[.., heads, T, head_dim] -> [T, heads, head_dim]."""
    if x.ndim < 3 or any(dim != 1 for dim in x.shape[:-3]):
        raise NotAttentionError(f"its operands have {x.ndim} dimensions, not batch, heads, tokens, features")
    return x.reshape(x.shape[-3:]).swapaxes(0, 1)


def _new_rows(rows: Array) -> Array:
    """Those of the T tokens; a static cache has more, in which nothing is."""
    return rows if rows[PROBE_TOKENS:].any() else rows[:PROBE_TOKENS]


def _once(rows: Array, heads: int) -> Array:
    """The first of each group of equal heads, if `rows` repeats `heads` of them group by group."""
    repeats = rows.shape[1] // heads if heads else 0
    if repeats < 1 or rows.shape[1] != repeats * heads:
        return rows
    kept = rows[:, ::repeats]
    return kept if np.array_equal(np.repeat(kept, repeats, axis=1), rows) else rows


def _rope(matcher: Matcher, split: Array, rows: Array) -> Rope | None:
    """The rotation that takes `split` to `rows`, both [T, heads, head_dim]; None if none does."""
    if _equal(rows, split) or split.shape[-1] % 2:
        return None
    flat = split.reshape(len(split), -1)
    for pairing in PAIRINGS:
        inv_freq = _exact(matcher, _angles(split[1, 0], rows[1, 0], pairing))
        if _equal(rotated(flat, inv_freq, split.shape[1], pairing), rows.reshape(flat.shape)):
            return Rope(inv_freq, pairing)
    return None


def _angles(before: Array, after: Array, pairing: str) -> tuple[float, ...]:
    """The angle by which each pair of one head turned at position 1, without the digits that are rounding."""
    half = len(before) // 2
    pairs = (slice(half), slice(half, None)) if pairing == "half" else (slice(0, None, 2), slice(1, None, 2))
    start, end = (head[pairs[0]] + 1j * head[pairs[1]] for head in (before, after))
    return tuple(float(f"{angle:.12g}") for angle in np.angle(end / start))


def _exact(matcher: Matcher, angles: tuple[float, ...]) -> tuple[float, ...]:
    """The model's own frequencies where a constant holds them: angles are exact only to rounding."""
    for constant in matcher.constants.values():
        if len(constant.values) == len(angles) and np.allclose(constant.values, angles, rtol=1e-5, atol=1e-9):
            return tuple(float(value) for value in constant.values)
    return angles
