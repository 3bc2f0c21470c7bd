"""tokenizer.json: the `tokenizers` package reads it; BOS, EOS and the chat template come from the files beside it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsesim_models.errors import InvalidFileError
from wsesim_models.tokenizers.byte_level import bytes_of
from wsesim_models.tokenizers.chat import ChatTemplate
from wsesim_models.tokenizers.tokenizer import Tokenizer, end_ids, pieces_of

if TYPE_CHECKING:
    import tokenizers

_BEGINNINGS = ("<|begin_of_text|>", "<|im_start|>")


def open_huggingface(path: str | Path) -> Tokenizer:
    """The tokenizer of a tokenizer.json.

    BOS: `bos_token` of tokenizer_config.json, else of config.json, else the well-known name. It is added if
    `add_bos_token` says so or, that being absent, if the file's own post-processor does.
    Raises InvalidFileError for a damaged file and for a vocabulary that is not byte-level.
    """
    path = Path(path)
    backend = _read(path)
    special = {str(t.content): int(i) for i, t in backend.get_added_tokens_decoder().items() if t.special}
    beside = _Beside(path.parent, special)
    bos_id = beside.bos_id()
    return wrap(backend, bos_id, end_ids(special, beside.eos_ids()), beside.add_bos(backend, bos_id), beside.chat())


def wrap(
    backend: tokenizers.Tokenizer,
    bos_id: int | None,
    eos_ids: frozenset[int],
    add_bos: bool,
    chat: ChatTemplate | None = None,
) -> Tokenizer:
    """A byte-level tokenizer of the `tokenizers` package as one of ours."""
    by_id = {token_id: bytes_of(token) for token, token_id in backend.get_vocab(False).items()}
    for token_id, token in backend.get_added_tokens_decoder().items():
        by_id[token_id] = b"" if token.special else token.content.encode()

    # A batch of one: unlike `encode` it lets other threads run meanwhile. Nothing is to be done in parallel.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

    def split(text: str) -> list[int]:
        return list(backend.encode_batch([text], add_special_tokens=False)[0].ids)

    return Tokenizer(split, pieces_of(by_id), bos_id, eos_ids, add_bos, chat)


def _read(path: Path) -> tokenizers.Tokenizer:
    import tokenizers

    try:
        text = path.read_text(encoding="utf-8")
        decoder = json.loads(text).get("decoder") or {}
        backend = tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # the package raises bare Exceptions
        raise InvalidFileError(f"{path} is not a tokenizer that can be read: {error}") from error
    if decoder.get("type") != "ByteLevel":
        raise InvalidFileError(f"{path} decodes by {decoder.get('type')}; only ByteLevel vocabularies are read")
    # Files keep whatever lengths their maker trained with.
    backend.no_truncation()
    backend.no_padding()
    return backend


class _Beside:
    """What the files beside a tokenizer.json say of its first and last tokens."""

    def __init__(self, folder: Path, special: dict[str, int]) -> None:
        self._folder = folder
        self._special = special
        self._tokenizer = _json(folder / "tokenizer_config.json")
        self._model = _json(folder / "config.json")
        self._generation = _json(folder / "generation_config.json")

    def bos_id(self) -> int | None:
        named = self._named("bos_token")
        if named is not None:
            return named
        if isinstance(self._model.get("bos_token_id"), int):
            return int(self._model["bos_token_id"])
        return next((self._special[name] for name in _BEGINNINGS if name in self._special), None)

    def eos_ids(self) -> set[int]:
        named = self._named("eos_token")
        ids = set() if named is None else {named}
        for entries in (self._model, self._generation):
            declared = entries.get("eos_token_id")
            ids |= {declared} if isinstance(declared, int) else set(declared or ())
        return ids

    def add_bos(self, backend: tokenizers.Tokenizer, bos_id: int | None) -> bool:
        declared = self._tokenizer.get("add_bos_token")
        if isinstance(declared, bool):
            return declared
        return bos_id is not None and backend.encode("", add_special_tokens=True).ids[:1] == [bos_id]

    def chat(self) -> ChatTemplate | None:
        """The template in chat_template.jinja or tokenizer_config.json."""
        file = self._folder / "chat_template.jinja"
        source = file.read_text(encoding="utf-8") if file.is_file() else self._tokenizer.get("chat_template")
        if not isinstance(source, str):
            return None
        return ChatTemplate(source, self._content("bos_token"), self._content("eos_token"))

    def _named(self, key: str) -> int | None:
        return self._special.get(self._content(key))

    def _content(self, key: str) -> str:
        token = self._tokenizer.get(key)
        return str((token.get("content") if isinstance(token, dict) else token) or "")


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_bytes()))
    except (ValueError, TypeError) as error:
        raise InvalidFileError(f"{path} is not a JSON object") from error
