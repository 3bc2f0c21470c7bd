"""Tokenizer: text to ids by a model's own rules, ids to text by the bytes of each id."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from wsesim.files import shown
from wsesim_models.errors import InvalidFileError
from wsesim_models.tokenizers.chat import ChatTemplate

_END_OF_GENERATION = ("<|endoftext|>", "<|im_end|>", "<|end_of_text|>", "<|eot_id|>", "<|eom_id|>")


@dataclass(frozen=True)
class Tokenizer:
    """A byte-level vocabulary.

    split: the model's rule from text to ids, without BOS. It also finds special tokens in the text.
    pieces: the bytes of each id; empty for special tokens and unused ids.
    add_bos: whether `bos_id` comes before every encoded text.
    eos_ids: generation ends at any of them.
    chat: the model's chat template, if it has one.
    """

    split: Callable[[str], list[int]] = field(repr=False)
    pieces: tuple[bytes, ...] = field(repr=False)
    bos_id: int | None
    eos_ids: frozenset[int]
    add_bos: bool
    chat: ChatTemplate | None = None

    @property
    def vocab_size(self) -> int:
        """One more than the highest id."""
        return len(self.pieces)

    @cached_property
    def longest_piece(self) -> int:
        """The most characters that one token can stand for. In a text, a special token is written by its name."""
        return max(64, *map(len, self.pieces))

    def encode(self, text: str) -> list[int]:
        """Ids of `text`. A lone surrogate counts as U+FFFD.

        Bytes that the vocabulary lacks are lost, as in the model's own tokenizer (SmolLM2 lacks 21).
        """
        start = [self.bos_id] if self.add_bos and self.bos_id is not None else []
        return start + self.split(_without_lone_surrogates(text))

    def encode_chat(self, messages: Sequence[Mapping[str, str]]) -> list[int] | None:
        """Ids of a chat up to the assistant's answer; None without a chat template. The template places BOS.

        Messages have a `role` and a `content`. Raises ChatTemplateError if the template refuses them.
        """
        return None if self.chat is None else self.split(_without_lone_surrogates(self.chat.render(messages)))

    def decode(self, ids: Iterable[int]) -> str:
        """Text of `ids`. Special tokens and unknown ids have no text; broken UTF-8 becomes U+FFFD."""
        return b"".join(map(self.piece, ids)).decode("utf-8", "replace")

    def piece(self, token_id: int) -> bytes:
        """Bytes of one id, empty for special tokens and for ids outside the vocabulary."""
        return self.pieces[token_id] if 0 <= token_id < len(self.pieces) else b""

    def stream(self) -> TextStream:
        """A decoder for ids that come one by one."""
        return TextStream(self.piece)


class TextStream:
    """Text of ids that come one by one, in whole characters. All pushes and the flush make `decode` of all ids."""

    def __init__(self, piece: Callable[[int], bytes]) -> None:
        self._piece = piece
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        """The characters that this id completes, often none."""
        return self._decoder.decode(self._piece(token_id))

    def flush(self) -> str:
        """The rest: U+FFFD for an unfinished character, or nothing."""
        return self._decoder.decode(b"", final=True)


def end_ids(special: Mapping[str, int], declared: Iterable[int]) -> frozenset[int]:
    """Ids that end generation: those that the model's files declare, and its tokens with well-known names.

    Chat models declare at most one of their end tokens. The others end a text too.
    """
    return frozenset(declared) | {special[name] for name in _END_OF_GENERATION if name in special}


def check_ids(path: Path, ids: Mapping[str, int], bos_id: int | None) -> None:
    """Raises InvalidFileError if more ids are unused than used, or if BOS is beyond the highest id.

    Tables have an entry for each id up to the highest, so a huge id would make them huge.
    """
    beyond = 2 * len(ids)
    wrong = next((token for token, token_id in ids.items() if not 0 <= token_id < beyond), None)
    if wrong is not None:
        raise InvalidFileError(
            f"{path}: token {shown(wrong)} has the id {ids[wrong]}, expected 0 to {beyond - 1} for {len(ids)} tokens"
        )
    if bos_id is not None and bos_id > max(ids.values(), default=-1):
        raise InvalidFileError(f"{path}: BOS is the id {bos_id}, expected 0 to {max(ids.values(), default=-1)}")


def pieces_of(by_id: Mapping[int, bytes]) -> tuple[bytes, ...]:
    """The bytes of ids 0, 1, .. up to the highest; empty for unused ids. Call `check_ids` first."""
    return tuple(by_id.get(token_id, b"") for token_id in range(max(by_id, default=-1) + 1))


def _without_lone_surrogates(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
