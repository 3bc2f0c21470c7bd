"""Models of several families and styles, compiled for a small machine and executed tile by tile, against torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from torch import nn

from tests.compiler_modules import VOCAB, Spelt, hugging_face, randomize, torch_logits, weights_of
from tests.programs import ORACLE
from wsesim.engine.steps.timing import Timing
from wsesim.execute.executor import Executor
from wsesim.machine import load_machine
from wsesim.program import Program
from wsesim_compiler.frontends.torch_export import from_torch
from wsesim_compiler.lower import lower, understand
from wsesim_compiler.options import Options
from wsesim_models.weights import ArrayWeights

TOKENS = 45
SMOLLM2_ROPE = {"rope_type": "default", "rope_theta": 100_000.0}
MODELS: dict[str, Callable[[], nn.Module]] = {
    "qwen2, eager, tied": lambda: hugging_face(family="qwen2", attn_implementation="eager", tie_word_embeddings=True),
    "mistral, eager": lambda: hugging_face(family="mistral", sliding_window=12, attn_implementation="eager"),
    "qwen2, a window in the second layer": lambda: hugging_face(
        family="qwen2", use_sliding_window=True, sliding_window=6, max_window_layers=1
    ),
    "smollm2": lambda: hugging_face(num_key_value_heads=2, tie_word_embeddings=True, rope_parameters=SMOLLM2_ROPE),
    "packed weights and biases": lambda: Spelt(layers=2, linear="packed_bias"),
    "transposed weights": lambda: Spelt(layers=2, linear="transposed", rope="interleaved"),
    "biases everywhere": lambda: Spelt(layers=2, linear="bias_everywhere"),
}


def program_of(module: nn.Module, machine: str = "toy4x4", **options: Any) -> Program:
    stated = Options(**{"max_context": 64, **options})
    return lower(understand(from_torch(module, "model")), load_machine(machine), stated, ORACLE)


def executor_of(module: nn.Module, **options: Any) -> Executor:
    arrays = {name: array.astype(np.float32) for name, array in weights_of(module).items()}
    return Executor(program_of(module, **options), ArrayWeights(arrays))


def assert_executes(module: nn.Module, **options: Any) -> None:
    """A prompt of 20 and token after token give torch's logits, and 12 greedy ids are torch's."""
    executor = executor_of(module, **options)
    ids = np.random.default_rng(4).integers(0, VOCAB, TOKENS).tolist()
    sequence = executor.new_sequence()
    found = [executor.step(sequence, ids[:20]), *(executor.step(sequence, [token]) for token in ids[20:])]
    np.testing.assert_allclose(np.stack(found), torch_logits(module, ids)[19:], rtol=0, atol=1e-4)
    greedy = ids[:30]
    sequence, step = executor.new_sequence(), greedy
    for _ in range(12):
        logits = executor.step(sequence, step)
        assert logits is not None
        step = [int(logits.argmax())]
        greedy = greedy + step
    assert greedy[30:] == torch_logits(module, greedy)[29:-1].argmax(-1).tolist()


@pytest.mark.parametrize("model", MODELS)
def test_executed_as_torch_computes(model: str) -> None:
    assert_executes(randomize(MODELS[model]()).eval())


@pytest.mark.parametrize("options", [{"strategy": "shared", "kv": "shift"}, {"kv": "concat", "softmax": "fused"}])
def test_windows_under_every_kv_policy(options: dict[str, str]) -> None:
    """Layers that share a block may differ in their windows."""
    fields = {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1}
    assert_executes(randomize(hugging_face(family="qwen2", **fields)), machine="wse3", **options)


def test_a_window_bounds_memory_and_cycles() -> None:
    """Beyond the window neither grows with the context, except for positions that a chunk overwrites."""
    module = hugging_face(family="mistral", sliding_window=24)
    whole, short = (program_of(module, max_context=n, prefill_chunk=1) for n in (200, 24))
    assert [m.kv_bytes for m in whole.memory] == [m.kv_bytes for m in short.memory]
    chunked = program_of(module, max_context=200, prefill_chunk=4)
    lines = whole.block("layer0").along
    expected = [(m.kv_bytes // -(-24 // lines)) * -(-27 // lines) for m in whole.memory]
    assert [m.kv_bytes for m in chunked.memory] == expected
    timing = Timing(whole)
    cycles = [timing.decode(context).cycles for context in (3, 23, 24, 150)]
    assert cycles[0] < cycles[1] == cycles[2] == cycles[3]
    assert cycles[1] == Timing(short).decode(23).cycles


def test_parts_of_a_packed_weight_take_as_many_bytes_as_apart() -> None:
    packed, apart = (program_of(Spelt(linear=linear)) for linear in ("packed_bias", "bias"))
    assert [m.weight_bytes for m in packed.memory] == [m.weight_bytes for m in apart.memory]
    qkv = next(k for k in packed.kernels if k.name == "layer0.qkv")
    refs = [(ref.name.rpartition(".")[2], ref.start, ref.stop) for ref, _, _ in qkv.tiles]
    assert refs == [(part, *rows) for part in ("weight", "bias") for rows in ((0, 32), (32, 48), (48, 64))]
