"""Explanation: what each step from the simplest placement to the best one bought, and what wide blocks cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from wsesim.report.placement_figures import PlacementFigures
from wsesim.tables import Table

SHORTER = 0.97  # a layer that is faster by less is about as fast


@dataclass(frozen=True, slots=True)
class Improvement:
    """A placement that differs from the one before in one respect: `what`."""

    what: str
    figures: PlacementFigures


@dataclass(frozen=True, slots=True)
class Sharing:
    """The best candidate with so many layers per block, by prices.

    layer_cycles    of one layer on its block
    busiest_cycles  of the busiest block for each token: no two tokens follow each other faster
    """

    layers: float
    columns: int
    rows: int
    layer_cycles: int
    cycles: int
    busiest_cycles: int


@dataclass(frozen=True, slots=True)
class Explanation:
    """`steps` from the simplest placement to the best; `row_major_cycles` of the best one's blocks without serpentine.

    `sharings` are sorted by layers per block.
    """

    steps: tuple[Improvement, ...]
    sharings: tuple[Sharing, ...]
    row_major_cycles: int | None
    clock_hz: float

    def to_json(self) -> dict[str, Any]:
        return {
            "steps": [{"what": step.what} | step.figures.to_json() for step in self.steps],
            "layers_per_block": [dataclasses.asdict(sharing) for sharing in self.sharings],
            "row_major_cycles": self.row_major_cycles,
        }

    def tables(self) -> Iterator[Table]:
        """What `wsesim search --explain` prints."""
        yield self._bought()
        yield self._shared()
        yield Table("", notes=tuple(self.sentences()))

    def sentences(self) -> Iterator[str]:
        """Why the blocks are as wide as they are, in words."""
        if self.row_major_cycles is not None:
            more = self.row_major_cycles - self.steps[-1].figures.cycles
            yield f"Order: in rows that all run from west to east, the best blocks would take {more:+,} cycles."
        if len(self.sharings) < 2:
            return
        fast = min(self.sharings, key=lambda sharing: sharing.cycles)
        busy = min(self.sharings, key=lambda sharing: sharing.busiest_cycles)
        if fast is busy:
            return
        sizes = (
            f"Latency: a layer takes {busy.layer_cycles:,} cycles on {busy.columns} x {busy.rows} PEs and "
            f"{fast.layer_cycles:,} on {fast.columns} x {fast.rows}."
        )
        if fast.layer_cycles < SHORTER * busy.layer_cycles:
            yield f"{sizes} More PEs have smaller shares of each product, though their lines are longer."
        else:
            yield f"{sizes} That is about the same. Fewer blocks have fewer transfers between them, and faster tables."
        yield (
            f"Throughput: a block with {_layers(fast.layers)} is busy for {fast.busiest_cycles:,} cycles with each "
            f"token, one with {_layers(busy.layers)} for {busy.busiest_cycles:,}. Tokens of different sequences follow "
            f"each other at this distance: at most {self.clock_hz / fast.busiest_cycles:,.0f} and "
            f"{self.clock_hz / busy.busiest_cycles:,.0f} tokens/s."
        )

    def _bought(self) -> Table:
        rows = [("step", "cycles a token", "change", "tokens/s, all sequences")]
        before: int | None = None
        for step in self.steps:
            own = step.figures
            change = "" if before is None else f"{own.cycles - before:+,} ({100 * (own.cycles / before - 1):+.1f} %)"
            rows.append((step.what, f"{own.cycles:,}", change, f"{own.tokens_per_second:,.0f}"))
            before = own.cycles
        return Table("what each step bought", tuple(rows), heading=True)

    def _shared(self) -> Table:
        rows = [("layers per block", "PEs", "cycles a layer", "cycles a token", "busiest block")]
        rows += [
            (
                f"{own.layers:g}",
                f"{own.columns} x {own.rows}",
                f"{own.layer_cycles:,}",
                f"{own.cycles:,}",
                f"{own.busiest_cycles:,}",
            )
            for own in self.sharings
        ]
        return Table("layers per block: the best candidate of each, by prices", tuple(rows), heading=True)


def _layers(count: float) -> str:
    return "half a layer" if count == 0.5 else "1 layer" if count == 1 else f"{count:g} layers"
