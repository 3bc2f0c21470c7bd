"""walk: messages whose senders wait for nothing are followed one by one, from their PE to the end of their path.

Such a message is delayed only by messages that requested its ramps and links before. If a message makes no request
before an earlier request of a message that was followed already, it finds every ramp and link in its final state. No
events have to be put in order then.

The messages whose first legs lie on one line are followed in the order in which they would come without waiting. If a
message turns out to come before another, the effects of the line are taken back, and it is followed in a new order.
Without that, one transfer in 26 of llama3.1-8b is simulated as a whole graph, and a cold step takes 110 ms more.
Messages of two lines that meet are given up: the whole graph is simulated. The rules are those of `simulate.py`; the
twins are in `reference_walk.py`.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from wsesim.engine.expand.paths import Paths
from wsesim.engine.flow.records import Constants
from wsesim.engine.flow.state import NEVER, Requests, State
from wsesim.engine.graph.taskgraph import EAST, NORTH, SOUTH, WEST, Int64, steps
from wsesim.jit import njit

MOST_TRIES: Final = 64  # per line

compiled = njit(_nrt=False)
inlined = njit(_nrt=False, inline="always")


class Walk(NamedTuple):
    """The arrays that following the messages reads and writes."""

    step: Any  # [4] distance of a hop in PE numbers
    line: Any  # [messages] line and direction of the first leg
    before: State
    now: State
    requests: Requests
    head: Any  # [messages] when the ramp pass begins
    tail: Any  # and ends
    arrived: Any  # [PEs] latest tail of the incoming messages, NEVER if there are none
    ramp_asker: Any  # [PEs] message of the last request, if there is one
    link_asker: Any  # [4 PEs]


def walk(paths: Paths, before: State, now: State, requests: Requests, fabric: Constants) -> int | None:
    """Follows the messages from `before` on; when the last task ends. None if that cannot be done.

    Writes what they do to `now`, a copy of `before`, and to `requests`, which are none at first.
    """
    state = begin(paths, before, now, requests)
    send(paths, state, fabric)
    if not follow(paths, state, fabric, *line_order(paths, state, fabric)):
        return None
    return int(receive(paths, state))


def begin(paths: Paths, before: State, now: State, requests: Requests) -> Walk:
    """The arrays of a walk, before its first message."""
    count, pes = paths.source.size, before.pe_free.size
    head, tail = np.empty((2, count), np.int64)
    askers = np.empty(pes, np.int32), np.empty(4 * pes, np.int32)
    row, column = np.divmod(paths.source, before.columns)
    line = 4 * np.where(paths.direction1 <= max(EAST, WEST), row, column) + paths.direction1
    arrived = np.full(pes, NEVER, np.int64)
    return Walk(steps(before.columns), line, before, now, requests, head, tail, arrived, *askers)


def line_order(paths: Paths, walk: Walk, fabric: Constants) -> tuple[Int64, Int64]:
    """Messages by line, those of a line in the order in which they would pass a place on it: [messages].

    Also where each line ends: [lines].
    """
    row, column = np.divmod(paths.source, walk.now.columns)
    ahead = np.choose(paths.direction1, _by_direction(column, -column, -row, row))
    order = np.lexsort((walk.head - ahead * fabric.hop_cycles, walk.line))
    return order, np.append(np.flatnonzero(np.diff(walk.line[order])) + 1, order.size)


def _by_direction(east: Int64, west: Int64, north: Int64, south: Int64) -> list[Int64]:
    values = {EAST: east, WEST: west, NORTH: north, SOUTH: south}
    return [values[direction] for direction in range(4)]


@compiled
def send(paths: Paths, walk: Walk, fabric: Constants) -> None:
    for m in range(paths.source.size):
        pe = paths.source[m]
        walk.now.pe_free[pe] += paths.send_cycles
        walk.head[m] = walk.now.pe_free[pe]
        if not fabric.free_links:
            walk.head[m] = max(walk.head[m], walk.now.ramp_out_free[pe])
        walk.tail[m] = walk.head[m] + _duration(paths.wavelets[m], fabric)
        if not fabric.free_links:
            walk.now.ramp_out_free[pe] = walk.tail[m]


@compiled
def receive(paths: Paths, walk: Walk) -> int:
    free, end = walk.now.pe_free, 0
    for m in range(paths.source.size):
        end = max(end, free[paths.source[m]])
    for pe in range(walk.arrived.size):
        if walk.arrived[pe] != NEVER:
            free[pe] = max(free[pe], walk.arrived[pe]) + paths.receive_cycles
            end = max(end, free[pe])
    return end


@compiled
def follow(paths: Paths, walk: Walk, fabric: Constants, order: Any, ends: Any) -> bool:
    first = 0
    for end in ends:
        number, tries = first, 0
        while number < end:
            later = _follow_one(paths, walk, fabric, order[number])
            if later < 0:
                number += 1
                continue
            place = first
            while place < number and order[place] != later:
                place += 1
            tries += 1
            if place == number or tries > MOST_TRIES:
                return False
            _undo(paths, walk, order, first, number)
            message = order[number]
            for i in range(number, place, -1):
                order[i] = order[i - 1]
            order[place] = message
            number = first
        first = end
    return True


@compiled
def _follow_one(paths: Paths, walk: Walk, fabric: Constants, m: int) -> int:
    """-1; or a message that was followed already, but requests a ramp or a link later than this one."""
    now, asked, duration = walk.now, walk.requests, _duration(paths.wavelets[m], fabric)
    hops1, hops = paths.hops1[m], paths.hops1[m] + paths.hops2[m]
    router, cycle = paths.source[m], walk.head[m] + fabric.ramp_send_cycles
    tail = walk.tail[m] + fabric.ramp_send_cycles - fabric.hop_cycles
    for position in range(hops + 1):
        if position >= paths.first_drop[m] and not paths.passed[router]:
            granted = cycle
            if not fabric.free_links:
                later = _ask(walk, asked.ramp_first, asked.ramp_last, walk.ramp_asker, router, cycle, m)
                if later >= 0:
                    return int(later)
                granted = max(cycle, now.ramp_in_free[router])
                now.ramp_in_free[router] = granted + duration
                if fabric.shallow or granted > cycle:
                    _hold(paths, walk, fabric, m, router, position, granted)
            tail_in = max(granted + duration, tail + fabric.hop_cycles) + fabric.ramp_receive_cycles
            walk.arrived[router] = max(walk.arrived[router], tail_in)
        if position == hops:
            break
        if position == hops1:
            cycle += fabric.turn_cycles
        direction = paths.direction1[m] if position < hops1 else paths.direction2[m]
        link, granted = 4 * router + direction, cycle
        if not fabric.free_links:
            later = _ask(walk, asked.link_first, asked.link_last, walk.link_asker, link, cycle, m)
            if later >= 0:
                return int(later)
            granted = max(cycle, now.link_free[link])
        tail = max(granted + duration, tail + fabric.hop_cycles)
        if not fabric.free_links:
            now.link_free[link] = tail
            if position == hops1 or fabric.shallow or granted > cycle:
                _hold(paths, walk, fabric, m, router, position, granted)
        router += walk.step[direction]
        cycle = granted + fabric.hop_cycles
    return -1


@inlined
def _ask(walk: Walk, firsts: Any, lasts: Any, askers: Any, place: int, cycle: int, m: int) -> int:
    """-1; or the message of the last request for this place, if it comes after this one or is of another line."""
    if firsts[place] == NEVER:
        firsts[place] = cycle
    else:
        late = cycle < lasts[place] or (cycle == lasts[place] and m < askers[place])
        if late or walk.line[askers[place]] != walk.line[m]:
            return int(askers[place])
    lasts[place] = cycle
    askers[place] = m
    return -1


@compiled
def _hold(paths: Paths, walk: Walk, fabric: Constants, m: int, router: int, position: int, granted: int) -> None:
    """Delays the links behind a head that goes on at `granted` by the wavelets that the queues do not hold."""
    rest, free = paths.wavelets[m] - fabric.queue_wavelets, walk.now.link_free
    while rest > 0 and position > 0:
        position -= 1
        direction = paths.direction1[m] if position < paths.hops1[m] else paths.direction2[m]
        router -= walk.step[direction]
        link = 4 * router + direction
        free[link] = max(free[link], granted + _duration(rest, fabric))
        rest -= fabric.queue_wavelets


@compiled
def _undo(paths: Paths, walk: Walk, order: Any, first: int, last: int) -> None:
    """Takes back the effects of the messages `order[first]` to `order[last]`, which are of one line."""
    now, before, asked = walk.now, walk.before, walk.requests
    for i in range(first, last + 1):
        m = order[i]
        router, hops = paths.source[m], paths.hops1[m] + paths.hops2[m]
        for position in range(hops + 1):
            dropped = position >= paths.first_drop[m] and not paths.passed[router]
            if dropped and _forget(walk, asked.ramp_first, asked.ramp_last, walk.ramp_asker, router, m):
                now.ramp_in_free[router] = before.ramp_in_free[router]
                walk.arrived[router] = NEVER
            if position < hops:
                direction = paths.direction1[m] if position < paths.hops1[m] else paths.direction2[m]
                link = 4 * router + direction
                if _forget(walk, asked.link_first, asked.link_last, walk.link_asker, link, m):
                    now.link_free[link] = before.link_free[link]
                router += walk.step[direction]


@inlined
def _forget(walk: Walk, firsts: Any, lasts: Any, askers: Any, place: int, m: int) -> bool:
    """Deletes the requests of a message's line for a place; whether there were any."""
    if firsts[place] == NEVER or walk.line[askers[place]] != walk.line[m]:
        return False
    firsts[place] = NEVER
    lasts[place] = NEVER
    return True


@inlined
def _duration(wavelets: int, fabric: Constants) -> int:
    return -(-wavelets * fabric.wavelet_numerator // fabric.wavelet_denominator)
