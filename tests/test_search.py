"""`wsesim search` and `wsesim.search`: what is found is what compiles, and bad input is one line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import wsesim
from tests.command_line import run
from wsesim.errors import DoesNotFitError, InvalidInputError
from wsesim.toolchain import workers
from wsesim.toolchain.options import Lowering, SearchOptions
from wsesim.toolchain.search_command import command_of
from wsesim_compiler.search.goals import Goal, Metrics, parse_limits, parse_objective

SMALL: dict[str, Any] = {"machine": "toy4x4", "context": 16, "prompt_tokens": 4, "jobs": 1}
Capsys = pytest.CaptureFixture[str]


def test_the_best_placement_compiles_to_the_cycles_that_were_reported(tmp_path: Path, capsys: Capsys) -> None:
    file = tmp_path / "best.toml"
    words = ("--machine", "toy4x4", "--context", "16", "--prompt-tokens", "4", "--budget", "80", "-o", str(file))
    assert run(capsys, "search", "tiny", *words).status == 0
    found = wsesim.search("tiny", budget="80", **SMALL)
    report = wsesim.simulate("tiny", machine="toy4x4", placement=str(file), context=16)
    assert report.cycles == found.best.cycles
    assert found.default is not None and found.best.cycles <= found.default.cycles
    head = file.read_text(encoding="utf-8").splitlines()
    assert head[1] == "# wsesim search tiny --context 16 --prompt-tokens 4 --budget 80 --seed 0 --machine toy4x4"
    assert wsesim.__version__ in head[2]


def test_placements_are_ranked_and_differ() -> None:
    found = wsesim.search("tiny", budget="120", top=3, **(SMALL | {"machine": "wse3"}))
    assert len({one.origin for one in found.found}) == len(found.found) == 3
    assert [one.cycles for one in found.found] == sorted(one.cycles for one in found.found)
    assert 0 < found.bound_cycles <= found.price_cycles
    assert sum(cycles for _, cycles in found.best.operators) == found.best.cycles


def test_the_same_seed_finds_the_same_with_any_number_of_jobs() -> None:
    one, two = (wsesim.search("tiny", budget="100", **(SMALL | {"jobs": jobs})) for jobs in (1, 2))
    assert one.found == two.found and one.candidates == two.candidates and one.bound_cycles == two.bound_cycles


def test_a_budget_of_0_gives_the_default() -> None:
    found = wsesim.search("tiny", budget="0", **SMALL)
    assert found.best == found.default and found.candidates <= 1


@pytest.mark.parametrize("objective", ["latency", "throughput", "context", "prompt", "latency=3,prompt=1"])
def test_no_objective_makes_its_own_metric_worse(objective: str) -> None:
    found = wsesim.search("tiny", objective=objective, budget="60", max_context=64, sequences=2, **SMALL)
    assert found.default is not None
    metrics = [Metrics(f.seconds_per_token, f.tokens_per_second, f.context, f.prompt_seconds)
               for f in (found.best, found.default)]  # fmt: skip
    goal = Goal(parse_objective(objective))
    assert goal.cost(metrics[0]) <= goal.cost(metrics[1])


def test_the_longest_context_fits_and_one_token_more_does_not(tmp_path: Path) -> None:
    found = wsesim.search("tiny", objective="context", budget="40", **SMALL)
    file = tmp_path / "longest.toml"
    file.write_text(found.placement_text(), encoding="utf-8")
    longest = min(found.best.context, 256)  # of tiny's own
    program = wsesim.compile("tiny", machine="toy4x4", placement=str(file), max_context=longest)
    assert program.max_context == longest


def test_limits_are_kept_or_the_nearest_value_is_named() -> None:
    found = wsesim.search("tiny", slo="context>=40", budget="40", max_context=32, **SMALL)
    assert all(one.context >= 40 for one in found.found)
    with pytest.raises(InvalidInputError, match=r"no placement keeps tokens_per_second>=1e\+12; the nearest .* [0-9]"):
        wsesim.search("tiny", slo="tokens_per_second>=1e12", budget="20", **SMALL)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--objective", "speed"), "unknown objective 'speed'"),
        (("--objective", "latency=0"), "each weight is a number above 0"),
        (("--slo", "context=8"), "write METRIC>=VALUE"),
        (("--slo", "speed>=8"), "unknown metric 'speed'"),
        (("--slo", "context<=8"), "a limit of context is context>=VALUE"),
        (("--budget", "soon"), "--budget soon: give seconds, as 60s, or a number of candidates"),
        (("--jobs", "0"), "--jobs 0: it is at least 1"),
        (("--context", "-1"), "--context -1: it is 0 to 255"),
        (("--prompt-tokens", "0"), "--prompt-tokens 0: it is 1 to 256"),
        (("-o", "/nowhere/file"), "a file in a folder that exists is needed"),
    ],
)
def test_bad_input_is_one_line(words: tuple[str, ...], said: str, capsys: Capsys) -> None:
    ended = run(capsys, "search", "tiny", "--machine", "toy4x4", *words)
    assert ended.status == 2 and not ended.out
    assert said in ended.err and ended.err.count("\n") == 1


def test_a_model_that_does_not_fit_is_refused() -> None:
    with pytest.raises(DoesNotFitError, match="wafers or more"):
        wsesim.search("smollm2-135m", **SMALL)


def test_a_program_is_refused(tmp_path: Path, capsys: Capsys) -> None:
    file = tmp_path / "tiny.wsesim"
    assert run(capsys, "compile", "tiny", "--machine", "toy4x4", "-o", str(file)).status == 0
    with pytest.raises(InvalidInputError, match="whose placement is fixed"):
        wsesim.search(str(file))


def test_the_report_says_what_dead_pes_cost() -> None:
    whole = wsesim.load_machine("wse3")
    machine = whole.with_({"dead": [[20, 20], [30, 20]]}, name="wse3")
    found = wsesim.search("tiny", budget="20", **(SMALL | {"machine": machine}))
    assert found.default is not None and found.whole_cycles is not None
    assert found.whole_cycles == wsesim.simulate("tiny", machine=whole, context=16).cycles
    more = found.default.cycles - found.whole_cycles
    percent = f"{100 * more / found.whole_cycles:.1f} %"
    assert f"The default takes {more:,} cycles ({percent}) more for 2 dead PEs; without them" in str(found)


def test_json_holds_what_the_report_has(capsys: Capsys) -> None:
    ended = run(capsys, "search", "tiny", "--machine", "toy4x4", "--context", "16", "--budget", "30", "--json")
    told = json.loads(ended.out)
    assert told["schema_version"] and told["found"][0]["cycles"] > 0 and told["machine"] == "toy4x4"


def dies(*arguments: Any) -> None:
    del arguments
    os.kill(os.getpid(), signal.SIGKILL)


class DeadlyPool(ProcessPoolExecutor):
    """A pool whose processes are killed at once."""

    def submit(self, fn: Any, /, *args: Any, **keywords: Any) -> Any:
        del fn
        return super().submit(dies, *args, **keywords)


def test_what_a_killed_process_should_have_measured_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = wsesim.search("tiny", budget="40", **SMALL)
    monkeypatch.setattr(workers, "ProcessPoolExecutor", DeadlyPool)
    assert wsesim.search("tiny", budget="40", **(SMALL | {"jobs": 2})).found == whole.found


ASKS = """
import os, time
from wsesim.toolchain.workers import Workers
if __name__ == "__main__":
    with Workers(2) as workers:
        assert workers.begin(os.getppid).result() == os.getpid()
        workers.begin(time.sleep, 600)
        os._exit(0)
