"""A LlamaConfig from a config.json or a GGUF file. Other models than Llamas are refused."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wsesim.errors import InvalidInputError, brief
from wsesim_models.config import LlamaConfig, RopeScaling
from wsesim_models.errors import InvalidFileError
from wsesim_models.reading import MOST_JSON_BYTES, checked, parsed, read
from wsesim_models.weights import gguf_in
from wsesim_models.weights.gguf_header import GGUFHeader, read_header

if TYPE_CHECKING:
    from wsesim_models.schemas import LlamaFile, Rope

_FREE_FIELDS = {"name", "max_context"}
"""Fields that do not change the arithmetic."""


MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3")
"""Hugging Face's names of the models that the torch module computes. Qwen3 is a Llama with norms of q and k, Qwen2 one
with biases in the projections to q, k and v, Mistral one with a sliding window.
"""


def config_at(path: str | Path) -> LlamaConfig | None:
    """The configuration beside or in the weights at `path`; None if there is none.

    Raises InvalidFileError for a model that is not a Llama.
    """
    path = Path(path)
    gguf = gguf_in(path)
    if gguf:
        return config_from_gguf(gguf)
    folder = path if path.is_dir() else path.parent
    return config_from_folder(folder) if os.path.exists(folder / "config.json") else None


def differences(found: LlamaConfig, expected: LlamaConfig) -> list[str]:
    """One line for each field in which the two compute differently."""
    fields = [field.name for field in dataclasses.fields(LlamaConfig) if field.name not in _FREE_FIELDS]
    pairs = [(name, getattr(found, name), getattr(expected, name)) for name in fields]
    return [f"{name} is {here}, expected {there}" for name, here, there in pairs if here != there]


def config_from_folder(path: str | Path) -> LlamaConfig:
    """From `path`/config.json, by Hugging Face. RoPE's entry is rope_parameters, or rope_scaling in old files.

    Raises InvalidFileError for another model type, for variants that the torch module does not compute, and for sizes
    that break a rule of LlamaConfig.
    """
    from wsesim_models.schemas import LlamaFile, ModelKind

    file = Path(path) / "config.json"
    entries = parsed(read(file, "a model's configuration", MOST_JSON_BYTES), str(file))
    kind = checked(str(file), ModelKind, entries).model_type
    if kind not in MODEL_TYPES:
        known = ", ".join(map(repr, MODEL_TYPES))
        raise InvalidFileError(f"{file} is not a Llama: model_type is {brief(kind)}, expected one of {known}")
    llama = checked(str(file), LlamaFile, entries)
    _refuse_variants(file, llama)
    with _rules_of(str(file)):
        return _from_entries(kind, file, llama)


@contextmanager
def _rules_of(name: str) -> Iterator[None]:
    """Turns a broken rule of LlamaConfig into an InvalidFileError that names the file."""
    try:
        yield
    except InvalidFileError:
        raise
    except InvalidInputError as error:
        raise InvalidFileError(f"{name}: {error}") from None


def _refuse_variants(file: Path, llama: LlamaFile) -> None:
    expected = {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False, "use_sliding_window": False}
    for key, value in expected.items():
        if (found := getattr(llama, key)) != value:
            raise InvalidFileError(f"{file} is not a plain Llama: {key} is {brief(found)}, expected {value!r}")


def _from_entries(kind: str, file: Path, llama: LlamaFile) -> LlamaConfig:
    from wsesim_models.schemas import Rope

    heads, dim = llama.num_attention_heads, llama.hidden_size
    entries = llama.rope_parameters or llama.rope_scaling or {}
    rope = checked(f"{file}: RoPE", Rope, entries)
    return LlamaConfig(
        name=file.parent.name,
        vocab_size=llama.vocab_size,
        dim=dim,
        layers=llama.num_hidden_layers,
        heads=heads,
        kv_heads=heads if llama.num_key_value_heads is None else llama.num_key_value_heads,
        head_dim=_head_dim(dim, heads) if llama.head_dim is None else llama.head_dim,
        ffn_dim=llama.intermediate_size,
        norm_eps=llama.rms_norm_eps,
        rope_theta=rope.rope_theta or llama.rope_theta or 10000.0,
        rope_scaling=_scaling(file, rope, entries),
        tied=bool(llama.tie_word_embeddings),
        max_context=llama.max_position_embeddings,
        qk_norm=kind == "qwen3",
        qkv_bias=kind == "qwen2",
        window=llama.sliding_window if kind == "mistral" else None,
    )


def _head_dim(dim: int, heads: int) -> int:
    """The size of a head, for a file that does not state it."""
    if heads < 1 or dim % heads:
        raise InvalidInputError(f"dim is {dim}, expected a multiple of heads, {heads}, where head_dim is not given")
    return dim // heads


def _scaling(file: Path, rope: Rope, entries: dict[str, Any]) -> RopeScaling | None:
    from wsesim_models.schemas import Llama3Rope

    kind = rope.rope_type or rope.type or "default"
    if kind == "default":
        return None
    if kind != "llama3":
        raise InvalidFileError(f"{file}: RoPE scaling {brief(kind)} is not computed here; default and llama3 are")
    found = checked(f"{file}: RoPE", Llama3Rope, entries)
    return RopeScaling(
        found.factor, found.low_freq_factor, found.high_freq_factor, found.original_max_position_embeddings
    )


def config_from_gguf(path: str | Path) -> LlamaConfig:
    """From a GGUF file's metadata.

    Raises InvalidFileError for another architecture, for a RoPE scaling that is not Llama 3.1's, and for sizes that
    break a rule of LlamaConfig.
    """
    header = read_header(path)
    header.check_architecture()
    _refuse_scaling_type(header)
    with _rules_of(header.path.name):
        config = _from_metadata(header)
        return dataclasses.replace(config, rope_scaling=_scaling_from_table(header, config))


def _from_metadata(header: GGUFHeader) -> LlamaConfig:
    heads, dim = header.integer("llama.attention.head_count"), header.integer("llama.embedding_length")
    head_dim = header.integer("llama.attention.key_length", None)
    return LlamaConfig(
        name=header.text("general.name", header.path.stem),
        vocab_size=_vocab_size(header),
        dim=dim,
        layers=header.integer("llama.block_count"),
        heads=heads,
        kv_heads=header.integer("llama.attention.head_count_kv", heads),
        head_dim=_head_dim(dim, heads) if head_dim is None else head_dim,
        ffn_dim=header.integer("llama.feed_forward_length"),
        norm_eps=_decimal(header.number("llama.attention.layer_norm_rms_epsilon")),
        rope_theta=_decimal(header.number("llama.rope.freq_base", 10000.0)),
        rope_scaling=None,
        tied="output.weight" not in header.tensors,
        max_context=header.integer("llama.context_length"),
    )


def _decimal(value: float) -> float:
    """The short decimal of a stored float32: 1e-05, not 9.999999747378752e-06."""
    return float(str(np.float32(value)))


def _vocab_size(header: GGUFHeader) -> int:
    if "token_embd.weight" in header.tensors:
        return header.tensors["token_embd.weight"].shape[0]
    return header.integer("llama.vocab_size")


def _refuse_scaling_type(header: GGUFHeader) -> None:
    kind = header.text("llama.rope.scaling.type", "none")
    if kind != "none":
        raise InvalidFileError(f"{header.path.name}: RoPE scaling {brief(kind)} is not computed here")


def _scaling_from_table(header: GGUFHeader, config: LlamaConfig) -> RopeScaling | None:
    """The constants of Llama 3.1's RoPE scaling. A GGUF file has only a table of divisors, from which they follow."""
    tensor = header.tensors.get("rope_freqs.weight")
    if tensor is None:
        return None
    count = config.head_dim // 2
    if tensor.type_number != 0 or tensor.shape != (count,):
        raise InvalidFileError(f"{header.path.name}: rope_freqs.weight is not {count} F32 numbers")
    table = header.file.array("<f4", tensor.offset, (count,))
    if not np.all((table >= 1) & (table < 2**31)):
        raise InvalidFileError(f"{header.path.name}: rope_freqs.weight has numbers that are no divisors of RoPE")
    scaling = RopeScaling(float(table.max()), 1.0, 4.0, 8192)
    scaled = dataclasses.replace(config, rope_scaling=scaling).inv_freq()
    if not np.allclose(np.array(config.inv_freq()) / table, scaled, rtol=1e-5, atol=0):
        raise InvalidFileError(f"{header.path.name}: rope_freqs.weight is not Llama 3.1's RoPE scaling")
    return scaling
