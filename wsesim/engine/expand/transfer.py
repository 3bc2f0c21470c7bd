"""Transfers between blocks and the id's way back -> Segments. Sends and receives are tasks of the PEs' programs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter

import numpy as np

from wsesim.engine.expand.canvas import Canvas
from wsesim.engine.expand.paths import Paths
from wsesim.engine.expand.segment import Plan, Segment, local_machine
from wsesim.engine.graph.taskgraph import Int64, TaskGraph
from wsesim.machine import Machine, Rect
from wsesim.program.parts import Block, Transfer
from wsesim.program.path import Path
from wsesim.program.program import Program
from wsesim.program.routes import feedback_path, transfer_paths


def expand_transfer(program: Program, transfer: Transfer, tokens: int) -> Segment:
    """The residual of `tokens` tokens from block to block."""
    source, target = program.block(transfer.source), program.block(transfer.target)
    both = source.rect.hull(target.rect)
    blocks = (_in_window(source, both), _in_window(target, both))
    local = Rect(0, 0, both.columns, both.rows)
    key = Key(local_machine(program.machine, both), local, program.timing_dtype, tokens)
    within, plan = _transfer_plan(_in_place(transfer, source, both), *blocks, key)
    window = Rect(both.x + within.x, both.y + within.y, within.columns, within.rows)
    return Segment(f"{transfer.source}->{transfer.target}", window, plan, transfer.colours)


def _in_window(block: Block, window: Rect) -> Block:
    return dataclasses.replace(block.moved(block.x - window.x, block.y - window.y), name="")


def _in_place(transfer: Transfer, source: Block, window: Rect) -> Transfer:
    """The transfer without names, its lanes in coordinates of the window, its colours numbered from 0."""
    colours = tuple(range(len(transfer.colours)))  # the Segment knows the Program's
    edge = window.x if source.axis == "rows" else window.y
    lanes = (transfer.lanes[0] - edge, transfer.lanes[1] - edge) if transfer.lanes else None
    return dataclasses.replace(transfer, name="", value="", source="", target="", colours=colours, lanes=lanes)


@lru_cache(maxsize=64)
def _transfer_plan(transfer: Transfer, source: Block, target: Block, key: Key) -> tuple[Rect, Plan]:
    """The rectangle around the paths, and their plan in its coordinates."""
    paths = transfer_paths(transfer, source, target)
    window = _around(paths)
    return window, plan_of_paths(paths, dataclasses.replace(key, window=window))


def _around(paths: tuple[Path, ...]) -> Rect:
    places = [place for p in paths for place in ((p.x, p.y), p.position(p.hops), p.position(p.total_hops))]
    (x, y), (east, south) = np.min(places, axis=0).tolist(), np.max(places, axis=0).tolist()
    return Rect(x, y, east - x + 1, south - y + 1)


def transfer_ends(program: Program, transfer: Transfer) -> tuple[Int64, Int64]:
    """(x, y) of the sending PE and of the last receiving PE of every path: two arrays [paths, 2]."""
    paths = transfer_paths(transfer, program.block(transfer.source), program.block(transfer.target))
    ends = [path.position(path.total_hops) for path in paths]
    return np.array([(p.x, p.y) for p in paths]), np.array(ends)


def expand_feedback(program: Program, tokens: int = 1) -> Segment | None:
    """The sampled id from the head's block to the embedding's; None where they are one PE."""
    path = feedback_path(program)
    if path is None:
        return None
    window = _around((path,))
    plan = plan_of_paths(
        (dataclasses.replace(path, colour=0),), Key(program.machine, window, program.timing_dtype, tokens)
    )
    return Segment("feedback", window, plan, program.feedback.colours)


@dataclass(frozen=True, slots=True)
class Key:
    """What decides a transfer's graph beside its paths."""

    machine: Machine = dataclasses.field(hash=False)  # stragglers in coordinates of the paths
    window: Rect  # in these, too
    dtype: str
    tokens: int


def plan_of_paths(paths: tuple[Path, ...], key: Key) -> Plan:
    """The plan of a window that all the paths lie in."""
    return Plan(key.window.columns, key.window.rows, _followed(paths, key), lambda: _graph(paths, key))


def _followed(paths: tuple[Path, ...], key: Key) -> Paths:
    """The messages as `walk` takes them. Their tasks have no work after the launch, so a slow PE is no slower here."""
    x, y, columns = key.window.x, key.window.y, key.window.columns
    own = [
        (
            (p.y - y) * columns + p.x - x,
            _wavelets(p, key),
            p.direction,
            p.hops,
            p.turn_direction,
            p.turn_hops,
            p.first_drop,
        )
        for p in paths
    ]
    arrays = np.array(sorted(own, key=itemgetter(0)), np.int64).T.copy()
    passed = np.zeros(key.window.pes, np.bool_)
    for path in paths:
        for hop in path.passed:
            passed[_pe(path, hop, key.window)] = True
    return Paths._make([*arrays, passed, key.machine.op("copy").launch, key.machine.activate_cycles])


def _graph(paths: tuple[Path, ...], key: Key) -> TaskGraph:
    canvas = Canvas(key.window, key.machine, key.dtype, key.tokens)
    sources = np.array([canvas.at(p.x, p.y) for p in paths])
    elements = key.tokens * max(p.elements for p in paths)  # pieces of a vector may differ by a PE's share
    sent = canvas.send(sources, "send", elements)
    ends = [_reached(path, canvas) for path in paths]
    reached = np.concatenate(ends)
    targets = np.flatnonzero(np.bincount(reached))
    received = np.empty(canvas.window.pes, np.int64)
    received[targets] = canvas.receive(targets, "receive", elements, key.machine.activate_cycles)
    messages = canvas.builder.messages(
        sent,
        [p.direction for p in paths],
        [p.hops for p in paths],
        [_wavelets(p, key) for p in paths],
        [p.turn_direction for p in paths],
        [p.turn_hops for p in paths],
        colour=[p.colour for p in paths],
    )
    hops = np.concatenate([_drop_hops(p) for p in paths])
    counts = [end.size for end in ends]
    canvas.builder.drops(np.repeat(messages, counts), hops, received[reached])
    return canvas.builder.build()


def _wavelets(path: Path, key: Key) -> int:
    return key.machine.wavelets(key.tokens * path.elements, key.dtype)


def _reached(path: Path, canvas: Canvas) -> np.ndarray:
    """PE ids at the hops where the path drops a copy. All of them are on one leg."""
    first, last = (canvas.at(*path.position(hop)) for hop in (path.first_drop, path.total_hops))
    reached = np.linspace(first, last, path.total_hops - path.first_drop + 1, dtype=np.int64)
    return reached[_drop_hops(path) - path.first_drop]


def _drop_hops(path: Path) -> Int64:
    """Hops at which the path drops a copy."""
    hops = np.arange(path.first_drop, path.total_hops + 1)
    return hops[~np.isin(hops, path.passed)] if path.passed else hops


def _pe(path: Path, hop: int, window: Rect) -> int:
    x, y = path.position(hop)
    return (y - window.y) * window.columns + x - window.x
