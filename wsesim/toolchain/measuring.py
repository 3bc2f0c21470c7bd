"""Placements of a model, compiled and simulated."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wsesim.errors import DoesNotFitError
from wsesim.machine import Machine
from wsesim.program.layout import ceil_div
from wsesim.report.placement_figures import PlacementFigures
from wsesim.toolchain.step_timing import make_timing

if TYPE_CHECKING:
    from wsesim.program import Program
    from wsesim_compiler.options import Options, PlacedBlock
    from wsesim_compiler.partition import Partition


@dataclass(frozen=True, slots=True)
class Question:
    """What is simulated: a decode step over `context` cached tokens, and a prompt of `prompt` tokens."""

    partition: Partition
    machine: Machine
    options: Options
    context: int
    prompt: int


@dataclass(frozen=True, slots=True)
class Pick:
    """Blocks to be measured; () are those of the options' strategy.

    `chunk`: the `prefill_chunk`, None: the compiler's. `sequences`: None: those of the options.
    """

    origin: str
    blocks: tuple[PlacedBlock, ...] = ()
    chunk: int | None = None
    sequences: int | None = None


def measured(question: Question, pick: Pick, *, by_operator: bool = False) -> PlacementFigures:
    """The figures of one placement. Raises DoesNotFitError if it cannot be compiled."""
    from wsesim.report.report import report
    from wsesim.toolchain.oracle import EngineOracle
    from wsesim_compiler.lower import lower_partition
    from wsesim_compiler.placement.placement_file import placement_text
    from wsesim_compiler.search.judge import longest_context

    options = dataclasses.replace(
        question.options,
        blocks=pick.blocks,
        prefill_chunk=pick.chunk or question.options.prefill_chunk,
        sequences=pick.sequences or question.options.sequences,
    )
    options = dataclasses.replace(options, strategy="explicit") if pick.blocks else options
    program = lower_partition(question.partition, question.machine, options, EngineOracle())
    timing = make_timing(program, keep_timelines=by_operator)
    step = timing.decode(question.context)
    prompt = timing.prefill_times(question.prompt)
    period = max(step.busy_cycles, ceil_div(step.cycles, program.sequences))
    clock_hz, blocks = program.machine.clock_hz, _placed(program)
    stated = dataclasses.replace(
        options, strategy="explicit", prefill_chunk=pick.chunk, collectives=(), forms=question.options.forms
    )
    whole = report(program, step) if by_operator else None
    return PlacementFigures(
        origin=pick.origin,
        sequences=program.sequences,
        cycles=step.cycles,
        seconds_per_token=step.cycles / clock_hz,
        tokens_per_second=clock_hz / period,
        context=longest_context(question.partition, program.machine, options, blocks),
        prompt_seconds=prompt.cycles / clock_hz,
        sram_bytes=max(memory.total_bytes for memory in program.memory),
        blocks=len(blocks),
        late_requests=step.late_requests,
        operators=tuple((share.operator, share.cycles) for share in whole.shares) if whole else (),
        text=placement_text(stated, blocks),
        least_cycles=max(dataclasses.astuple(whole.machine_bounds)[1:]) if whole else 0,
    )


def measured_or_none(question: Question, pick: Pick, by_operator: bool = False) -> PlacementFigures | None:
    """As `measured`; None for a placement that cannot be compiled."""
    try:
        return measured(question, pick, by_operator=by_operator)
    except DoesNotFitError:
        return None


def _placed(program: Program) -> tuple[PlacedBlock, ...]:
    """The blocks of a Program with the stages on them."""
    from wsesim.program.parts import SAMPLE
    from wsesim_compiler.options import PlacedBlock

    stages = [stage for stage in program.stages if stage.kind != SAMPLE]
    return tuple(PlacedBlock(block, tuple(s.name for s in stages if s.block == block.name)) for block in program.blocks)
