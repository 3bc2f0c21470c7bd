"""One table of options: the Python calls and the command line agree with it, and errors name options in both ways."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_type_hints

import pytest

import wsesim
from tests.command_line import run
from wsesim.cli.messages import as_typed
from wsesim.cli.parser import make_parser
from wsesim.errors import InvalidInputError, UnknownKeywordError
from wsesim.machine import Machine
from wsesim.software import Software
from wsesim.toolchain import serving
from wsesim.toolchain.compiler_options import options_of
from wsesim.toolchain.options import (
    GROUPS,
    Lowering,
    RequestOptions,
    SearchOptions,
    StepOptions,
    TextOptions,
    TraceOptions,
    options_in,
)
from wsesim_compiler.options import Options

Capsys = pytest.CaptureFixture[str]
Groups = tuple[set[str], *tuple[type, ...]]  # options that are left out, groups
SESSION: Groups = ({"batch"}, TextOptions, Lowering)  # a session's steps are of one sequence each
SERVED: Groups = ({"batch"}, TextOptions, TraceOptions, Lowering)
SEARCH: Groups = ({"strategy", "layers_per_block", "block", "order", "placement"}, SearchOptions, Lowering)
COMPARE: Groups = ({"in_flight", "congestion", "sensitivity"}, StepOptions, Lowering)
CALLS: dict[Callable[..., Any], Groups] = {
    wsesim.compile: (set(), Lowering),
    wsesim.simulate: (set(), StepOptions, TraceOptions, Lowering),
    wsesim.write_report: (set(), StepOptions, Lowering),
    wsesim.search: SEARCH,
    wsesim.compare: COMPARE,
    wsesim.complete: ({"batch"}, RequestOptions, TextOptions, TraceOptions, Lowering),
    wsesim.open_session: SESSION,
    wsesim.Session.stream: (set(), RequestOptions),
    wsesim.Session.complete: (set(), RequestOptions),
    serving.open_api: SERVED,
    wsesim.Client.__init__: SERVED,
    wsesim.AsyncClient.__init__: SERVED,
    wsesim.connect: SERVED,
}
COMMANDS: dict[str, Groups] = {
    "complete": ({"batch"}, RequestOptions, TextOptions, TraceOptions, Lowering),
    "compile": (set(), Lowering),
    "simulate": (set(), StepOptions, TraceOptions, Lowering),
    "report": (set(), StepOptions, Lowering),
    "search": SEARCH,
    "compare": COMPARE,
    "serve": SERVED,
}


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__qualname__)
def test_a_call_has_the_keywords_of_its_groups(call: Callable[..., Any]) -> None:
    without, *groups = CALLS[call]
    names = {"Machine": Machine, "Software": Software, "Sequence": __import__("collections.abc").abc.Sequence}
    found = inspect.signature(call).parameters
    for name, option in options_in(*groups).items():
        if name in without:
            assert name not in found
            continue
        assert found[name].kind is inspect.Parameter.KEYWORD_ONLY, name
        assert found[name].default == option.default, name
        hint = {"made": found[name].annotation}
        assert get_type_hints(type("Hint", (), {"__annotations__": hint}), names)["made"] == option.type, name
    others = set(options_in(*GROUPS)) - set(options_in(*groups)) - {"model"}
    assert not others & set(found)
    assert not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in found.values())


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__qualname__)
def test_a_call_has_a_docstring_and_suggests_the_nearest_keyword(call: Callable[..., Any]) -> None:
    assert inspect.getdoc(call)
    last = [name for name in options_in(*CALLS[call][1:]) if name not in CALLS[call][0]][-1]
    with pytest.raises(UnknownKeywordError, match=f"unknown keyword '{last}s'; known: {last}, "):
        call(**{f"{last}s": 1})


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_has_the_options_of_its_groups(command: str, capsys: Capsys) -> None:
    without, *groups = COMMANDS[command]
    model = ("hi",) if command == "complete" else ()
    parsed = vars(make_parser().parse([command, *model]))
    for name, option in options_in(*groups).items():
        assert (name in parsed) == (option.on_command_line and name not in without), name
        assert parsed.get(name, option.default) == option.default
    shown = run(capsys, command, "--help").out
    assert all(f"--{name.replace('_', '-')} " in shown for name in parsed if name in options_in(*groups))


def test_the_compilers_options_are_those_of_the_table() -> None:
    """Same names, and types that have the table's values once None is decided."""
    hints, table = get_type_hints(Options), options_in(Lowering)
    same = set(hints) & set(table)
    assert set(table) - same == {"machine", "placement", "defects", "rope_theta", "form"}
    decided = {"max_context", "sequences", "layers_per_block"}
    assert all(hints[name] == table[name].type for name in same - decided - {"software"})
    assert all(hints[name] | None == table[name].type for name in decided)
    options = options_of("llama3.1-8b", Lowering(kv="shift", block=(190, 128), sequences=3))
    assert (options.kv, options.block, options.sequences, options.max_context) == ("shift", (190, 128), 3, 8192)


@pytest.mark.parametrize(
    ("name", "value"),
    [("context", "9"), ("batch", True), ("block", (1, 2, 3)), ("machine", 3), ("kv_dtype", 8), ("congestion", 1)],
)
def test_a_value_of_another_type_is_refused_by_its_keyword(name: str, value: Any) -> None:
    with pytest.raises(InvalidInputError, match=f"`{name}` is .*, not of type"):
        wsesim.simulate("tiny", **{name: value})


@pytest.mark.parametrize("option", ["--placement", "--defects", "--weights"])
def test_an_empty_path_is_not_an_absent_one(option: str, capsys: Capsys) -> None:
    done = run(capsys, "complete", "hi", "--model", "tiny", option, "")
    assert (done.status, done.err) == (2, f"error: {option} is empty; give a path, or leave it out\n")


