"""Small Llamas in many spellings for the compiler's tests: one class, with one option for each spelling."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

DIM, HEADS, KV_HEADS, HEAD_DIM, FFN, VOCAB = 32, 4, 2, 8, 48, 40
FAMILIES: dict[str, type[PreTrainedConfig]] = {
    "llama": LlamaConfig,
    "mistral": MistralConfig,
    "qwen2": Qwen2Config,
    "qwen3": Qwen3Config,
}
DEFAULTS: dict[str, str] = {
    "norm": "pow",
    "rope": "half",
    "attention": "sdpa",
    "mlp": "silu_first",
    "residual": "first",
    "tokens": "batch",
    "output": "all",
    "angles": "buffer",
    "qk_norm": "none",
    "linear": "module",
}


class Spelt(nn.Module):
    """A Llama-shaped model; `spelling` overrides DEFAULTS."""

    def __init__(self, layers: int = 1, **spelling: str) -> None:
        super().__init__()
        self.spelling = {**DEFAULTS, **spelling}
        self.table = nn.Embedding(VOCAB, DIM)
        self.blocks = nn.ModuleList(Block(self.spelling) for _ in range(layers))
        self.last = Norm(self.spelling["norm"])
        self.logits = nn.Linear(DIM, VOCAB, bias=False)
        frequencies = torch.tensor([1.0 / 100.0 ** (i / HEAD_DIM) for i in range(0, HEAD_DIM, 2)])
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        if self.spelling["tokens"] == "flat":
            tokens = tokens.view(1, -1)
        angles = self._angles(tokens.shape[1])
        x = self.table(tokens)
        for block in self.blocks:
            x = block(x, angles)
        if self.spelling["output"] == "last":
            x = x[:, -1:]
        y = self.logits(self.last(x))
        return y[:, -1] if self.spelling["output"] == "last_logits" else y

    def _angles(self, tokens: int) -> torch.Tensor:
        positions = torch.arange(tokens).float()
        if self.spelling["angles"] == "buffer":
            return torch.outer(positions, self.frequencies)
        if self.spelling["angles"] == "einsum":
            return torch.einsum("i,j->ij", positions, self.frequencies)
        steps = torch.arange(0, HEAD_DIM, 2).float() / HEAD_DIM
        return positions[:, None] * (1.0 / (100.0**steps))[None, :]


class Block(nn.Module):
    def __init__(self, spelling: Mapping[str, str]) -> None:
        super().__init__()
        self.spelling = spelling
        self.one, self.two = Norm(spelling["norm"]), Norm(spelling["norm"])
        queries, keys = HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM
        kind = spelling["linear"]
        self.qkv = Linears(kind, queries, keys, keys)
        self.o = nn.Linear(queries, DIM, bias=kind == "bias_everywhere")
        if spelling["qk_norm"] != "none":
            whole = spelling["qk_norm"] == "whole"
            self.q_norm = Norm(spelling["norm"], HEADS * HEAD_DIM if whole else HEAD_DIM)
            self.k_norm = Norm(spelling["norm"], KV_HEADS * HEAD_DIM if whole else HEAD_DIM)
        self.gate_up = Linears(_of_mlp(kind), FFN, FFN)
        self.down = nn.Linear(FFN, DIM, bias=kind == "bias_everywhere")

    def forward(self, x: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
        x = self._add(x, self._attention(self.one(x), angles))
        return self._add(x, self.down(self._mlp(self.two(x))))

    def _add(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + y if self.spelling["residual"] == "first" else y + x

    def _mlp(self, x: torch.Tensor) -> torch.Tensor:
        gate, up = self.gate_up(x)
        if self.spelling["mlp"] == "silu_first":
            return functional.silu(gate) * up
        if self.spelling["mlp"] == "silu_last":
            return up * functional.silu(gate)
        if self.spelling["mlp"] == "sigmoid":
            return gate * torch.sigmoid(gate) * up
        return functional.gelu(gate) * up

    def _attention(self, x: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
        batch, tokens, _ = x.shape
        where = self.spelling["qk_norm"]
        q, k, v = self.qkv(x)
        if where == "whole":
            q, k = self.q_norm(q), self.k_norm(k)
        q = q.view(batch, tokens, HEADS, HEAD_DIM)
        k = k.view(batch, tokens, KV_HEADS, HEAD_DIM)
        v = v.view(batch, tokens, KV_HEADS, HEAD_DIM)
        if where == "before":
            q, k = self.q_norm(q), self.k_norm(k)
        if where == "twice":
            q, k = self.q_norm(self.q_norm(q)), self.k_norm(k)
        if where == "values":
            v = self.k_norm(v)
        q, k = (rotate(part, angles, self.spelling["rope"]) for part in (q, k))
        if where == "after":
            q, k = self.q_norm(q), self.k_norm(k)
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        y = attend(q, k, v, self.spelling["attention"])
        return self.o(y.transpose(1, 2).contiguous().view(batch, tokens, -1))


def _of_mlp(kind: str) -> str:
    """Biases are before attention only, as in Qwen2, unless the spelling says `everywhere`."""
    return {"bias": "module", "added_bias": "module", "packed_bias": "packed"}.get(kind, kind)


class Linears(nn.Module):
    """Several linears of one input: separate modules with or without biases, one packed weight, or plain products."""

    def __init__(self, kind: str, *sizes: int) -> None:
        super().__init__()
        self.kind, self.sizes = kind, sizes
        if kind.startswith("packed"):
            self.packed = nn.Linear(DIM, sum(sizes), bias=kind == "packed_bias")
        elif kind == "transposed":
            self.stored = nn.ParameterList(nn.Parameter(torch.ones(DIM, size)) for size in sizes)
        else:
            self.parts = nn.ModuleList(nn.Linear(DIM, size, bias="bias" in kind) for size in sizes)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        if self.kind.startswith("packed"):
            return list(self.packed(x).split(self.sizes, -1))
        if self.kind == "transposed":
            return [x @ weight for weight in self.stored]
        if self.kind == "product":
            return [x @ part.weight.T for part in self.parts]
        if self.kind == "added_bias":
            return [part.bias + functional.linear(x, part.weight) for part in self.parts]
        return [part(x) for part in self.parts]


class Norm(nn.Module):
    def __init__(self, spelling: str, size: int = DIM) -> None:
        super().__init__()
        self.spelling, self.size = spelling, size
        self.scale = nn.Parameter(torch.ones(size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.spelling == "fused":
            return functional.rms_norm(x, (self.size,), self.scale, 1e-5)
        if self.spelling == "default_eps":
            return functional.rms_norm(x, (self.size,), self.scale)
        if self.spelling == "layer":
            return functional.layer_norm(x, (DIM,), self.scale)
        if self.spelling == "sqrt":
            return x * (1.0 / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-5)) * self.scale
        if self.spelling == "div":
            return self.scale * (x / ((x**2).mean(dim=x.ndim - 1, keepdim=True) + 1e-5).sqrt())
        half = x.to(torch.float32)
        normal = half * torch.rsqrt(half.pow(2).mean(-1, keepdim=True) + 1e-5)
        if self.spelling == "cast_after":
            return (self.scale * normal).to(x.dtype)
        return normal.type_as(x) * self.scale


def rotate(x: torch.Tensor, angles: torch.Tensor, spelling: str) -> torch.Tensor:
    """x [1, T, heads, head_dim]."""
    if spelling == "squared_positions":
        angles = angles * angles
    cos, sin = angles.cos()[:, None, :], angles.sin()[:, None, :]
    if spelling == "none":
        return x
    if spelling == "half":
        both = torch.cat((angles, angles), -1)[:, None, :]
        first, second = x[..., : HEAD_DIM // 2], x[..., HEAD_DIM // 2 :]
        return x * both.cos() + torch.cat((-second, first), -1) * both.sin()
    if spelling in ("chunk", "squared_positions"):
        first, second = x.chunk(2, -1)
        return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)
    pairs = x.unflatten(-1, (-1, 2))
    even, odd = pairs[..., 0], pairs[..., 1]
    if spelling == "unbind":
        even, odd = pairs.unbind(-1)
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, spelling: str) -> torch.Tensor:
    """q [1, heads, T, head_dim], k and v [1, kv_heads, T, head_dim]."""
    tokens, repeats = q.shape[-2], HEADS // KV_HEADS
    if spelling == "sdpa":
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    if spelling == "swapped_groups":
        k, v = k.repeat(1, repeats, 1, 1), v.repeat(1, repeats, 1, 1)
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    k, v = k.repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1)
    if spelling == "sdpa_scaled_queries":
        return functional.scaled_dot_product_attention(q * 0.5, k, v, is_causal=True, scale=0.25)
    if spelling == "full":
        return functional.scaled_dot_product_attention(q, k, v)
    ones = torch.ones(tokens, tokens, dtype=torch.bool)
    if spelling == "sdpa_mask":
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=ones.tril())
    at = torch.arange(tokens)
    behind = at[:, None] - at[None, :]
    if spelling.startswith("window"):
        near = (behind >= 0) & (behind < int(spelling.removeprefix("window")))
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=near)
    if spelling == "both_ways":
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=(behind < 3) & (behind > -3))
    if spelling.startswith("blocks"):  # like a window, but of the squared distance
        near = (behind >= 0) & (behind * behind < int(spelling.removeprefix("blocks")))
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=near)
    scores = q @ k.transpose(-1, -2)
    if spelling == "masked_fill":
        scores = (scores / math.sqrt(HEAD_DIM)).masked_fill(~ones.tril(), float("-inf"))
    elif spelling == "triu":
        mask = torch.full((tokens, tokens), float("-inf")).triu(1)
        scores = scores * HEAD_DIM**-0.5 + mask
    elif spelling.startswith("eager_window"):
        hidden = (behind < 0) | (behind > int(spelling.removeprefix("eager_window")) - 1)
        scores = (scores * HEAD_DIM**-0.5).masked_fill(hidden, -1e9)
    elif spelling == "where":
        scores = torch.where(ones.tril(), scores * HEAD_DIM**-0.5, -1e9)
    return scores.softmax(-1, dtype=torch.float32).type_as(q) @ v


def hugging_face(layers: int = 2, family: str = "llama", **fields: Any) -> PreTrainedModel:
    """A tiny transformers model of FAMILIES with grouped queries. The caller seeds it."""
    sizes: dict[str, Any] = {
        "vocab_size": VOCAB,
        "hidden_size": DIM,
        "intermediate_size": FFN,
        "num_hidden_layers": layers,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "max_position_embeddings": 256,
    }
    if family != "qwen2":  # whose head_dim is hidden_size / heads
        sizes["head_dim"] = HEAD_DIM
    return AutoModelForCausalLM.from_config(FAMILIES[family](**{**sizes, **fields})).eval()


LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def randomize(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give every parameter random values, large enough that a wrong operand changes the result."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.3 * noise if parameter.ndim == 1 else noise / parameter.shape[-1] ** 0.5)
    return module


def weights_of(module: nn.Module) -> dict[str, np.ndarray]:
    """Every parameter as an array, by all of its names."""
    return {name: p.detach().double().numpy() for name, p in module.named_parameters(remove_duplicate=False)}


def torch_logits(module: nn.Module, ids: list[int]) -> np.ndarray:
    """Logits [T, vocabulary] of a module that returns them, or of a transformers model."""
    with torch.no_grad():
        result = module(torch.tensor([ids]))
    return np.asarray(getattr(result, "logits", result)[0].float())


def tokens_of(count: int = 11) -> np.ndarray:
    return np.random.default_rng(3).integers(0, VOCAB, count)
