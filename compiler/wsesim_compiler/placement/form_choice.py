"""Forms of kernels: which of the software's forms each kernel of a placement is written in.

Contract: a kernel that the options name has the form that they state. For every other one the engine decides: the
fewest cycles of a decode step, on an idle block, at a typical context. A norm is chosen together with the product after
it, because a folded norm leaves its sum to that product. Where the scratch of a block's forms does not fit, the forms
with the most scratch are given up first. Ties: first in the software's order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from itertools import product

from wsesim.errors import InvalidInputError, UnknownNameError
from wsesim.program.kernels import Embed, Kernel, Linear, RMSNorm
from wsesim.program.parts import Block
from wsesim.program.protocols import CostOracle
from wsesim.software import Form, Software
from wsesim.software.form import size_value
from wsesim_compiler.options import TYPICAL_CONTEXT, PlacedBlock
from wsesim_compiler.placement.memory import block_memory
from wsesim_compiler.placement.placement import Placement

REDUCE = "streamed_two_phase"
"""The collective that forms are compared with. Each kernel's own is chosen afterwards."""

Group = tuple[Kernel, ...]
"""Kernels whose forms are chosen together."""


def choose_forms(placement: Placement, cost: CostOracle) -> Placement:
    """The placement with the form of each kernel that has several. Raises UnknownNameError for an unknown one."""
    known: dict[object, tuple[str, ...]] = {}
    chosen: dict[str, str] = {}
    for placed in placement.blocks:
        on_block: dict[str, str] = {}
        for stage in placement.partition.stages:
            if stage.name in placed.stages:
                for group in _groups(placement.kernels_of(stage)):
                    key = (_shape(placed.block), tuple(_likeness(k, placement, placed.block) for k in group))
                    if key not in known:
                        known[key] = _best(group, placed.block, placement, cost)
                    on_block |= {k.name: form for k, form in zip(group, known[key], strict=True)}
        chosen |= _that_fit(placement, placed, on_block)
    _check_pins(placement, chosen)
    return dataclasses.replace(placement, forms=tuple(chosen.items()))


def forms_of(kernel: Kernel, software: Software) -> tuple[Form, ...]:
    """The forms that a kernel may have; none for the kernels that have no form."""
    return () if isinstance(kernel, Embed) else software.forms_of(type(kernel).__name__)


def _groups(kernels: Sequence[Kernel]) -> Iterator[Group]:
    """A norm and the product after it, if that alone reads the norm; every other kernel by itself."""
    waiting = [k for k in kernels if not isinstance(k, Embed)]
    while waiting:
        together = 2 if len(waiting) > 1 and _may_fold(waiting[0], waiting[1], kernels) else 1
        yield tuple(waiting[:together])
        del waiting[:together]


def _may_fold(norm: Kernel, after: Kernel, kernels: Sequence[Kernel]) -> bool:
    if not isinstance(norm, RMSNorm) or not isinstance(after, Linear):
        return False
    return [k for k in kernels for read in k.reads if read.value == norm.target] == [after]


def _best(group: Group, block: Block, placement: Placement, cost: CostOracle) -> tuple[str, ...]:
    """Names of the forms of a group's kernels, of those that go together, with the fewest cycles."""
    choices = [c for c in product(*(_allowed(k, placement) for k in group)) if _go_together(c)]
    if not choices:
        raise InvalidInputError(f"{group[0].name} as folded needs a {group[-1].name} that takes its sum")
    if len(choices) == 1:
        return tuple(form.name for form in choices[0])
    software, options = placement.options.software, placement.options

    def cycles(choice: tuple[Form, ...]) -> int:
        written = tuple(k.summed(REDUCE).written(form.name) for k, form in zip(group, choice, strict=True))
        context = min(TYPICAL_CONTEXT, options.max_context)
        return cost.kernel_cycles(placement.machine, software, block, written, context, options.batch)

    return tuple(form.name for form in min(choices, key=cycles))


def _allowed(kernel: Kernel, placement: Placement) -> tuple[Form, ...]:
    """The form that the options state for a kernel, by its name or by its role, or all of its kind."""
    pinned, software = dict(placement.options.forms), placement.options.software
    form = pinned.get(kernel.name, pinned.get(kernel.role, ""))
    return (software.form(type(kernel).__name__, form),) if form else forms_of(kernel, software)


def _go_together(forms: tuple[Form, ...]) -> bool:
    """A folded norm needs a product that takes its sum; any product takes none."""
    return not (forms and forms[0].kind == "RMSNorm" and not forms[0].communicates) or (
        len(forms) == 2 and forms[1].takes_norms
    )


def _that_fit(placement: Placement, placed: PlacedBlock, chosen: dict[str, str]) -> dict[str, str]:
    """The forms of a block, with less scratch where the block has no room for all."""
    software, kernels = placement.options.software, placement.kernels_on(placed)

    def written(forms: dict[str, str]) -> list[Kernel]:
        return [k.written(forms[k.name]) if k.name in forms else k for k in kernels]

    def fits(forms: dict[str, str]) -> bool:
        memory = block_memory(placed.block, written(forms), placement.options, placement.prefill_chunk)
        return memory.total_bytes <= placement.machine.room_bytes

    def scratch(kernel: Kernel) -> int:
        form = software.form(type(kernel).__name__, chosen[kernel.name])
        positions = _positions(kernel, placement, placed.block)
        return size_value(form.scratch, kernel.sizes(1, positions)) if form.scratch else 0

    greedy = sorted((k for k in kernels if k.name in chosen and scratch(k)), key=scratch, reverse=True)
    for kernel in greedy:
        if fits(chosen):
            break
        frugal = [form for form in _allowed(kernel, placement) if not form.scratch]
        chosen = chosen | ({kernel.name: frugal[0].name} if frugal else {})
    return chosen


def _positions(kernel: Kernel, placement: Placement, block: Block) -> int:
    """Positions of the KV cache on the fullest line, 0 for a kernel without a cache."""
    return 0 if kernel.cache is None else kernel.cache.positions(placement.options.max_context, block.along)


def _shape(block: Block) -> tuple[int, int, str]:
    return block.columns, block.rows, block.axis


def _likeness(kernel: Kernel, placement: Placement, block: Block) -> object:
    """Equal for kernels that cost the same on blocks of one shape."""
    positions = _positions(kernel, placement, block)
    pinned = tuple(form.name for form in _allowed(kernel, placement))
    widths = tuple(sorted(kernel.sizes(1, positions).items()))
    return type(kernel).__name__, widths, kernel.collective(positions), kernel.lines, pinned


def _check_pins(placement: Placement, chosen: dict[str, str]) -> None:
    roles = {name.rpartition(".")[2] for name in chosen}
    for name, _ in placement.options.forms:
        if name not in chosen and name not in roles:
            raise UnknownNameError("kernel with a form", name, sorted(roles), "or a kernel's whole name")
