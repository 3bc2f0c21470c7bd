"""Prices of stages on blocks and of the ways between them, each worked out once.

A layer costs its operations, its collectives and its changes of routes, one after the other (`placement/price.py`). The
tables' stages are simulated on an idle wafer. A transfer costs its longest way (`ways.py`).
`tests/test_search_prices.py` compares whole placements with the engine.
"""

from __future__ import annotations

import copy
import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from wsesim.machine import Machine
from wsesim.program.collectives import COLLECTIVES, STREAMED
from wsesim.program.kernels import DECODE, PREFILL, Kernel
from wsesim.program.layout import Uniform
from wsesim.program.parts import EMBED, HEAD, Block
from wsesim.program.protocols import LineUse, StageOracle
from wsesim.program.written import form_of
from wsesim.software import Form, Software
from wsesim_compiler.options import AUTO, EXPLICIT, SOFTMAXES, ByPhase, Options, PlacedBlock
from wsesim_compiler.partition import Partition, Stage
from wsesim_compiler.placement.form_choice import choose_forms
from wsesim_compiler.placement.memory import most_scratch_bytes
from wsesim_compiler.placement.placement import Placement
from wsesim_compiler.placement.price import REDUCE, bill, line_use
from wsesim_compiler.placement.probe import Probe
from wsesim_compiler.placement.stage_kernels import stage_kernels
from wsesim_compiler.search.plans import ROWS, turned
from wsesim_compiler.search.ways import send_cycles, way_cycles

Size = tuple[int, int]
"""(columns, rows)."""
Stages = tuple[Stage, ...]
SHORT = 40  # PEs of a line; on longer ones REDUCE is the fastest, but for a few cycles
SHORT_TRIED = tuple(name for name in COLLECTIVES if name.startswith(STREAMED))  # stored ones are slower


@dataclass(frozen=True, slots=True)
class PassPrice:
    """One pass through all blocks: its cycles, and those for which it holds the busiest block."""

    cycles: int
    busiest_cycles: int


