"""A prompt on a shared block: its kernels, and their cycles against the same kernels expanded PE by PE."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from fractions import Fraction

import numpy as np
import pytest

from wsesim.engine.expand.canvas import Canvas, PELines
from wsesim.engine.expand.gemm import Tiles, align_round, gemm_step, tiles_of, transposed_step
from wsesim.engine.expand.prompt_costs import expand_token_kernel
from wsesim.engine.flow.simulate import simulate
from wsesim.engine.graph.taskgraph import EAST, NO_PORTS, NORTH, SOUTH, WEST, TaskGraph
from wsesim.engine.graph.verify import verify
from wsesim.engine.observe.measure import meshgemm_cycles, tile_product_cycles
from wsesim.engine.steps.prompt_layer import LARGEST_SUMMA, prompt_layer, prompt_layer_cycles
from wsesim.errors import InvalidInputError, UnknownNameError
from wsesim.machine import Machine, Rect, load_machine
from wsesim.machine.parts import SlowPE
from wsesim.program.build import LayerShape, prefill_kernels
from wsesim.program.gemm import RINGS, ring
from wsesim.program.layout import ceil_div
from wsesim.program.parts import Block
from wsesim.program.prompt_kernels import Align, Gemm, PromptKernel

WSE2 = load_machine("wse2")
SHAPE = LayerShape(dim=60, heads=1, kv_heads=1, head_dim=60, ffn_dim=130)


def block(side: int) -> Block:
    return Block("layer", 3, 4, side, side, "rows")


def layer(side: int, tokens: int = 50, algorithm: str = "meshgemm") -> list[PromptKernel]:
    return list(prefill_kernels(SHAPE, block(side), tokens, algorithm).values())


def written_out(kernels: Iterable[PromptKernel], side: int, machine: Machine) -> TaskGraph:
    """Every run of every kernel on every PE, one after the other."""
    canvas = Canvas(Rect(0, 0, side, side), machine, "fp16")
    pes = np.arange(side * side).reshape(side, side)
    rows, columns = PELines(pes, EAST, WEST, "rows"), PELines(pes.T, SOUTH, NORTH, "columns")
    for kernel in kernels:
        if isinstance(kernel, Align):
            of, elements = ring(side, kernel.algorithm), ceil_div(kernel.rows, side) * ceil_div(kernel.columns, side)
            for _ in range(of.rounds):
                align_round(canvas, rows if kernel.across else columns, of, of.skew > 0, elements, "align")
        elif isinstance(kernel, Gemm):
            tiles = tiles_of(kernel.rows, kernel.inner, kernel.columns, side)
            step = transposed_step if kernel.transposed else gemm_step
            for _ in range(side):
                step(canvas, rows, ring(side, kernel.algorithm), tiles, kernel.name)
        else:
            expand_token_kernel(canvas, kernel, rows)
    graph = canvas.builder.build()
    verify(graph)
    return graph


def end(graph: TaskGraph, machine: Machine) -> int:
    return int(simulate(graph, machine.fabric, NO_PORTS, NO_PORTS).task_end.max(initial=0))


@pytest.mark.parametrize("algorithm", RINGS)
@pytest.mark.parametrize("side", [1, 2, 5, 8, 16, 17])
def test_each_kernel_takes_what_it_takes_written_out(side: int, algorithm: str) -> None:
    for kernel in layer(side, algorithm=algorithm):
        graph = written_out([kernel], side, WSE2)
        run = prompt_layer(WSE2, block(side), [kernel]).kernels[0]
        assert (run.name, run.cycles, run.messages) == (kernel.name, end(graph, WSE2), graph.message_count)


@pytest.mark.parametrize("side", [5, 8, 12])
def test_a_layer_is_its_kernels_but_for_the_skew_between_them(side: int) -> None:
    kernels = layer(side)
    together = end(written_out(kernels, side, WSE2), WSE2)
    apart = prompt_layer_cycles(WSE2, block(side), kernels)
    collectives = 4  # two norms, softmax's maximum and sum
    assert together <= apart <= together + collectives * side * WSE2.fabric.hop_cycles + len(kernels)


def test_a_slow_pe_is_written_out_and_found() -> None:
    """Only a slow PE inside the block counts; one beside it does not."""
    side, kernels = 6, layer(6)
    inside = dataclasses.replace(WSE2, slow=(SlowPE(3 + 2, 4 + 5, Fraction(3, 2)),))
    beside = dataclasses.replace(WSE2, slow=(SlowPE(0, 0, Fraction(3, 2)),))
    local = dataclasses.replace(WSE2, slow=(SlowPE(2, 5, Fraction(3, 2)),))
    for kernel in kernels:
        expected = end(written_out([kernel], side, local), WSE2)
        assert prompt_layer_cycles(inside, block(side), [kernel]) == expected
    assert prompt_layer_cycles(beside, block(side), kernels) == prompt_layer_cycles(WSE2, block(side), kernels)
    assert prompt_layer_cycles(inside, block(side), kernels) > prompt_layer_cycles(WSE2, block(side), kernels)


def test_four_thousand_tokens_are_not_written_out() -> None:
    """WaferLLM's padded LLaMA3-8B on 660 x 660 PEs: 6e9 messages, of which a few thousand are simulated."""
    side, dim, ffn = 660, 4620, 14520
    kernels = prefill_kernels(LayerShape(dim, 1, 1, dim, ffn), block(side), dim, "meshgemm")
    products = [kernel for kernel in kernels.values() if isinstance(kernel, Gemm)]
    run = prompt_layer(WSE2, block(side), products)
    assert sum(k.rows * k.inner * k.columns for k in products) == dim**3 * 4 + 2 * dim**3 + 3 * dim * dim * ffn
    assert run.messages == len(products) * 2 * side**3
    assert all(k.runs == side and k.simulated <= 4 for k in run.kernels)


