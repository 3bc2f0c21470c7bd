"""Rules that every Program keeps. The compiler's last pass and every load run them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from wsesim.program.collectives import ALGORITHMS
from wsesim.program.errors import ProgramRuleError, SramError
from wsesim.program.kernels import Add, Embed, Linear, RMSNorm, SwiGLU, kernel_inputs, kernel_outputs
from wsesim.program.program import Program
from wsesim.program.routes import colour_conflicts


def verify_program(program: Program) -> None:
    """Raises ProgramRuleError with every broken rule, or SramError."""
    broken = [f"{rule}: {offender}" for rule, check in RULES for offender in check(program)]
    if broken:
        more = f" (and {len(broken) - 8} more)" if len(broken) > 8 else ""
        raise ProgramRuleError("; ".join(broken[:8]) + more)
    for memory in program.memory:
        if memory.total_bytes > program.machine.room_bytes:
            raise SramError(
                f"block {memory.block}: {memory.total_bytes} bytes needed on a PE, {program.machine.room_bytes} there"
            )


def _outside(program: Program) -> Iterator[str]:
    yield from (b.name for b in program.blocks if not program.machine.usable.contains(b.rect))


def _overlapping(program: Program) -> Iterator[str]:
    for a, b in combinations(program.blocks, 2):
        if a.rect.overlaps(b.rect):
            yield f"{a.name} ({a.rect}) and {b.name} ({b.rect})"


def _dead(program: Program) -> Iterator[str]:
    for block in program.blocks:
        yield from (f"{block.name} on PE {pe}" for pe in sorted(program.machine.dead) if block.rect.has(*pe))


def _duplicate_names(program: Program) -> Iterator[str]:
    for items in (program.blocks, program.kernels, program.transfers):
        names = [item.name for item in items]
        yield from sorted({n for n in names if names.count(n) > 1} if len(set(names)) < len(names) else ())


def _undefined_values(program: Program) -> Iterator[str]:
    arriving = {(t.value, t.target) for t in program.transfers}
    made: set[tuple[str, str]] = set()
    for kernel in program.kernels:
        for value in kernel_inputs(kernel):
            if (value, kernel.block) not in made | arriving:
                yield f"{kernel.name} reads {value}"
        made.update((value, kernel.block) for value in kernel_outputs(kernel))
    yield from (f"transfer {t.name} of {t.value}" for t in program.transfers if (t.value, t.source) not in made)


def _unknown_blocks(program: Program) -> Iterator[str]:
    known = {b.name for b in program.blocks}
    yield from (k.name for k in program.kernels if k.block not in known)
    yield from (t.name for t in program.transfers if not {t.source, t.target} <= known)


def _unknown_collectives(program: Program) -> Iterator[str]:
    yield from (k.name for k in program.kernels if getattr(k, "reduce", "chain") not in ALGORITHMS)


def _layouts_too_long(program: Program) -> Iterator[str]:
    blocks = {b.name: b for b in program.blocks}
    for kernel in program.kernels:
        block = blocks.get(kernel.block)
        if block is None:
            continue
        if isinstance(kernel, RMSNorm | Add) and kernel.layout.used > block.along:
            yield kernel.name
        if isinstance(kernel, SwiGLU) and kernel.layout.used > block.across:
            yield kernel.name
        if isinstance(kernel, Embed) and (kernel.layout.used > block.along or kernel.vocabulary.used > block.across):
            yield kernel.name
        if isinstance(kernel, Linear):
            over, out = (block.along, block.across) if kernel.axis == "along" else (block.across, block.along)
            if kernel.layout.used > over or any(o.layout.used > out for o in kernel.outputs):
                yield kernel.name


def _weights_not_whole(program: Program) -> Iterator[str]:
    for kernel in program.kernels:
        for output in kernel.outputs if isinstance(kernel, Linear) else ():
            if output.weight.stop - output.weight.start != output.layout.size:
                yield f"{kernel.name}: {output.weight.name}"


def _colours_out_of_range(program: Program) -> Iterator[str]:
    limit = program.machine.colours - program.machine.reserved_colours
    users = [
        *((t.name, t.colours) for t in program.transfers),
        *((f"{use.kind} on {use.block}", use.colours) for use in program.colours),
        ("feedback", program.feedback.colours),
    ]
    yield from (name for name, colours in users if any(not 0 <= colour < limit for colour in colours))


def _other_axes(program: Program) -> Iterator[str]:
    yield from (b.name for b in program.blocks if b.axis != "rows")


RULES = (
    ("blocks lie inside the usable rectangle", _outside),
    ("blocks do not overlap", _overlapping),
    ("blocks avoid dead PEs", _dead),
    ("names are unique", _duplicate_names),
    ("kernels and transfers name known blocks", _unknown_blocks),
    ("values are made on their block before they are read", _undefined_values),
    ("collectives are known", _unknown_collectives),
    ("layouts are no longer than their block", _layouts_too_long),
    ("a weight covers its output", _weights_not_whole),
    ("colours are routable and not the host's", _colours_out_of_range),
    ("blocks split the residual stream over rows", _other_axes),
    ("a colour is received from one direction", colour_conflicts),
)
