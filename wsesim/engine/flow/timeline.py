"""Timeline: when everything in a TaskGraph happened."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from wsesim.engine.flow.state import Requests, State
from wsesim.engine.graph.taskgraph import Int64


@dataclass(frozen=True, slots=True, eq=False)
class Times:
    """Cycles of every task [T], message [M], drop [D] and port [I], in the order of the graph.

    task_start    the PE turns to the task
    task_begin    its work begins
    task_end      the PE is free again
    message_head  its pass of the ramp out begins
    message_tail  its last wavelet enters the ramp
    drop_head     first wavelet at the consuming PE
    drop_tail     last wavelet at the consuming PE
    port_head, port_tail    as given
    """

    task_start: Int64
    task_begin: Int64
    task_end: Int64
    message_head: Int64
    message_tail: Int64
    drop_head: Int64
    drop_tail: Int64
    port_head: Int64
    port_tail: Int64


@dataclass(frozen=True, slots=True, eq=False)
class Timeline(Times):
    """The times of a run, and its results.

    state_after  the State that it leaves
    requests     first and last requests for ramps in and links
    link_events  links granted to messages, the measure of simulated work
    """

    state_after: State
    requests: Requests
    link_events: int

    def times(self) -> Times:
        """Only the times."""
        return Times(*(getattr(self, field.name) for field in dataclasses.fields(Times)))
