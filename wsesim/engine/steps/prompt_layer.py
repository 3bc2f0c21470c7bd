"""Cycles of one layer of a prompt on a square block, each kernel from an idle block on.

All PEs of the block are taken to begin each kernel together, though some are ready earlier. So the sum is a little more
than the cycles of all kernels in one graph. The difference is the skew that AllReduces leave, at most a line's length
in hops each; the tests hold both bounds. Each kernel by itself is exact, since `loop` and `mesh` are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from wsesim.engine.exact.loop import LoopRun, loop
from wsesim.engine.exact.mesh import loop_folded
from wsesim.engine.expand.canvas import Canvas, PELines
from wsesim.engine.expand.gemm import Tiles, align_round, gemm_step, summa_step, tiles_of, transposed_step
from wsesim.engine.expand.prompt_costs import expand_token_kernel
from wsesim.engine.expand.segment import local_machine
from wsesim.engine.graph.taskgraph import EAST, NORTH, SOUTH, WEST, TaskGraph
from wsesim.engine.graph.verify import verify
from wsesim.errors import InvalidInputError
from wsesim.machine import Machine, Rect
from wsesim.program.gemm import ring
from wsesim.program.layout import ceil_div
from wsesim.program.parts import Block
from wsesim.program.prompt_kernels import Align, Gemm, PromptKernel
from wsesim.software import WSESIM, Software

LARGEST_SUMMA = 96  # side; its tasks grow with the cube


@dataclass(frozen=True, slots=True)
class KernelRun:
    """One kernel on a whole block: its cycles, its messages, its runs, and how many of them were simulated."""

    name: str
    cycles: int
    messages: int
    runs: int
    simulated: int
    period: int


@dataclass(frozen=True, slots=True)
class PromptRun:
    """One layer of a prompt."""

    kernels: tuple[KernelRun, ...]

    @property
    def cycles(self) -> int:
        return sum(kernel.cycles for kernel in self.kernels)

    @property
    def messages(self) -> int:
        return sum(kernel.messages for kernel in self.kernels)


def prompt_layer_cycles(
    machine: Machine, block: Block, kernels: Iterable[PromptKernel], software: Software = WSESIM
) -> int:
    """Cycles of a prompt's kernels, in fp16. Raises as `prompt_layer` does."""
    return prompt_layer(machine, block, kernels, software).cycles


def prompt_layer(
    machine: Machine, block: Block, kernels: Iterable[PromptKernel], software: Software = WSESIM
) -> PromptRun:
    """Every kernel on the square `block`, in fp16.

    Raises InvalidInputError for SUMMA on a block of more than LARGEST_SUMMA x LARGEST_SUMMA PEs.
    """
    assert block.rows == block.columns, "prefill_kernels refuses other blocks"
    local = local_machine(machine, block.rect)
    runs = []
    for kernel in kernels:
        run = _run(local, software, block.rows, _nameless(kernel, by_row=bool(local.slow)))
        runs.append(dataclasses.replace(run, name=kernel.name))
    return PromptRun(tuple(runs))


def _nameless(kernel: PromptKernel, *, by_row: bool) -> PromptKernel:
    """The kernel without names. On equal PEs an alignment costs the same along rows and columns."""
    texts = {f.name for f in dataclasses.fields(kernel) if f.type == "str"} - {"algorithm", "reduce"}
    blank: dict[str, object] = dict.fromkeys(texts, "")
    nameless = dataclasses.replace(kernel, **blank)  # type: ignore[arg-type]
    if isinstance(nameless, Align) and not by_row:
        return dataclasses.replace(nameless, across=True)
    return nameless


@lru_cache(maxsize=256)
def _run(machine: Machine, software: Software, side: int, kernel: PromptKernel) -> KernelRun:
    if isinstance(kernel, Align):
        return _align(machine, software, side, kernel)
    if isinstance(kernel, Gemm):
        return (
            _summa(machine, software, side, kernel)
            if kernel.algorithm == "summa"
            else _ring_product(machine, software, side, kernel)
        )
    lines = side if machine.slow else 1  # rows of equal PEs do the same and do not meet
    canvas = Canvas(Rect(0, 0, side, lines), machine, "fp16", software=software)
    expand_token_kernel(canvas, kernel, _rows(lines, side))
    graph = _built(canvas)
    return _kernel_run(graph, loop(graph, 1, machine.fabric), side)


def _align(machine: Machine, software: Software, side: int, kernel: Align) -> KernelRun:
    of, tile = ring(side, kernel.algorithm), ceil_div(kernel.rows, side) * ceil_div(kernel.columns, side)
    forward = of.skew > 0 if machine.slow else np.array([True, False])
    lines = forward.size
    window = Rect(0, 0, side, lines) if kernel.across else Rect(0, 0, lines, side)
    canvas = Canvas(window, machine, "fp16", software=software)
    rows = _rows(lines, side) if kernel.across else _columns(lines, side)
    align_round(canvas, rows, of, forward, tile, kernel.name)
    graph = _built(canvas)
    return _kernel_run(graph, loop(graph, of.rounds, machine.fabric), side)


def _ring_product(machine: Machine, software: Software, side: int, kernel: Gemm) -> KernelRun:
    tiles = tiles_of(kernel.rows, kernel.inner, kernel.columns, side)

    def body(size: int) -> TaskGraph:
        canvas = Canvas(Rect(0, 0, size, size), machine, "fp16", software=software)
        step = transposed_step if kernel.transposed else gemm_step
        step(canvas, _rows(size, size), ring(size, kernel.algorithm), tiles, kernel.name)
        return _built(canvas)

    if kernel.algorithm == "meshgemm" and not machine.slow:
        return _kernel_run(body(min(side, 2)), loop_folded(body, side, side, machine.fabric), side)
    graph = body(side)
    return _kernel_run(graph, loop(graph, side, machine.fabric), side)


def _summa(machine: Machine, software: Software, side: int, kernel: Gemm) -> KernelRun:
    """All steps in one graph, since no two of them are equal."""
    if side > LARGEST_SUMMA:
        raise InvalidInputError(
            f"SUMMA on {side} x {side} PEs: its steps differ and are written out, on at most "
            f"{LARGEST_SUMMA} x {LARGEST_SUMMA}; meshgemm has no such limit"
        )
    tiles: Tiles = tiles_of(kernel.rows, kernel.inner, kernel.columns, side)
    canvas = Canvas(Rect(0, 0, side, side), machine, "fp16", software=software)
    for step in range(side):
        summa_step(canvas, _rows(side, side), step, tiles, kernel.name)
    graph = _built(canvas)
    return _kernel_run(graph, loop(graph, 1, machine.fabric), side)


def _kernel_run(body: TaskGraph, run: LoopRun, side: int) -> KernelRun:
    """The run on the whole block, which has as many messages per PE as the body."""
    messages = body.message_count * side * side // body.pes * run.runs
    return KernelRun("", run.end_cycles, messages, run.runs, run.simulated, run.period)


def _rows(lines: int, length: int) -> PELines:
    return PELines(np.arange(lines * length).reshape(lines, length), EAST, WEST, "rows")


def _columns(lines: int, length: int) -> PELines:
    return PELines(np.arange(lines * length).reshape(length, lines).T, SOUTH, NORTH, "columns")


def _built(canvas: Canvas) -> TaskGraph:
    graph = canvas.builder.build()
    verify(graph)
    return graph
