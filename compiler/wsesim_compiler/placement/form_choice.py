"""Forms of kernels: in which of the software's forms each kernel of a placement is written, in each phase.

A kernel of which the software has one form needs no choice.

Contract: a kernel that the options name has the form that they state. For every other one the engine decides: the
fewest cycles on an idle block, of a decode step at a typical context or of a chunk of a typical prompt. A norm is
chosen together with the product after it, because a folded norm leaves its sum to that product; both phases fold or
neither. Where the options leave the softmax open, the faster one is taken: a kernel of its own, or fused with the sum
over the values. Where the scratch of a block's forms does not fit, the forms with the most scratch are given up first.
Ties: first in the software's order.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from wsesim.errors import InvalidInputError, UnknownNameError
from wsesim.program.kernels import DECODE, PREFILL, Embed, FlashSum, Kernel, Linear, RMSNorm, Softmax, WeightedSum
from wsesim.program.parts import Block
from wsesim.program.protocols import CostOracle
from wsesim.software import Form, Software
from wsesim.software.form import size_value
from wsesim_compiler.options import AUTO, SOFTMAXES, ByPhase, PlacedBlock
from wsesim_compiler.placement.memory import block_memory
from wsesim_compiler.placement.placement import Placement
from wsesim_compiler.placement.price import Bill, bill, paid

TYPICAL_CHUNK = 4
"""Tokens of a prompt that go through a block together while its forms are compared."""

Group = tuple[Kernel, ...]
"""Kernels whose forms are chosen together."""

Forms = dict[str, ByPhase]
"""By kernel."""


def choose_forms(placement: Placement, cost: CostOracle, *, prompts: bool = True) -> Placement:
    """The placement with the form of each kernel. Raises UnknownNameError for a kernel or a form that there is not.

    Without `prompts`, a prompt's chunk has the forms of a decode step; they are not compared.
    """
    options, known = placement.options, _Known({}, {})
    if options.softmax != AUTO:
        return _with_forms(placement, cost, known, prompts)
    ways = [dataclasses.replace(placement, options=dataclasses.replace(options, softmax=s)) for s in SOFTMAXES]
    ways = [way for way in ways if _names_all(way)] or ways[:1]
    written = [_with_forms(way, cost, known, prompts) for way in ways]
    cycles = paid([_softmax_bill(way, cost) for way in written], placement, cost)
    return written[cycles.index(min(cycles))]


def that_fit(placement: Placement, forms: Forms) -> Forms:
    """The forms, with less scratch on the blocks that have no room for all of it at the placement's chunk."""
    known: dict[object, list[ByPhase | None]] = {}
    fitting: Forms = {}
    for placed in placement.blocks:
        kernels = placement.kernels_on(placed)
        key = shape_of(placed.block), tuple((likeness(k, placement, placed.block), forms.get(k.name)) for k in kernels)
        if key not in known:
            own = _that_fit(placement, placed, {k.name: forms[k.name] for k in kernels if k.name in forms})
            known[key] = [own.get(k.name) for k in kernels]
        fitting |= {k.name: form for k, form in zip(kernels, known[key], strict=True) if form}
    return fitting


def likeness(kernel: Kernel, placement: Placement, block: Block) -> object:
    """Equal for kernels that cost the same on blocks of one shape."""
    positions = _positions(kernel, placement, block)
    sizes = () if isinstance(kernel, Embed) else tuple(sorted(kernel.sizes(1, positions).items()))
    written = (kernel.form, kernel.prefill_form)
    return type(kernel).__name__, sizes, kernel.collective(positions), kernel.lines, written


def shape_of(block: Block) -> tuple[int, int, str]:
    """What decides the cycles of a block's kernels."""
    return block.columns, block.rows, block.axis


@dataclass(frozen=True, slots=True)
class _Known:
    """The forms of groups that were asked for, in each phase. Groups that are alike are asked for once."""

    decode: dict[object, tuple[str, ...]]
    prefill: dict[object, tuple[str, ...]]


