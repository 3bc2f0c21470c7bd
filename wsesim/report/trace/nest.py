"""Nest: which slices of each track are open, while slices come in order."""

from __future__ import annotations

from wsesim.report.trace.events import Slice


class Nest:
    """The open slices of all tracks, the innermost last."""

    def __init__(self) -> None:
        self._open: dict[int, list[Slice]] = {}

    def begin(self, entered: Slice) -> list[Slice]:
        """The slices that have ended before `entered` begins, the innermost first."""
        inside = self._open.setdefault(entered.track.number, [])
        ended = []
        while inside and inside[-1].end_cycles <= entered.begin_cycles:
            ended.append(inside.pop())
        assert 0 <= entered.begin_cycles <= entered.end_cycles, f"no time of a slice: {entered}"
        if inside:
            outer = inside[-1]
            assert outer.begin_cycles <= entered.begin_cycles and entered.end_cycles <= outer.end_cycles, (
                f"{entered} is not inside of {outer}"
            )
        inside.append(entered)
        return ended

    def close(self) -> list[Slice]:
        """All slices that are still open, each before the one around it."""
        ended = [one for inside in self._open.values() for one in reversed(inside)]
        self._open.clear()
        return ended
