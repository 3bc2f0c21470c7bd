"""Meta's tokenizer.model of Llama 3: lines of base64 token and rank, special tokens numbered after them."""

from __future__ import annotations

import base64
from pathlib import Path

from wsesim.files import MOST_TEXT_BYTES
from wsesim_models.errors import InvalidFileError
from wsesim_models.reading import read, refused_by
from wsesim_models.tokenizers.tokenizer import Tokenizer, end_ids, pieces_of

LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
"""How Llama 3 cuts text before merging (llama-models, llama3/tokenizer.py)."""

_SPECIAL_COUNT = 256
_NAMED = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|reserved_special_token_0|>",
    "<|reserved_special_token_1|>",
    "<|finetune_right_pad_id|>",
    "<|step_id|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|eot_id|>",
    "<|python_tag|>",
    "<|image|>",
)


def open_meta(path: str | Path) -> Tokenizer:
    """The tokenizer of Meta's file; BOS is added.

    Raises InvalidFileError for any other file, SentencePiece's tokenizer.model of Llama 2 included.
    """
    import tiktoken

    path = Path(path)
    ranks = _ranks(path)
    special = {name: len(ranks) + index for index, name in enumerate(_special_names())}
    with refused_by("tiktoken", path):
        encoding = tiktoken.Encoding("llama3", pat_str=LLAMA3_PATTERN, mergeable_ranks=ranks, special_tokens=special)
    by_id = {rank: token for token, rank in ranks.items()} | dict.fromkeys(special.values(), b"")

    def split(text: str) -> list[int]:
        with refused_by("tiktoken", path):
            return list(encoding.encode(text, allowed_special="all"))

    return Tokenizer(split, pieces_of(by_id), special[_NAMED[0]], end_ids(special, ()), True)


def _special_names() -> list[str]:
    reserved = [f"<|reserved_special_token_{2 + index}|>" for index in range(_SPECIAL_COUNT - len(_NAMED))]
    return [*_NAMED, *reserved]


def _ranks(path: Path) -> dict[bytes, int]:
    try:
        pairs = [line.split() for line in read(path, "Llama 3's tokenizer.model", MOST_TEXT_BYTES).splitlines() if line]
        ranks = {base64.b64decode(token, validate=True): int(rank) for token, rank in pairs}
    except ValueError as error:
        raise InvalidFileError(f"{path} is not Llama 3's tokenizer.model: lines of base64 and rank") from error
    if sorted(ranks.values()) != list(range(len(ranks))):
        raise InvalidFileError(f"{path} is damaged or truncated: its ranks are not 0, 1, 2, .. without a gap")
    absent = [value for value in range(256) if bytes([value]) not in ranks]
    if absent:  # tiktoken panics over them
        raise InvalidFileError(f"{path} is damaged or truncated: it has no token for the single byte {absent[0]}")
    return ranks
