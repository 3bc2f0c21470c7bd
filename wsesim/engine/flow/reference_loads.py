"""The twins of `loads.py` in NumPy: same names and arguments."""

from __future__ import annotations

from typing import Any

import numpy as np

from wsesim.engine.flow.state import NEVER
from wsesim.engine.graph.taskgraph import LAUNCHED


def load_tasks(tasks: Any, launch: Any, work: Any, delay: Any, start: Any, streams: Any, out_ptr: Any) -> None:
    own = tasks[:-1]
    own["begin"] = own["end"] = NEVER
    own["launch"], own["work"], own["delay"] = launch, work, delay
    own["start"], own["streams"] = start, streams
    tasks["first_message"] = out_ptr


def count_inputs(missing: Any, drop_task: Any) -> None:
    np.add.at(missing, drop_task, 1)


def load_routes(
    messages: Any, pe: Any, source: Any, direction1: Any, hops1: Any, direction2: Any, hops2: Any, steps: Any
) -> None:
    messages["router"], messages["position"] = pe[source], 0
    messages["hops1"], messages["hops"] = hops1, hops1 + hops2
    messages["direction1"], messages["direction2"] = direction1, direction2
    messages["step1"], messages["step2"] = steps[direction1], steps[direction2]
    messages["turn_due"] = hops2 > 0


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
    messages["wavelets"], messages["shares_ramp"] = wavelets, shares_ramp
    messages["duration"] = -(-wavelets.astype(np.int64) * numerator // denominator)
    messages["window"] = (wavelets - 1) // queue
    messages["drop"] = drop_ptr[:-1]
    messages["drop_position"] = drop_hop[drop_ptr[:-1]]


def load_links(links: Any, free: Any) -> None:
    links["free"] = free
    links["first_request"] = links["last_request"] = NEVER
    links["owner"] = links["first_waiter"] = -1


def store_tasks(tasks: Any, pe: Any, free: Any, start: Any, begin: Any, end: Any) -> None:
    begin[:], end[:] = tasks["begin"][:-1], tasks["end"][:-1]
    first = np.diff(pe, prepend=-1) != 0
    before = np.where(first, free[pe], np.roll(end, 1))
    start[:] = np.where(tasks["start"][:-1] == LAUNCHED, before, begin - tasks["launch"][:-1])
