"""simulate(TaskGraph, Fabric, port times, State) -> Timeline, in `flow` fidelity.

A message is a head and a tail on every link. The wavelets between them are not followed one by one. All times are
integer cycles. These are all rules; `event_loop.py` is the compiled loop that follows them, `reference.py` its twin.

Names
    w, D     a message of w wavelets lasts D = ceil(w * numerator / denominator) cycles on a link
    q        wavelets that one router can queue
    g(p)     grant of the link at position p of a message's path; position 0 is the link that leaves the source PE
    tail(p)  when the last wavelet has passed that link
    free     of a PE, ramp or link: when the user before has left it; at first, as the State says

Tasks: a PE runs its tasks in program order. H and T are the latest head and tail of a task's inputs, minus infinity
without inputs.

    kind        start            begin                     end
    BLOCKING    max(free, T)     start + launch            begin + work + delay
    LAUNCHED    free             max(start + launch, H)    max(begin + work, T) + delay
    ACTIVATED   max(free, H)     start + launch            max(begin + work, T) + delay

Messages: the head of a message requests these, from top to bottom along its path.

    what        is requested at                   is granted at                 is then busy until
    ramp out    out = begin + delay if the task   r = max(out, free)            r_tail = max(r + D, out + D, end)
                streams, else end
    link 0      r + ramp_send                     g(0) = max(request, free)     `free` below
    link p      g(p - 1) + hop, and `turn` later  g(p) = max(request, free)     `free` below
                behind the corner
    ramp in     g(p - 1) + hop, at the router     g = max(request, free)        g + D
                behind p links

    tail(p)  max(g(p) + D, tail(p - 1) + hop), where tail(-1) + hop = r_tail + ramp_send
    a drop   has its head at g + ramp_receive and its tail at max(g + D, tail(p - 1) + hop) + ramp_receive
    free     of link p: max(tail(p), g(p + k) + ceil((w - k q) * numerator / denominator) for k >= 1 while k q < w).
             g(p + k) may be the grant of a ramp in at that router. Nobody gets the link before its `free` is known

Two routes. A straight multicast drops a copy at B, C and D; B's copy leaves its router for the ramp in:

    ramp out      link 0      link 1      link 2
    A ------> [A] ------> [B] ------> [C] ------> [D]
                           |           |           |    ramps in
                           v           v           v
                           B           C           D

A route with a corner: the head waits `turn` cycles at [C] before it requests link 2.

    A ------> [A] --link 0--> [B] --link 1--> [C]
                                               | link 2
                                               v
                                              [D] ------> D

Order of events. There is one kind of event: the head of a message is at a router. Events are in the order (cycle,
source PE, position of the message among those of its PE). Requests for a link are served in this order.

Ramps
    The ramp out serves the messages of its PE in program order. It never waits for the links: wavelets that have not
    left are in the PE's memory. A message with `shares_ramp` has the r of the message before, and no pass of its own.
    A drop into MEMORY is received by a microthread, whatever the PE is doing. A drop into a STREAM is received by its
    task, which is LAUNCHED or ACTIVATED. The head waits in the router until that task is next on its PE: until start +
    launch of a LAUNCHED task, until `free` of an ACTIVATED one. Then it requests the ramp in, and the message goes on.
    A multicast waits too, since a router passes a wavelet to all its outputs or to none.
Queues
    A router holds at most q wavelets of a message. If the head goes on at g(p + k), link p still has w - k q wavelets
    to pass. This delays `free` only if the head waited or turned, or if a queue holds less than a hop's wavelets.
Assumptions
    Arbitration is by message: a link belongs to one message from its grant until it is free. The hardware takes
    wavelets of several colours in turn. A late grant of a ramp in does not delay the other drops of a multicast. A head
    that waits further on does not delay the tails of drops that it has passed.

With `free_links` no ramp and no link is ever busy. A run minus a run with free links is the cost of congestion. Tasks
that cannot finish raise DeadlockError.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from wsesim.engine.errors import DeadlockError, ProfileError
from wsesim.engine.flow import event_loop, loads
from wsesim.engine.flow.deadlock import Stand, deadlock
from wsesim.engine.flow.records import LINK, MESSAGE, PE, TASK, TIMES, Constants, Records, World, records
from wsesim.engine.flow.state import NEVER, Requests, State
from wsesim.engine.flow.timeline import Timeline
from wsesim.engine.graph.taskgraph import NO_PORTS, STREAM, Int32, Int64, TaskGraph, steps
from wsesim.engine.graph.verify import verify_streams
from wsesim.machine import Fabric

Kernel: TypeAlias = Callable[[World, Constants], None]


def simulate(
    graph: TaskGraph,
    fabric: Fabric,
    port_head: Int64 = NO_PORTS,
    port_tail: Int64 = NO_PORTS,
    state: State | None = None,
    *,
    free_links: bool = False,
    kernel: Kernel = event_loop.run,
) -> Timeline:
    """Times of everything in the graph, which obeys the rules of `verify`.

    port_head, port_tail [I]: cycles at which the first and the last wavelet of each external input are there.
    state: where the run begins, not changed; None is `State.idle`.
    Raises ProfileError (arguments do not suit each other), TaskGraphError (see `verify_streams`) and DeadlockError.
    """
    state = State.idle(graph.columns, graph.rows) if state is None else state
    check_arguments(graph, fabric, port_head, port_tail, state)
    world = load(graph, fabric, port_head, port_tail, state)
    kernel(world, constants(fabric, free_links, state))
    if (world.pes["next_task"] < world.pes["last_task"]).any():  # a message that is stuck leaves its task waiting
        raise _deadlock(graph, world)
    return _timeline(graph, world, port_head, port_tail, state)


def check_arguments(graph: TaskGraph, fabric: Fabric, port_head: Int64, port_tail: Int64, state: State) -> None:
    """Raises ProfileError for arguments that `simulate` cannot run with, TaskGraphError for streams that might jam."""
    ports = graph.port_task.size
    if port_head.size != ports or port_tail.size != ports:
        raise ProfileError(
            f"the graph has {ports} ports, but {port_head.size} heads and {port_tail.size} tails are given"
        )
    early = np.flatnonzero(port_tail < port_head)
    if early.size:
        raise ProfileError(f"port {early[0]}: its tail ({port_tail[early[0]]}) is before its head")
    if (state.columns, state.rows) != (graph.columns, graph.rows):
        raise ProfileError(
            f"a State of {state.columns} x {state.rows} PEs for a graph of {graph.columns} x {graph.rows}"
        )
    verify_streams(graph, fabric.queue_wavelets)
    if fabric.hop_cycles < 1 or fabric.ramp_send_cycles + fabric.ramp_receive_cycles < 1:
        raise ProfileError("hop_cycles, and ramp_send_cycles + ramp_receive_cycles, must be at least 1")


def constants(fabric: Fabric, free_links: bool, state: State) -> Constants:
    """The Fabric and the options of a run from `state`."""
    queue_cycles = fabric.queue_wavelets * fabric.wavelet_numerator // fabric.wavelet_denominator
    return Constants(
        hop_cycles=fabric.hop_cycles,
        ramp_send_cycles=fabric.ramp_send_cycles,
        ramp_receive_cycles=fabric.ramp_receive_cycles,
        turn_cycles=fabric.turn_cycles,
        wavelet_numerator=fabric.wavelet_numerator,
        wavelet_denominator=fabric.wavelet_denominator,
        queue_wavelets=fabric.queue_wavelets,
        shallow=queue_cycles < fabric.hop_cycles,
        free_links=free_links,
        origin=int(state.pe_free.min()),  # nothing happens before: a task starts when its PE is free
    )


def load(graph: TaskGraph, fabric: Fabric, port_head: Int64, port_tail: Int64, state: State) -> World:
    """The records of a run of the graph."""
    counts = np.zeros(event_loop.WAITING + event_loop.LEVELS, np.int64)
    counts[event_loop.RELEASED] = -1
    streams = bool(graph.drop_sink.any())
    return World(
        tasks=_tasks(graph, port_head, port_tail),
        missing=_missing(graph),
        messages=_messages(graph, fabric),
        ramps=records(graph.message_count, TIMES),
        drops=records(graph.drop_count, TIMES),
        drop_hop=graph.drop_hop,
        drop_task=np.where(graph.drop_sink == STREAM, ~graph.drop_task, graph.drop_task),
        parked=np.full(graph.task_count if streams else 0, -1, np.int32),
        pes=_pes(graph, state),
        links=_links(state),
        first=np.full((event_loop.LEVELS, event_loop.SLOTS), -1, np.int32),
        last=np.empty((event_loop.LEVELS, event_loop.SLOTS), np.int32),
        next=np.empty(graph.message_count, np.int32),
        batch=np.empty(graph.message_count, np.int32),
        scratch=np.empty(graph.message_count, np.int32),
        counts=counts,
    )


def _tasks(graph: TaskGraph, port_head: Int64, port_tail: Int64) -> Records:
    tasks = records(graph.task_count + 1, TASK)
    timing = graph.launch, graph.work, graph.delay, graph.start, graph.streams
    loads.load_tasks(tasks, *timing, graph.out_ptr)
    np.maximum.at(tasks["begin"], graph.port_task, port_head)
    np.maximum.at(tasks["end"], graph.port_task, port_tail)
    return tasks


def _missing(graph: TaskGraph) -> Int32:
    missing = np.zeros(graph.task_count, np.int32)
    loads.count_inputs(missing, graph.drop_task)
    return missing


def _messages(graph: TaskGraph, fabric: Fabric) -> Records:
    messages = records(graph.message_count, MESSAGE)
    legs = graph.direction1, graph.hops1, graph.direction2, graph.hops2
    loads.load_routes(messages, graph.pe, graph.source, *legs, steps(graph.columns))
    rate = fabric.wavelet_numerator, fabric.wavelet_denominator, fabric.queue_wavelets
    loads.load_lengths(messages, graph.wavelets, graph.shares_ramp, graph.drop_ptr, graph.drop_hop, *rate)
    return messages


def _pes(graph: TaskGraph, state: State) -> Records:
    pes, programs = records(graph.pes, PE), graph.pe_ptr()
    pes["free"], pes["ramp_out_free"], pes["ramp_in_free"] = state.pe_free, state.ramp_out_free, state.ramp_in_free
    pes["ramp_first_request"] = pes["ramp_last_request"] = NEVER
    pes["next_task"], pes["last_task"] = programs[:-1], programs[1:]
    return pes


def _links(state: State) -> Records:
    links = records(state.link_free.size, LINK)
    loads.load_links(links, state.link_free)
    return links


def _deadlock(graph: TaskGraph, world: World) -> DeadlockError:
    done = world.pes["next_task"] - graph.pe_ptr()[:-1]
    delivered = np.arange(graph.drop_count) < world.messages["drop"][graph.drop_message()]
    return deadlock(graph, Stand(done, delivered, _link_owners(world), _consumers(world)))


def _consumers(world: World) -> Int32:
    """Task that each message waits for in a router, -1 if it waits for none: [M]."""
    consumers = np.full(world.messages.size, -1, np.int32)
    for task in np.flatnonzero(world.parked >= 0):
        number = world.parked[task]
        while number >= 0:
            consumers[number] = task
            number = world.next[number]
    return consumers


def _link_owners(world: World) -> Int32:
    """Message that holds the link which each message waits for, -1 if it waits for none: [M]."""
    owners = np.full(world.messages.size, -1, np.int32)
    for link in world.links[world.links["first_waiter"] >= 0]:
        waiter = link["first_waiter"]
        while waiter >= 0:
            owners[waiter] = link["owner"]
            waiter = world.next[waiter]
    return owners


def _timeline(graph: TaskGraph, world: World, port_head: Int64, port_tail: Int64, state: State) -> Timeline:
    pes, links = world.pes, world.links
    after = State(
        state.columns,
        state.rows,
        pe_free=pes["free"].copy(),
        ramp_out_free=pes["ramp_out_free"].copy(),
        ramp_in_free=pes["ramp_in_free"].copy(),
        link_free=links["free"].copy(),
    )
    start, begin, end = np.empty((3, graph.task_count), np.int64)
    loads.store_tasks(world.tasks, graph.pe, state.pe_free, start, begin, end)
    return Timeline(
        task_start=start,
        task_begin=begin,
        task_end=end,
        message_head=world.ramps["head"].copy(),
        message_tail=world.ramps["tail"].copy(),
        drop_head=world.drops["head"].copy(),
        drop_tail=world.drops["tail"].copy(),
        port_head=port_head,
        port_tail=port_tail,
        state_after=after,
        requests=Requests(
            pes["ramp_first_request"].copy(),
            pes["ramp_last_request"].copy(),
            links["first_request"].copy(),
            links["last_request"].copy(),
        ),
        link_events=int(world.counts[event_loop.LINK_EVENTS]),
    )
