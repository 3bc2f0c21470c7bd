"""The whole way: from a model's graph to ids and cycles, against transformers and torch, and against itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import wsesim
from tests.bits import bits
from tests.programs import program
from wsesim.execute.executor import Executor
from wsesim.software import load_software
from wsesim_models.config import CONFIGS, LlamaConfig, RopeScaling
from wsesim_models.llama import with_weights
from wsesim_models.load import tiny_weights
from wsesim_models.weights import ArrayWeights
from wsesim_models.weights.random import random_weights

ROOT = Path(__file__).parent.parent
TOKENS = 40
PROMPTS = {
    "prose": "It was a dark and stormy night",
    "code": "def fibonacci(n):\n    if n < 2:\n",
    "digits": "  7 and 1234: the sum is",
    "other languages": "Der schnelle braune Fuchs springt über den faulen Hund. 日本語も",
    "list": "Shopping list:\n- milk\n- eggs\n-",
    "word": "Hello",
    "dialogue": '"Where are you going?" she asked.\n"',
    "chat": "<|im_start|>user\nWhat is gravity?<|im_end|>\n<|im_start|>assistant\n",
}


SOFTWARE = ["wsesim", "wsesim-plain"]  # every form on, and every form off


@pytest.fixture(scope="module", params=SOFTWARE)
def session(smollm2_path: Path, request: pytest.FixtureRequest) -> wsesim.Session:
    return wsesim.open_session("smollm2-135m", weights=str(smollm2_path), software=request.param)


@pytest.fixture(scope="module")
def huggingface(smollm2_path: Path) -> Any:
    """transformers' Llama with what transformers itself reads of the GGUF file.

    That is what `from_pretrained(gguf_file=...)` does, but for `accelerate`, which only that call asks for.
    """
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    config = AutoConfig.from_pretrained(smollm2_path.parent, gguf_file=smollm2_path.name)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    tensors = load_gguf_checkpoint(str(smollm2_path), return_tensors=True, model_to_load=model)["tensors"]
    absent = model.load_state_dict(tensors, strict=False)
    assert (absent.missing_keys, absent.unexpected_keys) == (["lm_head.weight"], [])  # it is tied
    model.tie_weights()
    return model


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
def test_greedy_ids_are_those_of_transformers(session: wsesim.Session, huggingface: Any, prompt: str) -> None:
    """Each id is the likeliest for transformers after the ids before it, so its greedy text is the same.

    One pass over the whole text says so for every position at once.
    """
    asked = session.tokenizer.encode(prompt)
    answered = session.complete(prompt, max_tokens=TOKENS).completion.token_ids
    with torch.no_grad():
        logits = huggingface(torch.tensor([[*asked, *answered]])).logits[0]
    assert len(answered) == TOKENS
    assert answered == tuple(logits[len(asked) - 1 : -1].argmax(-1).tolist())


def test_transformers_generates_the_same_text(session: wsesim.Session, huggingface: Any) -> None:
    """The same, said by transformers' own token loop and cache."""
    asked = torch.tensor([session.tokenizer.encode(PROMPTS["prose"])])
    generated = huggingface.generate(
        asked, attention_mask=torch.ones_like(asked), max_new_tokens=TOKENS, do_sample=False
    )
    expected = generated[0, asked.shape[1] :].tolist()
    answer = session.complete(PROMPTS["prose"], max_tokens=TOKENS)
    assert list(answer.completion.token_ids) == expected
    assert answer.text == session.tokenizer.decode(expected)


SCALED = RopeScaling(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position=64)
RANDOM = {
    # name, vocabulary, dim, layers, heads, kv_heads, head_dim, ffn_dim, eps, theta, scaling, tied, context
    "grouped queries": LlamaConfig("g", 97, 48, 2, 6, 2, 8, 80, 1e-5, 1e4, None, False, 64),
    "one kv head": LlamaConfig("m", 64, 32, 1, 4, 1, 16, 40, 1e-6, 5e5, None, False, 64),
    "all heads, tied": LlamaConfig("t", 101, 40, 3, 5, 5, 8, 56, 1e-5, 1e4, None, True, 64),
    "heads of q and k normed": LlamaConfig("q", 97, 48, 2, 6, 2, 8, 80, 1e-5, 1e4, None, True, 64, qk_norm=True),
    "biases of q, k and v": LlamaConfig("b", 97, 48, 2, 6, 2, 8, 80, 1e-6, 1e4, None, True, 64, qkv_bias=True),
    "sliding window": LlamaConfig("w", 97, 48, 2, 6, 2, 8, 80, 1e-6, 1e4, None, False, 64, window=6),
    "RoPE scaled": LlamaConfig("s", 80, 32, 2, 4, 2, 16, 64, 1e-5, 1e4, SCALED, False, 64),
    "tied, RoPE scaled": LlamaConfig("ts", 72, 24, 2, 3, 1, 8, 48, 1e-5, 1e4, SCALED, True, 64),
}


@pytest.mark.parametrize("software", SOFTWARE)
@pytest.mark.parametrize("config", RANDOM.values(), ids=RANDOM)
def test_random_llamas_give_torch_logits(config: LlamaConfig, software: str) -> None:
    weights = ArrayWeights(random_weights(config, seed=11))
    found = logits_of(Executor(program(config, "wse3", software=load_software(software)), weights), ids_for(config))
    torch.testing.assert_close(found, expected_logits(config, weights), rtol=0, atol=1e-4)


PLACES = [("toy4x4", "pipelined"), ("toy4x4", "shared"), ("wse2", "pipelined"), ("wse2", "shared"),
          ("wse3", "pipelined"), ("wse3", "shared")]  # fmt: skip


@pytest.mark.parametrize(("machine", "strategy"), PLACES)
def test_tiny_gives_torch_logits_wherever_it_lies(machine: str, strategy: str) -> None:
    config, weights = CONFIGS["tiny"], tiny_weights()
    found = logits_of(Executor(program("tiny", machine, strategy), weights), ids_for(config))
    torch.testing.assert_close(found, expected_logits(config, weights), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("machine", "strategy"), PLACES)
def test_every_run_is_bit_identical(machine: str, strategy: str) -> None:
    """Logits and cycles, of fresh objects."""
    made = program("tiny", machine, strategy)
    assert bits(made) == bits(made)


@pytest.mark.parametrize(("machine", "strategy"), [PLACES[0], PLACES[-1]])
def test_a_fresh_process_gives_the_same_bits(machine: str, strategy: str) -> None:
    """With one thread, and a Program that has been through its text."""
    made = program("tiny", machine, strategy)
    environment = os.environ | {"NUMBA_NUM_THREADS": "1"}
    fresh = subprocess.run(
        [sys.executable, "-m", "tests.bits"],
        input=made.text(),
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert fresh.stdout.strip() == bits(made)


def ids_for(config: LlamaConfig) -> list[int]:
    ids: list[int] = np.random.default_rng(5).integers(0, config.vocab_size, 15).tolist()
    return ids


def logits_of(executor: Executor, ids: list[int]) -> torch.Tensor:
    """[5, vocabulary]: after a prompt of 11, and after each of 4 more tokens."""
    sequence = executor.new_sequence()
    steps = [ids[:11], *([token] for token in ids[11:])]
    return torch.tensor(np.stack([executor.step(sequence, step) for step in steps]))


def expected_logits(config: LlamaConfig, weights: ArrayWeights) -> torch.Tensor:
    with torch.no_grad():
        return with_weights(config, weights)(torch.tensor(ids_for(config)))[10:]
