"""Exported programs that bring a KV cache of their own are the same models as without."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.export import Dim, ExportedProgram
from torch.nn import functional
from transformers import DynamicCache, PreTrainedModel, StaticCache

from tests.compiler_modules import HEAD_DIM, KV_HEADS, Spelt, hugging_face, randomize, rotate
from tests.test_compiler_torch import assert_stages_compute, stages
from wsesim_compiler.errors import ExportError, UnsupportedOperatorError
from wsesim_compiler.frontends.torch_export import from_exported, from_torch
from wsesim_compiler.passes.canonicalize import canonicalize
from wsesim_compiler.passes.recognize import recognize

MODELS: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama, eager": {"attn_implementation": "eager"},
    "qwen2": {"family": "qwen2", "tie_word_embeddings": True},
    "qwen3, eager": {"family": "qwen3", "attn_implementation": "eager", "num_key_value_heads": 1},
}


class Growing(nn.Module):
    """Keys and values of all layers come in and go out, T tokens longer."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.inner = model

    def forward(self, tokens: torch.Tensor, past: list[tuple[torch.Tensor, torch.Tensor]]) -> Any:
        cache = DynamicCache()
        for layer, (keys, values) in enumerate(past):
            cache.update(keys, values, layer)
        result = self.inner(input_ids=tokens, past_key_values=cache, use_cache=True)
        return result.logits, [(layer.keys, layer.values) for layer in result.past_key_values.layers]


class Static(nn.Module):
    """Keys and values are written into buffers of a fixed length."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.inner = model
        self.cache = StaticCache(config=model.config, max_cache_len=32)
        self.cache.early_initialization(1, model.config.num_key_value_heads, HEAD_DIM, torch.float32, "cpu")

    def forward(self, tokens: torch.Tensor, position_ids: torch.Tensor) -> torch.Tensor:
        made = self.inner(input_ids=tokens, position_ids=position_ids, past_key_values=self.cache, use_cache=True)
        return made.logits


def past_of(heads: int, layers: int = 2) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(torch.zeros(1, heads, 9, HEAD_DIM), torch.zeros(1, heads, 9, HEAD_DIM)) for _ in range(layers)]


def growing(model: PreTrainedModel, tokens: int) -> ExportedProgram:
    """One token, or a dynamic number of them."""
    shapes = ({1: Dim.AUTO} if tokens > 1 else {}, [({2: Dim.AUTO}, {2: Dim.AUTO})] * 2)
    inputs = (torch.zeros(1, tokens, dtype=torch.int64), past_of(model.config.num_key_value_heads))
    return torch.export.export(Growing(model), inputs, dynamic_shapes=shapes, strict=False)


def static(model: PreTrainedModel) -> ExportedProgram:
    token, position = torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, 1, dtype=torch.int64)
    with torch.no_grad():  # the first write makes its buffers
        return torch.export.export(Static(model), (token, position), strict=False)


def text_of(graph: Any) -> str:
    recognised = recognize(canonicalize(graph)).text(provenance=False)
    return recognised.replace("@inner.", "@")


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("way", ["one token", "several tokens", "static"])
def test_the_recognised_graph_is_the_one_without_a_cache(model: str, way: str) -> None:
    module = hugging_face(**MODELS[model])
    program = static(module) if way == "static" else growing(module, 1 if way == "one token" else 5)
    assert text_of(from_exported(program, "m")) == text_of(from_torch(module, "m"))


def test_stages_of_a_program_with_a_cache_compute_what_torch_does() -> None:
    module = randomize(hugging_face())
    inner = {f"inner.{name}" for name, _ in module.named_parameters()}
    for program in (growing(module, 1), growing(module, 5), static(module)):
        graphs = stages(from_exported(program, "m"))
        assert {parameter.name for parameter in graphs[2].parameters} == inner
        assert_stages_compute(Wrapped(module), graphs)


class Wrapped(nn.Module):
    """Names its parameters as the modules with caches do."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, tokens: torch.Tensor) -> Any:
        return self.inner(tokens)


class ByHand(Spelt):
    """A layer that takes positions, a padding mask and the past of its keys and values."""

    def forward(  # type: ignore[override]
        self, tokens: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, positions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        block, x = self.blocks[0], self.table(tokens)
        count = tokens.shape[1]
        q, k, v = (part.view(1, count, -1, HEAD_DIM) for part in block.qkv(block.one(x)))
        angles = positions[0, :, None].float() * self.frequencies
        q, k = (rotate(part, angles, "half").transpose(1, 2) for part in (q, k))
        keys, values = torch.cat((keys, k), 2), torch.cat((values, v.transpose(1, 2)), 2)
        y = functional.scaled_dot_product_attention(q, keys, values, enable_gqa=True)
        x = x + block.o(y.transpose(1, 2).reshape(1, count, -1))
        x = x + block.down(block._mlp(block.two(x)))
        return self.logits(self.last(x)), keys, values


def exported_by_hand(**dynamic: Any) -> ExportedProgram:
    ((keys, values),) = past_of(KV_HEADS, layers=1)
    token, position = torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, 1, dtype=torch.int64)
    shapes: tuple[dict[int, Any], ...] = (
        {},
        dynamic.get("keys", {2: Dim.AUTO}),
        dynamic.get("values", {2: Dim.AUTO}),
        {},
    )
    return torch.export.export(ByHand(), (token, keys, values, position), dynamic_shapes=shapes, strict=False)


def test_a_decode_step_by_hand_without_a_mask() -> None:
    assert text_of(from_exported(exported_by_hand(), "m")) == text_of(from_torch(Spelt(), "m"))


def test_a_cached_length_that_is_fixed_is_refused_by_the_input() -> None:
    with pytest.raises(ExportError, match=r"input 'keys' \[1, 2, 9, 8\] looks like cached keys .* as Dim\.AUTO"):
        from_exported(exported_by_hand(keys={}, values={}))


def test_an_input_of_no_known_meaning_is_refused_by_its_name() -> None:
    class Scaled(Spelt):
        def forward(self, tokens: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return super().forward(tokens) * factor

    inputs = (torch.zeros((1, 9), dtype=torch.int64), torch.ones(1))
    shapes: tuple[dict[int, Any], ...] = ({1: Dim.DYNAMIC}, {})
    program = torch.export.export(Scaled(), inputs, dynamic_shapes=shapes, strict=False)
    with pytest.raises(ExportError, match=r"input 'factor' \[1\] f32 is neither the tokens, nor positions"):
        from_exported(program)


def test_a_rolling_static_cache_is_refused_with_its_operators() -> None:
    module = hugging_face(family="mistral", sliding_window=8)
    with pytest.raises(UnsupportedOperatorError):
        text_of(from_exported(static(module), "m"))