def _with_forms(placement: Placement, cost: CostOracle, known: _Known, prompts: bool) -> Placement:
    groups = list(_placed_groups(placement))
    decode = _phase_forms(
        placement, groups, known.decode, lambda group, block: _fastest(group, block, placement, cost, DECODE, {})
    )
    prefill = decode
    if prompts:
        prefill = _phase_forms(
            placement,
            groups,
            known.prefill,
            lambda group, block: _fastest(group, block, placement, cost, PREFILL, decode),
        )
    forms = {name: ByPhase(decode[name], prefill[name]) for name in decode}
    _check_pins(placement, forms)
    return dataclasses.replace(placement, forms=tuple(that_fit(placement, forms).items()))


def _placed_groups(placement: Placement) -> Iterator[tuple[Group, Block]]:
    for placed in placement.blocks:
        for stage in placement.partition.stages:
            if stage.name in placed.stages:
                for group in _groups(placement.kernels_of(stage), placement.options.software):
                    yield group, placed.block


def _phase_forms(
    placement: Placement,
    groups: Sequence[tuple[Group, Block]],
    known: dict[object, tuple[str, ...]],
    fastest: Callable[[Group, Block], tuple[str, ...]],
) -> dict[str, str]:
    """The form of each kernel."""
    chosen: dict[str, str] = {}
    for group, block in groups:
        key = shape_of(block), tuple((likeness(k, placement, block), _pinned(k, placement)) for k in group)
        if key not in known:
            known[key] = fastest(group, block)
        chosen |= {k.name: form for k, form in zip(group, known[key], strict=True)}
    return chosen


def _groups(kernels: Sequence[Kernel], software: Software) -> Iterator[Group]:
    """A norm and the product after it, if that alone reads the norm; every other kernel by itself.

    Groups without a choice are left out.
    """
    waiting = [k for k in kernels if not isinstance(k, Embed)]
    while waiting:
        together = 2 if len(waiting) > 1 and _may_fold(waiting[0], waiting[1], kernels) else 1
        group = tuple(waiting[:together])
        if any(len(software.forms_of(type(k).__name__)) > 1 for k in group):
            yield group
        del waiting[:together]


def _may_fold(norm: Kernel, after: Kernel, kernels: Sequence[Kernel]) -> bool:
    if not isinstance(norm, RMSNorm) or not isinstance(after, Linear):
        return False
    return [k for k in kernels for read in k.reads if read.value == norm.target] == [after]


def _fastest(
    group: Group, block: Block, placement: Placement, cost: CostOracle, phase: str, decode: dict[str, str]
) -> tuple[str, ...]:
    """Names of the forms of a group's kernels, of those that go together, with the fewest cycles.

    `decode` has the forms of a decode step; a chunk of a prompt folds what a decode step folds.
    """
    allowed = [_allowed(kernel, placement, phase) for kernel in group]
    choices = [choice for choice in product(*allowed) if _go_together(choice)]
    if not choices:
        raise InvalidInputError(f"{group[0].name} as folded needs a {group[-1].name} that takes its sum")
    if decode and len(group) == 2:
        folds = _folds(placement.options.software.form("RMSNorm", decode[group[0].name]))
        alike = [choice for choice in choices if _folds(choice[0]) == folds]
        if not alike:
            raise InvalidInputError(f"{group[0].name} is folded in one phase and not in the other; fold in both")
        choices = alike
    if len(choices) == 1:
        return tuple(form.name for form in choices[0])

    written = [tuple(k.written(form.name) for k, form in zip(group, choice, strict=True)) for choice in choices]
    bills = [bill(kernels, block, placement, cost, phase, TYPICAL_CHUNK) for kernels in written]
    cycles = paid(bills, placement, cost)
    return tuple(form.name for form in choices[cycles.index(min(cycles))])


def _allowed(kernel: Kernel, placement: Placement, phase: str) -> tuple[Form, ...]:
    """The form that the options state for a kernel, by its name or by its role, or all of its kind."""
    software, pinned, kind = placement.options.software, _pinned(kernel, placement), type(kernel).__name__
    if pinned is None:
        return software.forms_of(kind)
    return (software.form(kind, pinned.decode if phase == DECODE else pinned.prefill),)


def _pinned(kernel: Kernel, placement: Placement) -> ByPhase | None:
    pinned = dict(placement.options.forms)
    return pinned.get(kernel.name, pinned.get(kernel.role))


