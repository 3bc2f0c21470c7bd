"""Tokenizers: goldens that follow from the vocabulary, and properties of all of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tokenizer_files import gguf_file, huggingface_file, meta_file, ranks
from wsesim.errors import InvalidInputError, UnknownNameError
from wsesim_models.cache import pull
from wsesim_models.errors import InvalidFileError, MissingTokenizerError
from wsesim_models.tokenizers import Tokenizer, byte_tokenizer, open_tokenizer

# SmolLM2's vocabulary lacks a few bytes: these control characters, and whatever begins with F1 or F2.
TEXTS = st.text(st.characters(exclude_characters="\4\6\x13\x14\x16\x1d", max_codepoint=0x3FFFF, codec="utf-8")).filter(
    lambda text: "<|" not in text  # special tokens are tokens, not text: hypothesis knows them from our own source
)


@pytest.fixture(scope="module")
def smollm2() -> Tokenizer:
    return open_tokenizer(pull("smollm2-135m"))


@pytest.fixture(scope="module", params=["smollm2", "bytes", "meta", "gguf", "huggingface"])
def any_tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    made: dict[str, Callable[[], Tokenizer]] = {
        "smollm2": lambda: open_tokenizer(pull("smollm2-135m")),
        "bytes": byte_tokenizer,
        "meta": lambda: open_tokenizer(meta_file(folder)),
        "gguf": lambda: open_tokenizer(gguf_file(folder)),
        "huggingface": lambda: open_tokenizer(huggingface_file(folder)),
    }
    return made[request.param]()


@settings(derandomize=True, deadline=None)
@given(text=TEXTS)
def test_text_survives(any_tokenizer: Tokenizer, text: str) -> None:
    ids = any_tokenizer.encode(text)
    assert any_tokenizer.decode(ids) == text
    assert all(0 <= token_id < any_tokenizer.vocab_size for token_id in ids)


@settings(derandomize=True, deadline=None)
@given(data=st.data())
def test_stream_is_decode_in_pieces(any_tokenizer: Tokenizer, data: st.DataObject) -> None:
    ids = data.draw(st.lists(st.integers(-1, any_tokenizer.vocab_size + 1)))
    stream = any_tokenizer.stream()
    pieces = [stream.push(token_id) for token_id in ids]
    assert "".join([*pieces, stream.flush()]) == any_tokenizer.decode(ids)


@settings(derandomize=True, deadline=None)
@given(text=TEXTS)
def test_stream_never_shows_part_of_a_character(any_tokenizer: Tokenizer, text: str) -> None:
    stream = any_tokenizer.stream()
    shown = ""
    for token_id in any_tokenizer.encode(text):
        shown += stream.push(token_id)
        assert text.startswith(shown)
    assert stream.flush() == ""


def test_lone_surrogates_do_not_break_encoding(any_tokenizer: Tokenizer) -> None:
    assert any_tokenizer.decode(any_tokenizer.encode("a\ud83d!")) == "a�!"
    assert any_tokenizer.decode(any_tokenizer.encode("\ud83d\ude42")) == "🙂"


def test_a_character_over_several_tokens_comes_at_once() -> None:
    stream = byte_tokenizer().stream()
    assert [stream.push(value) for value in "é漢".encode()] == ["", "é", "", "", "漢"]
    assert stream.push("漢".encode()[0]) == ""
    assert stream.flush() == "�"


# In SmolLM2's vocabulary the printable ASCII characters begin at id 17 ("!"), so digit d is id 32 + d.
@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("7", [39]),
        ("2024", [34, 32, 34, 36]),
        ("  7", [256, 39]),  # "  " is a token: the digit does not take a space from it
        ("a  77 b", [81, 256, 39, 39, 278]),
        ("1234567890", [33, 34, 35, 36, 37, 38, 39, 40, 41, 32]),
        ("It was a dark and stormy night", [1589, 436, 253, 3605, 284, 43471, 3163]),
        ("<|im_start|>user\nhi<|im_end|>", [1, 4093, 198, 6004, 2]),
        ("", []),
    ],
)
def test_smollm2_goldens(smollm2: Tokenizer, text: str, ids: list[int]) -> None:
    assert smollm2.encode(text) == ids


@settings(derandomize=True, deadline=None)
@given(text=st.text("0123456789 a\n"))
def test_smollm2_digits_stand_alone(smollm2: Tokenizer, text: str) -> None:
    pieces = [smollm2.piece(token_id) for token_id in smollm2.encode(text)]
    assert all(len(piece) == 1 for piece in pieces if any(48 <= value <= 57 for value in piece))


def test_smollm2_loses_the_bytes_that_its_vocabulary_lacks(smollm2: Tokenizer) -> None:
    assert smollm2.encode("7\x04\x067") == [39, 39]


def test_smollm2_first_and_last_tokens(smollm2: Tokenizer) -> None:
    assert (smollm2.bos_id, smollm2.add_bos, smollm2.vocab_size) == (1, False, 49152)
    assert smollm2.eos_ids == {0, 2}


# Ranks: bytes are themselves; 256 he, 257 ll, 258 hell, 259 hello, 260 " w", 261 "  ", 262 12, 263 123,
# 264 "\n\n", 265 é, 266 " hello". Llama 3 cuts digits by threes and takes whole tokens without merging.
LLAMA3_GOLDENS = [
    ("hello", [259]),
    (" hello", [266]),
    ("  7", [32, 32, 55]),
    ("1234", [263, 52]),
    ("hello\n\n", [259, 264]),
    ("é'll", [265, 39, 257]),
    (" world", [260, 111, 114, 108, 100]),
]


@pytest.mark.parametrize(("text", "ids"), LLAMA3_GOLDENS)
def test_llama3_goldens_from_every_source(text: str, ids: list[int], tmp_path: Path) -> None:
    bos = len(ranks())
    for write in (meta_file, gguf_file, huggingface_file):
        assert open_tokenizer(write(tmp_path)).encode(text) == [bos, *ids], write.__name__


@settings(derandomize=True, deadline=None, max_examples=300)
@given(text=st.text(st.sampled_from("hello w123é'\n\r\t \u00a0½.!<|>_")))
def test_sources_of_one_vocabulary_agree(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.getbasetemp() / "agree"
    if not folder.exists():
        folder.mkdir()
        for write in (meta_file, gguf_file, huggingface_file):
            write(folder)
    meta, *others = (open_tokenizer(folder / name) for name in ("tokenizer.model", "x.gguf", "tokenizer.json"))
    assert [other.encode(text) for other in others] == [meta.encode(text)] * 2


def test_meta_special_tokens_follow_the_ranks(tmp_path: Path) -> None:
    found, base = open_tokenizer(meta_file(tmp_path)), len(ranks())
    assert (found.bos_id, found.add_bos, found.vocab_size) == (base, True, base + 256)
    assert found.eos_ids == {base + 1, base + 8, base + 9}
    assert found.encode("<|start_header_id|>he<|end_header_id|>") == [base, base + 6, 256, base + 7]
    assert found.decode([base, 259, base + 9]) == "hello"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\n\x0e\n\x05<unk>", "not Llama 3's"),
        (b"aGU= 0\n", "damaged or truncated"),
        (b"aGU=", "not Llama 3's"),
    ],
)
def test_other_files_named_tokenizer_model(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(content)
    with pytest.raises(InvalidFileError, match=words):
        open_tokenizer(tmp_path)


def test_gguf_bos_flag_is_honoured(tmp_path: Path) -> None:
    assert open_tokenizer(gguf_file(tmp_path)).add_bos
    assert open_tokenizer(gguf_file(tmp_path, add_bos_token=False)).encode("hello") == [259]
    assert not open_tokenizer(gguf_file(tmp_path, pre="smollm")).add_bos
    assert open_tokenizer(gguf_file(tmp_path, pre="smollm", add_bos_token=True)).encode("he") == [267, 256]


def test_gguf_ends_are_the_declared_and_the_well_known(tmp_path: Path) -> None:
    assert open_tokenizer(gguf_file(tmp_path)).eos_ids == {268, 269}


def test_gguf_unknown_pre_tokenizer_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown pre-tokenizer 'deepseek-llm'; known: .*smollm"):
        open_tokenizer(gguf_file(tmp_path, pre="deepseek-llm"))


def test_gguf_sentencepiece_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidFileError, match="'llama' vocabulary; only byte-level BPE"):
        open_tokenizer(gguf_file(tmp_path, model="llama"))


def test_huggingface_reads_the_files_beside(tmp_path: Path) -> None:
    huggingface_file(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"add_bos_token": False, "eos_token": {"content": "<|eot_id|>"}})
    )
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [7, 8]}))
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": 9, "bos_token_id": 5}))
    found = open_tokenizer(tmp_path)
    assert (found.bos_id, found.add_bos) == (5, False)
    assert found.eos_ids == {7, 8, 9, 268, 269}


def test_huggingface_without_files_beside(tmp_path: Path) -> None:
    found = open_tokenizer(huggingface_file(tmp_path))
    assert (found.bos_id, found.add_bos) == (267, True)
    assert found.eos_ids == {268, 269}
    assert not open_tokenizer(huggingface_file(tmp_path, add_bos=False)).add_bos


def test_huggingface_added_tokens_and_long_texts(tmp_path: Path) -> None:
    found = open_tokenizer(huggingface_file(tmp_path, add_bos=False))
    assert found.decode(found.encode("he<tool é>he")) == "he<tool é>he"
    assert len(found.encode("hello" * 50)) > 4  # the file asks for truncation to four


@pytest.mark.parametrize(
    ("content", "words"),
    [("{", "is not JSON"), ("[]", "valid dictionary"), ("{}", "model: Field required")],
)
def test_damaged_tokenizer_json(content: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(InvalidFileError, match=words):
        open_tokenizer(tmp_path)


def test_huggingface_vocabulary_has_to_be_byte_level(tmp_path: Path) -> None:
    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    backend.decoder = tokenizers.decoders.Metaspace()
    backend.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(InvalidFileError, match="decodes by Metaspace; only ByteLevel"):
        open_tokenizer(tmp_path)


def test_tokenizer_is_found_beside_the_weights(tmp_path: Path) -> None:
    with pytest.raises(MissingTokenizerError, match=r"put tokenizer\.json"):
        open_tokenizer(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    gguf_file(tmp_path)
    with pytest.raises(MissingTokenizerError, match="holds no tokenizer"):
        open_tokenizer(tmp_path / "model.safetensors")  # a GGUF's vocabulary belongs to its own weights
    (tmp_path / "original").mkdir()
    meta_file(tmp_path / "original")
    assert open_tokenizer(tmp_path / "model.safetensors").vocab_size == len(ranks()) + 256
    huggingface_file(tmp_path)
    assert open_tokenizer(tmp_path).vocab_size == len(ranks()) + 4
    assert open_tokenizer(tmp_path / "x.gguf").vocab_size == len(ranks()) + 3


def test_absent_path(tmp_path: Path) -> None:
    with pytest.raises(MissingTokenizerError, match="no such file"):
        open_tokenizer(tmp_path / "nowhere")
    with pytest.raises(InvalidInputError):
        open_tokenizer(gguf_file(tmp_path, pre="smollm", model="bert"))
