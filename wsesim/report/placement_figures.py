"""PlacementFigures: what a placement does, as it was compiled and simulated."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class PlacementFigures:
    """A placement as it was compiled and simulated.

    cycles              of a lone decode step
    seconds_per_token   s, the same
    tokens_per_second   of all sequences of the Program together
    sequences           of the Program
    context             tokens, the longest context that fits
    prompt_seconds      s, until the first token of a prompt
    sram_bytes          of the fullest PE
    operators           cycles on the critical path of a decode step, by operator; () where they were not asked for
    late_requests       0 means exact
    least_cycles        of a decode step with any placement on this machine, whatever the software; 0 where not asked
    text                the placement file, without its head
    """

    origin: str
    cycles: int
    seconds_per_token: float
    tokens_per_second: float
    context: int
    prompt_seconds: float
    sram_bytes: int
    blocks: int
    late_requests: int
    operators: tuple[tuple[str, int], ...]
    text: str
    least_cycles: int = 0
    sequences: int = 1

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"operators": dict(self.operators)}
