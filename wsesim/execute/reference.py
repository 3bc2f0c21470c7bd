"""The kernels once more, in NumPy: same names, same arguments, same bits. Read these to know what a kernel does."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsesim.execute.tiles import PANEL

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
Spans = NDArray[np.int64]

ALL_MERGED = np.empty(0, np.int32)


def widen(weights: NDArray[Any]) -> Floats:
    """Stored weights as float32, by their stored type: float32, bf16 bits, fp16 bits or int8."""
    if weights.dtype == np.uint16:
        return (weights.astype(np.uint32) << np.uint32(16)).view(np.float32)
    if weights.dtype == np.int16:
        return weights.view(np.float16).astype(np.float32)
    return weights.astype(np.float32)


def merged(partials: Floats, order: Ints, children: Ints, starts: Ints = ALL_MERGED) -> Floats:
    """[positions, ...] -> [...]: each position adds what it receives to its own, in the order of `Schedule`.

    starts, of the shape of a partial: the entry of what is left at which each sum begins, to go around.
    """
    stack: list[Floats] = []
    for position, count in zip(order, children, strict=True):
        total = partials[position]
        for child in stack[len(stack) - count :]:
            total = total + child
        stack[len(stack) - count :] = [total]
    if starts.size:
        entries = np.stack(stack)
        places = [(starts + step) % len(entries) for step in range(len(entries))]
        return ordered_sum(np.stack([np.take_along_axis(entries, place[None], 0)[0] for place in places]))
    (total,) = stack
    return total


def ordered_sum(terms: Floats) -> Floats:
    """[n, ...] -> [...], one after the other."""
    total: Floats = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def line_sums(terms: Floats, spans: Spans, token: int, step: int, along: int) -> Floats:
    """[positions, ...] -> [along, ...]: each line's own, ascending; zero for a line without any."""
    own = [terms[held] for held in held_by(spans, token, step, along)]
    return np.stack([ordered_sum(line if len(line) else np.zeros_like(terms[:1])) for line in own])


def held_by(spans: Spans, token: int, step: int, along: int) -> list[slice]:
    """The positions of each line, as far as a token sees them."""
    lines = spans[token * along * 2 :][: along * 2].reshape(along, 2)
    return [slice(first, end, step) for first, end in lines]


def rank_on_line(spans: Spans, token: int, step: int, along: int, seen: int) -> NDArray[np.int64]:
    """How many positions of its line come before each."""
    rank = np.zeros(seen, np.int64)
    for held in held_by(spans, token, step, along):
        rank[held] = np.arange(len(rank[held]))
    return rank


def by_position(order: Ints, stored: Ints) -> Ints:
    """The stored tile of each position, where visit v is to position order[v] and reads tile stored[v]."""
    return stored[np.argsort(order)]


def linear(
    tokens: int,
    x: Floats,
    tiles: NDArray[Any],
    scales: Floats,
    k: int,
    order: Ints,
    children: Ints,
    stored: Ints,
    starts: Ints,
    places: NDArray[np.int64],
    workers: int,
    depth: int,
    stack: Floats,
    scratch: Floats,
    out: Floats,
) -> None:
    positions = len(order)
    weights = widen(tiles).reshape(len(places), positions, k, PANEL)[:, by_position(order, stored)]
    for t, row in enumerate(x[: tokens * positions * k].reshape(tokens, positions, k)):
        products = row[None, :, :, None] * weights  # [panel, position, k, column]
        partials = ordered_sum(products.transpose(2, 1, 0, 3))
        y = merged(partials, order, children, starts.reshape(-1, PANEL) if starts.size else starts)
        y = y * scales.reshape(y.shape) if scales.size else y
        for panel, (start, stride, valid) in enumerate(places):
            out[start + t * stride :][:valid] = y[panel, :valid]


def embed(
    tokens: int, ids: NDArray[np.int64], table: NDArray[Any], scales: Floats, places: Ints, target: Floats
) -> None:
    rows = widen(table[ids[:tokens]]) * (scales[ids[:tokens], None] if scales.size else np.float32(1))
    target[: tokens * len(places)] = np.where(places >= 0, rows[:, places], np.float32(0)).reshape(-1)


