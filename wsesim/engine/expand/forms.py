"""What a step of a form costs, as tasks on a Canvas. Nothing else prices the kernels of a layer.

elementwise(n)                launch + n / rate
elementwise(n, times=t)       launch + (t - 1) relaunch + t n / rate
... loop=k                    k t operations, and k turns of the machine's loop_cycles
... slots=k                   the same; a single turn is no loop. Each turn costs the software's slot_cycles too
... slice=s                   p = n / s pieces: p t operations on n / p elements, and p turns of loop_cycles if p > 1
exp(n, vector=v)              n exponentials, or v elementwise operations on n elements, whichever is cheaper
fold(n, slots=k)              k reductions of n elements, or n elementwise operations on k, whichever is cheaper
product(r, times=c, slots=k)  k c operations y += a x on r elements
... groups=g                  or g r c on k / g elements, whichever is cheaper: slots that share a matrix form a vector
scalar(n, cycles=x)           n x cycles
setup(n, slots=k)             n k slot_cycles
all_reduce(n)                 the kernel's collective on n elements
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from wsesim.engine.expand.canvas import Canvas
from wsesim.engine.graph.taskgraph import Int64, Operation
from wsesim.machine import Machine
from wsesim.program.layout import ceil_div
from wsesim.software import Form, Software
from wsesim.software.form import ALL_REDUCE, CACHE, FOLD, PRODUCT, SCALAR, SETUP, Step, parse_step, size_value

Sizes = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a kernel's steps are drawn: its PEs, its collective, and the dtype of its KV cache.

    `collective` takes the elements of each PE.
    """

    label: str
    pes: Int64
    collective: Callable[[int], None]
    cache_dtype: str


def draw_steps(canvas: Canvas, steps: Iterable[str], sizes: Sizes, place: Place) -> None:
    """Appends the tasks of some steps, in order. `sizes` are the integers of the names in the steps."""
    for text in steps:
        step = parse_step(text)
        dtype = place.cache_dtype if step.dtype == CACHE else step.dtype or canvas.dtype
        if step.name == ALL_REDUCE:
            if elements := size_value(step.elements, sizes):
                with canvas.computing_in(dtype):
                    place.collective(elements)
        elif operation := _operation(step, sizes, canvas.machine, canvas.software, place.label, dtype):
            canvas.task(place.pes, operation, _launch(operation, canvas.machine))


def own_cycles(
    machine: Machine, software: Software, form: Form, sizes: Sizes, outputs: tuple[int, ...], dtype: str
) -> int:
    """Cycles of a form's operations, one after the other on one PE, without its collectives.

    `outputs` are the elements of each output of a Linear. A KV cache is taken to be stored in `dtype`.
    """
    stated = [(text, {**sizes, "output": output}) for output in outputs for text in form.each_output]
    total = 0
    for text, own in [*stated, *((text, sizes) for text in form.steps)]:
        step = parse_step(text)
        if step.name == ALL_REDUCE:
            continue
        stored = dtype if step.dtype in ("", CACHE) else step.dtype
        if operation := _operation(step, own, machine, software, form.name, stored):
            total += _launch(operation, machine) + operation.work_cycles(machine)
    return total


def _launch(operation: Operation, machine: Machine) -> int:
    return machine.op(operation.op).launch if operation.op else 0


def _operation(
    step: Step, sizes: Sizes, machine: Machine, software: Software, label: str, dtype: str
) -> Operation | None:
    """What a step does on a PE, in the cheapest of its ways; None if it does nothing."""
    elements = size_value(step.elements, sizes)
    turns, around = _loop(step, sizes, machine, software)
    if elements == 0 or turns == 0:
        return None
    if step.name in (SCALAR, SETUP):
        each = step.cycles if step.cycles is not None else Fraction(software.slot_cycles)
        cycles = _rounded_up(turns * elements * each) + around * (step.name == SCALAR)
        return Operation(label, "", elements * turns, extra_cycles=cycles) if cycles else None
    found = _ways(step, sizes, turns, around, machine)
    ways = [Operation(label, op, count, repeats, dtype, loops) for op, count, repeats, loops in found]
    return min(ways, key=lambda way: _launch(way, machine) + way.work_cycles(machine))


Way = tuple[str, int, int, int]
"""A vector operation, its elements, its repeats, and the cycles of the loops around it."""


def _ways(step: Step, sizes: Sizes, turns: int, around: int, machine: Machine) -> list[Way]:
    """The ways to do a step of vector operations."""
    elements, times = size_value(step.elements, sizes), size_value(step.times, sizes)
    if step.name == PRODUCT:
        ways = [("fma", elements, turns * times, around)]
        if step.groups and (groups := size_value(step.groups, sizes)):
            ways.append(("fma", ceil_div(turns, groups), groups * elements * times, 0))
        return ways
    if step.name == FOLD:
        return [("reduce", elements, turns, around), ("elementwise", turns, elements, 0)]
    if step.slice:
        pieces = ceil_div(elements, max(1, size_value(step.slice, sizes)))
        around += turns * pieces * machine.loop_cycles if pieces > 1 else 0
        elements, turns = ceil_div(elements, pieces), turns * pieces
    ways = [(step.name, elements, turns * times, around)]
    if step.vector:
        ways.append(("elementwise", elements, turns * times * size_value(step.vector, sizes), around))
    return ways


def _loop(step: Step, sizes: Sizes, machine: Machine, software: Software) -> tuple[int, int]:
    """Turns of the loop around a step, and the cycles that all of its turns cost."""
    if step.loop:
        turns = size_value(step.loop, sizes)
        return turns, turns * machine.loop_cycles
    if step.slots:
        turns = size_value(step.slots, sizes)
        loop = machine.loop_cycles if turns > 1 else 0
        return turns, turns * (loop + software.slot_cycles)
    return 1, 0


def _rounded_up(exact: Fraction) -> int:
    return -(-exact.numerator // exact.denominator)
