"""Program: layouts, collectives, the text form and the rules, each broken once."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.programs import BIASED, NORMED, program
from wsesim.errors import UnknownNameError
from wsesim.machine.errors import MachineFileError
from wsesim.machine.parts import SlowPE
from wsesim.program import Program, parse_program, verify_program
from wsesim.program.collectives import COLLECTIVES, parse_collective, reduction, ring_order
from wsesim.program.errors import ProgramRuleError, ProgramTextError, SramError
from wsesim.program.files import load_program, save_program
from wsesim.program.kernels import Kernel, Linear, WeightRef
from wsesim.program.kv import POLICIES, KVCache
from wsesim.program.layout import Heads, Layout, Uniform
from wsesim.program.parts import Block
from wsesim.program.verify import RULES
from wsesim.software import Form, load_software
from wsesim_compiler.options import ByPhase, PlacedBlock
from wsesim_models.config import LlamaConfig

# Layouts.


@st.composite
def heads(draw: st.DrawFn, repeat: int | None = None) -> Heads:
    return Heads(
        groups=draw(st.integers(1, 9)),
        repeat=repeat or draw(st.integers(1, 5)),
        head_dim=2 * draw(st.integers(1, 16)),
        parts=draw(st.integers(1, 120)),
        pairing=draw(st.sampled_from(["half", "interleaved"])),
    )


uniforms = st.builds(Uniform, st.integers(1, 500), st.integers(1, 120))


@given(uniforms | heads())
@settings(max_examples=400, deadline=None, derandomize=True)
def test_a_layout_places_every_element_once(layout: Layout) -> None:
    indices = layout.indices()
    assert indices.shape == (layout.used, layout.width)
    assert 1 <= layout.used <= layout.parts
    there = indices[indices >= 0]
    assert sorted(there.tolist()) == list(range(layout.size))
    assert set(indices[indices < 0].tolist()) <= {-1}
    assert (indices >= 0).any(axis=1).all(), "a used position holds something"


@given(uniforms)
@settings(deadline=None, derandomize=True)
def test_a_uniform_layout_is_in_order_with_padding_last(layout: Uniform) -> None:
    flat = layout.indices().ravel()
    np.testing.assert_array_equal(flat[: layout.size], np.arange(layout.size))
    assert layout.width == -(-layout.size // layout.parts), "no position holds more than it must"


@given(heads())
@settings(max_examples=300, deadline=None, derandomize=True)
def test_rotation_partners_are_adjacent(layout: Heads) -> None:
    half = layout.head_dim // 2
    pairs = layout.indices().reshape(layout.used, -1, 2)
    first, second = pairs[..., 0], pairs[..., 1]
    np.testing.assert_array_equal(first < 0, second < 0)
    there = first >= 0
    np.testing.assert_array_equal(first[there] // layout.head_dim, second[there] // layout.head_dim)
    distance = half if layout.pairing == "half" else 1
    np.testing.assert_array_equal(second[there] - first[there], distance)


@given(heads())
@settings(max_examples=300, deadline=None, derandomize=True)
def test_a_query_lies_where_its_key_lies(queries: Heads) -> None:
    keys = dataclasses.replace(queries, repeat=1)
    assert (keys.used, keys.segment, keys.features) == (queries.used, queries.segment, queries.features)
    shape = (queries.used, queries.groups_per_position, queries.repeat, queries.features)
    of_queries = queries.indices().reshape(shape)
    of_keys = np.broadcast_to(keys.indices().reshape(shape[0], shape[1], 1, shape[3]), shape)
    np.testing.assert_array_equal(of_queries < 0, of_keys < 0)
    there = of_queries >= 0
    head, feature = np.divmod(of_queries[there], queries.head_dim)
    group, key_feature = np.divmod(of_keys[there], queries.head_dim)
    np.testing.assert_array_equal(head // queries.repeat, group)
    np.testing.assert_array_equal(feature, key_feature)


def test_indices_cannot_be_changed_by_their_reader() -> None:
    with pytest.raises(ValueError, match="read-only"):
        Uniform(4, 2).indices()[0, 0] = 7


# Collectives.


@pytest.mark.parametrize("collective", [*COLLECTIVES, "two_phase:1", "two_phase:20", "two_phase_end:7"])
@given(length=st.integers(1, 1200), element=st.integers(0, 3000))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_a_reduction_takes_every_position_once_into_the_root(collective: str, length: int, element: int) -> None:
    plan = reduction(length, collective, element)
    holds = [{position} for position in range(length)]
    gone: set[int] = set()
    for merge in plan.merges:
        assert merge.source not in gone, "a position that has sent its sum is merged again"
        assert merge.target not in gone, "a sum is added to a position that has already sent its own"
        assert not holds[merge.source] & holds[merge.target]
        holds[merge.target] |= holds[merge.source]
        gone.add(merge.source)
    assert holds[plan.root] == set(range(length))
    assert len(plan.merges) == length - 1


def test_the_two_phases_are_as_deep_as_published() -> None:
    """2 sqrt(P) - 2 merges one behind the other for groups that reduce to an end; half of it to their middles."""
    depth = dict.fromkeys(range(256), 0)
    for merge in reduction(256, "two_phase").merges:
        depth[merge.target] = max(depth[merge.target], depth[merge.source] + 1)
    assert max(depth.values()) == 16
    assert reduction(256, "two_phase").root in range(120, 137)
    assert depth_of("two_phase_end", 256) == 30
    assert reduction(256, "two_phase_end").root == 0


def depth_of(collective: str, length: int) -> int:
    """Merges one behind the other."""
    depth = dict.fromkeys(range(length), 0)
    for merge in reduction(length, collective).merges:
        depth[merge.target] = max(depth[merge.target], depth[merge.source] + 1)
    return max(depth.values())


def test_depths_and_roots_of_the_others() -> None:
    assert [depth_of(name, 256) for name in ("chain", "star", "tree", "ring")] == [255, 1, 8, 255]
    assert [depth_of("tree", length) for length in (2, 255, 257)] == [1, 7, 8]
    assert [reduction(9, name).root for name in ("chain", "star", "tree", "two_phase_end", "ring")] == [8, 4, 0, 0, 0]


def test_a_star_takes_the_nearest_first() -> None:
    assert [merge.source for merge in reduction(5, "star").merges] == [1, 3, 0, 4]


def test_as_many_groups_as_asked_for() -> None:
    """Every group but the middle one sends one sum from its root to a neighbour's."""
    for groups in (1, 4, 7, 40, 99):
        plan = reduction(40, f"two_phase:{groups}")
        between = [m for m in plan.merges if abs(m.target - m.source) > 1]
        assert len(between) == (groups - 1 if groups < 40 else 0)
        assert plan.root == {1: 20, 40: 20, 99: 20}.get(groups, plan.root)


