"""What differs between two runs before any cycle is counted: model, step, machine, software, placement, kernels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from wsesim.program.parts import LAYER_KINDS
from wsesim.report.compare.saved import BlockPlace, RunFigures

GROUPS = ("run", "machine", "software", "placement", "kernels")
ABSENT = "none"


@dataclass(frozen=True, slots=True)
class InputDifference:
    """`what` is `a` in the first run and `b` in the second, as text. `group` is one of GROUPS."""

    group: str
    what: str
    a: str
    b: str

    def __str__(self) -> str:
        return f"{self.what} {self.a} -> {self.b}"


def input_differences(a: RunFigures, b: RunFigures) -> tuple[InputDifference, ...]:
    """All differences, in the order of GROUPS. What one of the reports does not state is left out."""
    found = {"run": _run, "machine": _machine, "software": _software, "placement": _placement, "kernels": _kernels}
    return tuple(
        InputDifference(group, what, before, after)
        for group in GROUPS
        for what, before, after in found[group](a, b)
        if before != after
    )


def folded(inputs: Iterable[InputDifference]) -> list[InputDifference]:
    """Forms and collectives that change alike as one difference: `collective of qkv, o`."""
    found: dict[tuple[str, str, str, str], list[str]] = {}
    for difference in inputs:
        what, of, role = difference.what.partition(" of ")
        alike = difference.group == "kernels" and of
        key = (difference.group, what if alike else difference.what, difference.a, difference.b)
        found.setdefault(key, []).extend([role] if alike else [])
    return [
        InputDifference(group, f"{what} of {', '.join(roles)}" if roles else what, a, b)
        for (group, what, a, b), roles in found.items()
    ]


Lines = Iterator[tuple[str, str, str]]


def _run(a: RunFigures, b: RunFigures) -> Lines:
    """The model, the step and the options that are no placement."""
    for field in ("model", "phase"):
        yield field, getattr(a, field), getattr(b, field)
    yield "cached tokens", f"{a.context:,}", f"{b.context:,}"
    yield "tokens of the step", f"{a.tokens:,}", f"{b.tokens:,}"
    yield "timing in", a.timing_dtype, b.timing_dtype
    yield from _optional(a.kv, b.kv, "KV cache", " and ".join)
    yield from _optional(a.max_context, b.max_context, "longest context", _count)
    yield from _optional(a.sequences, b.sequences, "sequences", _count)
    yield "wsesim", a.wsesim_version, b.wsesim_version


def _machine(a: RunFigures, b: RunFigures) -> Lines:
    yield "machine", a.machine, b.machine
    yield from sorted(_fields(a.machine_fields, b.machine_fields), key=lambda line: _weight(line[0], a.timing_dtype))
    if a.machine_fields is None or b.machine_fields is None:  # a report of an older wsesim has the clock only
        yield "clock_hz", _value(a.clock_hz), _value(b.clock_hz)


def _weight(field: str, timing_dtype: str) -> int:
    """Fields that decide most cycles come first: hops and ramps, rates of operations, other cycles."""
    if field.startswith("fabric."):
        return 0
    if field == "clock_hz" or field.startswith("op.fma"):
        return 1
    if field.startswith("op.") and field.rpartition(".")[2] in (timing_dtype, "launch", "relaunch"):
        return 2
    return 3 if field.endswith("_cycles") else 4


def _software(a: RunFigures, b: RunFigures) -> Lines:
    yield "software", a.software, b.software
    yield from _fields(a.software_fields, b.software_fields)


def _fields(a: Mapping[str, Any] | None, b: Mapping[str, Any] | None) -> Lines:
    if a is None or b is None:
        return
    for name in dict.fromkeys((*a, *b)):
        yield name, _value(a.get(name, ABSENT)), _value(b.get(name, ABSENT))


def _value(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:g}"


def _placement(a: RunFigures, b: RunFigures) -> Lines:
    """Blocks and what lies on them. Blocks of one shape and with as many layers are one entry."""
    yield "strategy", a.strategy, b.strategy
    yield "PEs in blocks", f"{a.pes:,}", f"{b.pes:,}"
    if a.blocks is None or b.blocks is None or a.stages is None or b.stages is None:
        return
    before, after = _Lying(a.blocks, a), _Lying(b.blocks, b)
    yield "blocks", str(len(a.blocks)), str(len(b.blocks))
    yield "blocks of layers", before.layer_blocks(), after.layer_blocks()
    yield "PEs of a layer", *_with_ratio(before.layer_pes(), after.layer_pes())
    for kind in ("embed", "head"):
        yield f"block of {kind}", before.block_of(kind), after.block_of(kind)
    yield "axis of the blocks", before.axes(), after.axes()
    if before.shapes() == after.shapes():
        moved = len(before.places() - after.places())
        yield "places of the blocks", "A", f"{moved} of {len(b.blocks)} lie elsewhere" if moved else "A"
    yield from _optional(a.transfers, b.transfers, "transfers between blocks", _transfers)
    yield "SRAM of the fullest PE", f"{before.fullest():,} B", f"{after.fullest():,} B"
    yield from _optional(a.prefill_chunk, b.prefill_chunk, "tokens of a prompt's chunk", _count)


def layer_shapes(run: RunFigures) -> set[tuple[int, int]]:
    """(columns, rows) of the blocks that hold layers."""
    names = {stage.block for stage in run.stages or () if stage.kind in LAYER_KINDS}
    return {(block.columns, block.rows) for block in run.blocks or () if block.block in names}


class _Lying:
    """The blocks of a run and the stages on them."""

    def __init__(self, blocks: tuple[BlockPlace, ...], run: RunFigures) -> None:
        self.blocks = {block.block: block for block in blocks}
        self.stages = run.stages or ()

    def layer_blocks(self) -> str:
        """As `8 of 381 x 241 with 4 layers`; half layers count as halves."""
        halves: Counter[str] = Counter()
        for stage in self.stages:
            if stage.kind in LAYER_KINDS and stage.block is not None:
                halves[stage.block] += 2 if stage.kind == "layer" else 1
        groups = Counter((self.blocks[name].shape, count) for name, count in halves.items() if name in self.blocks)
        said = [f"{number} of {shape} with {_layers(count)}" for (shape, count), number in groups.most_common(3)]
        more = sum(groups.values()) - sum(number for _, number in groups.most_common(3))
        return " and ".join([*said, *([f"{more} others"] if more else [])]) or ABSENT

    def layer_pes(self) -> tuple[int, int]:
        """The least and the most PEs of a block that holds a layer."""
        names = {stage.block for stage in self.stages if stage.kind in LAYER_KINDS}
        pes = [block.pes for name, block in self.blocks.items() if name in names]
        return min(pes, default=0), max(pes, default=0)

    def block_of(self, kind: str) -> str:
        names = [stage.block for stage in self.stages if stage.kind == kind]
        return self.blocks[names[0]].shape if names and names[0] in self.blocks else ABSENT

    def axes(self) -> str:
        return " and ".join(sorted({block.axis for block in self.blocks.values()})) or ABSENT

    def shapes(self) -> Counter[str]:
        return Counter(block.shape for block in self.blocks.values())

    def places(self) -> set[tuple[int, int, int, int]]:
        return {(block.x, block.y, block.columns, block.rows) for block in self.blocks.values()}

    def fullest(self) -> int:
        return max((block.sram_bytes for block in self.blocks.values()), default=0)


def _layers(halves: int) -> str:
    if halves % 2:
        return f"{halves / 2:g} layers"
    return "1 layer" if halves == 2 else f"{halves // 2} layers"


def _with_ratio(a: tuple[int, int], b: tuple[int, int]) -> tuple[str, str]:
    """The ranges as text; the second with its size in relation to the first."""
    before, after = (f"{least:,}" if least == most else f"{least:,} to {most:,}" for least, most in (a, b))
    ratio = f" ({sum(b) / sum(a):.3g} times)" if sum(a) and before != after else ""
    return before, after + ratio


def _kernels(a: RunFigures, b: RunFigures) -> Lines:
    """Forms and collectives of the kernels, by role."""
    if a.form_digests is not None and b.form_digests is not None:
        before, after = a.form_digests, b.form_digests
        only_a, only_b = [r for r in before if r not in after], [r for r in after if r not in before]
        yield "kernels of one run only", ", ".join(only_a) or ABSENT, ", ".join(only_b) or ABSENT
        for role in (role for role in before if role in after):
            own, other = " and ".join(before[role]), " and ".join(after[role])
            same_name = own == other and before[role] != after[role]
            yield f"form of {role}", own, f"{other} with other steps" if same_name else other
    if a.collectives is not None and b.collectives is not None:
        for role in (role for role in a.collectives if role in b.collectives):
            yield f"collective of {role}", " and ".join(a.collectives[role]), " and ".join(b.collectives[role])


def _transfers(kinds: Mapping[str, int]) -> str:
    listed = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items(), key=lambda item: -item[1]))
    return f"{sum(kinds.values())} ({listed})" if kinds else "0"


def _count(number: int) -> str:
    return f"{number:,}"


def _optional(a: Any, b: Any, what: str, shown: Any) -> Lines:
    if a is not None and b is not None:
        yield what, shown(a), shown(b)
