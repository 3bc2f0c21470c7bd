"""Weights and configurations that are damaged or made to do harm: each is refused in one line that names the file."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.gguf_files import write
from tests.hostile_files import (
    ARRAY,
    BOOL,
    DEEP,
    DIGITS,
    F32,
    F64,
    TEXT,
    U8,
    U32,
    U64,
    array,
    gguf,
    number,
    refusal,
    string,
    tensor,
)
from wsesim.errors import InvalidInputError
from wsesim_models.config import LlamaConfig, RopeScaling, config
from wsesim_models.config_files import config_from_folder, config_from_gguf
from wsesim_models.errors import InvalidFileError, MissingWeightsError
from wsesim_models.reading import MappedFile
from wsesim_models.weights import open_weights
from wsesim_models.weights.gguf_header import read_header

# --- safetensors


def safetensors(path: Path, header: str | bytes) -> Path:
    data = header.encode() if isinstance(header, str) else header
    path.write_bytes(len(data).to_bytes(8, "little") + data + bytes(64))
    return path


def entry(dtype: str = '"F32"', shape: str = "[4]", offsets: str = "[0, 16]") -> str:
    return f'{{"w": {{"dtype": {dtype}, "shape": {shape}, "data_offsets": {offsets}}}}}'


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (entry(offsets='["0", "16"]'), "w: data_offsets.0: Input should be a valid integer, not '0'"),
        (entry(offsets="[0.0, 16.0]"), "w: data_offsets.0: Input should be a valid integer, not 0.0"),
        (entry(offsets="[-16, 0]"), "w: data_offsets.0: Input should be greater than or equal to 0, not -16"),
        (entry(offsets="[16, 0]"), "w of shape [4] in F32 needs 16 bytes, its header gives it -16"),
        (entry(offsets="[0, 16, 32]"), "w: data_offsets: List should have at most 2 items"),
        (entry(offsets="[]"), "w: data_offsets: List should have at least 2 items"),
        (entry(offsets='{"0": 0, "1": 16}'), "w: data_offsets: Input should be a valid list"),
        (entry(offsets=f"[0, {DIGITS}]"), "is not JSON"),
        (entry(offsets=f"[0, {DIGITS[:4000]}]"), "w: data_offsets.1: Input should be less than"),
        (entry(offsets="[64, 80]"), "w needs 16 bytes, 0 are there"),
        (entry(dtype="4"), "w: dtype: Input should be a valid string, not 4"),
        (entry(dtype='["F32"]'), "w: dtype: Input should be a valid string"),
        (entry(dtype="null"), "w: dtype: Input should be a valid string, not None"),
        (entry(dtype=f'"{DIGITS}"'), "supported element types are F32, F16, BF16"),
        (entry(shape="[Infinity]"), "the header: is not JSON: Infinity"),
        (entry(shape="[1e999]"), "w: shape.0: Input should be a valid integer, not inf"),
        (entry(shape="[true, 4]"), "w: shape.0: Input should be a valid integer, not True"),
        (entry(shape="[-2, -2]"), "w: shape.0: Input should be greater than or equal to 1, not -2"),
        (entry(shape="[0, 4]"), "w: shape.0: Input should be greater than or equal to 1, not 0"),
        (entry(shape="[1, 1, 1, 1, 4]"), "w: shape: List should have at most 4 items"),
        (entry(shape=f"[{2**62}, 4]"), "w: shape.0: Input should be less than"),
        (entry(shape='"4"'), "w: shape: Input should be a valid list, not '4'"),
        ('{"w": []}', "tensor w: Input should be a valid dictionary, not []"),
        ('{"a\\nb": 1}', "tensor a\\nb: Input should be a valid dictionary, not 1"),
        (json.dumps({"n" * 5000: 1}), f"tensor {'n' * 60}: Input should be"),
        (DEEP, "is nested too deeply to be read"),
        ("[1, 2]", "the header: Input should be a valid dictionary"),
        (b'{"\xff": 1}', "the header: is not JSON"),
    ],
)
def test_safetensors_headers(header: str | bytes, words: str, tmp_path: Path) -> None:
    assert words in refusal(open_weights, safetensors(tmp_path / "x.safetensors", header))


@pytest.mark.parametrize("size", [0, 1, 1000, 1 << 30, (1 << 64) - 1])
def test_a_safetensors_header_of_another_size(size: int, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(size.to_bytes(8, "little") + b"{}")
    assert "header" in refusal(open_weights, path)


# --- the index of shards


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"weight_map": {"a": "s", "b": 3}}', "b is 3, expected the name of a file beside the index"),
        ('{"weight_map": {"a": ["s"], "b": "s"}}', "a is ['s'], expected the name"),
        ('{"weight_map": {"a": "../s.safetensors"}}', "a is '../s.safetensors', expected the name"),
        ('{"weight_map": {"a": "/dev/zero"}}', "a is '/dev/zero', expected the name"),
        ('{"weight_map": {"a": "b\\\\c"}}', "expected the name"),
        ('{"weight_map": {"a": ".."}}', "expected the name"),
        ('{"weight_map": {"a": ""}}', "expected the name"),
        ('{"weight_map": {"a": "s\\u0000"}}', "expected the name"),
        (json.dumps({"weight_map": dict.fromkeys(map(str, range(200_000)), 1)}), "0 is 1, expected the name"),
        ('{"weight_map": ["s"]}', "weight_map: Input should be a valid dictionary"),
        ('{"weight_map": null}', "weight_map: Input should be a valid dictionary"),
        ("{}", "weight_map: Field required"),
        ("[]", "Input should be a valid dictionary"),
        ('{"weight_map": ' + DEEP, "is nested too deeply"),
        ('{"weight_map": NaN}', "is not JSON"),
        (" " * (5 << 20), "larger than 4,194,304 bytes"),
    ],
)
def test_indices_of_shards(text: str, words: str, tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(text)
    assert words in refusal(open_weights, index)


def test_many_absent_shards_are_counted_not_listed(tmp_path: Path) -> None:
    names = {str(number): f"{number:03}.safetensors" for number in range(100)} | {"z": "z" * 5000}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    with pytest.raises(MissingWeightsError, match=r"beside it: 000\.safetensors, .* and 97 more$"):
        open_weights(tmp_path)


# --- config.json

TINY = {
    "model_type": "llama",
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_size": 32,
    "vocab_size": 256,
    "num_hidden_layers": 2,
    "intermediate_size": 64,
    "rms_norm_eps": 1e-5,
}
SCALING = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_attention_heads": 0}, "dim is 32, expected a multiple of heads, 0, where head_dim is not given"),
        ({"num_attention_heads": 0, "head_dim": 8}, "heads is 0, expected 1 to 65536"),
        ({"num_attention_heads": 5}, "dim is 32, expected a multiple of heads, 5"),
        ({"num_attention_heads": "4"}, "num_attention_heads: Input should be a valid integer, not '4'"),
        ({"num_attention_heads": 4.0}, "num_attention_heads: Input should be a valid integer, not 4.0"),
        ({"num_key_value_heads": 3}, "heads is 4, expected a multiple of kv_heads, 3"),
        ({"num_key_value_heads": 0}, "kv_heads is 0, expected 1 to"),
        ({"head_dim": 7}, "head_dim is 7, expected an even number"),
        ({"hidden_size": -32}, "dim is -32, expected 1 to"),
        ({"num_hidden_layers": 10**9}, "layers is 1000000000, expected 1 to 4096"),
        ({"vocab_size": True}, "vocab_size: Input should be a valid integer, not True"),
        ({"vocab_size": 10**30}, "vocab_size is 1000000000000000000000000000000, expected 1 to"),
        ({"intermediate_size": [64]}, "intermediate_size: Input should be a valid integer, not [64]"),
        ({"max_position_embeddings": 0}, "max_context is 0, expected 1 to"),
        ({"rms_norm_eps": -1}, "norm_eps is -1.0, expected 0.0 to 1.0"),
        ({"rope_theta": 0.5}, "rope_theta is 0.5, expected 1.0 to"),
        ({"model_type": 3}, "model_type: Input should be a valid string, not 3"),
        ({"model_type": "x" * 5000}, "is not a Llama"),
        ({"hidden_act": "x" * 5000}, "hidden_act is 'xxx"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings: Input should be a valid boolean, not 'no'"),
        ({"rope_scaling": []}, "rope_scaling: Input should be a valid dictionary, not []"),
        ({"rope_scaling": {"rope_type": 3}}, "RoPE: rope_type: Input should be a valid string, not 3"),
        ({"rope_scaling": {"rope_type": "llama3"}}, "RoPE: factor: Field required"),
        ({"rope_scaling": SCALING | {"factor": 0}}, "rope_scaling.factor is 0.0, expected 1 to"),
        ({"rope_scaling": SCALING | {"high_freq_factor": 1}}, "rope_scaling.high_freq_factor is 1.0, expected more"),
        ({"model_type": "mistral", "sliding_window": -4}, "window is -4, expected 1 to"),
    ],
)
def test_configurations_that_break_a_rule(change: dict[str, object], words: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(TINY | change))
    assert words in refusal(config_from_folder, tmp_path, "config.json")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"vocab_size": Infinity}', "Infinity is no JSON number"),
        (json.dumps(TINY).replace("1e-05", "1e999"), "rms_norm_eps: Input should be a finite number, not inf"),
        (json.dumps(TINY).replace("256", DIGITS), "is not JSON"),
        ('{"a": ' + DEEP, "is nested too deeply"),
        ("[]", "Input should be a valid dictionary"),
        ("{}", "model_type: Field required"),
        (json.dumps({"model_type": "llama"}), "num_attention_heads: Field required"),
    ],
)
def test_configurations_that_are_none(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    assert words in refusal(config_from_folder, tmp_path, "config.json")


def test_the_smallest_configuration_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(TINY | {"rope_scaling": SCALING}))
    found = config_from_folder(tmp_path)
    assert (found.head_dim, found.kv_heads) == (8, 2)
    assert found.rope_scaling == RopeScaling(8.0, 1.0, 4.0, 8192)


def test_a_llama_config_cannot_break_its_rules() -> None:
    with pytest.raises(InvalidInputError, match="kv_heads is 0"):
        LlamaConfig("x", 256, 32, 2, 4, 0, 8, 64, 1e-5, 1e4, None, True, 256)


# --- GGUF


LLAMA = {
    "general.architecture": string("llama"),
    "llama.attention.head_count": number(U32, 4),
    "llama.attention.head_count_kv": number(U32, 2),
    "llama.embedding_length": number(U32, 32),
    "llama.vocab_size": number(U32, 256),
    "llama.block_count": number(U32, 2),
    "llama.feed_forward_length": number(U32, 64),
    "llama.context_length": number(U32, 256),
    "llama.attention.layer_norm_rms_epsilon": number(F32, 1e-5),
}


def nested_arrays(depth: int) -> bytes:
    return array(ARRAY, count=1) + struct.pack("<IQ", ARRAY, 1) * (depth - 1) + struct.pack("<IQ", U8, 0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": nested_arrays(5000)}, "the metadatum x has arrays nested deeper than 4"),
        ({"x": array(TEXT, count=2**60)}, "1152921504606846976 elements of the metadatum x cannot be read"),
        ({"x": array(U64, count=2**61)}, "the metadatum x cannot be read"),
        ({"x": array(99, count=0)}, "the metadatum x is of the unknown type 99"),
        ({"x": struct.pack("<I", 13)}, "the metadatum x is of the unknown type 13"),
        ({"x": string(b"\xff")}, "the metadatum x is not UTF-8 at its byte 0"),
        ({"x": struct.pack("<IQ", TEXT, 2**63)}, "the metadatum x cannot be read"),
        ({"a\nb": struct.pack("<I", 13)}, "the metadatum a\\nb is of"),
        ({"general.alignment": number(U32, 0)}, "general.alignment is 0, expected 1 or more"),
        ({"general.alignment": string("32")}, "general.alignment is '32', expected an integer"),
        ({"general.architecture": number(U32, 1)}, "general.architecture is 1, expected a string"),
        ({"general.architecture": string("x" * 5000)}, "is a xxx"),
        ({"general.name": number(U32, 1)}, "general.name is 1, expected a string"),
        ({"llama.attention.head_count": string("4")}, "head_count is '4', expected an integer"),
        ({"llama.attention.head_count": number(U32, 0)}, "expected a multiple of heads, 0"),
        ({"llama.attention.head_count_kv": array(U8, b"\2", b"\2")}, "head_count_kv is [2, 2], expected an integer"),
        ({"llama.attention.head_count_kv": number(U32, 3)}, "heads is 4, expected a multiple of kv_heads, 3"),
        ({"llama.block_count": number(U32, 2**32 - 1)}, "layers is 4294967295, expected 1 to 4096"),
        ({"llama.context_length": number(BOOL, 1)}, "context_length is True, expected an integer"),
        ({"llama.attention.layer_norm_rms_epsilon": number(F32, float("nan"))}, "is nan, expected a finite number"),
        ({"llama.attention.layer_norm_rms_epsilon": number(F64, 1e300)}, "is 1e+300, expected a finite number"),
        ({"llama.rope.freq_base": string("1e4")}, "freq_base is '1e4', expected a finite number"),
        ({"llama.rope.scaling.type": number(U32, 1)}, "scaling.type is 1, expected a string"),
    ],
)
def test_gguf_metadata(change: dict[str, bytes], words: str, tmp_path: Path) -> None:
    path = gguf(tmp_path / "x.gguf", LLAMA)
    assert config_from_gguf(path).dim == 32
    assert words in refusal(config_from_gguf, gguf(tmp_path / "y.gguf", LLAMA | change))


@pytest.mark.parametrize(
    ("tensors", "count", "words"),
    [
        (tensor("w"), 1, "tensor w has 0 dimensions, expected 1 to 4"),
        (tensor("w", 1, 1, 1, 1, 1), 1, "tensor w has 5 dimensions"),
        (tensor("w", 4, 0), 1, "tensor w has the shape [4, 0], expected no zero"),
        (tensor("w", 2**63, 2**63), 1, "truncated: tensor w needs"),
        (tensor("w", 4, offset=2**63), 1, "truncated: tensor w needs 16 bytes, 0 are there"),
        (tensor("w", 4, kind=99), 1, "tensor w is type 99; supported element types"),
        (tensor("w", 4, kind=2), 1, "tensor w has rows of 4, Q4_0 needs multiples of 32"),
        (tensor("w" * 5000, 4, kind=99), 1, f"tensor {'w' * 60} is type 99"),
        (tensor("w", 4) * 2, 2, "has the tensor w twice"),
        (tensor("token_embd.weight", 4) + tensor("model.embed_tokens.weight", 4), 2, "embed_tokens.weight twice"),
        (tensor("blk.0.attn_q.weight", 4), 1, "blk.0.attn_q.weight is [4], expected rows of 4 heads"),
        (tensor("blk.0.attn_k.weight", 6, 2), 1, "blk.0.attn_k.weight is [6, 2], expected rows of 2 heads"),
        (b"", 2**63, "9223372036854775808 tensors cannot be read"),
        (tensor("w", 4) * 2, 100_000, "100000 tensors cannot be read"),
    ],
)
def test_gguf_tensors(tensors: bytes, count: int, words: str, tmp_path: Path) -> None:
    path = gguf(tmp_path / "x.gguf", LLAMA, tensors, count)
    assert words in refusal(open_weights, path)


def test_gguf_counts_and_repetitions(tmp_path: Path) -> None:
    path = gguf(tmp_path / "x.gguf", LLAMA, more=2**50)
    assert "metadata cannot be read" in refusal(read_header, path)
    data = gguf(path, {"a.x": number(U32, 1), "b.x": number(U32, 1)}).read_bytes()
    path.write_bytes(data.replace(b"b.x", b"a.x"))
    assert "has the metadatum a.x twice" in refusal(read_header, path)


def test_a_gguf_table_of_rotations_that_is_none(tmp_path: Path) -> None:
    rotations = tensor("rope_freqs.weight", 4, offset=0)
    path = gguf(tmp_path / "x.gguf", LLAMA, rotations, 1)
    assert "rope_freqs.weight has numbers that are no divisors" in refusal(config_from_gguf, path)
    gguf(path, LLAMA, tensor("rope_freqs.weight", 4, offset=2**40), 1)
    assert "is truncated" in refusal(config_from_gguf, path)


# --- what is no regular file, and what changes


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("x.safetensors", open_weights),
        ("model.safetensors.index.json", open_weights),
        ("x.gguf", open_weights),
        ("x.gguf", config_from_gguf),
        ("config.json", lambda path: config_from_folder(path.parent)),
    ],
)
def test_pipes_devices_and_folders_are_refused(name: str, read: Callable[[Path], object], tmp_path: Path) -> None:
    path = tmp_path / name
    os.mkfifo(path)
    assert "it is a pipe" in refusal(read, path)
    path.unlink()
    path.symlink_to("/dev/zero")
    assert "it is a device" in refusal(read, path)


def test_a_pipe_as_a_shard_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"w": "a.safetensors"}}')
    os.mkfifo(tmp_path / "a.safetensors")
    assert "it is a pipe" in refusal(open_weights, tmp_path, "a.safetensors")


@pytest.mark.parametrize("path", ["x" * 5000, "~nobody-of-that-name/x", "a\0b"])
def test_paths_that_no_file_can_have(path: str) -> None:
    with pytest.raises(MissingWeightsError, match="no such file or folder"):
        open_weights(path)


def test_a_file_that_changes_after_it_was_opened_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.gguf", config("tiny"))
    store = open_weights(path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InvalidFileError, match=r"x\.gguf: changed while it was read"):
        store.load("model.norm.weight")


def test_a_mapped_file_ends_where_it_ends(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1234")
    file = MappedFile.at(tmp_path / "a")
    assert file.array("<u1", 1, (3,)).tolist() == [50, 51, 52]
    with pytest.raises(InvalidFileError, match="is truncated: 4 bytes are needed, 3 are there"):
        file.array("<u4", 1, (1,))
