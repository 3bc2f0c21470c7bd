"""What the forms of a Program's kernels must satisfy."""

from __future__ import annotations

from collections.abc import Iterator

from wsesim.errors import brief
from wsesim.program.kernels import DECODE, PREFILL, Linear
from wsesim.program.program import Program
from wsesim.program.written import form_of, is_folded


def unknown_forms(program: Program) -> Iterator[str]:
    for kernel in program.kernels:
        known = [form.name for form in program.software.forms_of(type(kernel).__name__)]
        for form in (kernel.form, kernel.prefill_form):
            if form and form not in known:
                yield f"{kernel.name} as {brief(form)}"


def folded_alone(program: Program) -> Iterator[str]:
    """A folded norm leaves its sum to the product after it, which alone may read it. Both phases agree on it."""
    for number, norm in enumerate(program.kernels):
        folds = {is_folded(norm.in_phase(phase), program.software) for phase in (DECODE, PREFILL)}
        if folds == {False}:
            continue
        after = program.kernels[number + 1]
        readers = [k for k in program.kernels_of(norm.block) for read in k.reads if read.value == norm.makes[0].value]
        takes = isinstance(after, Linear) and all(
            form_of(after.in_phase(phase), program.software).takes_norms for phase in (DECODE, PREFILL)
        )
        if len(folds) > 1 or not takes or readers != [after]:
            yield norm.name
