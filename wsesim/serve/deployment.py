"""Deployment: one model on one simulated wafer, as the API serves it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from wsesim.runtime.protocols import Tokenizer
from wsesim.runtime.token_loop import TokenLoop


class ServedTokenizer(Tokenizer, Protocol):
    """`encode_chat` returns a chat's ids up to the assistant's answer; None if the model has no chat template."""

    @property
    def bos_id(self) -> int | None: ...

    @property
    def vocab_size(self) -> int: ...

    @property
    def longest_piece(self) -> int: ...

    def encode_chat(self, messages: Sequence[Mapping[str, str]]) -> list[int] | None: ...


@dataclass(frozen=True, slots=True)
class Deployment:
    """`name`: the model's name in requests. `text_from`: the model that the text comes from; None if its own."""

    name: str
    text_from: str | None
    fingerprint: str
    loop: TokenLoop
    tokenizer: ServedTokenizer
    created: int = 0
