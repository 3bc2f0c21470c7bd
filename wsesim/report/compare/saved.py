"""RunFigures: the figures of a report that a comparison needs, read from the report's JSON object."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from wsesim.errors import InvalidInputError, brief
from wsesim.files import parse_json, read_bytes, validated
from wsesim.report.kinds import KINDS
from wsesim.report.schema import SCHEMA_VERSION

Cycles = Annotated[int, Field(ge=0, le=1 << 62)]
Count = Annotated[int, Field(ge=0, le=1 << 62)]
Names = dict[str, tuple[str, ...]]
Plain = int | float | str


@dataclass(frozen=True, slots=True)
class KindCycles:
    """Cycles by kind, in the order of KINDS."""

    compute: Cycles
    launch: Cycles
    network: Cycles
    wait: Cycles
    reroute: Cycles

    @property
    def by_kind(self) -> tuple[int, ...]:
        return self.compute, self.launch, self.network, self.wait, self.reroute


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator(KindCycles):
    """The cycles of one operator on the critical path."""

    operator: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCycles(KindCycles):
    """The cycles of one stage on the critical path, with the transfer into it."""

    stage: str
    kind: str
    layer: int | None
    block: str | None


@dataclass(frozen=True, slots=True)
class BlockPlace:
    """A block: a rectangle of PEs, its axis, and the bytes of its fullest PE."""

    block: str
    x: Count
    y: Count
    columns: Count
    rows: Count
    axis: str
    sram_bytes: Count
    left_out_columns: tuple[Count, ...] = ()
    left_out_rows: tuple[Count, ...] = ()

    @property
    def shape(self) -> str:
        return f"{self.columns} x {self.rows}"

    @property
    def pes(self) -> int:
        return self.columns * self.rows


@dataclass(frozen=True, slots=True)
class RunFigures:
    """What a report says of one step. docs/report.md defines the fields; None are those that older versions lack."""

    wsesim_version: str
    model: str
    machine: str
    software: str
    strategy: str
    timing_dtype: str
    phase: str
    tokens: Annotated[int, Field(ge=1, le=1 << 62)]
    batch: Count
    context: Count
    clock_hz: Annotated[float, Field(ge=1, le=1e15)]
    pes: Count
    cycles: Cycles
    operators: tuple[Operator, ...]
    program: str
    stages: tuple[StageCycles, ...] | None = None
    blocks: tuple[BlockPlace, ...] | None = None
    transfers: dict[str, Count] | None = None
    max_context: Count | None = None
    sequences: Count | None = None
    prefill_chunk: Count | None = None
    kv: tuple[str, ...] | None = None
    collectives: Names | None = None
    form_digests: dict[str, dict[str, str]] | None = None
    software_fields: dict[str, Plain] | None = None
    machine_fields: dict[str, Plain] | None = None

    @property
    def seconds(self) -> float:
        return self.cycles / self.clock_hz

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds if self.cycles else 0.0


def read_run(path: str | Path) -> RunFigures:
    """The figures in a file that `wsesim simulate --json` wrote. Raises InvalidInputError in one line."""
    what = "a saved report"
    return run_of(parse_json(read_bytes(path, what), str(path)), str(path))


def run_of(value: object, name: str) -> RunFigures:
    """The figures in a report's JSON object; `name` stands before what is wrong. Raises InvalidInputError."""
    if not (isinstance(value, Mapping) and "schema_version" in value and "operators" in value and "phase" in value):
        raise InvalidInputError(f"{name} is not a saved report; `wsesim simulate --json` prints one")
    version = value["schema_version"]
    if version != SCHEMA_VERSION:
        raise InvalidInputError(
            f"{name}: schema_version {brief(version)}; this wsesim reads {SCHEMA_VERSION}: simulate again and save "
            "the new report"
        )
    for text in _texts(value):
        if not text.isprintable():
            raise InvalidInputError(f"{name}: {brief(text)} has characters that cannot be printed")
    run = validated(name, RunFigures, dict(value))
    _check_sums(run, name)
    return run


def _texts(value: object) -> Iterator[str]:
    """Every text and every name of a field in a JSON value."""
    waiting = [value]
    while waiting:
        match waiting.pop():
            case str() as text:
                yield text
            case Mapping() as table:
                waiting += [*table, *table.values()]
            case Sequence() as items:
                waiting += items


def _check_sums(run: RunFigures, name: str) -> None:
    """Raises InvalidInputError if the parts do not sum to the whole."""
    parts: dict[str, tuple[KindCycles, ...]] = {"operators": run.operators}
    if run.stages is not None:
        parts["stages"] = run.stages
    for what, items in parts.items():
        total = sum(sum(item.by_kind) for item in items)
        if total != run.cycles:
            raise InvalidInputError(f"{name}: its {what} have {total:,} cycles together, not the {run.cycles:,} of it")
    for what, names in (("operators", [o.operator for o in run.operators]), ("stages", _stage_names(run))):
        if len(set(names)) != len(names):
            raise InvalidInputError(f"{name}: two of its {what} have one name")


def _stage_names(run: RunFigures) -> list[str]:
    return [stage.stage for stage in run.stages or ()]


assert KindCycles.__match_args__ == KINDS
