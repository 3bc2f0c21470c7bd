"""Traffic of PEs and links, counted after a run, so that the run pays nothing for it.

A run is a series of pieces: a graph with its Times, and the places and cycles at which it began. A recalled piece
counts each time that it ran.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wsesim.engine.errors import ProfileError
from wsesim.engine.exact.wafer import SegmentRun
from wsesim.engine.flow.timeline import Times
from wsesim.engine.graph.taskgraph import EAST, NORTH, SOUTH, WEST, Int8, Int64, TaskGraph, route_position
from wsesim.machine import Rect


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """A graph that ran at one or several places at once.

    At place l its PE k is PE (x[l, k], y[l, k]) of the wafer, and cycle 0 of its timeline is `bases[l]`. The places
    share no PE.
    """

    segment: str
    graph: TaskGraph
    timeline: Times
    x: Int64
    y: Int64
    bases: Int64


@dataclass(frozen=True, slots=True)
class TaskSpan:
    """A task on PE `pe` (wafer coordinates), from the PE's turning to it to its end, in cycles of the run."""

    segment: str
    label: str
    pe: tuple[int, int]
    start: int
    end: int


def pieces_of(runs: Iterable[SegmentRun]) -> Iterator[Placed]:
    """The pieces of a step's runs. Raises ProfileError if these kept no timelines."""
    for run in runs:
        window = run.segment.window
        for piece in run.effect.pieces:
            if piece.timeline is None:
                raise ProfileError(
                    f"segment {run.segment.name} kept no timeline; run with EffectCache(keep_timelines=True)"
                )
            y, x = np.divmod(piece.members, window.columns)
            bases = run.base + piece.bases
            yield Placed(run.segment.name, piece.graph, piece.timeline, window.x + x, window.y + y, bases)


def wafer_busy_cycles(pieces: Iterable[Placed], columns: int, rows: int) -> Int64:
    """Cycles that tasks hold each PE of a wafer: [rows, columns]."""
    busy = np.zeros((rows, columns), np.int64)
    for piece in pieces:
        busy[piece.y, piece.x] += pe_busy_cycles(piece.graph, piece.timeline)
    return busy


def wafer_cycles_by_name(
    pieces: Iterable[Placed], columns: int, rows: int, name_of: Callable[[str, str], str]
) -> dict[str, Int64]:
    """`wafer_busy_cycles` split by the name that `name_of` gives the tasks of a segment with a label."""
    busy: dict[str, Int64] = {}
    counted: dict[int, tuple[Times, Int64]] = {}  # equal layers share a timeline; it is kept, so its id stays its own
    for piece in pieces:
        key = id(piece.timeline)
        if key not in counted:
            counted[key] = piece.timeline, label_busy_cycles(piece.graph, piece.timeline)
        for label, cycles in zip(piece.graph.labels, counted[key][1], strict=True):
            pes = np.flatnonzero(cycles)
            name = name_of(piece.segment, label)
            if name not in busy:
                busy[name] = np.zeros((rows, columns), np.int64)
            busy[name][piece.y[:, pes], piece.x[:, pes]] += cycles[pes]
    return busy


def wafer_link_wavelets(pieces: Iterable[Placed], columns: int, rows: int) -> Int64:
    """Wavelets that cross each directed link of a wafer: [rows, columns, 4], a PE's links by their direction."""
    wavelets = np.zeros((rows, columns, 4), np.int64)
    counted: dict[int, Int64] = {}  # equal layers share a graph
    for piece in pieces:
        if id(piece.graph) not in counted:
            counted[id(piece.graph)] = link_wavelets(piece.graph)
        wavelets[piece.y, piece.x] += counted[id(piece.graph)]
    return wavelets


def task_spans(pieces: Iterable[Placed], where: Rect) -> tuple[TaskSpan, ...]:
    """The tasks of the PEs in `where` (one PE, a line, a block), in the order in which they begin."""
    spans = [span for piece in pieces for span in _spans(piece, where)]
    return tuple(sorted(spans, key=lambda s: (s.start, s.end, s.pe[1], s.pe[0])))


def _spans(piece: Placed, where: Rect) -> Iterator[TaskSpan]:
    graph, timeline = piece.graph, piece.timeline
    x, y = piece.x[:, graph.pe], piece.y[:, graph.pe]
    inside = (where.x <= x) & (x < where.x + where.columns) & (where.y <= y) & (y < where.y + where.rows)
    for line, task in zip(*(index.tolist() for index in np.nonzero(inside)), strict=True):
        start, end = int(timeline.task_start[task]), int(timeline.task_end[task])
        label, base = graph.operation_of(task).label, int(piece.bases[line])
        yield TaskSpan(piece.segment, label, (int(x[line, task]), int(y[line, task])), start + base, end + base)


def pe_busy_cycles(graph: TaskGraph, timeline: Times) -> Int64:
    """Cycles that tasks hold each PE, from start to end, waiting for the head of an input included: [PEs]."""
    busy = np.zeros(graph.pes, np.int64)
    np.add.at(busy, graph.pe, timeline.task_end - timeline.task_start)
    return busy


def label_busy_cycles(graph: TaskGraph, timeline: Times) -> Int64:
    """`pe_busy_cycles` of the tasks of each of the graph's labels: [labels, PEs]."""
    busy = np.zeros((len(graph.labels), graph.pes), np.int64)
    np.add.at(busy, (graph.task_labels(), graph.pe), timeline.task_end - timeline.task_start)
    return busy


def link_wavelets(graph: TaskGraph) -> Int64:
    """Wavelets that cross each directed link: [PEs, 4], a PE's links in the order of their direction."""
    message = np.arange(graph.message_count, dtype=np.int32)
    corner = route_position(graph, message, graph.hops1)
    origin = route_position(graph, message, np.zeros_like(graph.hops1))
    end = route_position(graph, message, graph.hops1 + graph.hops2)
    wavelets = np.zeros((4, graph.rows + 1, graph.columns + 1), np.int64)
    _add_leg(wavelets, graph.direction1, origin, corner, graph.wavelets)
    _add_leg(wavelets, graph.direction2, corner, end, graph.wavelets)
    for direction, axis in ((EAST, 1), (WEST, 1), (NORTH, 0), (SOUTH, 0)):
        wavelets[direction] = np.cumsum(wavelets[direction], axis=axis)
    return wavelets[:, :-1, :-1].reshape(4, graph.pes).T


def _add_leg(
    edges: Int64,
    direction: Int8,
    start: tuple[Int64, Int64],
    end: tuple[Int64, Int64],
    wavelets: npt.NDArray[np.integer],
) -> None:
    """Marks where the wavelets of each leg begin and end. The links of a leg leave all of its routers but the last."""
    back = ((direction == WEST) | (direction == NORTH)).astype(np.int64)
    horizontal = direction // 2 == 0
    shift_x, shift_y = back * horizontal, back * ~horizontal
    (x0, y0), (x1, y1) = start, end
    low = np.minimum(y0, y1) + shift_y, np.minimum(x0, x1) + shift_x
    high = np.maximum(y0, y1) + shift_y, np.maximum(x0, x1) + shift_x
    np.add.at(edges, (direction, *low), wavelets)
    np.add.at(edges, (direction, *high), -wavelets)
