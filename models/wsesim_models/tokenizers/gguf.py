"""The vocabulary inside a GGUF file, as a byte-level BPE with the pre-tokenizer that the file names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from wsesim.errors import UnknownNameError
from wsesim_models.errors import InvalidFileError
from wsesim_models.tokenizers.chat import ChatTemplate
from wsesim_models.tokenizers.huggingface import wrap
from wsesim_models.tokenizers.meta import LLAMA3_PATTERN
from wsesim_models.tokenizers.tokenizer import Tokenizer, end_ids
from wsesim_models.weights.gguf_header import GGUFHeader, read_header

if TYPE_CHECKING:
    import tokenizers

PRE_TOKENIZERS = ("smollm", "llama-bpe", "llama3", "llama-v3")
"""Names of pre-tokenizers that are known; the last three are one."""

_CONTROL, _USER_DEFINED = 3, 4
_END_KEYS = ("eos_token_id", "eot_token_id", "eom_token_id")


def open_gguf(path: str | Path) -> Tokenizer:
    """The tokenizer of a GGUF file.

    Raises UnknownNameError for a pre-tokenizer outside `PRE_TOKENIZERS`, InvalidFileError for a vocabulary
    that is not byte-level BPE.
    """
    header = read_header(path)
    model, pre = header.get("tokenizer.ggml.model"), str(header.get("tokenizer.ggml.pre", "default"))
    if model != "gpt2":
        raise InvalidFileError(f"{header.path.name} has a {model!r} vocabulary; only byte-level BPE (gpt2) is read")
    if pre not in PRE_TOKENIZERS:
        raise UnknownNameError("pre-tokenizer", pre, PRE_TOKENIZERS)
    special = _of_kind(header, _CONTROL)
    declared = [header.get(f"tokenizer.ggml.{key}") for key in _END_KEYS]
    eos_ids = end_ids(special, (token_id for token_id in declared if token_id is not None))
    # llama.cpp adds BOS for Llama 3 unless the file says otherwise.
    add_bos = bool(header.get("tokenizer.ggml.add_bos_token", pre != "smollm"))
    return wrap(
        _backend(header, pre, special), header.get("tokenizer.ggml.bos_token_id"), eos_ids, add_bos, _chat(header)
    )


def _chat(header: GGUFHeader) -> ChatTemplate | None:
    source = header.get("tokenizer.chat_template")
    return ChatTemplate(source, _token(header, "bos"), _token(header, "eos")) if isinstance(source, str) else None


def _token(header: GGUFHeader, name: str) -> str:
    token = header.get(f"tokenizer.ggml.{name}_token_id")
    return "" if token is None else str(header.need("tokenizer.ggml.tokens")[token])


def _backend(header: GGUFHeader, pre: str, special: dict[str, int]) -> tokenizers.Tokenizer:
    import tokenizers

    vocabulary = {token: token_id for token_id, token in enumerate(header.need("tokenizer.ggml.tokens"))}
    merges = [_pair(merge) for merge in header.need("tokenizer.ggml.merges")]
    # Llama 3 takes a piece that is a token as it is, whether or not the merges lead there.
    rules = tokenizers.models.BPE(vocabulary, merges, ignore_merges=pre != "smollm")
    backend = tokenizers.Tokenizer(rules)
    backend.pre_tokenizer = _pre_tokenizer(pre)
    backend.add_special_tokens([*special])
    backend.add_tokens([tokenizers.AddedToken(t, normalized=False) for t in _of_kind(header, _USER_DEFINED)])
    return backend


def _pair(merge: str) -> tuple[str, str]:
    first, _, second = merge.partition(" ")
    return first, second


def _of_kind(header: GGUFHeader, kind: int) -> dict[str, int]:
    tokens, kinds = header.need("tokenizer.ggml.tokens"), header.get("tokenizer.ggml.token_type", [])
    return {tokens[token_id]: token_id for token_id, found in enumerate(kinds) if found == kind}


def _pre_tokenizer(pre: str) -> tokenizers.pre_tokenizers.PreTokenizer:
    from tokenizers import Regex, pre_tokenizers

    if pre == "smollm":
        digits = pre_tokenizers.Digits(individual_digits=True)
        return pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    words = pre_tokenizers.Split(Regex(LLAMA3_PATTERN), "isolated")
    return pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
