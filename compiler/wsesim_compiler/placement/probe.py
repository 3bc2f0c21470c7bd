"""What stages need on a block of a given size, asked many times by `place` and by a search."""

from __future__ import annotations

from collections import Counter

from wsesim.machine import Machine
from wsesim.machine.parts import dtype_bytes
from wsesim.program.kernels import Kernel
from wsesim.program.layout import Uniform, ceil_div
from wsesim.program.parts import EMBED, Block, BlockMemory
from wsesim_compiler.options import ByPhase, Options
from wsesim_compiler.partition import Partition, Stage
from wsesim_compiler.placement.memory import block_memory
from wsesim_compiler.placement.refuse import out_of_bytes
from wsesim_compiler.placement.stage_kernels import stage_kernels

Signature = tuple[tuple[object, ...], ...]


class Probe:
    """Memory by (stages, size), remembered; stages of one shape are worked out once."""

    def __init__(self, partition: Partition, machine: Machine, options: Options) -> None:
        self.partition = partition
        self.machine = machine
        self.options = options
        self.chunk = options.prefill_chunk or 1
        first, last = partition.stages[0], partition.stages[-1]
        self.embed: tuple[Stage, ...] = (first, last) if partition.tied else (first,)
        self.head: tuple[Stage, ...] = () if partition.tied else (last,)
        self.layer_groups = _groups(partition.layers, options)
        self._memory: dict[tuple[tuple[int, ...], tuple[int, int]], BlockMemory] = {}
        numbers: dict[Signature, int] = {}
        parts = (part for stage in partition.stages for part in (stage, *stage.halves))
        self._signatures = {s.name: numbers.setdefault(_signature(s), len(numbers)) for s in parts}
        counts = Counter(map(self.kind, self.layer_groups))
        first_of = {self.kind(group): group for group in reversed(self.layer_groups)}
        self.layer_kinds = tuple((first_of[key], count) for key, count in counts.items())
        each = [(self._linear_bytes(group), count) for group, count in self.layer_kinds]
        self._least_bytes = max(size for size, _ in each)
        self.layers_bytes = sum(size * count for size, count in each)
        """Bytes of the matrices of all layers, without padding."""

    def memory(self, stages: tuple[Stage, ...], size: tuple[int, int]) -> BlockMemory:
        """Bytes of the fullest PE; stages that take turns share the buffers, and a tied table."""
        key = (self.kind(stages), size)
        if key not in self._memory:
            self._memory[key] = self._work_out(stages, size)
        return self._memory[key]

    def fits(self, stages: tuple[Stage, ...], size: tuple[int, int]) -> bool:
        return self.memory(stages, size).total_bytes <= self.machine.room_bytes

    def fits_layers(self, size: tuple[int, int]) -> bool:
        """Whether a block of this size holds any of the groups of layers; the weights spread evenly are tried first."""
        if self._least_bytes > size[0] * size[1] * self.machine.room_bytes:
            return False
        return all(self.fits(group, size) for group, _ in self.layer_kinds)

    def _linear_bytes(self, stages: tuple[Stage, ...]) -> int:
        """Bytes of the matrices of some layers, without padding."""
        widths, elements = self.partition.widths, 0
        for stage in stages:
            linears = (n for fused in stage.fused for n in fused.nodes if n.op == "linear")
            own = {(n.inputs[1], n.attributes): widths[n.inputs[0]] * widths[n.name] for n in linears}
            elements += sum(own.values())
        return elements * dtype_bytes(self.options.timing_dtype)

    def lowest(self, stages: tuple[Stage, ...], columns: int, limit: int) -> int:
        """The lowest block of so many columns that holds the stages; 0 if not even one of `limit` rows does."""
        if min(columns, limit) < 1 or not self.fits(stages, (columns, limit)):
            return 0
        low, high = 1, limit
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self.fits(stages, (columns, middle)) else (middle + 1, high)
        return low

    def used_rows(self, rows: int) -> int:
        """Rows that hold a part of the residual stream when it is split over `rows`: more would idle."""
        return Uniform(self.partition.widths[self.partition.stages[0].target], rows).used

    def out_of_bytes(self, stages: tuple[Stage, ...], size: tuple[int, int]) -> str:
        """What a block for these stages lacks at this size."""
        block = Block(block_name(stages), 0, 0, *size, "rows")
        kernels = tuple(k for s in stages for k in self._kernels(s, block))
        return out_of_bytes(self.machine, self.options, block, kernels, self.memory(stages, size))

    def kind(self, stages: tuple[Stage, ...]) -> tuple[int, ...]:
        """Equal for stages with equal operators and shapes."""
        return tuple(self._signatures[s.name] for s in stages)

    def _work_out(self, stages: tuple[Stage, ...], size: tuple[int, int]) -> BlockMemory:
        block = _block(size)
        if stages == self.embed or stages == self.head:
            kernels = tuple(k for s in stages for k in self._kernels(s, block))
            return block_memory(block, kernels, self.options, self.chunk)
        once: dict[int, BlockMemory] = {}
        for stage in stages:
            if self._signatures[stage.name] not in once:
                memory = block_memory(block, self._kernels(stage, block), self.options, self.chunk)
                once[self._signatures[stage.name]] = memory
        each = [once[self._signatures[s.name]] for s in stages]
        return BlockMemory(
            block.name,
            sum(m.weight_bytes for m in each),
            sum(m.kv_bytes for m in each),
            max(m.buffer_bytes for m in each),
        )

    def _kernels(self, stage: Stage, block: Block) -> tuple[Kernel, ...]:
        """Bytes do not depend on which collective is chosen."""
        asked = ByPhase(self.options.collective, self.options.collective)
        return stage_kernels(self.partition, stage, block, self.options, lambda name: asked)


def block_name(stages: tuple[Stage, ...]) -> str:
    """Name of the block that holds these stages."""
    if len(stages) == 1:
        return stages[0].name
    return "table" if stages[0].kind == EMBED else f"{stages[0].name}_{stages[-1].layer}"


def _block(size: tuple[int, int]) -> Block:
    return Block("probe", 0, 0, *size, "rows")


def _groups(layers: tuple[Stage, ...], options: Options) -> tuple[tuple[Stage, ...], ...]:
    """Layers that share a block."""
    each = options.layers_of_a_block(len(layers))
    return tuple(layers[i * each : (i + 1) * each] for i in range(ceil_div(len(layers), each)))


def _signature(stage: Stage) -> Signature:
    """What decides a stage's bytes and cycles: its operators, operands, shapes and attributes, not its names."""
    return tuple((f.role, tuple((n.op, len(n.inputs), n.type, n.attributes) for n in f.nodes)) for f in stage.fused)
