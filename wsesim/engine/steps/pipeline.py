"""Pipeline: tokens of several sequences in different blocks at once, until their distance at the output repeats.

A block holds one token (or one batch) from its arrival until it has been sent on. Then it takes the next token, in the
order in which they are ready. The loop of each sequence is closed: its next token enters when its id is back and the
first block is free. If the first block is also the last one (a tied table), a token enters only if another block stays
vacant. Otherwise all tokens could wait for each other in a ring.

A round is one token of each sequence. In the steady state every segment of a round begins and ends as in an earlier
round. From then on all rounds are equal, since the state before a segment determines its times. `occupancy.py` compares
this model with the simpler ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from wsesim.engine.errors import DeadlockError, UnsettledError
from wsesim.engine.exact.wafer import Wafer
from wsesim.engine.expand.segment import Segment
from wsesim.engine.expand.transfer import expand_feedback
from wsesim.engine.graph.taskgraph import Int64
from wsesim.engine.steps.timing import GREEDY, Leg, Timing, check_batch
from wsesim.program.routes import entry_pe
from wsesim.progress import working

MOST_ROUNDS = 256


@dataclass(frozen=True, slots=True, eq=False)
class Visit:
    """A token's stay on `block`: the transfer that brings it, if any, with its `ends`, and the stages that run there.

    The way back of the ids has no block: "".
    """

    block: str
    move: Segment | None
    ends: tuple[Int64, Int64] | None
    stages: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class BlockUse:
    """Mean cycles that a block works for one token, from the first to the last of its kernels."""

    block: str
    busy_cycles: Fraction


@dataclass(frozen=True, slots=True)
class BlockStay:
    """A token of sequence number `sequence` on a block, in cycles from the beginning of the repetition.

    It begins with the transfer to the block. `busy_cycles`: from the first to the last of its kernels.
    """

    sequence: int
    block: str
    begin: int
    end: int
    busy_cycles: int


@dataclass(frozen=True, slots=True)
class Flow:
    """The steady state: `tokens` come out every `cycles` (a batch counts as one token here).

    latencies        of these tokens: from the entry of an id into the first block to the return of the next id
    settled_after    rounds before the repetition began
    most_at_once     tokens for which there are blocks
    stays            on blocks, of one repetition
    """

    in_flight: int
    batch: int
    context: int
    cycles: int
    tokens: int
    latencies: tuple[int, ...]
    blocks: tuple[BlockUse, ...]
    settled_after: int
    late_requests: int
    link_events: int
    most_at_once: int
    stays: tuple[BlockStay, ...] = ()

    def __repr__(self) -> str:
        return (
            f"<Flow of {self.in_flight} in flight: a period of {float(self.period_cycles):,.1f} cycles, "
            f"a latency of {float(self.latency_cycles):,.1f}>"
        )

    @property
    def period_cycles(self) -> Fraction:
        """Mean distance of two tokens at the output."""
        return Fraction(self.cycles, self.tokens)

    @property
    def latency_cycles(self) -> Fraction:
        """Mean latency of a token through the loaded blocks."""
        return Fraction(sum(self.latencies), len(self.latencies))

    @property
    def bottleneck(self) -> BlockUse:
        """The block that works longest for a token; the first of several."""
        return max(self.blocks, key=lambda use: use.busy_cycles)

    def most_gain(self, alone_cycles: int) -> Fraction:
        """Share of the period that more tokens in flight can save at most; `alone_cycles` is a lone token's latency.

        0 if tokens wait for each other or for a block already. The period is at least the work of the busiest block for
        a token, and at least a lone token's latency over `most_at_once`.
        """
        if self.latency_cycles > alone_cycles or self.in_flight * self.period_cycles != self.latency_cycles:
            return Fraction(0)
        shortest = max(self.bottleneck.busy_cycles, Fraction(alone_cycles, self.most_at_once))
        return max(Fraction(0), 1 - shortest / self.period_cycles)


def pipeline(timing: Timing, in_flight: int, context: int, candidates: int = GREEDY, batch: int = 1) -> Flow:
    """Steady state of `in_flight` tokens (batches of `batch`) of as many sequences, each over `context` cached ones.

    Raises SequencesError if the Program's cache or buffers are for fewer, DeadlockError and UnsettledError.
    """
    program = timing.program
    check_batch(program, batch, in_flight)
    back = expand_feedback(program, batch)
    wafer = Wafer(program.machine, timing.cache, free_links=timing.free_links)
    visits = visits_of(timing.legs(context, candidates, batch), back)
    return run_pipeline(wafer, visits, entry_pe(program), in_flight, batch=batch, context=context)


def visits_of(legs: Iterable[Leg], back: Segment | None) -> tuple[Visit, ...]:
    """The visits of a token; legs without a transfer between them are one visit."""
    visits: list[Visit] = []
    for leg in legs:
        if leg.move is None and visits:
            stay = visits.pop()
            assert stay.block == leg.block, "a stage on another block, and no transfer leads there"
            visits.append(Visit(stay.block, stay.move, stay.ends, (*stay.stages, leg.stage)))
        else:
            visits.append(Visit(leg.block, leg.move, leg.ends, (leg.stage,)))
    return (*visits, *([Visit("", None, None, (back,))] if back else []))


def run_pipeline(
    wafer: Wafer, visits: Sequence[Visit], entry: tuple[int, int], in_flight: int, *, batch: int = 1, context: int = 0
) -> Flow:
    """As `pipeline`, for any visits; ids are at `entry`, the PE with which the first visit begins and the last ends."""
    run = _Run(wafer, tuple(visits), entry, [_Sequence(number) for number in range(in_flight)])
    seen: dict[tuple[tuple[int, ...], ...], int] = {}
    rounds: list[_Round] = []
    with working(f"simulating {in_flight} tokens in flight", unit="round") as work:
        while len(rounds) < MOST_ROUNDS:
            rounds.append(run.round(rounds[-1].end if rounds else 0))
            work.done = len(rounds)
            first = seen.setdefault(rounds[-1].profile(), len(rounds) - 1)
            if first < len(rounds) - 1:
                return _flow(rounds, first, run.visits, in_flight, batch, context)
    raise UnsettledError(f"{in_flight} tokens in flight: no round of {MOST_ROUNDS} begins and ends as an earlier one")


@dataclass(slots=True)
class _Sequence:
    number: int
    visit: int = 0  # the next one
    ready: int = 0  # cycle at which it could begin
    entered: int = 0


@dataclass(frozen=True, slots=True)
class _Stay:
    """One visit of one token as it ran, from the beginning of its transfer on. `busy`: cycles of its kernels."""

    sequence: int
    visit: int
    begin: int
    end: int
    busy: int


@dataclass(slots=True)
class _Round:
    """The visits from one token of sequence 0 to its next one, which comes out at `end`."""

    start: int
    end: int = 0
    stays: list[_Stay] = field(default_factory=list)
    latencies: list[int] = field(default_factory=list)
    late_requests: int = 0
    link_events: int = 0

    def profile(self) -> tuple[tuple[int, ...], ...]:
        return tuple((s.sequence, s.visit, s.begin - self.start, s.end - self.start, s.busy) for s in self.stays)


@dataclass(slots=True)
class _Run:
    """The wafer, the sequences, and the sequence on each block."""

    wafer: Wafer
    visits: tuple[Visit, ...]
    entry: tuple[int, int]
    sequences: list[_Sequence]
    occupied: dict[str, int] = field(default_factory=dict)

    def round(self, start: int) -> _Round:
        """Visits in the order in which their tokens are ready, until one of sequence 0 comes out."""
        done = _Round(start)
        while True:
            ready = [s for s in self.sequences if self._may_go(s)]
            if not ready:
                raise self._deadlock()
            chosen = min(ready, key=lambda s: (s.ready, s.number))
            self._go(chosen, done)
            if chosen.visit == 0 and chosen.number == 0:
                done.end = chosen.ready
                return done

    def _may_go(self, sequence: _Sequence) -> bool:
        block = self.visits[sequence.visit].block
        if self.occupied.get(block, sequence.number) != sequence.number:
            return False
        first = sequence.visit == 0 and _returns(self.visits)
        return not first or len({*self.occupied, block}) < len(_blocks(self.visits))

    def _go(self, sequence: _Sequence, done: _Round) -> None:
        visit = self.visits[sequence.visit]
        if sequence.visit == 0:
            sequence.entered = self.wafer.pe_free(*self.entry)
        stay = self._stay(sequence, visit, done)
        done.stays.append(stay)
        self._leave(sequence)
        if visit.block:
            self.occupied[visit.block] = sequence.number
        sequence.visit, sequence.ready = sequence.visit + 1, stay.end
        if sequence.visit == len(self.visits):
            self._leave(sequence)
            sequence.visit, sequence.ready = 0, self.wafer.pe_free(*self.entry)
            done.latencies.append(sequence.ready - sequence.entered)

    def _stay(self, sequence: _Sequence, visit: Visit, done: _Round) -> _Stay:
        runs = []
        if visit.move is not None and visit.ends is not None:
            runs.append(self.wafer.run(visit.move, self.wafer.hold(*visit.ends)))
        stages = [self.wafer.run(stage) for stage in visit.stages]
        runs += stages
        done.late_requests += sum(run.late_requests for run in runs)
        done.link_events += sum(run.effect.link_events for run in runs)
        busy = stages[-1].end - stages[0].base
        return _Stay(sequence.number, sequence.visit, runs[0].base, stages[-1].end, busy)

    def _leave(self, sequence: _Sequence) -> None:
        self.occupied = {block: number for block, number in self.occupied.items() if number != sequence.number}

    def _deadlock(self) -> DeadlockError:
        places = {number: block for block, number in self.occupied.items()}
        waiting = tuple(f"the token of sequence {n} on block {block}" for n, block in sorted(places.items()))
        return DeadlockError(waiting, len(self.sequences))


def _blocks(visits: Sequence[Visit]) -> set[str]:
    return {visit.block for visit in visits if visit.block}


def _returns(visits: Sequence[Visit]) -> bool:
    """Whether a token comes back to its first block, so that tokens could wait for each other in a ring."""
    return visits[0].block in {visit.block for visit in visits[1:]}


def _flow(
    rounds: list[_Round], first: int, visits: tuple[Visit, ...], in_flight: int, batch: int, context: int
) -> Flow:
    """The steady state: the rounds after number `first`, which the last one equals, repeat for ever."""
    period = rounds[first + 1 :]
    latencies = tuple(latency for done in period for latency in done.latencies)
    busy: dict[str, int] = {visit.block: 0 for visit in visits if visit.block}
    start, stays = period[0].start, []
    for stay in (s for done in period for s in done.stays if visits[s.visit].block):
        block = visits[stay.visit].block
        busy[block] += stay.busy
        stays.append(BlockStay(stay.sequence, block, stay.begin - start, stay.end - start, stay.busy))
    return Flow(
        in_flight=in_flight,
        batch=batch,
        context=context,
        cycles=period[-1].end - start,
        tokens=len(latencies),
        latencies=latencies,
        blocks=tuple(BlockUse(block, Fraction(cycles, len(latencies))) for block, cycles in busy.items()),
        settled_after=first,
        late_requests=sum(done.late_requests for done in period),
        link_events=sum(done.link_events for done in period),
        most_at_once=len(_blocks(visits)) - _returns(visits),
        stays=tuple(stays),
    )
