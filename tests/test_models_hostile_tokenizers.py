"""Tokenizers that are damaged or made to do harm: each is refused in one line that names the file."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2.nodes
import pytest
import tokenizers

from tests.hostile_files import (
    DEEP,
    DIGITS,
    MOST_CHARACTERS,
    TEXT,
    U8,
    U32,
    array,
    gguf,
    number,
    refusal,
    string,
    texts,
)
from tests.tokenizer_files import gguf_file, huggingface_file, letters, merges, meta_file, ranks
from wsesim_models.errors import ChatTemplateError, InvalidFileError
from wsesim_models.reading import refused_by
from wsesim_models.tokenizers import open_tokenizer
from wsesim_models.tokenizers.chat import MOST_TEMPLATE_CHARACTERS, ChatTemplate

# --- the vocabulary of a GGUF file

VOCABULARY = [*map(letters, ranks()), "<|begin_of_text|>", "<|end_of_text|>"]
TOKENIZER = {
    "tokenizer.ggml.model": string("gpt2"),
    "tokenizer.ggml.pre": string("llama-bpe"),
    "tokenizer.ggml.tokens": texts(*VOCABULARY),
    "tokenizer.ggml.merges": texts(*(" ".join(pair) for pair in merges())),
}


def kinds(count: int) -> bytes:
    return array(5, *[struct.pack("<i", 1)] * count)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("merges", texts("zz yy"), "the merge 'zz yy' is outside the vocabulary"),
        ("merges", texts("hell"), "the merge 'hell' is outside the vocabulary"),
        ("merges", texts("h" * 5000), "is outside the vocabulary"),
        ("merges", number(U32, 3), "tokenizer.ggml.merges is 3, expected a list of strings"),
        ("tokens", array(U8, b"a"), "tokenizer.ggml.tokens is [97], expected a list of strings"),
        ("tokens", string("abc"), "tokenizer.ggml.tokens is 'abc', expected a list of strings"),
        ("tokens", texts(), "is outside the vocabulary"),
        ("token_type", kinds(3), "token_type has 3 entries for 269 tokens"),
        ("token_type", texts("1"), "token_type is ['1'], expected a list of integers"),
        ("bos_token_id", number(U32, 2**31), "bos_token_id is 2147483648, expected 0 to 268"),
        ("bos_token_id", string("1"), "bos_token_id is '1', expected an integer"),
        ("eos_token_id", number(U32, 269), "eos_token_id is 269, expected 0 to 268"),
        ("add_bos_token", number(U32, 1), "add_bos_token is 1, expected a boolean"),
        ("model", array(TEXT, count=0), "tokenizer.ggml.model is [], expected a string"),
        ("model", string("x" * 5000), "only byte-level BPE (gpt2) is read"),
        ("pre", number(U32, 1), "tokenizer.ggml.pre is 1, expected a string"),
    ],
)
def test_gguf_vocabularies(key: str, value: bytes, words: str, tmp_path: Path) -> None:
    assert open_tokenizer(gguf(tmp_path / "x.gguf", TOKENIZER)).vocab_size == 269
    path = gguf(tmp_path / "y.gguf", TOKENIZER | {f"tokenizer.ggml.{key}": value})
    assert words in refusal(open_tokenizer, path)


# --- tokenizer.json and the files beside it


REPLACE = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
BYTES = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": False}


def sequence(key: str, part: dict[str, Any], count: int) -> dict[str, Any]:
    return {"type": "Sequence", key: [part] * count}


def tokenizer_json(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    path = huggingface_file(folder)
    entries = json.loads(path.read_bytes())
    change(entries)
    path.write_text(json.dumps(entries))
    return path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda e: e["model"]["vocab"].update(he=2**31 - 1), "token he has the id 2147483647, expected 0 to 541"),
        (lambda e: e["model"]["vocab"].update(he=2**31), "he is 2147483648, expected a token id"),
        (lambda e: e["model"]["vocab"].update(he=-1), "he is -1, expected a token id"),
        (lambda e: e["model"]["vocab"].update(he=1.5), "he is 1.5, expected a token id"),
        (lambda e: e["model"]["vocab"].update(he=True), "he is True, expected a token id"),
        (lambda e: e["model"]["vocab"].update({"h\n": [1]}), "h\\n is [1], expected a token id"),
        (lambda e: e["model"].update(vocab=[["a", 0.5]]), "model.vocab: Input should be a valid dictionary"),
        (lambda e: e["model"].update(merges=[["zz", "yy"]]), "tokenizers refuses it"),
        (lambda e: e["model"].update(type="x" * 5000), "tokenizers refuses it"),
        (lambda e: e.update(model=3), "model: Input should be a valid dictionary, not 3"),
        (lambda e: e["added_tokens"][0].update(id=2**31 - 1), "has the id 2147483647, expected 0 to"),
        (lambda e: e["added_tokens"][0].update(id="1"), "added_tokens.0.id: Input should be a valid integer, not '1'"),
        (lambda e: e["added_tokens"][0].update(content=1), "added_tokens.0.content: Input should be a valid string"),
        (lambda e: e.update(added_tokens={"a": 1}), "added_tokens: Input should be a valid list"),
        (lambda e: e.update(added_tokens=[1] * 100_000), "added_tokens.0: Input should be a valid dictionary"),
        (lambda e: e.update(decoder="ByteLevel"), "decoder: Input should be a valid dictionary"),
        (lambda e: e.update(decoder={"type": ["ByteLevel"]}), "decoder.type: Input should be a valid string"),
        (lambda e: e.update(decoder=None), "decodes by None; only ByteLevel"),
        (lambda e: e.update(normalizer=REPLACE), "normalizer Replace is not run here; Lowercase, NFC"),
        (lambda e: e.update(normalizer=sequence("normalizers", REPLACE, 40)), "normalizer Replace is not run here"),
        (lambda e: e.update(normalizer={"type": ["NFC"]}), "normalizer ['NFC'] is not run here"),
        (lambda e: e.update(normalizer="NFC"), "normalizer is 'NFC', expected an object"),
        (lambda e: e.update(pre_tokenizer=sequence("pretokenizers", BYTES, 40)), "has ByteLevel more than once"),
        (lambda e: e.update(pre_tokenizer={"type": "Metaspace"}), "pre_tokenizer Metaspace is not run here"),
        (lambda e: e.update(post_processor=[1]), "tokenizers refuses it"),
        (lambda e: e["model"].update(continuing_subword_prefix="x" * 10), "a byte-level vocabulary has none"),
        (lambda e: e.update(truncation={"direction": "Left\n\n"}), "tokenizers refuses it: unknown variant"),
    ],
)
def test_tokenizer_json(change: Callable[[dict[str, Any]], object], words: str, tmp_path: Path) -> None:
    assert words in refusal(open_tokenizer, tokenizer_json(tmp_path, change))


@pytest.mark.parametrize("content", [DEEP, "NaN", f'{{"model": {DIGITS}}}', "\ud800", "[]"])
def test_tokenizer_json_that_is_none(content: str, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    refusal(open_tokenizer, path)


def test_a_post_processor_is_read_not_run(tmp_path: Path) -> None:
    """Forty templates, each of which repeats the text and names a token that is not there."""
    twice = [{"SpecialToken": {"id": "<|eot_id|>", "type_id": 0}}, *[{"Sequence": {"id": "A", "type_id": 0}}] * 2]
    template = {"type": "TemplateProcessing", "single": twice, "pair": twice, "special_tokens": {}}
    path = tokenizer_json(tmp_path, lambda e: e.update(post_processor=sequence("processors", template, 40)))
    (tmp_path / "tokenizer_config.json").write_text('{"bos_token": "<|eot_id|>"}')
    found = open_tokenizer(path)
    assert (found.add_bos, found.encode("hello")) == (True, [269, 259])


def test_ids_may_leave_holes(tmp_path: Path) -> None:
    path = tokenizer_json(tmp_path, lambda e: e["model"]["vocab"].update({letters(b" hello"): 500}))
    found = open_tokenizer(path)
    assert (found.vocab_size, found.piece(500), found.piece(499)) == (501, b" hello", b"")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("tokenizer_config.json", '{"bos_token": 3}', "bos_token: Input should be a valid string, not 3"),
        (
            "tokenizer_config.json",
            '{"bos_token": {"content": []}}',
            "bos_token: Input should be a valid string",
        ),
        ("tokenizer_config.json", '{"add_bos_token": 1}', "add_bos_token: Input should be a valid boolean, not 1"),
        ("tokenizer_config.json", DEEP, "is nested too deeply"),
        ("tokenizer_config.json", "[]", "Input should be a valid dictionary"),
        (
            "tokenizer_config.json",
            json.dumps({"chat_template": "x" * (MOST_TEMPLATE_CHARACTERS + 1)}),
            "the chat template has 65537 characters, expected at most 65536",
        ),
        ("chat_template.jinja", "x" * (MOST_TEMPLATE_CHARACTERS + 1), "the chat template has 65537 characters"),
        ("chat_template.jinja", "x" * (1 << 20), "is larger than 262,144 bytes"),
        ("config.json", '{"bos_token_id": "5"}', "bos_token_id: Input should be a valid integer, not '5'"),
        ("config.json", '{"bos_token_id": 271}', "BOS is the id 271, expected 0 to 270"),
        ("config.json", '{"eos_token_id": [1, [2]]}', "eos_token_id.1: Input should be a valid integer, not [2]"),
        ("generation_config.json", '{"eos_token_id": {"a": 1}}', "eos_token_id.0: Input should be a valid integer"),
        ("generation_config.json", '{"eos_token_id": 1e999}', "eos_token_id.0: Input should be"),
        ("generation_config.json", f'{{"eos_token_id": {DIGITS}}}', "is not JSON"),
    ],
)
def test_files_beside_tokenizer_json(name: str, content: str, words: str, tmp_path: Path) -> None:
    huggingface_file(tmp_path)
    (tmp_path / name).write_text(content)
    named = "tokenizer.json" if "BOS" in words else name
    assert words in refusal(open_tokenizer, tmp_path, named)


# --- tokenizer.model


def meta_lines(folder: Path) -> list[bytes]:
    return meta_file(folder).read_bytes().splitlines()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda lines: [*lines[:7], b"YWE= 7", *lines[8:]],
            "no token for the single byte 7",
        ),
        (lambda lines: [*lines, b"aGVs " + DIGITS.encode()], "lines of base64 and rank"),
        (lambda lines: [*lines, b"aGVs -1"], "ranks are not 0, 1, 2"),
        (lambda lines: [*lines, b"aGVs 2147483648"], "ranks are not 0, 1, 2"),
        (lambda lines: [*lines, b"aGVs 1 2"], "lines of base64 and rank"),
        (lambda lines: [*lines, b"\xff\xff 267"], "lines of base64 and rank"),
        (lambda lines: lines[:200], "no token for the single byte 200"),
        (lambda lines: [], "no token for the single byte 0"),
    ],
)
def test_tokenizer_model(change: Callable[[list[bytes]], list[bytes]], words: str, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(b"\n".join(change(meta_lines(tmp_path))))
    assert words in refusal(open_tokenizer, path)


# --- chat templates


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "too many steps"),
        ("{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}", "too many steps"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
        ("{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}", "recursive loops"),
        (
            "{% set n = namespace(x='a') %}{% for i in '0' * 60 %}{% set n.x = n.x + n.x %}{% endfor %}",
            "too much",
        ),
        (
            "{% set n = namespace(x='a') %}{% for i in '0' * 60 %}{% set n.x = n.x ~ n.x %}{% endfor %}",
            "too much",
        ),
        ("{% set x = 'y' * 1000000 %}{% for i in range(99999) %}{{ x }}{% endfor %}", "too much"),
        ("{% for i in range(99999) %}" + "y" * 50_000 + "{% endfor %}", "too much"),
        ("{{ 'a' * 10**9 }}", "repeats a text or list too many times"),
        ("{{ 10**9 * [0] }}", "repeats a text or list too many times"),
        ("{{ 10**10**10 }}", "number"),
        ("{{ 'a'.ljust(10**9) }}", "ljust is called with a number beyond"),
        ("{{ '%1000000000d' % 1 }}", "width of five digits"),
        ("{{ '{:1000000000}'.format(1) }}", "width of five digits"),
        ("{% set a = 'a' * 100000 %}{{ a.replace('a', a) }}", "replace is called with texts that are too long"),
        ("{% set a = 'a' * 100000 %}{{ a|replace('a', a) }}", "replace is called with texts that are too long"),
        ("{{ 'a'|center(10**9) }}", "center"),
        ("{{ lipsum(n=10**9) }}", "lipsum"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{% include '/etc/hostname' %}", "no loader"),
        ("{{ " + "(" * 5000 + " }}", "recursion"),
        ("{{ raise_exception('no\nsystem') }}", "refuses these messages: no system"),
        ("{{ raise_exception('x' * 5000) }}", "xxx"),
        ("{{ messages[5].content.x }}", "has no element 5"),
    ],
)
def test_chat_templates_that_harm(source: str, words: str) -> None:
    with pytest.raises(ChatTemplateError) as caught:
        ChatTemplate(source, "", "").render([{"role": "user", "content": "hi"}])
    said = str(caught.value)
    assert words in said
    assert said.isprintable() and len(said) < MOST_CHARACTERS


def test_constants_of_a_chat_template_are_not_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jinja's folding takes cubic time: half a minute for `x` and 400 attributes, before anything is counted."""
    folded: list[str] = []

    def as_const(node: jinja2.nodes.Getattr, context: object = None) -> None:
        folded.append(node.attr)
        raise jinja2.nodes.Impossible

    monkeypatch.setattr(jinja2.nodes.Getattr, "as_const", as_const)
    template = ChatTemplate("{% if messages[0].content.a %}{% endif %}hi", "", "")
    assert template.render([{"role": "user", "content": "hi"}]) == "hi"
    assert not folded


