"""simulate(TaskGraph, Fabric, port times, State) -> Timeline, in `flow` fidelity.

A message is a head and a tail on every link; its wavelets in between are not followed one by one.

PEs
    A PE runs its tasks in program order; `free` is the end of the previous task (at first, of the State). H
    and T are the latest head and the latest tail of a task's inputs (minus infinity without inputs).
        BLOCKING   start = max(free, T)  begin = start + launch              end = begin + work + delay
        LAUNCHED   start = free          begin = max(start + launch, H)      end = max(begin + work, T) + delay
        ACTIVATED  start = max(free, H)  begin = start + launch              end = max(begin + work, T) + delay
    The sink of a message is memory: a microthread takes it in, whatever the PE is doing.
Messages
    The head of a message leaves at `head_out`: begin + delay of a task that streams, else its end. On a link a
    message of w wavelets lasts D = ceil(w * numerator / denominator) cycles; that of a streaming task is not
    complete before the task is: tail_out = max(head_out + D, end).
    The ramp out is one per PE and serves messages in program order: r = max(head_out, ramp_out_free), and
    ramp_out_free = max(r + D, tail_out). A message that shares the ramp has the r of the one before, and no
    pass of its own. It never waits for the links behind it: a PE's memory holds what has not left.
    The first link is requested at r + ramp_send, with tail_-1 + hop = max(r + D, tail_out) + ramp_send.
Links
    A link (one per router and direction) belongs to one message from its grant g until it is free. The head
    is at the next router at g + hop, where it requests the next link, after a turn `turn` cycles later.
        tail_p = max(g_p + D, tail_(p-1) + hop)
    Requests are served first come first served: in the order of (cycle, source PE, position of the message
    among those of its PE), which is the order of events. There is one kind of event, the head at a router.
    Queues are finite. A router holds at most q wavelets of a message, so when the head goes on at g from
    position p (to a link, or into a ramp in), the link k routers behind has w - k * q wavelets still to pass.
    A link is free at
        max(tail_p, g_(p+k) + ceil((w - k * q) * numerator / denominator) for k >= 1 while k * q < w)
    and nobody gets it before that is known. A turn counts as a wait: what follows the head fills the queues.
Ramps in
    A drop requests the ramp into its PE when the head is at the router; the ramp is busy for D from g on.
        head at the PE = g + ramp_receive      tail = max(g + D, tail_(p-1) + hop) + ramp_receive
    A late grant holds the links behind it as above. Assumed: it does not delay the other drops of a
    multicast, and a head that waits further on does not delay the tails of drops that it has passed.
`free_links`: no ramp and no link is ever busy. A run minus a run with free links is the cost of congestion.

All integers. Tasks that cannot finish raise DeadlockError.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from wsesim.engine import kernels, records
from wsesim.engine.deadlock import deadlock
from wsesim.engine.errors import ProfileError
from wsesim.engine.records import Constants, Records, World
from wsesim.engine.state import NEVER, Requests, State
from wsesim.engine.taskgraph import Int32, Int64, TaskGraph, step_of
from wsesim.engine.timeline import Timeline
from wsesim.machine import Fabric

Kernel: TypeAlias = Callable[[World, Constants], None]


def simulate(
    graph: TaskGraph,
    fabric: Fabric,
    port_head: Int64,
    port_tail: Int64,
    state: State | None = None,
    *,
    free_links: bool = False,
    kernel: Kernel = kernels.run,
) -> Timeline:
    """Times of everything in the graph, which obeys the rules of `verify`.

    port_head, port_tail [I]: cycles at which the first and the last wavelet of each external input are there.
    state: where the run begins, not changed; None is `State.idle`.
    Raises ProfileError (arguments do not suit each other) and DeadlockError.
    """
    state = State.idle(graph.columns, graph.rows) if state is None else state
    check_arguments(graph, fabric, port_head, port_tail, state)
    world = _world(graph, fabric, port_head, port_tail, state)
    kernel(world, _constants(fabric, free_links, state))
    if (world.pes.next_task < world.pes.last_task).any() or (world.messages.position < world.messages.hops).any():
        raise deadlock(graph, world.pes.next_task - graph.pe_ptr()[:-1], _link_owners(world))
    return _timeline(world, port_head, port_tail, state)


def check_arguments(graph: TaskGraph, fabric: Fabric, port_head: Int64, port_tail: Int64, state: State) -> None:
    """Raises ProfileError for arguments that `simulate` cannot run with."""
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
    if fabric.hop_cycles < 1 or fabric.ramp_send_cycles + fabric.ramp_receive_cycles < 1:
        raise ProfileError("hop_cycles, and ramp_send_cycles + ramp_receive_cycles, must be at least 1")


def _constants(fabric: Fabric, free_links: bool, state: State) -> Constants:
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


def _world(graph: TaskGraph, fabric: Fabric, port_head: Int64, port_tail: Int64, state: State) -> World:
    counts = np.zeros(kernels.WAITING + kernels.LEVELS, np.int64)
    counts[kernels.RELEASED] = -1
    return World(
        tasks=_tasks(graph, port_head, port_tail),
        messages=_messages(graph, fabric),
        ramps=_records(graph.message_count, records.RAMP_OUT),
        drops=_records(graph.drop_count, records.DROP, hop=graph.drop_hop, task=graph.drop_task),
        pes=_pes(graph, state),
        links=_links(state),
        first=np.full((kernels.LEVELS, kernels.SLOTS), -1, np.int32),
        last=np.empty((kernels.LEVELS, kernels.SLOTS), np.int32),
        next=np.empty(graph.message_count, np.int32),
        batch=np.empty(graph.message_count, np.int32),
        scratch=np.empty(graph.message_count, np.int32),
        counts=counts,
    )


def _records(size: int, dtype: np.dtype[Any], **fields: Any) -> Records:
    array = np.zeros(size, dtype)
    for name, values in fields.items():
        array[name] = values
    return array.view(np.recarray)


def _tasks(graph: TaskGraph, port_head: Int64, port_tail: Int64) -> Records:
    tasks = _records(
        graph.task_count,
        records.TASK,
        head=NEVER,
        tail=NEVER,
        launch=graph.launch,
        work=graph.work,
        delay=graph.delay,
        missing=graph.input_counts() - np.bincount(graph.port_task, minlength=graph.task_count),
        first_message=graph.out_ptr[:-1],
        last_message=graph.out_ptr[1:],
        start=graph.start,
        streams=graph.streams,
    )
    np.maximum.at(tasks["head"], graph.port_task, port_head)
    np.maximum.at(tasks["tail"], graph.port_task, port_tail)
    return tasks


def _messages(graph: TaskGraph, fabric: Fabric) -> Records:
    cycles = graph.wavelets.astype(np.int64) * fabric.wavelet_numerator
    return _records(
        graph.message_count,
        records.MESSAGE,
        duration=-(-cycles // fabric.wavelet_denominator),
        window=(graph.wavelets - 1) // fabric.queue_wavelets,
        wavelets=graph.wavelets,
        router=graph.pe[graph.source],
        hops1=graph.hops1,
        hops=graph.hops1 + graph.hops2,
        drop=graph.drop_ptr[:-1],
        step1=step_of(graph.direction1, graph.columns),
        step2=step_of(graph.direction2, graph.columns),
        direction1=graph.direction1,
        direction2=graph.direction2,
        turn_due=graph.hops2 > 0,
        shares_ramp=graph.shares_ramp,
    )


def _pes(graph: TaskGraph, state: State) -> Records:
    programs = graph.pe_ptr()
    return _records(
        graph.pes,
        records.PE,
        free=state.pe_free,
        ramp_out_free=state.ramp_out_free,
        ramp_in_free=state.ramp_in_free,
        ramp_first_request=NEVER,
        ramp_last_request=NEVER,
        next_task=programs[:-1],
        last_task=programs[1:],
    )


def _links(state: State) -> Records:
    return _records(
        state.link_free.size,
        records.LINK,
        free=state.link_free,
        first_request=NEVER,
        last_request=NEVER,
        owner=-1,
        first_waiter=-1,
    )


def _link_owners(world: World) -> Int32:
    """Message that holds the link which each message waits for, -1 if it waits for none: [M]."""
    owners = np.full(world.messages.size, -1, np.int32)
    for link in np.flatnonzero(world.links.first_waiter >= 0):
        waiter = world.links.first_waiter[link]
        while waiter >= 0:
            owners[waiter] = world.links.owner[link]
            waiter = world.next[waiter]
    return owners


def _timeline(world: World, port_head: Int64, port_tail: Int64, state: State) -> Timeline:
    after = State(
        state.columns,
        state.rows,
        pe_free=world.pes.free.copy(),
        ramp_out_free=world.pes.ramp_out_free.copy(),
        ramp_in_free=world.pes.ramp_in_free.copy(),
        link_free=world.links.free.copy(),
    )
    return Timeline(
        task_start=world.tasks.start_cycle.copy(),
        task_begin=world.tasks.begin.copy(),
        task_end=world.tasks.end.copy(),
        message_head=world.ramps.head.copy(),
        message_tail=world.ramps.tail.copy(),
        drop_head=world.drops.head.copy(),
        drop_tail=world.drops.tail.copy(),
        port_head=port_head,
        port_tail=port_tail,
        state_after=after,
        requests=Requests(
            world.pes.ramp_first_request.copy(),
            world.pes.ramp_last_request.copy(),
            world.links.first_request.copy(),
            world.links.last_request.copy(),
        ),
        link_events=int(world.counts[kernels.LINK_EVENTS]),
    )
