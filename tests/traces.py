"""Reads traces back for tests: a Perfetto protobuf or Chrome's JSON becomes the same plain lists."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice, takewhile
from pathlib import Path
from typing import Any


@dataclass
class ReadSlice:
    """A slice that was read. `place` is the number of its row, `names` are the row's, the outermost first.

    `depth`: how many slices of its row are around it.
    """

    place: int
    names: tuple[str, ...]
    name: str
    begin: int
    end: int = -1
    arguments: dict[str, Any] = field(default_factory=dict)
    sends: list[int] = field(default_factory=list)
    receives: list[int] = field(default_factory=list)
    depth: int = 0

    @property
    def cycles(self) -> int:
        return self.end - self.begin


@dataclass
class ReadTrace:
    """The contents of a trace. Counters: for each name, the values by cycle."""

    slices: list[ReadSlice]
    counters: dict[tuple[int, str], list[tuple[int, float]]]
    about: dict[str, Any]
    instants: list[tuple[str, int, dict[str, Any]]]

    def named(self, *names: str) -> list[ReadSlice]:
        """The slices of the rows of this name, in the order of time."""
        return sorted((s for s in self.slices if s.names[-len(names) :] == names), key=lambda s: (s.begin, s.depth))

    def inside(self, outer: ReadSlice, deeper: int = 1) -> list[ReadSlice]:
        """The slices of the same row that lie in `outer`, `deeper` levels below it."""
        level = self._levels.get((outer.place, outer.depth + deeper), [])
        first = bisect_left(level, outer.begin, key=lambda s: s.begin)
        return list(takewhile(lambda s: s.end <= outer.end, islice(level, first, None)))

    @cached_property
    def _levels(self) -> dict[tuple[int, int], list[ReadSlice]]:
        """The slices of each row and depth, in the order of time."""
        found: defaultdict[tuple[int, int], list[ReadSlice]] = defaultdict(list)
        for one in sorted(self.slices, key=lambda s: s.begin):
            found[one.place, one.depth].append(one)
        return found


def read_perfetto(path: Path) -> ReadTrace:
    """Ends close the innermost slice of their track. Asserts that slices nest and that all of them end."""
    from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TrackEvent

    trace = Trace()
    trace.ParseFromString(path.read_bytes())
    tracks: dict[int, Any] = {}
    names: dict[str, dict[int, str]] = {}
    found = ReadTrace([], defaultdict(list), {}, [])
    inside: defaultdict[int, list[ReadSlice]] = defaultdict(list)
    for packet in trace.packet:
        assert packet.trusted_packet_sequence_id == 1
        if packet.sequence_flags & 1:
            names = {"event_names": {}, "debug_annotation_names": {}}
        for table, known in names.items():
            known |= {entry.iid: entry.name for entry in getattr(packet.interned_data, table)}
        for attribute in packet.trace_attributes.attribute:
            value = attribute.WhichOneof("value")
            found.about[attribute.key] = getattr(attribute, value)
        if packet.HasField("track_descriptor"):
            described = packet.track_descriptor
            assert described.uuid not in tracks and (not described.parent_uuid or described.parent_uuid in tracks)
            tracks[described.uuid] = described
        if not packet.HasField("track_event"):
            continue
        event = packet.track_event
        at, track = packet.timestamp, event.track_uuid
        if event.type == TrackEvent.TYPE_COUNTER:
            value = event.counter_value if event.HasField("counter_value") else event.double_counter_value
            found.counters[track, tracks[track].name].append((at, value))
            continue
        if event.type == TrackEvent.TYPE_SLICE_END:
            ended = inside[track].pop()
            assert ended.begin <= at
            ended.end = at
            continue
        name = names["event_names"][event.name_iid]
        arguments = {
            names["debug_annotation_names"][a.name_iid]: getattr(a, a.WhichOneof("value"))
            for a in event.debug_annotations
        }
        if event.type == TrackEvent.TYPE_INSTANT:
            found.instants.append((name, at, arguments))
            continue
        assert event.type == TrackEvent.TYPE_SLICE_BEGIN
        begun = ReadSlice(track, tuple(_path(tracks, track)), name, at, -1, arguments)
        begun.sends, begun.receives = list(event.flow_ids), list(event.terminating_flow_ids)
        begun.depth = len(inside[track])
        inside[track].append(begun)
        found.slices.append(begun)
    assert not any(inside.values()), "slices that do not end"
    return found


def _path(tracks: dict[int, Any], track: int) -> Iterator[str]:
    described = tracks[track]
    if described.parent_uuid:
        yield from _path(tracks, described.parent_uuid)
    yield described.name


def read_json(path: Path) -> ReadTrace:
    """Names are those of the process and the thread. Depths follow from the times."""
    whole = json.loads(path.read_text(encoding="utf-8"))
    assert whole["displayTimeUnit"] == "ns"
    processes: dict[int, str] = {}
    threads: dict[tuple[int, int], str] = {}
    found = ReadTrace([], defaultdict(list), whole["otherData"], [])
    inside: defaultdict[int, list[ReadSlice]] = defaultdict(list)
    last: dict[int, ReadSlice] = {}
    for event in whole["traceEvents"]:
        pid, tid, phase = event["pid"], event["tid"], event["ph"]
        if phase == "M":
            if event["name"] == "process_name":
                processes[pid] = event["args"]["name"]
            elif event["name"] == "thread_name":
                threads[pid, tid] = event["args"]["name"]
            continue
        at = round(event["ts"] * 1000)
        match phase:
            case "C":
                ((_, value),) = event["args"].items()
                found.counters[tid, event["name"]].append((at, value))
            case "i":
                found.instants.append((event["name"], at, event["args"]))
            case "X":
                begun = ReadSlice(tid, _names(processes, threads, pid, tid), event["name"], at)
                begun.end, begun.arguments = at + round(event["dur"] * 1000), event["args"]
                while inside[tid] and inside[tid][-1].end <= at:
                    inside[tid].pop()
                _begin(found, inside[tid], begun)
                last[tid] = begun
            case "b":
                begun = ReadSlice(event["id"], (processes[pid], event["cat"]), event["name"], at)
                begun.arguments = event["args"]
                _begin(found, inside[event["id"]], begun)
            case "e":
                ended = inside[event["id"]].pop()
                assert (ended.name, ended.end) == (event["name"], -1)
                ended.end = at
            case "s":
                assert last[tid].begin == at
                last[tid].sends.append(event["id"])
            case "f":
                assert (last[tid].begin, event["bp"]) == (at, "e")
                last[tid].receives.append(event["id"])
            case _:
                raise AssertionError(f"an event of phase {phase}")
    return found


def _begin(found: ReadTrace, inside: list[ReadSlice], begun: ReadSlice) -> None:
    begun.depth = len(inside)
    inside.append(begun)
    found.slices.append(begun)


def _names(processes: dict[int, str], threads: dict[tuple[int, int], str], pid: int, tid: int) -> tuple[str, ...]:
    process, thread = processes[pid], threads[pid, tid]
    return (process,) if pid == tid else (process, thread)


def check_nesting(trace: ReadTrace) -> None:
    """Asserts that the slices of every row nest: two of them are apart, or one is inside of the other."""
    rows: defaultdict[int, list[ReadSlice]] = defaultdict(list)
    for one in trace.slices:
        rows[one.place].append(one)
    for row in rows.values():
        inside: list[ReadSlice] = []
        for one in sorted(row, key=lambda s: (s.begin, -s.end, s.depth)):
            while inside and inside[-1].end <= one.begin:
                inside.pop()
            assert not inside or one.end <= inside[-1].end, (one, inside[-1])
            inside.append(one)


def check_flows(trace: ReadTrace) -> int:
    """Asserts that every flow goes from one slice to one that begins no earlier; how many there are."""
    senders = {number: s for s in trace.slices for number in s.sends}
    receivers = {number: s for s in trace.slices for number in s.receives}
    assert sum(len(s.sends) for s in trace.slices) == len(senders) == len(receivers)
    assert sum(len(s.receives) for s in trace.slices) == len(receivers) and set(senders) == set(receivers)
    for number, sender in senders.items():
        receiver = receivers[number]
        assert sender.begin <= receiver.begin and sender.end <= receiver.end
        assert (sender.names[-1], receiver.names[-1]) == ("send", "receive")
        assert sender.name == f"to {receiver.names[-2]}" and receiver.name == f"from {sender.names[-2]}"
    return len(senders)
