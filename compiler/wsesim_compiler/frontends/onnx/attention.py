"""Attention and RoPE whole, as opset 23 and onnxruntime have them, in raw operators: heads, rotation, torch's fused
attention.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from wsesim_compiler.frontends.onnx.builder import Builder
from wsesim_compiler.frontends.onnx.rope import angles, rotated
from wsesim_compiler.frontends.onnx.rule import Given, Rule, rule
from wsesim_compiler.frontends.onnx.rules import RULES
from wsesim_compiler.frontends.onnx.values import PROBES, NotReadError, Operand, Static, Weight, is_past
from wsesim_compiler.ir import TOKENS


def _attention(build: Builder, given: Given, *operands: Operand) -> tuple[Operand, ...]:
    """Opset 23: q, k, v [1, heads, T, head_dim] or [1, T, heads * head_dim], mask, past keys and values, lengths."""
    q, k, v, mask, past_key, past_value, lengths = _padded(operands, 7)
    _require(given, softcap=0.0, qk_matmul_output_mode=0)
    _require_empty(past_key, past_value)
    _require_absent(nonpad_kv_seqlen=lengths)
    whole = len(build.shape(q)) == 4
    heads, kv_heads = given.get("q_num_heads", 0), given.get("kv_num_heads", 0)
    if not whole:
        q, k, v = (_split(build, x, n) for x, n in ((q, heads), (k, kv_heads), (v, kv_heads)))
    mixed = _mixed(build, q, k, v, mask, causal=bool(given.get("is_causal", 0)), scale=given.get("scale"))
    return (mixed if whole else _merged(build, mixed), None, None, None)


def _group_query_attention(build: Builder, given: Given, *operands: Operand) -> tuple[Operand, ...]:
    """onnxruntime: q [1, T, heads * head_dim], k, v; or all of them in one."""
    q, k, v, past_key, past_value, lengths, total, cos, sin, positions, bias, sink, *more = _padded(operands, 14)
    _require(
        given,
        softcap=0.0,
        smooth_softmax=0,
        kv_cache_bit_width=0,
        k_quant_type="NONE",
        v_quant_type="NONE",
        qk_output=0,
    )
    _require_empty(past_key, past_value)
    _require_absent(attention_bias=bias, head_sink=sink, **{f"input_{12 + i}": value for i, value in enumerate(more)})
    _require_counts(lengths, total)
    heads, kv_heads = given["num_heads"], given["kv_num_heads"]
    if k is None:
        q, k, v = _unpacked(build, q, heads, kv_heads)
    query, key, value = (_split(build, x, n) for x, n in ((q, heads), (k, kv_heads), (v, kv_heads)))
    if given.get("do_rotary", 0):
        turn = angles(build, cos, sin, positions)
        query, key = (rotated(build, x, *turn, bool(given.get("rotary_interleaved", 0))) for x in (query, key))
    window = given.get("local_window_size", -1)
    if given.get("sliding_window_cache", 0) and window <= 0:  # with one, what is cached is less, what is seen the same
        raise NotReadError("with sliding_window_cache and no window")
    mask = _window(build, window) if window > 0 else None
    scale = given.get("scale", 0.0) or None
    return (_merged(build, _mixed(build, query, key, value, mask, causal=mask is None, scale=scale)), None, None)


def _multi_head_attention(build: Builder, given: Given, *operands: Operand) -> tuple[Operand, ...]:
    """onnxruntime: q, k, v [1, T, heads * head_dim], a bias of all three, a mask of keys, one of scores."""
    q, k, v, bias, key_mask, mask, past_key, past_value, *more = _padded(operands, 10)
    if k is None or v is None or any(len(build.shape(x)) != 3 for x in (q, k, v)):
        raise NotReadError("of packed queries, keys and values")
    _require_empty(past_key, past_value)
    _require_absent(**{f"input_{8 + i}": value for i, value in enumerate(more)})
    _require_all_visible(key_mask)
    heads = given["num_heads"]
    parts = [_split(build, x, heads) for x in _biased(build, (q, k, v), bias)]
    scale = given.get("scale", 0.0) or None
    causal = bool(given.get("unidirectional", 0))
    return (_merged(build, _mixed(build, parts[0], parts[1], parts[2], mask, causal=causal, scale=scale)), None, None)


def _rotary(build: Builder, given: Given, x: Operand, cos: Operand, sin: Operand, positions: Operand = None) -> Operand:
    """Opset 23: x [1, heads, T, head_dim], or [1, T, heads * head_dim] with the number of heads."""
    _require(given, rotary_embedding_dim=0)
    turn = angles(build, cos, sin, positions)
    whole = len(build.shape(x)) == 4
    turned = rotated(
        build, x if whole else _split(build, x, given.get("num_heads", 0)), *turn, bool(given.get("interleaved", 0))
    )
    return turned if whole else _merged(build, turned)


def _rotary_by_position(
    build: Builder, given: Given, x: Operand, positions: Operand, cos: Operand, sin: Operand
) -> Operand:
    """onnxruntime: the same with the positions first; the head size follows from the tables."""
    _require(given, rotary_embedding_dim=0, is_packed_batching=0, scale=1.0)
    first = isinstance(positions, Static) and build.shape(positions) == (1,)
    if first and isinstance(positions, Static) and any(array.item() != 0 for array in positions.arrays):
        raise NotReadError("from a position that is not 0")
    half, width = build.shape(cos)[-1], build.shape(x)[-1]
    if not isinstance(half, int) or not isinstance(width, int) or width % (2 * half):
        raise NotReadError(f"of {half} pairs over {width} features")
    heads = {"num_heads": width // (2 * half), "interleaved": given.get("interleaved", 0)}
    return _rotary(build, heads, x, cos, sin, None if first else positions)


def _padded(operands: tuple[Operand, ...], count: int) -> list[Operand]:
    return [*operands, *[None] * (count - len(operands))]


def _require(given: Given, **neutral: object) -> None:
    """Raise NotReadError for an attribute that asks for something beside plain attention."""
    for name, value in neutral.items():
        if given.get(name, value) != value:
            raise NotReadError(f"with {name} {given[name]}")


def _require_absent(**operands: Operand) -> None:
    for name, operand in operands.items():
        if operand is not None:
            raise NotReadError(f"with {name}")


def _require_empty(*past: Operand) -> None:
    for cache in past:
        empty = isinstance(cache, Static) and all(array.size == 0 for array in cache.arrays)
        if not (cache is None or empty or is_past(cache)):
            raise NotReadError("with cached keys or values that are no input of the model")


def _require_counts(lengths: Operand, total: Operand) -> None:
    """The mask that is all ones: the last position is T - 1 and there are T in all."""
    for value, less in ((lengths, 1), (total, 0)):
        counted = isinstance(value, Static) and all(
            np.all(array == tokens - less) for array, tokens in zip(value.arrays, PROBES, strict=True)
        )
        if not counted:
            raise NotReadError("over another number of positions than there are tokens")


def _require_all_visible(mask: Operand) -> None:
    if mask is not None and not (isinstance(mask, Static) and all(np.all(array == 1) for array in mask.arrays)):
        raise NotReadError("with a mask of keys")


def _split(build: Builder, x: Operand, heads: int) -> Operand:
    """[1, T, heads * head_dim] -> [1, heads, T, head_dim]."""
    shape = build.shape(x)
    if len(shape) == 4:
        return x
    width = shape[-1]
    if heads <= 0 or not isinstance(width, int) or width % heads:
        raise NotReadError(f"of {heads} heads over {width} features")
    rows = build.add("reshape", x, shape=(*shape[:-1], heads, width // heads))
    return build.add("permute", rows, dims=(0, 2, 1, 3))


def _merged(build: Builder, x: Operand) -> Operand:
    """[1, heads, T, head_dim] -> [1, T, heads * head_dim]."""
    batch, heads, tokens, size = build.shape(x)
    assert isinstance(heads, int) and isinstance(size, int)
    return build.add("reshape", build.add("permute", x, dims=(0, 2, 1, 3)), shape=(batch, tokens, heads * size))


def _mixed(
    build: Builder, q: Operand, k: Operand, v: Operand, mask: Operand, *, causal: bool, scale: float | None
) -> Operand:
    """torch's fused attention; with a mask or causal, not both."""
    if mask is not None and causal:
        raise NotReadError("causal and with a mask")
    causal = causal or (build.single and mask is None)  # the newest token, the only one of its file, sees everything
    given: dict[str, Any] = {"is_causal": True} if causal else {}
    if scale is not None:
        given["scale"] = scale
    if build.shape(q)[1] != build.shape(k)[1]:
        given["enable_gqa"] = True
    return build.add("scaled_dot_product_attention", q, k, v, *(() if mask is None else (mask,)), **given)


