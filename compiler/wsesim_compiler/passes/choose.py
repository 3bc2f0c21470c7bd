"""choose: Placement -> Placement with one collective for every kernel; "auto" ends here."""

from __future__ import annotations

import dataclasses

from wsesim_compiler.placement import Placement


def choose(placement: Placement) -> Placement:
    """Writes down the collective of each kernel that has one."""
    kernels = (k for placed in placement.blocks for k in placement.kernels_on(placed))
    chosen = tuple((k.name, str(k.reduce)) for k in kernels if hasattr(k, "reduce"))
    return dataclasses.replace(placement, collectives=chosen)
