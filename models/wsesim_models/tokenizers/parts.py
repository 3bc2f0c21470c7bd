"""The parts of a tokenizer.json that change texts, and which of them may run.

Some parts of the `tokenizers` package make a text longer. A sequence of them lengthens it exponentially. Byte-level
vocabularies need no such part but ByteLevel, which writes bytes as characters.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wsesim.errors import brief
from wsesim.files import shown
from wsesim_models.errors import InvalidFileError

_BYTE_LEVEL = "ByteLevel"
_NORMALIZERS = ("Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Nmt", "Strip", "StripAccents")
_PRE_TOKENIZERS = (
    _BYTE_LEVEL,
    "BertPreTokenizer",
    "CharDelimiterSplit",
    "Digits",
    "FixedLength",
    "Punctuation",
    "Split",
    "UnicodeScripts",
    "Whitespace",
    "WhitespaceSplit",
)
_LISTS = ("normalizers", "pretokenizers", "processors")


def check_parts(path: Path, entries: dict[str, Any]) -> None:
    """Raises InvalidFileError for a part that may not run."""
    for kind in _kinds(path, "normalizer", entries.get("normalizer")):
        _require(path, "normalizer", kind, _NORMALIZERS)
    pre_tokenizers = [*_kinds(path, "pre_tokenizer", entries.get("pre_tokenizer"))]
    for kind in pre_tokenizers:
        _require(path, "pre_tokenizer", kind, _PRE_TOKENIZERS)
    if pre_tokenizers.count(_BYTE_LEVEL) > 1:
        raise InvalidFileError(f"{path}: pre_tokenizer has {_BYTE_LEVEL} more than once")
    for key in ("continuing_subword_prefix", "end_of_word_suffix"):
        if found := entries["model"].get(key):
            raise InvalidFileError(f"{path}: model.{key} is {brief(found)}; a byte-level vocabulary has none")


def first_added(path: Path, entries: dict[str, Any]) -> str | None:
    """The token that the file's post-processor puts before a text; None if there is none.

    The post-processor is read but not run: its template may repeat a text, or name unknown tokens.
    """
    token = None
    for part in _leaves(path, "post_processor", entries.get("post_processor")):
        if isinstance(cls := part.get("cls"), list) and cls and isinstance(cls[0], str):
            token = cls[0]
        if isinstance(single := part.get("single"), list) and single and isinstance(single[0], dict):
            special = single[0].get("SpecialToken")
            found = special.get("id") if isinstance(special, dict) else None
            token = found if isinstance(found, str) else token
    return token


def _require(path: Path, name: str, kind: str, known: tuple[str, ...]) -> None:
    if kind not in known:
        raise InvalidFileError(f"{path}: {name} {shown(kind)} is not run here; {', '.join(known)} are")


def _kinds(path: Path, name: str, part: object) -> Iterator[str]:
    for leaf in _leaves(path, name, part):
        yield str(leaf.get("type"))


def _leaves(path: Path, name: str, part: object) -> Iterator[dict[str, Any]]:
    """The parts of a sequence of sequences, in order."""
    waiting = [] if part is None else [part]
    while waiting:
        leaf = waiting.pop()
        if not isinstance(leaf, dict):
            raise InvalidFileError(f"{path}: {name} is {brief(leaf)}, expected an object")
        parts = next((leaf[key] for key in _LISTS if isinstance(leaf.get(key), list)), None)
        if parts is None:
            yield leaf
        else:
            waiting.extend(reversed(parts))
