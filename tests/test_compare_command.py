"""`wsesim compare`: how runs are named, what is refused in one line, and what is kept on disk."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import wsesim
from tests.command_line import TOY, run
from tests.test_placement_file import LAYER0_ATTN, LAYER0_FFN, LAYER1, TABLE
from wsesim.cli.changes import parse_changes
from wsesim.errors import InvalidInputError, UnknownNameError, WsesimError
from wsesim.report.schema import SCHEMA_VERSION
from wsesim.toolchain import simulating
from wsesim.toolchain.comparing import changed_lowering
from wsesim.toolchain.options import Lowering

Capsys = pytest.CaptureFixture[str]
HERE = ("compare", "tiny", *TOY, "--strategy", "pipelined", "--context", "9")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache, and a folder for files."""
    monkeypatch.setenv("WSESIM_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.chdir(tmp_path)
    Path("halves.toml").write_text("\n".join(("[blocks]", TABLE, LAYER0_ATTN, LAYER0_FFN, LAYER1)))


def saved_report(capsys: Capsys, name: str, *words: str) -> dict[str, Any]:
    """A report of `wsesim simulate --json`, also in a file."""
    text = run(capsys, "simulate", "tiny", *TOY, "--context", "9", "--json", *words).out
    Path(name).write_text(text)
    value: dict[str, Any] = json.loads(text)
    return value


def comparisons(capsys: Capsys, *words: str) -> list[dict[str, Any]]:
    done = run(capsys, *words, "--json")
    assert done.status == 0
    found: list[dict[str, Any]] = json.loads(done.out)["comparisons"]
    return found


def test_options_programs_and_reports_name_the_same_runs(capsys: Capsys) -> None:
    by_option = comparisons(capsys, *HERE, "--with", "strategy=shared")
    for strategy in ("pipelined", "shared"):
        run(capsys, "compile", "tiny", *TOY, "--strategy", strategy, "-o", f"{strategy}.program.json")
        saved_report(capsys, f"{strategy}.json", "--strategy", strategy)
    programs = comparisons(capsys, "compare", "pipelined.program.json", "shared.program.json", "--context", "9")
    reports = comparisons(capsys, "compare", "pipelined.json", "shared.json")
    assert by_option == programs == reports
    assert comparisons(capsys, *HERE, "shared.json") == by_option
    assert comparisons(capsys, *HERE, "shared.program.json") == by_option
    assert comparisons(capsys, "compare", "shared.json", "pipelined.json") != by_option


def test_each_with_is_a_run_of_the_first_model(capsys: Capsys) -> None:
    words = ("--with", "placement=halves.toml", "--with", "set.fabric.hop_cycles=3,context=20", "--with", "model=tiny")
    done = run(capsys, *HERE, *words)
    assert done.status == 0
    for line in ("  B  placement=halves.toml", "  C  set.fabric.hop_cycles=3,context=20", "  D  model=tiny"):
        assert f"\n{line} " in done.out
    assert re.search(r"\n  fabric.hop_cycles +1 -> 3\n", done.out) and re.search(
        r"\n  cached tokens +9 -> 20\n", done.out
    )
    assert "\nD against A: as many cycles\nwhat differs (A -> D)\n  nothing of the inputs\n" in done.out


def test_the_cycles_are_those_of_simulate(capsys: Capsys) -> None:
    (found,) = comparisons(capsys, *HERE, "--with", "placement=halves.toml")
    assert found["a_cycles"] == saved_report(capsys, "a.json", "--strategy", "pipelined")["cycles"]
    assert found["b_cycles"] == saved_report(capsys, "b.json", "--placement", "halves.toml")["cycles"]


def test_prompts_are_compared_too(capsys: Capsys) -> None:
    words = ("compare", "tiny", *TOY, "--phase", "prefill", "--tokens", "5", "--with", "strategy=shared")
    done = run(capsys, *words, "--strategy", "pipelined")
    assert done.out.startswith("tiny on toy4x4, prefill of 5 tokens, batch 1")


def test_all_prints_every_row_and_the_stages(capsys: Capsys) -> None:
    few, every = (run(capsys, *HERE, "--with", "strategy=shared", *more).out for more in ((), ("--all",)))
    assert "others" in few and "critical path by stage" not in few
    assert "others" not in every.split("critical path by operator")[1] and "critical path by stage" in every


def test_a_second_comparison_simulates_nothing(capsys: Capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    first = comparisons(capsys, *HERE, "--with", "strategy=shared")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("simulated again")

    monkeypatch.setattr(simulating, "simulate_program", refuse)
    assert comparisons(capsys, *HERE, "--with", "strategy=shared") == first
    with pytest.raises(AssertionError, match="simulated again"):
        run(capsys, *HERE, "--with", "strategy=shared,context=10")


def test_a_damaged_kept_report_is_made_again(capsys: Capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSESIM_CACHE_DIR", str(tmp_path / "own"))
    first = comparisons(capsys, *HERE, "--with", "strategy=shared")
    files = [*(tmp_path / "own" / "reports").iterdir()]
    assert len(files) == 2
    for file in files:
        file.write_text("{}")
    done = run(capsys, *HERE, "--with", "strategy=shared", "--json")
    assert json.loads(done.out)["comparisons"] == first


WITH = [
    ("strategy", "'strategy' states no option; write OPTION=VALUE, as in strategy=hybrid,layers_per_block=4"),
    ("", "'' states no option; write OPTION=VALUE"),
    ("=shared", "'=shared' states no option"),
    ("stratgy=shared", "unknown option 'stratgy'; known: strategy, "),
    ("strategy=shared,strategy=hybrid", "strategy is stated twice in 'strategy=shared,strategy=hybrid'"),
    ("kv-dtype=int8,kv_dtype=fp16", "kv_dtype is stated twice"),
    ("set.loop_cycles=1,set.loop_cycles=2", "set.loop_cycles is stated twice"),
    ("set.fabric.hop=1", "unknown field 'fabric.hop'; nearest: fabric.hop_cycles"),
    ("set.fabric.hop_cycles=far", "field 'fabric.hop_cycles' is 'far', not an integer"),
    ("block=1x", "block: '1x' is not WxH"),
    ("layers_per_block=two", "layers_per_block: 'two' is not an integer"),
    ("placement=", "--placement is empty"),
    ("in_flight=2", "unknown option 'in_flight'"),
]


@pytest.mark.parametrize(("text", "said"), WITH, ids=[text for text, _ in WITH])
def test_a_wrong_with_is_one_line(text: str, said: str, capsys: Capsys) -> None:
    done = run(capsys, *HERE, "--with", text)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("error: argument --with: ") and said in done.err
    assert done.err.count("\n") == 1 and done.err.endswith("; see wsesim compare --help\n")


REFUSED = [
    (HERE, "tiny alone is nothing to compare; give another MODEL, or an option in which a second side differs"),
    ((*HERE, "lama3.1-8b"), "unknown model 'lama3.1-8b'; known: llama3.1-8b"),
    ((*HERE, "none.json"), "none.json: cannot be read as a saved report: No such file or directory"),
    ((*HERE, "folder"), "folder: cannot be read as a model: it is a folder"),
    ((*HERE, "folder.json"), "folder.json: cannot be read as a saved report: it is a folder"),
    ((*HERE, "halves.toml"), "halves.toml is no MODEL; a placement is given as --with placement=halves.toml"),
    ((*HERE, "text.json"), "text.json: is not JSON: Expecting value"),
    ((*HERE, "list.json"), "list.json is not a saved report; `wsesim simulate --json` prints one"),
    (
        (*HERE, "next.json"),
        f"next.json: schema_version {SCHEMA_VERSION + 1}; this wsesim reads {SCHEMA_VERSION}: simul",
    ),
    ((*HERE, "lost.json"), "lost.json: its operators have "),
    ((*HERE, "twice.json"), "twice.json: two of its operators have one name"),
    ((*HERE, "minus.json"), "minus.json: operators.0.compute: Input should be greater than or equal to 0"),
    ((*HERE, "thin.json"), "thin.json: machine: Field required"),
    ((*HERE, "bell.json"), r"bell.json: 'ti\x07ny' has characters that cannot be printed"),
    ((*HERE, "conv.json"), "tiny machine=toy4x4,strategy=pipelined and conv.json share no operator ("),
    (
        ("compare", "good.json", "--with", "strategy=shared"),
        "good.json cannot be compiled with other options; the fi",
    ),
    (("compare", "good.json", "good.json", "--context", "3"), "saved reports have their step, machine and placement"),
    (("compare", "good.json", "good.json", *TOY), "saved reports have their step, machine and placement: give no opt"),
    (
        ("compare", "saved.program", "saved.program", *TOY),
        "saved.program is a saved Program: it has its machine",
    ),
    ((*HERE, "--with", "placement=none.toml"), "none.toml: cannot be read as a placement: No such file or directory"),
    ((*HERE, "--with", "tokens=3"), "--tokens is not an option of decode; give --context"),
    ((*HERE, "--with", "context=300"), "--context 300: it is at most 255 with --max-context 256"),
    ((*HERE, "--with", "block=9x9"), "9 x 9"),
]


@pytest.mark.parametrize(("words", "said"), REFUSED, ids=[" ".join(words[1:]) for words, _ in REFUSED])
def test_what_is_refused(words: tuple[str, ...], said: str, capsys: Capsys) -> None:
    good = saved_report(capsys, "good.json", "--strategy", "pipelined")
    run(capsys, "compile", "tiny", *TOY, "-o", "saved.program")
    first = good["operators"][0]
    conv = [first | {"operator": "conv"}, *({**o, "operator": f"new {o['operator']}"} for o in good["operators"][1:])]
    files: dict[str, Any] = {
        "list.json": [1, 2],
        "next.json": good | {"schema_version": SCHEMA_VERSION + 1},
        "lost.json": good | {"cycles": good["cycles"] + 1},
        "twice.json": good | {"operators": [{**o, "operator": "o"} for o in good["operators"]]},
        "minus.json": good | {"operators": [first | {"compute": -1}]},
        "thin.json": {name: value for name, value in good.items() if name != "machine"},
        "bell.json": good | {"model": "ti\x07ny"},
        "conv.json": good | {"operators": conv},
    }
    for name, value in files.items():
        Path(name).write_text(json.dumps(value))
    Path("text.json").write_text("Dear diary,\n")
    Path("folder").mkdir()
    Path("folder.json").mkdir()
    before = sorted(Path().rglob("*"))
    done = run(capsys, *words)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("error: ") and said in done.err and done.err.count("\n") == 1
    assert sorted(Path().rglob("*")) == before


def test_entries_of_form_and_lists_keep_their_commas() -> None:
    found = parse_changes("form=swiglu=scalar_exp,layer0.o=one_product,kv=shift,set.dead=[[1, 2], [3, 0]],block=3x4")
    assert found == {
        "form": "swiglu=scalar_exp,layer0.o=one_product",
        "kv": "shift",
        "set.dead": [[1, 2], [3, 0]],
        "block": (3, 4),
    }


def test_options_may_be_spelt_as_on_the_command_line() -> None:
    assert parse_changes("--layers-per-block=4, max-context=9") == {"layers_per_block": 4, "max_context": 9}


def test_a_side_that_places_has_nothing_of_the_bases_placement() -> None:
    hybrid = Lowering(strategy="hybrid", layers_per_block=4, collective="chain", kv="shift")
    assert changed_lowering(hybrid, {"placement": "x.toml"}) == Lowering(placement="x.toml", kv="shift")
    assert changed_lowering(hybrid, {"strategy": "shared"}) == Lowering(
        strategy="shared", collective="chain", kv="shift"
    )
    assert changed_lowering(hybrid, {"layers_per_block": 2}).strategy == "hybrid"
    assert changed_lowering(Lowering(placement="x.toml"), {"strategy": "shared"}).placement is None


@pytest.mark.parametrize(
    ("others", "error", "said"),
    [
        ((), InvalidInputError, "tiny alone is nothing to compare"),
        (({"stratgy": "shared"},), UnknownNameError, "unknown option 'stratgy'; known: strategy, "),
        (({"block": 3},), InvalidInputError, "`block` is 3, not of type"),
        (({"model": 3},), InvalidInputError, "`model` is 3, not of type str"),
        (({"set.hop": 3},), WsesimError, "unknown field 'hop'"),
        ((3,), InvalidInputError, "3 is no side: give a model, a Program, a Report or a dict of options"),
    ],
)
def test_a_wrong_side_in_python_is_one_line(others: tuple[Any, ...], error: type[WsesimError], said: str) -> None:
    with pytest.raises(error) as raised:
        wsesim.compare("tiny", *others, machine="toy4x4")
    assert said in str(raised.value) and "\n" not in str(raised.value)
