"""The critical path of a step as spans: stages, in them operators, in them the parts that take the time.

A part is a stretch of one kind (compute, launch, network, wait, reroute). Stretches of fewer than SHORT_CYCLES that
follow one another, as in a collective that goes from PE to PE, are one part, named after all of its kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

from wsesim.engine.observe.path import PathStep
from wsesim.report.figures import KINDS
from wsesim.report.stretches import operator_of
from wsesim.report.trace.events import Arguments
from wsesim.report.trace.span import Span

SHORT_CYCLES = 64
NONE: Arguments = {}


def path_spans(path: Sequence[PathStep], *, stretches: bool) -> tuple[Span, ...]:
    """The stages. Every cycle of the path is in one stage, one operator and one part.

    With `stretches`, a part of several stretches has these inside.
    """
    return _grouped(path, lambda step: step.segment, lambda stage: _operators(stage, stretches))


def kinds_of(path: Sequence[PathStep]) -> dict[str, int]:
    """Cycles of each kind that there is, as a slice's arguments."""
    cycles = dict.fromkeys(KINDS, 0)
    for step in path:
        cycles[step.kind] += step.cycles
    return {kind: count for kind, count in cycles.items() if count}


def _operators(stage: Sequence[PathStep], stretches: bool) -> tuple[Span, ...]:
    return _grouped(stage, operator_of, lambda operator: _parts(operator, stretches))


def _parts(operator: Sequence[PathStep], stretches: bool) -> tuple[Span, ...]:
    found = [list(group) for _, group in groupby(operator, lambda step: step.kind)]
    parts: list[Span] = []
    for short, group in groupby(found, lambda stretch: _span("", stretch).cycles < SHORT_CYCLES):
        several = list(group)
        if not short or len(several) == 1:
            parts += (_span(stretch[0].kind, stretch) for stretch in several)
            continue
        steps = [step for stretch in several for step in stretch]
        kinds = kinds_of(steps)
        name = " + ".join(sorted(kinds, key=lambda kind: -kinds[kind]))
        inner = tuple(_span(stretch[0].kind, stretch) for stretch in several) if stretches else ()
        parts.append(_span(name, steps, kinds, inner))
    return tuple(parts)


def _grouped(
    path: Sequence[PathStep], key: Callable[[PathStep], str], inside: Callable[[list[PathStep]], tuple[Span, ...]]
) -> tuple[Span, ...]:
    spans = []
    for name, group in groupby(path, key):
        steps = list(group)
        said: Arguments = {**kinds_of(steps), "from_pe": _place(steps[0].pe), "to_pe": _place(steps[-1].to_pe)}
        spans.append(_span(name, steps, said, inside(steps)))
    return tuple(spans)


def _span(
    name: str,
    steps: Sequence[PathStep],
    arguments: Arguments = NONE,
    inner: tuple[Span, ...] = (),
) -> Span:
    begin = steps[0].start_cycle
    return Span(name, begin, begin + sum(step.cycles for step in steps), arguments, inner)


def _place(pe: tuple[int, int]) -> str:
    return f"{pe[0]},{pe[1]}"
