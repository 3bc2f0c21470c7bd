"""GGUF files: against the gguf package, transformers' own loader, and the formats' definitions."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from transformers import LlamaForCausalLM
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

from tests.gguf_files import write
from tests.test_models_config import huggingface_config
from wsesim.errors import InvalidInputError
from wsesim_models.cache import pull
from wsesim_models.config import LlamaConfig, RopeScaling, config
from wsesim_models.config_files import config_at, config_from_gguf, differences
from wsesim_models.errors import InvalidFileError, MismatchError
from wsesim_models.llama import with_weights
from wsesim_models.weights import GGUFWeights, open_weights
from wsesim_models.weights.check import check_weights
from wsesim_models.weights.gguf import SUPPORTED
from wsesim_models.weights.gguf_header import read_header
from wsesim_models.weights.random import random_weights

TINY = config("tiny")
Type = gguf.GGMLQuantizationType
QUANTISABLE = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"]


@pytest.fixture(scope="module")
def smollm2() -> Iterator[Path]:
    yield pull("smollm2-135m")


@pytest.mark.parametrize("kind", QUANTISABLE)
def test_every_type_that_can_be_written_is_read(kind: str, tmp_path: Path) -> None:
    store = open_weights(write(tmp_path / "x.gguf", TINY, kind))
    check_weights(store, TINY)
    for name, values in random_weights(TINY, 4).items():
        quantised = Type[kind if values.ndim == 2 else "F32"]
        expected = gguf.quants.dequantize(gguf.quants.quantize(values, quantised), quantised)
        np.testing.assert_array_equal(store.load(name), expected.reshape(values.shape))
        if kind == "F32":
            np.testing.assert_array_equal(store.load(name), values)


@pytest.mark.parametrize(("kind", "raw", "item_bytes"), [("F32", "f32", 4), ("F16", "f16", 2), ("BF16", "bf16", 2)])
def test_plain_types_are_not_widened(kind: str, raw: str, item_bytes: int, tmp_path: Path) -> None:
    store = open_weights(write(tmp_path / "x.gguf", TINY, kind))
    dtype, values = store.raw("model.layers.0.self_attn.q_proj.weight")
    assert (dtype, values.itemsize) == (raw, item_bytes)


def scales(packed: NDArray[np.uint8], index: int) -> tuple[int, int]:
    """ggml-quants.c, get_scale_min_k4: six-bit scale and minimum of sub-block `index`."""
    if index < 4:
        return packed[index] & 63, packed[index + 4] & 63
    low, high = packed[index + 4], packed[index - 4]
    return (low & 15) | (high >> 6) << 4, (low >> 4) | (packed[index] >> 6) << 4


def by_definition(kind: str, block: NDArray[np.uint8]) -> list[float]:
    """One block of 256 by the text of ggml-quants.c, element by element."""
    if kind == "Q6_K":
        low, high, steps = block[:128], block[128:192], block[192:208].view(np.int8)
        scale, values = float(block[208:210].view(np.float16)[0]), []
        for i in range(256):
            half, r = divmod(i, 128)
            nibble = low[64 * half + r % 64] >> (4 * (r // 64)) & 15
            bits = high[32 * half + r % 32] >> (2 * (r // 32)) & 3
            values.append(scale * float(steps[i // 16]) * (int(nibble | bits << 4) - 32))
        return values
    scale, minimum = block[:4].view(np.float16).astype(float)
    high, low = (block[16:48], block[48:]) if kind == "Q5_K" else (np.zeros(32, np.uint8), block[16:])
    values = []
    for i in range(256):
        sub, r = divmod(i, 32)
        step, offset = scales(block[4:16], sub)
        quant = (low[32 * (sub // 2) + r] >> (4 * (sub % 2)) & 15) + 16 * (high[r] >> sub & 1)
        values.append(scale * float(step) * float(quant) - minimum * float(offset))
    return values


@pytest.mark.parametrize("kind", ["Q4_K", "Q5_K", "Q6_K"])
def test_k_quants_by_their_definition(kind: str, tmp_path: Path) -> None:
    block_bytes = gguf.GGML_QUANT_SIZES[Type[kind]][1]
    blocks = np.random.default_rng(5).integers(0, 256, (3, block_bytes), np.uint8)
    at = slice(208, 210) if kind == "Q6_K" else slice(0, 4)
    blocks[:, at] = np.full((3, 2 if kind == "Q6_K" else 4), [0x11, 0x2C] * (1 if kind == "Q6_K" else 2), np.uint8)
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "llama")
    writer.add_head_count(1)
    writer.add_tensor("blk.0.ffn_up.weight", blocks, raw_dtype=Type[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = GGUFWeights(tmp_path / "x.gguf").load("model.layers.0.mlp.up_proj.weight")
    expected = [by_definition(kind, block) for block in blocks]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_every_supported_type_has_a_test() -> None:
    assert {*SUPPORTED} == {*QUANTISABLE, "Q4_K", "Q5_K", "Q6_K"}


@pytest.mark.parametrize(
    "model",
    [
        TINY,
        dataclasses.replace(TINY, tied=False, head_dim=16),
        dataclasses.replace(TINY, head_dim=64, rope_theta=5e5, rope_scaling=RopeScaling(32.0, 1.0, 4.0, 8192)),
    ],
)
def test_configuration_from_metadata(model: LlamaConfig, tmp_path: Path) -> None:
    found = config_at(write(tmp_path / "x.gguf", model))
    assert found == model


def test_unknown_rope_table_is_refused(tmp_path: Path) -> None:
    other = dataclasses.replace(TINY, head_dim=64, rope_scaling=RopeScaling(8.0, 2.0, 16.0, 8192))
    with pytest.raises(InvalidFileError, match=r"not Llama 3\.1's RoPE scaling"):
        config_from_gguf(write(tmp_path / "x.gguf", other))


def test_other_architectures_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.gguf", TINY, architecture="gemma")
    for read in (open_weights, config_from_gguf):
        with pytest.raises(InvalidFileError, match="is a gemma; only llama is read"):
            read(path)


def test_unsupported_type_names_the_supported(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "llama")
    writer.add_head_count(1)
    writer.add_tensor("blk.0.ffn_up.weight", np.zeros((1, 66), np.uint8), raw_dtype=Type.IQ2_XXS)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(InvalidFileError, match=r"blk\.0\.ffn_up\.weight is IQ2_XXS; supported .* F32, F16"):
        open_weights(tmp_path / "x.gguf")


def test_split_files_are_refused(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "x-00001-of-00002.gguf", "llama")
    writer.add_head_count(1)
    writer.add_uint16("split.count", 2)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(InvalidFileError, match="one of 2 parts: merge them"):
        open_weights(tmp_path / "x-00001-of-00002.gguf")


def test_two_files_in_a_folder_have_to_be_told_apart(tmp_path: Path) -> None:
    first = write(tmp_path / "a.gguf", TINY)
    assert open_weights(tmp_path).fingerprint() == open_weights(first).fingerprint()
    write(tmp_path / "b.gguf", TINY)
    with pytest.raises(InvalidFileError, match=r"name one of them: a\.gguf, b\.gguf"):
        open_weights(tmp_path)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    store = open_weights(write(tmp_path / "x.gguf", TINY))
    with pytest.raises(MismatchError, match=r"model\.layers\.2\.self_attn\.q_proj\.weight is missing"):
        check_weights(store, dataclasses.replace(TINY, layers=3))


def test_truncated_tensor_is_named_with_its_bytes(tmp_path: Path) -> None:
    path = write(tmp_path / "x.gguf", TINY)
    header = read_header(path)
    last = max(header.tensors.values(), key=lambda tensor: tensor.offset)
    path.write_bytes(path.read_bytes()[: last.offset + 24])
    with pytest.raises(InvalidFileError, match=rf"truncated: tensor {last.name} needs 128 bytes, 24 are there"):
        open_weights(path)


@settings(derandomize=True, deadline=None)
@given(st.data())
def test_every_truncation_is_a_clean_error(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("cut")
    whole = write(folder / "x.gguf", TINY).read_bytes()
    end = max(t.offset for t in read_header(folder / "x.gguf").tensors.values())
    (folder / "x.gguf").write_bytes(whole[: data.draw(st.integers(0, end))])
    with pytest.raises(InvalidInputError):
        open_weights(folder / "x.gguf")


@settings(derandomize=True, deadline=None)
@given(st.data())
def test_damaged_headers_are_clean_errors(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = write(tmp_path_factory.mktemp("damage") / "x.gguf", TINY)
    damaged = bytearray(path.read_bytes())
    header_bytes = min(t.offset for t in read_header(path).tensors.values())
    for _ in range(3):
        damaged[data.draw(st.integers(0, header_bytes - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(damaged)
    try:
        check_weights(open_weights(path), TINY)
    except InvalidInputError:
        return  # refused by name; what is not refused has to be sound


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "ends inside its header"),
        (b"GGML" + bytes(60), "does not begin with GGUF"),
        (b"GGUF" + struct.pack("<I", 1) + bytes(60), "version 1; versions 2 and 3"),
    ],
)
def test_other_files_named_gguf(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(content)
    with pytest.raises(InvalidFileError, match=words):
        open_weights(tmp_path / "x.gguf")


def test_header_is_that_of_the_gguf_package(tmp_path: Path) -> None:
    path = write(tmp_path / "x.gguf", TINY, "Q4_0")
    reader, header = gguf.GGUFReader(path), read_header(path)
    expected = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    assert header.metadata == expected
    described = {t.name: (t.tensor_type, t.shape.tolist()[::-1], t.data_offset) for t in reader.tensors}
    assert {t.name: (t.type_number, [*t.shape], t.offset) for t in header.tensors.values()} == described


def test_smollm2_file_is_the_model_of_the_table(smollm2: Path) -> None:
    found = config_from_gguf(smollm2)
    assert differences(found, config("smollm2-135m")) == []
    assert found.max_context == config("smollm2-135m").max_context
    check_weights(open_weights(smollm2), config("smollm2-135m"))


@torch.no_grad()
def test_smollm2_weights_and_logits_are_those_of_transformers(smollm2: Path) -> None:
    model, store = config("smollm2-135m"), open_weights(smollm2)
    with torch.device("meta"):
        skeleton = LlamaForCausalLM(huggingface_config(model))
    loaded = load_gguf_checkpoint(str(smollm2), return_tensors=True, model_to_load=skeleton)["tensors"]
    assert {*loaded} == {*store.names()}
    for name in store.names():
        np.testing.assert_array_equal(store.load(name), loaded[name].numpy())
    huggingface = LlamaForCausalLM(huggingface_config(model)).eval()
    huggingface.load_state_dict(loaded, strict=False)
    huggingface.tie_weights()
    tokens = torch.tensor([[1589, 436, 253, 3605, 284, 43471, 3163]])
    found = with_weights(model, store)(tokens)
    torch.testing.assert_close(found, huggingface(tokens).logits, rtol=1e-4, atol=1e-4)
