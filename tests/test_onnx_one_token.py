"""Decode graphs (one token, past keys and values as inputs) give the graphs of the models that they come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch.export import ExportedProgram

from tests.compiler_modules import hugging_face, randomize
from tests.onnx_models import MODELS, export_onnx, recognised_text
from tests.test_torch_caches import growing
from wsesim_compiler.errors import OnnxFileError
from wsesim_compiler.frontends.onnx import from_onnx
from wsesim_compiler.frontends.torch_export import from_torch

CACHED: dict[str, dict[str, Any]] = {
    **{name: MODELS[name] for name in ("llama", "tied", "qwen2", "qwen3")},
    "eager": {"attn_implementation": "eager"},
}


@pytest.mark.parametrize("opset", [18, 23])
@pytest.mark.parametrize("name", CACHED)
def test_a_decode_graph_is_the_model_without_a_cache(name: str, opset: int, tmp_path: Path) -> None:
    module = randomize(hugging_face(**CACHED[name]))
    whole = recognised_text(from_torch(module, "m"))
    for path in export_onnx(growing(module, 1), opset, tmp_path).values():
        assert recognised_text(from_onnx(path).graph) == whole


def test_a_decode_graph_with_a_cached_length_that_is_fixed_too(tmp_path: Path) -> None:
    """Its past keys and values are declared with a number of rows; what matters is that they are there."""
    module = randomize(hugging_face())
    path = export_onnx(growing(module, 1), 18, tmp_path)["optimised"]
    file = onnx.load(path)
    for value in file.graph.input[1:]:
        value.type.tensor_type.shape.dim[2].dim_value = 9
    onnx.save(file, path)
    assert recognised_text(from_onnx(path).graph) == recognised_text(from_torch(module, "m"))


def fixed(tokens: int) -> ExportedProgram:
    given = {"input_ids": torch.zeros(1, tokens, dtype=torch.int64), "use_cache": False}
    return torch.export.export(hugging_face(), (), given, strict=False)


@pytest.mark.parametrize("tokens", [1, 5])
def test_fixed_tokens_without_a_cache_are_refused(tokens: int, tmp_path: Path) -> None:
    path = export_onnx(fixed(tokens), 18, tmp_path)["plain"]
    said = rf"fixed to {tokens}; export it dynamic \(dynamic_shapes\), or fixed to 1 with past keys and values"
    with pytest.raises(OnnxFileError, match=said):
        from_onnx(path)
