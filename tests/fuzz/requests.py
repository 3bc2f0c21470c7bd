"""Area of HTTP bodies: JSON or msgpack, packed or not, for each of the two endpoints."""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import msgpack

from tests.fuzz.area import Area
from tests.fuzz.damage import damage_bytes, damage_json
from wsesim.errors import WsesimError

_MOST_BYTES = 100_000
_COMPLETION: dict[str, Any] = {
    "model": "tiny",
    "prompt": "Once",
    "max_tokens": 3,
    "min_tokens": 0,
    "temperature": 0.5,
    "top_p": 0.9,
    "seed": 7,
    "stop": ["x", "y"],
    "n": 2,
    "best_of": 3,
    "logprobs": 2,
    "echo": True,
    "stream": False,
    "stream_options": {"include_usage": True},
    "frequency_penalty": 0.1,
    "presence_penalty": -0.1,
    "logit_bias": {"5": -100, "7": 1.5},
    "user": "u",
    "arrival_time": 0.0,
    "return_raw_tokens": False,
}
_CHAT: dict[str, Any] = {
    "model": "tiny",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Once"}], "name": "n"},
    ],
    "max_completion_tokens": 3,
    "logprobs": True,
    "top_logprobs": 2,
    "response_format": {"type": "text"},
    "tools": [],
    "tool_choice": "none",
}
_JSON, _MSGPACK = "application/json", "application/vnd.msgpack"


def _content(endpoint: str, media: str, encoding: str, body: bytes) -> bytes:
    """A request as a file: one line of what its headers say, then the body."""
    return f"{endpoint} {media} {encoding}\n".encode() + body


@cache
def _seeds() -> tuple[bytes, ...]:
    bodies = {"completions": _COMPLETION, "chat": _CHAT}
    token_ids = _COMPLETION | {"prompt": [[1, 2], [3]], "stop": None}
    plain = [_content(name, _JSON, "identity", json.dumps(body).encode()) for name, body in bodies.items()]
    packed = [_content(name, _MSGPACK, "identity", msgpack.packb(body)) for name, body in bodies.items()]
    zipped = _content("completions", _JSON, "gzip", gzip.compress(json.dumps(token_ids).encode(), mtime=0))
    return (*plain, *plain, *packed, zipped)


def _damage(rng: Random, data: bytes) -> bytes:
    """Damage to the body, before or after it is packed, and sometimes to its headers."""
    line, _, body = data.partition(b"\n")
    endpoint, media, encoding = line.decode().split()
    if rng.random() < 0.03:
        media = rng.choice((_JSON, _MSGPACK, "text/plain", f"{_JSON};charset=utf-16", "x" * 5000))
    if rng.random() < 0.03:
        encoding = rng.choice(("gzip", "x-gzip", "br", "x" * 5000))
    for _ in range(rng.choice((1, 1, 2, 3))):
        body = _damage_object(rng, body, media, encoding) if rng.random() < 0.85 else damage_bytes(rng, body)
    if rng.random() < 0.005:
        encoding, body = "gzip", gzip.compress(bytes(1 << 25), mtime=0)
    return _content(endpoint, media, encoding, body)


def _damage_object(rng: Random, body: bytes, media: str, encoding: str) -> bytes:
    """The JSON document inside; of msgpack what JSON can say."""
    try:
        inner = gzip.decompress(body) if encoding == "gzip" else body
        if media != _MSGPACK:
            changed = damage_json(rng, inner)
        else:
            changed = msgpack.packb(json.loads(damage_json(rng, json.dumps(msgpack.unpackb(inner)).encode())))
    except Exception:  # damaged before
        return damage_bytes(rng, body)
    return gzip.compress(changed, mtime=0) if encoding == "gzip" else changed


def _read(path: Path) -> None:
    from wsesim.serve.bodies import decompressed, parsed, validated
    from wsesim.serve.errors import ApiError
    from wsesim.serve.schema import ChatRequest, CompletionRequest

    line, _, body = path.read_bytes().partition(b"\n")
    endpoint, media, encoding = line.decode().split()
    try:
        read = parsed(decompressed(body, "" if encoding == "identity" else encoding, _MOST_BYTES), media)
        found: Any = validated(ChatRequest if endpoint == "chat" else CompletionRequest, read)
        assert found.model_dump()
    except ApiError as error:
        assert 400 <= error.status < 500 and json.dumps(error.body())
        raise WsesimError(str(error)) from None


AREAS = (Area("http-body", "request.bin", _seeds, _damage, _read),)
