"""Span: a slice without a track, with the slices inside of it. Steps are kept as spans, and drawn at many places."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from wsesim.report.trace.events import Arguments, Slice, Trace, Track


@dataclass(frozen=True, slots=True)
class Span:
    """From `begin_cycles` to `end_cycles` of a step; `inner` spans lie inside, one after the other.

    `sends` and `receives` count the flows of the step from 0.
    """

    name: str
    begin_cycles: int
    end_cycles: int
    arguments: Arguments = field(default_factory=dict)
    inner: tuple[Span, ...] = ()
    sends: tuple[int, ...] = ()
    receives: tuple[int, ...] = ()

    @property
    def cycles(self) -> int:
        return self.end_cycles - self.begin_cycles


def draw(trace: Trace, track: Track, spans: Iterable[Span], at_cycles: int, flows: Sequence[int] = ()) -> None:
    """Adds the spans of a step that began at `at_cycles`. `flows` are the trace's numbers of the step's flows."""
    for span in spans:
        begin, end = at_cycles + span.begin_cycles, at_cycles + span.end_cycles
        sends, receives = (tuple(flows[flow] for flow in own) for own in (span.sends, span.receives))
        trace.add(Slice(track, span.name, begin, end, span.arguments, sends, receives))
        draw(trace, track, span.inner, at_cycles, flows)


def in_rows(spans: Iterable[Span]) -> list[list[Span]]:
    """The spans in as few rows as hold them without overlap, each row in the order of time."""
    rows: list[list[Span]] = []
    for span in sorted(spans, key=lambda s: (s.begin_cycles, s.end_cycles)):
        free = next((row for row in rows if row[-1].end_cycles <= span.begin_cycles), None)
        if free is None:
            rows.append([span])
        else:
            free.append(span)
    return rows
