"""The twins of `walk.py` in plain Python: same names and arguments.

To try a line in another order, the twin begins again from a copy of the state; the kernel takes back the changes of the
messages. `trace` receives the request and the grant of every link and ramp in.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from wsesim.engine.exact.walk import MOST_TRIES, Walk
from wsesim.engine.expand.paths import Paths
from wsesim.engine.flow.records import Constants
from wsesim.engine.flow.state import NEVER
from wsesim.engine.graph.taskgraph import Int64


@dataclass(frozen=True, slots=True)
class Grant:
    """Message `message` requests `place`, ("link", number) or ("ramp", PE), at one cycle and has it from another on."""

    place: tuple[str, int]
    message: int
    requested: int
    granted: int


def send(paths: Paths, walk: Walk, fabric: Constants) -> None:
    free, ramp_free = walk.now.pe_free, walk.now.ramp_out_free
    for m, pe in enumerate(paths.source.tolist()):
        free[pe] += paths.send_cycles
        walk.head[m] = free[pe] if fabric.free_links else max(free[pe], ramp_free[pe])
        walk.tail[m] = walk.head[m] + _cycles(paths, fabric, m)
        if not fabric.free_links:
            ramp_free[pe] = walk.tail[m]


def receive(paths: Paths, walk: Walk) -> int:
    free, there = walk.now.pe_free, np.flatnonzero(walk.arrived != NEVER)
    free[there] = np.maximum(free[there], walk.arrived[there]) + paths.receive_cycles
    return int(max(free[paths.source].max(), free[there].max(initial=0)))


def follow(
    paths: Paths, walk: Walk, fabric: Constants, order: Int64, ends: Int64, trace: list[Grant] | None = None
) -> bool:
    first = 0
    for end in ends.tolist():
        line, tries = order[first:end].tolist(), 0
        while True:
            attempt = _Attempt(paths, walk, fabric)
            clash = next((pair for pair in ((m, attempt.follow(m)) for m in line) if pair[1] is not None), None)
            if clash is None:
                break
            message, earlier = clash
            tries += 1
            if earlier not in line[: line.index(message)] or tries > MOST_TRIES:
                return False
            line.remove(message)
            line.insert(line.index(earlier), message)
        attempt.keep()
        if trace is not None:
            trace.extend(attempt.grants)
        order[first:end] = line
        first = end
    return True


@dataclass(slots=True)
class _Attempt:
    """The messages of one line, followed on copies of the walk's arrays."""

    paths: Paths
    walk: Walk
    fabric: Constants
    own: Walk = field(init=False)
    grants: list[Grant] = field(default_factory=list)

    def __post_init__(self) -> None:
        walk = self.walk
        self.own = walk._replace(
            now=walk.now.copy(),
            requests=walk.requests.copy(),
            arrived=walk.arrived.copy(),
            ramp_asker=walk.ramp_asker.copy(),
            link_asker=walk.link_asker.copy(),
        )

    def keep(self) -> None:
        """Writes the copies back."""
        for name in ("arrived", "ramp_asker", "link_asker"):
            getattr(self.walk, name)[:] = getattr(self.own, name)
        for kept, own in zip(
            (*self.walk.now[2:], *self.walk.requests), (*self.own.now[2:], *self.own.requests), strict=True
        ):
            kept[:] = own

    def follow(self, m: int) -> int | None:
        """None, or a message that was followed before but makes a request later than this one."""
        paths, fabric, own = self.paths, self.fabric, self.own
        duration, hops = _cycles(paths, fabric, m), int(paths.hops1[m] + paths.hops2[m])
        links, routers = self._links(m)
        head = int(own.head[m]) + fabric.ramp_send_cycles
        tail = int(own.tail[m]) + fabric.ramp_send_cycles - fabric.hop_cycles
        for position in range(hops + 1):
            if position >= paths.first_drop[m] and not paths.passed[routers[position]]:
                granted = self._granted(
                    "ramp", routers[position], head, m, int(own.now.ramp_in_free[routers[position]])
                )
                if granted is None:
                    return int(own.ramp_asker[routers[position]])
                if not fabric.free_links:
                    own.now.ramp_in_free[routers[position]] = granted + duration
                self._hold(m, links[:position], granted, fabric.shallow or granted > head)
                there = max(granted + duration, tail + fabric.hop_cycles) + fabric.ramp_receive_cycles
                own.arrived[routers[position]] = max(own.arrived[routers[position]], there)
            if position == hops:
                return None
            head += fabric.turn_cycles if position == paths.hops1[m] else 0
            granted = self._granted("link", links[position], head, m, int(own.now.link_free[links[position]]))
            if granted is None:
                return int(own.link_asker[links[position]])
            tail = max(granted + duration, tail + fabric.hop_cycles)
            if not fabric.free_links:
                own.now.link_free[links[position]] = tail
            waits = position == paths.hops1[m] or fabric.shallow or granted > head
            self._hold(m, links[:position], granted, waits)
            head = granted + fabric.hop_cycles
        return None

    def _granted(self, kind: str, place: int, cycle: int, m: int, free: int) -> int | None:
        """When a request is granted; None if the place was requested later, or by a message of another line."""
        if self.fabric.free_links:
            self.grants.append(Grant((kind, place), m, cycle, cycle))
            return cycle
        asker = self.own.ramp_asker if kind == "ramp" else self.own.link_asker
        first = self.own.requests.ramp_first if kind == "ramp" else self.own.requests.link_first
        last = self.own.requests.ramp_last if kind == "ramp" else self.own.requests.link_last
        if first[place] == NEVER:
            first[place] = cycle
        elif (cycle, m) < (last[place], asker[place]) or self.own.line[asker[place]] != self.own.line[m]:
            return None
        last[place], asker[place] = cycle, m
        self.grants.append(Grant((kind, place), m, cycle, max(cycle, free)))
        return max(cycle, free)

    def _hold(self, m: int, behind: list[int], granted: int, waits: bool) -> None:
        """Delays the links behind a head that goes on at `granted` by the wavelets that the queues do not hold."""
        if self.fabric.free_links or not waits:
            return
        free = self.own.now.link_free
        for k, link in enumerate(reversed(behind), start=1):
            rest = int(self.paths.wavelets[m]) - k * self.fabric.queue_wavelets
            if rest > 0:
                free[link] = max(free[link], granted + _duration(rest, self.fabric))

    def _links(self, m: int) -> tuple[list[int], list[int]]:
        """Numbers of the links of a message, and the routers before, between and after them."""
        links, routers = [], [int(self.paths.source[m])]
        legs = ((self.paths.direction1, self.paths.hops1), (self.paths.direction2, self.paths.hops2))
        for direction, hops in ((int(direction[m]), int(hops[m])) for direction, hops in legs):
            for _ in range(hops):
                links.append(4 * routers[-1] + direction)
                routers.append(routers[-1] + int(self.walk.step[direction]))
        return links, routers


def _cycles(paths: Paths, fabric: Constants, m: int) -> int:
    return _duration(int(paths.wavelets[m]), fabric)


def _duration(wavelets: int, fabric: Constants) -> int:
    return -(-wavelets * fabric.wavelet_numerator // fabric.wavelet_denominator)