@pytest.mark.parametrize("algorithm", RINGS)
def test_values_are_made_before_they_are_read(algorithm: str) -> None:
    made = {"x"}
    for kernel in layer(5, algorithm=algorithm):
        read = {getattr(kernel, f) for f in ("left", "right", "source", "gate", "up", "value") if hasattr(kernel, f)}
        assert all(value in made or value.endswith(".weight") for value in read), kernel
        made.add(getattr(kernel, "target", ""))


def test_every_ring_product_begins_with_aligned_tiles() -> None:
    """Its left operand is aligned along rows, its right one along columns unless it is a weight."""
    rows: set[str] = set()
    columns: set[str] = set()
    for kernel in layer(5):
        if isinstance(kernel, Align):
            (rows if kernel.across else columns).add(kernel.value)
        elif isinstance(kernel, Gemm):
            assert kernel.transposed or kernel.left in rows
            assert kernel.right in columns or kernel.right.endswith(".weight")


def test_summa_aligns_nothing_but_the_scores() -> None:
    kernels = layer(5, algorithm="summa")
    assert [k.value for k in kernels if isinstance(k, Align)] == ["k", "scores"]
    assert {k.algorithm for k in kernels if isinstance(k, Gemm)} == {"summa", "meshgemm"}
    assert prompt_layer_cycles(WSE2, block(5), kernels) > 0


def test_what_a_prompt_refuses() -> None:
    with pytest.raises(UnknownNameError, match="unknown algorithm of a matrix product 'sum'; known: summa"):
        prefill_kernels(SHAPE, block(4), 8, "sum")
    with pytest.raises(InvalidInputError, match="block layer is 4 x 5 PEs; a prompt needs a square one"):
        prefill_kernels(SHAPE, Block("layer", 0, 0, 4, 5, "rows"), 8, "meshgemm")
    with pytest.raises(InvalidInputError, match="a prompt of 0 tokens"):
        prefill_kernels(SHAPE, block(4), 0, "meshgemm")
    with pytest.raises(
        InvalidInputError, match=r"one head as wide as the layer .60., not 2 heads and 1 KV heads of 30"
    ):
        prefill_kernels(LayerShape(60, 2, 1, 30, 130), block(4), 8, "meshgemm")
    large = LARGEST_SUMMA + 1
    with pytest.raises(InvalidInputError, match=f"SUMMA on {large} x {large} PEs"):
        prompt_layer_cycles(WSE2, block(large), layer(large, algorithm="summa"))


def test_the_measured_loop_around_a_map() -> None:
    """The constant's own row: 3,032 cycles for 4,096 FMAs as 16 loops of 16 vectors of 16."""
    assert abs(tile_product_cycles(load_machine("wse3-simulator"), Tiles(16, 16, 16)) - 3032) <= 1


def test_repetitions_of_the_benchmark() -> None:
    """Product and exchange add to a rest, which a run without both measures."""
    machine, tiles = load_machine("wse3-simulator"), Tiles(4, 8, 8)
    still, moved = (meshgemm_cycles(machine, 3, tiles, exchange=e, loops=0) for e in (False, True))
    once, twice = (meshgemm_cycles(machine, 3, tiles, loops=loops) for loops in (1, 2))
    assert 0 < still < moved < once < twice
    exact = 3 * (64 * (Fraction("7.06") + 1) + 8 * machine.loop_cycles)
    assert abs(twice - once - exact) <= 3  # each step is rounded up
