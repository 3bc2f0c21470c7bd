"""Events as Chrome's trace JSON, which ui.perfetto.dev and chrome://tracing read.

The format has two levels, processes and threads. A track of the first two levels is a process with one thread; deeper
tracks are threads of their parent's. Times are microseconds with three decimals: a thousandth stands for one cycle.
"""

from __future__ import annotations

import json
from typing import IO, Any

from wsesim.report.trace.events import ASYNC, COUNTER, SLICES, Arguments, Count, Event, Instant, Slice, Track
from wsesim.report.trace.nest import Nest

FLUSH_EVENTS = 4096


class ChromeWriter:
    """Writes events to the binary `file`."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._about: dict[str, int | float | str] = {}
        self._events = 0
        self._nest = Nest()
        file.write(b'{"displayTimeUnit": "ns", "traceEvents": [')

    def about(self, arguments: Arguments) -> None:
        self._about |= arguments

    def write(self, event: Event) -> None:
        match event:
            case Slice():
                for ended in self._nest.begin(event):
                    self._end(ended)
                self._slice(event)
            case Count():
                args = {event.track.unit: event.value}
                self._put(event.track, "C", event.at_cycles, name=event.track.name, args=args)
            case Instant():
                self._put(event.track, "i", event.at_cycles, name=event.name, s="t", args=dict(event.arguments))
            case Track():
                self._track(event)

    def close(self) -> None:
        for ended in self._nest.close():
            self._end(ended)
        self._file.write(b'\n], "otherData": ' + json.dumps(self._about).encode() + b"}\n")

    def _slice(self, event: Slice) -> None:
        track, begin, args = event.track, event.begin_cycles, dict(event.arguments)
        if track.kind == ASYNC:
            self._put(track, "b", begin, name=event.name, cat=track.name, id=track.number, args=args)
            return
        duration = _microseconds(event.end_cycles - begin)
        self._put(track, "X", begin, name=event.name, dur=duration, args=args)
        for number in event.sends:
            self._put(track, "s", begin, name="flow", cat="flow", id=number)
        for number in event.receives:
            self._put(track, "f", begin, name="flow", cat="flow", id=number, bp="e")

    def _end(self, event: Slice) -> None:
        track = event.track
        if track.kind == ASYNC:
            self._put(track, "e", event.end_cycles, name=event.name, cat=track.name, id=track.number)

    def _track(self, track: Track) -> None:
        if track.kind == COUNTER:
            return
        process = _process(track)
        if process is track:
            self._name("process", process, 0, track)
        if track.kind == SLICES:
            self._name("thread", process, track.number, track)

    def _name(self, what: str, process: Track, thread: int, track: Track) -> None:
        for key, value in (("name", track.name), ("sort_index", track.number)):
            place = {"pid": process.number, "tid": thread}
            self._line({"ph": "M", "name": f"{what}_{key}", **place, "args": {key: value}})

    def _put(self, track: Track, phase: str, at_cycles: int, **more: Any) -> None:
        place = {"pid": _process(track).number, "tid": track.number, "ts": _microseconds(at_cycles)}
        self._line({"ph": phase, **place, **more})

    def _line(self, entry: dict[str, Any]) -> None:
        self._file.write((",\n" if self._events else "\n").encode() + json.dumps(entry, separators=(",", ":")).encode())
        self._events += 1
        if self._events % FLUSH_EVENTS == 0:
            self._file.flush()


def _process(track: Track) -> Track:
    """The track that stands for the process of a track."""
    first = track.parent is None or (track.parent.parent is None and track.kind == SLICES)
    return track if first or track.parent is None else track.parent


def _microseconds(cycles: int) -> float:
    return cycles / 1000
