"""Llama as a plain torch module: one causal pass over T tokens, parameters named as Hugging Face names them.

It exists to be exported and to be the reference; it keeps no cache, the compiler adds the KV state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from wsesim_models.config import LlamaConfig

if TYPE_CHECKING:
    from wsesim.program.protocols import WeightStore


class Llama(nn.Module):  # type: ignore[misc]
    """tokens [T] or [1, T] (int64) -> logits [T, vocab] or [1, T, vocab]; position of token t is t.

    Build it under `torch.device("meta")` to export it without weights: `inv_freq` then has no value, and
    `config.inv_freq()` is the one to use.
    """

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Decoder(config)
        self.lm_head = None if config.tied else _linear(config.dim, config.vocab_size)
        self.register_buffer("inv_freq", torch.tensor(config.inv_freq()), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        positions = torch.arange(tokens.shape[-1], device=tokens.device)
        angles = positions[:, None] * self.inv_freq  # [T, hd/2]
        angles = torch.cat((angles, angles), dim=-1)  # [T, hd]
        x = self.model(tokens, angles.cos(), angles.sin())  # [.., T, dim]
        head = self.model.embed_tokens if self.lm_head is None else self.lm_head
        return functional.linear(x, head.weight)


class Decoder(nn.Module):  # type: ignore[misc]
    """Embedding, layers and the last norm: tokens [.., T] -> [.., T, dim]."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.dim)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.dim, config.norm_eps)

    def forward(self, tokens: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = self.embed_tokens(tokens)
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.norm(x)


class Layer(nn.Module):  # type: ignore[misc]
    """One residual pair: attention, then the gated feed-forward; [.., T, dim] -> [.., T, dim]."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(config.dim, config.norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = nn.RMSNorm(config.dim, config.norm_eps)
        self.mlp = FeedForward(config)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Attention(nn.Module):  # type: ignore[misc]
    """Causal grouped-query attention: query head h reads key and value head h // (heads / kv_heads)."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
        self.head_dim, self.window = config.head_dim, config.window
        self.q_proj = _linear(config.dim, queries, config.qkv_bias)
        self.k_proj = _linear(config.dim, keys, config.qkv_bias)
        self.v_proj = _linear(config.dim, keys, config.qkv_bias)
        self.o_proj = _linear(queries, config.dim)
        self.q_norm = _head_norm(config)
        self.k_norm = _head_norm(config)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        q = rotate(self.q_norm(self._split(self.q_proj(x))), cos, sin)  # [.., heads, T, hd]
        k = rotate(self.k_norm(self._split(self.k_proj(x))), cos, sin)  # [.., kv_heads, T, hd]
        v = self._split(self.v_proj(x))  # [.., kv_heads, T, hd]
        mask = None if self.window is None else _within(q.shape[-2], self.window, q.device)
        y = functional.scaled_dot_product_attention(q, k, v, mask, is_causal=mask is None, enable_gqa=True)
        return self.o_proj(y.transpose(-3, -2).flatten(-2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head_dim)).transpose(-3, -2)


class FeedForward(nn.Module):  # type: ignore[misc]
    """SwiGLU: down(silu(gate x) * up x)."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.gate_proj = _linear(config.dim, config.ffn_dim)
        self.up_proj = _linear(config.dim, config.ffn_dim)
        self.down_proj = _linear(config.ffn_dim, config.dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """RoPE in half-split form: element i turns with element i + hd/2. x [.., T, hd]; cos, sin [T, hd]."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def with_weights(config: LlamaConfig, weights: WeightStore) -> Llama:
    """The module holding `weights` in float32, each tensor read once."""
    with torch.device("meta"):
        module = Llama(config)
    state = {name: torch.from_numpy(weights.load(name).copy()) for name in config.shapes()}
    module.load_state_dict(state, assign=True)
    module.inv_freq = torch.tensor(config.inv_freq())
    module.eval()
    return module


def _head_norm(config: LlamaConfig) -> nn.Module:
    """Over the features of each head, or nothing."""
    return nn.RMSNorm(config.head_dim, config.norm_eps) if config.qk_norm else nn.Identity()


def _within(tokens: int, window: int, device: torch.device) -> Tensor:
    """[T, T] bool: the last `window` positions up to each token's own."""
    position = torch.arange(tokens, device=device)
    behind = position[:, None] - position
    return (behind >= 0) & (behind < window)


def _linear(inputs: int, outputs: int, bias: bool = False) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=bias)
