"""The records that a run works on: one structured array each for tasks, messages, drops, PEs and links."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

Records = Any  # a structured array: NumPy's types cannot say which fields

CACHE_LINE_BYTES: Final = 64

TASK: Final = np.dtype(
    [
        ("begin", "i8"),  # until it runs: latest head of its inputs so far
        ("end", "i8"),  # until it runs: latest tail of its inputs so far
        ("launch", "i4"),
        ("work", "i4"),
        ("first_message", "i4"),  # they end where those of the next task begin
        ("start", "i1"),
        ("streams", "i1"),
        ("delay", "i1"),
    ],
    align=True,
)
MESSAGE: Final = np.dtype(
    [
        ("cycle", "i8"),  # of its event; while it waits for a link, of its request
        ("tail", "i8"),  # when the last wavelet has passed the link behind the head
        ("duration", "i4"),
        ("window", "i4"),  # links behind the head that it may still hold
        ("wavelets", "i4"),
        ("router", "i4"),
        ("position", "i4"),  # links passed
        ("hops1", "i4"),
        ("hops", "i4"),
        ("drop", "i4"),  # the next one
        ("drop_position", "i4"),
        ("step1", "i4"),
        ("step2", "i4"),
        ("direction1", "i1"),
        ("direction2", "i1"),
        ("turn_due", "i1"),
        ("shares_ramp", "i1"),
    ],
    align=True,
)
TIMES: Final = np.dtype([("head", "i8"), ("tail", "i8")])
PE: Final = np.dtype(
    [
        ("free", "i8"),
        ("ramp_out_free", "i8"),
        ("ramp_in_free", "i8"),
        ("ramp_first_request", "i8"),
        ("ramp_last_request", "i8"),
        ("next_task", "i4"),
        ("last_task", "i4"),
    ],
    align=True,
)
LINK: Final = np.dtype(
    [
        ("free", "i8"),
        ("first_request", "i8"),
        ("last_request", "i8"),
        ("owner", "i4"),  # message that may still hold it for longer; -1 if `free` is final
        ("first_waiter", "i4"),
        ("last_waiter", "i4"),
        ("next", "i4"),  # in the list of links to hand on
    ],
    align=True,
)


def records(size: int, dtype: np.dtype[Any]) -> Records:
    """Zeros that begin at a cache line, so that a record of 64 bytes lies in one: memory limits a run."""
    memory = np.zeros(size * dtype.itemsize + CACHE_LINE_BYTES, np.uint8)
    first = -memory.ctypes.data % CACHE_LINE_BYTES
    return memory[first : first + size * dtype.itemsize].view(dtype)


class Constants(NamedTuple):
    """The Fabric and the options of a run, as the kernel takes them."""

    hop_cycles: int
    ramp_send_cycles: int
    ramp_receive_cycles: int
    turn_cycles: int
    wavelet_numerator: int
    wavelet_denominator: int
    queue_wavelets: int
    shallow: bool  # a queue holds less than a hop's worth of wavelets, so even a moving head may hold links
    free_links: bool
    origin: int  # cycle at which the calendar starts


class World(NamedTuple):
    """All arrays that the event loop reads and writes in one run. The caller allocates them."""

    tasks: Records  # [T + 1], the last one of no task
    missing: Any  # [T] int32: inputs not delivered yet
    messages: Records
    ramps: Records  # [M] TIMES of the ramp out
    drops: Records  # [D] TIMES of the ramp in
    drop_hop: Any  # of the graph
    drop_task: Any  # of the graph; ~task of a drop whose sink is STREAM
    parked: Any  # [T] int32: first of the messages that wait for each task to receive them; [0] without STREAM sinks
    pes: Records
    links: Records
    first: Any  # [LEVELS, SLOTS] int32: first event of a calendar slot, -1 if none
    last: Any
    next: Any  # [M] int32: the message after each in the list of a slot, of a link's waiters or of a task's
    batch: Any  # [M] int32: the events of the current cycle
    scratch: Any
    counts: Any  # [WAITING + LEVELS] int64
