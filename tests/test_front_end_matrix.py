"""Every front end for every kind of model gives one graph, and its execution gives torch's logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.compiler_modules import tokens_of, torch_logits, weights_of
from tests.onnx_genai import rounded, write_genai
from tests.onnx_models import (
    MODELS,
    OPSETS,
    export_onnx,
    model,
    ort_logits,
    session,
    small_program,
    text_by_role,
)
from wsesim.execute.executor import Executor
from wsesim.program import WeightStore
from wsesim.program.kernels import PREFILL
from wsesim.toolchain.onnx_model import understand_onnx
from wsesim_compiler.frontends.torch_export import export, from_exported, from_torch
from wsesim_compiler.ir import Graph
from wsesim_compiler.lower import understand
from wsesim_models.config_files import config_from_folder
from wsesim_models.llama import with_weights
from wsesim_models.weights import ArrayWeights

PROMPT = [int(i) for i in tokens_of()]
GREEDY = 12


class Row:
    """A tiny model of transformers, and its export, which several ways start from."""

    def __init__(self, name: str) -> None:
        self.name, self.module = name, model(name)
        self.program, self.weights = export(self.module), ArrayWeights(weights_of(self.module))

    def in_4_bits(self) -> Any:
        """The model with weights rounded to 4 bits. A tied head is rounded too, so it is no longer the embedding."""
        module = model(self.name, tie_word_embeddings=False)
        module.load_state_dict(self.module.state_dict())
        with torch.no_grad():
            for linear in (part for part in module.modules() if isinstance(part, torch.nn.Linear)):
                linear.weight.copy_(torch.from_numpy(rounded(linear.weight.numpy())))
        return module


@dataclass(frozen=True)
class Cell:
    """A model read by one front end: its recognised graph, weights and files, and the module with the right results."""

    graph: Graph
    weights: WeightStore
    expected: torch.nn.Module
    files: tuple[Path, ...] = ()


def by_hand(row: Row, folder: Path) -> Cell:
    """Our own module, of the configuration that transformers saves."""
    row.module.config.save_pretrained(folder)
    module = with_weights(config_from_folder(folder), row.weights)
    return Cell(understand(from_torch(module)), row.weights, row.module)


def of_transformers(row: Row, folder: Path) -> Cell:
    return Cell(understand(from_exported(row.program)), row.weights, row.module)


def exported(opset: int, row: Row, folder: Path) -> Cell:
    return of_files(row.module, *export_onnx(row.program, opset, folder).values())


def genai_fp32(row: Row, folder: Path) -> Cell:
    return of_files(row.module, write_genai(row.module, folder / "model.onnx"))


def genai_int4(row: Row, folder: Path) -> Cell:
    return of_files(row.in_4_bits(), write_genai(row.module, folder / "model.onnx", int4=True))


def of_files(expected: torch.nn.Module, *files: Path) -> Cell:
    """Of the last file; the others hold the same."""
    read = understand_onnx(str(files[-1]))
    return Cell(read.graph, read.weights, expected, files)


WAYS: dict[str, Callable[[Row, Path], Cell]] = {
    "torch_by_hand": by_hand,
    "torch_hf": of_transformers,
    **{f"onnx{opset}": partial(exported, opset) for opset in OPSETS},
    "genai_fp32": genai_fp32,
    "genai_int4": genai_int4,
}
Cells = Callable[[str, str], Cell]


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Cells:
    """cells(way, name), each made once."""
    row = cache(Row)

    def made(way: str, name: str) -> Cell:
        return WAYS[way](row(name), tmp_path_factory.mktemp(way))

    return cache(made)


@pytest.mark.parametrize(("way", "name"), list(product(WAYS, MODELS)))
def test_executed_tile_by_tile_it_says_what_torch_says(way: str, name: str, cells: Cells) -> None:
    """A prompt, then its likeliest ids one by one. Logits and ids are torch's after each."""
    cell = cells(way, name)
    executor = Executor(small_program(cell.graph), cell.weights)
    sequence = executor.new_sequence()
    logits = [executor.step(sequence, PROMPT, phase=PREFILL)]
    ids = [int(logits[0].argmax())]
    while len(ids) < GREEDY:
        logits.append(executor.step(sequence, ids[-1:]))
        ids.append(int(logits[-1].argmax()))
    expected = torch_logits(cell.expected, PROMPT + ids)[len(PROMPT) - 1 : -1]
    np.testing.assert_allclose(np.array(logits), expected, rtol=0, atol=1e-4)
    assert ids == expected.argmax(-1).tolist()


@pytest.mark.parametrize("name", MODELS)
def test_it_is_one_graph_of_the_same_weights_whichever_way(name: str, cells: Cells) -> None:
    """Frequencies in float32 and in float64 differ in the last bit."""
    for way in WAYS:
        cell = cells(way, name)
        own_head = (way, name) == ("genai_int4", "tied")
        expected, weights = cells("torch_hf", "llama" if own_head else name).graph, weights_of(cell.expected)
        others = [understand_onnx(str(file)) for file in cell.files[:-1]]
        for graph, own in ((cell.graph, cell.weights), *((other.graph, other.weights) for other in others)):
            assert text_but_constants(graph) == text_but_constants(expected), way
            for made, constant in zip(graph.constants, expected.constants, strict=True):
                np.testing.assert_allclose(made.values, constant.values, rtol=1e-6, err_msg=way)
            for parameter in graph.parameters:
                np.testing.assert_array_equal(own.load(parameter.name), weights[parameter.name], err_msg=way)


def text_but_constants(graph: Graph) -> str:
    return text_by_role(graph.replace(constants=()))


@pytest.mark.parametrize("name", MODELS)
def test_onnxruntime_says_of_the_files_what_torch_says(name: str, cells: Cells) -> None:
    ids = [*PROMPT, *range(GREEDY)]
    for cell in (cells(way, name) for way in WAYS):
        expected = torch_logits(cell.expected, ids)
        for file in cell.files:
            np.testing.assert_allclose(ort_logits(session(file), ids), expected, rtol=0, atol=1e-4, err_msg=str(file))