def test_counted_templates_say_what_others_do() -> None:
    source = (
        "{% for m in messages if m.role != 'x' %}{% if loop.first %}[{{ loop.length }}]{% endif %}"
        "{{ m['role'] ~ ':' ~ m.content | replace('h', 'j') }}{{ ' ' + loop.index|string }}{{ ',' if not loop.last }}"
        "{% else %}none{% endfor %}{{ '{}'.format(messages|length) }}{{ 'ab' * 2 }}{{ '%s' % 1 }}{{ 2 ** 3 }}"
    )
    messages = [{"role": role, "content": "hi"} for role in ("x", "user", "assistant")]
    assert ChatTemplate(source, "", "").render(messages) == "[2]user:ji 1,assistant:ji 23abab18"


def test_long_chats_are_rendered() -> None:
    source = "{% for m in messages %}{{ '<' + m['role'] + '>' + m['content'] + '\n' }}{% endfor %}"
    messages = [{"role": "user", "content": "x" * 1000}] * 5000
    assert len(ChatTemplate(source, "", "").render(messages)) == 5000 * 1007


# --- what is no regular file


@pytest.mark.parametrize("name", ["x.gguf", "tokenizer.json", "tokenizer.model"])
def test_pipes_and_devices_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    os.mkfifo(path)
    assert "it is a pipe" in refusal(open_tokenizer, path)
    path.unlink()
    path.symlink_to("/dev/zero")
    assert "it is a device" in refusal(open_tokenizer, path)


