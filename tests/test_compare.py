"""Comparison: the differences sum exactly, stages and blocks are matched, and the inputs that differ are named."""

from __future__ import annotations

import builtins
import dataclasses
import json
import re
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import wsesim
from tests.programs import ORACLE, UNTIED, program, recognised_graph
from tests.test_placements_random import graphs as graphs  # a fixture
from tests.test_placements_random import placements, raised
from wsesim.engine.steps.timing import Timing
from wsesim.errors import InvalidInputError
from wsesim.machine import Machine, load_machine
from wsesim.program import Program
from wsesim.report.compare.comparison import Comparison, compare_runs
from wsesim.report.compare.inputs import input_differences
from wsesim.report.compare.pairs import TABLES, Pair, Side
from wsesim.report.compare.saved import RunFigures, run_of
from wsesim.report.compare.stages import matched_blocks, matched_stages
from wsesim.report.kinds import KINDS
from wsesim.report.report import Report, report
from wsesim_compiler.errors import PlacementError
from wsesim_compiler.ir import Graph
from wsesim_compiler.lower import lower
from wsesim_compiler.options import Options
from wsesim_compiler.placement.placement_file import parse_placement

SEARCHED = Path(__file__).parents[1] / "examples" / "placements" / "llama3.1-8b-searched.toml"


def of_report(made: Report) -> RunFigures:
    return run_of(json.loads(json.dumps(made.to_json())), "a report")


def run_of_program(made: Program, phase: str = "decode", size: int = 16) -> RunFigures:
    timing = Timing(made)
    return of_report(report(made, timing.decode(size) if phase == "decode" else timing.prefill(size)))


def compared(*runs: RunFigures) -> Comparison:
    return compare_runs([Side("ABCD"[n], f"run {n}", run) for n, run in enumerate(runs)])


def pair_of(a: RunFigures, b: RunFigures) -> Pair:
    return compared(a, b).pairs[0]


def assert_exact(pair: Pair) -> None:
    """In every table the rows sum to the totals, in all and by kind; and no row has a name twice."""
    total = pair.b.run.cycles - pair.a.run.cycles
    by_kind = {row.name: row.difference_cycles for row in pair.by_kind}
    assert pair.difference_cycles == total
    for by in TABLES:
        rows = pair.rows(by)
        assert rows and len({row.name for row in rows}) == len(rows)
        assert sum(row.a_cycles for row in rows) == pair.a.run.cycles
        assert sum(row.b_cycles for row in rows) == pair.b.run.cycles
        assert sum(row.difference_cycles for row in rows) == total
        assert all(sum(row.differences) == row.difference_cycles for row in rows)
        columns = dict(zip(KINDS, map(sum, zip(*(row.differences for row in rows), strict=True)), strict=True))
        assert columns == by_kind
        sizes = [abs(row.difference_cycles) for row in rows]
        assert sizes == sorted(sizes, reverse=True)


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """The Program of a random placement; limits are raised until it is possible."""
    graph, machine, options = draw(placements())
    while True:
        try:
            return lower(graph, machine, options, ORACLE)
        except PlacementError as refused:
            machine, options = raised(str(refused), machine, options)


@pytest.mark.filterwarnings("ignore:Generating overly large repr")  # hypothesis prints the graphs of both
@given(programs(), programs(), st.sampled_from(["decode", "prefill"]), st.integers(0, 20))
@settings(max_examples=25, deadline=None, derandomize=True, phases=[Phase.generate])
def test_differences_of_random_placements_sum_to_the_difference_of_the_totals(
    one: Program, other: Program, phase: str, size: int
) -> None:
    size = min(size, *(made.max_context - 1 for made in (one, other))) + (phase == "prefill")
    a, b = run_of_program(one, phase, size), run_of_program(other, phase, size)
    pair = pair_of(a, b)
    assert_exact(pair)
    for run, made in ((a, one), (b, other)):
        assert run.stages is not None
        assert [s.stage for s in run.stages] == [*(s.name for s in made.stages), "feedback"]
    assert_blocks_hold_together(pair)