class Prices:
    """Cycles of a pass, by stages and shape of a block: of a decode step over `context` tokens, or of a prompt's chunk.

    `phase` is DECODE or PREFILL. A chunk has `chunk` tokens. `context` counts the new tokens. A layer is the sum of its
    parts, or `simulated` on its block, which takes four times as long and is more exact.
    """

    def __init__(
        self,
        partition: Partition,
        machine: Machine,
        options: Options,
        cost: StageOracle,
        context: int,
        *,
        phase: str = DECODE,
        chunk: int = 1,
        simulated: bool = False,
    ) -> None:
        self._pinned = options.collective != AUTO
        collective = options.collective if self._pinned else REDUCE
        self.partition = partition
        self.machine = machine
        self.options = dataclasses.replace(
            options, strategy=EXPLICIT, layers_per_block=1, block=None, collective=collective
        )
        self.context, self.phase, self.chunk, self.simulated = context, phase, chunk, simulated
        self.probe = Probe(partition, machine, dataclasses.replace(self.options, strategy="pipelined"))
        self._stage = {s.name: s for whole in partition.stages for s in (whole, *whole.halves)}
        self._cost, self._remembered = cost, _Remembered(cost)
        self._blocks: dict[tuple[tuple[int, ...], Size], int | None] = {}
        self._roomy: dict[tuple[tuple[int, ...], Size], int] = {}
        self._scratch: dict[tuple[tuple[int, ...], Size], int] = {}
        self._moves: dict[tuple[object, ...], int] = {}
        self._family = {options.sequences: self}
        self._width = partition.widths[partition.stages[0].target]

    def with_sequences(self, sequences: int) -> Prices:
        """The prices for another number of sequences. Both remember together what does not depend on it."""
        if sequences not in self._family:
            other = copy.copy(self)
            other.options = dataclasses.replace(self.options, sequences=sequences)
            other.probe = Probe(self.partition, self.machine, dataclasses.replace(other.options, strategy="pipelined"))
            other._blocks = {}
            self._family[sequences] = other
        return self._family[sequences]

    @property
    def asked(self) -> int:
        """Pairs of stages and shape that were priced so far."""
        return len(self._blocks)

    def block_cycles(self, stages: Stages, size: Size) -> int | None:
        """Cycles of these stages, one after the other, on a block of this size; None if they do not fit."""
        key = (self.probe.kind(stages), size)
        if key not in self._blocks:
            fits = bool(self._block(size)) and self.probe.fits(stages, size)
            self._blocks[key] = self._priced(stages, size) if fits else None
        return self._blocks[key]

    def _block(self, size: Size) -> Block | None:
        """A block of this size on the wafer, or its mirror image; None if neither is inside."""
        usable = self.machine.usable
        block = Block("block", usable.x, usable.y, *size, "rows")
        turned = Block("block", usable.x, usable.y, size[1], size[0], "columns")
        inside = (own for own in (block, turned) if min(size) > 0 and usable.contains(own.rect))
        return next(inside, None)

    def form_cycles(self, form: Form, sizes: Mapping[str, int], outputs: tuple[int, ...]) -> int:
        """A form's operations on one PE."""
        options = self.options
        return self._remembered.form_cycles(self.machine, options.software, form, sizes, outputs, options.timing_dtype)

    def move_cycles(self, source: Block, target: Block, stages: Stages) -> int:
        """Cycles of the residual stream's transfer between two blocks, without waiting, to the first of `stages`."""
        away = target.x - source.x, target.y - source.y
        used = self._used_columns(stages[0], target)
        key = (*away, *_shape(source), *_shape(target), used)
        if key not in self._moves:
            self._moves[key] = way_cycles(self.machine, self.options.timing_dtype, source, target, self._width, used)
        return self._moves[key]

    def _used_columns(self, stage: Stage, block: Block) -> int:
        """Columns of a block that have a share of the stage's first product."""
        source = next((f.nodes for f in stage.fused if f.nodes[0].op in ("linear", "head")), ())
        widths = [self.partition.widths[node.name] for node in source]
        return max((Uniform(width, block.columns).used for width in widths), default=0)

    def pass_price(self, blocks: Sequence[PlacedBlock]) -> PassPrice | None:
        """A pass through placed blocks, which are all split over the same axis; None if one does not fit.

        Blocks that are split over columns take as long as their mirror images.
        """
        blocks = blocks if blocks[0].block.axis == ROWS else turned(blocks)
        held: defaultdict[str, int] = defaultdict(int)
        total = 0
        visits = [(placed.block, self._stages_of(placed)) for placed in _visited(blocks)]
        for block, stages in visits:
            own = self.block_cycles(stages, (block.columns, block.rows))
            if own is None:
                return None
            held[block.name] += own
            total += own
        for (source, _), (target, stages) in pairwise(visits):
            moved = self.move_cycles(source, target, stages)
            held[source.name] += send_cycles(self.machine)
            held[target.name] += moved
            total += moved
        return PassPrice(total + self._back_cycles(visits[-1][0], visits[0][0]), max(held.values()))

    def most_sequences(self, blocks: Sequence[PlacedBlock]) -> int:
        """Of how many sequences the blocks hold the KV cache, if they hold that of the options' sequences."""
        most = []
        for placed in blocks:
            stages, block = self._stages_of(placed), placed.block
            memory = self.probe.memory(stages, (block.across, block.along))
            free = self.machine.room_bytes - memory.total_bytes + memory.kv_bytes
            most += [free * self.options.sequences // memory.kv_bytes] if memory.kv_bytes else []
        return min(most, default=self.options.sequences)

    def _summed(self, kernel: Kernel, block: Block) -> Kernel:
        """The kernel with the fastest collective."""
        summed = kernel.collective(kernel.cache.positions(self.context, block.along) if kernel.cache else 0)
        use = line_use(kernel, block, summed.elements, self.options.timing_dtype) if summed else None
        return kernel if use is None else kernel.summed(self._fastest(use)[1])

    def collective_cycles(self, use: LineUse) -> int:
        """Cycles of the options' collective, or of the fastest one."""
        return self._fastest(use)[0]

    def _fastest(self, use: LineUse) -> tuple[int, str]:
        """The options' collective, else the fastest on a short line, and REDUCE on a long one: cycles and name."""
        short = use.used <= SHORT and not self._pinned
        tried = SHORT_TRIED if short else (self.options.collective,)
        software = self.options.software
        return min((self._remembered.collective_cycles(self.machine, software, use, name), name) for name in tried)

    def _stages_of(self, placed: PlacedBlock) -> Stages:
        return tuple(self._stage[name] for name in placed.stages)

    def _back_cycles(self, source: Block, target: Block) -> int:
        """The id's way from the middle of the head's block to the nearest PE of the embedding's, about."""
        start, end = source.rect, target.rect
        x, y = start.x + start.columns // 2, start.y + start.rows // 2
        east = max(end.x - x, x - end.x - end.columns + 1, 0)
        south = max(end.y - y, y - end.y - end.rows + 1, 0)
        fabric = self.machine.fabric
        return (east + south) * fabric.hop_cycles + fabric.ramp_send_cycles + fabric.ramp_receive_cycles

    def _priced(self, stages: Stages, size: Size) -> int:
        """Stages on one block do not change each other's price, unless forms are given up for their scratch."""
        alike = {self.probe.kind((stage,)): stage for stage in reversed(stages)}
        used = self.probe.memory(stages, size).total_bytes
        if used + max(self._scratch_bytes(stage, size) for stage in alike.values()) <= self.machine.room_bytes:
            each = {kind: self._roomy_cycles(stage, size) for kind, stage in alike.items()}
        else:
            placement = choose_forms(self._placement(stages, size), self._remembered)
            each = {kind: self._stage_cycles(stage, placement) for kind, stage in alike.items()}
        return sum(each[self.probe.kind((stage,))] for stage in stages)

    def _roomy_cycles(self, stage: Stage, size: Size) -> int:
        """Cycles of a stage on a block that has room for the scratch of every form."""
        key = (self.probe.kind((stage,)), size)
        if key not in self._roomy:
            placement = choose_forms(self._placement((stage,), size), self._remembered, prompts=self.phase == PREFILL)
            self._roomy[key] = self._stage_cycles(stage, placement)
        return self._roomy[key]

    def _scratch_bytes(self, stage: Stage, size: Size) -> int:
        """The most scratch that any form of the stage's kernels needs on a PE."""
        key = (self.probe.kind((stage,)), size)
        if key not in self._scratch:
            alone = self._placement((stage,), size)
            placed = alone.blocks[0]
            self._scratch[key] = most_scratch_bytes(
                alone.kernels_on(placed), placed.block, self.options, alone.prefill_chunk
            )
        return self._scratch[key]

    def _placement(self, stages: Stages, size: Size) -> Placement:
        """These stages alone, on a block of this size."""
        block = self._block(size)
        assert block is not None, "only blocks inside the wafer are priced"
        placed = PlacedBlock(block, tuple(s.name for s in stages))
        split = self.partition.cut({stage.name for stage in stages})
        options = self.options
        if options.forms:
            own = {name for stage in stages for name in self._kernel_names(stage)}
            options = dataclasses.replace(options, forms=tuple(pin for pin in options.forms if pin[0] in own))
        return Placement(split, self.machine, options, (placed,))

    def _kernel_names(self, stage: Stage) -> set[str]:
        """Names and roles of all kernels that the stage may have: with either softmax."""
        block = Block("block", 0, 0, 1, 1, "rows")
        asked = ByPhase(REDUCE, REDUCE)
        ways = (dataclasses.replace(self.options, softmax=softmax) for softmax in SOFTMAXES)
        kernels = [k for way in ways for k in stage_kernels(self.partition, stage, block, way, lambda name: asked)]
        return {k.name for k in kernels} | {k.role for k in kernels}

    def _stage_cycles(self, stage: Stage, placement: Placement) -> int:
        """Cycles of a stage whose forms are chosen."""
        machine, options, block = self.machine, self.options, placement.blocks[0].block
        kernels = placement.kernels_of(stage)
        if self.simulated or stage.kind in (EMBED, HEAD):
            own = tuple(self._summed(k.in_phase(self.phase), block) for k in kernels)
            return self._cost.stage_cycles(machine, options.software, block, own, self.context, options.timing_dtype)
        found = bill(kernels, block, placement, self._remembered, self.phase, self.chunk, self.context)
        collectives = sum(count * self.collective_cycles(use) for use, count in found.uses.items())
        changes = route_changes(kernels, options.software, self.phase) * options.software.change_cycles(machine)
        return found.own_cycles + collectives + changes


def _shape(block: Block) -> tuple[object, ...]:
    """All that a way depends on but the block's place."""
    if not (block.left_out_columns or block.left_out_rows):
        return block.columns, block.rows
    here = block.moved(0, 0)
    return here.columns, here.rows, here.left_out_columns, here.left_out_rows


def route_changes(kernels: Iterable[Kernel], software: Software, phase: str) -> int:
    """Changes between the kinds of lines that collectives go along, in a round through the kernels."""
    return changes_between(k.lines for k in kernels if k.lines and form_of(k.in_phase(phase), software).communicates)


def changes_between(kinds: Iterable[str]) -> int:
    """How often neighbours differ, in a round."""
    around = list(kinds)
    return sum(a != b for a, b in pairwise([*around, *around[:1]]))


def _visited(blocks: Sequence[PlacedBlock]) -> list[PlacedBlock]:
    """The blocks in the order of a token's way. That of a tied table is visited first, and for the head again."""
    first = blocks[0]
    if len(first.stages) == 1:
        return list(blocks)
    embed, head = first.stages
    ends = (PlacedBlock(first.block, (stage,)) for stage in (embed, head))
    return [next(ends), *blocks[1:], next(ends)]


class _Remembered:
    """An oracle for one machine and one software, which is asked for each cost once."""

    def __init__(self, cost: StageOracle) -> None:
        self._cost = cost
        self._collectives: dict[tuple[LineUse, str], int] = {}
        self._forms: dict[tuple[object, ...], int] = {}

    def collective_cycles(self, machine: Machine, software: Software, use: LineUse, collective: str) -> int:
        key = (use, collective)
        if key not in self._collectives:
            self._collectives[key] = self._cost.collective_cycles(machine, software, use, collective)
        return self._collectives[key]

    def form_cycles(
        self,
        machine: Machine,
        software: Software,
        form: Form,
        sizes: Mapping[str, int],
        outputs: tuple[int, ...],
        dtype: str,
    ) -> int:
        key = (form.kind, form.name, tuple(sizes.items()), outputs)
        if key not in self._forms:
            self._forms[key] = self._cost.form_cycles(machine, software, form, sizes, outputs, dtype)
        return self._forms[key]
