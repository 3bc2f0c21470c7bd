"""Areas of weights and configurations: safetensors, an index of shards, config.json, GGUF."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from functools import cache
from pathlib import Path
from random import Random

import numpy as np

from tests.fuzz.area import Area, all_of
from tests.fuzz.damage import damage_bytes, damage_json, number_bytes, one_to_three
from tests.fuzz.gguf_damage import damage_gguf
from wsesim_models.config import LlamaConfig, config
from wsesim_models.config_files import config_at, differences
from wsesim_models.weights import open_weights
from wsesim_models.weights.check import check_weights
from wsesim_models.weights.random import random_weights

SMALL = dataclasses.replace(config("tiny"), vocab_size=8, layers=1, ffn_dim=32)
"""As few bytes as a Llama can have whose rows are whole blocks of GGUF's types."""

_LENGTH_BYTES = 8


def _read_weights(path: Path) -> None:
    """All that a run asks of weights: constants, names, shapes, every tensor, the fingerprint."""
    all_of(
        lambda: [differences(found, SMALL) for found in (config_at(path),) if found],
        lambda: check_weights(open_weights(path), SMALL),
        lambda: open_weights(path).fingerprint(),
        lambda: [open_weights(path).load(name) for name in open_weights(path).names()],
    )


def safetensors_file(tensors: dict[str, np.ndarray], dtype: str = "F32") -> bytes:
    """As the format says: the header's length, the header, the data."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, values in tensors.items():
        stored = values.astype("<f4" if dtype == "F32" else "<f2").tobytes()
        offsets = [len(data), len(data) + len(stored)]
        header[name] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": offsets}
        data += stored
    text = json.dumps(header).encode()
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text + data


@cache
def _safetensors_seeds() -> tuple[bytes, ...]:
    tensors = random_weights(SMALL, 1)
    return safetensors_file(tensors), safetensors_file(tensors, "F16")


def _damage_header(rng: Random, data: bytes) -> bytes:
    """The header's JSON, its length put right."""
    end = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "little")
    header = damage_json(rng, data[_LENGTH_BYTES:end])
    return len(header).to_bytes(_LENGTH_BYTES, "little") + header + data[end:]


def _damage_length(rng: Random, data: bytes) -> bytes:
    length = int.from_bytes(data[:_LENGTH_BYTES], "little")
    near = (length + rng.choice((-1, 1, -100, 100, len(data)))) % 2**64
    new = number_bytes(rng, _LENGTH_BYTES) if rng.random() < 0.5 else near.to_bytes(_LENGTH_BYTES, "little")
    return new + data[_LENGTH_BYTES:]


def _cut_data(rng: Random, data: bytes) -> bytes:
    return data[: -rng.choice((1, 2, 4, 100, 5000))]


def _write_shards(folder: Path) -> None:
    """Two shards, and what an index should not name."""
    names = list(tensors := random_weights(SMALL, 1))
    halves = names[: len(names) // 2], names[len(names) // 2 :]
    for i, half in enumerate(halves, 1):
        shard = safetensors_file({name: tensors[name] for name in half})
        (folder / f"model-{i}-of-2.safetensors").write_bytes(shard)
    (folder / "folder.safetensors").mkdir()
    os.mkfifo(folder / "pipe.safetensors")


@cache
def _index_seeds() -> tuple[bytes, ...]:
    names = list(SMALL.shapes())
    where = {n: f"model-{1 if i < len(names) // 2 else 2}-of-2.safetensors" for i, n in enumerate(names)}
    index = {"metadata": {"total_size": 4 * SMALL.parameters()}, "weight_map": where}
    return (json.dumps(index).encode(),)


def _move_shard(rng: Random, data: bytes) -> bytes:
    places = (
        *(
            "folder.safetensors",
            "pipe.safetensors",
            ".",
            "..",
            "",
            "/dev/zero",
            "/dev/null",
            "../secret",
            "/etc/hostname",
        ),
        *("model.safetensors.index.json", "model-1-of-2.safetensors/x", "x" * 300, "model-1-of-2.safetensors\\u0000"),
    )
    old = rng.choice((b"model-1-of-2.safetensors", b"model-2-of-2.safetensors"))
    return data.replace(old, rng.choice(places).encode(), rng.choice((1, -1)))


@cache
def _config_seeds() -> tuple[bytes, ...]:
    m = SMALL
    plain = {
        "model_type": "llama",
        "vocab_size": m.vocab_size,
        "hidden_size": m.dim,
        "num_hidden_layers": m.layers,
        "num_attention_heads": m.heads,
        "num_key_value_heads": m.kv_heads,
        "head_dim": m.head_dim,
        "intermediate_size": m.ffn_dim,
        "rms_norm_eps": m.norm_eps,
        "rope_theta": m.rope_theta,
        "tie_word_embeddings": True,
        "max_position_embeddings": m.max_context,
        "hidden_act": "silu",
        "bos_token_id": 1,
        "eos_token_id": [2, 3],
    }
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    scaled = plain | {"rope_scaling": scaling | {"original_max_position_embeddings": 8192}}
    mistral = plain | {"model_type": "mistral", "sliding_window": 4}
    return tuple(json.dumps(entries).encode() for entries in (plain, scaled, mistral))


def _read_config(path: Path) -> None:
    found = config_at(path.parent)
    assert isinstance(found, LlamaConfig)
    all_of(lambda: differences(found, SMALL), found.inv_freq, lambda: found.shapes() if found.layers < 1000 else None)


def gguf_file(model: LlamaConfig, kind: str) -> bytes:
    """The random weights of `model`, matrices quantised, as llama.cpp's converter writes them."""
    from tests.gguf_files import write

    with tempfile.TemporaryDirectory() as folder:
        return write(Path(folder) / "x.gguf", model, kind).read_bytes()


@cache
def _gguf_seeds() -> tuple[bytes, ...]:
    scaled = dataclasses.replace(SMALL, rope_theta=5e5, rope_scaling=config("llama3.1-8b").rope_scaling)
    return (*(gguf_file(SMALL, kind) for kind in ("F32", "Q8_0", "Q4_0")), gguf_file(scaled, "BF16"))


AREAS = (
    Area(
        "safetensors",
        "model.safetensors",
        _safetensors_seeds,
        one_to_three(*[_damage_header] * 6, _damage_length, _cut_data, damage_bytes),
        _read_weights,
    ),
    Area(
        "shard-index",
        "model.safetensors.index.json",
        _index_seeds,
        one_to_three(*[damage_json] * 3, _move_shard, damage_bytes),
        _read_weights,
        _write_shards,
    ),
    Area("config", "config.json", _config_seeds, one_to_three(*[damage_json] * 5, damage_bytes), _read_config),
    Area("gguf", "model.gguf", _gguf_seeds, one_to_three(*[damage_gguf] * 4, damage_bytes), _read_weights),
)