def assert_blocks_hold_together(pair: Pair) -> None:
    """The rows by block partition those by stage, and no block of either run is in two of them."""
    assert pair.by_stage is not None and pair.by_block is not None
    assert Counter(s for row in pair.by_block for s in row.stages) == Counter(row.name for row in pair.by_stage)
    for side in ("a_blocks", "b_blocks"):
        names = [name for row in pair.by_block for name in getattr(row, side)]
        assert len(names) == len(set(names))
        held = {name for row in pair.by_stage for name in getattr(row, side)}
        assert held == set(names)


@cache
def tiny(strategy: str = "pipelined", machine: str | Machine = "toy4x4", **options: Any) -> RunFigures:
    return run_of_program(program("tiny", machine, strategy, **options))


def test_a_run_beside_itself_differs_in_nothing() -> None:
    pair = pair_of(tiny(), tiny())
    assert pair.inputs == ()
    assert_exact(pair)
    assert all(row.difference_cycles == 0 for by in TABLES for row in pair.rows(by))


def test_the_other_way_round_all_differences_change_their_sign() -> None:
    there, back = pair_of(tiny(), tiny("shared")), pair_of(tiny("shared"), tiny())
    for by in TABLES:
        forth = {row.name: row.differences for row in there.rows(by)}
        assert {row.name: tuple(-c for c in row.differences) for row in back.rows(by)} == forth
    plain = [[tuple(re.sub(r" \(.* times\)", "", v) for v in (d.a, d.b)) for d in p.inputs] for p in (there, back)]
    assert plain[0] and plain[0] == [(b, a) for a, b in plain[1]]


def test_each_run_is_compared_with_the_first() -> None:
    found = compared(tiny(), tiny("shared"), tiny())
    assert [(pair.a.letter, pair.b.letter) for pair in found.pairs] == [("A", "B"), ("A", "C")]
    assert found.pairs[1].difference_cycles == 0


def test_faster_hops_are_found_under_network_and_named() -> None:
    slow = load_machine("wse3")
    made = program("tiny", slow, "pipelined", max_context=64)
    fast = dataclasses.replace(made, machine=slow.with_({"fabric.hop_cycles": 1}))
    pair = pair_of(run_of_program(made), run_of_program(fast))
    assert [(d.group, str(d)) for d in pair.inputs] == [
        ("machine", "machine wse3 -> wse3+"),
        ("machine", "fabric.hop_cycles 2 -> 1"),
    ]
    assert pair.by_kind[0].name == "network" and pair.by_kind[0].difference_cycles < 0
    assert_exact(pair)


def stage(name: str, block: str | None, cycles: int, layer: int | None = None) -> dict[str, Any]:
    kinds = {"compute": cycles, "launch": 0, "network": 0, "wait": 0, "reroute": 0}
    kind = name if layer is None else "attention" if "_attn" in name else "ffn" if "_ffn" in name else "layer"
    return {"stage": name, "kind": kind, "layer": layer, "block": block} | kinds


def with_stages(*stages: dict[str, Any]) -> RunFigures:
    """A run with these stages and one operator."""
    cycles = sum(s["compute"] for s in stages)
    operator = {"operator": "o", "compute": cycles, "launch": 0, "network": 0, "wait": 0, "reroute": 0}
    changed = {"cycles": cycles, "operators": [operator], "stages": list(stages), "blocks": []}
    return run_of(a_report().to_json() | changed, "made")


@cache
def a_report() -> Report:
    made = program("tiny", "toy4x4")
    return report(made, Timing(made).decode(16))


WHOLE = with_stages(
    stage("embed", "e", 1), stage("layer0", "x", 10, 0), stage("layer1", "y", 20, 1), stage("head", "e", 3)
)
HALVES = with_stages(
    stage("embed", "t", 2),
    stage("layer0_attn", "p", 4, 0),
    stage("layer0_ffn", "q", 5, 0),
    stage("layer1", "q", 30, 1),
    stage("head", "h", 7),
)


