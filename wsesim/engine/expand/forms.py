"""What a step of a form costs, as tasks on a Canvas. Nothing else prices the kernels of a layer.

elementwise(n)                launch + n / rate
elementwise(n, times=t)       launch + (t - 1) relaunch + t n / rate
... loop=k                    k t operations, and k turns of the machine's loop_cycles
... slots=k                   the same; a single turn is no loop. Each turn costs the software's slot_cycles too
product(r, times=c, slots=k)  k c operations on r elements, or k r on c, whichever is cheaper
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
from wsesim.software.form import ALL_REDUCE, CACHE, PRODUCT, SCALAR, SETUP, Step, parse_step, size_value


@dataclass(frozen=True, slots=True)
class Place:
    """Where a kernel's steps are drawn: its PEs, its collective, and the dtype of its KV cache.

    `collective` takes the elements of each PE.
    """

    label: str
    pes: Int64
    collective: Callable[[int], None]
    cache_dtype: str


def draw_steps(canvas: Canvas, steps: Iterable[str], sizes: Mapping[str, int], place: Place) -> None:
    """Appends the tasks of some steps, in order. `sizes` are the integers of the names in the steps."""
    for text in steps:
        step = parse_step(text)
        elements = size_value(step.elements, sizes)
        if elements:
            _draw(canvas, step, elements, sizes, place)


def _draw(canvas: Canvas, step: Step, elements: int, sizes: Mapping[str, int], place: Place) -> None:
    dtype = place.cache_dtype if step.dtype == CACHE else step.dtype or canvas.dtype
    if step.name == ALL_REDUCE:
        with canvas.computing_in(dtype):
            place.collective(elements)
        return
    turns, around = _loop(canvas, step, sizes)
    if turns == 0:
        return
    if step.name in (SCALAR, SETUP):
        each = step.cycles if step.cycles is not None else Fraction(canvas.software.slot_cycles)
        cycles = _rounded_up(turns * elements * each) + around * (step.name == SCALAR)
        if cycles:
            canvas.task(place.pes, Operation(place.label, "", elements * turns, extra_cycles=cycles), 0)
        return
    times = size_value(step.times, sizes)
    if step.name == PRODUCT:
        shapes = ((elements, times), (times, elements))
        choices = [Operation(place.label, "fma", n, turns * many, dtype, around) for n, many in shapes]
        canvas.task(
            place.pes, min(choices, key=lambda c: c.work_cycles(canvas.machine)), canvas.machine.op("fma").launch
        )
        return
    operation = Operation(place.label, step.name, elements, turns * times, dtype, around)
    canvas.task(place.pes, operation, canvas.machine.op(step.name).launch)


def _loop(canvas: Canvas, step: Step, sizes: Mapping[str, int]) -> tuple[int, int]:
    """Turns of the loop around a step, and the cycles that all of its turns cost."""
    if step.loop:
        turns = size_value(step.loop, sizes)
        return turns, turns * canvas.machine.loop_cycles
    if step.slots:
        turns = size_value(step.slots, sizes)
        loop = canvas.machine.loop_cycles if turns > 1 else 0
        return turns, turns * (loop + canvas.software.slot_cycles)
    return 1, 0


def _rounded_up(exact: Fraction) -> int:
    return -(-exact.numerator // exact.denominator)
