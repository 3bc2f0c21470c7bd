"""Measurements of small parts, and the kernels of a layer by its dimensions: what they refuse and must keep."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wsesim.engine.errors import TaskGraphError
from wsesim.engine.graph.builder import GraphBuilder
from wsesim.engine.observe.measure import kernel_cycles, op_cycles, phase_cycles
from wsesim.engine.steps.prompt_layer import prompt_layer
from wsesim.errors import InvalidInputError, UnknownNameError, WsesimError
from wsesim.files import write_whole
from wsesim.machine import load_machine
from wsesim.program.build import LayerShape, layer_kernels, prefill_kernels
from wsesim.program.kv import KVCache
from wsesim.program.parts import Block

WSE2 = load_machine("wse2")
SHAPE = LayerShape(dim=64, heads=4, kv_heads=2, head_dim=16, ffn_dim=96)
BLOCK = Block("layer", 0, 0, 8, 8, "rows")
KERNELS = tuple(layer_kernels(SHAPE, BLOCK, "chain").values())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kv_heads": 0}, "kv_heads is 0; it is at least 1"),
        ({"ffn_dim": -1}, "ffn_dim is -1"),
        ({"heads": 5}, "5 heads do not share 2 KV heads evenly"),
        ({"head_dim": 15}, "head_dim is 15; a rotation needs an even one"),
    ],
)
def test_dimensions_that_no_layer_has(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        layer_kernels(dataclasses.replace(SHAPE, **change), BLOCK, "chain")


@pytest.mark.parametrize(
    "call",
    [
        lambda: layer_kernels(SHAPE, dataclasses.replace(BLOCK, axis="diagonal"), "chain"),
        lambda: layer_kernels(SHAPE, BLOCK, "chains"),
        lambda: layer_kernels(SHAPE, BLOCK, "chain", KVCache("paged")),
        lambda: layer_kernels(SHAPE, BLOCK, "chain", KVCache("shift", "int4")),
    ],
)
def test_words_that_no_layer_knows(call: Callable[[], object]) -> None:
    with pytest.raises(UnknownNameError):
        call()


@pytest.mark.parametrize("measure", [kernel_cycles, phase_cycles])
@pytest.mark.parametrize(
    ("block", "kernels", "context", "said"),
    [
        (BLOCK, (), 5, "are missing"),
        (BLOCK, (KERNELS[0], KERNELS[0]), 5, "each name once"),
        (BLOCK, KERNELS, 0, "context is 0"),
        (dataclasses.replace(BLOCK, name="other"), KERNELS, 5, "does not run on block other"),
        (dataclasses.replace(BLOCK, columns=5000), KERNELS, 5, "lies outside the usable"),
    ],
)
def test_kernels_that_cannot_be_run(
    measure: Callable[..., object], block: Block, kernels: tuple[object, ...], context: int, said: str
) -> None:
    with pytest.raises(InvalidInputError, match=said):
        measure(WSE2, block, kernels, context)


def test_a_number_that_is_too_large_is_refused_not_wrapped() -> None:
    """2^31 cycles must not wrap around to a small number."""
    with pytest.raises(TaskGraphError, match="work is"):
        op_cycles(WSE2, "fma", 2**34)
    assert op_cycles(WSE2, "fma", 2**20) > 2**18
    builder = GraphBuilder(1, 1)
    builder.tasks(np.array([0]), "op", 0, 1, delay=128)
    with pytest.raises(TaskGraphError, match="delay is 128"):
        builder.build()


@pytest.mark.parametrize("features", [1, 3])
def test_a_rotation_of_odd_features_leaves_none_out(features: int) -> None:
    side = 4
    block = Block("layer", 0, 0, side, side, "rows")

    def rope(per_pe: int) -> int:
        dim = side * per_pe
        kernels = prefill_kernels(LayerShape(dim, 1, 1, dim, dim), block, side, "meshgemm")
        (run,) = prompt_layer(WSE2, block, [kernels["rope_q"]]).kernels
        return run.cycles

    assert rope(features) == rope(features + 1)


def test_a_file_is_written_through_links_and_devices_stay(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    write_whole(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_whole(tmp_path / "pipe", "text")
    assert os.read(reader, 9) == b"text"
    assert (tmp_path / "pipe").is_fifo()
    os.close(reader)


def test_errors_of_measurements_are_the_projects_own() -> None:
    with pytest.raises(WsesimError):
        prefill_kernels(LayerShape(8, 1, 1, 8, 0), BLOCK, 4, "meshgemm")
