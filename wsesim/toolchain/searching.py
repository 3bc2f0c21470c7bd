"""search(): where the layers of a model go on a wafer, and how far the result is from the best possible."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from wsesim.errors import DoesNotFitError, InvalidInputError, brief, keyword
from wsesim.machine import Machine
from wsesim.progress import Work, working
from wsesim.software.software import Software
from wsesim.toolchain.compiling import Compilation, prepare
from wsesim.toolchain.explaining import explain
from wsesim.toolchain.measuring import Pick, Question, measured, measured_or_none
from wsesim.toolchain.model_source import Say, silent, unobserved
from wsesim.toolchain.options import (
    DEFAULT_MACHINE,
    DEFAULT_MODEL,
    DEFAULT_SOFTWARE,
    Lowering,
    SearchOptions,
    chosen,
    public,
)
from wsesim.toolchain.search_command import command_of
from wsesim.toolchain.simulating import DEFAULT_CACHED, DEFAULT_PROMPT
from wsesim.toolchain.workers import Task, Workers
from wsesim.version import __version__

if TYPE_CHECKING:
    from wsesim.report.placement_figures import PlacementFigures
    from wsesim.report.search import SearchReport
    from wsesim_compiler.options import PlacedBlock
    from wsesim_compiler.search.bound import Bound
    from wsesim_compiler.search.goals import Goal, Metrics
    from wsesim_compiler.search.judge import Candidate, Judge

EXPLORING = 0.4
"""Part of a budget in seconds for pricing candidates; the rest is for simulating the best ones."""
FINALISTS = 10
PRICED_AGAIN = 4  # of each origin
_STATED = ("strategy", "layers_per_block", "block", "order", "placement")
"""Options that the search decides."""


@public(SearchOptions, Lowering)
def search(
    model: str = DEFAULT_MODEL,
    *,
    objective: str = "latency",
    slo: str | Sequence[str] | None = None,
    context: int | None = None,
    prompt_tokens: int | None = None,
    budget: str = "60s",
    seed: int = 0,
    jobs: int | None = None,
    top: int = 5,
    explain: bool = False,
    machine: str | Machine = DEFAULT_MACHINE,
    software: str | Software = DEFAULT_SOFTWARE,
    defects: str | None = None,
    rope_theta: float | None = None,
    max_context: int | None = None,
    sequences: int | None = None,
    batch: int = 1,
    timing_dtype: str = "fp16",
    kv: str = "interleaved",
    kv_dtype: str | None = None,
    softmax: str = "auto",
    collective: str = "auto",
    prefill_chunk: int | None = None,
    form: str | None = None,
    say: Say = silent,
) -> SearchReport:
    """The best placements found for an objective, beside the default, and a bound that none can be below.

    Candidates are ranked by prices. The best of them are compiled and simulated. Ctrl-C ends the search and keeps what
    was found. Raises DoesNotFitError if no placement fits, InvalidInputError if none keeps the limits.

    Args:
        model: as in `wsesim.compile`, but not a Program.
        objective: "latency", "throughput", "context", "prompt", or weights such as "latency=3,prompt=1".
        slo: limits, such as "tokens_per_second>=20000", one or several.
        context: cached tokens of the decode step. None: 512, or as many as fit.
        prompt_tokens: tokens of the prompt. None: 128, or as many as fit.
        budget: seconds, such as "60s", or a number of candidates, such as "1000". "0" measures only the default.
        seed: of the random changes.
        jobs: processes for the bound and the best candidates. None: one per core. They import the script that calls
            this, so a script calls it below `if __name__ == "__main__":`.
        top: placements to report, which differ.
        explain: also simulate the steps from the simplest placement to the best one.
        machine, ..., form: as in `wsesim.compile`.
        say: called with a line before long work.
    """
    values = locals()
    return search_model(model, chosen(SearchOptions, values), chosen(Lowering, values), say=say)


def search_model(model: str, options: SearchOptions, lowering: Lowering, *, say: Say = silent) -> SearchReport:
    """As `search`, with the options as values."""
    prepared = _prepared(model, lowering, options.objective)
    asked = _Asked.of(options, free_sequences=lowering.sequences is None)
    goal = _goal(options, prepared)
    least = max((int(limit.value) for limit in goal.limits if limit.metric == "context"), default=0)
    if least > prepared.options.max_context:
        prepared = dataclasses.replace(prepared, options=dataclasses.replace(prepared.options, max_context=least))
    return _searched(prepared, goal, asked, command_of(model, options, lowering), say)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A budget: seconds, or a number of candidates. `free_sequences`: the search may choose them."""

    seconds: float | None
    candidates: int | None
    objective: str
    seed: int
    jobs: int
    top: int
    explain: bool
    free_sequences: bool

    @staticmethod
    def of(options: SearchOptions, free_sequences: bool) -> _Asked:
        """Raises InvalidInputError."""
        import os

        found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*(s|min|h|)", options.budget.strip())
        if not found or (found[2] == "" and "." in found[1]):
            raise InvalidInputError(
                f"{keyword('budget', options.budget)}: give seconds, as 60s, or a number of candidates, as 1000"
            )
        for name in ("jobs", "top"):
            count = getattr(options, name)
            if count is not None and count < 1:
                raise InvalidInputError(f"{keyword(name, count)}: it is at least 1")
        jobs = options.jobs or os.cpu_count() or 1
        each = {"s": 1, "min": 60, "h": 3600}
        seconds = float(found[1]) * each[found[2]] if found[2] else None
        candidates = None if found[2] else int(found[1])
        own = options.objective, options.seed, jobs, options.top, options.explain
        return _Asked(seconds, candidates, *own, free_sequences)

    @property
    def nothing(self) -> bool:
        return not self.seconds and not self.candidates


