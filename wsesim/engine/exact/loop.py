"""loop(body, n): a body that runs n times on the same PEs is simulated until it repeats itself.

A run of the body leaves only a State to the next: its messages end inside it. The profile of a run is the state of all
that the body touches, in cycles after its first PE is free. If a profile was there before, everything from then on
repeats, with any period. The remaining runs are the same, later by a known number of cycles.

The result equals that of n bodies in one graph. Runs one after the other are not exact if a run requests a link or ramp
before the last request of the run before, or in the same cycle, in which the numbers of the source PEs decide; then the
one graph is simulated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsesim.engine.expand.merge import merge
from wsesim.engine.expand.segment import Segment, plan_of
from wsesim.engine.flow.simulate import simulate
from wsesim.engine.flow.state import NEVER, STATE_FIELDS, Requests, State
from wsesim.engine.graph.taskgraph import Int64, TaskGraph
from wsesim.machine import Fabric, Rect


@dataclass(frozen=True, slots=True, eq=False)
class LoopRun:
    """A loop that has run.

    state          after the last run
    runs           of the body
    simulated      runs that were simulated
    period         runs after which everything repeats, `period_cycles` later; 0 if nothing repeated
    end_cycles     when the last task ended
    link_events    links granted in all runs
    """

    state: State
    runs: int
    simulated: int
    period: int
    period_cycles: int
    end_cycles: int
    link_events: int


def loop(body: TaskGraph, runs: int, fabric: Fabric, state: State | None = None, most: int | None = None) -> LoopRun:
    """`runs` times the body from `state` on (idle if None).

    At most `most` runs are simulated. If nothing has repeated by then, the loop ends early (`LoopRun.runs`).
    """
    state = State.idle(body.columns, body.rows) if state is None else state
    busy = np.diff(body.pe_ptr()) > 0
    seen: dict[bytes, tuple[int, int]] = {}
    before, touched, asked, events, last = state, None, None, 0, min(runs, most or runs)
    for done in range(last):
        timeline = simulate(body, fabric, state=before)
        if asked is not None and _out_of_order(asked, timeline.requests):
            return _whole(body, last, fabric, state)
        after, asked, events = timeline.state_after, timeline.requests, timeline.link_events
        if touched is None:
            touched = _touched(before, after, busy)
        base = int(after.pe_free[busy].min())
        first = seen.setdefault(_profile(after, asked, touched, base), (done + 1, base))
        if first[0] <= done:
            period, shift = done + 1 - first[0], base - first[1]
            rest = runs - done - 1
            ahead = _moved(after, touched, rest // period * shift)
            end = _run(body, rest % period, fabric, ahead)
            return _finished(end, busy, runs, done + 1 + rest % period, (period, shift), events)
        before = after
    return _finished(before, busy, last, last, (0, 0), events)


def _out_of_order(earlier: Requests, later: Requests) -> bool:
    """Whether a run requests a ramp or link no later than the last request of the run before.

    Every run makes requests for the same ramps and links, so it is enough to compare neighbours.
    """
    ramps = (earlier.ramp_last != NEVER) & (later.ramp_first <= earlier.ramp_last)
    links = (earlier.link_last != NEVER) & (later.link_first <= earlier.link_last)
    return bool(ramps.any() or links.any())


def _run(body: TaskGraph, runs: int, fabric: Fabric, state: State) -> State:
    for _ in range(runs):
        state = simulate(body, fabric, state=state).state_after
    return state


def _finished(
    state: State, busy: NDArray[np.bool_], runs: int, simulated: int, period: tuple[int, int], events: int
) -> LoopRun:
    end = int(state.pe_free[busy].max()) if busy.any() else 0
    return LoopRun(state, runs, simulated, *period, end, runs * events)


def _whole(body: TaskGraph, runs: int, fabric: Fabric, state: State) -> LoopRun:
    """All runs in one graph."""
    window = Rect(0, 0, body.columns, body.rows)
    graph = merge([Segment("run", window, plan_of(body))] * runs, window)
    timeline = simulate(graph, fabric, state=state)
    busy = np.diff(body.pe_ptr()) > 0
    end = int(timeline.state_after.pe_free[busy].max())
    return LoopRun(timeline.state_after, runs, runs, 0, 0, end, timeline.link_events)


Touched = dict[str, NDArray[np.intp]]


def _touched(before: State, after: State, busy: NDArray[np.bool_]) -> Touched:
    """Places of each array that a run changes: PEs with tasks, ramps and links with messages."""
    return {
        name: np.flatnonzero(busy if name == "pe_free" else getattr(after, name) != getattr(before, name))
        for name in STATE_FIELDS
    }


def _values(state: State, touched: Touched) -> Iterator[Int64]:
    for name, places in touched.items():
        yield getattr(state, name)[places]


def _profile(state: State, asked: Requests, touched: Touched, base: int) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for values in (*_values(state, touched), asked.ramp_last, asked.link_last):
        digest.update((np.where(values == NEVER, NEVER, values - base)).tobytes())
    return digest.digest()


def _moved(state: State, touched: Touched, cycles: int) -> State:
    """The state with everything that the body touches free `cycles` later."""
    moved = {name: getattr(state, name).copy() for name in STATE_FIELDS}
    for name, places in touched.items():
        moved[name][places] += cycles
    return state._replace(**moved)