"""


def test_no_process_outlives_the_one_that_asked() -> None:
    """The pipe ends when the last process that has it ends."""
    subprocess.run([sys.executable, "-c", ASKS], stdout=subprocess.PIPE, timeout=60, check=True)


@pytest.mark.slow
def test_ctrl_c_keeps_the_best(tmp_path: Path) -> None:
    file = tmp_path / "best.toml"
    words = ("search", "llama3.2-1b", "--budget", "600s", "-o", str(file))
    child = subprocess.Popen([sys.executable, "-m", "wsesim.cli", *words], stdout=subprocess.PIPE, text=True)
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(20)
    child.send_signal(signal.SIGINT)
    printed, _ = child.communicate(timeout=120)
    assert child.returncode == 130
    assert "interrupted after" in printed and "[blocks]" in file.read_text(encoding="utf-8")


def test_limits_and_weights_are_read() -> None:
    assert [str(limit) for limit in parse_limits(["context>=8_192", "prompt_seconds <= 2e-3"])] == [
        "context>=8192",
        "prompt_seconds<=0.002",
    ]
    assert parse_objective("latency=3,prompt=1") == (("latency", 0.75), ("prompt", 0.25))


def test_the_command_states_all_that_decides() -> None:
    machine = wsesim.load_machine("wse3").with_({"fabric.hop_cycles": 1})
    options = SearchOptions(slo=["context>=8192"], jobs=2)
    said = command_of("tiny", options, Lowering(machine=machine, sequences=4, software="wsesim-plain"))
    assert said == (
        "wsesim search tiny --slo 'context>=8192' --budget 60s --seed 0 --sequences 4 --machine wse3 "
        "--set fabric.hop_cycles=1 --software wsesim-plain"
    )
