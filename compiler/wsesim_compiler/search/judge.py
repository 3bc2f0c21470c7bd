"""Judge: the metrics of placed blocks, by prices."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from wsesim.machine import Machine
from wsesim.program.kernels import PREFILL
from wsesim.program.layout import ceil_div
from wsesim.program.protocols import StageOracle
from wsesim_compiler.options import TYPICAL_CONTEXT, Options, PlacedBlock
from wsesim_compiler.partition import Partition
from wsesim_compiler.placement.chunk_choice import CHUNKS
from wsesim_compiler.placement.place_by_hand import block_bytes
from wsesim_compiler.placement.probe import Probe
from wsesim_compiler.placement.refuse import largest
from wsesim_compiler.search.goals import CONTEXT, PROMPT, Goal, Metrics
from wsesim_compiler.search.plans import Plan
from wsesim_compiler.search.prices import Prices

SPARE = 16  # one more sequence for as many
MOST_CONTEXT = 1 << 24  # tokens that are looked at


@dataclass(frozen=True, slots=True)
class Candidate:
    """Blocks, what they do, and how good that is for the goal: the lower the cost, the better.

    `origin` says in words where they come from. `plan` is None for blocks that a strategy placed. `chunk` is the
    `prefill_chunk` that the metrics of a prompt are for; None if the goal asks for no prompt. `sequences`: those that
    the KV cache holds.
    """

    origin: str
    plan: Plan | None
    blocks: tuple[PlacedBlock, ...]
    metrics: Metrics
    cost: float
    busiest_cycles: int
    chunk: int | None = None
    sequences: int = 1

    def cycles(self, machine: Machine) -> int:
        """Of a lone decode step."""
        return round(self.metrics.seconds_per_token * machine.clock_hz)


class Judge:
    """Prices whole plans for a goal. A metric that the goal does not ask for is not worked out: it is 1.

    `simulated`: decode steps are priced by simulated layers. `chunks`: how many tokens of a prompt may go through a
    block together, unless the options state it. `free_sequences`: each candidate gets the number of sequences that is
    best for it; those of the options are only what plans are made for.
    """

    def __init__(
        self,
        partition: Partition,
        machine: Machine,
        options: Options,
        cost: StageOracle,
        goal: Goal,
        *,
        simulated: bool = False,
        chunks: tuple[int, ...] = CHUNKS,
        free_sequences: bool = False,
    ) -> None:
        self.partition, self.machine, self.options, self.goal = partition, machine, options, goal
        context = min(goal.context + 1, options.max_context)
        self.prices = Prices(partition, machine, options, cost, context, simulated=simulated)
        self.oracle = cost
        self.chunks = (options.prefill_chunk,) if options.prefill_chunk else chunks
        self.free_sequences = free_sequences
        self._prompts: dict[int, Prices] = {}
        self._typical: list[Prices] = []
        self._judged = 0
        self._family = {(options.sequences, free_sequences): self}

    @property
    def judged(self) -> int:
        """Candidates so far, for any number of sequences."""
        return sum(judge._judged for judge in self._family.values())

    def simulating(self) -> Judge:
        """The same judge, which prices decode steps by simulated layers."""
        own = self.partition, self.machine, self.options, self.oracle, self.goal
        return Judge(*own, simulated=True, chunks=self.chunks, free_sequences=self.free_sequences)

    def for_goal(self, goal: Goal) -> Judge:
        own = self.partition, self.machine, self.options, self.oracle
        return Judge(*own, goal, chunks=self.chunks, free_sequences=self.free_sequences)

    def with_sequences(self, sequences: int, *, free: bool = False) -> Judge:
        """The judge for another number of sequences. Both remember prices together."""
        if (sequences, free) not in self._family:
            other = copy.copy(self)
            other.options = dataclasses.replace(self.options, sequences=sequences)
            other.prices = self.prices.with_sequences(sequences)
            other.free_sequences, other._judged = free, 0
            self._family[sequences, free] = other
        return self._family[sequences, free]

    def candidate(self, plan: Plan) -> Candidate | None:
        """The plan with its metrics; None if it does not stand on the wafer."""
        blocks = plan.blocks(self.partition)
        return None if blocks is None else self.placed(blocks, plan.name(), plan)

    def placed(self, blocks: tuple[PlacedBlock, ...], origin: str, plan: Plan | None = None) -> Candidate | None:
        """Blocks with their metrics; None if they do not hold their stages."""
        self._judged += 1
        found = self._with_stated_sequences(blocks, origin, plan)
        if found is None or not self.free_sequences:
            return found
        own = self.with_sequences(self._enough_sequences(found))
        others = (found, own._with_stated_sequences(blocks, origin, plan))
        held = [candidate for candidate in others if candidate is not None]
        return min(held, key=lambda c: (not self.goal.allows(c.metrics), c.cost, c.sequences))

    def _enough_sequences(self, found: Candidate) -> int:
        """As many as keep the busiest block busy, and a few more because prices are not exact, if they fit."""
        enough = ceil_div(found.cycles(self.machine), found.busiest_cycles)
        return max(1, min(enough + ceil_div(enough, SPARE), self.prices.most_sequences(found.blocks)))

    def _with_stated_sequences(
        self, blocks: tuple[PlacedBlock, ...], origin: str, plan: Plan | None
    ) -> Candidate | None:
        price = self.prices.pass_price(blocks)
        if price is None:
            return None
        seconds = 1 / self.machine.clock_hz
        period = max(price.busiest_cycles, ceil_div(price.cycles, self.options.sequences))
        context, chunk, prompt_seconds = 1, None, 1.0
        if self.goal.wants(CONTEXT):
            context = longest_context(self.partition, self.machine, self.options, blocks)
        if self.goal.wants(PROMPT):
            prompt_cycles, chunk = self._prompt(blocks)
            prompt_seconds = prompt_cycles * seconds
        metrics = Metrics(price.cycles * seconds, 1 / (period * seconds), context, prompt_seconds)
        cost, sequences = self.goal.cost(metrics), self.options.sequences
        return Candidate(origin, plan, blocks, metrics, cost, price.busiest_cycles, chunk, sequences)

    def _prompt(self, blocks: Sequence[PlacedBlock]) -> tuple[int, int]:
        """Cycles of a prompt, and its chunk: the fastest of those that fit.

        The first chunk goes its way; each other one takes the busiest block's time.
        """
        tokens = min(self.goal.prompt, self.options.max_context)
        found = []
        for chunk in self.chunks:
            price = self.chunk_prices(chunk).pass_price(blocks)
            if price is not None:
                found.append((price.cycles + (ceil_div(tokens, chunk) - 1) * price.busiest_cycles, chunk))
        return min(found)

    def strategy_prices(self) -> Prices:
        """Prices of a decode step at a typical context, for which strategies place."""
        context = min(TYPICAL_CONTEXT, self.options.max_context)
        if context == self.prices.context and not self.prices.simulated:
            return self.prices
        if not self._typical:
            self._typical.append(Prices(self.partition, self.machine, self.options, self.oracle, context))
        return self._typical[0].with_sequences(self.options.sequences)

    def chunk_prices(self, chunk: int) -> Prices:
        """Prices of a prompt's chunk."""
        tokens = min(self.goal.prompt, self.options.max_context)
        if chunk not in self._prompts:
            options = dataclasses.replace(self.options, prefill_chunk=chunk)
            self._prompts[chunk] = Prices(
                self.partition, self.machine, options, self.oracle, tokens, phase=PREFILL, chunk=min(chunk, tokens)
            )
        return self._prompts[chunk].with_sequences(self.options.sequences)


def longest_context(partition: Partition, machine: Machine, options: Options, blocks: Sequence[PlacedBlock]) -> int:
    """The most tokens of a sequence for which every block has room; 0 if there is room for none.

    Of blocks with equal stages and shapes one is looked at.
    """
    probe = Probe(partition, machine, dataclasses.replace(options, strategy="pipelined", layers_per_block=1))
    stage = {s.name: s for whole in partition.stages for s in (whole, *whole.halves)}
    kinds = {(probe.kind(tuple(stage[name] for name in p.stages)), p.block.columns, p.block.rows): p for p in blocks}

    def fits(tokens: int) -> bool:
        changed = dataclasses.replace(options, max_context=tokens, blocks=tuple(blocks))
        return all(block_bytes(partition, machine, changed, placed) <= machine.room_bytes for placed in kinds.values())

    return longest(fits)


def longest(fits: Callable[[int], bool]) -> int:
    """The most tokens that fit, 0 if not one does. MOST_CONTEXT are looked at."""
    most = 256
    while fits(most) and most < MOST_CONTEXT:
        most *= 2
    return largest(most, fits)
