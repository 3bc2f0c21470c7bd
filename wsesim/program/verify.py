"""Rules that every Program keeps. The compiler's last pass and every load run them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from itertools import combinations, groupby
from typing import Any

from wsesim.errors import brief, clipped
from wsesim.machine.parts import TIMING_DTYPES
from wsesim.machine.rules import check_machine
from wsesim.program.collectives import is_collective
from wsesim.program.errors import ProgramRuleError, SramError
from wsesim.program.form_rules import folded_alone, unknown_forms
from wsesim.program.kernels import (
    ACROSS,
    ALONG,
    Embed,
    Kernel,
    Linear,
    QKNorm,
    Rope,
    Sample,
)
from wsesim.program.kv import KV_DTYPES, POLICIES, KVCache
from wsesim.program.layout import Heads, Layout, Uniform
from wsesim.program.parts import AXES, EMBED, HEAD, LAYER_KINDS, SAMPLE, Block, wrongly_left_out
from wsesim.program.program import Program
from wsesim.program.routes import (
    all_lanes,
    colour_conflicts,
    colours_needed,
    dead_on_the_way,
    routed,
    transfer_kind,
)
from wsesim.software.rules import check_software
from wsesim.software.software import APART


def verify_program(program: Program) -> None:
    """Raises ProgramRuleError with every broken rule of the first group that has one, or SramError."""
    check_machine(program.machine)
    try:
        check_software(program.software)
    except ValueError as error:
        raise ProgramRuleError(f"software {program.software.name}: {error}") from None
    for rules in RULES:
        broken = [f"{rule}: {clipped(offender)}" for rule, check in rules for offender in check(program)]
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
        inside = (pe for pe in sorted(program.machine.dead) if block.rect.has(*pe))
        yield from (f"{block.name} on PE {pe}" for pe in inside if not block.leaves_out(*pe))


def _wrongly_left_out(program: Program) -> Iterator[str]:
    yield from (f"{block.name} {wrong}" for block in program.blocks if (wrong := wrongly_left_out(block)))


def _duplicate_names(program: Program) -> Iterator[str]:
    for items in (program.blocks, program.kernels, program.stages, program.transfers):
        names = [item.name for item in items]
        yield from sorted({n for n in names if names.count(n) > 1} if len(set(names)) < len(names) else ())


def _windows_without_extent(program: Program) -> Iterator[str]:
    for kernel in program.kernels:
        if kernel.cache is not None and kernel.cache.window is not None and kernel.cache.window < 1:
            yield f"{kernel.name} {kernel.cache.window}"


def _undefined_values(program: Program) -> Iterator[str]:
    arriving = {(t.value, t.target) for t in program.transfers}
    made: set[tuple[str, str]] = set()
    for kernel in program.kernels:
        for operand in kernel.reads:
            if (operand.value, kernel.block) not in made | arriving:
                yield f"{kernel.name} reads {operand.value}"
        made.update((operand.value, kernel.block) for operand in kernel.makes)
    yield from (f"transfer {t.name} of {t.value}" for t in program.transfers if (t.value, t.source) not in made)


def _layouts_that_differ(program: Program) -> Iterator[str]:
    """Only the transfers change a value's layout."""
    made = {(t.value, t.target): t.target_layout for t in program.transfers}
    for kernel in program.kernels:
        for operand in kernel.reads:
            if made.get((operand.value, kernel.block), operand.layout) != operand.layout:
                yield f"{kernel.name} reads {operand.value}"
        made |= {(operand.value, kernel.block): operand.layout for operand in kernel.makes}
    for t in program.transfers:
        if made.get((t.value, t.source), t.source_layout) != t.source_layout:
            yield f"transfer {t.name} of {t.value}"
        if t.source_layout.size != t.target_layout.size:
            yield f"transfer {t.name} changes the length of {t.value}"


def _fields_out_of_range(program: Program) -> Iterator[str]:
    if program.timing_dtype not in TIMING_DTYPES:
        yield f"timing_dtype {program.timing_dtype!r} of {', '.join(TIMING_DTYPES)}"
    for name in ("max_context", "sequences", "prefill_chunk", "batch"):
        if getattr(program, name) < 1:
            yield f"{name} {getattr(program, name)}"
    if program.batch > program.sequences:
        yield f"batch {program.batch} of {program.sequences} sequences"


