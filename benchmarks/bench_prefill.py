"""Prompts: CPU seconds to simulate 4K tokens of one layer on 660 x 660 PEs, and a prompt of smollm2-135m.

The benchmark asserts the layer's multiply-adds and messages, and that the shortcuts `loop` and `fold` give the cycles
of the full graph on a small block.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from statistics import median
from time import process_time
from typing import TypeVar

import numpy as np

import wsesim
from benchmarks.row import Row
from wsesim.engine.exact.mesh import loop_folded
from wsesim.engine.expand.canvas import Canvas, PELines
from wsesim.engine.expand.gemm import Tiles, gemm_step
from wsesim.engine.flow.simulate import simulate
from wsesim.engine.flow.warm import warm
from wsesim.engine.graph.taskgraph import EAST, WEST, TaskGraph
from wsesim.engine.steps.prompt_layer import PromptRun, prompt_layer
from wsesim.machine import Machine, Rect, load_machine
from wsesim.program.build import LayerShape, prefill_kernels
from wsesim.program.gemm import ring
from wsesim.program.parts import Block
from wsesim.program.prompt_kernels import Gemm
from wsesim.toolchain import make_timing

SIDE, DIM, FFN = 660, 4620, 14520  # WaferLLM's LLaMA3-8B, padded
SMALL_SIDE, TILES = 48, Tiles(7, 7, 7)
PROMPT_TOKENS = 300
ROUNDS = 3
T = TypeVar("T")


def rows() -> list[Row]:
    """The layer, one product with and without shortcuts, and a prompt of a whole model."""
    machine = load_machine("wse2")
    warm()
    seconds, layer = _timed(lambda name: _layer(dataclasses.replace(machine, name=name)))
    full_s, full_cycles = _timed(lambda name: _full(machine))
    short_s, short_cycles = _timed(lambda name: _short(machine))
    assert full_cycles == short_cycles, "loop and fold are not exact"
    work = f"{_products():.3g} multiply-adds, {layer.messages:.3g} messages, {layer.cycles:,} cycles"
    return [
        Row(f"simulate a prompt of 4K tokens of an 8B layer on {SIDE} x {SIDE} PEs", seconds, "CPU s", 2, note=work),
        Row(f"a product on {SMALL_SIDE} x {SMALL_SIDE} PEs: full graph over shortcuts", full_s / short_s, "x"),
        _prompt(),
    ]


def _prompt() -> Row:
    """The times of a prompt as the token loop asks for them, of a Timing that has simulated nothing yet."""
    program = wsesim.compile("smollm2-135m", strategy="pipelined")
    seconds, times = _timed(lambda name: make_timing(program, keep_timelines=False).prefill_times(PROMPT_TOKENS))
    name = f"simulate a prompt of {PROMPT_TOKENS} tokens of smollm2-135m, cold"
    return Row(name, seconds, "CPU s", note=f"{times.cycles:,} cycles")


def _timed(call: Callable[[str], T]) -> tuple[float, T]:
    """Median CPU seconds, and the first result. The call gets another name in each round, so nothing is cached."""
    taken, results = [], []
    for number in range(ROUNDS):
        begin = process_time()
        results.append(call(f"round {number}"))
        taken.append(process_time() - begin)
    return median(taken), results[0]


def _layer(machine: Machine) -> PromptRun:
    block = Block("layer", 0, 0, SIDE, SIDE, "rows")
    kernels = prefill_kernels(LayerShape(DIM, 1, 1, DIM, FFN), block, DIM, "meshgemm")
    run = prompt_layer(machine, block, kernels.values())
    products = [kernel for kernel in kernels.values() if isinstance(kernel, Gemm)]
    assert sum(k.rows * k.inner * k.columns for k in products) == _products()
    in_products = sum(k.messages for k in run.kernels if k.name in {p.name for p in products})
    assert in_products == len(products) * 2 * SIDE**3 > 4e9, "two tiles a PE and step"
    return run


def _products() -> int:
    """Multiply-adds of the padded layer: queries, keys, values, scores, weighted sum, output; up, gate, down."""
    return 6 * DIM**3 + 3 * DIM * DIM * FFN


def _step(side: int, machine: Machine, steps: int = 1) -> TaskGraph:
    canvas = Canvas(Rect(0, 0, side, side), machine, "fp16")
    lines = PELines(np.arange(side * side).reshape(side, side), EAST, WEST, "rows")
    for _ in range(steps):
        gemm_step(canvas, lines, ring(side, "meshgemm"), TILES, "product")
    return canvas.builder.build()


def _full(machine: Machine) -> int:
    graph = _step(SMALL_SIDE, machine, SMALL_SIDE)
    return int(simulate(graph, machine.fabric).task_end.max())


def _short(machine: Machine) -> int:
    return loop_folded(lambda side: _step(side, machine), SMALL_SIDE, SMALL_SIDE, machine.fabric).end_cycles
