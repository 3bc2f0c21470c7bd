"""Compiled passes that fill the records of a run from a TaskGraph, and read them out again.

NumPy would fill field by field, in a dozen passes over the same memory. That took as long as the run. The twins are in
`reference_loads.py`.
"""

from __future__ import annotations

from typing import Any

from wsesim.engine.flow.state import NEVER
from wsesim.engine.graph.taskgraph import LAUNCHED
from wsesim.jit import njit

compiled = njit(_nrt=False)


@compiled
def load_tasks(tasks: Any, launch: Any, work: Any, delay: Any, start: Any, streams: Any, out_ptr: Any) -> None:
    for t in range(launch.size):
        task = tasks[t]
        task.begin = NEVER
        task.end = NEVER
        task.launch = launch[t]
        task.work = work[t]
        task.first_message = out_ptr[t]
        task.start = start[t]
        task.streams = streams[t]
        task.delay = delay[t]
    tasks[launch.size].first_message = out_ptr[launch.size]


@compiled
def count_inputs(missing: Any, drop_task: Any) -> None:
    """Adds to `missing` [T] the drops that feed each task."""
    for d in range(drop_task.size):
        missing[drop_task[d]] += 1


@compiled
def load_routes(
    messages: Any, pe: Any, source: Any, direction1: Any, hops1: Any, direction2: Any, hops2: Any, steps: Any
) -> None:
    """`steps` [4]: distance in PE numbers of one hop in each direction."""
    for m in range(messages.size):
        message = messages[m]
        message.router = pe[source[m]]
        message.position = 0
        message.hops1 = hops1[m]
        message.hops = hops1[m] + hops2[m]
        message.direction1 = direction1[m]
        message.direction2 = direction2[m]
        message.step1 = steps[direction1[m]]
        message.step2 = steps[direction2[m]]
        message.turn_due = 1 if hops2[m] > 0 else 0


@compiled
def load_lengths(
    messages: Any,
    wavelets: Any,
    shares_ramp: Any,
    drop_ptr: Any,
    drop_hop: Any,
    numerator: int,
    denominator: int,
    queue: int,
) -> None:
    """A wavelet takes `numerator / denominator` cycles; a router holds `queue` of them."""
    for m in range(messages.size):
        message = messages[m]
        message.wavelets = wavelets[m]
        message.duration = -(-wavelets[m] * numerator // denominator)
        message.window = (wavelets[m] - 1) // queue
        message.shares_ramp = shares_ramp[m]
        message.drop = drop_ptr[m]
        message.drop_position = drop_hop[drop_ptr[m]]


@compiled
def load_links(links: Any, free: Any) -> None:
    for i in range(links.size):
        link = links[i]
        link.free = free[i]
        link.first_request = NEVER
        link.last_request = NEVER
        link.owner = -1
        link.first_waiter = -1


@compiled
def store_tasks(tasks: Any, pe: Any, free: Any, start: Any, begin: Any, end: Any) -> None:
    """Fills the times of all tasks [T]. `free` [PEs]: when the first task of each program can start."""
    for t in range(pe.size):
        task = tasks[t]
        begin[t] = task.begin
        end[t] = task.end
        if task.start != LAUNCHED:
            start[t] = task.begin - task.launch
        elif t > 0 and pe[t - 1] == pe[t]:
            start[t] = end[t - 1]
        else:
            start[t] = free[pe[t]]
