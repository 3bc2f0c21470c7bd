"""--placement and --defects on the command line, in Python, in the docs and in the examples."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import wsesim
from tests.command_line import TOY, Outcome, run
from tests.programs import ORACLE
from tests.test_placement_file import LAYER0_ATTN, LAYER0_FFN, LAYER1, TABLE, Recognised
from wsesim.errors import InvalidInputError
from wsesim.machine import load_machine
from wsesim_compiler.lower import lower
from wsesim_compiler.options import Options
from wsesim_compiler.placement.placement_file import parse_placement

ROOT = Path(__file__).parents[1]
Capsys = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No command of this file sees the user's cache, but for numba's, or writes where the tests lie."""
    monkeypatch.setenv("WSESIM_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    Path("halves.toml").write_text("\n".join(("[blocks]", TABLE, LAYER0_ATTN, LAYER0_FFN, LAYER1)))
    Path("dead.toml").write_text("dead_rows = [3]\n")


def compiled(capsys: Capsys, *words: str) -> Outcome:
    return run(capsys, "compile", "tiny", *TOY, *words)


@pytest.mark.parametrize("stage", ["place", "choose"])
def test_what_is_printed_leads_to_the_same_program(stage: str, capsys: Capsys) -> None:
    for words in ((), ("--strategy", "shared"), ("--defects", "dead.toml", "--max-context", "64")):
        Path("printed.toml").write_text(compiled(capsys, *words, "--print", stage).out)
        kept = [word for word in words if word not in ("--strategy", "shared")]
        again = compiled(capsys, *kept, "--placement", "printed.toml", "--print", "emit")
        assert again.status == 0
        assert again.out == compiled(capsys, *words, "--print", "emit").out


def test_the_words_are_the_same_everywhere(capsys: Capsys) -> None:
    words = (*TOY, "--placement", "halves.toml", "--max-context", "64")
    simulated = json.loads(run(capsys, "simulate", "tiny", *words, "--json").out)
    made = wsesim.compile("tiny", machine="toy4x4", placement="halves.toml", max_context=64)
    assert simulated["strategy"] == made.strategy == "explicit"
    assert simulated["cycles"] == wsesim.simulate(made).cycles
    asked = ("--max-tokens", "6", "--json")
    texts = [
        json.loads(run(capsys, "complete", "Once", "--model", "tiny", *TOY, *more, *asked).out)["choices"]
        for more in ((), ("--placement", "halves.toml"))
    ]
    assert texts[0] == texts[1]
    graph = compiled(capsys, "--stop-after", "recognize").out
    Path("tiny.graph").write_text(graph)
    from_text = run(capsys, "compile", "--from", "tiny.graph", *words, "--print", "emit").out
    assert from_text == compiled(capsys, *words[2:], "--print", "emit").out


def test_a_file_that_changed_is_compiled_anew(capsys: Capsys) -> None:
    """Programs are kept on disk by what the files say, not by their names."""
    first = compiled(capsys, "--placement", "halves.toml").out
    Path("halves.toml").write_text(Path("halves.toml").read_text().replace("rows = 2,", "rows = 1,"))
    second = compiled(capsys, "--placement", "halves.toml").out
    assert first != second
    assert "2 x 1" in second
    whole = compiled(capsys, "--max-context", "64").out
    without = compiled(capsys, "--max-context", "64", "--defects", "dead.toml").out
    assert "16 PEs" in whole
    assert "16 PEs" not in without
    Path("dead.toml").write_text("")
    assert compiled(capsys, "--max-context", "64", "--defects", "dead.toml").out == whole


REFUSED = {
    "no file": (("--placement", "absent.toml"), "absent.toml: cannot be read as a placement: "),
    "no TOML": (("--placement", "bad.toml"), "placement bad.toml: is not TOML: "),
    "a strategy too": (
        ("--placement", "halves.toml", "--strategy", "shared"),
        "--strategy and --placement exclude each other: halves.toml states it",
    ),
    "a block too": (("--placement", "halves.toml", "--block", "2x2"), "--block and --placement exclude each other"),
    "a collective too": (
        ("--placement", "halves.toml", "--collective", "tree"),
        "--collective and --placement exclude each other",
    ),
    "dead": (
        ("--placement", "halves.toml", "--defects", "dead.toml"),
        "block ffn (2 x 1 at (0, 3)) is on the dead PE (0, 3)",
    ),
    "no defects": (("--defects", "absent.toml"), "absent.toml: cannot be read as defects of toy4x4: "),
    "over its SRAM": (("--placement", "halves.toml", "--sequences", "99"), "bytes on a PE, 32,768 are there"),
    "unknown strategy": (("--strategy", "explicit"), "unknown strategy 'explicit'; known: "),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_a_refusal_is_one_line_and_status_2(mistake: str, capsys: Capsys) -> None:
    words, said = REFUSED[mistake]
    Path("bad.toml").write_text("[blocks")
    done = compiled(capsys, *words)
    assert (done.status, done.out) == (2, "")
    assert said in done.err.splitlines()[-1]


def test_a_saved_program_has_its_placement() -> None:
    made = wsesim.compile("tiny", machine="toy4x4", max_context=64)
    with pytest.raises(InvalidInputError, match="it has its machine and placement"):
        wsesim.compile(made, placement="halves.toml")


def test_the_files_in_the_docs_are_read(capsys: Capsys) -> None:
    page = (ROOT / "docs" / "placements.md").read_text(encoding="utf-8")
    placement, defects, gaps = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    Path("docs.toml").write_text(placement)
    assert compiled(capsys, "--placement", "docs.toml", "--max-context", "64").status == 0
    Path("docs.toml").write_text(defects)
    assert run(capsys, "compile", "tiny", "--max-context", "64", "--defects", "docs.toml").status == 0
    block = parse_placement(gaps, "docs.toml", Options()).blocks[0].block
    assert (block.rect.columns, block.rect.rows) == (32, 16)
    assert block.leaves_out(5, 7) and block.leaves_out(9, 2)


def test_edinburgh_s_blocks_hold_qwen3_4b(recognised: Recognised) -> None:
    path = ROOT / "examples" / "placements" / "qwen3-4b-2x4.toml"
    options = parse_placement(path.read_text(encoding="utf-8"), path.name, Options())
    made = lower(recognised("qwen3-4b"), load_machine("wse3"), options, ORACLE)
    layers = [b for b in made.blocks if b.name != "table"]
    assert [(b.columns, b.rows) for b in layers] == [(256, 256)] * 8
    assert (len({b.x for b in layers}), len({b.y for b in layers})) == (2, 4)
    attentions = [sum(k.name.endswith(".score") for k in made.kernels_of(b.name)) for b in layers]
    assert attentions == [5, 4] * 4
    assert len(made.transfers) == 9
