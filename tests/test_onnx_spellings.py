"""Hand-written modules through torch's ONNX exporter: the same recognised graph as from torch's own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.compiler_modules import Spelt, randomize
from tests.onnx_models import export_onnx, recognised_text
from wsesim_compiler.frontends.onnx import from_onnx
from wsesim_compiler.frontends.torch_export import export, from_exported
from wsesim_models.config import LlamaConfig, RopeScaling
from wsesim_models.llama import Llama

OURS = LlamaConfig("ours", 40, 32, 2, 4, 2, 8, 48, 1e-6, 10_000.0, RopeScaling(8.0, 1.0, 4.0, 64), False, 256)
SPELLINGS = {
    "flat tokens, interleaved": {
        "rope": "interleaved",
        "attention": "masked_fill",
        "norm": "sqrt",
        "mlp": "sigmoid",
        "tokens": "flat",
    },
    "last token, chunks": {
        "rope": "chunk",
        "attention": "where",
        "norm": "fused",
        "mlp": "silu_last",
        "output": "last",
    },
    "einsum, unbound pairs": {
        "rope": "unbind",
        "attention": "sdpa_mask",
        "angles": "einsum",
        "norm": "div",
        "residual": "second",
    },
    "last logits, triangle": {"attention": "triu", "output": "last_logits", "norm": "cast_after"},
    "norms of heads": {"attention": "sdpa", "qk_norm": "before", "norm": "fused"},
}
FAST = "last token, chunks"


def assert_same(module: torch.nn.Module, opset: int, folder: Path) -> None:
    exported = export(module)
    expected = recognised_text(from_exported(exported))
    for path in export_onnx(exported, opset, folder).values():
        assert recognised_text(from_onnx(path).graph) == expected


@pytest.mark.parametrize("opset", [18, 23])
@pytest.mark.parametrize(
    "spelling",
    [pytest.param(s, id=name, marks=() if name == FAST else pytest.mark.slow) for name, s in SPELLINGS.items()],
)
def test_a_module_in_any_spelling_is_the_same_model(spelling: dict[str, str], opset: int, tmp_path: Path) -> None:
    assert_same(randomize(Spelt(1, **spelling)).eval(), opset, tmp_path)


def test_our_own_llama_is_the_same_model(tmp_path: Path) -> None:
    assert_same(randomize(Llama(OURS)).eval(), 18, tmp_path)
