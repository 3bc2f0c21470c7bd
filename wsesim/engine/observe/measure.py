"""Small measurements of a machine, as they are taken on silicon. Each simulates a TaskGraph of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from wsesim.engine.exact.loop import loop
from wsesim.engine.exact.wafer import EffectCache, SegmentRun, Wafer
from wsesim.engine.expand.canvas import Canvas, PELines
from wsesim.engine.expand.collective import adding, all_reduce, broadcast, reduce
from wsesim.engine.expand.gemm import Tiles, multiply, repeated_gemm
from wsesim.engine.expand.kernel_costs import routes_of
from wsesim.engine.expand.stage import expand_kernels
from wsesim.engine.flow.simulate import simulate
from wsesim.engine.graph.builder import GraphBuilder
from wsesim.engine.graph.taskgraph import EAST, REROUTE, SOUTH, WEST, Operation, TaskGraph
from wsesim.engine.graph.verify import verify
from wsesim.errors import InvalidInputError
from wsesim.machine import Machine, Rect
from wsesim.program.gemm import ring
from wsesim.program.kernels import ALONG, Kernel
from wsesim.program.parts import Block, wrongly_left_out
from wsesim.program.protocols import LineUse
from wsesim.software import WSESIM, Software

WARMUP, REPEATS = 1, 5  # of a product, as the published benchmark


def op_cycles(machine: Machine, op: str, elements: int, repeats: int = 1, dtype: str = "fp16") -> int:
    """One vector operation on one PE, from its launch to its end."""
    canvas = Canvas(Rect(0, 0, 1, 1), machine, dtype)
    canvas.compute(np.array([0]), op, op, elements, repeats)
    return _end(canvas.builder.build(), machine)


def one_way_cycles(machine: Machine, hops: int, wavelets: int = 1) -> int:
    """A copy into the fabric on one PE to the end of a copy out of it on another, `hops` away in a straight line."""
    canvas = Canvas(Rect(0, 0, hops + 1, 1), machine, "fp32")
    sent = canvas.send(np.array([0]), "send", wavelets)
    received = canvas.receive(np.array([hops]), "receive", wavelets, machine.op("copy").launch)
    canvas.builder.drops(canvas.builder.messages(sent, EAST, hops, wavelets), hops, received)
    return _end(canvas.builder.build(), machine)


def send_to_receive_cycles(machine: Machine, hops: int, wavelets: int, turn: bool = False) -> int:
    """From a send's dispatch to the receiver's completion; with `turn` the last hop goes round a corner."""
    rows = 2 if turn else 1
    builder = GraphBuilder(hops + 1, rows)
    sent = builder.tasks(np.array([0]), "send", 0, 0, streams=True)
    straight = hops - 1 if turn else hops
    received = builder.tasks(np.array([(hops + 1) * (rows - 1) + straight]), "receive", 0, 0)
    message = builder.messages(sent, EAST, straight, wavelets, SOUTH if turn else None, int(turn))
    builder.drops(message, hops, received)
    return _end(builder.build(), machine)


def relay_cycles(machine: Machine, stages: int, wavelets: int) -> int:
    """A chain of store-and-forward stages: each PE receives all, adds, and sends on."""
    canvas = Canvas(Rect(0, 0, stages + 1, 1), machine, "fp32")
    relay = Operation("relay", "relay", wavelets, 1, "fp32", collective=True)
    tasks = [canvas.send(np.array([0]), "send", wavelets)]
    for pe in range(1, stages + 1):
        tasks.append(canvas.task(np.array([pe]), relay, machine.activate_cycles, streams=True))
        canvas.builder.drops(canvas.builder.messages(tasks[-2], EAST, 1, wavelets), 1, tasks[-1])
    end = _end(canvas.builder.build(), machine)
    return end - relay.work_cycles(machine)  # the last sum is there when its last wavelet is


def line_cycles(machine: Machine, use: LineUse, collective: str, software: Software = WSESIM) -> int:
    """A sum over one line of PEs, all of them ready at cycle 0, its routes in place."""
    canvas, line = _line(machine, use.length, use.dtype, software)
    if use.everybody:
        all_reduce(canvas, line, use.used, use.elements, collective, "sum")
    else:
        reduce(canvas, line, use.used, adding(use.elements), collective, "sum")
    graph = canvas.builder.build()
    return _end(graph, machine) if graph.task_count else 0


def broadcast_cycles(machine: Machine, length: int, elements: int, dtype: str = "fp16") -> int:
    """From the first PE of a line to all others, which are set up for it."""
    canvas, line = _line(machine, length, dtype)
    broadcast(canvas, line, 0, elements, "broadcast", streamed=True)
    return _end(canvas.builder.build(), machine)


def _line(machine: Machine, length: int, dtype: str, software: Software = WSESIM) -> tuple[Canvas, PELines]:
    block = Block("line", 0, 0, 1, length, "rows")
    canvas = Canvas(block.rect, machine, dtype, software=software)
    return canvas, canvas.lines(block, ALONG, 1)


def kernel_cycles(
    machine: Machine,
    block: Block,
    kernels: Sequence[Kernel],
    context: int,
    *,
    routed: bool = False,
    tokens: int = 1,
    candidates: int = 1,
    software: Software = WSESIM,
    dtype: str = "fp16",
) -> int:
    """Kernels one after the other on an idle block; the routes are those that the last one left behind.

    `routed`: the first collective's routes are in place instead. `context` counts the new token,
    of which `tokens` go through together; a Sample keeps `candidates`. Raises
    InvalidInputError for kernels, a block or a context that cannot be run.
    """
    _check_kernels(machine, block, kernels, context)
    left = [routes for kernel in kernels if (routes := routes_of(kernel, software))]
    routes = "" if routed or not left else left[-1]
    segment = expand_kernels(
        machine,
        block,
        tuple(kernels),
        context,
        routes=routes,
        tokens=tokens,
        candidates=candidates,
        software=software,
        dtype=dtype,
    )
    return Wafer(machine, EffectCache(keep_timelines=False)).run(segment).end


def phase_cycles(
    machine: Machine,
    block: Block,
    kernels: Sequence[Kernel],
    context: int,
    *,
    tokens: int = 1,
    software: Software = WSESIM,
) -> dict[str, int]:
    """Cycles of each kernel, by its name, in a layer that follows one like itself.

    As timestamps on the block's first line would have it: from the moment when its last PE has done with the kernel
    before to the moment when it has done with this one. The change of routes that a kernel needs stands apart, as
    `name.routes`. They all sum to the distance of two layers. Raises as `kernel_cycles` does.
    """
    _check_kernels(machine, block, kernels, context)
    twice = (*kernels, *(dataclasses.replace(k, name=f"{k.name}/2") for k in kernels))
    left = [routes for kernel in kernels if (routes := routes_of(kernel, software))]
    segment = expand_kernels(
        machine, block, twice, context, routes=left[-1] if left else "", tokens=tokens, software=software
    )
    run = Wafer(machine, EffectCache()).run(segment)
    ends = _ends_on_first_line(run, block)
    stamps = [ends[kernels[-1].name], *(ends[f"{k.name}/2"] for k in kernels)]
    rerouted = {label for piece in run.effect.pieces for label in _rerouted(piece.graph)}
    cycles: dict[str, int] = {}
    for kernel, start, stop in zip(kernels, stamps, stamps[1:], strict=False):
        change = software.change_cycles(machine) if f"{kernel.name}/2" in rerouted else 0
        cycles |= {kernel.name: stop - start - change, f"{kernel.name}.routes": change}
    return cycles


def tile_product_cycles(machine: Machine, tiles: Tiles, software: Software = WSESIM) -> int:
    """One PE's product of two tiles: a loop over the inner dimension, a map over columns, vectors of rows."""
    canvas = Canvas(Rect(0, 0, 1, 1), machine, "fp16", software=software)
    multiply(canvas, PELines(np.zeros((1, 1), np.int64), EAST, WEST, "rows"), tiles, "product")
    return loop(canvas.builder.build(), 1, machine.fabric).end_cycles