def _window(build: Builder, size: int) -> Operand:
    """The mask [T, T] that shows the last `size` positions, the token's own included."""
    counted = build.add("arange", end=TOKENS, dtype="i64")
    rows = build.add("reshape", counted, shape=(TOKENS, 1))
    back = build.add("sub", rows, build.add("reshape", counted, shape=(1, TOKENS)))
    return build.add(
        "logical_and", build.add("ge", back, dtype="bool", other=0), build.add("lt", back, dtype="bool", other=size)
    )


def _unpacked(build: Builder, packed: Operand, heads: int, kv_heads: int) -> tuple[Operand, Operand, Operand]:
    """Queries, keys and values, side by side in the features of `packed`; a product with weights becomes three."""
    width = build.shape(packed)[-1]
    if not isinstance(width, int) or min(heads, kv_heads) <= 0 or width % (heads + 2 * kv_heads):
        raise NotReadError(f"of {heads} and {kv_heads} heads packed in {width} features")
    size = width // (heads + 2 * kv_heads)
    bounds = (0, heads * size, (heads + kv_heads) * size, width)
    parts = [build.part(packed, start, stop) for start, stop in pairwise(bounds)]
    return parts[0], parts[1], parts[2]


def _biased(build: Builder, parts: tuple[Operand, ...], bias: Operand) -> list[Operand]:
    if bias is None:
        return list(parts)
    if not isinstance(bias, Weight):
        raise NotReadError("with a bias that is no weight")
    made: list[Operand] = []
    first = 0
    for x in parts:
        width = build.shape(x)[-1]
        assert isinstance(width, int)
        made.append(RULES["Add"].emit(build, {}, x, Weight(bias.view.part(first, first + width))))  # type: ignore[arg-type]
        first += width
    return made


_GROUPED = "num_heads kv_num_heads scale do_rotary rotary_interleaved local_window_size sliding_window_cache"
_NEUTRAL = "softcap smooth_softmax kv_cache_bit_width k_quant_type v_quant_type qk_output"
ATTENTION_RULES: dict[str, Rule] = {
    "Attention": rule(
        _attention, "is_causal kv_num_heads q_num_heads scale softcap qk_matmul_output_mode softmax_precision"
    ),
    "RotaryEmbedding": rule(_rotary, "interleaved num_heads rotary_embedding_dim"),
    "com.microsoft.GroupQueryAttention": rule(_group_query_attention, f"{_GROUPED} {_NEUTRAL}"),
    "com.microsoft.MultiHeadAttention": rule(_multi_head_attention, "num_heads scale unidirectional mask_filter_value"),
    "com.microsoft.RotaryEmbedding": rule(
        _rotary_by_position, "interleaved num_heads rotary_embedding_dim is_packed_batching scale"
    ),
}
