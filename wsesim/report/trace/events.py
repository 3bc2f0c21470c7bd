"""The events of a trace. They know no file format: `perfetto.py` and `chrome.py` beside this write them.

    trace = Trace(writer)
    wafer = trace.track("wafer")
    trace.add(Slice(wafer, "token 1", 0, 5_000))
    trace.add(Slice(wafer, "layer0", 0, 3_000))  # inside of token 1

Slices of a track nest. They come in order: an outer slice before its inner ones, then the next beside it. Different
tracks may come in any order. All times are cycles of the virtual clock.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

SLICES, ASYNC, COUNTER = "slices", "async", "counter"

Arguments = Mapping[str, int | float | str]


@dataclass(frozen=True, slots=True)
class Track:
    """A row. `kind` is SLICES, ASYNC (one of many rows of the same name, such as requests) or COUNTER.

    `number` counts the tracks of a trace from 1, in the order in which they are shown. `unit`: of a counter.
    """

    number: int
    name: str
    kind: str = SLICES
    parent: Track | None = None
    unit: str = ""

    @property
    def path(self) -> tuple[str, ...]:
        """The names from the outermost track to this one."""
        return (*(self.parent.path if self.parent else ()), self.name)


@dataclass(frozen=True, slots=True)
class Slice:
    """Something that lasts from `begin_cycles` to `end_cycles`.

    `sends` and `receives` are numbers of flows: an arrow goes from the slice that sends a number to the one that
    receives it.
    """

    track: Track
    name: str
    begin_cycles: int
    end_cycles: int
    arguments: Arguments = field(default_factory=dict)
    sends: tuple[int, ...] = ()
    receives: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Instant:
    """Something that is said at a cycle."""

    track: Track
    name: str
    at_cycles: int
    arguments: Arguments


@dataclass(frozen=True, slots=True)
class Count:
    """The value of a counter from `at_cycles` on."""

    track: Track
    at_cycles: int
    value: int | float


Event = Track | Slice | Instant | Count


class Writer(Protocol):
    """Writes events to a file. `about` adds to what the whole trace is about."""

    def about(self, arguments: Arguments) -> None: ...

    def write(self, event: Event) -> None: ...

    def close(self) -> None:
        """Ends the last slices. The file stays open."""
        ...


class Trace:
    """A sequence of events on its way to a writer. It numbers tracks and flows. Several threads may add to it."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._tracks = 0
        self._flows = 0
        self._lock = threading.Lock()

    def track(self, name: str, parent: Track | None = None, *, kind: str = SLICES, unit: str = "") -> Track:
        """A new track. A parent comes before its children."""
        with self._lock:
            self._tracks += 1
            made = Track(self._tracks, name, kind, parent, unit)
            self._writer.write(made)
        return made

    def flow(self) -> int:
        """The number of a new flow, for the slice that sends it and the one that receives it."""
        with self._lock:
            self._flows += 1
            return self._flows

    def add(self, event: Slice | Instant | Count) -> None:
        with self._lock:
            self._writer.write(event)

    def about(self, arguments: Arguments) -> None:
        """What the trace is about, in addition to what was said before."""
        with self._lock:
            self._writer.about(arguments)
