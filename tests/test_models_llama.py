"""The torch module against transformers, and its export."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from tests.test_models_config import huggingface_config
from wsesim_models.config import CONFIGS, LlamaConfig, RopeScaling, config
from wsesim_models.llama import Llama, with_weights
from wsesim_models.load import tiny_weights
from wsesim_models.weights import ArrayWeights
from wsesim_models.weights.random import random_weights

TINY = config("tiny")
VARIANTS = {
    "gqa, tied": TINY,
    "untied": dataclasses.replace(TINY, tied=False),
    "multi-head": dataclasses.replace(TINY, kv_heads=4),
    "one kv head": dataclasses.replace(TINY, kv_heads=1, layers=3),
    "scaled": dataclasses.replace(TINY, rope_theta=5e5, rope_scaling=RopeScaling(8.0, 1.0, 4.0, 32)),
    "heads of q and k normed": dataclasses.replace(TINY, qk_norm=True, kv_heads=1),
    "biases of q, k and v": dataclasses.replace(TINY, qkv_bias=True, kv_heads=1),
    "sliding window": dataclasses.replace(TINY, window=16),
    "head_dim not dim / heads": dataclasses.replace(TINY, head_dim=16, norm_eps=1e-3),
}


def reference(model: LlamaConfig, seed: int) -> PreTrainedModel:
    state = {name: torch.from_numpy(array) for name, array in random_weights(model, seed).items()}
    huggingface = AutoModelForCausalLM.from_config(huggingface_config(model)).eval()
    huggingface.load_state_dict(state, strict=not model.tied)
    return huggingface


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_logits_are_those_of_transformers(variant: str) -> None:
    model = VARIANTS[variant]
    tokens = torch.randint(256, (1, 70), generator=torch.Generator().manual_seed(0))
    expected = reference(model, seed=1)(tokens).logits
    found = with_weights(model, ArrayWeights(random_weights(model, 1)))(tokens)
    assert expected.abs().max() > 3
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=5e-5)


@torch.no_grad()
def test_causal_and_without_batch() -> None:
    model = with_weights(TINY, tiny_weights())
    tokens = torch.tensor(list(b"a token sees those before it"))
    whole = model(tokens)
    assert whole.shape == (len(tokens), 256)
    torch.testing.assert_close(model(tokens[None])[0], whole, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(model(tokens[:7]), whole[:7], rtol=1e-5, atol=1e-4)
    changed = model(torch.cat((tokens[:-1], tokens[:1])))
    torch.testing.assert_close(changed[:-1], whole[:-1], rtol=1e-5, atol=1e-4)
    assert not torch.allclose(changed[-1], whole[-1], atol=1e-1)


@pytest.mark.parametrize("name", CONFIGS)
def test_meta_build_has_the_published_parameters(name: str) -> None:
    with torch.device("meta"):
        model = Llama(config(name))
    assert {n: tuple(p.shape) for n, p in model.named_parameters()} == config(name).shapes()
    assert [n for n, _ in model.named_buffers()] == ["inv_freq"]
    assert "inv_freq" not in model.state_dict()


@pytest.mark.parametrize("tokens_shape", [(5,), (1, 5)])
@pytest.mark.parametrize("tied", [True, False])
def test_exports_on_meta_with_a_dynamic_sequence(tokens_shape: tuple[int, ...], tied: bool) -> None:
    with torch.device("meta"):
        model = Llama(dataclasses.replace(TINY, tied=tied))
        tokens = torch.zeros(tokens_shape, dtype=torch.int64)
    dynamic = ({len(tokens_shape) - 1: torch.export.Dim("T", min=2, max=256)},)
    exported = torch.export.export(model, (tokens,), dynamic_shapes=dynamic, strict=False)
    targets = {spec.target for spec in exported.graph_signature.input_specs if spec.target}
    assert targets == {*model.config.shapes(), "inv_freq"}
    (logits,) = exported.graph.output_node().args[0]
    assert isinstance(logits.meta["val"].shape[-2], torch.SymInt)


@torch.no_grad()
def test_tiny_answers_in_varied_printable_text() -> None:
    model = with_weights(TINY, tiny_weights())
    for prompt in (b"Hello", b"It was a dark and stormy night"):
        tokens, margins = list(prompt), []
        for _ in range(100):
            best, second = model(torch.tensor(tokens))[-1].topk(2)[0].tolist()
            tokens.append(int(model(torch.tensor(tokens))[-1].argmax()))
            margins.append(best - second)
        answer = bytes(tokens[len(prompt) :])
        assert answer.decode("ascii").isprintable()
        assert len(set(answer)) >= 10
        assert min(margins) > 0.02  # hundreds of times the rounding of float32
