"""The recognised operators, what a Llama is made of. Values are [T, features]; attention has KV state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from wsesim_compiler.ir import Shape
from wsesim_compiler.operators.contraction import linear, linear_shape, softmax
from wsesim_compiler.operators.elementwise import silu
from wsesim_compiler.operators.operator import RECOGNIZED, Array, Operator, operator, require

PAIRINGS = ("half", "interleaved")


@dataclass(slots=True)
class KVState:
    """The C = `length` cached tokens: keys (after RoPE) and values [C, kv_heads * head_dim] by node."""

    length: int = 0
    keys: dict[str, Array] = field(default_factory=dict)
    values: dict[str, Array] = field(default_factory=dict)

    def extend(self, node: str, keys: Array, values: Array) -> tuple[Array, Array]:
        """Append one node's new rows and return all of them; `length` grows when the whole step is done."""
        for store, rows in ((self.keys, keys), (self.values, values)):
            store[node] = np.concatenate([store[node], rows]) if node in store else rows
        return self.keys[node], self.values[node]


def _rmsnorm_shape(x: Shape, weight: Shape, *, eps: float) -> Shape:
    require(weight == x[-1:], f"rmsnorm of {list(x)} by a weight {list(weight)}")
    return x


def _rmsnorm(x: Array, weight: Array, *, eps: float) -> Array:
    return np.asarray(x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * weight)


def _qk_norm_shape(x: Shape, weight: Shape, *, heads: int, head_dim: int, eps: float) -> Shape:
    require(x[-1] == heads * head_dim, f"qk_norm of {heads} heads of {head_dim} over {x[-1]} features")
    require(weight == (head_dim,), f"qk_norm of heads of {head_dim} by a weight {list(weight)}")
    return x


def _qk_norm(x: Array, weight: Array, *, heads: int, head_dim: int, eps: float) -> Array:
    return _rmsnorm(x.reshape(len(x), heads, head_dim), weight, eps=eps).reshape(x.shape)


def _rope_shape(x: Shape, inv_freq: Shape, *, heads: int, head_dim: int, pairing: str) -> Shape:
    require(x[-1] == heads * head_dim, f"rope of {heads} heads of {head_dim} over {x[-1]} features")
    require(inv_freq == (head_dim // 2,), f"{list(inv_freq)} frequencies for heads of {head_dim}")
    require(pairing in PAIRINGS, f"pairing {pairing!r} is none of {', '.join(PAIRINGS)}")
    return x


def _rope(x: Array, inv_freq: Array, *, heads: int, head_dim: int, pairing: str, state: KVState, node: str) -> Array:
    return rotated(x, inv_freq, heads, pairing, first_position=state.length)


def rotated(x: Array, inv_freq: Array | Sequence[float], heads: int, pairing: str, first_position: int = 0) -> Array:
    """RoPE of x [T, heads * head_dim]: pair i of the token at position p turns by p * inv_freq[i].

    `half` pairs element i with i + head_dim/2, `interleaved` pairs 2i with 2i + 1.
    """
    tokens = len(x)
    angles = np.outer(np.arange(first_position, first_position + tokens), np.asarray(inv_freq))
    cos, sin = np.cos(angles)[:, None, :], np.sin(angles)[:, None, :]
    axis = -2 if pairing == "half" else -1
    split = x.reshape(tokens, heads, 2, -1) if pairing == "half" else x.reshape(tokens, heads, -1, 2)
    a, b = np.moveaxis(split, axis, 0)
    return np.stack([a * cos - b * sin, b * cos + a * sin], axis=axis).reshape(x.shape)


def _attention_shape(
    q: Shape,
    k: Shape,
    v: Shape,
    *,
    heads: int,
    kv_heads: int,
    head_dim: int,
    scale: float,
    window: int | None = None,
) -> Shape:
    require(q[-1] == heads * head_dim, f"{heads} heads of {head_dim} over {q[-1]} features")
    require(k == v and k[-1] == kv_heads * head_dim, f"{kv_heads} heads of {head_dim} in {list(k)}, {list(v)}")
    require(heads % kv_heads == 0, f"{heads} heads over {kv_heads} key/value heads")
    require(window is None or window > 0, f"a window of {window} positions")
    return q


def _attention(
    q: Array,
    k: Array,
    v: Array,
    *,
    heads: int,
    kv_heads: int,
    head_dim: int,
    scale: float,
    window: int | None = None,
    state: KVState,
    node: str,
) -> Array:
    keys, values = state.extend(node, k, v)
    new, total = len(q), len(keys)
    queries = q.reshape(new, kv_heads, heads // kv_heads, head_dim)
    scores = np.einsum("tgrd,sgd->grts", queries, keys.reshape(total, kv_heads, head_dim)) * scale
    behind = np.arange(total - new, total)[:, None] - np.arange(total)
    visible = (behind >= 0) & (behind < (window or total))
    weights = softmax(np.where(visible, scores, -np.inf))
    mixed = np.einsum("grts,sgd->tgrd", weights, values.reshape(total, kv_heads, head_dim))
    return np.asarray(mixed.reshape(new, heads * head_dim))


def _swiglu_shape(gate: Shape, up: Shape) -> Shape:
    require(gate == up, f"swiglu of {list(gate)} and {list(up)}")
    return gate


def _swiglu(gate: Array, up: Array) -> Array:
    return np.asarray(silu(gate) * up)


OPERATORS: tuple[Operator, ...] = (
    operator("rmsnorm", 2, _rmsnorm_shape, _rmsnorm, stages=(RECOGNIZED,)),
    operator("qk_norm", 2, _qk_norm_shape, _qk_norm, stages=(RECOGNIZED,)),
    operator("rope", 2, _rope_shape, _rope, stages=(RECOGNIZED,), stateful=True),
    operator("attention", 3, _attention_shape, _attention, stages=(RECOGNIZED,), stateful=True),
    operator("swiglu", 2, _swiglu_shape, _swiglu, stages=(RECOGNIZED,)),
    operator("head", (2, 3), linear_shape, linear, stages=(RECOGNIZED,)),
)
