"""The vocabulary of `tiny`: a token is a byte."""

from __future__ import annotations

from wsesim_models.tokenizers.tokenizer import Tokenizer


def byte_tokenizer() -> Tokenizer:
    """256 tokens, id = byte of UTF-8; no BOS, and the zero byte ends a text."""
    pieces = tuple(bytes([value]) for value in range(256))
    return Tokenizer(lambda text: list(text.encode()), pieces, None, frozenset({0}), False)
