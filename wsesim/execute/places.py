"""Places: where the elements of a layout, and the heads in it, lie in a token's flat vector."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wsesim.execute.buffers import row_of
from wsesim.execute.merges import Schedule
from wsesim.execute.tiles import PANEL
from wsesim.program.kernels import Linear
from wsesim.program.layout import Heads, Layout

Ints = NDArray[np.int32]


def panel_places(item: Linear, panels: tuple[int, ...], chunk: int) -> NDArray[np.int64]:
    """[panels, 3]: where its first column of token 0 goes, the outputs' row, columns that count."""
    places, begin = [], 0
    for output, count in zip(item.outputs, panels, strict=True):
        row = row_of(output.layout)
        places += [(begin + p * PANEL, row, min(PANEL, row - p * PANEL)) for p in range(count)]
        begin += chunk * row
    return np.array(places, np.int64)


def sum_elements(layout: Heads, places: Ints, extra: int) -> Ints:
    """[heads, size + extra] flat: the element of its position's vector that each sum is: all values, then the heads'
    own numbers, which every position of a segment has alike.
    """
    heads = layout.groups * layout.repeat
    own = layout.width + np.arange(heads)[:, None] % layout.heads * extra + np.arange(extra)
    return np.concatenate((places.reshape(heads, -1) % layout.width, own), axis=1).reshape(-1).astype(np.int32)


def panel_elements(item: Linear, panels: tuple[int, ...]) -> Ints:
    """[panels, PANEL] flat: the element of its position's vector, all outputs one after the other, that a column is."""
    elements, offset = [], 0
    for output, count in zip(item.outputs, panels, strict=True):
        elements.append(offset + np.arange(count * PANEL) % output.layout.width)
        offset += output.layout.width
    return np.concatenate(elements).astype(np.int32)


def inverse(layout: Layout) -> Ints:
    """[size] the place of each element."""
    places = layout.indices().reshape(-1)
    there = np.flatnonzero(places >= 0)
    inverse = np.empty(layout.size, np.int32)
    inverse[places[there]] = there
    return inverse


def moved(source: Layout, target: Layout) -> Ints:
    """For each place of `target` its element's place in `source`, -1 for padding."""
    elements = target.indices().reshape(-1)
    return np.where(elements >= 0, inverse(source)[elements], -1).astype(np.int32)


def pairs(layout: Heads) -> Ints:
    """[row / 2] which rotation turns each two neighbouring places, -1 for padding."""
    first = layout.indices().reshape(-1)[::2]
    feature = first % layout.head_dim
    pair = feature if layout.pairing == "half" else feature // 2
    return np.where(first >= 0, pair, -1).astype(np.int32)


def head_starts(layout: Heads) -> Ints:
    """[heads] the place of each head's first feature on the first position of its segment."""
    head = np.arange(layout.groups * layout.repeat)
    group, member = head // layout.repeat, head % layout.repeat
    position = group // layout.groups_per_position * layout.segment
    slot = group % layout.groups_per_position * layout.repeat + member
    return (position * layout.width + slot * layout.features).astype(np.int32)


def head_geometry(layout: Heads) -> tuple[Ints, int, int, int]:
    """Where heads begin, the length of a row, the distance of a segment's positions, features on one."""
    return head_starts(layout), row_of(layout), layout.width, layout.features


def head_elements(layouts: tuple[Heads, ...]) -> list[Ints]:
    """For each layout [heads]: the element of its position's vector that a head is, one layout after the other."""
    elements, offset = [], 0
    for layout in layouts:
        elements.append((offset + np.arange(layout.groups * layout.repeat) % layout.heads).astype(np.int32))
        offset += layout.heads
    return elements


def in_visits(places: Ints, layout: Heads, merges: Schedule) -> Ints:
    """`places` of a layout's heads with the segment in the order of the visits, as `line_sum` reads."""
    split = places.reshape(-1, layout.segment, layout.features)
    return split[:, merges.order].reshape(-1)


def head_places(layout: Heads) -> Ints:
    """[heads, segment, features] flat: the place of each, padded features included."""
    within = (np.arange(layout.segment)[:, None] * layout.width + np.arange(layout.features)).reshape(-1)
    return (head_starts(layout)[:, None] + within).reshape(-1).astype(np.int32)
