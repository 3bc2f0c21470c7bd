"""Deployment: one model on one simulated wafer, as the facade sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from wsesim.runtime.protocols import Tokenizer
from wsesim.runtime.token_loop import TokenLoop


class ServedTokenizer(Tokenizer, Protocol):
    """`encode_chat` gives a chat's ids up to where the assistant answers; None where the model has no template."""

    @property
    def bos_id(self) -> int | None: ...

    @property
    def vocab_size(self) -> int: ...

    @property
    def longest_piece(self) -> int: ...

    def encode_chat(self, messages: Sequence[Mapping[str, str]]) -> list[int] | None: ...


@dataclass(frozen=True, slots=True)
class Deployment:
    """`name` is what requests call it; `text_from` the model whose text stands in, None for its own."""

    name: str
    text_from: str | None
    fingerprint: str
    loop: TokenLoop
    tokenizer: ServedTokenizer
    created: int = 0
