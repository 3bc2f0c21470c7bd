"""Files of a user: one way to open them, to parse JSON and TOML, and to write them.

    data = read_bytes("config.json", "a model's configuration")
    table = validated("config.json", Schema, parse_json(data, "config.json"))

Every function raises InvalidInputError with one line that names the file. Only regular files are read: a pipe or a
device could block for ever or never end.
"""

from __future__ import annotations

import json
import os
import stat
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, NoReturn, TypeVar, cast

from wsesim.errors import InvalidInputError, brief, first_line

MOST_TEXT_BYTES = 64 << 20
"""Limit for files that are read whole: texts, tables, configurations."""

T = TypeVar("T")

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def open_file(path: str | Path, what: str) -> BufferedReader:
    """A regular file, open for reading. `what` says what it should be, as in "a placement".

    Raises InvalidInputError for a file that is absent, cannot be read, or is a folder, pipe or device. Never blocks.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe without a writer does not block
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise InvalidInputError(f"{path}: cannot be read as {what}: {_reason(error)}") from None
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "no regular file")
    raise InvalidInputError(f"{path}: cannot be read as {what}: it is {kind}; give a file")


def read_bytes(path: str | Path, what: str, most_bytes: int = MOST_TEXT_BYTES) -> bytes:
    """The contents of a regular file. Raises InvalidInputError as `open_file`, and beyond `most_bytes`."""
    with open_file(path, what) as file:
        size_bytes = os.fstat(file.fileno()).st_size or MOST_TEXT_BYTES  # files of the system say 0
        try:
            data = file.read(min(size_bytes, most_bytes) + 1)  # Python sets aside as much before it reads
        except OSError as error:
            raise InvalidInputError(f"{path}: cannot be read as {what}: {_reason(error)}") from None
    if len(data) > most_bytes:
        raise InvalidInputError(f"{path}: cannot be read as {what}: it is larger than {most_bytes:,} bytes")
    return data


def read_text(path: str | Path, what: str, most_bytes: int = MOST_TEXT_BYTES) -> str:
    """The contents of a regular file in UTF-8. Raises InvalidInputError as `read_bytes`, and for other bytes."""
    try:
        return read_bytes(path, what, most_bytes).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path}: cannot be read as {what}: byte {error.start} is not UTF-8") from None


def parse_json(text: str | bytes, name: str) -> Any:
    """The value of a JSON text; `name` stands before what is wrong with it.

    Raises InvalidInputError for what is not JSON by RFC 8259 (NaN, Infinity, bytes that are not UTF-8), for numbers
    of thousands of digits and for nesting that is too deep.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise InvalidInputError(f"{name}: is nested too deeply to be read") from None
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError, a number with too many digits
        raise InvalidInputError(f"{name}: is not JSON: {first_line(error)}") from None


def parse_toml(text: str, name: str) -> dict[str, Any]:
    """The table of a TOML text; `name` stands before what is wrong with it. Raises InvalidInputError."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise InvalidInputError(f"{name}: is nested too deeply to be read") from None
    except ValueError as error:  # TOMLDecodeError, a number with too many digits
        raise InvalidInputError(f"{name}: is not TOML: {first_line(error)}") from None


def validated(name: str, schema: type[T], value: object) -> T:
    """`value` as the pydantic model or type `schema`. Raises InvalidInputError that names the first wrong entry."""
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(schema).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(shown(part) for part in first["loc"])
        found = "" if first["type"] == "missing" else f", not {brief(first['input'])}"
        words = first["msg"].split(" or instance of ")[0]  # what pydantic adds to it is the name of a class
        raise InvalidInputError(f"{name}: {place and place + ': '}{words}{found}") from None


def shown(name: object) -> str:
    """A name out of a file as a message shows it: on one line, cut to 60 characters."""
    text = str(name)[:60]
    return text if text.isprintable() else repr(text)[1:-1]


def check_page(path: Path, what: str) -> None:
    """Raises InvalidInputError if a page, such as "the report", cannot be written to `path`."""
    if path.is_dir() or not path.parent.is_dir() or str(path) in ("", "."):
        raise InvalidInputError(f"{path}: {what} is a file in a folder that exists")
    check_writable(path)


def check_writable(path: Path) -> None:
    """Raises InvalidInputError if a file at `path` could not be replaced, as `write_whole` does it."""
    there = path if path.exists() else path.parent
    if not os.access(there, os.W_OK) or not os.access(path.parent, os.W_OK):
        raise InvalidInputError(f"{path}: cannot be written: permission denied")


def write_whole(path: Path, data: str | bytes) -> None:
    """Writes beside `path` first, then moves it there: nobody ever reads half a file. Text is written as UTF-8.

    As `writing_whole`.
    """
    with writing_whole(path) as file:
        file.write(data.encode("utf-8") if isinstance(data, str) else data)


@contextmanager
def writing_whole(path: Path) -> Iterator[IO[bytes]]:
    """A file to write beside `path`. It is moved there at the end of the block, and removed if the block raises.

    Through a link to what it points at; what is no regular file (a pipe, a device) is written to, never replaced.
    Raises OSError that names `path`.
    """
    target = path.resolve() if path.is_symlink() else path
    partial = target.with_name(f"{target.name}.{os.getpid()}.{threading.get_ident()}.partial")
    special = target.exists() and not target.is_file()
    with _naming(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        file = target.open("wb") if special else partial.open("wb")
    try:
        try:
            yield cast(IO[bytes], _Named(file, path))
        finally:
            with _naming(path):
                file.close()
        if not special:
            with _naming(path):
                partial.replace(target)
    finally:
        if not special:
            partial.unlink(missing_ok=True)


class _Named:
    """A file whose errors name the `path` that it is for."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file = file
        self._path = path

    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from None

    def flush(self) -> None:
        with _naming(self._path):
            self._file.flush()


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")


def _reason(error: OSError | ValueError) -> str:
    return getattr(error, "strerror", None) or first_line(error)
