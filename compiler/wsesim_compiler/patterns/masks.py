"""Masks: which positions a token sees. A mask is not matched but computed, at a T at which its window would show.

A mask over T positions of a long window would be T * T numbers. So lengths beyond `_LONGEST` are replaced by short
ones, in two ways: if both masks are windows that differ as the lengths do, the model's is as long as that says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from wsesim_compiler.ir import Dim, Node
from wsesim_compiler.operators.operator import Array
from wsesim_compiler.patterns.matching import PROBE_TOKENS, Matcher

_LONGEST = 500
_SHORT = ((16, 24), (19, 31))
"""The first and the step of the lengths that stand for long ones, each way."""
_HIDDEN = -1e4  # finfo(float16).min is -65504; masks add that, -1e9 or -inf

ComputeMask = Callable[[Matcher, int], Array]
"""The additive mask [.., T, T] of a matcher at T."""


class NotAttentionError(Exception):
    """Why something that looks like attention is not causal attention as the compiler knows it."""


def find_window(matcher: Matcher, names: Iterable[str], compute_mask: ComputeMask, positions: Dim) -> int | None:
    """How many positions a token sees, its own the last; None for all before it. `names`: what the mask is made of;
    `positions`: how long a row of it is, T or what a static cache holds.

    Raises NotAttentionError for a mask that is neither.
    """
    made = matcher.ancestors([name for name in names if name in matcher.static])
    lengths = sorted({length for node in made for length in _lengths(matcher, node) if length >= PROBE_TOKENS})
    if isinstance(positions, int):
        lengths = [length for length in lengths if length < positions]
    long = [length for length in lengths if length > _LONGEST]
    if not long:
        return _window(compute_mask, matcher, _probe_tokens(matcher, made, lengths, positions))
    found = [_shortened(matcher, made, _short(long, *numbers), compute_mask, positions) for numbers in _SHORT]
    if found == [None, None]:
        return None
    of = [length for length in long if all(s is not None and s[0] == length for s in found)]
    if not of or found[0] is None or found[1] is None or found[0][1] != found[1][1]:
        raise NotAttentionError(f"its mask depends on the length {long[-1]}, but not as a sliding window's does")
    return of[0] + found[0][1]


def _shortened(
    matcher: Matcher, made: list[Node], short: dict[int, int], compute_mask: ComputeMask, positions: Dim
) -> tuple[int, int] | None:
    """With short lengths for long ones: the long one nearest to the window, and what the window is more than it."""
    replaced = matcher.with_lengths(short)
    window = _window(compute_mask, replaced, _probe_tokens(replaced, made, [*short.values()], positions))
    if window is None:
        return None
    nearest = min(short, key=lambda length: abs(short[length] - window))
    return nearest, window - short[nearest]


def _short(long: list[int], first: int, step: int) -> dict[int, int]:
    return {length: first + step * index for index, length in enumerate(long)}


def _probe_tokens(matcher: Matcher, made: list[Node], lengths: list[int], positions: Dim) -> int:
    """T at which all lengths show, no longer than a stored table that goes in, or a static cache."""
    tables = {name for node in made for name in node.inputs if name in matcher.constants}
    sizes = [int(dim) for name in tables for dim in matcher.constants[name].type.shape if dim != 1]
    if sizes:
        return min(sizes)
    tokens = max((2 * length + 3 for length in lengths), default=PROBE_TOKENS)
    return min(tokens, positions) if isinstance(positions, int) else tokens


def _lengths(matcher: Matcher, node: Node) -> list[int]:
    """Lengths and positions among a node's attributes and its single numbers: whole, and no sentinel of torch."""
    given = [node.attribute(name) for name in ("other", "diagonal", "start", "end", "index")]
    constants = [matcher.constants[name] for name in node.inputs if name in matcher.constants]
    given += [constant.values[0] for constant in constants if len(constant.values) == 1]
    return [abs(int(v)) for v in given if isinstance(v, int | float) and abs(v) < 2**31 and v == int(v)]


def _window(compute_mask: ComputeMask, matcher: Matcher, tokens: int) -> int | None:
    mask = compute_mask(matcher, tokens)
    if mask.shape[-2] != tokens or mask.shape[-1] < tokens:
        raise NotAttentionError(f"its mask is {list(mask.shape)} for {tokens} tokens")
    behind = np.arange(tokens)[:, None] - np.arange(mask.shape[-1])  # a static cache has more than T positions
    seen = int((np.reshape(mask, (-1, *behind.shape))[0, -1] == 0).sum())  # by the last token
    visible = (behind >= 0) & (behind < seen)
    if not (np.all(mask[..., visible] == 0) and np.all(mask[..., ~visible] <= _HIDDEN)):
        raise NotAttentionError("its mask is neither causal nor a sliding window (no padding and no bias is supported)")
    return seen if seen < tokens else None