def _prepared(model: str, lowering: Lowering, objective: str) -> Compilation:
    for name in _STATED:
        if getattr(lowering, name) != getattr(Lowering(), name):
            raise InvalidInputError(f"`{name}` and a search exclude each other: the search decides it")
    prepared = prepare(model, lowering, objective)
    if not isinstance(prepared, Compilation):
        raise InvalidInputError(f"{brief(str(model))} is a Program, whose placement is fixed; search for its model")
    return prepared


def _goal(options: SearchOptions, prepared: Compilation) -> Goal:
    from wsesim_compiler.search.goals import Goal, parse_limits, parse_objective

    most = prepared.options.max_context
    context = min(DEFAULT_CACHED, most - 1) if options.context is None else options.context
    prompt = min(DEFAULT_PROMPT, most) if options.prompt_tokens is None else options.prompt_tokens
    for name, value, least, longest in (("context", context, 0, most - 1), ("prompt_tokens", prompt, 1, most)):
        if not least <= value <= longest:
            limits = f"it is {least} to {longest} with {keyword('max_context', most)}"
            raise InvalidInputError(f"{keyword(name, value)}: {limits}")
    stated = (options.slo,) if isinstance(options.slo, str) else tuple(options.slo or ())
    return Goal(parse_objective(options.objective), parse_limits(stated), context, prompt)


def _searched(prepared: Compilation, goal: Goal, asked: _Asked, command: str, say: Say) -> SearchReport:
    from wsesim.report.search import SearchReport

    started_s = time.monotonic()
    judge = _judge(prepared, goal, asked, say)
    question = Question(judge.partition, judge.machine, judge.options, goal.context, goal.prompt)
    stated = dataclasses.replace(question, options=prepared.options)
    whole = dataclasses.replace(stated, machine=dataclasses.replace(judge.machine, dead=frozenset()))
    with Workers(asked.jobs) as workers:
        bounding = workers.begin(_bound, question, judge.prices.context)
        if asked.jobs == 1:
            bounding.result()
        began_s = time.monotonic()  # the budget is for candidates, not for the graph
        found, stopped = _explored(judge, asked, began_s, bounding)
        if not found and not asked.nothing:
            _refuse(judge)
        measuring = workers.begin(measured_or_none, stated, Pick("default"), True)
        measuring_whole = workers.begin(measured_or_none, whole, Pick("whole")) if judge.machine.dead else None
        picks = _picks(judge, found, max(FINALISTS, asked.top))
        rows, stopped = _measured(workers, question, picks[:1] if stopped else picks, asked, began_s, stopped)
        ranked = sorted((row for row in rows if goal.allows(_metrics(row))), key=lambda row: goal.cost(_metrics(row)))
        if rows and not ranked:
            raise InvalidInputError(_missed(goal, [_metrics(row) for row in rows]))
        least, default = bounding.result(), measuring.result()
        intact = measuring_whole.result() if measuring_whole is not None else None
    best = _by_operator(question, picks, ranked[0]) if ranked else default
    if best is None:
        _refuse(judge)
    assert best is not None
    own = judge.with_sequences(best.sequences)
    if best.sequences != judge.options.sequences:
        least = _bound(dataclasses.replace(question, options=own.options), own.prices.context)
    priced = own.placed(next((p.blocks for p in picks if p.origin == best.origin), ()) or _blocks_of(own), "")
    return SearchReport(
        model=judge.partition.graph.name,
        machine=prepared.machine,
        objective=asked.objective,
        context=goal.context,
        prompt=goal.prompt,
        sequences=best.sequences,
        command=command,
        version=__version__,
        bound_cycles=least.cycles,
        bound_operators=least.operators,
        period_bound_cycles=least.period_cycles,
        price_cycles=round(priced.metrics.seconds_per_token * prepared.machine.clock_hz) if priced else 0,
        default=default,
        found=(best, *ranked[1 : asked.top]),
        candidates=judge.judged,
        seconds=time.monotonic() - started_s,
        interrupted=stopped,
        whole_cycles=intact.cycles if intact is not None else None,
        explanation=explain(question, judge, found, best) if asked.explain and found and not stopped else None,
    )


