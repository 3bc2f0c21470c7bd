"""Software: the way in which the kernels of a machine are written. Every figure's source stands in its preset."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from wsesim.errors import UnknownNameError
from wsesim.machine import Machine
from wsesim.software.form import Form

REWRITTEN, SWITCHED, APART = ROUTES = ("rewritten", "switched", "apart")


@dataclass(frozen=True, slots=True)
class GemmCode:
    """Scalar code between the vector operations of a distributed matrix product, in instructions.

    round: one round of an alignment. step: one step of a product. exchange: what moving the tiles adds to a step.
    last: the call that finds no step left.
    turn_cycles: what a turn of the loop over the inner dimension costs beside the machine's `loop_cycles`; negative
    where its set-up overlaps with the operation before it.
    """

    round_instructions: int
    step_instructions: int
    exchange_instructions: int
    last_instructions: int
    turn_cycles: int


@dataclass(frozen=True, slots=True, repr=False)
class Software:
    """How kernels are written: the form of each kind of kernel, and what issuing it costs.

    slot_cycles: each turn of a loop over (head, sequence) slots costs so many cycles beside the machine's
    `loop_cycles`: base addresses, lengths, descriptors.
    stage_cycles: each stage of a streamed collective begins so much later.
    routes: `rewritten` or `switched` if the routes of the two axes take turns on the same colours, `apart` if they have
    colours of their own. A rewriting costs the machine's `reroute_cycles`. A switch by a control wavelet costs
    `switch_cycles`; where rewriting is cheaper, it is done instead.
    """

    name: str
    forms: tuple[Form, ...]
    gemm: GemmCode
    slot_cycles: int = 0
    stage_cycles: int = 0
    routes: str = REWRITTEN
    switch_cycles: int = 0
    assumptions: tuple[str, ...] = ()

    def forms_of(self, kind: str) -> tuple[Form, ...]:
        """The forms of a kind of kernel. The first one is taken where a kernel names none."""
        return tuple(form for form in self.forms if form.kind == kind)

    def form(self, kind: str, name: str = "") -> Form:
        """The form `name` of a kind of kernel; "" is the first one. Raises UnknownNameError."""
        for form in self.forms:
            if form.kind == kind and name in ("", form.name):
                return form
        raise UnknownNameError(f"form of {kind}", name, [form.name for form in self.forms_of(kind)])

    def change_cycles(self, machine: Machine) -> int:
        """Cycles of a change of routes on one PE."""
        switched = min(self.switch_cycles, machine.reroute_cycles)
        return {REWRITTEN: machine.reroute_cycles, SWITCHED: switched, APART: 0}[self.routes]

    def fingerprint(self) -> str:
        """Twelve hex digits over everything but the assumptions."""
        costs = (self.slot_cycles, self.stage_cycles, self.routes, self.switch_cycles)
        stated = (self.name, self.forms, self.gemm, *costs)
        return hashlib.sha256(repr(stated).encode()).hexdigest()[:12]

    def __repr__(self) -> str:
        return f"<Software {self.name}: {', '.join(str(form) for form in self.forms)}>"
