"""Bodies: from the bytes of a request to a validated request. All errors are ApiErrors."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from wsesim.serve.errors import TOO_LARGE, WRONG_FORMAT, WRONG_MEDIA, ApiError

JSON_TYPES = ("", "application/json")
MSGPACK_TYPES = ("application/vnd.msgpack", "application/msgpack", "application/x-msgpack")
_GZIP = zlib.MAX_WBITS | 16
_MOST_FIELDS = 1000
_MOST_MEMBERS = 100
_DEEPEST = 32

Body = TypeVar("Body", bound=BaseModel)


def decompressed(raw: bytes, encoding: str, most_bytes: int) -> bytes:
    """The decompressed body. Decompression stops with an ApiError beyond `most_bytes`."""
    if encoding in ("", "identity"):
        return raw
    if encoding not in ("gzip", "x-gzip"):
        raise ApiError(WRONG_MEDIA, f"Content-Encoding {encoding[:40]!r} is not read; send gzip or none")
    unpacked, rest = b"", raw
    for _ in range(_MOST_MEMBERS):
        if not rest:
            return unpacked
        part = zlib.decompressobj(_GZIP)
        try:
            unpacked += part.decompress(rest, most_bytes + 1 - len(unpacked))
        except zlib.error as error:
            raise ApiError(WRONG_FORMAT, f"the body is not gzip: {error}") from None
        if len(unpacked) > most_bytes or part.unconsumed_tail:
            raise too_large(most_bytes)
        if not part.eof:
            raise ApiError(WRONG_FORMAT, "the body ends in the middle of its gzip data")
        rest = part.unused_data
    raise ApiError(WRONG_FORMAT, f"the body has more than {_MOST_MEMBERS} gzip members")


def parsed(raw: bytes, content_type: str) -> dict[str, Any]:
    """The object that a body holds, in JSON or msgpack."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind in MSGPACK_TYPES:
        value = _msgpack(raw)
    elif kind in JSON_TYPES:
        value = _json(raw)
    else:
        raise ApiError(
            WRONG_MEDIA, f"Content-Type {kind[:60]!r} is not read; send application/json or application/vnd.msgpack"
        )
    if not isinstance(value, dict):
        raise ApiError(WRONG_FORMAT, f"body: an object is needed, this is {_named(value)}")
    if not _shallow(value, _DEEPEST):
        raise ApiError(WRONG_FORMAT, f"body: nested deeper than {_DEEPEST} levels")
    return value


def validated(model: type[Body], value: Mapping[str, Any]) -> Body:
    """`value` as a request. The error names the first wrong field, and what would be right."""
    if len(value) > _MOST_FIELDS:
        raise ApiError(WRONG_FORMAT, f"body: {len(value)} properties are too many")
    for name in value:
        if name not in model.model_fields:
            shown = f"body.{printable(str(name)[:80])}"
            raise ApiError(WRONG_FORMAT, f"{shown}: property '{shown}' is unsupported")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise ApiError(WRONG_FORMAT, _message(error)) from None


def printable(text: str) -> str:
    """`text` with lone surrogates written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def too_large(most_bytes: int) -> ApiError:
    return ApiError(TOO_LARGE, f"the body is larger than {most_bytes:,} bytes")


def _json(raw: bytes) -> Any:
    try:
        return json.loads(raw.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
        raise ApiError(WRONG_FORMAT, f"the body is not JSON: {reason}") from None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _msgpack(raw: bytes) -> Any:
    import msgpack

    try:
        return msgpack.unpackb(raw, raw=False, strict_map_key=True)
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
        raise ApiError(WRONG_FORMAT, f"the body is not msgpack: {str(error)[:200]}") from None


def _shallow(value: Any, levels: int) -> bool:
    """Whether objects and lists are nested at most so many levels deep."""
    row = [value]
    for _ in range(levels):
        row = [
            inner
            for outer in row
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not row:
            return True
    return False


def _message(error: ValidationError) -> str:
    first = min(error.errors(include_url=False, include_context=False), key=lambda e: len(e["loc"]))
    where = ".".join(printable(str(part)[:40]) for part in ("body", *first["loc"]))
    if first["type"] == "extra_forbidden":
        return f"{where}: property '{where}' is unsupported"
    said = first["msg"].removeprefix("Value error, ")
    return printable(f"{where}: {said[:1].lower()}{said[1:300]}")


def _named(value: object) -> str:
    names = {list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
