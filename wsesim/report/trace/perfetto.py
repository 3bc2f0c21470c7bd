"""Events as a Perfetto protobuf, by the streaming builder of the package `perfetto`.

A slice is a packet at its beginning and one at its end. A name is written once and then meant by its number. The file
is flushed every few thousand slices, so that memory stays bounded.
"""

from __future__ import annotations

from typing import IO, Any

from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import TrackDescriptor, TrackEvent
from perfetto.trace_builder.proto_builder import StreamingTraceProtoBuilder

from wsesim.report.trace.events import COUNTER, Arguments, Count, Event, Instant, Slice, Track
from wsesim.report.trace.nest import Nest

FLUSH_SLICES = 4096
MOST_NAMES = 1 << 14
"""Names that are known by number at once. Beyond it the numbers begin anew."""
SEQUENCE = 1
CLEARED, NEEDS = 1, 2  # SEQ_INCREMENTAL_STATE_CLEARED, SEQ_NEEDS_INCREMENTAL_STATE

TYPE_BEGIN, TYPE_END = TrackEvent.TYPE_SLICE_BEGIN, TrackEvent.TYPE_SLICE_END
TYPE_INSTANT, TYPE_COUNTER = TrackEvent.TYPE_INSTANT, TrackEvent.TYPE_COUNTER


class PerfettoWriter:
    """Writes events to the binary `file`."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._builder = StreamingTraceProtoBuilder(file)
        self._nest = Nest()
        self._names: dict[str, dict[str, int]] = {}  # by field of InternedData
        self._clear = True
        self._slices = 0

    def about(self, arguments: Arguments) -> None:
        packet = self._builder.create_packet()
        for key, value in arguments.items():
            if isinstance(value, int):
                packet.trace_attributes.attribute.add(key=key, long_value=value)
            else:
                packet.trace_attributes.attribute.add(key=key, string_value=str(value))
        self._write(packet)

    def write(self, event: Event) -> None:
        match event:
            case Slice():
                self._slice(event)
            case Count():
                self._count(event)
            case Track():
                self._track(event)
            case Instant():
                packet = self._packet(event.at_cycles, event.track.number, TYPE_INSTANT)
                self._describe(packet, event.name, event.arguments)
                self._write(packet)

    def close(self) -> None:
        for ended in self._nest.close():
            self._end(ended)

    def _slice(self, event: Slice) -> None:
        for ended in self._nest.begin(event):
            self._end(ended)
        packet = self._packet(event.begin_cycles, event.track.number, TYPE_BEGIN)
        self._describe(packet, event.name, event.arguments)
        if event.sends:
            packet.track_event.flow_ids.extend(event.sends)
        if event.receives:
            packet.track_event.terminating_flow_ids.extend(event.receives)
        self._write(packet)
        self._slices += 1
        if self._slices % FLUSH_SLICES == 0:
            self._file.flush()

    def _end(self, event: Slice) -> None:
        self._write(self._packet(event.end_cycles, event.track.number, TYPE_END))

    def _count(self, event: Count) -> None:
        packet = self._packet(event.at_cycles, event.track.number, TYPE_COUNTER)
        if isinstance(event.value, int):
            packet.track_event.counter_value = event.value
        else:
            packet.track_event.double_counter_value = event.value
        self._write(packet)

    def _track(self, track: Track) -> None:
        packet = self._builder.create_packet()
        described = packet.track_descriptor
        described.uuid, described.name = track.number, track.name
        described.sibling_order_rank = track.number
        described.child_ordering = TrackDescriptor.EXPLICIT
        if track.parent is not None:
            described.parent_uuid = track.parent.number
        if track.kind == COUNTER:
            described.counter.unit_name = track.unit
        self._write(packet)

    def _packet(self, at_cycles: int, track: int, kind: int) -> Any:
        packet = self._builder.create_packet()
        packet.timestamp = at_cycles
        event = packet.track_event
        event.type, event.track_uuid = kind, track
        return packet

    def _describe(self, packet: Any, name: str, arguments: Arguments) -> None:
        if sum(map(len, self._names.values())) > MOST_NAMES:
            self._names, self._clear = {}, True
        event = packet.track_event
        event.name_iid = self._number(packet, "event_names", name)
        for key, value in arguments.items():
            annotation = event.debug_annotations.add()
            annotation.name_iid = self._number(packet, "debug_annotation_names", key)
            if isinstance(value, int):
                annotation.int_value = value
            elif isinstance(value, float):
                annotation.double_value = value
            else:
                annotation.string_value = value

    def _number(self, packet: Any, table: str, name: str) -> int:
        """The number of a name. A new one is told in the packet itself."""
        known = self._names.setdefault(table, {})
        number = known.get(name)
        if number is None:
            known[name] = number = len(known) + 1
            getattr(packet.interned_data, table).add(iid=number, name=name)
        return number

    def _write(self, packet: Any) -> None:
        packet.trusted_packet_sequence_id = SEQUENCE
        packet.sequence_flags = CLEARED | NEEDS if self._clear else NEEDS
        self._clear = False
        self._builder.write_packet(packet)
