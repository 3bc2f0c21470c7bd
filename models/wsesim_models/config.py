"""The numbers of a Llama, and the table of the models that have a name."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from wsesim.errors import InvalidInputError, UnknownNameError

_MOST = {
    "vocab_size": 1 << 24,
    "dim": 1 << 20,
    "layers": 1 << 12,
    "heads": 1 << 16,
    "kv_heads": 1 << 16,
    "head_dim": 1 << 16,
    "ffn_dim": 1 << 24,
    "max_context": 1 << 40,
}
"""Limits of a LlamaConfig's sizes, well above every published model."""


def _within(field: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:  # False for NaN too
        raise InvalidInputError(f"{field} is {value}, expected {least} to {most}")


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """Llama 3.1's scaling of RoPE's slow rotations (`rope_type: llama3`)."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position: int

    def __post_init__(self) -> None:
        for name in ("factor", "low_freq_factor", "high_freq_factor", "original_max_position"):
            _within(f"rope_scaling.{name}", getattr(self, name), 0 if name == "low_freq_factor" else 1, 2**31)
        if self.high_freq_factor <= self.low_freq_factor:
            raise InvalidInputError(
                f"rope_scaling.high_freq_factor is {self.high_freq_factor}, expected more than "
                f"low_freq_factor, {self.low_freq_factor}"
            )

    def scaled(self, frequency: float) -> float:
        """One inverse frequency: kept if fast, divided by `factor` if slow, blended between the two."""
        turns = self.original_max_position * frequency / (2 * math.pi)
        kept = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        kept = min(max(kept, 0.0), 1.0)
        return frequency * (kept + (1 - kept) / self.factor)


@dataclass(frozen=True, slots=True)
class LlamaConfig:
    """All numbers of a Llama but its weights.

    heads, kv_heads: `heads` query heads share `kv_heads` key and value heads, all of `head_dim` elements.
    tied: the head is the embedding, transposed.
    max_context: the longest sequence that it was trained for, in tokens.
    qk_norm: each head of q and k has an RMSNorm before its rotation, as in Qwen3.
    qkv_bias: the projections to q, k and v have biases, as in Qwen2.
    window: a token sees at most so many positions, its own included, as in Mistral; None: all before it.
    """

    name: str
    vocab_size: int
    dim: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn_dim: int
    norm_eps: float
    rope_theta: float
    rope_scaling: RopeScaling | None
    tied: bool
    max_context: int
    qk_norm: bool = False
    qkv_bias: bool = False
    window: int | None = None

    def __post_init__(self) -> None:
        """Raises InvalidInputError that names the field whose rule is broken."""
        for name, most in _MOST.items():
            _within(name, getattr(self, name), 1, most)
        _within("norm_eps", self.norm_eps, 0.0, 1.0)
        _within("rope_theta", self.rope_theta, 1.0, 1e15)
        if self.window is not None:
            _within("window", self.window, 1, 2**40)
        if self.heads % self.kv_heads:
            raise InvalidInputError(f"heads is {self.heads}, expected a multiple of kv_heads, {self.kv_heads}")
        if self.head_dim % 2:
            raise InvalidInputError(f"head_dim is {self.head_dim}, expected an even number: RoPE turns pairs")

    def inv_freq(self) -> tuple[float, ...]:
        """The [head_dim / 2] rotations in radians per token, rounded once to float32.

        Rounded here so that float32 and float64 users of the model compute with the same numbers.
        """
        plain = (self.rope_theta ** (-i / self.head_dim) for i in range(0, self.head_dim, 2))
        scaled = map(self.rope_scaling.scaled, plain) if self.rope_scaling else plain
        return tuple(float(np.float32(frequency)) for frequency in scaled)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every parameter by its Hugging Face name, [out, in] for matrices, in graph order."""
        shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (self.vocab_size, self.dim)}
        for layer in range(self.layers):
            shapes |= {f"model.layers.{layer}.{name}": shape for name, shape in self._layer_shapes().items()}
        shapes["model.norm.weight"] = (self.dim,)
        if not self.tied:
            shapes["lm_head.weight"] = (self.vocab_size, self.dim)
        return shapes

    def _layer_shapes(self) -> dict[str, tuple[int, ...]]:
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        projected = {"q": queries, "k": keys, "v": keys}
        norms = ("self_attn.q_norm.weight", "self_attn.k_norm.weight") if self.qk_norm else ()
        return {
            **{f"self_attn.{name}_proj.weight": (size, self.dim) for name, size in projected.items()},
            **{f"self_attn.{name}_proj.bias": (size,) for name, size in projected.items() if self.qkv_bias},
            "self_attn.o_proj.weight": (self.dim, queries),
            **{name: (self.head_dim,) for name in norms},
            "mlp.gate_proj.weight": (self.ffn_dim, self.dim),
            "mlp.up_proj.weight": (self.ffn_dim, self.dim),
            "mlp.down_proj.weight": (self.dim, self.ffn_dim),
            "input_layernorm.weight": (self.dim,),
            "post_attention_layernorm.weight": (self.dim,),
        }

    def parameters(self) -> int:
        """How many numbers the weights are; a tied head counts once."""
        return sum(math.prod(shape) for shape in self.shapes().values())