def _judge(prepared: Compilation, goal: Goal, asked: _Asked, say: Say) -> Judge:
    """What prices candidates. For the objective `context`, at the longest that any of them holds."""
    from wsesim.toolchain.oracle import EngineOracle
    from wsesim_compiler.passes.partition import partition
    from wsesim_compiler.search.goals import CONTEXT, THROUGHPUT
    from wsesim_compiler.search.judge import Judge
    from wsesim_compiler.search.longest import longest_that_fits

    _check_size(prepared)
    split, options, oracle = partition(prepared.source.graph(unobserved, say)), prepared.options, EngineOracle()
    if CONTEXT in dict(goal.weights) and not asked.nothing:
        longest = longest_that_fits(split, prepared.machine, options, oracle)
        options = dataclasses.replace(options, max_context=max(longest, options.max_context))
    free = asked.free_sequences and goal.wants(THROUGHPUT) and CONTEXT not in dict(goal.weights)
    return Judge(split, prepared.machine, options, oracle, goal, free_sequences=free)


def _check_size(prepared: Compilation) -> None:
    """Raises DoesNotFitError if the weights of a model with a name need more than all PEs have; no graph is read."""
    from wsesim.machine.parts import dtype_bytes
    from wsesim.tables import si_bytes
    from wsesim_models.config import CONFIGS

    config, machine = CONFIGS.get(prepared.source.model), prepared.machine
    if config is None:
        return
    needed = config.parameters() * dtype_bytes(prepared.options.timing_dtype)
    there = machine.usable.pes * machine.room_bytes
    if needed > there:
        wafers = -(-needed // there)
        raise DoesNotFitError(
            f"{config.name} does not fit {machine.name}: the weights need {si_bytes(needed)} ({needed:,} bytes), its "
            f"PEs have room for {si_bytes(there)} ({there:,}); it takes {wafers} wafers or more"
        )


def _metrics(row: PlacementFigures) -> Metrics:
    from wsesim_compiler.search.goals import Metrics

    return Metrics(row.seconds_per_token, row.tokens_per_second, row.context, row.prompt_seconds)


def _by_operator(question: Question, picks: Sequence[Pick], row: PlacementFigures) -> PlacementFigures:
    """The row with its operators."""
    return measured(question, next(pick for pick in picks if pick.origin == row.origin), by_operator=True)


def _blocks_of(judge: Judge) -> tuple[PlacedBlock, ...]:
    """The blocks of the options' strategy."""
    from wsesim_compiler.passes.place import place

    return place(judge.partition, judge.machine, judge.options, judge.oracle).blocks


def _missed(goal: Goal, metrics: Sequence[Metrics]) -> str:
    from wsesim_compiler.search.goals import nearest

    best = ", ".join(f"{name} {value:,.6g}" for name, value in nearest(goal.limits, metrics).items())
    return f"no placement keeps {_limits(goal)}; the nearest that was found: {best}"


def _limits(goal: Goal) -> str:
    return " and ".join(map(str, goal.limits))


def _bound(question: Question, context: int) -> Bound:
    """The bound of a decode step over `context` tokens, the new one among them."""
    from wsesim.toolchain.oracle import EngineOracle
    from wsesim_compiler.search.bound import bound
    from wsesim_compiler.search.prices import Prices

    return bound(Prices(question.partition, question.machine, question.options, EngineOracle(), context))


def _explored(judge: Judge, asked: _Asked, began_s: float, bounding: Task[Bound]) -> tuple[list[Candidate], bool]:
    """Candidates that keep the limits, the best first, and whether Ctrl-C ended the search."""
    from wsesim_compiler.search.sequences import explore_sequences

    found: list[Candidate] = []
    until_s = None if asked.seconds is None else began_s + EXPLORING * asked.seconds
    stopped = False
    with working("searching", asked.candidates, "candidate", steady=False) as work:
        try:
            for number, candidate in enumerate(islice(explore_sequences(judge, asked.seed), asked.candidates), start=1):
                work.done = number
                if candidate is not None:
                    found.append(candidate)
                    _say_best(work, judge, found, bounding)
                if until_s is not None and time.monotonic() > until_s:
                    break
        except KeyboardInterrupt:
            if not found:
                raise
            stopped = True
    return sorted(found, key=lambda c: c.cost), stopped


def _say_best(work: Work, judge: Judge, found: Sequence[Candidate], bounding: Task[Bound]) -> None:
    """The best so far in the line of progress, and the bound and the gap as soon as they are known."""
    best = min(found, key=lambda c: c.cost)
    cycles = best.cycles(judge.machine)
    work.what = f"searching: best {cycles:,} cycles a token"
    least_cycles = bounding.result().cycles if bounding.ready else 0
    if least_cycles:
        work.what += f", bound {least_cycles:,}, gap {100 * (cycles / least_cycles - 1):.1f} %"


def _picks(judge: Judge, found: Sequence[Candidate], count: int) -> list[Pick]:
    """The best candidates of different origins. Of each origin a few are priced again, by simulated layers."""
    by_origin: dict[str, dict[tuple[PlacedBlock, ...], Candidate]] = {}
    for candidate in found:
        alike = by_origin.setdefault(candidate.origin, {})
        if len(alike) < PRICED_AGAIN:
            alike.setdefault(candidate.blocks, candidate)
    exact = judge.simulating()
    best = []
    for origin, alike in islice(by_origin.items(), 2 * count):
        again = (exact.placed(c.blocks, origin, c.plan) for c in alike.values())
        best.append(min((c for c in again if c is not None), key=lambda c: c.cost))
    ranked = sorted(best, key=lambda c: c.cost)[:count]
    return [Pick(c.origin, c.blocks, c.chunk, c.sequences) for c in ranked]


def _measured(
    workers: Workers, question: Question, picks: Sequence[Pick], asked: _Asked, began_s: float, stopped: bool
) -> tuple[list[PlacementFigures], bool]:
    """The figures of the placements that the budget allows, at least of one; and whether Ctrl-C came."""
    rows: list[PlacementFigures] = []
    until_s = None if asked.seconds is None else began_s + asked.seconds
    with working("simulating the best", len(picks), "placement") as work:
        try:
            for task in [workers.begin(measured_or_none, question, pick) for pick in picks]:
                row = task.result()
                work.done += 1
                rows += [] if row is None else [row]
                if rows and until_s is not None and time.monotonic() > until_s:
                    break
        except KeyboardInterrupt:
            if not rows:
                raise
            stopped = True
    return rows, stopped


def _refuse(judge: Judge) -> None:
    """Raises DoesNotFitError with what is missing, or InvalidInputError with the nearest to the limits."""
    from wsesim_compiler.passes.place import refusal
    from wsesim_compiler.search.sequences import explore_sequences

    free = dataclasses.replace(judge.goal, limits=())
    again = judge.for_goal(free)
    metrics = [c.metrics for c in islice(explore_sequences(again, 0), 200) if c is not None]
    if not metrics:
        shared = dataclasses.replace(judge.options, strategy="shared", layers_per_block=1)
        raise refusal(judge.partition, judge.machine, shared, "with any strategy, not even as shared")
    raise InvalidInputError(_missed(judge.goal, metrics))
