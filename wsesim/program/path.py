"""Path: the way of one message over the mesh, straight or with one turn."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

from wsesim.machine import Rect

EAST, WEST, NORTH, SOUTH = range(4)
STEPS = ((1, 0), (-1, 0), (0, -1), (0, 1))
_TRANSPOSED = (SOUTH, NORTH, WEST, EAST)


@dataclass(frozen=True, slots=True)
class Path:
    """One message: from PE (x, y), one or two legs, a copy dropped at each hop from `first_drop` to the end.

    But for the hops in `passed`: no copy is dropped on PEs that the target leaves out.
    """

    x: int
    y: int
    direction: int
    hops: int
    turn_direction: int
    turn_hops: int
    first_drop: int
    elements: int
    colour: int
    passed: tuple[int, ...] = ()

    @property
    def total_hops(self) -> int:
        return self.hops + self.turn_hops

    def position(self, hop: int) -> tuple[int, int]:
        """PE after `hop` hops."""
        first, second = min(hop, self.hops), max(0, hop - self.hops)
        (dx, dy), (tx, ty) = STEPS[self.direction], STEPS[self.turn_direction]
        return self.x + dx * first + tx * second, self.y + dy * first + ty * second

    def transposed(self) -> Path:
        """Rows and columns exchanged."""
        first, second = _TRANSPOSED[self.direction], _TRANSPOSED[self.turn_direction]
        return dataclasses.replace(self, x=self.y, y=self.x, direction=first, turn_direction=second)

    def legs(self, area: Rect) -> Iterator[tuple[int, tuple[slice, slice]]]:
        """Direction of each leg and the routers that it enters, as rows and columns of `area`."""
        corner = self.position(self.hops)
        for (x, y), direction, hops in (
            ((self.x, self.y), self.direction, self.hops),
            (corner, self.turn_direction, self.turn_hops),
        ):
            if hops:
                dx, dy = STEPS[direction]
                xs, ys = sorted((x + dx, x + dx * hops)), sorted((y + dy, y + dy * hops))
                rows = slice(ys[0] - area.y, ys[1] + 1 - area.y)
                yield direction, (rows, slice(xs[0] - area.x, xs[1] + 1 - area.x))


def bent(start: tuple[int, int], end: tuple[int, int], *, down_first: bool, first_drop: int, elements: int) -> Path:
    """From PE to PE, along the column first or along the row first. Its colour is 0."""
    (x, y), (to_x, to_y) = start, end
    across = (EAST if to_x > x else WEST, abs(to_x - x))
    down = (SOUTH if to_y > y else NORTH, abs(to_y - y))
    first, second = (down, across) if down_first else (across, down)
    if first[1] == 0 or second[1] == 0:  # straight
        first = max(first, second, key=lambda leg: leg[1])
        second = (first[0], 0)
    return Path(x, y, *first, *second, first_drop, elements, 0)
