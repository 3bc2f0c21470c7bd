"""The vocabulary inside a GGUF file, as a byte-level BPE with the pre-tokenizer that the file names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from wsesim.errors import UnknownNameError, brief
from wsesim.files import shown
from wsesim_models.errors import InvalidFileError
from wsesim_models.reading import refused_by
from wsesim_models.tokenizers.chat import ChatTemplate, chat_template
from wsesim_models.tokenizers.huggingface import wrap
from wsesim_models.tokenizers.meta import LLAMA3_PATTERN
from wsesim_models.tokenizers.tokenizer import Tokenizer, end_ids
from wsesim_models.weights.gguf_header import GGUFHeader, read_header

if TYPE_CHECKING:
    import tokenizers

PRE_TOKENIZERS = ("smollm", "llama-bpe", "llama3", "llama-v3")
"""Known names of pre-tokenizers. The last three mean the same one."""

_CONTROL, _USER_DEFINED = 3, 4
_END_KEYS = ("eos_token_id", "eot_token_id", "eom_token_id")


def open_gguf(path: str | Path) -> Tokenizer:
    """The tokenizer of a GGUF file.

    Raises UnknownNameError for a pre-tokenizer outside `PRE_TOKENIZERS`, InvalidFileError for a vocabulary
    that is not byte-level BPE.
    """
    header = read_header(path)
    model, pre = header.text("tokenizer.ggml.model", None), header.text("tokenizer.ggml.pre", "default")
    if model != "gpt2":
        raise InvalidFileError(
            f"{header.path.name} has a {brief(model)} vocabulary; only byte-level BPE (gpt2) is read"
        )
    if pre not in PRE_TOKENIZERS:
        raise UnknownNameError("pre-tokenizer", shown(pre), PRE_TOKENIZERS)
    tokens = header.texts("tokenizer.ggml.tokens")
    special = _of_kind(header, tokens, _CONTROL)
    declared = [_id(header, tokens, key) for key in _END_KEYS]
    eos_ids = end_ids(special, (token_id for token_id in declared if token_id is not None))
    # llama.cpp adds BOS for Llama 3 unless the file says otherwise.
    add_bos = header.flag("tokenizer.ggml.add_bos_token", pre != "smollm")
    backend = _backend(header, pre, tokens, special)
    return wrap(header.path, backend, _id(header, tokens, "bos_token_id"), eos_ids, add_bos, _chat(header, tokens))


def _id(header: GGUFHeader, tokens: list[str], key: str) -> int | None:
    token_id = header.integer(f"tokenizer.ggml.{key}", None)
    if token_id is not None and not 0 <= token_id < len(tokens):
        raise InvalidFileError(
            f"{header.path.name}: tokenizer.ggml.{key} is {token_id}, expected 0 to {len(tokens) - 1}"
        )
    return token_id


def _chat(header: GGUFHeader, tokens: list[str]) -> ChatTemplate | None:
    source = header.text("tokenizer.chat_template", None)
    if source is None:
        return None
    first, last = (_id(header, tokens, key) for key in ("bos_token_id", "eos_token_id"))
    names = ("" if token_id is None else tokens[token_id] for token_id in (first, last))
    return chat_template(header.path, source, *names)


def _backend(header: GGUFHeader, pre: str, tokens: list[str], special: dict[str, int]) -> tokenizers.Tokenizer:
    import tokenizers

    vocabulary = {token: token_id for token_id, token in enumerate(tokens)}
    merges = [_pair(header, vocabulary, merge) for merge in header.texts("tokenizer.ggml.merges")]
    defined = _of_kind(header, tokens, _USER_DEFINED)
    with refused_by("tokenizers", header.path):
        # Llama 3 takes a piece that is a token as it is, whether or not the merges lead there.
        rules = tokenizers.models.BPE(vocabulary, merges, ignore_merges=pre != "smollm")
        backend = tokenizers.Tokenizer(rules)
        backend.pre_tokenizer = _pre_tokenizer(pre)
        backend.add_special_tokens([*special])
        backend.add_tokens([tokenizers.AddedToken(token, normalized=False) for token in defined])
    return backend


def _pair(header: GGUFHeader, vocabulary: dict[str, int], merge: str) -> tuple[str, str]:
    first, _, second = merge.partition(" ")
    if not {first, second, first + second} <= vocabulary.keys():
        raise InvalidFileError(f"{header.path.name}: the merge {brief(merge)} is outside the vocabulary")
    return first, second


def _of_kind(header: GGUFHeader, tokens: list[str], kind: int) -> dict[str, int]:
    kinds = header.integers("tokenizer.ggml.token_type")
    if kinds and len(kinds) != len(tokens):
        raise InvalidFileError(
            f"{header.path.name}: tokenizer.ggml.token_type has {len(kinds)} entries for {len(tokens)} tokens"
        )
    return {tokens[token_id]: token_id for token_id, found in enumerate(kinds) if found == kind}


def _pre_tokenizer(pre: str) -> tokenizers.pre_tokenizers.PreTokenizer:
    from tokenizers import Regex, pre_tokenizers

    if pre == "smollm":
        digits = pre_tokenizers.Digits(individual_digits=True)
        return pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    words = pre_tokenizers.Split(Regex(LLAMA3_PATTERN), "isolated")
    return pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