def _folds(form: Form) -> bool:
    return form.kind == "RMSNorm" and not form.communicates


def _go_together(forms: tuple[Form, ...]) -> bool:
    """A folded norm needs a product that takes its sum; any product takes none."""
    return not _folds(forms[0]) or (len(forms) == 2 and forms[1].takes_norms)


def _that_fit(placement: Placement, placed: PlacedBlock, chosen: Forms) -> Forms:
    """The forms of a block, with less scratch where the block has no room for all."""
    kernels = placement.kernels_on(placed)

    def fits(forms: Forms) -> bool:
        written = [k.written(forms[k.name].decode, forms[k.name].prefill) if k.name in forms else k for k in kernels]
        memory = block_memory(placed.block, written, placement.options, placement.prefill_chunk)
        return memory.total_bytes <= placement.machine.room_bytes

    while not fits(chosen):
        held = [_Held.of(k, chosen[k.name], placement, placed.block) for k in kernels if k.name in chosen]
        most = max((own.elements for own in held), default=0)
        leaner = {own.kernel: own.leaner() for own in held if own.elements == most}
        given_up = {kernel: forms for kernel, forms in leaner.items() if forms}
        if not given_up:
            break  # `plan_memory` and `verify` say what is missing
        chosen = chosen | given_up
    return chosen


@dataclass(frozen=True, slots=True)
class _Held:
    """A kernel's forms, and the elements of scratch of each form that it may have, in both phases."""

    kernel: str
    forms: ByPhase
    decode: dict[str, int]
    prefill: dict[str, int]

    @staticmethod
    def of(kernel: Kernel, forms: ByPhase, placement: Placement, block: Block) -> _Held:
        positions = _positions(kernel, placement, block)
        sizes = kernel.sizes(1, positions)
        decode, prefill = (
            {form.name: size_value(form.scratch or "0", sizes) for form in _allowed(kernel, placement, phase)}
            for phase in (DECODE, PREFILL)
        )
        return _Held(kernel.name, forms, decode, prefill)

    @property
    def elements(self) -> int:
        return max(self.decode[self.forms.decode], self.prefill[self.forms.prefill])

    def leaner(self) -> ByPhase | None:
        """The forms with the next less scratch; None if there are none."""
        decode, prefill = _leaner(self.decode, self.elements), _leaner(self.prefill, self.elements)
        if not decode or not prefill:
            return None
        return ByPhase(
            self.forms.decode if self.forms.decode in decode else decode[0],
            self.forms.prefill if self.forms.prefill in prefill else prefill[0],
        )


def _leaner(scratch: dict[str, int], elements: int) -> list[str]:
    """Forms with fewer elements of scratch, those with the most of them first."""
    return sorted((name for name in scratch if scratch[name] < elements), key=lambda name: -scratch[name])


def _positions(kernel: Kernel, placement: Placement, block: Block) -> int:
    """Positions of the KV cache on the fullest line, 0 for a kernel without a cache."""
    return 0 if kernel.cache is None else kernel.cache.positions(placement.options.max_context, block.along)


def _softmax_bill(placement: Placement, cost: CostOracle) -> Bill:
    """Of a decode step from the scores to the sums over the values, in the first layer: layers are alike."""
    for placed in placement.blocks:
        own = tuple(k for k in placement.kernels_on(placed) if isinstance(k, Softmax | WeightedSum | FlashSum))
        if own:
            first = tuple(k for k in own if k.name.rpartition(".")[0] == own[0].name.rpartition(".")[0])
            return bill(first, placed.block, placement, cost, DECODE, TYPICAL_CHUNK)
    return Bill(0, Counter())


def _names_all(placement: Placement) -> bool:
    """Whether there is every kernel that the options name."""
    kernels = [k for placed in placement.blocks for k in placement.kernels_on(placed)]
    known = {k.name for k in kernels} | {k.role for k in kernels}
    return all(name in known for name, _ in (*placement.options.forms, *placement.options.collectives))


def _check_pins(placement: Placement, forms: Forms) -> None:
    roles = {name.rpartition(".")[2] for name in forms}
    for name, _ in placement.options.forms:
        if name not in forms and name not in roles:
            raise UnknownNameError("kernel with a form", name, sorted(roles), "or a kernel's whole name")
