"""Timing: cycles of the steps of one Program: a decode step, and the prefill of a prompt.

A decode step is closed: it begins when the id is on the embedding's entry PE and ends when the next id is there. The
wafer is idle before. The tokens of a batch go through every kernel together, each of its own sequence. In attention
each costs as much as a token of a prompt, and all of them visit the head. In prefill the chunks of a prompt follow one
another through the blocks; only the last token visits the head.

Two functions give the cycles of a prompt. `prefill` runs every chunk and keeps all runs: reports, the critical path and
traffic need them. `prefill_times` skips chunks that repeat and keeps no runs: servers and long prompts need it. The
tests hold both equal (`tests/test_repetition.py`).
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from wsesim.engine.errors import SequencesError
from wsesim.engine.exact.repetition import Repetition
from wsesim.engine.exact.wafer import EffectCache, SegmentRun, Wafer
from wsesim.engine.expand.segment import Segment
from wsesim.engine.expand.stage import expand_stage
from wsesim.engine.expand.transfer import expand_feedback, expand_transfer, transfer_ends
from wsesim.engine.graph.taskgraph import Int64
from wsesim.engine.steps.occupancy import Occupancy, busy_cycles
from wsesim.errors import keyword
from wsesim.program.kernels import DECODE, PREFILL, Kernel, Score
from wsesim.program.kv import KVCache
from wsesim.program.layout import ceil_div
from wsesim.program.parts import SAMPLE, Stage
from wsesim.program.program import Program
from wsesim.program.routes import entry_pe, sampler_pe
from wsesim.progress import working

GREEDY = 1  # candidates of a greedy draw


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One pass through the wafer: its cycles, in all and up to the logits, and the segments that ran.

    `tokens` are those of the prompt, or of the batch of a decode step. `busy_cycles`: the cycles for which it holds the
    busiest block, before a step of another sequence can follow.
    """

    phase: str
    tokens: int
    context: int
    cycles: int
    logits_cycles: int
    busy_cycles: int
    runs: tuple[SegmentRun, ...]

    def __repr__(self) -> str:
        what = f"over {self.context:,} cached" if self.phase == DECODE else f"of {self.tokens:,} tokens"
        return f"<Step: {self.phase} {what}, {self.cycles:,} cycles in {len(self.runs):,} segments>"

    @property
    def late_requests(self) -> int:
        """Requests that a segment made before an earlier segment's last one for the same link; 0 means exact."""
        return sum(run.late_requests for run in self.runs)

    @property
    def link_events(self) -> int:
        """Links granted to messages; recalled segments count each time that they ran."""
        return sum(run.effect.link_events for run in self.runs)


@dataclass(frozen=True, slots=True)
class StepCycles:
    """Cycles of one step: in all, up to its logits, and those for which it holds the busiest block."""

    cycles: int
    logits_cycles: int
    busy_cycles: int


@dataclass(frozen=True, slots=True, eq=False)
class Settled:
    """A prompt whose last chunks repeated. After `repeating_from` tokens, `period` chunks take `period_cycles` and hold
    each block `grown` cycles longer.
    """

    tokens: int
    times: StepCycles
    occupancy: Occupancy
    repeating_from: int
    period: int
    period_cycles: int
    grown: Counter[str]

    def covers(self, tokens: int, chunk: int) -> bool:
        """Whether a prompt of `tokens`, whose last chunk is of the same kind, ends within the repetition."""
        return tokens > self.repeating_from and (tokens - self.tokens) % (self.period * chunk) == 0

    def at(self, tokens: int, chunk: int) -> StepCycles:
        """The cycles of a prompt that is covered."""
        more = (tokens - self.tokens) // (self.period * chunk)
        later = more * self.period_cycles
        busy = self.occupancy.busy_cycles(self.times.cycles + later, self.grown, more)
        return StepCycles(self.times.cycles + later, self.times.logits_cycles + later, busy)


