"""Kernels as their forms write them: the form, and the sizes that its steps compute with."""

from __future__ import annotations

from collections.abc import Sequence

from wsesim.program.kernels import Add, Kernel, RMSNorm
from wsesim.software import Form, Software


def form_of(kernel: Kernel, software: Software) -> Form:
    """The form that a kernel is written in. An Embed has none."""
    return software.form(type(kernel).__name__, kernel.form)


def is_folded(kernel: Kernel, software: Software) -> bool:
    """Whether the kernel is a norm that leaves its sum to the product after it."""
    return isinstance(kernel, RMSNorm) and not form_of(kernel, software).communicates


def shared_sizes(kernels: Sequence[Kernel], number: int, software: Software) -> dict[str, int]:
    """Sizes that kernel `number` has from the others of its stage, for one token.

    norms           1 if the kernel before it is a norm that leaves its sum to it
    residual_width  elements of the residual stream, 0 in a stage that has none
    """
    widths = (k.layout.width for k in kernels if isinstance(k, RMSNorm | Add))
    folded = number > 0 and is_folded(kernels[number - 1], software)
    return {"norms": int(folded), "residual_width": next(widths, 0)}
