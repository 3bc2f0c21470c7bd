"""choose: Placement -> Placement with a form and a collective for every kernel and phase, and the prompt's chunk.

Contract: forms come first (`placement/form_choice.py`), then `prefill_chunk` (`placement/chunk_choice.py`), because
collectives depend on both. "auto" ends here. On each block and in each phase, the chosen
collectives have the lowest sum of cycles. The sum counts every collective, as the oracle prices it, and every change of
routes between two kernels: a PE holds the routes of one algorithm on one kind of lines at a time. The kernels of a
block form a round, since the next token follows the last. Ties: first in ALGORITHMS order. The draw and the logits run
once after either phase, with one algorithm for both. If the options name a kernel's form or collectives, the kernel has
those. Raises UnknownNameError for an unknown kernel or form.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from wsesim.errors import InvalidInputError, UnknownNameError
from wsesim.machine import Machine
from wsesim.program.collectives import ALGORITHMS, STREAMED
from wsesim.program.kernels import DECODE, PREFILL, Kernel
from wsesim.program.parts import Block
from wsesim.program.protocols import CostOracle, LineUse
from wsesim.progress import working
from wsesim.software import Software
from wsesim_compiler.options import AUTO, TYPICAL_CONTEXT, TYPICAL_PROMPT, ByPhase, PlacedBlock
from wsesim_compiler.placement.chunk_choice import choose_chunk
from wsesim_compiler.placement.form_choice import choose_forms
from wsesim_compiler.placement.placement import Placement
from wsesim_compiler.placement.price import line_use


@dataclass(frozen=True, slots=True)
class Stop:
    """A kernel's collective: the kind of its lines, and of each algorithm the better staging's cycles and name."""

    kind: str
    cheapest: tuple[tuple[int, str], ...]


def choose(placement: Placement, cost: CostOracle) -> Placement:
    """Writes down the form of each kernel, and the collectives of each that has one."""
    placement = choose_chunk(choose_forms(placement, cost), cost)
    chosen: dict[str, ByPhase] = {}
    once: set[str] = set()  # after either phase
    asked = _Asked(placement.machine, placement.options.software, cost)
    with working("choosing collectives", len(placement.blocks), "block") as work:
        for work.done, placed in enumerate(placement.blocks):
            reducing = [k for k in placement.kernels_on(placed) if hasattr(k, "reduce")]
            once |= {k.name for k in reducing if k.last_token_only}
            if placement.options.collective != AUTO:
                both = ByPhase(placement.options.collective, placement.options.collective)
                chosen |= {k.name: both for k in reducing}
                continue
            decode, prefill = (_on_block(placement, placed, reducing, phase, asked) for phase in (DECODE, PREFILL))
            chosen |= {k.name: ByPhase(decode[k.name], prefill[k.name]) for k in reducing}
    for kernel, stated in placement.options.collectives:
        chosen[kernel] = _stated(kernel, stated, chosen, once)
    return dataclasses.replace(placement, collectives=tuple(chosen.items()))


def _stated(kernel: str, stated: ByPhase, chosen: dict[str, ByPhase], once: set[str]) -> ByPhase:
    """What the options say of a kernel; what they leave to the compiler stays as it was chosen."""
    if kernel not in chosen:
        raise UnknownNameError("kernel with a collective", kernel, chosen)
    if kernel in once and stated.differing:
        raise InvalidInputError(f"{kernel} is made once after either phase, by one collective, not by two: {stated}")
    before = chosen[kernel]
    return ByPhase(
        before.decode if stated.decode == AUTO else stated.decode,
        before.prefill if stated.prefill == AUTO else stated.prefill,
    )


def _on_block(
    placement: Placement, placed: PlacedBlock, kernels: list[Kernel], phase: str, asked: _Asked
) -> dict[str, str]:
    """Collectives of a phase by kernel. One that has no line to sum over takes the first algorithm."""
    summing = [kernel for kernel in kernels if kernel.lines]
    stops = tuple(
        Stop(k.lines, asked.cheapest(collective_use(k, placed.block, placement, phase), _is_streamable(k)))
        for k in summing
    )
    best = cheapest_round(stops, placement.options.software.change_cycles(placement.machine))
    return {k.name: ALGORITHMS[0] for k in kernels} | {k.name: text for k, text in zip(summing, best, strict=True)}


def _is_streamable(kernel: Kernel) -> bool:
    summed = kernel.collective(0)
    return summed is not None and summed.streamable


class _Asked:
    """What the oracle has said of a machine and a software."""

    def __init__(self, machine: Machine, software: Software, cost: CostOracle) -> None:
        self._machine, self._software, self._cost = machine, software, cost
        self._known: dict[tuple[LineUse, bool], tuple[tuple[int, str], ...]] = {}

    def cheapest(self, use: LineUse, streamable: bool) -> tuple[tuple[int, str], ...]:
        """Of each algorithm the better staging: its cycles and its name."""
        if (use, streamable) not in self._known:
            stagings = ("", STREAMED) if streamable else ("",)
            self._known[use, streamable] = tuple(
                min(((self._cycles(use, s + a), s + a) for s in stagings), key=lambda found: found[0])
                for a in ALGORITHMS
            )
        return self._known[use, streamable]

    def _cycles(self, use: LineUse, collective: str) -> int:
        return self._cost.collective_cycles(self._machine, self._software, use, collective)


@lru_cache(maxsize=256)  # layers are alike
def cheapest_round(stops: tuple[Stop, ...], reroute_cycles: int) -> tuple[str, ...]:
    """The collectives of a round through all stops, from the last one's routes on, with the lowest sum."""
    rounds = (_cheapest_from(stops, first, reroute_cycles) for first in range(len(ALGORITHMS)))
    best = min(rounds, key=lambda found: found[0])[1] if stops else ()
    return tuple(stop.cheapest[algorithm][1] for stop, algorithm in zip(stops, best, strict=True))


def _cheapest_from(stops: tuple[Stop, ...], first: int, reroute_cycles: int) -> tuple[int, tuple[int, ...]]:
    """The cheapest round that begins with algorithm `first`, by dynamic programming: its cycles, and the algorithms."""

    def reroute(before: Stop, old: int, after: Stop, new: int) -> int:
        return reroute_cycles if (before.kind, old) != (after.kind, new) else 0

    reached: dict[int, tuple[int, tuple[int, ...]]] = {first: (stops[0].cheapest[first][0], (first,))}
    for before, after in pairwise(stops):
        reached = {
            new: min(
                (
                    (sofar + reroute(before, old, after, new) + after.cheapest[new][0], (*path, new))
                    for old, (sofar, path) in reached.items()
                ),
                key=lambda found: found[0],
            )
            for new in range(len(ALGORITHMS))
        }
    closed = ((sofar + reroute(stops[-1], a, stops[0], first), path) for a, (sofar, path) in reached.items())
    return min(closed, key=lambda found: found[0])


def collective_use(kernel: Kernel, block: Block, placement: Placement, phase: str) -> LineUse:
    """The kernel's collective: in a decode step of a full batch, or in a chunk at the end of a typical prompt."""
    options = placement.options
    context = min(TYPICAL_CONTEXT if phase == DECODE else TYPICAL_PROMPT, options.max_context)
    summed = kernel.collective(kernel.cache.positions(context, block.along) if kernel.cache else 0)
    tokens = options.batch if phase == DECODE or kernel.last_token_only else placement.prefill_chunk
    use = line_use(kernel, block, tokens * summed.elements, options.timing_dtype) if summed else None
    assert use is not None, f"{kernel.name} has no collective"
    return use
