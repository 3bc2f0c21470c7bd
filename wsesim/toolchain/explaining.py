"""explain(): the placements from the simplest to the best one of a search, each compiled and simulated."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from wsesim.errors import DoesNotFitError
from wsesim.progress import working
from wsesim.report.explanation import Explanation, Improvement, Sharing
from wsesim.report.placement_figures import PlacementFigures
from wsesim.software import load_software
from wsesim.toolchain.measuring import Pick, Question, measured

if TYPE_CHECKING:
    from wsesim_compiler.search.judge import Candidate, Judge

OURS, PLAIN = "wsesim", "wsesim-plain"
"""The software with several forms of each kernel, and the one with one form."""


def explain(question: Question, judge: Judge, candidates: Sequence[Candidate], best: PlacementFigures) -> Explanation:
    """What led from one layer per block to the best placement, all with as many sequences as that has.

    `candidates` are sorted, the best first.
    """
    options = dataclasses.replace(question.options, sequences=best.sequences)
    question = dataclasses.replace(question, options=options)
    own = next((c for c in candidates if c.origin == best.origin), None)
    with working("explaining", unit="placement", steady=False) as work:
        steps: list[Improvement] = []
        for step in _steps(question, candidates, best):
            work.done += 1
            if not steps or _told(step) != _told(steps[-1]):
                steps.append(step)
        row_major = None if own is None else _row_major_cycles(question, own)
    return Explanation(tuple(steps), tuple(_sharings(judge, candidates)), row_major, question.machine.clock_hz)


def _told(step: Improvement) -> tuple[str, int]:
    return step.figures.text, step.figures.cycles


def _steps(question: Question, candidates: Sequence[Candidate], best: PlacementFigures) -> Iterator[Improvement]:
    simple = dataclasses.replace(question, options=dataclasses.replace(question.options, strategy="pipelined"))
    if question.options.software.name == OURS and not question.options.forms:
        options = dataclasses.replace(simple.options, software=load_software(PLAIN))
        yield from _measured(dataclasses.replace(simple, options=options), "each layer on its own block", Pick(PLAIN))
    yield from _measured(simple, "kernels: the fastest of several forms", Pick("pipelined"))
    strategy = next((c for c in candidates if c.plan is None), None)
    if strategy is not None:
        yield from _measured(question, f"layers per block: {strategy.origin}", _pick(strategy))
    equal = next((c for c in candidates if c.plan is not None and len(set(c.plan.shelves)) == 1), None)
    if equal is not None:
        yield from _measured(question, f"shape: {equal.origin}", _pick(equal))
    yield Improvement(f"the best: {best.origin}", best)


def _pick(candidate: Candidate) -> Pick:
    return Pick(candidate.origin, candidate.blocks, candidate.chunk)


def _measured(question: Question, what: str, pick: Pick) -> Iterator[Improvement]:
    """Nothing if the placement does not fit."""
    with suppress(DoesNotFitError):
        yield Improvement(what, measured(question, pick))


def _row_major_cycles(question: Question, candidate: Candidate) -> int | None:
    """Cycles of the same blocks in rows that all run from west to east; None if that changes nothing."""
    if candidate.plan is None:
        return None
    blocks = dataclasses.replace(candidate.plan, order="row_major").blocks(question.partition)
    if blocks is None or blocks == candidate.blocks:
        return None
    return measured(question, Pick("row_major", blocks, candidate.chunk)).cycles


def _sharings(judge: Judge, candidates: Sequence[Candidate]) -> Iterator[Sharing]:
    """The fastest candidate of equal blocks for each number of layers per block."""
    best: dict[int, Candidate] = {}
    for candidate in candidates:
        if candidate.plan is not None and len(set(candidate.plan.shelves)) == 1:
            units = candidate.plan.shelves[0].units
            held = best.get(units)
            if held is None or candidate.metrics.seconds_per_token < held.metrics.seconds_per_token:
                best[units] = candidate
    for units, candidate in sorted(best.items()):
        assert candidate.plan is not None, "only plans are kept"
        shelf, layer = candidate.plan.shelves[0], judge.partition.layers[0]
        parts = layer.halves if units == 1 else (layer,)
        sizes = [(width, shelf.rows) for width in (shelf.widths if units == 1 else shelf.widths[:1])]
        each = [judge.prices.block_cycles((part,), size) or 0 for part, size in zip(parts, sizes, strict=False)]
        cycles = round(candidate.metrics.seconds_per_token * judge.machine.clock_hz)
        yield Sharing(units / 2, max(shelf.widths), shelf.rows, sum(each), cycles, candidate.busiest_cycles)
