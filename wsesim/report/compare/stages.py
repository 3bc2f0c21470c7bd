"""Stages and blocks of two placements, matched: which rows of a comparison by stage or by block belong together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from wsesim.report.compare.saved import RunFigures

Place = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Match:
    """A row: `stages` of the model, and the blocks that hold them in the first and in the second run."""

    name: str
    stages: tuple[str, ...]
    a_blocks: tuple[str, ...]
    b_blocks: tuple[str, ...]


def matched_stages(a: RunFigures, b: RunFigures) -> tuple[tuple[Match, ...], dict[str, str], dict[str, str]]:
    """The rows by stage in the order of the model, and for each run the row of each of its stages.

    If one run has a layer whole and the other its halves, the halves are one row.
    """
    rows_a, rows_b = _row_names(a, b), _row_names(b, a)
    places = _places(a, b, rows_a, rows_b)
    names = sorted(places, key=places.__getitem__)
    blocks_a, blocks_b = _blocks(a, rows_a), _blocks(b, rows_b)
    matches = [Match(name, (name,), blocks_a.get(name, ()), blocks_b.get(name, ())) for name in names]
    return tuple(matches), rows_a, rows_b


def matched_blocks(stages: Iterable[Match]) -> tuple[Match, ...]:
    """The rows by block: stages that share a block in either run are in one row, and so are all blocks that hold them.

    So two placements with the same stages on each block have a row for each block.
    """
    rows = {match.name: match for match in stages}
    together = [{name} for name in rows]
    for side in ("a_blocks", "b_blocks"):
        on_block: dict[str, set[str]] = defaultdict(set)
        for match in rows.values():
            for block in getattr(match, side):
                on_block[block].add(match.name)
        for names in on_block.values():
            touching = [group for group in together if group & names]
            together = [group for group in together if not group & names] + [set().union(*touching)]
    order = {name: number for number, name in enumerate(rows)}
    groups = sorted((sorted(group, key=order.__getitem__) for group in together), key=lambda group: order[group[0]])
    return tuple(_joined([rows[name] for name in group]) for group in groups)


def _joined(matches: list[Match]) -> Match:
    names = [match.name for match in matches]
    blocks = [
        tuple(dict.fromkeys(b for match in matches for b in getattr(match, side))) for side in ("a_blocks", "b_blocks")
    ]
    return Match(_span(names), tuple(names), *blocks)


def _span(names: list[str]) -> str:
    """As `layer4 .. layer7`; the number of names stands behind those that do not follow each other."""
    if len(names) < 3 or (len(names) == 3 and not all(name.startswith("layer") for name in names)):
        return ", ".join(names)
    numbers = [name.removeprefix("layer") for name in names]
    follow = all(n.isdecimal() for n in numbers) and [int(n) - int(numbers[0]) for n in numbers] == [*range(len(names))]
    return f"{names[0]} .. {names[-1]}" + ("" if follow else f" ({len(names)})")


def _row_names(own: RunFigures, other: RunFigures) -> dict[str, str]:
    """For each stage of `own` the name of its row: its own, or its layer's if `other` cuts the layer otherwise."""
    mine, theirs = _by_layer(own), _by_layer(other)
    names = {}
    for stage in own.stages or ():
        alike = stage.layer is None or mine[stage.layer] == theirs.get(stage.layer, mine[stage.layer])
        names[stage.stage] = stage.stage if alike else f"layer{stage.layer}"
    return names


def _by_layer(run: RunFigures) -> dict[int, set[str]]:
    found: dict[int, set[str]] = defaultdict(set)
    for stage in run.stages or ():
        if stage.layer is not None:
            found[stage.layer].add(stage.stage)
    return dict(found)


def _blocks(run: RunFigures, rows: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for stage in run.stages or ():
        if stage.block is not None:
            found[rows[stage.stage]][stage.block] = None
    return {name: tuple(blocks) for name, blocks in found.items()}


def _places(a: RunFigures, b: RunFigures, rows_a: Mapping[str, str], rows_b: Mapping[str, str]) -> dict[str, Place]:
    """Before the layers, layers by number, after the layers; stages of one place in the order of their run."""
    places: dict[str, Place] = {}
    for run, rows in ((a, rows_a), (b, rows_b)):
        seen_layer = False
        for number, stage in enumerate(run.stages or ()):
            seen_layer |= stage.layer is not None
            part = 1 if stage.layer is not None else 2 if seen_layer else 0
            places.setdefault(rows[stage.stage], (part, stage.layer or 0, number))
    return places
