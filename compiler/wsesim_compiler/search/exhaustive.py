"""Exhaustive: every stack of shelves, for problems of a few rows and layers. The oracle of the other algorithms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from wsesim_compiler.search.plans import Frame, Plan, Shelf
from wsesim_compiler.search.shelves import Shelves


def all_plans(shelves: Shelves, frame: Frame, catalogue: Sequence[Shelf]) -> Iterator[Plan]:
    """Every plan from the shelves of a catalogue that holds all layers on the frame's rows."""

    def stacks(first: int, rows: int) -> Iterator[tuple[Shelf, ...]]:
        if first >= shelves.units.count:
            yield ()
            return
        for shelf in catalogue:
            if shelf.rows <= rows and shelves.cycles(shelf, first) is not None:
                held = len(shelf.widths) * shelf.units
                yield from ((shelf, *rest) for rest in stacks(first + held, rows - shelf.rows))

    plans = (Plan(frame, stack) for stack in stacks(0, frame.rows))
    return (plan for plan in plans if plan.tops() is not None)


def all_shelves(shelves: Shelves, frame: Frame) -> list[Shelf]:
    """Every shelf of equal blocks of whole layers that a frame can hold."""
    layers = len(shelves.units.layers)
    tallest = max((rows for _, rows in frame.runs), default=0)
    return [
        Shelf(rows, (columns,) * beside, 2 * each)
        for each in range(1, layers + 1)
        for beside in range(1, -(-layers // each) + 1)
        for columns in range(1, frame.columns // beside + 1)
        for rows in range(1, tallest + 1)
    ]
