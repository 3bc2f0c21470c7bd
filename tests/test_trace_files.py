"""--trace: files that cannot be, runs that end early, and a server's trace."""

from __future__ import annotations

import os
import resource
import signal
import sys
from pathlib import Path

import httpx
import pytest

import wsesim
from tests.command_line import TOY, run, start
from tests.test_traces import check_tokens, tokens_of
from tests.traces import check_flows, check_nesting, read_json, read_perfetto
from wsesim.errors import InvalidInputError
from wsesim.report.trace.events import Slice, Trace
from wsesim.report.trace.file import trace_file
from wsesim.toolchain import serving

Capsys = pytest.CaptureFixture[str]
COMMANDS = (
    ("simulate", "tiny", *TOY),
    ("complete", "hi", "--model", "tiny", *TOY),
    ("serve", "--model", "tiny", "--port", "0", *TOY),
)
ENDINGS = "the name ends in .pftrace (Perfetto) or in .json (Chrome's JSON)"
BAD = [
    ("x.txt", f"--trace x.txt: {ENDINGS}"),
    ("pftrace", f"--trace pftrace: {ENDINGS}"),
    ("x.PFTRACE", f"--trace x.PFTRACE: {ENDINGS}"),
    ("", "--trace is empty; give a path, or leave it out"),
    ("folder.json", "--trace folder.json: a file in a folder that exists is needed"),
    ("nowhere/x.json", "--trace nowhere/x.json: a file in a folder that exists is needed"),
    ("x\0.json", "--trace x\0.json: a file in a folder that exists is needed"),
]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder.json").mkdir()


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
@pytest.mark.parametrize(("path", "said"), BAD)
def test_a_bad_path_is_refused_before_the_work(
    command: tuple[str, ...], path: str, said: str, capsys: Capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsesim.toolchain.compiling.prepare", None)  # nothing is compiled
    done = run(capsys, *command, "--trace", path)
    assert (done.status, done.out, done.err) == (2, "", f"error: {said}\n")
    assert [p.name for p in Path().iterdir()] == ["folder.json"]


def test_python_names_the_keyword() -> None:
    with pytest.raises(InvalidInputError, match=r"`trace='x.txt'`: the name ends in \.pftrace"):
        wsesim.simulate("tiny", machine="toy4x4", trace="x.txt")
    with pytest.raises(InvalidInputError, match="`trace` is 3, not of type"):
        wsesim.complete("hi", "tiny", machine="toy4x4", trace=3)  # type: ignore[arg-type]


def test_a_missing_package_names_the_command_that_brings_it(capsys: Capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "perfetto", None)
    monkeypatch.delitem(sys.modules, "wsesim.report.trace.perfetto", raising=False)
    for module in [name for name in sys.modules if name.startswith("perfetto.")]:
        monkeypatch.delitem(sys.modules, module)
    done = run(capsys, *COMMANDS[0], "--trace", "x.pftrace")
    said = "a .pftrace file needs the package perfetto: pip install 'wsesim[report]', or name the file *.json"
    assert (done.status, done.err) == (2, f"error: {said}\n")
    assert run(capsys, *COMMANDS[0], "--trace", "x.json").status == 0  # which needs no package


@pytest.mark.parametrize("ending", [".pftrace", ".json"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, AssertionError])
def test_a_run_that_raises_leaves_the_old_file(error: type[BaseException], ending: str) -> None:
    path = Path(f"x{ending}")
    path.write_text("old")

    def fails(trace: Trace) -> None:
        track = trace.track("wafer")
        for number in range(10_000):
            trace.add(Slice(track, "token", number, number + 1))
        raise error

    with pytest.raises(error), trace_file(str(path)) as trace:
        fails(trace)
    assert path.read_text() == "old"
    assert sorted(p.name for p in Path().iterdir()) == sorted(["folder.json", path.name])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("ending", [".pftrace", ".json"])
@pytest.mark.parametrize("command", COMMANDS[:2], ids=lambda command: command[0])
def test_a_full_disk_is_one_line(command: tuple[str, ...], ending: str, capsys: Capsys) -> None:
    Path(f"full{ending}").symlink_to("/dev/full")
    done = run(capsys, *command, "--trace", f"full{ending}")
    assert (done.status, done.err) == (2, f"error: --trace full{ending}: No space left on device\n")
    assert sorted(p.name for p in Path().iterdir()) == ["folder.json", f"full{ending}"]


def test_a_folder_that_may_not_be_written_is_one_line(capsys: Capsys) -> None:
    Path("locked").mkdir()
    Path("locked").chmod(0o500)
    if os.access("locked", os.W_OK):
        pytest.skip("this user may write everywhere")
    done = run(capsys, *COMMANDS[0], "--trace", "locked/x.json")
    assert (done.status, done.err) == (2, "error: --trace locked/x.json: its folder may not be written\n")


def test_simulate_and_complete_write_traces(capsys: Capsys) -> None:
    assert run(capsys, *COMMANDS[0], "--context", "9", "--trace", "s.pftrace").status == 0
    step = read_perfetto(Path("s.pftrace"))
    (token,) = tokens_of(step)
    report = wsesim.simulate("tiny", machine="toy4x4", context=9, trace="s.json")
    assert token.cycles == report.cycles
    assert tokens_of(read_json(Path("s.json")))[0].cycles == report.cycles
    done = run(capsys, *COMMANDS[1], "--max-tokens", "5", "--trace", "c.pftrace")
    answer = wsesim.complete("hi", "tiny", machine="toy4x4", max_tokens=5, trace="c.json")
    assert done.status == 0
    trace = read_perfetto(Path("c.pftrace"))
    check_nesting(trace)
    check_tokens(trace)
    assert check_flows(trace) > 5
    times, hertz = answer.completion.times, 1e6
    request, *parts = trace.named("requests")
    tokens = [part.cycles / hertz for part in parts if part.name.startswith("token")]
    assert tokens == pytest.approx(times.token_s)
    assert sum(part.cycles for part in parts) == request.cycles
    assert [token.cycles / hertz for token in tokens_of(trace)][1:] == pytest.approx(times.token_s[1:])
    assert len(tokens_of(read_json(Path("c.json")))) == 5


def test_clients_in_process_write_a_trace_when_they_are_closed() -> None:
    with wsesim.Client(model="tiny", machine="toy4x4", sequences=2, trace="x.pftrace") as client:
        for _ in range(2):
            client.completions.create(model="tiny", prompt="It was", max_tokens=3, n=2)
        assert not Path("x.pftrace").exists()
    trace = read_perfetto(Path("x.pftrace"))
    check_nesting(trace)
    check_tokens(trace)
    requests = [s for s in trace.named("requests") if s.depth == 0]
    assert len(requests) == 4 and {r.arguments["outcome"] for r in requests} == {"finished"}
    assert {s.names[0] for s in tokens_of(trace)} == {"wafer, slot 1", "wafer, slot 2"}
    assert len(tokens_of(trace)) == sum(r.arguments["tokens"] for r in requests)


def test_an_api_that_is_dropped_writes_its_trace() -> None:
    api = serving.open_api("tiny", machine="toy4x4", trace="x.json")
    assert not Path("x.json").exists()
    del api
    assert read_json(Path("x.json")).slices == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_server_that_is_stopped_keeps_its_trace(number: signal.Signals) -> None:
    with start([*COMMANDS[2], "--trace", "x.pftrace"]) as server:
        assert server.stderr is not None
        for line in server.stderr:
            if line.startswith("listening at "):
                break
        url = line.removeprefix("listening at ").strip()
        body = {"model": "tiny", "prompt": "It was", "max_tokens": 4, "min_tokens": 4}
        assert httpx.post(f"{url}/v1/completions", json=body, timeout=60).status_code == 200
        server.send_signal(number)
        assert server.wait(timeout=60) == (130 if number == signal.SIGINT else 0)
    trace = read_perfetto(Path("x.pftrace"))
    check_nesting(trace)
    assert len(tokens_of(trace)) == 4
    assert sorted(p.name for p in Path().iterdir()) == ["folder.json", "x.pftrace"]


def test_a_server_goes_on_when_its_disk_is_full() -> None:
    """Files of this process may have 10 kB."""
    said: list[str] = []
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    api = serving.open_api("tiny", machine="toy4x4", trace="x.json", say=said.append)
    client = wsesim.Client.__new__(wsesim.Client)
    super(wsesim.Client, client).__init__(api)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        for _ in range(2):
            assert (
                client.completions.create(model="tiny", prompt="It was", max_tokens=5, min_tokens=5).usage is not None
            )
        with pytest.raises(InvalidInputError, match=r"`trace='x.json'`: File too large"):
            client.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert said[-1] == "the trace ends here: x.json: File too large"
    assert [p.name for p in Path().iterdir()] == ["folder.json"]
