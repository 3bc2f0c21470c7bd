"""Weights from arrays and safetensors, and the check that they belong to a model."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from tests.test_models_llama import reference
from wsesim.errors import InvalidInputError
from wsesim_models.config import config
from wsesim_models.errors import InvalidFileError, MismatchError, MissingWeightsError
from wsesim_models.weights import ArrayWeights, SafetensorsWeights, open_weights, widen
from wsesim_models.weights.check import check_weights
from wsesim_models.weights.random import random_weights

TINY = config("tiny")
EMBEDDING, QUERY = "model.embed_tokens.weight", "model.layers.1.self_attn.q_proj.weight"


def state(dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array).to(dtype) for name, array in random_weights(TINY, 3).items()}


def saved(folder: Path, dtype: torch.dtype = torch.float32) -> Path:
    path = folder / "model.safetensors"
    save_file(state(dtype), path)
    return path


@settings(derandomize=True, deadline=None)
@given(st.integers(0, 0xFFFF))
def test_bfloat16_widens_exactly(bits: int) -> None:
    values = np.array([bits], np.uint16)
    expected = values.view(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(widen("bf16", values).view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize(("dtype", "raw"), [(torch.float32, "f32"), (torch.float16, "f16"), (torch.bfloat16, "bf16")])
def test_safetensors_of_every_type(dtype: torch.dtype, raw: str, tmp_path: Path) -> None:
    store = open_weights(saved(tmp_path, dtype))
    check_weights(store, TINY)
    for name, tensor in state(dtype).items():
        np.testing.assert_array_equal(store.load(name), tensor.float().numpy())
        stored = store.raw(name)
        assert stored[0] == raw
        assert stored[1].nbytes == tensor.nbytes
        assert isinstance(stored[1], np.memmap)


def test_file_and_folder_are_the_same_weights(tmp_path: Path) -> None:
    file = open_weights(saved(tmp_path))
    assert open_weights(tmp_path).fingerprint() == file.fingerprint()


def test_what_transformers_saves_is_read(tmp_path: Path) -> None:
    reference(TINY, 3).save_pretrained(tmp_path, max_shard_size="20KB")
    store = open_weights(tmp_path)
    assert len([*tmp_path.glob("*.safetensors")]) > 1
    check_weights(store, TINY)
    for name, array in random_weights(TINY, 3).items():
        np.testing.assert_array_equal(store.load(name), array)


def test_index_is_opened_by_its_own_name(tmp_path: Path) -> None:
    reference(TINY, 3).save_pretrained(tmp_path, max_shard_size="20KB")
    index = tmp_path / "model.safetensors.index.json"
    assert open_weights(index).fingerprint() == open_weights(tmp_path).fingerprint()


def test_absent_shard_is_named(tmp_path: Path) -> None:
    reference(TINY, 3).save_pretrained(tmp_path, max_shard_size="20KB")
    shard = sorted(tmp_path.glob("*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(MissingWeightsError, match=shard.name):
        open_weights(tmp_path)


def test_tensor_in_two_files_is_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    save_file({QUERY: state()[QUERY]}, tmp_path / "other.safetensors")
    with pytest.raises(InvalidFileError, match=rf"{QUERY} is both in model\.safetensors and in other"):
        SafetensorsWeights(tmp_path)


def test_truncated_file_names_tensor_and_bytes(tmp_path: Path) -> None:
    path = saved(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(InvalidFileError, match=r"tensor model\.\S+ needs \d+ bytes, \d+ are there"):
        open_weights(path)


@settings(derandomize=True, deadline=None)
@given(st.data())
def test_every_truncation_is_a_clean_error(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("cut")
    whole = saved(folder).read_bytes()
    (folder / "cut.safetensors").write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(InvalidInputError):
        open_weights(folder / "cut.safetensors")


def with_header(path: Path, header: object) -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(64))
    return path


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}, "is F8_E4M3; supported element types"),
        ({"dtype": "F32", "shape": [4], "data_offsets": [0, 4]}, "needs 16 bytes, its header gives it 4"),
        ({"dtype": "F32", "shape": [4]}, "tensor w: data_offsets: Field required"),
        ({"dtype": "F32", "shape": [100], "data_offsets": [0, 400]}, "w needs 400 bytes, 64 are there"),
    ],
)
def test_damaged_headers(entry: dict[str, object], words: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidFileError, match=words):
        open_weights(with_header(tmp_path / "x.safetensors", {"w": entry}))


def test_unknown_kinds_and_places(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"x")
    with pytest.raises(InvalidFileError, match=r"supported are \.gguf, \.safetensors"):
        open_weights(tmp_path / "weights.bin")
    with pytest.raises(MissingWeightsError, match="no such file"):
        open_weights(tmp_path / "nowhere")
    with pytest.raises(MissingWeightsError, match="holds no"):
        open_weights(tmp_path)


def test_check_lists_everything_at_once() -> None:
    arrays = random_weights(TINY, 0)
    del arrays["model.norm.weight"]
    arrays[QUERY] = np.zeros((32, 16), np.float32)
    arrays["model.layers.0.self_attn.q_proj.bias"] = np.zeros(32, np.float32)
    with pytest.raises(MismatchError) as caught:
        check_weights(ArrayWeights(arrays), TINY)
    assert str(caught.value) == (
        f"these are not the weights of tiny: {QUERY} is [32, 16], expected [32, 32]; "
        "model.norm.weight is missing, expected [32]; "
        "model.layers.0.self_attn.q_proj.bias [32] is not part of this model"
    )


def test_check_lists_four_and_counts_the_rest() -> None:
    with pytest.raises(MismatchError, match="and 16 more") as caught:
        check_weights(ArrayWeights({}), TINY)
    assert str(caught.value).count(" is missing") == 4


def test_head_beside_a_tied_embedding_has_to_be_its_copy() -> None:
    arrays = random_weights(TINY, 0)
    arrays["lm_head.weight"] = arrays[EMBEDDING].copy()
    check_weights(ArrayWeights(arrays), TINY)
    arrays["lm_head.weight"][-1] += 1
    with pytest.raises(MismatchError, match=r"lm_head\.weight \[256, 32\] is not part of this model"):
        check_weights(ArrayWeights(arrays), TINY)
    check_weights(ArrayWeights(arrays), dataclasses.replace(TINY, tied=False))


def test_fingerprint_follows_content_not_order() -> None:
    arrays = random_weights(TINY, 0)
    fingerprint = ArrayWeights(arrays).fingerprint()
    assert ArrayWeights(dict(reversed(arrays.items()))).fingerprint() == fingerprint
    for name in arrays:
        changed = arrays[name].copy()
        changed.flat[0] += 1
        assert ArrayWeights(arrays | {name: changed}).fingerprint() != fingerprint


def test_random_weights_are_the_same_everywhere() -> None:
    weights = random_weights(TINY, 0)
    np.testing.assert_array_equal(weights[QUERY], random_weights(TINY, 0)[QUERY])
    assert not np.array_equal(weights[QUERY], random_weights(TINY, 1)[QUERY])
    # The first three draws of PCG64(0), rounded.
    np.testing.assert_allclose(weights[EMBEDDING][0, :3], [0.12573022, -0.13210486, 0.64042264], rtol=1e-6)
