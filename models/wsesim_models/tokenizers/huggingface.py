"""tokenizer.json: the `tokenizers` package reads it; BOS, EOS and the chat template come from the files beside it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from wsesim.files import MOST_TEXT_BYTES, read_text, shown
from wsesim_models.errors import InvalidFileError
from wsesim_models.reading import MOST_JSON_BYTES, checked, invalid_file, parsed, read, refused_by
from wsesim_models.tokenizers.byte_level import bytes_of
from wsesim_models.tokenizers.chat import MOST_TEMPLATE_CHARACTERS, ChatTemplate, chat_template
from wsesim_models.tokenizers.parts import check_parts, first_added
from wsesim_models.tokenizers.tokenizer import Tokenizer, check_ids, end_ids, pieces_of

if TYPE_CHECKING:
    import tokenizers

T = TypeVar("T")

_BEGINNINGS = ("<|begin_of_text|>", "<|im_start|>")


def open_huggingface(path: str | Path) -> Tokenizer:
    """The tokenizer of a tokenizer.json.

    BOS is `bos_token` of tokenizer_config.json, else that of config.json, else a token with a well-known name. It is
    added to texts if `add_bos_token` says so. Without that entry, it is added if the file's own post-processor adds it.
    Raises InvalidFileError for a damaged file and for a vocabulary that is not byte-level.
    """
    path = Path(path)
    backend, first = _read(path)
    special = {str(t.content): int(i) for i, t in backend.get_added_tokens_decoder().items() if t.special}
    beside = _Beside(path.parent, special)
    bos_id = beside.bos_id()
    add_bos = beside.add_bos(bos_id is not None and first is not None and bos_id == backend.token_to_id(first))
    return wrap(path, backend, bos_id, end_ids(special, beside.eos_ids()), add_bos, beside.chat())


def wrap(
    path: Path,
    backend: tokenizers.Tokenizer,
    bos_id: int | None,
    eos_ids: frozenset[int],
    add_bos: bool,
    chat: ChatTemplate | None = None,
) -> Tokenizer:
    """A byte-level tokenizer of the `tokenizers` package, read from `path`, as one of ours."""
    added = backend.get_added_tokens_decoder()
    ids = backend.get_vocab(False) | {token.content: token_id for token_id, token in added.items()}
    check_ids(path, ids, bos_id)
    by_id = {token_id: bytes_of(token) for token, token_id in ids.items()}
    by_id |= {token_id: b"" if token.special else token.content.encode() for token_id, token in added.items()}

    # A batch of one lets other threads run meanwhile, which `encode` does not. There is nothing to do in parallel.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

    def split(text: str) -> list[int]:
        with refused_by("tokenizers", path):
            return list(backend.encode_batch([text], add_special_tokens=False)[0].ids)

    return Tokenizer(split, pieces_of(by_id), bos_id, eos_ids, add_bos, chat)


def _read(path: Path) -> tuple[tokenizers.Tokenizer, str | None]:
    """The package's tokenizer, and the token that the file puts before a text."""
    import tokenizers

    from wsesim_models.schemas import TokenizerFile

    text = read(path, "a tokenizer", MOST_TEXT_BYTES)
    entries = parsed(text, str(path))
    file = checked(str(path), TokenizerFile, entries)
    decoder = file.decoder.type if file.decoder else None
    if decoder != "ByteLevel":
        raise InvalidFileError(f"{path} decodes by {shown(decoder)}; only ByteLevel vocabularies are read")
    check_ids(path, file.model.vocab | {token.content: token.id for token in file.added_tokens}, None)
    check_parts(path, entries)
    with refused_by("tokenizers", path):
        backend = tokenizers.Tokenizer.from_str(text.decode())
        # Files may have limits of length from training. BOS is added by our Tokenizer, if at all.
        backend.no_truncation()
        backend.no_padding()
        backend.post_processor = None
    return backend, first_added(path, entries)


class _Beside:
    """The entries about BOS, EOS and the chat template in the files beside a tokenizer.json."""

    def __init__(self, folder: Path, special: dict[str, int]) -> None:
        from wsesim_models.schemas import SpecialIds, TokenizerConfig

        self._folder = folder
        self._special = special
        self._tokenizer = _json(folder / "tokenizer_config.json", TokenizerConfig)
        self._model = _json(folder / "config.json", SpecialIds)
        self._generation = _json(folder / "generation_config.json", SpecialIds)

    def bos_id(self) -> int | None:
        named = self._special.get(self._tokenizer.bos_token or "")
        if named is not None:
            return named
        if self._model.bos_token_id is not None:
            return self._model.bos_token_id
        return next((self._special[name] for name in _BEGINNINGS if name in self._special), None)

    def eos_ids(self) -> set[int]:
        named = self._special.get(self._tokenizer.eos_token or "")
        return {*self._model.eos_token_id, *self._generation.eos_token_id, *(() if named is None else (named,))}

    def add_bos(self, otherwise: bool) -> bool:
        declared = self._tokenizer.add_bos_token
        return otherwise if declared is None else declared

    def chat(self) -> ChatTemplate | None:
        """The template in chat_template.jinja or tokenizer_config.json."""
        file = self._folder / "chat_template.jinja"
        where, source = self._folder / "tokenizer_config.json", self._tokenizer.chat_template
        if os.path.exists(file):
            with invalid_file():
                where, source = file, read_text(file, "a chat template", 4 * MOST_TEMPLATE_CHARACTERS)
        if not isinstance(source, str):
            return None
        return chat_template(where, source, self._tokenizer.bos_token or "", self._tokenizer.eos_token or "")


def _json(path: Path, schema: type[T]) -> T:
    """The file's entries; the defaults if there is no such file."""
    entries = parsed(read(path, "a JSON file", MOST_JSON_BYTES), str(path)) if os.path.exists(path) else {}
    return checked(str(path), schema, entries)
