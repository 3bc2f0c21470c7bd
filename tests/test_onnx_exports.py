"""torch's ONNX exports: every stage computes what onnxruntime computes, of the model that torch's own graph gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from compiler_modules import VOCAB, tokens_of
from onnx_models import (
    FORMS,
    MODELS,
    OPSETS,
    as_inputs,
    assert_says_what_onnxruntime_says,
    export_onnx,
    mistral,
    model,
    ort_logits,
    qwen2,
    recognised_text,
    session,
)

from wsesim_compiler.frontends.onnx import OnnxModel, from_onnx
from wsesim_compiler.frontends.torch_export import from_torch
from wsesim_compiler.interpret import interpret
from wsesim_compiler.passes.canonicalize import canonicalize
from wsesim_compiler.passes.recognize import recognize
from wsesim_compiler.text import parse_graph

IDS = [int(i) for i in tokens_of()]
FAST = [(name, opset) for name in MODELS for opset in OPSETS if opset != 20 or name == "llama"]
CASES = [
    pytest.param((name, opset), id=f"{name}-{opset}", marks=() if (name, opset) in FAST else pytest.mark.slow)
    for name in MODELS
    for opset in OPSETS
]


@pytest.fixture(scope="module", params=CASES)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Path]]:
    """A model of the matrix, and its files by form."""
    name, opset = request.param
    return name, export_onnx(model(name), opset, tmp_path_factory.mktemp("onnx"))


@pytest.mark.parametrize("form", FORMS)
def test_every_stage_computes_what_onnxruntime_computes(exported: tuple[str, dict[str, Path]], form: str) -> None:
    path = exported[1][form]
    expected = ort_logits(session(path), IDS)
    assert_stages_compute(from_onnx(path), expected)


def assert_stages_compute(read: OnnxModel, expected: np.ndarray) -> None:
    """To float32's rounding, of which the recognised scale, 1 / sqrt(head_dim), has lost what the file's has."""
    graphs = [read.graph, canonicalize(read.graph)]
    graphs.append(recognize(graphs[1]))
    outs = [interpret(g, read.weights.load, as_inputs(g, IDS))[0].reshape(-1, VOCAB) for g in graphs]
    np.testing.assert_allclose(outs[0], expected, atol=1e-4)
    for out, tolerance in zip(outs[1:], (1e-9, 1e-6), strict=True):
        np.testing.assert_allclose(out, outs[0], rtol=tolerance, atol=tolerance)
    assert all(parse_graph(str(graph)) == graph for graph in graphs)


@pytest.mark.parametrize("form", FORMS)
def test_it_is_the_model_that_torchs_graph_gives(exported: tuple[str, dict[str, Path]], form: str) -> None:
    name, paths = exported
    assert recognised_text(from_onnx(paths[form]).graph) == recognised_text(from_torch(model(name)))


@pytest.mark.parametrize("form", FORMS)
def test_executed_tile_by_tile_it_says_what_onnxruntime_says(exported: tuple[str, dict[str, Path]], form: str) -> None:
    assert_says_what_onnxruntime_says(exported[1][form], IDS)


@pytest.mark.parametrize("opset", [18, 23])
def test_biases_and_windows_are_read(opset: int, tmp_path: Path) -> None:
    """The window is shorter than the text, and than the lengths on which static values are tried."""
    for name, module in (("qwen2", qwen2()), ("mistral", mistral(window=4))):
        (folder := tmp_path / name).mkdir()
        for path in export_onnx(module, opset, folder).values():
            assert_stages_compute(from_onnx(path), ort_logits(session(path), IDS))
            assert recognised_text(from_onnx(path).graph) == recognised_text(from_torch(module))
            assert_says_what_onnxruntime_says(path, IDS)


def test_names_may_be_lost_altogether(exported: tuple[str, dict[str, Path]], tmp_path: Path) -> None:
    """Every value, weight and node under another name, no provenance: the same model."""
    name, paths = exported
    file = onnx.load(paths["optimised"])
    names: dict[str, str] = {value.name: value.name for value in (*file.graph.input, *file.graph.output)}
    for tensor in file.graph.initializer:
        tensor.name = names.setdefault(tensor.name, f"w{len(names)}")
    for node in file.graph.node:
        node.name = ""
        del node.metadata_props[:]
        for side in (node.input, node.output):
            side[:] = [value and names.setdefault(value, f"v{len(names)}") for value in side]
    del file.graph.value_info[:]
    onnx.save(file, tmp_path / "nameless.onnx")
    assert recognised_text(from_onnx(tmp_path / "nameless.onnx").graph) == recognised_text(from_torch(model(name)))


def test_timing_needs_no_weights(tmp_path: Path) -> None:
    """With its external data away a file is the same graph; the weights say which are missing."""
    path = export_onnx(model("llama"), 18, tmp_path, external_data=True)["optimised"]
    with_data = from_onnx(path)
    assert with_data.weights.missing() == ()
    tensors = onnx.load(path, load_external_data=False).graph.initializer
    (location,) = {entry.value for t in tensors for entry in t.external_data if entry.key == "location"}
    (tmp_path / location).unlink()
    without = from_onnx(path)
    assert without.graph == with_data.graph
    assert "model.embed_tokens.weight" in without.weights.missing()
