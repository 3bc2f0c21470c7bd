"""Random models, placements and wafers: a compiled Program keeps every rule, and a refusal gives its reason."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter, defaultdict
from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.programs import NORMED, ORACLE, UNTIED, recognised_graph
from wsesim.machine import Machine, Rect, load_machine
from wsesim.program import Program, parse_program
from wsesim.program.parts import AXES, Block
from wsesim.program.routes import routed
from wsesim_compiler.errors import PlacementError
from wsesim_compiler.ir import Graph
from wsesim_compiler.lower import lower
from wsesim_compiler.options import Options, PlacedBlock
from wsesim_compiler.passes.partition import partition
from wsesim_compiler.placement.memory import block_memory
from wsesim_models.config import CONFIGS

TOY = load_machine("toy4x4")
MODELS = (CONFIGS["tiny"], UNTIED, NORMED, dataclasses.replace(UNTIED, name="deep", layers=5))


@pytest.fixture(scope="module", autouse=True)
def graphs() -> None:
    """Exported before anything is drawn, which hypothesis wants to be quick."""
    for config in MODELS:
        recognised_graph(config)


@st.composite
def rectangles(draw: st.DrawFn, area: Rect, count: int) -> list[Rect]:
    """`count` rectangles of an area beside each other, each cut off the largest and perhaps made smaller."""
    parts = [area]
    while len(parts) < count:
        largest = parts.pop(max(range(len(parts)), key=lambda n: parts[n].pes))
        x, y, columns, rows = largest.x, largest.y, largest.columns, largest.rows
        if columns >= rows:
            cut = draw(st.integers(1, columns - 1))
            parts += [Rect(x, y, cut, rows), Rect(x + cut, y, columns - cut, rows)]
        else:
            cut = draw(st.integers(1, rows - 1))
            parts += [Rect(x, y, columns, cut), Rect(x, y + cut, columns, rows - cut)]
    gaps = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    return [
        dataclasses.replace(r, rows=r.rows - 1) if gap and r.rows > 1 else r for r, gap in zip(parts, gaps, strict=True)
    ]


@st.composite
def placements(draw: st.DrawFn) -> tuple[Graph, Machine, Options]:
    """Stages of a small model, some layers in halves, on as many blocks as they may need."""
    graph = recognised_graph(draw(st.sampled_from(MODELS)))
    split = partition(graph)
    cut = draw(st.sets(st.sampled_from([s.name for s in split.layers])))
    stages = [s.name for s in split.cut({half.name for s in split.layers if s.name in cut for half in s.halves}).stages]
    columns, rows = draw(st.integers(4, 9)), draw(st.integers(4, 9))
    area = Rect(draw(st.integers(0, 3)), draw(st.integers(0, 3)), columns, rows)
    count = draw(st.integers(1, min(len(stages), 9)))
    homes = {stage: draw(st.integers(0, count - 1)) for stage in stages}
    if split.tied:
        homes["head"] = homes["embed"]
    axes = AXES if draw(st.booleans()) else AXES[:1]
    rects = draw(rectangles(area, count))
    blocks = tuple(
        PlacedBlock(Block(f"b{n}", r.x, r.y, r.columns, r.rows, draw(st.sampled_from(axes))), on)
        for n, r in enumerate(rects)
        if (on := tuple(stage for stage in stages if homes[stage] == n))
    )
    machine = dataclasses.replace(
        TOY,
        columns=area.x + columns,
        rows=area.y + rows,
        usable=area,
        sram_bytes=TOY.code_reserved_bytes + draw(st.integers(1000, 40_000)),
        colours=draw(st.integers(12, 24)),
    )
    sequences = draw(st.integers(1, 3))
    chunk = draw(st.none() | st.integers(1, 4))
    context = draw(st.integers(1, 200))
    options = Options("explicit", context, sequences, prefill_chunk=chunk, blocks=blocks, collective="chain")
    return graph, machine, options


def assert_sound(graph: Graph, made: Program, options: Options) -> None:
    """Checks places, bytes, weights, streams and colours of the Program, computed here again."""
    for a, b in combinations(made.blocks, 2):
        assert not a.rect.overlaps(b.rect)
    for block, memory in zip(made.blocks, made.memory, strict=True):
        assert made.machine.usable.contains(block.rect)
        assert memory == block_memory(block, made.kernels_of(block.name), options, made.prefill_chunk)
        assert memory.total_bytes <= made.machine.room_bytes
    rows = Counter(ref.name for k in made.kernels for ref, _, _ in k.tiles for _ in range(ref.start, ref.stop))
    table = graph.nodes[0].inputs[1]
    tied = graph.nodes[-1].inputs[1] == table
    for parameter in graph.parameters:
        times = 2 if tied and parameter.name == table else 1
        assert rows[parameter.name] == times * int(parameter.type.shape[0]), parameter.name
    visits = [b for b, following in pairwise([k.block for k in made.kernels] + [""]) if b != following]
    assert [(t.source, t.target) for t in made.transfers] == list(pairwise(visits))
    assert_colours_are_free(made)
    assert parse_program(made.text()).text() == made.text()


def assert_colours_are_free(made: Program) -> None:
    """On a router a colour is of one stream, and of no collective of the block there."""
    ways = {t.name: f"{t.source} to {t.target}" for t in made.transfers} | {"feedback": "feedback"}
    streams: dict[tuple[tuple[int, int], int], set[str]] = defaultdict(set)
    for name, path in routed(made):
        for hop in range(path.total_hops + 1):
            streams[path.position(hop), path.colour].add(ways[name])
    assert all(len(names) == 1 for names in streams.values())
    for use in made.colours:
        rect = made.block(use.block).rect
        assert not {colour for (pe, colour) in streams if rect.has(*pe)} & set(use.colours)
    limit = made.machine.colours - made.machine.reserved_colours
    assert all(0 <= colour < limit for _, colour in streams)


def raised(message: str, machine: Machine, options: Options) -> tuple[Machine, Options]:
    """The limit that a refusal names raised by what it says is missing; a turn undone."""
    if short := re.search(r"short by ([\d,]+)", message):
        return dataclasses.replace(machine, sram_bytes=machine.sram_bytes + int(short[1].replace(",", ""))), options
    if colours := re.search(r"at router \(\d+, \d+\): .* (\d+) colours are needed where (\d+) are", message):
        return dataclasses.replace(machine, colours=machine.colours + int(colours[1]) - int(colours[2])), options
    assert re.search(r"crosses itself at router \(\d+, \d+\); split both over (rows|columns)", message), message
    rows = tuple(dataclasses.replace(p, block=dataclasses.replace(p.block, axis="rows")) for p in options.blocks)
    return machine, dataclasses.replace(options, blocks=rows)


@given(placements())
@settings(max_examples=100, deadline=None, derandomize=True)
def test_a_placement_is_sound_or_refused_by_a_limit_that_can_be_raised(case: tuple[Graph, Machine, Options]) -> None:
    graph, machine, options = case
    for _ in range(5):
        try:
            made = lower(graph, machine, options, ORACLE)
        except PlacementError as refused:
            machine, options = raised(str(refused), machine, options)
        else:
            assert_sound(graph, made, options)
            return
    raise AssertionError("each limit needs raising once, those of bytes and colours again after the axes")
