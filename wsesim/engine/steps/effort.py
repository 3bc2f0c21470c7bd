"""Effort: the time and memory of a simulation, estimated from its segments before any of them runs.

The counts follow from the Program: segments, PEs of their windows, links that messages pass. Seconds and bytes are
counts times rates that were measured on one computer. They tell seconds from minutes, no more.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from wsesim.engine.exact.fold import BYTES_PER_ENTRY
from wsesim.engine.exact.wafer import MOST_RECORDS
from wsesim.engine.expand.paths import Paths
from wsesim.engine.expand.segment import Plan, Segment
from wsesim.engine.expand.transfer import expand_feedback
from wsesim.engine.steps.timing import Leg, Timing
from wsesim.program.layout import ceil_div
from wsesim.progress import duration

# Medians of decode steps, prompts of 50 to 800 tokens and 2 to 31 tokens in flight of llama3.1-8b, llama3.2-1b and
# smollm2-135m on wse3: CPU time on an AMD EPYC, numpy 2.4, numba 0.68.
PE_SECONDS = 80e-9  # a PE of a segment's window, once the state is written out for the whole wafer
LINK_SECONDS = 220e-9  # a link that a message passes, in a segment that is simulated
PATH_STEPS = 165  # of the critical path, in a segment
PATH_SECONDS, PATH_BYTES = 30e-6, 250  # a step of it
RUN_BYTES = 4_000  # a segment's run that a Step keeps
EFFECT_BYTES = 136  # a PE of a window whose effect is cached, or of the wafer's written state
BASE_BYTES = 400_000_000  # a process that has imported the engine
EFFECTS = 128  # that are cached
ROUNDS = 6  # of tokens in flight until they repeat: 3 to 12


@dataclass(frozen=True, slots=True)
class Effort:
    """Counted work.

    runs             segments
    visited_pes      PEs of their windows
    link_events      links that messages pass in segments that are simulated
    path_steps       steps of the critical path; 0 if it is not wanted
    effect_pes       PEs of the windows whose effects are cached
    graph_entries    tasks and messages of the largest segment that is one graph
    """

    runs: int = 0
    visited_pes: int = 0
    link_events: int = 0
    path_steps: int = 0
    effect_pes: int = 0
    graph_entries: int = 0

    @property
    def seconds(self) -> float:
        """CPU seconds, roughly."""
        visits = PE_SECONDS * self.visited_pes if self.runs > MOST_RECORDS else 0.0
        return visits + LINK_SECONDS * self.link_events + PATH_SECONDS * self.path_steps

    @property
    def bytes(self) -> int:
        """Memory of the process at its peak, roughly."""
        kept = EFFECT_BYTES * self.effect_pes + RUN_BYTES * self.runs + PATH_BYTES * self.path_steps
        return BASE_BYTES + kept + BYTES_PER_ENTRY * self.graph_entries

    def __str__(self) -> str:
        """As `roughly 60 s and 1.2 GB (48,800 segments on 652 million PEs)`."""
        counted = f"{self.runs:,} segments on {self.visited_pes / 1e6:,.0f} million PEs"
        return f"roughly {duration(self.seconds)} and {self.bytes / 1e9:.1f} GB ({counted})"

    def then(self, other: Effort) -> Effort:
        """Both, one after the other: the time of both, the memory of the larger."""
        return Effort(
            self.runs + other.runs,
            self.visited_pes + other.visited_pes,
            self.link_events + other.link_events,
            self.path_steps + other.path_steps,
            max(self.effect_pes, other.effect_pes),
            max(self.graph_entries, other.graph_entries),
        )

    def repeated(self, times: int) -> Effort:
        """`times` such simulations that share nothing, without their critical paths."""
        return dataclasses.replace(
            self,
            runs=times * self.runs,
            visited_pes=times * self.visited_pes,
            link_events=times * self.link_events,
            path_steps=0,
        )


def decode_effort(timing: Timing, context: int, batch: int = 1) -> Effort:
    """Of `Timing.decode`, and of its critical path."""
    segments = _segments(timing.legs(context, batch=batch)) + _feedback(timing, batch)
    return _effort(timing, segments, steps=1, kinds=1)


def prefill_effort(timing: Timing, tokens: int) -> Effort:
    """Of `Timing.prefill`, and of its critical path, which goes through the busiest block once a chunk."""
    chunk = min(timing.program.prefill_chunk, tokens)
    legs = timing.legs_of_chunk(chunk, tokens)
    return _effort(timing, _segments(legs), steps=ceil_div(tokens, chunk), kinds=timing.kinds_of_chunk(tokens))


def prefill_times_effort(timing: Timing, tokens: int) -> Effort:
    """Of `Timing.prefill_times`, which runs a few chunks of each kind until they repeat."""
    chunk = min(timing.program.prefill_chunk, tokens)
    kinds = timing.kinds_of_chunk(tokens)
    steps = min(ceil_div(tokens, chunk), 4 * kinds)
    found = _effort(timing, _segments(timing.legs_of_chunk(chunk, tokens)), steps=steps, kinds=kinds)
    return dataclasses.replace(found, path_steps=0)


def flow_effort(timing: Timing, in_flight: int, context: int, batch: int = 1) -> Effort:
    """Of `pipeline`, for a typical number of rounds: the true one is not known before."""
    segments = _segments(timing.legs(context, batch=batch)) + _feedback(timing, batch)
    found = _effort(timing, segments, steps=ROUNDS * in_flight, kinds=1)
    return dataclasses.replace(found, path_steps=0)


def link_events(plan: Plan) -> int:
    """Links that the plan's messages pass."""
    if isinstance(plan.parts, Paths):
        return int((plan.parts.hops1 + plan.parts.hops2).sum())
    if not plan.parts:
        return int((plan.graph.hops1 + plan.graph.hops2).sum())
    lines = (equal for phase in plan.parts for equal in phase)
    return sum(len(e.members) * int((e.line.graph.hops1 + e.line.graph.hops2).sum()) for e in lines)


def _effort(timing: Timing, segments: Sequence[Segment], steps: int, kinds: int) -> Effort:
    """Of `steps` times the segments of one step, which are of `kinds` kinds."""
    plans = {id(segment.plan): segment for segment in segments}
    program, runs = timing.program, steps * len(segments)
    effects = min(EFFECTS, 2 * kinds * len(plans))
    on_block = Counter(kernel.block for kernel in program.kernels)
    share = max(on_block.values()) / len(program.kernels)
    planes = program.machine.columns * program.machine.rows if runs > MOST_RECORDS else 0
    return Effort(
        runs,
        steps * sum(segment.window.pes for segment in segments),
        kinds * sum(link_events(segment.plan) for segment in plans.values()),
        round(PATH_STEPS * len(segments) * (1 + (steps - 1) * share)),
        planes + effects * sum(segment.window.pes for segment in plans.values()) // len(plans),
        max(_graph_entries(segment.plan) for segment in plans.values()),
    )


def _graph_entries(plan: Plan) -> int:
    """Tasks and messages of a plan that is not folded."""
    folded = plan.parts and not isinstance(plan.parts, Paths)
    return 0 if folded else sum(plan.counts)


def _segments(legs: Sequence[Leg]) -> list[Segment]:
    return [segment for leg in legs for segment in (leg.move, leg.stage) if segment is not None]


def _feedback(timing: Timing, batch: int) -> list[Segment]:
    back = expand_feedback(timing.program, batch)
    return [back] if back else []
