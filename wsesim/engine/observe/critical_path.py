"""The critical path to the end of a task: a chain of steps, each of which the next one waited for.

It goes back to a port, or to the first free cycle of a PE in this segment. The caller can go on in the segment before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from wsesim.engine.flow.state import NEVER
from wsesim.engine.flow.timeline import Times
from wsesim.engine.graph.taskgraph import ACTIVATED, BLOCKING, LAUNCHED, REROUTE, Int32, TaskGraph
from wsesim.machine import Fabric

StepKind = Literal["compute", "launch", "network", "wait", "reroute"]


@dataclass(frozen=True, slots=True)
class GraphStep:
    """`cycles` from `start_cycle` on for the kernel `label`, on the PE `pe` or on the way from it to `to_pe`.

    compute, launch    the work and the launch of a task
    reroute            launch and work of a task that changes routes
    network            ramps, hops and turns; and the length of the message, if its last wavelet was waited for
    wait               a message waits for a ramp or a link that others have, or for its streaming sender
    """

    kind: StepKind
    label: str
    pe: int
    to_pe: int
    start_cycle: int
    cycles: int


@dataclass(frozen=True, slots=True)
class Origin:
    """The beginning of a path: port `number`, or the first free cycle of PE `number`."""

    kind: Literal["port", "pe"]
    number: int
    cycle: int


@dataclass(frozen=True, slots=True)
class CriticalPath:
    """Steps in the order of time without gaps: their cycles add up to `end_cycle - origin.cycle`."""

    origin: Origin
    steps: tuple[GraphStep, ...]
    end_cycle: int


def critical_path(graph: TaskGraph, timeline: Times, fabric: Fabric, end_task: int) -> CriticalPath:
    """The path to the end of task `end_task`. `timeline` is of `graph` on `fabric`.

    If a task waited equally long for a message and for its PE, the path follows the message.
    """
    walk = _Walk(graph, timeline, fabric)
    point: _Point | Origin = _Point(end_task, "end")
    while isinstance(point, _Point):
        point = walk.back_from(point)
    return CriticalPath(point, tuple(reversed(walk.steps)), int(timeline.task_end[end_task]))


@dataclass(frozen=True, slots=True)
class _Point:
    task: int
    at: Literal["start", "begin", "end"]


@dataclass(frozen=True, slots=True)
class _Input:
    """A drop or a port that feeds a task, with its arrival."""

    kind: Literal["drop", "port"]
    number: int
    edge: Literal["head", "tail"]
    cycle: int


class _Walk:
    """Collects the steps from the last to the first."""

    def __init__(self, graph: TaskGraph, timeline: Times, fabric: Fabric) -> None:
        self.graph, self.timeline, self.fabric = graph, timeline, fabric
        self.steps: list[GraphStep] = []
        self._drops = _Groups(graph.drop_task)
        self._ports = _Groups(graph.port_task)

    def back_from(self, point: _Point) -> _Point | Origin:
        match point.at:
            case "end":
                return self._from_end(point.task)
            case "begin":
                return self._from_begin(point.task)
            case "start":
                return self._from_start(point.task)

    def _from_end(self, task: int) -> _Point | Origin:
        begin, end = int(self.timeline.task_begin[task]), int(self.timeline.task_end[task])
        work, delay = int(self.graph.work[task]), int(self.graph.delay[task])
        if end > begin + work + delay:  # it was not BLOCKING, and waited for the last wavelet
            self._add_task("compute", task, end - delay, delay)
            return self._along(self._latest(task, "tail"))
        self._add_task("compute", task, begin, work + delay)
        return _Point(task, "begin")

    def _from_begin(self, task: int) -> _Point | Origin:
        start, begin = int(self.timeline.task_start[task]), int(self.timeline.task_begin[task])
        launch = int(self.graph.launch[task])
        if self.graph.start[task] == LAUNCHED:
            latest = self._latest(task, "head")
            if latest.cycle == begin:
                return self._along(latest)
        self._add_task("launch", task, start, launch)
        return _Point(task, "start")

    def _from_start(self, task: int) -> _Point | Origin:
        start = int(self.timeline.task_start[task])
        if self.graph.start[task] in (BLOCKING, ACTIVATED):
            latest = self._latest(task, "tail" if self.graph.start[task] == BLOCKING else "head")
            if latest.cycle == start:
                return self._along(latest)
        if task > 0 and self.graph.pe[task - 1] == self.graph.pe[task]:
            return _Point(task - 1, "end")
        return Origin("pe", int(self.graph.pe[task]), start)

    def _latest(self, task: int, edge: Literal["head", "tail"]) -> _Input:
        """The latest input of the task; one at NEVER if it has none."""
        time = self.timeline
        drops, ports = self._drops.of(task), self._ports.of(task)
        drop_times, port_times = (
            (time.drop_head, time.port_head) if edge == "head" else (time.drop_tail, time.port_tail)
        )
        inputs = [_Input("drop", int(d), edge, int(drop_times[d])) for d in drops]
        inputs += [_Input("port", int(p), edge, int(port_times[p])) for p in ports]
        return max(inputs, key=lambda i: i.cycle, default=_Input("port", -1, edge, NEVER))

    def _along(self, arrived: _Input) -> _Point | Origin:
        if arrived.kind == "port":
            return Origin("port", arrived.number, arrived.cycle)
        graph, fabric, drop = self.graph, self.fabric, arrived.number
        message = int(np.searchsorted(graph.drop_ptr, drop, side="right")) - 1
        source, hop = int(graph.source[message]), int(graph.drop_hop[drop])
        latency = fabric.ramp_send_cycles + hop * fabric.hop_cycles + fabric.ramp_receive_cycles
        end = int(self.timeline.task_end[source])
        if graph.streams[source] and arrived.edge == "tail" and arrived.cycle == end + latency:
            self._add_transfer(source, drop, end, arrived.cycle, latency)
            return _Point(source, "end")
        if hop > graph.hops1[message]:
            latency += fabric.turn_cycles
        if arrived.edge == "tail":
            cycles = int(graph.wavelets[message]) * fabric.wavelet_numerator
            latency += -(-cycles // fabric.wavelet_denominator)
        if not graph.streams[source]:
            self._add_transfer(source, drop, end, arrived.cycle, latency)
            return _Point(source, "end")
        begin, delay = int(self.timeline.task_begin[source]), int(graph.delay[source])
        self._add_transfer(source, drop, begin + delay, arrived.cycle, latency)
        self._add_task("compute", source, begin, delay)
        return _Point(source, "begin")

    def _add_transfer(self, source: int, drop: int, left: int, arrived: int, latency: int) -> None:
        """A message from `left` to `arrived`. It waited for all cycles beyond its `latency`."""
        pe, to_pe = int(self.graph.pe[source]), int(self.graph.pe[self.graph.drop_task[drop]])
        self._add("network", source, pe, to_pe, arrived - latency, latency)
        self._add("wait", source, pe, to_pe, left, arrived - latency - left)

    def _add_task(self, kind: StepKind, task: int, start: int, cycles: int) -> None:
        pe = int(self.graph.pe[task])
        self._add("reroute" if self.graph.operation_of(task).op == REROUTE else kind, task, pe, pe, start, cycles)

    def _add(self, kind: StepKind, task: int, pe: int, to_pe: int, start: int, cycles: int) -> None:
        assert cycles >= 0, "the Timeline is not of this graph on this Fabric"
        if cycles > 0:
            self.steps.append(GraphStep(kind, self.graph.operation_of(task).label, pe, to_pe, start, cycles))


class _Groups:
    """The inputs of each task, from the task of each input."""

    def __init__(self, task_of: Int32) -> None:
        self._order = np.argsort(task_of, kind="stable").astype(np.int32)
        self._tasks = task_of[self._order]

    def of(self, task: int) -> Int32:
        first, last = np.searchsorted(self._tasks, [task, task + 1])
        return self._order[first:last]