def _wrong_feedback(program: Program) -> Iterator[str]:
    ends = program.kernels[-1].block, program.kernels[0].block
    if (program.feedback.source, program.feedback.target) != ends or len(program.feedback.colours) != 1:
        yield f"{program.feedback.source} -> {program.feedback.target}"


def _unknown_blocks(program: Program) -> Iterator[str]:
    known = {b.name for b in program.blocks}
    yield from (k.name for k in program.kernels if k.block not in known)
    yield from (t.name for t in program.transfers if not {t.source, t.target} <= known)
    yield from ("feedback" for _ in {program.feedback.source, program.feedback.target} - known)
    yield from (f"{use.kind} of {use.block}" for use in program.colours if use.block not in known)


def _no_extent(program: Program) -> Iterator[str]:
    yield from (b.name for b in program.blocks if min(b.columns, b.rows) < 1)
    for item in (*program.kernels, *program.transfers):
        layouts = [value for name, value in _fields(item) if isinstance(value, Uniform | Heads)]
        layouts += item.layouts if isinstance(item, QKNorm | Rope) else ()
        layouts += [o.layout for o in item.outputs] if isinstance(item, Linear) else ()
        yield from (item.name for layout in layouts if min(n for _, n in _fields(layout) if isinstance(n, int)) < 1)


def _fields(item: Any) -> list[tuple[str, Any]]:
    return [(f.name, getattr(item, f.name)) for f in dataclasses.fields(item)]


def _wrong_ends(program: Program) -> Iterator[str]:
    kernels = program.kernels
    if not kernels or not isinstance(kernels[0], Embed):
        yield "the first kernel is no Embed"
    if not kernels or not isinstance(kernels[-1], Sample):
        yield "the last kernel is no Sample"
    yield from (k.name for k in kernels[1:-1] if isinstance(k, Embed | Sample))


def _wrong_kinds(program: Program) -> Iterator[str]:
    kinds = [stage.kind for stage in program.stages]
    if kinds[:1] != [EMBED] or kinds[-2:] != [HEAD, SAMPLE] or not set(kinds[1:-2]) <= set(LAYER_KINDS):
        yield ", ".join(kinds) or "no stage"
    yield from (s.name for s in program.stages if (s.layer is None) == (s.kind in LAYER_KINDS))


def _wrong_slices(program: Program) -> Iterator[str]:
    """Every kernel is in one stage, on the stage's block."""
    begin = 0
    for stage in program.stages:
        if not begin == stage.start < stage.stop <= len(program.kernels):
            yield f"{stage.name} has kernels {stage.start} to {stage.stop}"
        yield from (f"{stage.name} has {k.name}" for k in program.kernels_in(stage) if k.block != stage.block)
        begin = stage.stop
    if begin != len(program.kernels):
        yield f"{len(program.kernels) - begin} kernels after the last stage"


def _without_memory(program: Program) -> Iterator[str]:
    rows = [m.block for m in program.memory]
    yield from (b.name for b in program.blocks if rows.count(b.name) != 1)


def _wrong_transfers(program: Program) -> Iterator[str]:
    for t in program.transfers:
        source, target = program.block(t.source), program.block(t.target)
        if t.kind != transfer_kind(source, target, t.source_layout, t.target_layout):
            yield f"{t.name} is {t.kind}"
        elif len(t.colours) != colours_needed(t, source, target):
            yield f"{t.name} is {t.kind} with {len(t.colours)} colours"


def _wrong_lanes(program: Program) -> Iterator[str]:
    for t in program.transfers:
        there = all_lanes(program.block(t.source), program.block(t.target))
        if t.lanes is not None and not (set(t.lanes) <= set(there) and t.lanes[0] <= t.lanes[1]):
            yield f"{t.name} on {t.lanes[0]} to {t.lanes[1]} of {there[0]} to {there[-1]}"
    home, lane = program.block(program.feedback.target), program.feedback.lane
    if lane is not None and lane not in home.column_places:
        yield f"feedback on {lane}"