@pytest.mark.parametrize("length", [2, 3, 4, 5, 16, 33])
def test_each_range_of_a_ring_goes_all_around_and_neighbours_are_near(length: int) -> None:
    ring = ring_order(length)
    assert sorted(ring) == list(range(length))
    assert max(abs(a - b) for a, b in pairwise((*ring, ring[0]))) <= 2
    roots = [reduction(length, "ring", element).root for element in range(3 * length)]
    assert roots == [*ring, *ring, *ring]
    for element in range(length):
        visited = [m.source for m in reduction(length, "ring", element).merges]
        begin = ring.index(visited[0])
        assert visited == [ring[(begin + i) % length] for i in range(length - 1)]


@pytest.mark.parametrize("text", [*COLLECTIVES, "two_phase:20", "streamed_two_phase_end:1"])
def test_a_collective_prints_and_parses(text: str) -> None:
    named = parse_collective(text)
    assert str(named) == text
    assert named.streamed == text.startswith("streamed_")
    assert reduction(30, text) == reduction(30, text.removeprefix("streamed_"))


@pytest.mark.parametrize("text", ["", "streamed_", "chain:4", "two_phase:0", "two_phase:", "two_phase:-3", "Chain"])
def test_what_names_no_collective_is_refused(text: str) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown collective .*; or two_phase:GROUPS"):
        parse_collective(text)


def test_an_unknown_collective_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="known: two_phase, two_phase_end, "):
        reduction(4, "two-phases")


