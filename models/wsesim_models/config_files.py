"""A LlamaConfig out of a config.json or a GGUF file; what is not a Llama is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from wsesim_models.config import LlamaConfig, RopeScaling
from wsesim_models.errors import InvalidFileError
from wsesim_models.weights import gguf_in
from wsesim_models.weights.gguf_header import GGUFHeader, read_header

_FREE_FIELDS = {"name", "max_context"}
"""Fields that do not change the arithmetic."""


MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3")
"""What Hugging Face calls the models that the torch module computes; Qwen3 is a Llama that norms q and k, Qwen2 one
whose projections to q, k and v have biases, Mistral one whose tokens see a sliding window.
"""


def config_at(path: str | Path) -> LlamaConfig | None:
    """The configuration that comes with the weights at `path`, None where they bring none.

    Raises InvalidFileError for a model that is not a Llama.
    """
    path = Path(path)
    gguf = gguf_in(path)
    if gguf:
        return config_from_gguf(gguf)
    folder = path if path.is_dir() else path.parent
    return config_from_folder(folder) if (folder / "config.json").is_file() else None


def differences(found: LlamaConfig, expected: LlamaConfig) -> list[str]:
    """One line for each field in which the two compute differently."""
    fields = [field.name for field in dataclasses.fields(LlamaConfig) if field.name not in _FREE_FIELDS]
    pairs = [(name, getattr(found, name), getattr(expected, name)) for name in fields]
    return [f"{name} is {here}, expected {there}" for name, here, there in pairs if here != there]


def config_from_folder(path: str | Path) -> LlamaConfig:
    """From `path`/config.json, as Hugging Face writes it (rope_scaling of old, rope_parameters of new).

    Raises InvalidFileError for another model type and for variants that this module does not compute.
    """
    file = Path(path) / "config.json"
    try:
        entries = dict(json.loads(file.read_bytes()))
        _refuse_variants(file, entries)
        return _from_entries(file.parent.name, file, entries)
    except (ValueError, TypeError) as error:
        raise InvalidFileError(f"{file} is not a model's configuration: it is not a JSON object") from error
    except KeyError as error:
        raise InvalidFileError(f"{file} lacks {error}") from error


def _refuse_variants(file: Path, entries: dict[str, Any]) -> None:
    if entries.get("model_type") not in MODEL_TYPES:
        found, known = entries.get("model_type"), ", ".join(map(repr, MODEL_TYPES))
        raise InvalidFileError(f"{file} is not a Llama: model_type is {found!r}, expected one of {known}")
    expected = {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False, "use_sliding_window": False}
    for key, value in expected.items():
        if (found := entries.get(key, value)) != value:
            raise InvalidFileError(f"{file} is not a plain Llama: {key} is {found!r}, expected {value!r}")


def _from_entries(name: str, file: Path, entries: dict[str, Any]) -> LlamaConfig:
    heads, dim = int(entries["num_attention_heads"]), int(entries["hidden_size"])
    rope = entries.get("rope_parameters") or entries.get("rope_scaling") or {}
    return LlamaConfig(
        name=name,
        vocab_size=int(entries["vocab_size"]),
        dim=dim,
        layers=int(entries["num_hidden_layers"]),
        heads=heads,
        kv_heads=int(entries.get("num_key_value_heads") or heads),
        head_dim=int(entries.get("head_dim") or dim // heads),
        ffn_dim=int(entries["intermediate_size"]),
        norm_eps=float(entries.get("rms_norm_eps", 1e-6)),
        rope_theta=float(rope.get("rope_theta") or entries.get("rope_theta") or 10000.0),
        rope_scaling=_scaling(file, rope),
        tied=bool(entries.get("tie_word_embeddings", False)),
        max_context=int(entries.get("max_position_embeddings", 2048)),
        qk_norm=entries["model_type"] == "qwen3",
        qkv_bias=entries["model_type"] == "qwen2",
        window=entries.get("sliding_window") if entries["model_type"] == "mistral" else None,
    )


def _scaling(file: Path, rope: dict[str, Any]) -> RopeScaling | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind != "llama3":
        raise InvalidFileError(f"{file}: RoPE scaling {kind!r} is not computed here; default and llama3 are")
    return RopeScaling(
        float(rope["factor"]),
        float(rope["low_freq_factor"]),
        float(rope["high_freq_factor"]),
        int(rope["original_max_position_embeddings"]),
    )


def config_from_gguf(path: str | Path) -> LlamaConfig:
    """From a GGUF file's metadata.

    Raises InvalidFileError for another architecture and for a RoPE scaling that is not Llama 3.1's.
    """
    header = read_header(path)
    header.check_architecture()
    heads, dim = int(header.need("llama.attention.head_count")), int(header.need("llama.embedding_length"))
    head_dim = int(header.get("llama.attention.key_length", dim // heads))
    config = LlamaConfig(
        name=str(header.get("general.name", header.path.stem)),
        vocab_size=_vocab_size(header),
        dim=dim,
        layers=int(header.need("llama.block_count")),
        heads=heads,
        kv_heads=int(header.get("llama.attention.head_count_kv", heads)),
        head_dim=head_dim,
        ffn_dim=int(header.need("llama.feed_forward_length")),
        norm_eps=_decimal(header.need("llama.attention.layer_norm_rms_epsilon")),
        rope_theta=_decimal(header.get("llama.rope.freq_base", 10000.0)),
        rope_scaling=None,
        tied="output.weight" not in header.tensors,
        max_context=int(header.need("llama.context_length")),
    )
    _refuse_scaling_type(header)
    return dataclasses.replace(config, rope_scaling=_scaling_from_table(header, config))


def _decimal(value: float) -> float:
    """The short decimal that was stored as a float32: 1e-05, not 9.999999747378752e-06."""
    return float(str(np.float32(value)))


def _vocab_size(header: GGUFHeader) -> int:
    if "token_embd.weight" in header.tensors:
        return header.tensors["token_embd.weight"].shape[0]
    return int(header.need("llama.vocab_size"))


def _refuse_scaling_type(header: GGUFHeader) -> None:
    kind = header.get("llama.rope.scaling.type", "none")
    if kind != "none":
        raise InvalidFileError(f"{header.path.name}: RoPE scaling {kind!r} is not computed here")


def _scaling_from_table(header: GGUFHeader, config: LlamaConfig) -> RopeScaling | None:
    """GGUF stores Llama 3.1's scaling only as a table of divisors: find the constants that give it."""
    tensor = header.tensors.get("rope_freqs.weight")
    if tensor is None:
        return None
    count = config.head_dim // 2
    if tensor.type_number != 0 or tensor.shape != (count,):
        raise InvalidFileError(f"{header.path.name}: rope_freqs.weight is not {count} F32 numbers")
    table = np.fromfile(header.path, "<f4", count, offset=tensor.offset)
    scaling = RopeScaling(float(table.max()), 1.0, 4.0, 8192)
    scaled = dataclasses.replace(config, rope_scaling=scaling).inv_freq()
    if not np.allclose(np.array(config.inv_freq()) / table, scaled, rtol=1e-5, atol=0):
        raise InvalidFileError(f"{header.path.name}: rope_freqs.weight is not Llama 3.1's RoPE scaling")
    return scaling
