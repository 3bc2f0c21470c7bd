"""Setup: what a report states of its Program and machine, so that two reports can be compared."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from wsesim.machine import Machine
from wsesim.machine.values import toml_value, value_text, values_of
from wsesim.program.kernels import Kernel
from wsesim.program.program import Program
from wsesim.program.written import form_of, is_folded
from wsesim.software.software import Software

NO_FORM = "Embed"
"""The kind of kernel that is written in one way only."""


@dataclass(frozen=True, slots=True)
class PlacedBlock:
    """A rectangle of PEs, the way that it splits the residual stream (`axis`), and the bytes of its fullest PE."""

    block: str
    x: int
    y: int
    columns: int
    rows: int
    axis: str
    sram_bytes: int
    left_out_columns: tuple[int, ...] = ()
    left_out_rows: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values, by field, without what it does not leave out."""
        values = dataclasses.asdict(self).items()
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values if value != ()}


@dataclass(frozen=True, slots=True)
class Setup:
    """What was compiled, as a step of one phase runs it. docs/report.md defines the fields.

    kv               where the KV cache lies and its data type, one text for each kind of attention
    transfers        number of transfers between blocks, by kind
    collectives      of each role of a kernel, the collectives that the step ran
    form_digests     of each role, the forms that the step ran, and a digest of the steps of each
    software_fields  what issuing a kernel costs in the software, by name
    machine_fields   every number of the machine, as TOML states it; of a list of PEs, the number and a digest
    """

    max_context: int
    sequences: int
    prefill_chunk: int
    kv: tuple[str, ...]
    blocks: tuple[PlacedBlock, ...]
    transfers: tuple[tuple[str, int], ...]
    collectives: tuple[tuple[str, tuple[str, ...]], ...]
    form_digests: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    software_fields: tuple[tuple[str, Any], ...]
    machine_fields: tuple[tuple[str, Any], ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values, by field."""
        return {
            "max_context": self.max_context,
            "sequences": self.sequences,
            "prefill_chunk": self.prefill_chunk,
            "kv": list(self.kv),
            "blocks": [block.to_json() for block in self.blocks],
            "transfers": dict(self.transfers),
            "collectives": {role: list(names) for role, names in self.collectives},
            "form_digests": {role: dict(forms) for role, forms in self.form_digests},
            "software_fields": dict(self.software_fields),
            "machine_fields": dict(self.machine_fields),
        }


def setup_of(program: Program) -> Setup:
    """The Setup of a Program whose only collectives and forms are those of one phase (`Program.in_phase`)."""
    memory = {m.block: m.total_bytes for m in program.memory}
    return Setup(
        max_context=program.max_context,
        sequences=program.sequences,
        prefill_chunk=program.prefill_chunk,
        kv=_kv(program),
        blocks=tuple(
            PlacedBlock(
                *(b.name, b.x, b.y, b.columns, b.rows, b.axis, memory.get(b.name, 0)),
                b.left_out_columns,
                b.left_out_rows,
            )
            for b in program.blocks
        ),
        transfers=tuple(sorted(Counter(t.kind for t in program.transfers).items())),
        collectives=_collectives(program.kernels, program.software),
        form_digests=_form_digests(program.kernels, program.software),
        software_fields=_software(program.software),
        machine_fields=_machine(program.machine),
    )


def _kv(program: Program) -> tuple[str, ...]:
    caches = dict.fromkeys(kernel.cache for kernel in program.kernels if kernel.cache is not None)
    windows = {cache: f", window {cache.window:,}" if cache.window else "" for cache in caches}
    return tuple(f"{c.policy} in {c.stored(program.timing_dtype)}{windows[c]}" for c in caches)


def _collectives(kernels: Iterable[Kernel], software: Software) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Without those of folded norms: the product after them has their sums."""
    found: dict[str, dict[str, None]] = {}
    for kernel in kernels:
        if kernel.lines and not is_folded(kernel, software):
            found.setdefault(kernel.role, {})[getattr(kernel, "reduce", "")] = None
    return tuple((role, tuple(names)) for role, names in found.items())


def _form_digests(kernels: Iterable[Kernel], software: Software) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    found: dict[str, dict[str, str]] = {}
    for kernel in kernels:
        if type(kernel).__name__ != NO_FORM:
            form = form_of(kernel, software)
            found.setdefault(kernel.role, {})[form.name] = _digest(repr(form))
    return tuple((role, tuple(forms.items())) for role, forms in found.items())


def _software(software: Software) -> tuple[tuple[str, Any], ...]:
    names = ("slot_cycles", "stage_cycles", "routes", "switch_cycles")
    return tuple((name, getattr(software, name)) for name in names)


def _machine(machine: Machine) -> tuple[tuple[str, Any], ...]:
    return tuple((path, _stated(value)) for path, value in values_of(machine).items() if path != "assumptions")


def _stated(value: Any) -> Any:
    if not isinstance(value, frozenset | tuple):
        return toml_value(value)
    return f"{value_text(value)}, digest {_digest(repr(toml_value(value)))}" if value else value_text(value)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
