"""From a Program's kernels to a flat list of calls, with every array in place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsesim.execute import tiles, vectors
from wsesim.execute.buffers import Buffers, Item, Positions, in_order, inputs, output_layouts, outputs, row_of
from wsesim.execute.calls import (
    Angles,
    CachedPositions,
    Call,
    FlashSumCall,
    Plain,
    RoundPositions,
    ScoreCall,
    SoftmaxCall,
    ValueSums,
    WeightedSumCall,
)
from wsesim.execute.memory import aligned_zeros
from wsesim.execute.merges import linear_schedule, schedule, split_schedule
from wsesim.execute.places import (
    head_elements,
    head_geometry,
    head_places,
    head_starts,
    in_visits,
    inverse,
    moved,
    pairs,
    panel_elements,
    panel_places,
    sum_elements,
)
from wsesim.execute.tiles import PANEL
from wsesim.program import Program
from wsesim.program.kernels import (
    DECODE,
    Add,
    Embed,
    FlashSum,
    Linear,
    QKNorm,
    RMSNorm,
    Rope,
    Sample,
    Score,
    Softmax,
    SwiGLU,
    WeightedSum,
)
from wsesim.program.kv import KVCache
from wsesim.program.parts import Transfer

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]

_ROUND = {"bf16": vectors.round_bf16, "fp16": vectors.round_fp16}


@dataclass(slots=True, eq=False)
class Bound:
    """A Program ready to run: `body` up to the last attention, `tail` for the last tokens alone, and what they
    share. `logits`: their array, the length of a row and the place of each id in it."""

    ids: NDArray[np.int64]
    body: list[Call] = field(default_factory=list)
    tail: list[Call] = field(default_factory=list)
    crossing: list[tuple[Floats, int]] = field(default_factory=list)
    angles: dict[tuple[float, ...], Angles] = field(default_factory=dict)
    lines: dict[tuple[KVCache, int], CachedPositions] = field(default_factory=dict)
    key_rows: list[int] = field(default_factory=list)
    value_rows: list[int] = field(default_factory=list)
    logits: tuple[Floats, int, Ints] | None = None


class Binder:
    """Binds items one after the other, each reading what earlier ones made."""

    def __init__(
        self, program: Program, phase: str, packed: dict[str, Any], activations: str, chunk: int, workers: int
    ) -> None:
        self._program, self._packed = program.in_phase(phase), packed
        self._decode = {kernel.name: kernel for kernel in program.in_phase(DECODE).kernels}
        self._chunk, self._workers = chunk, workers
        self._round = _ROUND.get(activations)
        self._items = tuple(in_order(self._program))
        self._buffers = Buffers(self._items, chunk)
        self._stack = np.zeros(0, np.float32)
        self._scratch = np.zeros(0, np.float32)
        self._exponentials: dict[int, Positions] = {}
        self._bound = Bound(np.zeros(chunk, np.int64))
        self._scales: dict[tuple[str, str], Floats] = {}
        self._reserve_scratch()

    def bind(self) -> Bound:
        """The whole Program."""
        attentions = [i for i, item in enumerate(self._items) if isinstance(item, WeightedSum | FlashSum)]
        split = attentions[-1] + 1 if attentions else 0
        before = {place for item in self._items[:split] for place in outputs(item)}
        crossing = {place for item in self._items[split:] for place in inputs(item)} & before
        for index, item in enumerate(self._items):
            if index == split:
                self._cross(sorted(crossing))
            (self._bound.body if index < split else self._bound.tail).extend(self._calls(item))
            self._buffers.done(item)
        return self._bound

    def _cross(self, places: list[tuple[str, str]]) -> None:
        arrays = {id(a): a for a in map(self._buffers.value, places)}
        self._bound.crossing = [(array, len(array) // self._chunk) for array in arrays.values()]

    def _reserve_scratch(self) -> None:
        """One stack and one tile of scratch per worker, long enough for every linear layer and every
        score."""
        entries, tile = 0, 0
        for kernel in self._program.kernels:
            if isinstance(kernel, Linear):
                depth = linear_schedule(kernel).depth
                entries, tile = max(entries, depth), max(tile, kernel.layout.width)
            elif isinstance(kernel, Score):
                entries = max(entries, split_schedule(kernel.query_layout.segment, kernel.reduce).depth)
        self._stack = aligned_zeros(self._workers * self._chunk * entries * PANEL)
        self._scratch = aligned_zeros(self._workers * tile * PANEL)

    def _calls(self, item: Item) -> list[Call]:
        call = self._call(item)
        calls = [] if call is None else [call, *self._scaled(item), *self._biases(item)]
        if call is None or self._round is None or isinstance(item, Transfer):
            return calls
        if isinstance(item, Score | Softmax):
            return [*calls, RoundPositions(self._round, self._buffers.positions(outputs(item)[0]))]
        rounds: list[Call] = [
            Plain(self._round, (self._buffers.value(place), row_of(layout)))
            for place, layout in zip(outputs(item), output_layouts(item), strict=True)
        ]
        return [*calls, *rounds]

    def _call(self, item: Item) -> Call | None:
        match item:
            case Transfer():
                return self._transfer(item)
            case Embed():
                return self._embed(item)
            case RMSNorm():
                return self._rmsnorm(item)
            case Linear():
                return self._linear(item)
            case QKNorm():
                return self._qk_norm(item)
            case Rope():
                return self._rope(item)
            case Score():
                return self._score(item)
            case Softmax():
                return self._softmax(item)
            case WeightedSum():
                return self._weighted_sum(item)
            case FlashSum():
                return self._flash_sum(item)
            case SwiGLU():
                return self._elementwise(vectors.swiglu, item)
            case Add():
                return self._elementwise(vectors.add, item)
            case Sample():
                self._sample(item)
                return None

    def _inputs(self, item: Item) -> list[Floats]:
        return [self._buffers.value(place) for place in inputs(item)]

    def _transfer(self, item: Transfer) -> Call | None:
        if item.source_layout == item.target_layout:
            self._buffers.alias(item)
            return None
        (source,) = self._inputs(item)
        places = moved(item.source_layout, item.target_layout)
        return Plain(vectors.reslice, (source, row_of(item.source_layout), places, self._buffers.make(item)))

    def _embed(self, item: Embed) -> Call:
        table = self._packed[item.name]
        places = item.layout.indices().reshape(-1).copy()
        target = self._buffers.make(item)
        return Plain(tiles.embed, (self._bound.ids, table.values, table.scales, places, target))

    def _rmsnorm(self, item: RMSNorm) -> Call:
        if not self._program.software.form("RMSNorm", item.form).communicates:
            return self._folded_norm(item)
        merges = schedule(item.layout.used, item.reduce)
        (source,) = self._inputs(item)
        weight, stack = self._packed[item.name], np.zeros(merges.depth, np.float32)
        shape = (item.layout.width, item.layout.size, item.eps)
        order = (merges.order, merges.children, stack)
        return Plain(vectors.rmsnorm, (source, weight, *shape, *order, self._buffers.make(item)))

    def _folded_norm(self, item: RMSNorm) -> Call:
        """The sum of squares takes the way of the product's sums; the product's outputs are scaled."""
        products = (k for k in self._program.kernels_of(item.block) if isinstance(k, Linear))
        taking = next(k for k in products if k.source == item.target)
        merges = schedule(item.layout.used, taking.reduce)
        (source,) = self._inputs(item)
        scales = self._scales[item.block, item.target] = np.zeros(self._chunk, np.float32)
        weight, stack = self._packed[item.name], np.zeros(merges.depth, np.float32)
        shape, order = (item.layout.width, item.layout.size, item.eps), (merges.order, merges.children, stack)
        return Plain(vectors.folded_norm, (source, weight, *shape, *order, scales, self._buffers.make(item)))

    def _scaled(self, item: Item) -> list[Call]:
        """Of a product after a folded norm: each output times the norm's scale."""
        scales = self._scales.get((item.block, item.source)) if isinstance(item, Linear) else None
        if scales is None:
            return []
        return [
            Plain(vectors.scale_rows, (scales, row_of(layout), self._buffers.value(place)))
            for place, layout in zip(outputs(item), output_layouts(item), strict=True)
        ]

    def _linear(self, item: Linear) -> Call:
        merges = linear_schedule(item)
        packed = self._packed[item.name]
        (source,) = self._inputs(item)
        places = panel_places(item, packed.panels, self._chunk)
        weights = (packed.values, packed.scales, item.layout.width)
        starts = merges.first(panel_elements(item, packed.panels))
        decode = self._decode[item.name]
        assert isinstance(decode, Linear)
        stored = merges.stored(linear_schedule(decode))
        order = (merges.order, merges.children, stored, starts, places, self._workers, merges.depth)
        return Plain(tiles.linear, (source, *weights, *order, self._stack, self._scratch, self._buffers.make(item)))

    def _biases(self, item: Item) -> list[Call]:
        made = item.outputs if isinstance(item, Linear) else ()
        return [
            Plain(vectors.add_bias, (self._packed[item.name].biases[output.value], self._buffers.value(place)))
            for output, place in zip(made, outputs(item), strict=False)
            if output.bias is not None
        ]

    def _qk_norm(self, item: QKNorm) -> Call:
        merges = split_schedule(item.layouts[0].segment, item.reduce)
        order, stack = (merges.order, merges.children), np.zeros(merges.depth, np.float32)
        entries = map(merges.first, head_elements(item.layouts))
        sources, weights = self._inputs(item), self._packed[item.name]
        self._buffers.make(item)
        turns = tuple(
            (source, weight, *head_geometry(layout), layout.head_dim, eps, *order, own, stack, self._buffers.value(to))
            for source, weight, layout, eps, own, to in zip(
                sources, weights, item.layouts, item.eps, entries, outputs(item), strict=True
            )
        )
        return Plain(_each, (vectors.qk_norm, *turns))

    def _rope(self, item: Rope) -> Call:
        half = len(item.inv_freq)
        angles = self._bound.angles.setdefault(item.inv_freq, _angles(item.inv_freq, self._chunk))
        sources = self._inputs(item)
        self._buffers.make(item)
        turns = tuple(
            (source, pairs(layout), angles.cos, angles.sin, half, self._buffers.value(place))
            for source, layout, place in zip(sources, item.layouts, outputs(item), strict=True)
        )
        return Plain(_each, (vectors.rope, *turns))

    def _score(self, item: Score) -> Call:
        query, key = self._inputs(item)
        layout, merges = item.query_layout, split_schedule(item.query_layout.segment, item.reduce)
        places, decode = head_places(item.key_layout), self._decode[item.name]
        assert isinstance(decode, Score)
        visits = split_schedule(layout.segment, decode.reduce)
        self._bound.key_rows.append(len(places))
        row = row_of(layout)
        geometry = (head_starts(layout), layout.repeat, row, layout.width, layout.features)
        return ScoreCall(
            len(self._bound.key_rows) - 1,
            (key, row_of(item.key_layout), in_visits(places, item.key_layout, visits)),
            query,
            row,
            geometry,
            merges,
            merges.stored(visits),
            self._lines(item),
            layout.heads,
            np.float32(item.scale),
            self._stack,
            self._workers,
            layout.size,
            self._buffers.make_positions(item, layout.groups * layout.repeat),
        )

    def _softmax(self, item: Softmax) -> Call:
        lines = self._lines(item)
        merges, heads = split_schedule(lines.along, item.reduce), item.layout.groups * item.layout.repeat
        starts = merges.first(np.arange(heads) % item.layout.heads)
        source = self._buffers.positions(inputs(item)[0])
        sums = np.zeros(lines.along + merges.depth, np.float32)
        return SoftmaxCall(heads, lines, merges, starts, sums, source, self._buffers.make_positions(item, heads))

    def _lines(self, item: Score | Softmax | WeightedSum | FlashSum) -> CachedPositions:
        """Shared by all kernels of blocks that hold their positions alike."""
        along = self._program.block(item.block).along
        made = CachedPositions(item.cache, along, np.zeros(2 * along * self._chunk, np.int64))
        return self._bound.lines.setdefault((item.cache, along), made)

    def _weighted_sum(self, item: WeightedSum) -> Call:
        return WeightedSumCall(self._buffers.positions(inputs(item)[0]), self._sums(item, extra=0))

    def _flash_sum(self, item: FlashSum) -> Call:
        heads, along = item.layout.groups * item.layout.repeat, self._lines(item).along
        scratch = self._exponentials.setdefault(heads, Positions(self._chunk, heads, np.zeros(0, np.float32)))
        factors = np.zeros(self._chunk * heads * along, np.float32)
        scores = self._buffers.positions(inputs(item)[0])
        return FlashSumCall(scores, scratch, factors, self._sums(item, extra=1))

    def _sums(self, item: WeightedSum | FlashSum, extra: int) -> ValueSums:
        """The sums over the values; a line's entry has so many numbers more than a head."""
        lines, layout = self._lines(item), item.layout
        merges, heads = split_schedule(lines.along, item.reduce), layout.groups * layout.repeat
        value = self._buffers.value(inputs(item)[1])
        cached, places = head_places(item.value_layout), head_places(layout)
        self._bound.value_rows.append(len(cached))
        return ValueSums(
            len(self._bound.value_rows) - 1,
            (value, row_of(item.value_layout), cached),
            heads,
            layout.repeat,
            lines,
            row_of(layout),
            places,
            merges,
            merges.first(sum_elements(layout, places, extra)),
            aligned_zeros(self._workers * merges.depth * (len(places) // heads + extra)),
            self._workers,
            self._buffers.make(item),
        )

    def _elementwise(self, kernel: Callable[..., None], item: SwiGLU | Add) -> Call:
        return Plain(kernel, (*self._inputs(item), row_of(item.layout), self._buffers.make(item)))

    def _sample(self, item: Sample) -> None:
        (source,) = self._inputs(item)
        self._bound.logits = (source, row_of(item.layout), inverse(item.layout))


def _each(tokens: int, kernel: Callable[..., None], *turns: tuple[Any, ...]) -> None:
    for turn in turns:
        kernel(tokens, *turn)


def _angles(inv_freq: tuple[float, ...], chunk: int) -> Angles:
    size = chunk * len(inv_freq)
    return Angles(np.array(inv_freq), np.zeros(size, np.float32), np.zeros(size, np.float32))