def test_halves_of_a_layer_are_matched_with_the_whole() -> None:
    matches, of_a, of_b = matched_stages(WHOLE, HALVES)
    assert [m.name for m in matches] == ["embed", "layer0", "layer1", "head"]
    assert of_b["layer0_attn"] == of_b["layer0_ffn"] == of_a["layer0"] == "layer0"
    assert matches[1].a_blocks == ("x",) and matches[1].b_blocks == ("p", "q")
    rows = {row.name: (row.a_cycles, row.b_cycles) for row in pair_of(WHOLE, HALVES).rows("stage")}
    assert rows == {"embed": (1, 2), "layer0": (10, 9), "layer1": (20, 30), "head": (3, 7)}


def test_halves_of_both_runs_keep_their_rows() -> None:
    assert [m.name for m in matched_stages(HALVES, HALVES)[0]][1:3] == ["layer0_attn", "layer0_ffn"]


def test_stages_that_share_a_block_in_either_run_are_one_row() -> None:
    blocks = matched_blocks(matched_stages(WHOLE, HALVES)[0])
    assert [(m.name, m.stages) for m in blocks] == [
        ("embed, head", ("embed", "head")),  # one block of the first run
        ("layer0, layer1", ("layer0", "layer1")),  # one block of the second run
    ]
    assert blocks[1].a_blocks == ("x", "y") and blocks[1].b_blocks == ("p", "q")
    rows = {row.name: (row.a_cycles, row.b_cycles) for row in pair_of(WHOLE, HALVES).rows("block")}
    assert rows == {"embed, head": (4, 9), "layer0, layer1": (30, 39)}


def test_layers_of_one_run_only_stand_beside_nothing() -> None:
    deep = with_stages(stage("embed", "e", 1), *(stage(f"layer{n}", f"l{n}", 5, n) for n in range(3)))
    rows = {row.name: (row.a_cycles, row.b_cycles) for row in pair_of(WHOLE, deep).rows("stage")}
    assert rows["layer2"] == (0, 5) and rows["head"] == (3, 0)


def test_the_inputs_that_differ_are_named() -> None:
    found = {d.what: (d.a, d.b) for d in input_differences(tiny(), tiny("shared", "wse3", kv="shift", max_context=64))}
    assert found["strategy"] == ("pipelined", "shared")
    assert found["machine"] == ("toy4x4", "wse3")
    assert found["clock_hz"] == ("1,000,000", "750,000,000")
    assert found["KV cache"] == ("interleaved in fp16", "shift in fp16")
    assert found["longest context"] == ("256", "64")
    assert found["blocks of layers"][0] == "2 of 2 x 3 with 1 layer"
    assert not {"model", "phase", "software", "timing in"} & set(found)


def test_a_form_and_a_collective_are_named_by_the_role_of_the_kernel() -> None:
    chosen, chain = tiny(machine="wse3", max_context=64), tiny(machine="wse3", max_context=64, collective="chain")
    found = {d.what: d.b for d in input_differences(chosen, chain) if d.group == "kernels"}
    assert found and {what.partition(" of ")[0] for what in found} <= {"collective", "form"}
    assert found["collective of qkv"] == "chain"


def test_blocks_of_the_same_shapes_in_other_places_are_said_to_lie_elsewhere() -> None:
    run = tiny()
    assert run.blocks is not None
    moved = tuple(dataclasses.replace(b, x=b.x + 1) if b.block == "layer1" else b for b in run.blocks)
    found = [str(d) for d in input_differences(run, dataclasses.replace(run, blocks=moved))]
    assert found == ["places of the blocks A -> 1 of 3 lie elsewhere"]


