"""Policies: which waiting job gets a slot that is free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from wsesim.runtime.job import Job


@dataclass(frozen=True, slots=True)
class SlotState:
    """What a policy may know of the wafer: the clock, the number of slots, and the jobs in them by admission."""

    now_cycles: int
    slots: int
    in_flight: tuple[Job, ...]


class Policy(Protocol):
    """Chooses the next job to admit."""

    def next(self, waiting: Sequence[Job], state: SlotState) -> Job | None:
        """One of the `waiting` jobs, which are in order of arrival; None leaves the slot free.

        The Scheduler asks when a job arrives and when a slot becomes free. A slot may stay free only while another
        job is in flight.
        """
        ...


class FirstComeFirstServed:
    """Admits jobs in order of arrival."""

    def next(self, waiting: Sequence[Job], state: SlotState) -> Job | None:
        del state
        return waiting[0]
