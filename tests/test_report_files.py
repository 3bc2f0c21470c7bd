"""The values behind a report's page, its figures, and what `wsesim report` refuses."""

from __future__ import annotations

import base64
import json
import os
import re
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import wsesim
from tests.command_line import TOY, run
from tests.programs import BIASED, UNTIED, program
from wsesim.engine.observe.traffic import pieces_of, wafer_busy_cycles
from wsesim.engine.steps.timing import Step, Timing
from wsesim.program import Program
from wsesim.program.routes import routed
from wsesim.report.kernel_figures import kernel_figures
from wsesim.report.page.contents import page_contents
from wsesim.report.page.layers import wafer_layers
from wsesim.report.page.packed import packed
from wsesim.report.page.page import report_page
from wsesim.report.report import report
from wsesim.report.roofline import fma_rate, operator_points, spread_rates
from wsesim.toolchain.simulating import Question

Capsys = pytest.CaptureFixture[str]
GOLDEN = Path(__file__).parent / "golden"
TINY = ("report", "tiny", *TOY)
MADE = [
    ("tiny", "toy4x4", "pipelined", {}),
    ("tiny", "wse2", "shared", {"sequences": 2}),
    (UNTIED, "wse3", "pipelined", {"kv": "shift"}),
    (BIASED, "wse3", "hybrid", {"layers_per_block": 2, "kv_dtype": "int8", "batch": 2, "sequences": 2}),
]


@pytest.fixture(scope="module", params=MADE, ids=lambda p: f"{getattr(p[0], 'name', p[0])}-{p[1]}-{p[2]}")
def made(request: pytest.FixtureRequest) -> Program:
    model, machine, strategy, options = request.param
    return program(model, machine, strategy, **options)


@pytest.fixture(scope="module", params=["decode", "prefill"])
def step(made: Program, request: pytest.FixtureRequest) -> Step:
    timing = Timing(made)
    return timing.decode(40) if request.param == "decode" else timing.prefill(5)


def unpacked(text: dict[str, Any]) -> np.ndarray:
    """What the browser makes of a packed array, in Python's words."""
    dtype = {1: np.uint8, 2: np.uint16, 4: np.uint32}[text["bytes"]]
    values = np.frombuffer(zlib.decompress(base64.b64decode(text["data"])), dtype).reshape(text["shape"])
    axis = {"none": None, "rows": 0, "columns": 1}[text["differences"]]
    return values if axis is None else np.cumsum(values, axis=axis, dtype=dtype)


@given(arrays(np.int64, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 2**32 - 1)))
def test_what_was_packed_is_unpacked(values: np.ndarray) -> None:
    assert (unpacked(packed(values)) == values).all()
    assert (unpacked(packed(values[0])) == values[0]).all()


def test_rows_that_are_alike_take_almost_nothing() -> None:
    like = np.broadcast_to(np.arange(500), (400, 500))
    assert len(packed(like)["data"]) < 4000 < like.size


def test_the_rows_of_kernels_sum_to_the_step_and_to_the_memory_map(made: Program, step: Step) -> None:
    said = report(made, step)
    rows = kernel_figures(made, step, said.path)
    for kind, cycles in zip(said.by_kind().values(), zip(*(row.cycles for row in rows), strict=True), strict=True):
        assert kind == sum(cycles)
    for memory in made.memory:
        own = [row for row in rows if row.block == memory.block]
        assert sum(row.weight_bytes for row in own) == memory.weight_bytes
        assert sum(row.kv_bytes for row in own) == memory.kv_bytes
    assert sum(row.multiply_adds for row in rows) == said.multiply_adds.needed
    assert [row.name for row in rows if row.block] == [kernel.name for kernel in made.kernels]


def test_operators_share_the_busy_cycles_of_every_pe(made: Program, step: Step) -> None:
    layers = wafer_layers(made, step)
    machine = made.machine
    busy = wafer_busy_cycles(pieces_of(step.runs), machine.columns, machine.rows)
    assert np.array_equal(sum(layers.busy_cycles.values()), busy)
    roles = {kernel.role for kernel in made.kernels}
    assert set(layers.busy_cycles) <= roles | {"transfer", "feedback"}
    for name, cycles in layers.busy_cycles.items():
        blocks = {kernel.block for kernel in made.kernels if kernel.role == name}
        here = sum(
            int(cycles[b.y : b.y + b.rows, b.x : b.x + b.columns].sum()) for b in made.blocks if b.name in blocks
        )
        assert name not in roles or here == cycles.sum()


