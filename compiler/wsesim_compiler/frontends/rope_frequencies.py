"""RoPE's inverse frequencies from a model's configuration: buffers have no value on the meta device."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from wsesim_compiler.errors import ExportError


def configured_inv_freq(config: object) -> tuple[float, ...] | None:
    """Inverse frequencies [head_dim / 2] that a module's `config` tells, None if it tells none.

    Either `config.inv_freq()` gives them, or the fields of a transformers configuration do
    (`rope_parameters` or `rope_theta` and `rope_scaling`; types default, linear and llama3; ExportError
    names any other type).
    """
    own = getattr(config, "inv_freq", None)
    if callable(own):
        return tuple(float(value) for value in own())
    rope = _rope_parameters(config)
    theta = rope.get("rope_theta", getattr(config, "rope_theta", None))
    return None if theta is None else _scaled(rope, _unscaled(float(theta), _head_dim(config)))


def _rope_parameters(config: object) -> Mapping[str, Any]:
    found = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    return found if isinstance(found, Mapping) else {}


def _head_dim(config: object) -> int:
    own = getattr(config, "head_dim", None)
    return int(own or getattr(config, "hidden_size", 0) // getattr(config, "num_attention_heads", 1))


def _unscaled(theta: float, head_dim: int) -> tuple[float, ...]:
    return tuple(1.0 / theta ** (i / head_dim) for i in range(0, head_dim, 2))


def _scaled(rope: Mapping[str, Any], frequencies: tuple[float, ...]) -> tuple[float, ...]:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return frequencies
    if kind == "linear":
        return tuple(frequency / rope["factor"] for frequency in frequencies)
    if kind == "llama3":
        return tuple(_llama3(rope, frequency) for frequency in frequencies)
    raise ExportError(f"rope type {kind!r} is not supported; supported: default, linear, llama3, or pass inv_freq")


def _llama3(rope: Mapping[str, Any], frequency: float) -> float:
    """Llama 3.1: long wavelengths are divided by `factor`, short ones kept, those between blended."""
    low, high, factor = (float(rope[f"{part}factor"]) for part in ("low_freq_", "high_freq_", ""))
    turns = float(rope["original_max_position_embeddings"]) * frequency / (2 * math.pi)
    if turns > high:
        return frequency
    if turns < low:
        return frequency / factor
    smooth = (turns - low) / (high - low)
    return (1 - smooth) * frequency / factor + smooth * frequency
