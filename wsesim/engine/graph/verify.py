"""The rules of a TaskGraph, as a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wsesim.engine.errors import TaskGraphError
from wsesim.engine.graph.taskgraph import (
    ACTIVATED,
    BLOCKING,
    STREAM,
    Int32,
    Int64,
    TaskGraph,
    route_position,
)
from wsesim.engine.graph.verify_kernels import drops_obey, messages_obey, tasks_obey

Mask = npt.NDArray[np.bool_]


def verify(graph: TaskGraph) -> None:
    """Raises TaskGraphError for the first rule that the graph breaks; it names a task that does so.

    Tasks that wait for each other in a cycle are found by `simulate`, which raises DeadlockError.
    """
    _check_lengths(graph)
    if obeys(graph):
        return
    for rule in RULES:
        broken = rule.broken_by(graph)
        if broken.size:
            raise TaskGraphError(f"{_describe(graph, int(broken[0]))}: {rule.text} ({broken.size} break this rule)")


def obeys(graph: TaskGraph) -> bool:
    """Whether the graph breaks none of the rules."""
    g, legs = graph, (graph.direction1, graph.hops1, graph.direction2, graph.hops2)
    named = (task for tasks in (g.port_task, g.outputs) for task in (tasks.min(initial=0), tasks.max(initial=0)))
    return (
        all(0 <= task < max(g.task_count, 1) for task in named)
        and tasks_obey(g.pe, g.pes, g.launch, g.work, g.delay, g.start)
        and _in_range(g.operation, len(g.operations))
        and int(g.colour.min(initial=0)) >= 0
        and messages_obey(g.columns, g.rows, g.pe, g.source, g.wavelets, legs, g.shares_ramp, g.drop_ptr)
        and drops_obey(
            g.columns, g.rows, g.pe, g.start, g.source, legs, g.drop_ptr, g.drop_hop, g.drop_task, g.drop_sink
        )
    )


def _in_range(numbers: Int32, count: int) -> bool:
    return int(numbers.min(initial=0)) >= 0 and int(numbers.max(initial=-1)) < count


def _check_lengths(graph: TaskGraph) -> None:
    """Raises TaskGraphError for an array whose length differs from the count of tasks, messages or drops."""
    lengths = {name: graph.task_count for name in ("operation", "start", "streams", "launch", "work", "delay")}
    lengths |= {name: graph.message_count for name in ("wavelets", "direction1", "hops1", "direction2", "hops2")}
    lengths |= {name: graph.message_count for name in ("shares_ramp", "colour")}
    lengths |= {name: graph.drop_count for name in ("drop_hop", "drop_sink")}
    lengths |= {"out_ptr": graph.task_count + 1, "drop_ptr": graph.message_count + 1}
    for name, length in lengths.items():
        if getattr(graph, name).size != length:
            raise TaskGraphError(f"{name} has {getattr(graph, name).size} entries, where the graph needs {length}")


def verify_streams(graph: TaskGraph, queue_wavelets: int) -> None:
    """Raises TaskGraphError for a drop with a STREAM sink that might jam.

    A stream might jam if it is longer than the queues of the routers on its way (`queue_wavelets` each), and if its
    task may have to wait for other PEs than its sender. The task waits for no other PE if all tasks before it on its PE
    wait only for messages that the sender's PE sends before this one.
    """
    if not graph.drop_sink.any():
        return
    message = graph.drop_message()
    overflows = graph.wavelets[message] > queue_wavelets * graph.drop_hop.astype(np.int64)
    drops = np.flatnonzero((graph.drop_sink == STREAM) & overflows)
    jams = drops[~_next_for_certain(graph, graph.drop_task[drops], graph.source[message[drops]])]
    if jams.size:
        drop = int(jams[0])
        raise TaskGraphError(
            f"{graph.describe(int(graph.drop_task[drop]))}: a stream of {graph.wavelets[message[drop]]} wavelets from "
            f"{graph.describe(int(graph.source[message[drop]]))} does not fit into {graph.drop_hop[drop]} queues of "
            f"{queue_wavelets}, so the tasks before its task may wait only for messages that the same PE sends "
            f"before; let its sink be MEMORY, or its task come earlier ({jams.size} break this rule)"
        )


def _next_for_certain(graph: TaskGraph, consumer: Int32, source: Int32) -> Mask:
    """Whether the tasks before each consumer wait only for tasks before its source, on the PE of the source."""
    fed, feeding = graph.drop_task, graph.source[graph.drop_message()]
    lowest, highest = np.full(graph.task_count, graph.task_count), np.full(graph.task_count, -1)
    np.minimum.at(lowest, fed, feeding)
    np.maximum.at(highest, fed, feeding)
    before_low = graph.task_count - _running_maximum(graph, graph.task_count - lowest)
    before_high = _running_maximum(graph, highest + 1) - 1
    own: Int64 = graph.pe_ptr()[graph.pe[source]].astype(np.int64)
    previous = np.maximum(consumer - 1, 0)
    first = graph.pe[previous] != graph.pe[consumer]
    first |= consumer == 0
    certain: Mask = first | ((before_low[previous] >= own) & (before_high[previous] < source))
    return certain


def _running_maximum(graph: TaskGraph, values: Int64) -> Int64:
    """The largest of the values, from 0 to T, of each task and those before it on its PE."""
    base = graph.pe.astype(np.int64) * (graph.task_count + 1)
    running: Int64 = np.maximum.accumulate(values + base) - base
    return running


@dataclass(frozen=True, slots=True)
class Rule:
    """`broken_by` gives the tasks that break the rule. A rule may rely on those above it in the table."""

    text: str
    broken_by: Callable[[TaskGraph], Int32]


def _describe(graph: TaskGraph, task: int) -> str:
    if not 0 <= task < graph.task_count:
        return f"task {task} of {graph.task_count}"
    if not 0 <= graph.operation[task] < len(graph.operations):
        return f"task {task} of operation {graph.operation[task]} of {len(graph.operations)}"
    if not 0 <= graph.pe[task] < graph.pes:
        return f"{graph.operation_of(task).label} at PE {graph.pe[task]} of {graph.columns} x {graph.rows}"
    return graph.describe(task)


def _tasks(mask: Mask) -> Int32:
    return np.flatnonzero(mask).astype(np.int32)


def _senders(graph: TaskGraph, messages: Mask | np.bool_ | Int32) -> Int32:
    sources: Int32 = graph.source[messages]
    return sources


def _unknown_tasks(graph: TaskGraph) -> Int32:
    named = np.concatenate((graph.source, graph.drop_task, graph.port_task, graph.outputs))
    unknown: Int32 = named[(named < 0) | (named >= graph.task_count)]
    return unknown


def _outside(graph: TaskGraph) -> Int32:
    return _tasks((graph.pe < 0) | (graph.pe >= graph.pes))


def _unsorted(graph: TaskGraph) -> Int32:
    return _tasks(np.diff(graph.pe, prepend=graph.pe[:1]) < 0)


def _bad_cost(graph: TaskGraph) -> Int32:
    return _tasks((graph.launch < 0) | (graph.work < 0) | (graph.delay < 0))


def _bad_code(graph: TaskGraph) -> Int32:
    known_operation = (graph.operation >= 0) & (graph.operation < len(graph.operations))
    known_start = (graph.start >= 0) & (graph.start <= ACTIVATED)
    return _tasks(~(known_operation & known_start))


def _bad_colour(graph: TaskGraph) -> Int32:
    return _senders(graph, graph.colour < 0)


def _empty_message(graph: TaskGraph) -> Int32:
    return _senders(graph, graph.wavelets <= 0)


def _bad_hops(graph: TaskGraph) -> Int32:
    return _senders(graph, (graph.hops1 < 1) | (graph.hops2 < 0))


def _bad_direction(graph: TaskGraph) -> Int32:
    directions = np.stack((graph.direction1, graph.direction2))
    return _senders(graph, ((directions < 0) | (directions > 3)).any(axis=0))


def _not_perpendicular(graph: TaskGraph) -> Int32:
    same_axis = graph.direction1 // 2 == graph.direction2 // 2
    return _senders(graph, (graph.hops2 > 0) & same_axis)


def _leaves_mesh(graph: TaskGraph) -> Int32:
    message = np.arange(graph.message_count, dtype=np.int32)
    leaves = np.zeros(message.size, np.bool_)
    for hop in (graph.hops1, graph.hops1 + graph.hops2):
        x, y = route_position(graph, message, hop)
        leaves |= (x < 0) | (x >= graph.columns) | (y < 0) | (y >= graph.rows)
    return _senders(graph, leaves)


def _never_dropped(graph: TaskGraph) -> Int32:
    return _senders(graph, np.diff(graph.drop_ptr) < 1)


def _bad_last_drop(graph: TaskGraph) -> Int32:
    last = graph.drop_hop[graph.drop_ptr[1:] - 1]
    return _senders(graph, last != graph.hops1 + graph.hops2)


def _drops_not_ascending(graph: TaskGraph) -> Int32:
    message = graph.drop_message()
    previous = np.concatenate((np.zeros(1, np.int32), graph.drop_hop[:-1]))[: message.size]
    first = np.concatenate((np.ones(1, np.bool_), message[1:] != message[:-1]))[: message.size]
    return _senders(graph, message[graph.drop_hop <= np.where(first, 0, previous)])


def _dropped_elsewhere(graph: TaskGraph) -> Int32:
    x, y = route_position(graph, graph.drop_message(), graph.drop_hop)
    elsewhere: Int32 = graph.drop_task[y * graph.columns + x != graph.pe[graph.drop_task]]
    return elsewhere


def _bad_sink(graph: TaskGraph) -> Int32:
    unknown: Int32 = graph.drop_task[(graph.drop_sink < 0) | (graph.drop_sink > STREAM)]
    return unknown


def _waits_for_what_it_has_to_take(graph: TaskGraph) -> Int32:
    waiting: Int32 = graph.drop_task[(graph.drop_sink == STREAM) & (graph.start[graph.drop_task] == BLOCKING)]
    return waiting


def _shares_nothing(graph: TaskGraph) -> Int32:
    def differs(field: npt.NDArray[np.integer]) -> Mask:
        return np.asarray(np.diff(field, prepend=field[:1] - 1) != 0)

    alone = differs(graph.source) | differs(graph.wavelets)
    return _senders(graph, (graph.shares_ramp != 0) & alone)


RULES = (
    Rule("messages, drops, ports and outputs name tasks of the graph", _unknown_tasks),
    Rule("a task stands on a PE of the mesh", _outside),
    Rule("tasks are sorted by PE", _unsorted),
    Rule("launch, work and delay cycles are not negative", _bad_cost),
    Rule("a task has an operation of the graph, and start is BLOCKING, LAUNCHED or ACTIVATED", _bad_code),
    Rule("a message has at least one wavelet", _empty_message),
    Rule("the colour of a message is not negative", _bad_colour),
    Rule("a message goes at least one hop, and no leg is negative", _bad_hops),
    Rule("a direction is EAST, WEST, NORTH or SOUTH", _bad_direction),
    Rule("the second leg of a message is perpendicular to the first", _not_perpendicular),
    Rule("a message stays inside the mesh", _leaves_mesh),
    Rule("a message is dropped at least once", _never_dropped),
    Rule("the last drop of a message is at its last router", _bad_last_drop),
    Rule("the drops of a message are at ascending hops, from 1 on", _drops_not_ascending),
    Rule("a drop feeds a task on the PE of its router", _dropped_elsewhere),
    Rule("the sink of a drop is MEMORY or STREAM", _bad_sink),
    Rule(
        "a task that receives a STREAM is LAUNCHED or ACTIVATED: BLOCKING, it would wait for what it has to receive",
        _waits_for_what_it_has_to_take,
    ),
    Rule("a message shares the ramp pass of the previous message of its task, of equal length", _shares_nothing),
)
