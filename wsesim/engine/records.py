"""The records that a run works on: one structured array each for tasks, messages, drops, PEs and links."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

Records = Any  # a structured array: NumPy's types cannot say which fields

TASK: Final = np.dtype(
    [
        ("start_cycle", "i8"),
        ("begin", "i8"),
        ("end", "i8"),
        ("head", "i8"),  # latest head of its inputs so far
        ("tail", "i8"),
        ("launch", "i4"),
        ("work", "i4"),
        ("missing", "i4"),  # inputs not delivered yet
        ("first_message", "i4"),
        ("last_message", "i4"),
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
        ("step1", "i4"),
        ("step2", "i4"),
        ("direction1", "i1"),
        ("direction2", "i1"),
        ("turn_due", "i1"),
        ("shares_ramp", "i1"),
    ],
    align=True,
)
RAMP_OUT: Final = np.dtype([("head", "i8"), ("tail", "i8")])
DROP: Final = np.dtype([("head", "i8"), ("tail", "i8"), ("hop", "i4"), ("task", "i4")], align=True)
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
    """Arrays of one run, allocated by the caller: all that the kernel reads and changes."""

    tasks: Records
    messages: Records
    ramps: Records
    drops: Records
    pes: Records
    links: Records
    first: Any  # [LEVELS, SLOTS] int32: first event of a calendar slot, -1 if none
    last: Any
    next: Any  # [M] int32: the message after each in the list of a slot or of a link's waiters
    batch: Any  # [M] int32: the events of the current cycle
    scratch: Any
    counts: Any  # [WAITING + LEVELS] int64