@given(st.integers(0, 300), st.integers(1, 5), st.integers(1, 40), st.sampled_from(POLICIES), st.integers(0, 120))
@settings(max_examples=400, deadline=None, derandomize=True)
def test_every_position_seen_lies_on_one_line(context: int, tokens: int, along: int, policy: str, window: int) -> None:
    """All of them, or as many as the window shows."""
    cache = KVCache(policy, window=window or None)
    seen = np.arange(context + 1, context + tokens + 1)
    for n, lines in zip(seen.tolist(), cache.spans(seen, along), strict=True):
        held = [range(first, end, cache.step(along)) for first, end in lines]
        assert sorted(t for line in held for t in line) == list(range(n))[-window:]
        assert max(map(len, held)) == cache.positions(n, along)
        assert cache.positions(cache.longest(cache.positions(n, along), along), along) == cache.positions(n, along)


@given(st.integers(0, 300), st.integers(1, 5), st.integers(1, 40), st.integers(1, 120))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_a_line_has_room_for_the_windows_of_all_tokens_of_a_step(
    context: int, tokens: int, along: int, window: int
) -> None:
    """Interleaved: what any of them sees on a line, and what comes there while they go through."""
    cache = KVCache(window=window)
    spans = cache.spans(np.arange(context + 1, context + tokens + 1), along)
    held = [{t for first, end in lines for t in range(first, end, along)} for lines in spans.swapaxes(0, 1)]
    assert max(map(len, held)) == cache.stored_positions(context + tokens, along, tokens)


@given(st.integers(1, 300), st.integers(1, 40))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_a_new_token_moves_each_lines_oldest_at_most_one_line_up(context: int, along: int) -> None:
    before, after = KVCache("shift").spans(np.array([context, context + 1]), along)
    assert set((after[:, 0] - before[:, 0]).tolist()) <= {0, 1}  # each line begins where it did, or one later
    assert before[0, 0] == after[0, 0] == 0


def test_positions_by_hand() -> None:
    """Ten positions on four lines, and where an eleventh goes."""
    seen = np.array([10])
    assert KVCache("interleaved").spans(seen, 4).tolist() == [[[0, 10], [1, 10], [2, 10], [3, 10]]]
    assert KVCache("shift").spans(seen, 4).tolist() == [[[0, 2], [2, 5], [5, 7], [7, 10]]]
    assert KVCache("concat").spans(seen, 4).tolist() == [[[10, 10], [10, 10], [10, 10], [0, 10]]]
    assert KVCache("interleaved", window=5).spans(seen, 4).tolist() == [[[8, 10], [5, 10], [6, 10], [7, 10]]]
    assert KVCache("shift", window=5).spans(seen, 4).tolist() == [[[5, 6], [6, 7], [7, 8], [8, 10]]]
    assert KVCache("concat", window=5).spans(seen, 4).tolist() == [[[10, 10], [10, 10], [10, 10], [5, 10]]]


# Text.

CASES = [
    ("tiny", machine, strategy, {"layers_per_block": 2} if strategy == "hybrid" else {})
    for machine in ("toy4x4", "wse2", "wse3", "wse3-nominal")
    for strategy in ("pipelined", "shared", "hybrid")
] + [
    (NORMED, "wse3", "pipelined", {"kv": "shift", "kv_dtype": "int8", "softmax": "fused"}),
    ("smollm2-135m", "wse3", "pipelined", {}),
    ("llama3.1-8b", "wse3", "pipelined", {}),
]


@pytest.mark.parametrize(("model", "machine", "strategy", "options"), CASES)
def test_what_is_printed_parses_back(
    model: str | LlamaConfig, machine: str, strategy: str, options: dict[str, Any], tmp_path: Path
) -> None:
    made = program(model, machine, strategy, **options)
    assert parse_program(made.text()) == made
    assert parse_program(made.text()).fingerprint() == made.fingerprint()
    save_program(made, tmp_path / "p.txt")
    assert load_program(tmp_path / "p.txt") == made
    assert [p.name for p in tmp_path.iterdir()] == ["p.txt"]


@pytest.fixture(scope="module")
def tiny() -> Program:
    return program("tiny", "toy4x4", softmax="two_pass")


def test_a_machine_with_dead_and_slow_pes_parses_back(tiny: Program) -> None:
    odd = dataclasses.replace(tiny.machine, dead=frozenset({(3, 3), (0, 3)}), slow=(SlowPE(1, 1, Fraction(9, 8)),))
    changed = dataclasses.replace(tiny, machine=odd)
    assert parse_program(changed.text()) == changed
    assert changed.fingerprint() != tiny.fingerprint()


