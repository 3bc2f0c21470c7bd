"""Files of a small byte-level vocabulary in each of the formats that are read."""

from __future__ import annotations

import base64
from pathlib import Path

import gguf
import tokenizers
from tokenizers import models, pre_tokenizers, processors

from wsesim_models.tokenizers.byte_level import bytes_of
from wsesim_models.tokenizers.meta import LLAMA3_PATTERN

LETTER_OF = {bytes_of(letter): letter for letter in map(chr, range(0x180)) if len(bytes_of(letter)) == 1}
# A vocabulary small enough to work out by hand: bytes, then merges in the order of their ranks.
MERGED = [b"he", b"ll", b"hell", b"hello", b" w", b"  ", b"12", b"123", b"\n\n", "é".encode(), b" hello"]


def letters(token: bytes) -> str:
    return "".join(LETTER_OF[bytes([value])] for value in token)


def ranks() -> list[bytes]:
    return [*(bytes([value]) for value in range(256)), *MERGED]


def merges() -> list[tuple[str, str]]:
    known, pairs = set(ranks()), []
    for token in MERGED:
        splits = [(token[:i], token[i:]) for i in range(1, len(token))]
        pairs += [(letters(a), letters(b)) for a, b in splits if {a, b} <= known]
    return pairs


def meta_file(folder: Path) -> Path:
    lines = [f"{base64.b64encode(token).decode()} {rank}" for rank, token in enumerate(ranks())]
    (folder / "tokenizer.model").write_text("\n".join(lines) + "\n")
    return folder / "tokenizer.model"


def gguf_file(folder: Path, pre: str = "llama-bpe", model: str = "gpt2", **bools: bool) -> Path:
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"]
    writer = gguf.GGUFWriter(folder / "x.gguf", "llama")
    writer.add_tokenizer_model(model)
    writer.add_tokenizer_pre(pre)
    writer.add_token_list([letters(token) for token in ranks()] + special)
    writer.add_token_types([1] * len(ranks()) + [3] * len(special))
    writer.add_token_merges([" ".join(pair) for pair in merges()])
    writer.add_bos_token_id(len(ranks()))
    writer.add_eos_token_id(len(ranks()) + 1)
    for key, value in bools.items():
        writer.add_bool(f"tokenizer.ggml.{key}", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return folder / "x.gguf"


def huggingface_file(folder: Path, add_bos: bool = True) -> Path:
    vocabulary = {letters(token): rank for rank, token in enumerate(ranks())}
    backend = tokenizers.Tokenizer(models.BPE(vocabulary, merges(), ignore_merges=True))
    words = pre_tokenizers.Split(tokenizers.Regex(LLAMA3_PATTERN), "isolated")
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([words, bytes_])
    backend.decoder = tokenizers.decoders.ByteLevel()
    backend.add_special_tokens(["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"])
    backend.add_tokens(["<tool é>"])
    backend.enable_truncation(4)
    if add_bos:
        backend.post_processor = processors.TemplateProcessing(
            single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", len(ranks()))]
        )
    backend.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"