def test_hybrid_needs_layers_per_block_and_says_the_choices(capsys: Capsys) -> None:
    done = run(capsys, "compile", "llama3.1-8b", "--strategy", "hybrid")
    assert done.status == 2
    said = "--strategy hybrid needs --layers-per-block: 2, 4, 8, 16 (for the 32 layers of llama3.1-8b)"
    assert done.err == f"error: {said}\n"
    with pytest.raises(InvalidInputError, match=r"`strategy='hybrid'` needs `layers_per_block`: 2, 4, 8, 16"):
        wsesim.compile("llama3.1-8b", strategy="hybrid")


MINE = wsesim.load_machine("toy4x4").with_({"fabric.hop_cycles": 3}, name="mine")
ON_MINE: dict[Callable[..., Any], Callable[[], object]] = {
    wsesim.compile: lambda: wsesim.compile("tiny", machine=MINE).machine,
    wsesim.simulate: lambda: wsesim.simulate(wsesim.compile("tiny", machine=MINE), context=3).cycles,
    wsesim.write_report: lambda: reported_machine(),
    wsesim.search: lambda: wsesim.search("tiny", machine=MINE, context=3, prompt_tokens=2, budget="0").machine,
    wsesim.compare: lambda: compared_on(MINE),
    wsesim.complete: lambda: wsesim.complete("hi", model="tiny", machine=MINE, max_tokens=1).program.machine,
    wsesim.open_session: lambda: wsesim.open_session("tiny", machine=MINE).program.machine,
    serving.open_api: lambda: said_by(serving.open_api),
    wsesim.Client.__init__: lambda: said_by(wsesim.Client),
    wsesim.AsyncClient.__init__: lambda: said_by(wsesim.AsyncClient),
    wsesim.connect: lambda: said_by(wsesim.connect),
}


def reported_machine() -> Machine:
    """Writes a report for a machine of our own, and returns the machine that the report names."""
    with TemporaryDirectory() as folder:
        found = wsesim.write_report("tiny", Path(folder) / "report.html", machine=MINE, context=3)
    assert found.cycles == wsesim.simulate("tiny", machine=MINE, context=3).cycles and found.machine == MINE.name
    return MINE


def compared_on(machine: Machine) -> Machine:
    """The machine of both sides of a comparison."""
    found = wsesim.compare("tiny", {"strategy": "shared"}, machine=machine, context=3)
    one, other = (side.program for side in found.sides)
    assert one is not None and other is not None and one.machine == other.machine
    return one.machine


def said_by(serve: Callable[..., Any]) -> list[str]:
    """The lines of output that name the machine. Whatever the call opened is closed."""
    lines: list[str] = []
    serve(model="tiny", machine=MINE, say=lines.append)
    return [line for line in lines if line.startswith("tiny on ")]


def test_every_call_that_compiles_is_tried_with_a_machine() -> None:
    assert set(ON_MINE) == {call for call, groups in CALLS.items() if Lowering in groups}


@pytest.mark.parametrize("call", ON_MINE, ids=lambda call: call.__qualname__)
def test_every_function_takes_a_machine(call: Callable[..., Any]) -> None:
    """A derived one, which no name means."""
    found = ON_MINE[call]()
    if call is wsesim.simulate:
        assert found == wsesim.simulate("tiny", machine=MINE, context=3).cycles
        assert found != wsesim.simulate("tiny", machine="toy4x4", context=3).cycles
    elif isinstance(found, list):
        assert len(found) == 1 and found[0].startswith("tiny on mine: ")
    else:
        assert found == MINE


@pytest.mark.parametrize("call", [wsesim.compile, wsesim.simulate, wsesim.open_session])
def test_the_numbers_of_a_machine_are_checked_before_anything_is_compiled(call: Callable[..., Any]) -> None:
    wrong = dataclasses.replace(wsesim.load_machine("toy4x4"), wavelet_bytes=0)
    with pytest.raises(InvalidInputError, match="machine toy4x4: broken rule: wavelet_bytes is at least 1, not 0"):
        call("tiny", machine=wrong)


@pytest.mark.parametrize(
    ("message", "typed"),
    [
        ("give `sequences=2`", "give --sequences 2"),
        ("`block=(190, 128)`", "--block 190x128"),
        ("`block=None`", "no --block"),
        ("`strategy='shared'` and `max_context`", "--strategy shared and --max-context"),
        ("`weights=PATH` or `wsesim models pull x`", "--weights PATH or `wsesim models pull x`"),
        ("two:\n  lines", "two: lines"),
    ],
)
def test_messages_name_options_as_they_are_typed(message: str, typed: str) -> None:
    assert as_typed(message) == typed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("simulate", "tiny", "--contxt", "3"), "unknown argument '--contxt'; did you mean --context?"),
        (("simulate", "tiny", "--context", "1_0"), "argument --context: '1_0' is not an integer"),
        (("simulate", "tiny", "--context", "9" * 5000), "is not an integer; see wsesim simulate --help"),
        (("complete", "hi", "--temperature", "1_0.0"), "argument --temperature: '1_0.0' is not a number"),
        (("simulate", "tiny", "--strat", "shared"), "unknown argument '--strat'; did you mean --strategy?"),
        (("simulate", "tiny", "--block", "1x"), "argument --block: '1x' is not WxH"),
        (("dance",), "argument COMMAND: invalid choice: 'dance'"),
        ((), "the following arguments are required: COMMAND"),
    ],
)
def test_a_wrong_command_line_is_one_line(arguments: tuple[str, ...], said: str, capsys: Capsys) -> None:
    done = run(capsys, *arguments)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("error: ") and said in done.err
    assert done.err.count("\n") == 1 and len(done.err) < 400