def _dead_routers(program: Program) -> Iterator[str]:
    for name, paths in groupby(routed(program) if program.machine.dead else (), key=lambda item: item[0]):
        pe = dead_on_the_way((path for _, path in paths), program.machine.dead)
        if pe:
            yield f"{name} over PE {pe}"


def _unknown_collectives(program: Program) -> Iterator[str]:
    for kernel in program.kernels:
        if not is_collective(getattr(kernel, "reduce", "chain")):
            yield kernel.name
        if kernel.prefill_reduce and not is_collective(kernel.prefill_reduce):
            yield f"{kernel.name} in a prompt"


def _phases_of_the_head(program: Program) -> Iterator[str]:
    yield from (k.name for k in program.kernels if k.last_token_only and k.prefill_reduce)


def _caches(program: Program) -> Iterator[tuple[str, KVCache]]:
    """Block and cache of each kernel that has one."""
    yield from ((k.block, k.cache) for k in program.kernels if k.cache is not None)


def _unknown_caches(program: Program) -> Iterator[str]:
    for block, cache in dict.fromkeys(_caches(program)):
        if cache.policy not in POLICIES or (cache.dtype is not None and cache.dtype not in KV_DTYPES):
            yield f"{cache.policy} in {cache.dtype} on {block}"


def _mixed_caches(program: Program) -> Iterator[str]:
    """Layers that share a block may have different windows."""
    ways = dict.fromkeys((block, cache.policy, cache.dtype) for block, cache in _caches(program))
    blocks = [block for block, _, _ in ways]
    yield from sorted({block for block in blocks if blocks.count(block) > 1})


def _layouts_too_long(program: Program) -> Iterator[str]:
    blocks = {b.name: b for b in program.blocks}
    for kernel in program.kernels:
        block = blocks[kernel.block]
        if any(layout.used > room for layout, room in _layouts(kernel, block)):
            yield kernel.name
    for transfer in program.transfers:
        source, target = blocks[transfer.source], blocks[transfer.target]
        if transfer.source_layout.used > source.along or transfer.target_layout.used > target.along:
            yield transfer.name


def _layouts(kernel: Kernel, block: Block) -> list[tuple[Layout, int]]:
    """Each layout of a kernel, with the positions that the block has for it."""
    room = {ALONG: block.along, ACROSS: block.across}
    layouts = [(operand.layout, room[operand.axis]) for operand in (*kernel.reads, *kernel.makes)]
    return [*layouts, (kernel.vocabulary, block.across)] if isinstance(kernel, Embed) else layouts


def _weights_not_whole(program: Program) -> Iterator[str]:
    for kernel in program.kernels:
        for weight, _, rows in kernel.tiles:
            if weight.stop - weight.start != rows:
                yield f"{kernel.name}: {weight.name}"


def _uneven_lists(program: Program) -> Iterator[str]:
    for kernel in program.kernels:
        if isinstance(kernel, QKNorm):
            lists = (kernel.sources, kernel.targets, kernel.layouts, kernel.weights, kernel.eps)
            if len({len(values) for values in lists}) > 1 or len({layout.segment for layout in kernel.layouts}) != 1:
                yield kernel.name
        elif isinstance(kernel, Rope) and not len(kernel.sources) == len(kernel.targets) == len(kernel.layouts):
            yield kernel.name


def _colours_out_of_range(program: Program) -> Iterator[str]:
    limit = program.machine.colours - program.machine.reserved_colours
    users = [
        *((t.name, t.colours) for t in program.transfers),
        *((f"{use.kind} on {use.block}", use.colours) for use in program.colours),
        ("feedback", program.feedback.colours),
    ]
    yield from (name for name, colours in users if any(not 0 <= colour < limit for colour in colours))


def _colours_of_collectives(program: Program) -> Iterator[str]:
    """What passes through a block, or begins or ends there, must not take the colours of the block's collectives."""
    own: dict[str, set[int]] = {}
    for use in program.colours:
        own.setdefault(use.block, set()).update(use.colours)
    for name, ends, colours in (
        *((t.name, (t.source, t.target), t.colours) for t in program.transfers),
        ("feedback", (program.feedback.source, program.feedback.target), program.feedback.colours),
    ):
        if any(set(colours) & own.get(block, set()) for block in ends):
            yield name