def meshgemm_cycles(
    machine: Machine,
    side: int,
    tiles: Tiles,
    *,
    exchange: bool = True,
    loops: int = 1,
    software: Software = WSESIM,
) -> float:
    """Cycles of one MeshGEMM on side x side PEs: the mean over the PEs, of five repetitions after one.

    Without `exchange` no tile moves in the steps; `loops` times each product.
    """
    canvas = Canvas(Rect(0, 0, side, side), machine, "fp16", software=software)
    rows = PELines(np.arange(side * side).reshape(side, side), EAST, WEST, "rows")
    repeated_gemm(canvas, rows, ring(side, "meshgemm"), tiles, "meshgemm", exchange=exchange, loops=loops)
    graph = canvas.builder.build()
    verify(graph)
    first, last = (loop(graph, runs, machine.fabric).state.pe_free for runs in (WARMUP, WARMUP + REPEATS))
    return float((last - first).mean()) / REPEATS


def _check_kernels(machine: Machine, block: Block, kernels: Sequence[Kernel], context: int) -> None:
    names = [kernel.name for kernel in kernels]
    if not names or len(set(names)) < len(names):
        raise InvalidInputError(f"kernels {', '.join(names) or 'are missing'}: at least one is needed, each name once")
    if elsewhere := [kernel.name for kernel in kernels if kernel.block != block.name]:
        raise InvalidInputError(f"{elsewhere[0]} does not run on block {block.name}")
    if context < 1:
        raise InvalidInputError(f"context is {context}; with the new token it is at least 1")
    if not machine.usable.contains(block.rect):
        raise InvalidInputError(f"block {block.rect} lies outside the usable {machine.usable} of {machine.name}")
    if wrong := wrongly_left_out(block):
        raise InvalidInputError(f"block {block.name} ({block.rect}) {wrong}")


def _rerouted(graph: TaskGraph) -> set[str]:
    return {operation.label for operation in graph.operations if operation.op == REROUTE}


def _ends_on_first_line(run: SegmentRun, block: Block) -> dict[str, int]:
    """Last end of each label's tasks on the first line across."""
    ends: dict[str, int] = {}
    for piece in run.effect.pieces:
        assert piece.timeline is not None
        row, column = np.divmod(piece.members[:, piece.graph.pe], block.rect.columns)
        there = (row if block.axis == "rows" else column) == 0
        times = np.where(there, piece.timeline.task_end[None, :] + piece.bases[:, None], -1).max(axis=0)
        kernel = piece.graph.task_labels()
        for number, label in enumerate(piece.graph.labels):
            own = times[kernel == number]
            ends[label] = max(ends.get(label, 0), int(own.max(initial=0)))
    return ends


def _end(graph: TaskGraph, machine: Machine) -> int:
    verify(graph)
    return int(simulate(graph, machine.fabric).task_end.max())
