"""The twin of the compiled `simulate`: same name, arguments and results, in plain Python, to be read beside the rules.

It shares only the check of the arguments and DeadlockError with the compiled loop. It keeps the grants of every message
and computes from them when a link is free. The compiled loop keeps only this cycle for each link.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

import numpy as np

from wsesim.engine.flow.deadlock import Stand, deadlock
from wsesim.engine.flow.simulate import check_arguments
from wsesim.engine.flow.state import NEVER, Requests, State
from wsesim.engine.flow.timeline import Timeline
from wsesim.engine.graph.taskgraph import ACTIVATED, BLOCKING, LAUNCHED, NO_PORTS, STREAM, Int64, TaskGraph
from wsesim.machine import Fabric


@dataclass(frozen=True, slots=True)
class Hold:
    """A message has `place`, ("link", number) or ("ramp", PE) for a ramp in, from `granted` to `free`."""

    place: tuple[str, int]
    message: int
    requested: int
    granted: int
    free: int


def simulate(
    graph: TaskGraph,
    fabric: Fabric,
    port_head: Int64 = NO_PORTS,
    port_tail: Int64 = NO_PORTS,
    state: State | None = None,
    *,
    free_links: bool = False,
    trace: list[Hold] | None = None,
) -> Timeline:
    """As `wsesim.engine.flow.simulate.simulate`. `trace` receives every hold of a link and of a ramp in."""
    state = State.idle(graph.columns, graph.rows) if state is None else state
    check_arguments(graph, fabric, port_head, port_tail, state)
    run = _Run(graph, fabric, state, free_links)
    run.feed(port_head, port_tail)
    run.until_done()
    if trace is not None:
        trace.extend(run.holds())
    return run.timeline(port_head, port_tail)


@dataclass(slots=True)
class _Task:
    missing: int
    head: int = NEVER
    tail: int = NEVER
    start: int = 0
    begin: int = 0
    end: int = 0


@dataclass(slots=True)
class _Message:
    """`path`: its links. `requests`, `grants` and `tails` have one entry per link so far."""

    path: list[int]
    routers: list[int]
    wavelets: int
    drops: dict[int, int]
    ramp_head: int = 0
    ramp_tail: int = 0
    first_tail: int = 0
    requests: list[int] = field(default_factory=list)
    grants: list[int] = field(default_factory=list)
    tails: list[int] = field(default_factory=list)
    ramps: dict[int, tuple[int, int]] = field(default_factory=dict)  # position: (request, grant)
    turned: bool = False


class _Run:
    def __init__(self, graph: TaskGraph, fabric: Fabric, state: State, free_links: bool) -> None:
        self.graph, self.fabric, self.state, self.free_links = graph, fabric, state, free_links
        self.tasks = [_Task(int(n)) for n in graph.input_counts()]
        self.messages = [_message(graph, m) for m in range(graph.message_count)]
        self.program = [list(range(a, b)) for a, b in zip(graph.pe_ptr()[:-1], graph.pe_ptr()[1:], strict=True)]
        self.pe_free = [int(c) for c in state.pe_free]
        self.ramp_out_free = [int(c) for c in state.ramp_out_free]
        self.ramp_in_free = [int(c) for c in state.ramp_in_free]
        self.link_requests: dict[int, list[int]] = {}
        self.ramp_requests: dict[int, list[int]] = {}
        self.users: dict[int, list[int]] = {}  # link: messages that were granted it, in order
        self.parked: dict[int, list[int]] = {}  # task: messages that wait in a router for it to take them in
        self.waiting: dict[int, list[tuple[int, int]]] = {}  # link: (cycle, message) that wait for it
        self.drop_times: dict[int, tuple[int, int]] = {}
        self.events: list[tuple[int, int, int]] = []  # (cycle, source PE, message): messages are sorted by PE

    # tasks

    def feed(self, port_head: Int64, port_tail: Int64) -> None:
        for task, head, tail in zip(self.graph.port_task, port_head, port_tail, strict=True):
            self.deliver(int(task), int(head), int(tail))
        for pe in range(self.graph.pes):
            self.run_program(pe)

    def deliver(self, task: int, head: int, tail: int) -> None:
        inputs = self.tasks[task]
        inputs.missing -= 1
        inputs.head, inputs.tail = max(inputs.head, head), max(inputs.tail, tail)

    def run_program(self, pe: int) -> None:
        program = self.program[pe]
        while program and self.tasks[program[0]].missing == 0:
            self.run_task(pe, program.pop(0))
        for message in self.parked.pop(program[0], []) if program else []:
            self.at(self.taken_in_from(program[0]), message)

    def run_task(self, pe: int, number: int) -> None:
        graph, task, free = self.graph, self.tasks[number], self.pe_free[pe]
        launch, work, delay = (int(column[number]) for column in (graph.launch, graph.work, graph.delay))
        match graph.start[number]:
            case s if s == BLOCKING:
                task.start = max(free, task.tail)
                task.begin = task.start + launch
                task.end = task.begin + work + delay
            case s if s == LAUNCHED:
                task.start = free
                task.begin = max(task.start + launch, task.head)
                task.end = max(task.begin + work, task.tail) + delay
            case s if s == ACTIVATED:
                task.start = max(free, task.head)
                task.begin = task.start + launch
                task.end = max(task.begin + work, task.tail) + delay
        self.pe_free[pe] = task.end
        for message in range(graph.out_ptr[number], graph.out_ptr[number + 1]):
            self.send(pe, task, task.begin + delay if graph.streams[number] else task.end, message)

    def send(self, pe: int, task: _Task, head_out: int, number: int) -> None:
        message = self.messages[number]
        duration = self.cycles(message.wavelets)
        tail_out = max(head_out + duration, task.end)
        shares = bool(self.graph.shares_ramp[number])
        message.ramp_head = max(head_out, self.ramp_out_free[pe])
        if self.free_links:
            message.ramp_head = head_out
        elif shares:
            message.ramp_head = self.messages[number - 1].ramp_head
        message.ramp_tail = max(message.ramp_head + duration, tail_out)
        if not shares and not self.free_links:
            self.ramp_out_free[pe] = message.ramp_tail
        message.first_tail = message.ramp_tail + self.fabric.ramp_send_cycles
        self.at(message.ramp_head + self.fabric.ramp_send_cycles, number)

    # events

    def at(self, cycle: int, message: int) -> None:
        source = int(self.graph.pe[self.graph.source[message]])
        heapq.heappush(self.events, (cycle, source, message))

    def until_done(self) -> None:
        while self.events:
            cycle, _, number = heapq.heappop(self.events)
            self.arrive(cycle, number)
            while self.hand_on():
                pass
        if any(self.program):
            done = [n - len(left) for n, left in zip(np.diff(self.graph.pe_ptr()), self.program, strict=True)]
            delivered = np.array([drop in self.drop_times for drop in range(self.graph.drop_count)], np.bool_)
            stand = Stand(np.array(done, np.int32), delivered, self.link_owners(), self.consumers())
            raise deadlock(self.graph, stand)

    def arrive(self, cycle: int, number: int) -> None:
        """The head of a message is at a router."""
        message = self.messages[number]
        hop = len(message.grants)
        if hop in message.drops and hop not in message.ramps:
            if self.graph.drop_sink[message.drops[hop]] == STREAM and self.waits_for_consumer(cycle, number):
                return
            self.enter_ramp(cycle, number)
        if hop == len(message.path):
            return
        turn = self.fabric.turn_cycles
        if hop == self.graph.hops1[number] and not message.turned and turn > 0:
            message.turned = True
            self.at(cycle + turn, number)
            return
        self.request(cycle, number)

    def waits_for_consumer(self, cycle: int, number: int) -> bool:
        message = self.messages[number]
        consumer = int(self.graph.drop_task[message.drops[len(message.grants)]])
        if self.program[self.graph.pe[consumer]][0] != consumer:
            self.parked.setdefault(consumer, []).append(number)
            return True
        opens = self.taken_in_from(consumer)
        if opens > cycle:
            self.at(opens, number)
        return opens > cycle

    def taken_in_from(self, task: int) -> int:
        """The cycle from which the task, the next one of its PE, receives its streams."""
        free: int = self.pe_free[self.graph.pe[task]]
        return free + int(self.graph.launch[task]) if self.graph.start[task] == LAUNCHED else free

    def enter_ramp(self, cycle: int, number: int) -> None:
        message, fabric = self.messages[number], self.fabric
        hop = len(message.grants)
        pe, duration = message.routers[hop], self.cycles(message.wavelets)
        granted = cycle
        if not self.free_links:
            self.ramp_requests.setdefault(pe, []).append(cycle)
            granted = max(cycle, self.ramp_in_free[pe])
            self.ramp_in_free[pe] = granted + duration
        message.ramps[hop] = (cycle, granted)
        head = granted + fabric.ramp_receive_cycles
        tail = max(granted + duration, message.tails[-1] + fabric.hop_cycles) + fabric.ramp_receive_cycles
        drop = message.drops[hop]
        self.drop_times[drop] = (head, tail)
        self.deliver(int(self.graph.drop_task[drop]), head, tail)
        self.run_program(pe)

    def request(self, cycle: int, number: int) -> None:
        message = self.messages[number]
        link = message.path[len(message.grants)]
        message.requests.append(cycle)
        if self.free_links:
            self.grant(link, number, cycle)
            return
        self.link_requests.setdefault(link, []).append(cycle)
        self.waiting.setdefault(link, []).append((cycle, number))

    def hand_on(self) -> bool:
        """Gives each link whose `free` is known to its first waiter; whether there was one."""
        granted = False
        for link, waiters in self.waiting.items():
            free = self.link_free(link)
            if waiters and free is not None:
                cycle, number = min(waiters)
                waiters.remove((cycle, number))
                self.grant(link, number, max(cycle, free))
                granted = True
        return granted

    def grant(self, link: int, number: int, granted: int) -> None:
        message, fabric = self.messages[number], self.fabric
        before = message.tails[-1] + fabric.hop_cycles if message.tails else message.first_tail
        message.grants.append(granted)
        message.tails.append(max(granted + self.cycles(message.wavelets), before))
        self.users.setdefault(link, []).append(number)
        self.at(granted + fabric.hop_cycles, number)

    # links

    def cycles(self, wavelets: int) -> int:
        return -(-wavelets * self.fabric.wavelet_numerator // self.fabric.wavelet_denominator)

    def link_free(self, link: int) -> int | None:
        """When the link is free; None while that depends on its last user."""
        users = self.users.get(link)
        return self.free_of_user(link, users[-1]) if users else int(self.state.link_free[link])

    def free_of_user(self, link: int, number: int) -> int | None:
        message, queue = self.messages[number], self.fabric.queue_wavelets
        position = message.path.index(link)
        free = message.tails[position]
        k = 1
        while k * queue < message.wavelets and position + k <= len(message.path):
            ahead = position + k
            went_on = [message.ramps[ahead][1]] if ahead in message.ramps else []
            went_on += message.grants[ahead : ahead + 1]
            if not went_on or (ahead < len(message.path) and len(message.grants) <= ahead):
                return None
            free = max(free, max(went_on) + self.cycles(message.wavelets - k * queue))
            k += 1
        return free

    def link_owners(self) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
        owners = np.full(len(self.messages), -1, np.int32)
        for link, waiters in self.waiting.items():
            for _, number in waiters:
                owners[number] = self.users[link][-1]
        return owners

    def consumers(self) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
        consumers = np.full(len(self.messages), -1, np.int32)
        for task, messages in self.parked.items():
            consumers[messages] = task
        return consumers

    # results

    def holds(self) -> list[Hold]:
        found = []
        for number, m in enumerate(self.messages):
            for link, requested, granted in zip(m.path, m.requests, m.grants, strict=True):
                free = self.free_of_user(link, number)
                assert free is not None
                found.append(Hold(("link", link), number, requested, granted, free))
            for hop, (requested, granted) in m.ramps.items():
                free = granted + self.cycles(m.wavelets)
                found.append(Hold(("ramp", m.routers[hop]), number, requested, granted, free))
        return found

    def state_after(self) -> State:
        old = self.state
        link_free = old.link_free.copy()
        if not self.free_links:
            for link in self.users:
                free = self.link_free(link)
                assert free is not None, "a finished run holds no link"
                link_free[link] = free
        return State(
            old.columns,
            old.rows,
            pe_free=np.array(self.pe_free, np.int64),
            ramp_out_free=np.array(self.ramp_out_free, np.int64),
            ramp_in_free=np.array(self.ramp_in_free, np.int64),
            link_free=link_free,
        )

    def requests(self) -> Requests:
        pes = self.graph.pes
        sizes = ((pes, self.ramp_requests), (4 * pes, self.link_requests))
        found = [np.full(size, NEVER, np.int64) for size, _ in sizes for _ in range(2)]
        for (first, last), (_, requests) in zip((found[:2], found[2:]), sizes, strict=True):
            for number, cycles in requests.items():
                first[number], last[number] = min(cycles), max(cycles)
        return Requests(*found)

    def timeline(self, port_head: Int64, port_tail: Int64) -> Timeline:
        drops = [self.drop_times[drop] for drop in range(self.graph.drop_count)]
        return Timeline(
            task_start=np.array([task.start for task in self.tasks], np.int64),
            task_begin=np.array([task.begin for task in self.tasks], np.int64),
            task_end=np.array([task.end for task in self.tasks], np.int64),
            message_head=np.array([m.ramp_head for m in self.messages], np.int64),
            message_tail=np.array([m.ramp_tail for m in self.messages], np.int64),
            drop_head=np.array([head for head, _ in drops], np.int64),
            drop_tail=np.array([tail for _, tail in drops], np.int64),
            port_head=port_head,
            port_tail=port_tail,
            state_after=self.state_after(),
            requests=self.requests(),
            link_events=sum(len(m.grants) for m in self.messages),
        )


def _message(graph: TaskGraph, number: int) -> _Message:
    """Walks the route of a message."""
    steps = {0: 1, 1: -1, 2: -graph.columns, 3: graph.columns}
    router = int(graph.pe[graph.source[number]])
    path, routers = [], [router]
    for direction, hops in (
        (int(graph.direction1[number]), int(graph.hops1[number])),
        (int(graph.direction2[number]), int(graph.hops2[number])),
    ):
        for _ in range(hops):
            path.append(4 * router + direction)
            router += steps[direction]
            routers.append(router)
    drops = range(graph.drop_ptr[number], graph.drop_ptr[number + 1])
    return _Message(path, routers, int(graph.wavelets[number]), {int(graph.drop_hop[drop]): drop for drop in drops})