def _shared_though_apart(program: Program) -> Iterator[str]:
    """Where the software keeps the routes of both axes, each kind of collective has colours of its own."""
    if program.software.routes != APART:
        return
    for one, other in combinations(program.colours, 2):
        if one.block == other.block and set(one.colours) & set(other.colours):
            yield f"{one.kind} and {other.kind} on {one.block}"


def _queues(program: Program) -> Iterator[str]:
    """A PE has an input queue for each colour that it receives in: of one kind of collective, or of all of them if
    their routes stay; of the transfers to its block; of the feedback. The embedding takes turns with collectives.
    """
    there = program.machine.input_queues - program.machine.reserved_queues
    for block in program.blocks:
        kinds = [len(use.colours) for use in program.colours if use.block == block.name]
        collectives = sum(kinds) if program.software.routes == APART else max(kinds, default=0)
        arriving = sum(len(t.colours) for t in program.transfers if t.target == block.name)
        back = len(program.feedback.colours) if program.feedback.target == block.name else 0
        needed = collectives + arriving + back
        if needed > there:
            yield f"{block.name} needs {needed}, {there} there"


def _unknown_axes(program: Program) -> Iterator[str]:
    yield from (f"{b.name} over {b.axis}" for b in program.blocks if b.axis not in AXES)


def _unknown_ways(program: Program) -> Iterator[str]:
    for kernel in program.kernels:
        if isinstance(kernel, Linear) and kernel.axis not in (ALONG, ACROSS):
            yield f"{kernel.name} over {brief(kernel.axis)}"


Rule = tuple[str, Callable[[Program], Iterator[str]]]
RULES: tuple[tuple[Rule, ...], ...] = (
    (  # what the other rules rely on
        ("names are unique", _duplicate_names),
        ("kernels, transfers and colours name known blocks", _unknown_blocks),
        ("blocks and layouts have an extent", _no_extent),
        ("a block leaves out rows and columns inside it", _wrongly_left_out),
        ("collectives are known", _unknown_collectives),
        ("logits are summed once after either phase, by one collective", _phases_of_the_head),
        (f"a KV cache is {', '.join(POLICIES)}, in {', '.join(KV_DTYPES)}", _unknown_caches),
        ("a window has at least one position", _windows_without_extent),
        ("forms are the software's", unknown_forms),
        ("fields are in their range", _fields_out_of_range),
        ("each source has its target, layout, weight and eps, on segments of one length", _uneven_lists),
        ("kernels lead from the embedding to the sample", _wrong_ends),
        ("stages are an embedding, layers with their numbers, a head and a sample", _wrong_kinds),
        (f"blocks split the residual stream over {' or '.join(AXES)}", _unknown_axes),
        (f"a product is summed {ALONG} or {ACROSS} its block", _unknown_ways),
    ),
    (
        ("blocks lie inside the usable rectangle", _outside),
        ("blocks do not overlap", _overlapping),
        ("blocks avoid dead PEs", _dead),
        ("a block keeps its KV cache in one way", _mixed_caches),
        ("values are made on their block before they are read", _undefined_values),
        ("layouts are no longer than their block", _layouts_too_long),
        ("a value is read in the layout that it was made in", _layouts_that_differ),
        ("the feedback goes from the sample's block to the embedding's", _wrong_feedback),
        ("a weight covers its output", _weights_not_whole),
        ("lanes are columns that both blocks share, or the source's", _wrong_lanes),
        ("colours are routable and not the host's", _colours_out_of_range),
        ("transfers keep off the colours of collectives", _colours_of_collectives),
        ("a folded norm is read by the product after it alone, which takes its sum", folded_alone),
        ("kinds of collectives that stay have colours of their own", _shared_though_apart),
        ("input queues suffice", _queues),
        ("every block has its row of the memory map", _without_memory),
        ("stages hold all kernels, in order, each on the stage's block", _wrong_slices),
    ),
    (("transfers have the kind and colours of their blocks", _wrong_transfers),),
    (
        ("routes avoid dead PEs", _dead_routers),
        ("a colour is received from one direction", colour_conflicts),
    ),
)