def test_a_text_cut_off_anywhere_is_refused(tiny: Program) -> None:
    text = tiny.text().rstrip("\n")
    cuts = {len(text) - 1, *range(0, len(text), 97), *(m.start() for m in re.finditer("\n", text))}
    for cut in sorted(cuts):
        with pytest.raises(ProgramTextError):
            parse_program(text[:cut])


TRAP = "__import__('pathlib').Path('trap').touch()"
BROKEN: dict[str, tuple[str, str, str]] = {
    "other version": ("program 2", "program 1", "version 2"),
    "unknown word": ("feedback Feedback", "backfeed Feedback", "line 5 of the Program: unknown word 'backfeed'"),
    "unknown constructor": ("machine Machine(", "machine Wafer(", "unknown constructor 'Wafer'"),
    "call in place of a value": ("x=0, y=0", f"x={TRAP}, y=0", "unknown constructor"),
    "call in place of an item": ("feedback Feedback(", f"feedback {TRAP}, Feedback(", "unknown constructor"),
    "call in the header": ("max_context=256", f"max_context={TRAP}", "line 2 of the Program: unknown constructor"),
    "call by an attribute": ("Fraction('1/4')", "str.__class__('1/4')", "unknown constructor"),
    "lambda": ("x=0, y=0", f"x=(lambda: {TRAP})(), y=0", "unknown constructor"),
    "comprehension": ("x=0, y=0", f"x=[{TRAP} for _ in (0,)], y=0", "malformed node"),
    "f-string": ("x=0, y=0", f'x=f"{{{TRAP}}}", y=0', "malformed node"),
    "class of Python": ("x=0, y=0", "x=Path('trap'), y=0", "unknown constructor 'Path'"),
    "fields in order": ("Uniform(size=32, parts=1)", "Uniform(32, 1)", "by name"),
    "header of no call": ("header(model=", "header(3)[0], dict(model=", "by name"),
    "fraction over zero": ("Fraction('1/4')", "Fraction('1/0')", "line 3"),
    "fraction of words": ("Fraction('1/4')", "Fraction('a/b')", "line 3"),
    "fraction of nothing": ("Fraction('1/4')", "Fraction()", "unknown constructor 'Fraction'"),
    "field of another type": ("columns=4, rows=4", "columns='4', rows=4", "field 'columns' is '4', not of type int"),
    "field missing": ("x=0, y=0, ", "x=0, ", "field 'y' is missing"),
    "field unknown": ("x=0, y=0", "x=0, z=0, y=0", "unknown field 'z'"),
    "field twice": ("x=0, y=0", "x=0, x=0, y=0", "field 'x' is given twice"),
    "a block that is none": ("block Block(", "block Rect(x=0, y=0, columns=1, rows=1)\nblock Block(", "field 'blocks'"),
    "header's field missing": ("strategy='pipelined', ", "", "field 'strategy' is missing"),
    "a list in the header": (
        "batch=1",
        "batch=1, blocks=3",
        "line 2 of the Program: field 'blocks' has lines of its own",
    ),
    "an infinite fraction": ("Fraction('1/4')", "Fraction(1e999)", "line 3 of the Program: cannot convert Infinity"),
    "deep nest": ("x=0, y=0", f"x={'(' * 150}0{',)' * 150}, y=0", "field 'x' is"),
    "deeper nest": ("x=0, y=0", f"x={'-' * 100_000}0, y=0", "line"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_text_is_refused_and_never_run(
    case: str, tiny: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new, words = BROKEN[case]
    text = tiny.text()
    assert old in text
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.txt").write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ProgramTextError, match=re.escape(words)):
        load_program("p.txt")
    assert [p.name for p in tmp_path.iterdir()] == ["p.txt"]


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe", b"program 2", b"program 2\nend\n"])
def test_a_file_that_is_no_program_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_bytes(content)
    with pytest.raises(ProgramTextError):
        load_program(tmp_path / "p.txt")
    with pytest.raises(ProgramTextError, match="cannot be read"):
        load_program(tmp_path / "none.txt")


# The rules.


def _kernel(made: Program, name: str, change: Callable[[Any], Kernel]) -> Program:
    assert any(k.name == name for k in made.kernels), name
    return dataclasses.replace(made, kernels=tuple(change(k) if k.name == name else k for k in made.kernels))


def _set(name: str, **fields: Any) -> Callable[[Program], Program]:
    return lambda made: _kernel(made, name, lambda k: dataclasses.replace(k, **fields))


def _stage(index: int, **changes: Any) -> Callable[[Program], Program]:
    """The Program with one stage changed."""

    def change(program: Program) -> Program:
        stages = list(program.stages)
        stages[index] = dataclasses.replace(stages[index], **changes)
        return dataclasses.replace(program, stages=tuple(stages))

    return change


def _first(items: str, **fields: Any) -> Callable[[Program], Program]:
    def change(made: Program) -> Program:
        first, *rest = getattr(made, items)
        changed: dict[str, Any] = {items: (dataclasses.replace(first, **fields), *rest)}
        return dataclasses.replace(made, **changed)

    return change


def _program(change: Callable[[Program], dict[str, Any]]) -> Callable[[Program], Program]:
    return lambda made: dataclasses.replace(made, **change(made))


def _output(made: Program) -> Program:
    """One row fewer of a weight than its layout has."""

    def change(kernel: Linear) -> Linear:
        first, *rest = kernel.outputs
        short = dataclasses.replace(first.weight, stop=first.weight.stop - 1)
        return dataclasses.replace(kernel, outputs=(dataclasses.replace(first, weight=short), *rest))

    return _kernel(made, "layer0.gate_up", change)


def _short_bias(made: Program) -> Program:
    """One element fewer of a bias than its layout has."""
    linear = next(k for k in program(BIASED, "toy4x4").kernels if k.name == "layer0.qkv")
    assert isinstance(linear, Linear) and linear.outputs[0].bias is not None
    short = dataclasses.replace(linear.outputs[0].bias, start=1)
    first = dataclasses.replace(linear.outputs[0], bias=short)
    return _set("layer0.qkv", outputs=(first, *linear.outputs[1:]))(program(BIASED, "toy4x4"))


def _normed(**fields: Any) -> Callable[[Program], Program]:
    """A Program with norms of heads in place of the one that is given."""
    return lambda made: _set("layer0.qk_norm", **fields)(program(NORMED, "toy4x4"))


def _folded(name: str, **fields: Any) -> Callable[[Program], Program]:
    """The Program with a folded norm and another kernel changed: a form `bare` of a product takes no norm's sum."""
    own = load_software("wsesim")
    linears = [n for n, form in enumerate(own.forms) if form.kind == "Linear"]
    bare = Form("Linear", "bare", ("all_reduce(tokens*outputs)",))
    software = dataclasses.replace(own, forms=(*own.forms[: linears[-1] + 1], bare, *own.forms[linears[-1] + 1 :]))

    def change(made: Program) -> Program:
        forms = (("attn_norm", ByPhase("folded", "folded")), ("qkv", ByPhase("one_product", "one_product")))
        return _set(name, **fields)(program("tiny", "toy4x4", forms=forms, software=software))

    return change


def _with_dead_row_between_blocks() -> Program:
    """Row 1 carries no block, but every transfer."""
    sizes = {("embed", "head"): (0, 0, 4, 1), ("layer0",): (0, 2, 2, 2), ("layer1",): (2, 2, 2, 2)}
    blocks = tuple(PlacedBlock(Block(stages[0], *size, "rows"), stages) for stages, size in sizes.items())
    made = program("tiny", "toy4x4", blocks=blocks)
    dead = frozenset((x, 1) for x in range(4))
    return dataclasses.replace(made, machine=dataclasses.replace(made.machine, dead=dead))


LONG = Uniform(64, 64)
LONG_HEADS = Heads(2, 2, 8, 8, "half")

BREAKERS: dict[str, list[Callable[[Program], Program]]] = {
    "names are unique": [
        _program(lambda p: {"kernels": (p.kernels[0], *p.kernels)}),
        _program(lambda p: {"transfers": (*p.transfers, p.transfers[0])}),
    ],
    "kernels, transfers and colours name known blocks": [
        _set("layer0.qkv", block="nowhere"),
        _first("transfers", target="nowhere"),
        _first("colours", block="nowhere"),
        _program(lambda p: {"feedback": dataclasses.replace(p.feedback, source="nowhere")}),
    ],
    "blocks and layouts have an extent": [
        _first("blocks", columns=0),
        _set("layer0.qkv", layout=Uniform(32, 0)),
        _set("layer0.softmax", layout=Heads(0, 1, 8, 2, "half")),
        _set("layer0.rope", layouts=(Heads(2, 2, 8, -2, "half"),)),
        _first("transfers", target_layout=Uniform(0, 1)),
    ],
    "collectives are known": [_set("layer0.o", reduce="stars"), _set("layer0.softmax", prefill_reduce="stars")],
    "logits are summed once after either phase, by one collective": [_set("head.logits", prefill_reduce="chain")],
    "a KV cache is interleaved, shift, concat, in fp16, bf16, int8": [
        _set("layer0.softmax", cache=KVCache("shifted")),
        _set("layer0.score", cache=KVCache("shift", "fp32")),
    ],
    "a window has at least one position": [_set("layer0.score", cache=KVCache(window=0))],
    "a block keeps its KV cache in one way": [
        _set("layer0.softmax", cache=KVCache("shift")),
        _set("layer0.score", cache=KVCache(dtype="int8")),
    ],
    "fields are in their range": [
        _program(lambda p: {"timing_dtype": "fp8"}),
        _program(lambda p: {"prefill_chunk": 0}),
        _program(lambda p: {"batch": 0}),
        _program(lambda p: {"batch": 2}),
    ],
    "a value is read in the layout that it was made in": [
        _set("layer0.softmax", layout=Heads(2, 2, 8, 2, "interleaved")),
        _set("layer0.attn_add", layout=Uniform(31, 3)),
        _first("transfers", source_layout=Uniform(31, 1)),
    ],
    "the feedback goes from the sample's block to the embedding's": [
        _program(lambda p: {"feedback": dataclasses.replace(p.feedback, target="layer0")}),
    ],
    "kernels lead from the embedding to the sample": [
        _program(lambda p: {"kernels": p.kernels[1:]}),
        _program(lambda p: {"kernels": p.kernels[:-1]}),
        _program(lambda p: {"kernels": ()}),
    ],
    "stages are an embedding, layers with their numbers, a head and a sample": [
        _program(lambda p: {"stages": ()}),
        _program(lambda p: {"stages": p.stages[1:]}),
        _program(lambda p: {"stages": p.stages[:-1]}),
        _stage(1, kind="head"),
        _stage(1, kind="other"),
        _stage(1, layer=None),
        _stage(0, layer=0),
    ],
    "stages hold all kernels, in order, each on the stage's block": [
        _stage(1, start=2),
        _stage(1, stop=8),
        _stage(1, block="layer1"),
        _stage(1, block="nowhere"),
        _stage(-1, stop=10_000),
        _program(lambda p: {"stages": (*p.stages[:1], *p.stages[2:])}),
    ],
    "blocks split the residual stream over rows or columns": [_first("blocks", axis="diagonals")],
    "a product is summed along or across its block": [_set("layer0.qkv", axis="add_1")],
    "blocks lie inside the usable rectangle": [_first("blocks", x=1)],
    "blocks do not overlap": [_first("blocks", rows=2)],
    "a block leaves out rows and columns inside it": [
        _first("blocks", left_out_columns=(0,)),
        _first("blocks", left_out_columns=(2, 1)),
        _first("blocks", left_out_rows=(9,)),
    ],
    "blocks avoid dead PEs": [
        _program(lambda p: {"machine": dataclasses.replace(p.machine, dead=frozenset({(1, 2)}))})
    ],
    "values are made on their block before they are read": [
        _program(lambda p: {"kernels": (p.kernels[0], *reversed(p.kernels[1:-1]), p.kernels[-1])}),
        _program(lambda p: {"transfers": p.transfers[1:]}),
        _first("transfers", value="nothing"),
    ],
    "layouts are no longer than their block": [
        _set("embed.table", vocabulary=LONG),
        _set("layer0.attn_norm", layout=LONG),
        _set("layer0.qkv", layout=LONG),
        _set("layer0.rope", layouts=(LONG_HEADS, LONG_HEADS)),
        _normed(layouts=(LONG_HEADS, LONG_HEADS)),
        _set("layer0.score", key_layout=LONG_HEADS),
        _set("layer0.softmax", layout=LONG_HEADS),
        _set("layer0.weighted_sum", value_layout=LONG_HEADS),
        _set("layer0.swiglu", layout=LONG),
        _set("layer0.ffn_add", layout=LONG),
        _set("head.sample", layout=LONG),
        _first("transfers", target_layout=Uniform(32, 16)),
    ],
    "a weight covers its output": [_output, _short_bias, _normed(weights=(WeightRef("", 0, 8), WeightRef("", 0, 7)))],
    "each source has its target, layout, weight and eps, on segments of one length": [
        _set("layer0.rope", targets=("q",)),
        _normed(eps=(1e-6,)),
        _normed(layouts=(Heads(2, 2, 8, 1, "half"), Heads(2, 1, 8, 8, "half"))),
    ],
    "lanes are columns that both blocks share, or the source's": [
        _first("transfers", lanes=(0, 99)),
        _first("transfers", lanes=(2, 1)),
        _program(lambda p: {"feedback": dataclasses.replace(p.feedback, lane=99)}),
    ],
    "kinds of collectives that stay have colours of their own": [
        _program(lambda p: {"software": dataclasses.replace(p.software, routes="apart")}),
    ],
    "forms are the software's": [_set("layer0.qkv", form="woven")],
    "a folded norm is read by the product after it alone, which takes its sum": [
        _folded("layer0.qkv", form="bare"),
        _folded("layer0.qkv", prefill_form="bare"),
        _folded("layer0.attn_norm", prefill_form="two_pass"),
        _folded("layer0.attn_add", right="rmsnorm_0"),
    ],
    "input queues suffice": [
        _program(lambda p: {"machine": dataclasses.replace(p.machine, input_queues=6)}),
        _program(lambda p: {"machine": dataclasses.replace(p.machine, reserved_queues=18)}),
    ],
    "routes avoid dead PEs": [lambda made: _with_dead_row_between_blocks()],
    "transfers have the kind and colours of their blocks": [
        _first("transfers", kind="straight"),
        _first("transfers", colours=()),
    ],
    "colours are routable and not the host's": [
        _first("transfers", colours=(7, 21)),
        _first("colours", colours=(-1,)),
        _program(lambda p: {"feedback": dataclasses.replace(p.feedback, colours=(24,))}),
    ],
    "transfers keep off the colours of collectives": [
        _first("transfers", colours=(0, 1)),
        _program(lambda p: {"feedback": dataclasses.replace(p.feedback, colours=(3,))}),
    ],
    "every block has its row of the memory map": [
        _program(lambda p: {"memory": p.memory[:-1]}),
        _program(lambda p: {"memory": (*p.memory, p.memory[0])}),
    ],
    "a colour is received from one direction": [
        _program(
            lambda p: {
                "transfers": tuple(dataclasses.replace(t, colours=(7, 7)[: len(t.colours)]) for t in p.transfers)
            }
        )
    ],
}


def test_every_rule_has_its_breakers() -> None:
    assert {name for rules in RULES for name, _ in rules} == set(BREAKERS)


@pytest.mark.parametrize(("rule", "number"), [(rule, n) for rule, made in BREAKERS.items() for n in range(len(made))])
def test_a_rule_that_is_broken_is_named(rule: str, number: int, tiny: Program) -> None:
    verify_program(tiny)
    with pytest.raises(ProgramRuleError, match=re.escape(rule)):
        verify_program(BREAKERS[rule][number](tiny))


def test_a_machine_that_breaks_a_rule_is_named(tiny: Program) -> None:
    with pytest.raises(MachineFileError, match="the operations are"):
        verify_program(dataclasses.replace(tiny, machine=dataclasses.replace(tiny.machine, ops=())))


def test_a_pe_over_its_room_is_named_with_its_bytes(tiny: Program) -> None:
    over = _first("memory", weight_bytes=tiny.machine.room_bytes)(tiny)
    with pytest.raises(SramError, match=r"block table: [\d]+ bytes needed on a PE, 32768 there"):
        verify_program(over)


def test_a_saved_program_that_breaks_a_rule_is_refused(tiny: Program, tmp_path: Path) -> None:
    save_program(_set("layer0.o", reduce="stars")(tiny), tmp_path / "p.txt")
    with pytest.raises(ProgramRuleError, match=r"collectives are known: layer0\.o"):
        load_program(tmp_path / "p.txt")


def test_of_many_breaches_the_first_are_said_and_the_rest_counted(tiny: Program) -> None:
    nowhere = dataclasses.replace(tiny, kernels=tuple(dataclasses.replace(k, block="x") for k in tiny.kernels))
    with pytest.raises(ProgramRuleError, match=rf"\(and {len(tiny.kernels) - 8} more\)"):
        verify_program(nowhere)
