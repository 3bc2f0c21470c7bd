"""Areas of tokenizers: tokenizer.json and what lies beside it, tokenizer.model, a GGUF's vocabulary."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random

from tests.fuzz.area import Area
from tests.fuzz.damage import INTEGERS, damage_bytes, damage_json, damage_text, one_to_three
from tests.fuzz.gguf_damage import damage_gguf
from wsesim_models.tokenizers import open_tokenizer

TEXT = "hello  hello 123\n\n é <|eot_id|> \u4e16 \ud800"
CHAT = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "<{{ m['role'] }}>{{ m.content | trim }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
)
MESSAGES = ({"role": "user", "content": "hello"}, {"role": "assistant", "content": "é"})
CHAT_WORDS = (
    *(
        "{{",
        "}}",
        "{%",
        "%}",
        "{#",
        "-",
        "|",
        "[0]",
        "messages",
        "messages.__class__",
        "m.x.y",
        "1 / 0",
        "loop",
        "none",
    ),
    *("{% endfor %}", "{% break %}", "{{ 'x' * 3 }}", "{{ [] + 1 }}", "{{ bos_token.format }}", "{% include 'x' %}"),
    *(
        "raise_exception()",
        "raise_exception(1)",
        "''.__class__.__mro__",
        "cycler()",
        "range(3)",
        "{{ self }}",
        "\0",
        "(" * 500,
    ),
)


def _read(path: Path) -> None:
    """All that a run asks of a tokenizer."""
    tokenizer = open_tokenizer(path)
    ids = tokenizer.encode(TEXT)
    assert isinstance(tokenizer.decode([*ids, -1, 2**31]), str)
    assert tokenizer.longest_piece >= 0 and tokenizer.vocab_size >= 0
    stream = tokenizer.stream()
    assert isinstance("".join(map(stream.push, ids)) + stream.flush(), str)
    tokenizer.encode_chat(MESSAGES)


def _made(write: Callable[[Path], Path]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return write(Path(folder)).read_bytes()


@cache
def _json_seeds() -> tuple[bytes, ...]:
    from tests.tokenizer_files import huggingface_file

    return _made(huggingface_file), _made(lambda folder: huggingface_file(folder, add_bos=False))


@cache
def _settings_seeds() -> tuple[bytes, ...]:
    names = {"bos_token": "<|begin_of_text|>", "eos_token": {"content": "<|end_of_text|>", "special": True}}
    return (
        json.dumps(names | {"add_bos_token": True, "chat_template": CHAT}).encode(),
        json.dumps(names | {"chat_template": [{"name": "default", "template": CHAT}]}).encode(),
    )


def _write_beside(folder: Path) -> None:
    (folder / "tokenizer.json").write_bytes(_json_seeds()[0])
    for name in ("config.json", "generation_config.json"):
        (folder / name).write_text(json.dumps({"bos_token_id": 267, "eos_token_id": [268, 269]}))


def _read_beside(path: Path) -> None:
    _read(path.parent / "tokenizer.json")


@cache
def _chat_seeds() -> tuple[bytes, ...]:
    return (CHAT.encode(),)


@cache
def _meta_seeds() -> tuple[bytes, ...]:
    from tests.tokenizer_files import meta_file

    return (_made(meta_file),)


def _damage_ranks(rng: Random, data: bytes) -> bytes:
    """A token or a rank changed, or a token left out and the others numbered anew."""
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    token, _, rank = lines[at].partition(b" ")
    kind = rng.randrange(5)
    if kind == 0:
        lines[at] = token + b" " + rng.choice((*(str(n).encode() for n in INTEGERS), b"", b"x", b"1.0", b"9" * 5000))
    elif kind == 1:
        lines[at] = rng.choice((b"", b"=", b"aA", b"YQ==", b"\xff", b"YWE" * 3000, lines[0])) + b" " + rank
    elif kind == 2:
        lines.insert(at, rng.choice(lines))
    else:
        del lines[at : at + rng.choice((1, 1, 100))]
        words = [line.split()[0] for line in lines if line.split()]
        if kind == 4:
            lines = [word + b" %d" % number for number, word in enumerate(words)]
    return b"\n".join(lines)


@cache
def _gguf_seeds() -> tuple[bytes, ...]:
    from tests.tokenizer_files import gguf_file

    plain = _made(gguf_file)
    return plain, _made(lambda folder: gguf_file(folder, "smollm", add_bos_token=True))


AREAS = (
    Area("tokenizer.json", "tokenizer.json", _json_seeds, one_to_three(*[damage_json] * 8, damage_bytes), _read),
    Area(
        "tokenizer-config",
        "tokenizer_config.json",
        _settings_seeds,
        one_to_three(*[damage_json] * 8, damage_bytes),
        _read_beside,
        _write_beside,
    ),
    Area(
        "chat-template",
        "chat_template.jinja",
        _chat_seeds,
        one_to_three(*[damage_text(CHAT_WORDS)] * 8, damage_bytes),
        _read_beside,
        _write_beside,
    ),
    Area("tokenizer.model", "tokenizer.model", _meta_seeds, one_to_three(*[_damage_ranks] * 3, damage_bytes), _read),
    Area("gguf-tokenizer", "tokenizer.gguf", _gguf_seeds, one_to_three(*[damage_gguf] * 4, damage_bytes), _read),
)
