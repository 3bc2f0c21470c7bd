"""torch's ONNX exports: every stage computes what onnxruntime computes, of the model that torch's own graph gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.compiler_modules import VOCAB, tokens_of
from tests.onnx_models import FORMS, as_inputs, export_onnx, model, ort_logits, recognised_text, session
from wsesim_compiler.frontends.onnx import from_onnx
from wsesim_compiler.frontends.torch_export import export, from_torch
from wsesim_compiler.interpret import interpret
from wsesim_compiler.passes.canonicalize import canonicalize
from wsesim_compiler.passes.recognize import recognize
from wsesim_compiler.text import parse_graph

IDS = [int(i) for i in tokens_of()]
CASES = [("mistral", 18), ("qwen3", 23)]
"""Everything in primitives, a mask and all; and RMSNorm, RoPE and attention as operators."""


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Path]]:
    """A model of the matrix, and its files by form."""
    name, opset = request.param
    return name, export_onnx(export(model(name)), opset, tmp_path_factory.mktemp("onnx"))


@pytest.mark.parametrize("form", FORMS)
def test_every_stage_computes_what_onnxruntime_computes(exported: tuple[str, dict[str, Path]], form: str) -> None:
    """Equal up to float32's rounding: the recognised scale is 1 / sqrt(head_dim), the file's is already rounded."""
    read = from_onnx(exported[1][form])
    graphs = [read.graph, canonicalize(read.graph)]
    graphs.append(recognize(graphs[1]))
    outs = [interpret(g, read.weights.load, as_inputs(g, IDS))[0].reshape(-1, VOCAB) for g in graphs]
    np.testing.assert_allclose(outs[0], ort_logits(session(exported[1][form]), IDS), atol=1e-4)
    for out, tolerance in zip(outs[1:], (1e-9, 1e-6), strict=True):
        np.testing.assert_allclose(out, outs[0], rtol=tolerance, atol=tolerance)
    assert all(parse_graph(str(graph)) == graph for graph in graphs)


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
    """Without its external data, a file gives the same graph, and the error names the missing weights."""
    path = export_onnx(export(model("llama")), 18, tmp_path, external_data=True)["optimised"]
    with_data = from_onnx(path)
    assert with_data.weights.missing() == ()
    tensors = onnx.load(path, load_external_data=False).graph.initializer
    (location,) = {entry.value for t in tensors for entry in t.external_data if entry.key == "location"}
    (tmp_path / location).unlink()
    without = from_onnx(path)
    assert without.graph == with_data.graph
    assert "model.embed_tokens.weight" in without.weights.missing()