def test_every_router_has_the_streams_that_pass_it(made: Program) -> None:
    layers = wafer_layers(made, Timing(made).decode(3))
    held: dict[tuple[int, int], set[int]] = {}
    for _, path in routed(made):
        for hop in range(path.total_hops + 1):
            held.setdefault(path.position(hop), set()).add(path.colour)
    for block in made.blocks:
        own = {colour for use in made.colours if use.block == block.name for colour in use.colours}
        for x, y in ((block.x, block.y), (block.x + block.columns - 1, block.y + block.rows - 1)):
            held.setdefault((x, y), set())
            held[x, y] |= own
    for x, y in list(held)[:: max(1, len(held) // 200)]:
        here = {b.name for b in made.blocks if b.rect.has(x, y)}
        own = {c for use in made.colours if use.block in here for c in use.colours}
        found = {layers.streams[n].colour for n in layers.route_sets[layers.route_set[y, x]]}
        assert found == held[x, y] | own


def test_the_contents_are_json_and_the_page_asks_for_nothing(made: Program, step: Step) -> None:
    said = report(made, step)
    contents = page_contents(made, step, said, "wsesim report </script>")
    page = report_page(contents)
    held = re.search(r'<script type="application/json" id="contents">(.*?)</script>', page, re.DOTALL)
    assert held is not None and json.loads(held[1]) == json.loads(json.dumps(contents))
    assert contents["report"] == said.to_json()
    assert re.findall(r"(?:src|href)=\"(?!#|data:)[^\"]*", page) == []
    assert "{{" not in page.replace(held[1], "") and page.count("</script>") == 2
    cycles = unpacked(contents["path"]["steps"]["cycles"])
    assert contents["path"]["start_cycle"] + cycles.sum() == said.cycles
    assert report_page(page_contents(made, step, said, "wsesim report </script>")) == page


def test_no_operator_is_above_the_roof(made: Program) -> None:
    step = Timing(made).decode(40)
    said = report(made, step)
    points = operator_points(kernel_figures(made, step, said.path))
    peak = said.machine_bounds.pes * fma_rate(made)
    assert points and all(0 < speed <= peak for _, _, speed in points)
    rates = spread_rates(made, np.logspace(1, 12, 50))
    assert (np.diff(rates) > -1e-9 * peak).all() and (rates <= peak * (1 + 1e-9)).all()


def test_the_command_writes_a_page_and_figures(capsys: Capsys, tmp_path: Path) -> None:
    page, folder = tmp_path / "report.html", tmp_path / "figures"
    done = run(capsys, *TINY, "--context", "30", "-o", str(page), "--png", str(folder))
    assert (done.status, done.err) == (0, "")
    assert f"{page}: " in done.out and "latency.png" in done.out
    names = {"latency", "links", "operators", "pes", "placement", "roofline", "throughput"}
    assert {path.stem for path in folder.iterdir()} == names
    assert f"wsesim report tiny --machine toy4x4 --context 30 -o {page}" in page.read_text(encoding="utf-8")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["figures", "report.html"]
    from matplotlib.image import imread

    for picture in folder.iterdir():
        assert imread(picture).shape[1] == 1200


def test_the_call_writes_the_same_values(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    made = program("tiny", "toy4x4")
    said = wsesim.write_report(made, page, context=30)
    assert said.cycles == wsesim.simulate(made, context=30).cycles
    held = re.search(r'id="contents">(.*?)</script>', page.read_text(encoding="utf-8"), re.DOTALL)
    assert held is not None
    contents = json.loads(held[1])
    assert contents["report"] == said.to_json()
    assert contents["command"].startswith("wsesim.write_report(<Program tiny on toy4x4")


REFUSED = [
    ((), "-o FILE is missing: the report is a file, as in -o report.html"),
    (("-o", ""), "-o is empty; give a path"),
    (("-o", "folder"), "folder: the report is a file in a folder that exists"),
    (("-o", "absent/report.html"), "absent/report.html: the report is a file in a folder that exists"),
    (("-o", "r.html", "--png", ""), "--png is empty; give a path"),
    (("-o", "r.html", "--png", "file"), "file: the figures need a folder, and this is a file"),
    (
        ("-o", "r.html", "--png", "absent/figures"),
        "absent/figures: the folder for the figures needs a folder that exists",
    ),
    (("-o", "r.html", "--context", "999"), "--context 999: it is at most 255 with --max-context 256"),
    (("-o", "r.html", "--phase", "both"), "unknown phase 'both'; known: decode, prefill"),
]


@pytest.mark.parametrize(("arguments", "said"), REFUSED, ids=[" ".join(a) for a, _ in REFUSED])
def test_a_wrong_command_is_one_line_and_writes_nothing(
    arguments: tuple[str, ...], said: str, capsys: Capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("file").write_text("mine", encoding="utf-8")
    done = run(capsys, *TINY, *arguments)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith(f"error: {said}") and done.err.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


def test_an_unwritable_path_is_refused_before_anything_is_simulated(
    capsys: Capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests may run as root, who may write everywhere: the system's answer is put in its place."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setattr(Question, "step", lambda *_: pytest.fail("it was simulated"))
    done = run(capsys, *TINY, "-o", str(tmp_path / "r.html"))
    assert (done.status, done.err) == (2, f"error: {tmp_path / 'r.html'}: cannot be written: permission denied\n")


def test_a_page_is_written_whole_or_not_at_all(capsys: Capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full when the page is moved to its place."""
    page = tmp_path / "r.html"
    page.write_text("before", encoding="utf-8")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    done = run(capsys, *TINY, "-o", str(page))
    assert (done.status, done.err) == (2, f"error: {page}: No space left on device\n")
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"] and page.read_text(encoding="utf-8") == "before"


PICTURES = ("operators", "latency", "roofline", "throughput", "links", "placement")


@pytest.fixture(scope="module")
def drawn() -> dict[str, bytes]:
    """The figures of a model of two layers, on a wafer and small."""
    from wsesim.report import pictures
    from wsesim.toolchain.picturing import runs_for_pictures

    made = program(UNTIED, "wse3", max_context=512)
    question = Question(made, "decode", 1, 60, 1, 1)
    ran = question.step(Timing(made))
    runs = runs_for_pictures(question, ran, report(made, ran))
    return {name.removesuffix(".png"): data for name, data in pictures.pictures(runs, dpi=50)}


@pytest.mark.parametrize("name", PICTURES)
def test_a_figure_looks_as_it_did(name: str, drawn: dict[str, bytes], request: pytest.FixtureRequest) -> None:
    """Up to 2 % of its pixels may differ; --update-golden draws it anew. Look at it before you commit it."""
    from matplotlib.image import imread

    path = GOLDEN / f"{name}.png"
    if request.config.getoption("--update-golden"):
        path.write_bytes(drawn[name])
    found, held = imread(BytesIO(drawn[name])), imread(path)
    assert found.shape == held.shape
    assert (np.abs(found - held).max(axis=2) > 0.15).mean() < 0.02