def test_two_models_without_a_common_operator_are_refused() -> None:
    def named(operator: str) -> RunFigures:
        own = dataclasses.replace(tiny().operators[0], operator=operator)
        return dataclasses.replace(tiny(), operators=(own, dataclasses.replace(own, operator="transfer")))

    with pytest.raises(
        InvalidInputError, match=r"run 0 and run 1 share no operator \(conv; gate\): a comparison needs"
    ):
        compared(named("conv"), named("gate"))


def test_a_report_of_an_older_wsesim_has_no_table_by_block() -> None:
    new_fields = {"stages", "blocks", "transfers", "kv", "collectives", "form_digests", "software_fields"}
    older = {name: value for name, value in a_report().to_json().items() if name not in new_fields}
    older = {name: value for name, value in older.items() if name != "machine_fields"}
    found = compared(run_of(older, "older"), tiny("shared"))
    assert found.pairs[0].by_block is None and found.pairs[0].rows("stage") == ()
    assert "no table by block: run 0 does not state the stages; simulate again" in str(found)
    assert found.to_json()["comparisons"][0]["by_stage"] is None
    assert sum(row.difference_cycles for row in found.pairs[0].by_operator) == found.pairs[0].difference_cycles


@pytest.mark.parametrize("phase", ["decode", "prefill"])
def test_the_texts(phase: str, golden: Callable[[str, str], None]) -> None:
    pipelined, shared = (
        run_of_program(program("tiny", "toy4x4", strategy), phase, 9) for strategy in ("pipelined", "shared")
    )
    found = compared(pipelined, shared)
    golden(f"compare/{phase}.txt", str(found) + "\n")
    golden(f"compare/{phase}_all.txt", found.text(every_row=True) + "\n")
    assert all(line == line.rstrip() and len(line) <= 140 for line in str(found).splitlines())


def test_what_is_not_shown_is_one_row_and_the_sums_stay() -> None:
    config = dataclasses.replace(UNTIED, name="deep", layers=13)
    made = lower(recognised_graph(config), load_machine("wse3"), Options(max_context=64), ORACLE)
    other = dataclasses.replace(made, machine=made.machine.with_({"fabric.hop_cycles": 5}))
    lines = compared(run_of_program(made), run_of_program(other)).text().splitlines()
    table = lines[next(n for n, line in enumerate(lines) if line.startswith("critical path by block")) :]
    assert len(table) < 20
    cells = [[cell for cell in line.split("  ") if cell.strip()] for line in table[2:-1]]
    numbers = [[int(c.replace(",", "").replace("+", "")) for c in row if _is_number(c)] for row in cells]
    *rows, total = [row for row in numbers if row]
    assert any(row[0].strip().endswith("others") for row in cells)
    assert [sum(column) for column in zip(*rows, strict=True)] == total


def _is_number(cell: str) -> bool:
    return cell.strip().replace(",", "").lstrip("+-").isdecimal()


def test_the_json_object_has_the_same_sums() -> None:
    found = json.loads(json.dumps(compared(tiny(), tiny("shared"), tiny(machine="wse3", max_context=64)).to_json()))
    assert found["schema_version"] == 1
    assert [side["side"] for side in found["sides"]] == ["A", "B", "C"]
    for own in found["comparisons"]:
        for by in TABLES:
            rows = own[f"by_{by}"]
            assert sum(row["difference_cycles"] for row in rows) == own["difference_cycles"]
            assert own["difference_cycles"] == own["b_cycles"] - own["a_cycles"]
            if by != "kind":
                kinds = {kind: sum(row["difference"][kind] for row in rows) for kind in KINDS}
                assert kinds == {row["kind"]: row["difference_cycles"] for row in own["by_kind"]}


def test_every_field_of_the_json_object_is_on_the_page() -> None:
    page = (SEARCHED.parents[2] / "docs" / "compare.md").read_text(encoding="utf-8")

    def names(value: Any) -> set[str]:
        if isinstance(value, list):
            return {name for item in value for name in names(item)}
        return set(value) | names(list(value.values())) if isinstance(value, dict) else set()

    assert {name for name in names(compared(tiny(), tiny("shared")).to_json()) if f"`{name}`" not in page} == set()