def config(name: str) -> LlamaConfig:
    """The model of that name.

    Raises UnknownNameError for a name outside `CONFIGS`.
    """
    if name not in CONFIGS:
        raise UnknownNameError("model", name, CONFIGS)
    return CONFIGS[name]


_LLAMA_3_1 = RopeScaling(8.0, 1.0, 4.0, 8192)
_LLAMA_3_2 = RopeScaling(32.0, 1.0, 4.0, 8192)

# Sources: config.json of meta-llama/Llama-3.1-8B, -70B, Llama-3.2-1B, -3B, of
# HuggingFaceTB/SmolLM2-135M-Instruct, of Qwen/Qwen2.5-0.5B, -1.5B and Qwen3-4B, and of
# mistralai/Mistral-7B-v0.1.
# `tiny` is this project's own: it fits sixteen PEs, and its tokens are bytes.
_TABLE = [
    # name, vocabulary, dim, layers, heads, kv_heads, head_dim, ffn_dim, eps, theta, scaling, tied, context
    LlamaConfig("llama3.1-8b", 128256, 4096, 32, 32, 8, 128, 14336, 1e-5, 5e5, _LLAMA_3_1, False, 131072),
    LlamaConfig("llama3.1-70b", 128256, 8192, 80, 64, 8, 128, 28672, 1e-5, 5e5, _LLAMA_3_1, False, 131072),
    LlamaConfig("llama3.2-1b", 128256, 2048, 16, 32, 8, 64, 8192, 1e-5, 5e5, _LLAMA_3_2, True, 131072),
    LlamaConfig("llama3.2-3b", 128256, 3072, 28, 24, 8, 128, 8192, 1e-5, 5e5, _LLAMA_3_2, True, 131072),
    LlamaConfig("smollm2-135m", 49152, 576, 30, 9, 3, 64, 1536, 1e-5, 1e5, None, True, 8192),
    LlamaConfig("qwen2.5-0.5b", 151936, 896, 24, 14, 2, 64, 4864, 1e-6, 1e6, None, True, 32768, qkv_bias=True),
    LlamaConfig("qwen2.5-1.5b", 151936, 1536, 28, 12, 2, 128, 8960, 1e-6, 1e6, None, True, 131072, qkv_bias=True),
    LlamaConfig("qwen3-4b", 151936, 2560, 36, 32, 8, 128, 9728, 1e-6, 1e6, None, True, 40960, qk_norm=True),
    LlamaConfig("mistral-7b", 32000, 4096, 32, 32, 8, 128, 14336, 1e-5, 1e4, None, False, 32768, window=4096),
    LlamaConfig("tiny", 256, 32, 2, 4, 2, 8, 64, 1e-5, 1e4, None, True, 256),
]
CONFIGS = {entry.name: entry for entry in _TABLE}
