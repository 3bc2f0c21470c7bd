"""Collectives on lines of PEs, as tasks and messages.

A merge is a store-and-forward stage: the partial sum is received into memory, then added to the PE's own while it is
sent on. A broadcast is one message in each direction that every PE on the way keeps a copy of.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wsesim.engine.expand.canvas import Canvas, Lines
from wsesim.engine.taskgraph import COLLECTIVE, Int64
from wsesim.program.collectives import Reduction, reduction


@dataclass(frozen=True, slots=True)
class Step:
    """What a PE does with what it receives: `work` cycles, and whether the result leaves meanwhile or after."""

    work_cycles: int
    streams: bool
    elements: int


def all_reduce(canvas: Canvas, lines: Lines, used: int, elements: int, algorithm: str, label: str) -> None:
    """Sum (or maximum) of the first `used` positions of each line, on all of its positions."""
    if lines.length == 1:
        return
    canvas.reroute(lines, label)
    root = reduce(canvas, lines, used, sum_step(canvas, elements), algorithm, label)
    broadcast(canvas, lines, root, elements, label)


def sum_step(canvas: Canvas, elements: int) -> Step:
    """Add while sending: the core keeps the pace of the link."""
    return Step(canvas.machine.op("relay").work_cycles(elements, 1, canvas.dtype), True, elements)


def reduce(canvas: Canvas, lines: Lines, used: int, step: Step, algorithm: str, label: str) -> int:
    """Merges the first `used` positions of each line; the position of the root."""
    plan = reduction(used, algorithm)
    if used == 1:
        return plan.root
    canvas.reroute(lines, label)
    if lines.count == 0:
        return plan.root
    last, received = _stage_tasks(canvas, lines, plan, step, label)
    source = np.array([m.source for m in plan.merges])
    target = np.array([m.target for m in plan.merges])
    hops = np.broadcast_to(np.abs(target - source), (lines.pes.shape[0], source.size)).ravel()
    direction = np.where(target > source, lines.forward, lines.backward)
    messages = canvas.builder.messages(
        last[:, source].ravel(),
        np.broadcast_to(direction, (lines.pes.shape[0], source.size)).ravel(),
        hops,
        canvas.wavelets(step.elements),
    )
    canvas.builder.drops(messages, hops, received.ravel())
    return plan.root


def _stage_tasks(canvas: Canvas, lines: Lines, plan: Reduction, step: Step, label: str) -> tuple[Int64, Int64]:
    """Tasks of a reduction: each position's last one [lines, used], and the one that each merge is received by."""
    count = lines.pes.shape[0]
    last = np.full((count, plan.length), -1, np.int64)
    received = np.full((count, len(plan.merges)), -1, np.int64)
    order: dict[int, list[int]] = {}
    for number, merge in enumerate(plan.merges):
        order.setdefault(merge.target, []).append(number)
    leaves = np.array([p for p in range(plan.length) if p not in order], np.int64)
    launch = canvas.machine.activate_cycles
    sent = canvas.send(lines.pes[:, leaves], label)
    last[:, leaves] = sent.reshape(count, -1)
    for rank in range(max(map(len, order.values()))):
        merges = np.array([numbers[rank] for numbers in order.values() if len(numbers) > rank])
        targets = np.array([plan.merges[m].target for m in merges])
        tasks = canvas.task(
            lines.pes[:, targets], label, launch, step.work_cycles, streams=step.streams, kind=COLLECTIVE
        )
        received[:, merges] = last[:, targets] = tasks.reshape(count, -1)
    return last, received


def broadcast(canvas: Canvas, lines: Lines, root: int, elements: int, label: str) -> None:
    """Every position of each line receives what its `root` has."""
    if lines.length == 1 or lines.count == 0:
        return
    count, launch = lines.pes.shape[0], canvas.machine.activate_cycles
    sent = canvas.send(lines.pes[:, root], label)
    others = np.array([p for p in range(lines.length) if p != root])
    received = canvas.task(lines.pes[:, others], label, launch, 0, kind=COLLECTIVE).reshape(count, -1)
    spread(canvas, lines, root, elements, sent, received)


def spread(canvas: Canvas, lines: Lines, root: int, elements: int, sent: Int64, received: Int64) -> None:
    """The message of each line's task `sent` on `root`, to `received` [lines, others] on all its other positions."""
    count, first = lines.pes.shape[0], True
    others = np.array([p for p in range(lines.length) if p != root])
    for direction, side in ((lines.backward, others < root), (lines.forward, others > root)):
        distance = np.abs(others[side] - root)
        if not distance.size:
            continue
        far = int(distance.max())
        messages = canvas.builder.messages(sent, direction, far, canvas.wavelets(elements), shares_ramp=not first)
        hops = np.broadcast_to(distance, (count, distance.size)).ravel()
        canvas.builder.drops(np.repeat(messages, distance.size), hops, received[:, side].ravel())
        first = False