@dataclass(frozen=True, slots=True, eq=False)
class Leg:
    """A token's way through one stage: the transfer to its block, if it comes from another block, and the stage.

    `ends` are the sending PEs of the transfer and those that must be free before they send, as `Wafer.hold` takes them.
    """

    block: str
    move: Segment | None
    ends: tuple[Int64, Int64] | None
    stage: Segment


class Timing:
    """Steps of `program`, cached by everything that affects their cycles.

    CPU time of a decode step of llama3.1-8b on wse3: 0.0025 ms if the step is cached, 4 ms from known effects of its
    segments, 10 ms if the segments have to be looked up in `expand` again.
    """

    def __init__(self, program: Program, cache: EffectCache | None = None, *, free_links: bool = False) -> None:
        self.program = program
        self.cache = cache or EffectCache()
        self.free_links = free_links
        self._phases = {phase: program.in_phase(phase) for phase in (DECODE, PREFILL)}
        self._entering = {s.name: transfer for s in program.stages if (transfer := program.entering(s))}
        self._caches = tuple(dict.fromkeys(_caches(program, program.kernels)))
        self._ends = {stage: transfer_ends(program, transfer) for stage, transfer in self._entering.items()}
        first = next(iter(self._ends.values()), None)  # None: all stages lie on one block
        self._entrance = None if first is None else (np.array([entry_pe(program)]), first[0])
        self._segments: dict[tuple[object, ...], Segment] = {}
        self._steps: dict[tuple[object, ...], Step] = {}
        self._settled: defaultdict[tuple[int, ...], list[Settled]] = defaultdict(list)

    def __repr__(self) -> str:
        links = " with links that are always free" if self.free_links else ""
        return f"<Timing of {self.program.model} on {self.program.machine.name}, {self.program.strategy}{links}>"

    def decode(self, context: int, candidates: int = GREEDY, batch: int = 1) -> Step:
        """One token of each of `batch` sequences, with `context` tokens of each in the KV cache before it.

        Raises SequencesError if the Program's cache or buffers are for fewer.
        """
        check_batch(self.program, batch)
        key = self.decode_key(context, candidates, batch)
        if key not in self._steps:
            self._steps[key] = self._decode(context, candidates, batch)
        return dataclasses.replace(self._steps[key], context=context)

    def decode_key(self, context: int, candidates: int, batch: int = 1) -> tuple[object, ...]:
        """Cache key of a decode step: contexts with as many positions on every line cost the same."""
        return ("decode", candidates, batch, *(cache.positions(context + 1, along) for cache, along in self._caches))

    def prefill(self, tokens: int, candidates: int = GREEDY) -> Step:
        """A prompt of `tokens` tokens into an empty cache, up to the first sampled id back at the embedding."""
        key = ("prefill", candidates, tokens)
        if key not in self._steps:
            self._steps[key] = self._prefill(tokens, candidates)
        return self._steps[key]

    def prefill_times(self, tokens: int, candidates: int = GREEDY) -> StepCycles:
        """The cycles of `prefill`, for long prompts in a fraction of its time and memory.

        No runs are kept, and chunks that repeat the chunks before them are not run (`Repetition`). If another prompt
        repeated the same chunks before, nothing is run.
        """
        chunk = self.program.prefill_chunk
        last = (candidates, *self._kind((tokens - 1) % chunk + 1, tokens))
        for known in self._settled[last]:
            if known.covers(tokens, chunk):
                return known.at(tokens, chunk)
        wafer = Wafer(self.program.machine, self.cache, free_links=self.free_links)
        occupancy, repetition = Occupancy(self.program), Repetition()
        stop, repeating = 0, None
        with working("simulating the prompt", ceil_div(tokens, chunk), "chunk") as work:
            while stop < tokens:
                work.done = stop // chunk
                start, stop = stop, min(stop + chunk, tokens)
                runs = self._body(wafer, PREFILL, stop - start, stop, last=int(stop == tokens))
                grown = occupancy.add(runs)
                if stop < tokens:
                    kind = self._kind(stop - start, stop)
                    repetition.add(kind, runs, grown)
                    period = repetition.period()
                    if period and (repeating is None or repeating[0] != kind):
                        repeating = (kind, stop, period, repetition.moved(period)[-1][1], repetition.grown(period))
                    stop += chunk * self._skip(wafer, occupancy, repetition, stop, tokens)
        ending: list[SegmentRun] = []
        end, logits_end = self._finish(wafer, PREFILL, ending, 1, tokens, candidates)
        occupancy.add(ending)
        times = StepCycles(end, logits_end, occupancy.busy_cycles(end))
        if repeating is not None and repeating[0] == last[1:]:
            self._settled[last].append(Settled(tokens, times, occupancy, *repeating[1:]))
        return times

    def _skip(self, wafer: Wafer, occupancy: Occupancy, repetition: Repetition, stop: int, tokens: int) -> int:
        """How many chunks behind token `stop` need not be run: those of one kind, without the prompt's last chunk."""
        period = repetition.period()
        if not period:
            return 0
        chunk, kind = self.program.prefill_chunk, self._kind(self.program.prefill_chunk, stop)
        alike = 0
        while stop + (alike + 1) * chunk < tokens and self._kind(chunk, stop + (alike + 1) * chunk) == kind:
            alike += 1
        times = alike // period
        if times:
            moved = repetition.moved(period)
            wafer.repeat(moved, times)
            occupancy.repeat(repetition.grown(period), times, moved)
            repetition.forget()
        return times * period

    def _kind(self, tokens: int, context: int) -> tuple[int, ...]:
        """Cache key of the segments of a chunk."""
        return (tokens, *(cache.positions(context, along) for cache, along in self._caches))

    def forget_steps(self) -> None:
        """Drops the cached steps and their runs. The effects of segments stay cached."""
        self._steps.clear()

    def legs(self, context: int, candidates: int = GREEDY, batch: int = 1) -> tuple[Leg, ...]:
        """The stages of a decode step in order, not run. `expand_feedback` has the way back of the ids."""
        check_batch(self.program, batch)
        steps = (DECODE, batch, context + 1)
        return tuple(
            self._leg(stage, *steps, candidates if stage.kind == SAMPLE else GREEDY) for stage in self.program.stages
        )

    def legs_of_chunk(self, tokens: int, context: int) -> tuple[Leg, ...]:
        """The stages of a chunk of `tokens` that ends at `context`, up to the last layer, not run."""
        return tuple(self._leg(stage, PREFILL, tokens, context, GREEDY) for stage in self.program.stages[:-2])

    def kinds_of_chunk(self, tokens: int) -> int:
        """How many kinds of chunks a prompt has: chunks of one kind have the same segments."""
        chunk = self.program.prefill_chunk
        return len({self._kind(chunk, min(stop, tokens)) for stop in range(chunk, tokens + chunk, chunk)})

    def _leg(self, stage: Stage, phase: str, tokens: int, context: int, candidates: int) -> Leg:
        """`context` has the new tokens in it."""
        segment = self._stage(phase, stage, tokens, context, candidates)
        transfer = self._entering.get(stage.name)
        if transfer is None:
            return Leg(stage.block, None, None, segment)
        return Leg(stage.block, expand_transfer(self.program, transfer, tokens), self._ends[stage.name], segment)

    def _decode(self, context: int, candidates: int, batch: int) -> Step:
        wafer = Wafer(self.program.machine, self.cache, free_links=self.free_links)
        runs = self._body(wafer, DECODE, batch, context + 1, last=batch)
        end, logits_end = self._finish(wafer, DECODE, runs, batch, context + 1, candidates)
        return Step(DECODE, batch, context, end, logits_end, busy_cycles(self.program, runs), tuple(runs))

    def _prefill(self, tokens: int, candidates: int) -> Step:
        wafer = Wafer(self.program.machine, self.cache, free_links=self.free_links)
        runs: list[SegmentRun] = []
        chunk = self.program.prefill_chunk
        with working("simulating the prompt", ceil_div(tokens, chunk), "chunk") as work:
            for work.done, first in enumerate(range(0, tokens, chunk)):
                stop = min(first + chunk, tokens)
                runs += self._body(wafer, PREFILL, stop - first, stop, last=int(stop == tokens))
        end, logits_end = self._finish(wafer, PREFILL, runs, 1, tokens, candidates)
        return Step(PREFILL, tokens, 0, end, logits_end, busy_cycles(self.program, runs), tuple(runs))

    def _body(self, wafer: Wafer, phase: str, tokens: int, context: int, *, last: int) -> list[SegmentRun]:
        """Embedding, layers and the transfer of `last` tokens to the head."""
        runs = []
        *before, head, _ = self.program.stages
        credit: tuple[int, int] | None = None if self._entrance is None else wafer.hold(*self._entrance)
        with working("simulating the step", len(before), "stage", steady=False) as work:
            for work.done, stage in enumerate(before):
                runs += self._move(wafer, stage, tokens)
                runs.append(wafer.run(self._stage(phase, stage, tokens, context, GREEDY), credit))
                credit = None
        return runs + (self._move(wafer, head, last) if last else [])

    def _move(self, wafer: Wafer, stage: Stage, tokens: int) -> list[SegmentRun]:
        transfer = self._entering.get(stage.name)
        if transfer is None:
            return []
        credit = wafer.hold(*self._ends[stage.name])
        moved = self._segment((stage.name, tokens), lambda: expand_transfer(self.program, transfer, tokens))
        return [wafer.run(moved, credit)]

    def _stage(self, phase: str, stage: Stage, tokens: int, context: int, candidates: int) -> Segment:
        """The segment of a stage. Its cache key has the positions of a line instead of the context."""
        caches = dict.fromkeys(_caches(self.program, self.program.kernels_in(stage)))
        key = (
            phase,
            stage.name,
            tokens,
            candidates,
            *(cache.positions(context, along) for cache, along in caches),
        )
        return self._segment(key, lambda: expand_stage(self._phases[phase], stage, tokens, context, candidates))

    def _segment(self, key: tuple[object, ...], expand: Callable[[], Segment]) -> Segment:
        """The cached segment of a key, else a new one. A few contexts of every stage and transfer are kept."""
        if key not in self._segments:
            self._segments[key] = expand()
            if len(self._segments) > 4 * len(self.program.blocks) + 64:
                del self._segments[next(iter(self._segments))]
        return self._segments[key]

    def _finish(
        self, wafer: Wafer, phase: str, runs: list[SegmentRun], tokens: int, context: int, candidates: int
    ) -> tuple[int, int]:
        """Appends the runs of head, draw, and the ids' way back; the cycles at which ids and logits are there."""
        last = self.program.stages[-2:]
        runs += (wafer.run(self._stage(phase, stage, tokens, context, candidates)) for stage in last)
        logits_end = runs[-2].end
        back: Segment | None = expand_feedback(self.program, tokens)
        runs += [wafer.run(back)] if back else []
        return wafer.pe_free(*(entry_pe(self.program) if back else sampler_pe(self.program))), logits_end


def check_batch(program: Program, batch: int, in_flight: int = 1) -> None:
    """Raises SequencesError if `in_flight` batches at once are more than the Program was compiled for."""
    if min(batch, in_flight) < 1:
        raise SequencesError(f"batch {batch}, in flight {in_flight}: each is at least 1")
    if batch * in_flight > program.sequences:
        raise SequencesError(
            f"batch {batch}, in flight {in_flight}: every token is of its own sequence, and the KV cache has places "
            f"for {program.sequences}; compile with {keyword('sequences', batch * in_flight)}"
        )
    if batch > program.batch:
        raise SequencesError(
            f"batch {batch}: the buffers are for a batch of {program.batch}; compile with {keyword('batch', batch)}"
        )


def _caches(program: Program, kernels: tuple[Kernel, ...]) -> Iterator[tuple[KVCache, int]]:
    """Each attention's KV cache and how many lines it lies on."""
    yield from ((k.cache, program.block(k.block).along) for k in kernels if isinstance(k, Score))
