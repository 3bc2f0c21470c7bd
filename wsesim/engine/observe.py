"""Observers: what PEs and links carried, counted after a run, so that the run pays nothing for it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wsesim.engine.taskgraph import EAST, NORTH, SOUTH, WEST, Int8, Int64, TaskGraph, route_position
from wsesim.engine.timeline import Timeline


def pe_busy_cycles(graph: TaskGraph, timeline: Timeline) -> Int64:
    """Cycles that tasks hold each PE, from start to end, waiting for the head of an input included: [PEs]."""
    busy = np.zeros(graph.pes, np.int64)
    np.add.at(busy, graph.pe, timeline.task_end - timeline.task_start)
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
    """Marks where wavelets set in and where they cease: a leg's links leave all its routers but the last."""
    back = ((direction == WEST) | (direction == NORTH)).astype(np.int64)
    horizontal = direction // 2 == 0
    shift_x, shift_y = back * horizontal, back * ~horizontal
    (x0, y0), (x1, y1) = start, end
    low = np.minimum(y0, y1) + shift_y, np.minimum(x0, x1) + shift_x
    high = np.maximum(y0, y1) + shift_y, np.maximum(x0, x1) + shift_x
    np.add.at(edges, (direction, *low), wavelets)
    np.add.at(edges, (direction, *high), -wavelets)
