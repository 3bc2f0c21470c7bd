"""Text to token ids and back, from a tokenizer.json, a GGUF file, Meta's tokenizer.model, or plain bytes."""

from __future__ import annotations

import os
from pathlib import Path

from wsesim_models.errors import InvalidFileError, MissingTokenizerError
from wsesim_models.tokenizers.bytes import byte_tokenizer
from wsesim_models.tokenizers.gguf import open_gguf
from wsesim_models.tokenizers.huggingface import open_huggingface
from wsesim_models.tokenizers.meta import open_meta
from wsesim_models.tokenizers.tokenizer import TextStream, Tokenizer

__all__ = [
    "TextStream",
    "Tokenizer",
    "byte_tokenizer",
    "open_gguf",
    "open_huggingface",
    "open_meta",
    "open_tokenizer",
]

_OPENERS = {".json": open_huggingface, ".model": open_meta, ".gguf": open_gguf}
_BESIDE_WEIGHTS = ("tokenizer.json", "tokenizer.model", "original/tokenizer.model")


def open_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer at `path`: the file itself, one in the folder, or one beside the weights.

    Raises MissingTokenizerError if there is none, InvalidFileError for a file that cannot be read.
    """
    path = Path(os.path.expanduser(path))
    if not os.path.exists(path):
        raise MissingTokenizerError(f"no tokenizer at {path}: there is no such file or folder")
    if path.suffix == ".gguf" or (path.suffix in _OPENERS and path.name.startswith("tokenizer")):
        return _OPENERS[path.suffix](path)
    folder = path if path.is_dir() else path.parent
    found = [folder / name for name in _BESIDE_WEIGHTS if os.path.exists(folder / name)]
    found += _only_gguf(folder) if path.is_dir() else []
    if not found:
        raise MissingTokenizerError(
            f"{folder} holds no tokenizer: put tokenizer.json or Meta's tokenizer.model beside the weights"
        )
    return _OPENERS[found[0].suffix](found[0])


def _only_gguf(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.gguf"))
    if len(files) > 1:
        raise InvalidFileError(f"{folder} holds {len(files)} GGUF files and no tokenizer.json: name one of them")
    return files
