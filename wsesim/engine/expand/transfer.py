"""Transfers between blocks and the id's way back -> Segments. What a PE sends and receives are tasks of its program."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from wsesim.engine.expand.canvas import Canvas
from wsesim.engine.expand.segment import Plan, Segment, local_machine, plan_of
from wsesim.engine.taskgraph import COLLECTIVE, Int64
from wsesim.machine import Machine, Rect
from wsesim.program.program import Program, Transfer
from wsesim.program.routes import Path, feedback_path, transfer_paths


def expand_transfer(program: Program, transfer: Transfer, tokens: int) -> Segment:
    """The residual of `tokens` tokens from block to block."""
    source, target = program.block(transfer.source), program.block(transfer.target)
    window = source.rect.hull(target.rect)
    paths = transfer_paths(transfer, source, target)
    return _segment(program, f"{transfer.source}->{transfer.target}", window, paths, tokens)


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
    start, corner, end = (Rect(*path.position(hop), 1, 1) for hop in (0, path.hops, path.total_hops))
    window = start.hull(corner).hull(end)
    return _segment(program, "feedback", window, (path,), tokens)


def _segment(program: Program, name: str, window: Rect, paths: tuple[Path, ...], tokens: int) -> Segment:
    local = tuple(
        Path(
            p.x - window.x,
            p.y - window.y,
            p.direction,
            p.hops,
            p.turn_direction,
            p.turn_hops,
            p.first_drop,
            p.elements,
            0,
        )
        for p in paths
    )
    machine = local_machine(program.machine, window)
    key = (local, machine, window.columns, window.rows, program.timing_dtype, tokens)
    return Segment(name, window, _plan(*key))


@lru_cache(maxsize=64)
def _plan(paths: tuple[Path, ...], machine: Machine, columns: int, rows: int, dtype: str, tokens: int) -> Plan:
    canvas = Canvas(Rect(0, 0, columns, rows), machine, dtype, tokens)
    launch = machine.activate_cycles
    sources = np.array([canvas.at(p.x, p.y) for p in paths])
    sent = canvas.send(sources, "send")
    reached = [_reached(path, columns) for path in paths]
    targets = np.unique(np.concatenate(reached))
    received = canvas.task(targets, "receive", launch, 0, kind=COLLECTIVE)
    for path, task, pes in zip(paths, sent, reached, strict=True):
        message = canvas.builder.messages(
            task,
            path.direction,
            path.hops,
            canvas.wavelets(tokens * path.elements),
            path.turn_direction,
            path.turn_hops,
        )
        hops = np.arange(path.first_drop, path.total_hops + 1)
        canvas.builder.drops(np.repeat(message, hops.size), hops, received[np.searchsorted(targets, pes)])
    return plan_of(canvas.builder.build())


def _reached(path: Path, columns: int) -> np.ndarray:
    """PE ids at the hops where the path drops a copy."""
    ends = (path.position(path.first_drop), path.position(path.total_hops))
    (x0, y0), (x1, y1) = ends
    count = path.total_hops - path.first_drop + 1
    xs = np.linspace(x0, x1, count).round().astype(np.int64)
    ys = np.linspace(y0, y1, count).round().astype(np.int64)
    assert x0 == x1 or y0 == y1  # copies are dropped on one leg
    return ys * columns + xs
