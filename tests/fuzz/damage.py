"""Damage that fits any file: to bytes, to the words of a text, to the tree of a JSON document."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

Damage = Callable[[Random, bytes], bytes]

MAGIC = (
    b"GGUF",
    b"PK\x03\x04",
    b"program 2\n",
    b"\x1f\x8b\x08",
    b"\x80\x04.",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\0" * 64,
)
INTEGERS = (0, 1, -1, 2, 3, 7, 255, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1)

NUMBER_WORDS = (
    *("0", "1", "-1", "2", "0.5", "-0.0", "1e308", "1e-320", "1e999", "-1e999", "2147483648", "9223372036854775808"),
    *(
        "-9223372036854775809",
        "9" * 5000,
        "1" + "0" * 400,
        "1_000",
        "0x10",
        "0b1",
        "1e",
        ".5",
        "5.",
        "--1",
        "nan",
        "inf",
    ),
)


def one_to_three(*damages: Damage) -> Damage:
    """Apply one to three of the damages, one after another."""

    def mutate(rng: Random, data: bytes) -> bytes:
        for _ in range(rng.choice((1, 1, 2, 3))):
            data = rng.choice(damages)(rng, data)
        return data

    return mutate


def damage_bytes(rng: Random, data: bytes) -> bytes:
    """Bytes changed, cut off, left out, repeated, copied from elsewhere, or replaced by a number or a magic."""
    size = len(data)
    at, length = rng.randrange(size + 1), min(rng.choice((1, 2, 4, 8, 64, 1000)), size)
    kind = rng.randrange(8)
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + data[at + length :]
    if kind == 2:
        return data[:at] + data[at : at + length] * rng.choice((2, 3, 50)) + data[at + length :]
    if kind == 3:
        other = rng.randrange(size + 1)
        return data[:at] + data[other : other + length] + data[at + length :]
    if kind == 4:
        return overwritten(data, at, number_bytes(rng, rng.choice((1, 2, 4, 8))))
    if kind == 5:
        return (
            overwritten(data, at, rng.choice(MAGIC))
            if rng.random() < 0.5
            else data[:at] + rng.choice(MAGIC) + data[at:]
        )
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8)) if size else 0):
        place = rng.randrange(size)
        changed[place] = changed[place] ^ 1 << rng.randrange(8) if kind == 6 else rng.randrange(256)
    return bytes(changed)


def number_bytes(rng: Random, width: int) -> bytes:
    """An integer of that many bytes, little-endian, likely at the end of a range."""
    number: int = rng.choice(INTEGERS) % 256**width
    return number.to_bytes(width, "little")


def overwritten(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


_WORD = re.compile(r"\"(?:[^\"\\\n]|\\.)*\"|'[^'\n]*'|[A-Za-z_][\w.]*|-?\d[\w.+-]*|[ \t]+|.", re.DOTALL)


def damage_text(words: Sequence[str] = NUMBER_WORDS) -> Damage:
    """Damage to words and lines of a text. `words` are values that may be hard for its readers."""

    def damage(rng: Random, data: bytes) -> bytes:
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            return damage_bytes(rng, data)
        return _text(rng, text, words).encode("utf-8", "surrogatepass")

    return damage


def _text(rng: Random, text: str, words: Sequence[str]) -> str:
    if rng.random() < 0.25:
        return _lines(rng, text)
    found = [match.span() for match in _WORD.finditer(text) if not match[0].isspace()]
    if not found:
        return text + rng.choice(words)
    start, end = rng.choice(found)
    kind = rng.random()
    if kind < 0.45:
        new = rng.choice(words)
    elif kind < 0.75:
        new = text[slice(*rng.choice(found))]
    elif kind < 0.85:
        new = ""
    else:
        new = text[start:end] * rng.choice((2, 3, 200))
    return text[:start] + new + text[end:]


def _lines(rng: Random, text: str) -> str:
    """A line dropped, repeated, moved or cut off."""
    lines = text.split("\n")
    at = rng.randrange(len(lines))
    line = lines.pop(at)
    kind = rng.randrange(4)
    if kind == 1:
        lines[at:at] = [line] * rng.choice((2, 2, 100))
    elif kind == 2:
        lines.insert(rng.randrange(len(lines) + 1), line)
    elif kind == 3:
        lines.insert(at, line[: rng.randrange(len(line) + 1)])
    return "\n".join(lines)


class Raw(str):
    """A part of a JSON document that is written as it is."""


JSON_WORDS = (
    *map(Raw, ("null", "true", "false", "[]", "{}", "[[]]", "[null]", '[1, "a", {}]', '{"a": 1}', '["a"]')),
    *map(Raw, (*NUMBER_WORDS[:15], "NaN", "Infinity", "-Infinity", "1_000", "")),
    *("", "x", "0", "\0", "a\nb", "é", "x" * 5000, "../../secret", "/dev/zero", "\x1b[2J"),
    Raw('"\\ud800"'),
    Raw("[" * 100_000),
    Raw("[" * 5_000 + "]" * 5_000),
    Raw('{"a":' * 3_000 + "1" + "}" * 3_000),
)


def damage_json(rng: Random, data: bytes) -> bytes:
    """A node of the document replaced, dropped, doubled, renamed, moved or wrapped; keys may come twice."""
    try:
        tree = _pairs(json.loads(data))
    except (ValueError, RecursionError):
        return damage_bytes(rng, data)
    return _written(_damaged(rng, tree)).encode("utf-8", "surrogatepass")


def _pairs(node: Any) -> Any:
    """Objects as lists of [key, value] in a tuple, which keep their order and may repeat a key."""
    if isinstance(node, dict):
        return tuple([key, _pairs(value)] for key, value in node.items())
    return [_pairs(item) for item in node] if isinstance(node, list) else node


def _damaged(rng: Random, node: Any) -> Any:
    children = len(node) if isinstance(node, list | tuple) else 0
    if not children or rng.random() < 0.1:
        return _replaced(rng, node)
    at = rng.randrange(children)
    if rng.random() < 0.75:
        if isinstance(node, list):
            return [*node[:at], _damaged(rng, node[at]), *node[at + 1 :]]
        return (*node[:at], [node[at][0], _damaged(rng, node[at][1])], *node[at + 1 :])
    return _shuffled(rng, node, at)


def _shuffled(rng: Random, node: Any, at: int) -> Any:
    """One child dropped, doubled, put elsewhere, or under another key."""
    items, child, kind = list(node), node[at], rng.randrange(5)
    if kind == 0:
        del items[at]
    elif kind == 1:
        items[at:at] = [child] * rng.choice((1, 1, 300))
    elif kind == 2:
        items[rng.randrange(len(items))] = child
    elif isinstance(node, tuple):
        key = rng.choice(("", "a", child[0].upper(), "__metadata__", "\0", rng.choice(items)[0]))
        items[at] = [key, child[1]] if kind == 3 else [key, rng.choice(items)[1]]
    else:
        items[at] = rng.choice(items)
    return tuple(items) if isinstance(node, tuple) else items


def _replaced(rng: Random, node: Any) -> Any:
    kind = rng.random()
    if kind < 0.1:
        return [node]
    if kind < 0.2:
        return (["a", node],)
    if kind < 0.5 and isinstance(node, int | float):
        return rng.choice((node + 1, node - 1, -node, node * 2, f"{node}.5", Raw(f"{node}e9"), bool(node)))
    if kind < 0.4 and isinstance(node, str):
        return rng.choice((node + "\0", node[:-1], node * 2, node.upper(), f"../{node}"))
    return rng.choice(JSON_WORDS)


def _written(node: Any) -> str:
    if isinstance(node, Raw):
        return node
    if isinstance(node, tuple):
        return "{" + ", ".join(f"{json.dumps(key)}: {_written(value)}" for key, value in node) + "}"
    if isinstance(node, list):
        return "[" + ", ".join(map(_written, node)) + "]"
    return json.dumps(node)


TOML_WORDS = (
    *NUMBER_WORDS,
    *('""', '"x"', "''", "true", "[]", "{}", "[[]]", "[1, 2]", '["a"]', "[[0, 0]]", "[[1, 1, 2]]", "{ a = 1 }"),
    *("1979-05-27", "07:32:00", "1979-05-27T07:32:00Z", '"""', "\n[a]\n", "\n[[a]]\n", "a.b.c", "=", "#", "\0", "\r"),
    *('"1/0"', '"1/3"', '"1e999"', '"-1/2"', '"' + "9" * 5000 + '"', "[" * 3000, "[" * 3000 + "]" * 3000),
    "{a = " * 2000 + "1" + "}" * 2000,
)
damage_toml = one_to_three(*[damage_text(TOML_WORDS)] * 9, damage_bytes)