def test_a_frame_has_a_line_for_each_pair_and_row() -> None:
    pandas = pytest.importorskip("pandas")
    found = compared(tiny(), tiny("shared"), tiny())
    for by in TABLES:
        frame = found.frame(by)
        assert isinstance(frame, pandas.DataFrame)
        assert len(frame) == sum(len(pair.rows(by)) for pair in found.pairs)
        assert frame.groupby("side")["difference_cycles"].sum().to_dict() == {
            pair.b.letter: pair.difference_cycles for pair in found.pairs
        }
        kinds = [f"{kind}_difference_cycles" for kind in KINDS]
        assert (frame[kinds].sum(axis=1) == frame["difference_cycles"]).all()
    with pytest.raises(InvalidInputError, match="by='layer': give one of kind, operator, stage, block"):
        found.frame("layer")


def test_a_frame_without_pandas_names_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name == "pandas":
            raise ImportError(name)
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(InvalidInputError, match=r"pip install 'wsesim\[report\]'"):
        compared(tiny(), tiny("shared")).frame()


def test_the_default_the_hybrid_and_the_searched_placement_of_a_real_model() -> None:
    """The worked example of docs/compare.md: the sums are exact, and the reasons are those that it gives."""
    model, machine = "llama3.1-8b", load_machine("wse3")
    searched = parse_placement(SEARCHED.read_text(encoding="utf-8"), "searched", Options(max_context=8192))
    programs = [
        program(model, machine),
        program(model, machine, "hybrid", layers_per_block=4),
        lower(recognised_graph_of(model), machine, searched, ORACLE),
    ]
    labels = (model, "strategy=hybrid,layers_per_block=4", "placement=examples/placements/llama3.1-8b-searched.toml")
    runs = [run_of_program(made, size=512) for made in programs]
    found = compare_runs([Side(*side) for side in zip("ABC", labels, runs, strict=True)])
    for pair in found.pairs:
        assert_exact(pair)
        assert_blocks_hold_together(pair)
        assert pair.difference_cycles < 0
        kinds = {row.name: row.difference_cycles for row in pair.by_kind}
        assert kinds["compute"] < 0 < kinds["network"]
        assert ("PEs of a layer", "24,320", "91,821 (3.78 times)") in {(d.what, d.a, d.b) for d in pair.inputs}
        assert [row.name for row in pair.rows("operator")[:1]] == ["gate_up"]
        assert {len(row.stages) for row in pair.rows("block") if row.name.startswith("layer")} == {4}

    page = (SEARCHED.parents[2] / "docs" / "compare.md").read_text(encoding="utf-8")
    shown = "".join(re.findall("^```text\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)).splitlines()
    lines = found.text().splitlines()
    assert len(shown) > 50 and [line for line in shown if line not in lines] == [], found.text()


def recognised_graph_of(model: str) -> Graph:
    from wsesim_models.config import CONFIGS

    return recognised_graph(CONFIGS[model])


def test_reports_and_programs_are_compared_in_python() -> None:
    pipelined = wsesim.compile("tiny", machine="toy4x4", strategy="pipelined")
    shared = wsesim.compile("tiny", machine="toy4x4", strategy="shared")
    reports = wsesim.compare(wsesim.simulate(pipelined, context=9), wsesim.simulate(shared, context=9))
    programs = wsesim.compare(pipelined, shared, context=9)
    options = wsesim.compare("tiny", {"strategy": "shared"}, machine="toy4x4", strategy="pipelined", context=9)
    assert reports.pairs[0].to_json() == programs.pairs[0].to_json() == options.pairs[0].to_json()
    assert reports.sides[0].program is None and programs.sides[0].program is not None
    assert repr(reports).startswith("<Comparison A tiny, pipelined: ") and "\n" not in repr(reports)
    assert "<table>" in options._repr_html_()