@pytest.mark.parametrize(
    "name", ["tokenizer_config.json", "generation_config.json", "config.json", "chat_template.jinja"]
)
def test_a_pipe_beside_a_tokenizer_is_refused(name: str, tmp_path: Path) -> None:
    huggingface_file(tmp_path)
    os.mkfifo(tmp_path / name)
    assert "it is a pipe" in refusal(open_tokenizer, tmp_path, name)


# --- packages in Rust


def test_a_panic_is_an_error_of_the_file_and_an_interrupt_is_not() -> None:
    broken = json.loads(tokenizers.Tokenizer(tokenizers.models.BPE({"a": 0}, [])).to_str())
    with pytest.raises(InvalidFileError, match=r"x: tokenizers refuses it: .*EOF"), refused_by("tokenizers", Path("x")):
        tokenizers.Tokenizer.from_str(json.dumps(broken)[:-1])
    panic = type("PanicException", (BaseException,), {})
    with pytest.raises(InvalidFileError, match="x: tiktoken refuses it: a b"), refused_by("tiktoken", Path("x")):
        raise panic("a\nb")
    with pytest.raises(KeyboardInterrupt), refused_by("tiktoken", Path("x")):
        raise KeyboardInterrupt


def test_the_vocabulary_of_a_gguf_file_is_still_read(tmp_path: Path) -> None:
    assert open_tokenizer(gguf_file(tmp_path)).encode("hello") == [267, 259]
