"""The engine: link events per CPU second, their cost by graph size, a graph of a whole wafer, the cost of a call.

The work is like a decode step: rounds of local work and two-phase AllReduces along columns and rows. A formula gives
the expected number of link events. CPU seconds are of one core and leave out JIT compilation.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from math import isqrt
from statistics import median
from time import process_time

import numpy as np

from benchmarks.row import Row
from wsesim.engine.expand.canvas import Canvas
from wsesim.engine.expand.collective import all_reduce
from wsesim.engine.flow import event_loop
from wsesim.engine.flow.records import Constants, World
from wsesim.engine.flow.simulate import simulate
from wsesim.engine.flow.timeline import Timeline
from wsesim.engine.flow.warm import warm
from wsesim.engine.graph.taskgraph import EAST, TaskGraph
from wsesim.engine.graph.verify import verify
from wsesim.machine import Machine, Rect, load_machine
from wsesim.program.kernels import ACROSS, ALONG
from wsesim.program.parts import Block

ELEMENTS = 16  # of a PE's share of a vector: 4,096 over 256
INPUTS = 64  # rows of a PE's tile
REPEATS = 5

MILLION = (256, 256, 2)  # columns, rows, rounds: a million tasks on 65,536 PEs
SHIFT = 32
SCALE = ((64, 8, 1), (64, 32, 2), (128, 128, 2), (256, 256, 3), (512, 512, 3), (512, 512, 4))
WSE3 = (762, 1172)
SMALL = (20, 10, 3)  # 200 PEs, 20 tasks each


@dataclass(frozen=True, slots=True)
class Figures:
    """Medians of one graph. `kernel_s` is the compiled part of `simulate_s`; both are CPU seconds."""

    tasks: int
    link_events: int
    simulate_s: float
    kernel_s: float


def rounds_graph(columns: int, rows: int, rounds: int, shift: int = 0) -> TaskGraph:
    """A block that multiplies and sums along columns, then rows. With `shift` > 0 it then passes tiles eastwards."""
    block, machine = Block("bench", 0, 0, columns, rows, "rows"), load_machine("wse3")
    canvas = Canvas(Rect(0, 0, columns, rows), machine, "fp16")
    everywhere = np.arange(columns * rows)
    for _ in range(rounds):
        for axis, across in ((ALONG, columns), (ACROSS, rows)):
            canvas.compute(everywhere, "multiply", "fma", ELEMENTS, INPUTS)
            lines = canvas.lines(block, axis, across)
            all_reduce(canvas, lines, lines.length, ELEMENTS, "two_phase", "sum")
        if shift:
            _shift(canvas, machine, columns, rows, shift)
    return canvas.builder.build()


def _shift(canvas: Canvas, machine: Machine, columns: int, rows: int, shift: int) -> None:
    """Every PE sends its share `shift` columns to the east."""
    senders = np.arange(columns * rows).reshape(rows, columns)[:, : columns - shift]
    sent = canvas.send(senders, "shift", ELEMENTS)
    received = canvas.receive(senders + shift, "shift", ELEMENTS, machine.activate_cycles)
    canvas.builder.drops(canvas.builder.messages(sent, EAST, shift, canvas.wavelets(ELEMENTS)), shift, received)


def expected_link_events(columns: int, rows: int, rounds: int, shift: int = 0) -> int:
    """Links by the definition of two_phase: groups of sqrt(P) reduce, then their middles, and all get the sum."""
    sums = columns * _line_links(rows) + rows * _line_links(columns)
    return rounds * (sums + rows * (columns - shift) * shift)


def _line_links(length: int) -> int:
    groups = isqrt(length)
    edges = [length * g // groups for g in range(groups + 1)]
    middles = [(a + b) // 2 for a, b in pairwise(edges)]
    return (length - groups) + (middles[-1] - middles[0]) + (length - 1)


def measured(graph: TaskGraph, link_events: int, repeats: int = REPEATS) -> Figures:
    """Simulates `repeats` times; asserts that every link of every message was granted and every task ran."""
    fabric, totals, inside = load_machine("wse3").fabric, [], []

    def timed(world: World, constants: Constants) -> None:
        began = process_time()
        event_loop.run(world, constants)
        inside.append(process_time() - began)

    for _ in range(repeats):
        began = process_time()
        timeline = simulate(graph, fabric, kernel=timed)
        totals.append(process_time() - began)
        _check(graph, timeline, link_events)
    return Figures(graph.task_count, link_events, median(totals), median(inside))


def _check(graph: TaskGraph, timeline: Timeline, link_events: int) -> None:
    assert timeline.link_events == link_events, f"{timeline.link_events} links granted, not {link_events}"
    assert (timeline.task_end >= graph.launch.astype(np.int64) + graph.work).all(), "a task did not run"


def million(shift: int = 0) -> Figures:
    """A million tasks on 65,536 PEs. With `shift`, tiles travel too, and links have most of the work."""
    graph = rounds_graph(*MILLION, shift)
    verify(graph)
    assert graph.task_count >= 1_000_000
    return measured(graph, expected_link_events(*MILLION, shift))


def scale() -> list[Figures]:
    """The same mix from ten thousand to thirty million events."""
    found = []
    for size in SCALE:
        events = expected_link_events(*size, SHIFT)
        found.append(measured(rounds_graph(*size, SHIFT), events, 3 if events > 1_000_000 else 31))
    return found


def small() -> Figures:
    """A small graph, of which the exact shortcuts simulate thousands."""
    return measured(rounds_graph(*SMALL), expected_link_events(*SMALL), 301)


WHOLE_WAFER = """
import resource
from time import process_time
from benchmarks.bench_engine import WSE3, expected_link_events, measured, rounds_graph
from wsesim.engine.graph.verify import verify
from wsesim.engine.flow.warm import warm
warm()
began = process_time()
graph = rounds_graph(*WSE3, 1)
expanded = process_time()
verify(graph)
verified = process_time()
figures = measured(graph, expected_link_events(*WSE3, 1), 1)
peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(graph.task_count, expanded - began, verified - expanded, figures.simulate_s, figures.kernel_s, peak_kib)
"""


@dataclass(frozen=True, slots=True)
class WholeWafer:
    tasks: int
    expand_s: float
    verify_s: float
    simulate_s: float
    kernel_s: float
    peak_gb: float


def whole_wafer() -> WholeWafer:
    """One round on all PEs of a WSE-3, expanded and simulated as one graph in another process."""
    done = subprocess.run([sys.executable, "-c", WHOLE_WAFER], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    tasks, expand_s, verify_s, simulate_s, kernel_s, peak_kib = map(float, done.stdout.split())
    return WholeWafer(int(tasks), expand_s, verify_s, simulate_s, kernel_s, peak_kib * 1024 / 1e9)


def rows() -> list[Row]:
    """The figures with their limits."""
    warm()
    one, moving, many, call, wafer = million(), million(SHIFT), scale(), small(), whole_wafer()
    costs = [f.simulate_s / f.link_events for f in many]
    rates = ", ".join(f"{f.link_events:.3g}: {1e9 * c:.0f} ns" for f, c in zip(many, costs, strict=True))
    pes = WSE3[0] * WSE3[1]
    return [
        Row(
            f"link events per CPU second, {one.tasks:,} tasks on {MILLION[0] * MILLION[1]:,} PEs",
            one.link_events / one.simulate_s / 1e6,
            "million/s",
            5,
            at_most=False,
            note=f"{one.link_events:,} events; {one.link_events / one.kernel_s / 1e6:.2f} in the compiled part",
        ),
        Row(
            f"the same with tiles that travel {SHIFT} columns, {moving.tasks:,} tasks",
            moving.link_events / moving.simulate_s / 1e6,
            "million/s",
            5,
            at_most=False,
            note=f"{moving.link_events:,} events",
        ),
        Row("tasks per CPU second, without these tiles", one.tasks / one.simulate_s / 1e6, "million/s"),
        Row(
            "cost of a link event: most expensive size of graph over cheapest",
            max(costs) / min(costs),
            "x",
            4,
            note=rates,
        ),
        Row(
            f"memory of one graph on all {pes:,} PEs of a WSE-3",
            wafer.peak_gb,
            "GB",
            8,
            note=f"{wafer.tasks:,} tasks, {expected_link_events(*WSE3, 1):,} events, expansion included",
        ),
        Row("expand this graph", wafer.expand_s, "CPU s"),
        Row("verify it", wafer.verify_s, "CPU s"),
        Row("simulate it", wafer.simulate_s, "CPU s", note=f"{wafer.kernel_s:.2f} s in the compiled part"),
        Row(
            f"one call on {SMALL[0] * SMALL[1]} PEs, {call.tasks:,} tasks: time outside the compiled part",
            1e3 * (call.simulate_s - call.kernel_s),
            "CPU ms",
            1,
            note=f"{1e3 * call.simulate_s:.2f} ms in all, {call.link_events:,} events",
        ),
    ]
