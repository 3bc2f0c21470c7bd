"""The outcome of a case: accepted, a clean error, or a failure of some kind."""

from __future__ import annotations

import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.area import Read
from wsesim.errors import MOST_MESSAGE, WsesimError

ACCEPTED, CLEAN, MESSAGE, TRACEBACK, HANG, CRASH = KINDS = (
    "accepted",
    "clean",
    "message",
    "traceback",
    "hang",
    "crash",
)
"""`clean`: a WsesimError of one line. `message`: its text has no line, several lines, or one that is too long."""

FAILURES = (MESSAGE, TRACEBACK, HANG, CRASH)
ROOT = Path(__file__).resolve().parents[2]
_OURS = tuple(str(ROOT / folder) for folder in ("wsesim", "compiler", "models"))


@dataclass(frozen=True, slots=True)
class Verdict:
    """`what` is the error, `place` the line that raised it: the innermost of ours, else the innermost of all."""

    kind: str
    what: str = ""
    place: str = ""


def judged(read: Read, path: Path) -> Verdict:
    """The outcome of `read` for the file. A warning counts as a traceback, as in the tests."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            read(path)
    except WsesimError as error:
        message = str(error)
        sound = len(message.splitlines()) == 1 and len(message) <= MOST_MESSAGE
        return Verdict(CLEAN, type(error).__name__) if sound else Verdict(MESSAGE, f"{message!r:.200}", _place(error))
    except MemoryError as error:
        return Verdict(CRASH, f"MemoryError: {error!s:.200}", _place(error))
    except BaseException as error:  # a panic of a native library is no Exception
        return Verdict(TRACEBACK, f"{type(error).__name__}: {_shown(error)}", _place(error))
    return Verdict(ACCEPTED)


def _shown(error: BaseException) -> str:
    try:
        return f"{str(error)!r:.200}"
    except Exception:
        return "an error whose text cannot be made"


def _place(error: BaseException) -> str:
    return place([(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)])


def place(frames: list[tuple[str, int]]) -> str:
    """file:line of the innermost frame of this project, else of the innermost of all; frames come outermost first."""
    ours = [frame for frame in frames if frame[0].startswith(_OURS)]
    if not frames:
        return ""
    name, line = (ours or frames)[-1]
    return f"{name.removeprefix(f'{ROOT}/')}:{line}"