def append_keys(tokens: int, context: int, key: Floats, row: int, places: Ints, keys: Floats) -> None:
    blocks = keys.reshape(-1, len(places), PANEL)
    for t in range(tokens):
        blocks[(context + t) // PANEL, :, (context + t) % PANEL] = key[t * row :][places]


def append_values(tokens: int, context: int, value: Floats, row: int, places: Ints, values: Floats) -> None:
    for t in range(tokens):
        values.reshape(-1, len(places))[context + t] = value[t * row :][places]


def score(
    tokens: int,
    context: int,
    window: int,
    query: Floats,
    starts: Ints,
    repeat: int,
    row: int,
    width: int,
    features: int,
    keys: Floats,
    scale: float,
    order: Ints,
    children: Ints,
    stored: Ints,
    spans: Spans,
    step: int,
    along: int,
    together: int,
    workers: int,
    depth: int,
    stack: Floats,
    capacity: int,
    target: Floats,
) -> None:
    heads = len(starts)
    cached = keys.reshape(-1, heads // repeat, len(order), features, PANEL)
    cached = cached[:, :, by_position(order, stored)].transpose(1, 2, 3, 0, 4)
    cached = cached.reshape(heads // repeat, len(order), features, -1)  # [group, position, feature, token]
    for t in range(tokens):
        seen = context + t + 1
        low = max(seen - window, 0) if window else 0
        for head, start in enumerate(starts):
            begins = t * row + start + width * np.arange(len(order))
            q = query[begins[:, None] + np.arange(features)]
            products = q[:, :, None] * cached[head // repeat][:, :, :seen]
            begins_at = ALL_MERGED
            if along:
                element = rank_on_line(spans, t, step, along, seen) * together + head % together
                begins_at = ((element + 1) % len(order)).astype(np.int32)
            y = merged(ordered_sum(products.transpose(1, 0, 2)), order, children, begins_at)
            target[(t * heads + head) * capacity + low :][: seen - low] = (y * np.float32(scale))[low:]


def rmsnorm(
    tokens: int,
    source: Floats,
    weight: Floats,
    width: int,
    size: int,
    eps: float,
    order: Ints,
    children: Ints,
    stack: Floats,
    target: Floats,
) -> None:
    x = source[: tokens * len(weight)].reshape(tokens, -1)
    for t in range(tokens):
        total = merged(ordered_sum((x[t] * x[t]).reshape(-1, width).T), order, children)
        scale = np.float32(1) / np.sqrt(total / np.float32(size) + np.float32(eps))
        target[t * x.shape[1] :][: x.shape[1]] = x[t] * scale * weight


def folded_norm(
    tokens: int,
    source: Floats,
    weight: Floats,
    width: int,
    size: int,
    eps: float,
    order: Ints,
    children: Ints,
    stack: Floats,
    scales: Floats,
    target: Floats,
) -> None:
    x = source[: tokens * len(weight)].reshape(tokens, -1)
    for t in range(tokens):
        total = merged(ordered_sum((x[t] * x[t]).reshape(-1, width).T), order, children)
        scales[t] = np.float32(1) / np.sqrt(total / np.float32(size) + np.float32(eps))
    target[: x.size] = (x * weight).reshape(-1)


def scale_rows(tokens: int, scales: Floats, row: int, values: Floats) -> None:
    values[: tokens * row].reshape(tokens, row)[:] *= scales[:tokens, None]


def qk_norm(
    tokens: int,
    source: Floats,
    weight: Floats,
    starts: Ints,
    row: int,
    width: int,
    features: int,
    head_dim: int,
    eps: float,
    order: Ints,
    children: Ints,
    entries: Ints,
    stack: Floats,
    target: Floats,
) -> None:
    target[: tokens * row] = 0
    within = width * np.arange(len(order))[:, None] + np.arange(features)
    for t in range(tokens):
        for head, start in enumerate(starts):
            places = t * row + start + within
            x = source[places]
            entry = entries[head, None] if entries.size else entries
            total = merged(ordered_sum((x * x).T)[:, None], order, children, entry)
            scale = np.float32(1) / np.sqrt(total / np.float32(head_dim) + np.float32(eps))
            target[places] = x * scale * weight.reshape(x.shape)


def rope(tokens: int, source: Floats, pairs: Ints, cos: Floats, sin: Floats, half: int, target: Floats) -> None:
    x = source[: tokens * 2 * len(pairs)].reshape(tokens, -1, 2)
    c, s = cos[: tokens * half].reshape(tokens, half)[:, pairs], sin[: tokens * half].reshape(tokens, half)[:, pairs]
    turned = np.stack((x[..., 0] * c - x[..., 1] * s, x[..., 1] * c + x[..., 0] * s), axis=-1)
    target[: turned.size] = np.where(pairs[:, None] >= 0, turned, np.float32(0)).reshape(-1)


def softmax(
    tokens: int,
    context: int,
    window: int,
    source: Floats,
    heads: int,
    capacity: int,
    spans: Spans,
    step: int,
    order: Ints,
    children: Ints,
    starts: Ints,
    sums: Floats,
    target: Floats,
) -> None:
    for r in range(tokens * heads):
        seen = context + r // heads + 1
        low = max(seen - window, 0) if window else 0
        scores = source[r * capacity :][:seen]
        e = exp32(scores - scores[low:].max())
        lines = line_sums(e, spans, r // heads, step, len(order))
        start = starts[r % heads, None] if starts.size else starts
        target[r * capacity + low :][: seen - low] = (e / merged(lines[:, None], order, children, start))[low:]


def weighted_sum(
    tokens: int,
    probabilities: Floats,
    heads: int,
    capacity: int,
    spans: Spans,
    step: int,
    values: Floats,
    repeat: int,
    row: int,
    places: Ints,
    order: Ints,
    children: Ints,
    starts: Ints,
    workers: int,
    depth: int,
    stack: Floats,
    target: Floats,
) -> None:
    size = len(places) // heads
    cached = values.reshape(-1, heads // repeat, size)
    for r in range(tokens * heads):
        t, head = divmod(r, heads)
        terms = probabilities[r * capacity :][:capacity, None] * cached[:capacity, head // repeat]
        own = starts[head * size : (head + 1) * size]
        y = merged(line_sums(terms, spans, t, step, len(order)), order, children, own)
        target[t * row + places[head * size : (head + 1) * size]] = y


def line_exponentials(
    tokens: int,
    source: Floats,
    heads: int,
    capacity: int,
    spans: Spans,
    step: int,
    along: int,
    factors: Floats,
    target: Floats,
) -> None:
    for r in range(tokens * heads):
        scores, out = source[r * capacity :][:capacity], target[r * capacity :][:capacity]
        most = np.full(along, -1e38, np.float32)
        for line, held in enumerate(held_by(spans, r // heads, step, along)):
            most[line] = scores[held].max(initial=most[line])
            out[held] = exp32(scores[held] - most[line])
        factors[r * along :][:along] = exp32(most - most.max())


def flash_sum(
    tokens: int,
    exponentials: Floats,
    factors: Floats,
    heads: int,
    capacity: int,
    spans: Spans,
    step: int,
    values: Floats,
    repeat: int,
    row: int,
    places: Ints,
    order: Ints,
    children: Ints,
    starts: Ints,
    workers: int,
    depth: int,
    stack: Floats,
    target: Floats,
) -> None:
    size, along = len(places) // heads, len(order)
    cached = values.reshape(-1, heads // repeat, size)[:capacity]
    for r in range(tokens * heads):
        t, head = divmod(r, heads)
        e = exponentials[r * capacity :][:capacity, None]
        terms = np.concatenate((e * cached[:, head // repeat], e), axis=1)
        scaled = line_sums(terms, spans, t, step, along) * factors[r * along :][:along, None]
        own = starts[head * (size + 1) : (head + 1) * (size + 1)]
        y = merged(scaled, order, children, own)
        target[t * row + places[head * size : (head + 1) * size]] = y[:-1] / y[-1]


def swiglu(tokens: int, gate: Floats, up: Floats, row: int, target: Floats) -> None:
    n = tokens * row
    target[:n] = gate[:n] / (np.float32(1) + exp32(-gate[:n])) * up[:n]


def add(tokens: int, left: Floats, right: Floats, row: int, target: Floats) -> None:
    target[: tokens * row] = left[: tokens * row] + right[: tokens * row]


def add_bias(tokens: int, bias: Floats, target: Floats) -> None:
    rows = target[: tokens * len(bias)].reshape(tokens, len(bias))
    rows[:] = rows + bias


def reslice(tokens: int, source: Floats, row: int, places: Ints, target: Floats) -> None:
    rows = source[: tokens * row].reshape(tokens, row)
    target[: tokens * len(places)] = np.where(places >= 0, rows[:, places], np.float32(0)).reshape(-1)


def round_bf16(tokens: int, values: Floats, row: int) -> None:
    bits = np.empty(tokens * row, np.uint16)
    narrow_bf16(values[: tokens * row], bits)
    values[: tokens * row] = widen(bits)


def round_fp16(tokens: int, values: Floats, row: int) -> None:
    with np.errstate(over="ignore"):
        values[: tokens * row] = values[: tokens * row].astype(np.float16)


def narrow_bf16(source: Floats, target: NDArray[np.uint16]) -> None:
    bits = source.view(np.uint32)
    target[:] = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)


def exp32(x: Floats) -> Floats:
    """Cephes' expf: exp(n ln 2 + r) = 2^n * polynomial(r), |r| <= ln(2) / 2."""
    f = np.float32
    x = np.minimum(np.maximum(x, f(-87)), f(88))
    n = np.floor(x * f(1.44269504088896341) + f(0.5))
    r = x - n * f(0.693359375) - n * f(-2.12194440e-4)
    p = np.full_like(r, f(1.9875691500e-4))
    for c in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
        p = p * r + f(c)
    power = ((n.astype(np.int32) + 127).astype(np.uint32) << np.uint32(23)).view(np.float32)
    result: Floats = (p * (r * r) + r + f(1)) * power
    return result
