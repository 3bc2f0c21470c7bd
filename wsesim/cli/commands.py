"""The commands: each calls the toolchain with its options and prints the result."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from wsesim import progress
from wsesim.errors import InvalidInputError, UnknownNameError
from wsesim.machine import load_machine, machine_names, machine_text
from wsesim.software import load_software, software_names, software_text
from wsesim.toolchain.options import (
    DEFAULT_MODEL,
    DEFAULT_SOFTWARE,
    STAGES,
    Lowering,
    RequestOptions,
    SearchOptions,
    StepOptions,
    TextOptions,
    TraceOptions,
    check_values,
    chosen,
    options_in,
)

if TYPE_CHECKING:
    from wsesim.program import Program
    from wsesim.runtime.completion import Completion, Token
    from wsesim.runtime.request import GenerationOptions
    from wsesim.toolchain.session import Session

Group = TypeVar("Group")


def _group(group: type[Group], options: argparse.Namespace) -> Group:
    """The options of one group of the table, checked."""
    values = chosen(group, vars(options))
    check_values({name: getattr(values, name) for name in options_in(group)}, options_in(group))
    return values


def lowering_of(options: argparse.Namespace) -> Lowering:
    """The options of compilation. --set changes the machine that --machine names."""
    lowering = _group(Lowering, options)
    if not options.settings:
        return lowering
    machine = load_machine(options.machine)
    return dataclasses.replace(lowering, machine=machine.with_(dict(options.settings)))


def _say(line: str) -> None:
    progress.clear()
    print(line, file=sys.stderr, flush=True)


def complete_command(options: argparse.Namespace) -> int:
    from wsesim.toolchain.compiling import prepare
    from wsesim.toolchain.session import check_prompt, generation_options, start_session
    from wsesim.toolchain.tracing import check_trace, traced

    check_prompt(options.prompt)
    generation = generation_options(_group(RequestOptions, options))
    check_trace(trace := _group(TraceOptions, options).trace)
    text, lowering = _group(TextOptions, options), lowering_of(options)
    with progress.shown():
        session = start_session(prepare(options.model, lowering), text, say=_say)
    if session.text_from:
        _say(f"text and token counts of {session.text_from}, times of {session.model}")
    with traced(trace, [(session.program, session.loop)]):
        _complete(session, options, generation)
    return 0


def _complete(session: Session, options: argparse.Namespace, generation: GenerationOptions) -> None:
    """Generates and prints the answer."""
    if options.json:
        with progress.shown():
            answer = session.answer(options.prompt, generation)
        print(json.dumps(answer.to_json()))
        return
    tokens = session.run(options.prompt, generation)
    with progress.shown():  # while the prompt is computed; then the text itself shows it
        first = next(tokens)
    print(options.prompt, end="", flush=True)
    _print_answer(session, chain((first,), tokens))


def _print_answer(session: Session, tokens: Iterator[Token | Completion]) -> None:
    from wsesim.report.completion import completion_text
    from wsesim.runtime.completion import Completion

    shown = 0
    for item in tokens:
        piece = item.text[shown:] if isinstance(item, Completion) else item.text
        shown += len(piece)
        print(piece, end="", flush=True)
        if isinstance(item, Completion):
            print("\n\n" + completion_text(item, session.program, session.text_from))


@progress.shown()
def compile_command(options: argparse.Namespace) -> int:
    from wsesim.toolchain.compiling import compile_from, compile_model
    from wsesim.toolchain.model_kinds import is_saved_program

    _check_compile(options)
    lowering = lowering_of(options)
    observe = _Observer(options.print_stage, options.stop_after)
    watched: dict[str, Any] = {"observe": observe} if options.print_stage or options.stop_after else {}
    try:
        if options.start is not None:
            program = compile_from(options.start, lowering, **watched)
        else:
            model = DEFAULT_MODEL if options.model is None else options.model
            if watched and is_saved_program(model):
                raise InvalidInputError(
                    f"{model} is a saved Program: it has no earlier stages, and the file is its text"
                )
            program = compile_model(model, lowering, say=_say, **watched)
    except _StopCompiling:
        return 0
    if options.output is not None:
        _save(program, options.output)
    print(program, file=sys.stderr if options.print_stage else sys.stdout)
    return 0


def _check_compile(options: argparse.Namespace) -> None:
    """Raises for options that exclude each other, before the work begins."""
    for stage in (options.print_stage, options.stop_after):
        if stage is not None and stage not in STAGES:
            raise UnknownNameError("stage", stage, STAGES)
    if options.start is not None and options.model is not None:
        raise InvalidInputError(f"--from {options.start} and MODEL {options.model} exclude each other")
    if options.output is None:
        return
    if options.stop_after is not None:
        raise InvalidInputError("-o writes the Program, and --stop-after ends before there is one: give one of them")
    _check_output("-o", options.output)


def _check_output(option: str, path: str) -> None:
    """Raises InvalidInputError for a file that cannot be written, before the work begins."""
    if not path or Path(path).is_dir() or not Path(path).parent.is_dir():
        raise InvalidInputError(f"{option} {path}: a file in a folder that exists is needed")


def _save(program: Program, path: str) -> None:
    from wsesim.program.files import save_program

    try:
        save_program(program, path)
    except OSError as error:
        raise InvalidInputError(f"-o {path}: {error.strerror}") from None


class _StopCompiling(Exception):  # noqa: N818 - not an error
    """Raised after the stage that --stop-after names."""


class _Observer:
    """Prints the results of the stages that --print and --stop-after name."""

    def __init__(self, print_stage: str | None, stop_after: str | None) -> None:
        self.print_stage = print_stage
        self.stop_after = stop_after

    def __call__(self, stage: str, value: Any) -> None:
        from wsesim.toolchain.compiling import stage_text

        if stage in (self.print_stage, self.stop_after):
            print(stage_text(value), end="")
        if stage == self.stop_after:
            raise _StopCompiling


@progress.shown()
def simulate_command(options: argparse.Namespace) -> int:
    import time

    from wsesim.report.tables import report_text
    from wsesim.toolchain.simulating import check_step, objective_of, program_for, simulate_program
    from wsesim.toolchain.tracing import check_trace
    from wsesim.toolchain.warm_up import warm_up

    step, lowering = _group(StepOptions, options), lowering_of(options)
    check_step(step, lowering.batch)
    check_trace(trace := _group(TraceOptions, options).trace)
    program = program_for(options.model, lowering, _say, objective_of(step))
    jit_s = warm_up()
    began = time.perf_counter()
    report = simulate_program(program, step, lowering.batch, trace=trace, say=_say)
    wall_s = time.perf_counter() - began
    if options.json:
        print(json.dumps(report.to_json() | {"jit_wall_s": jit_s, "simulate_wall_s": wall_s}))
        return 0
    print(report_text(report))
    print(f"  simulated in {wall_s:.2f} s on this computer, and {jit_s:.2f} s of JIT compilation before")
    return 0


@progress.shown()
def report_command(options: argparse.Namespace) -> int:
    from wsesim.report.tables import figures_text
    from wsesim.toolchain.reporting import ReportFiles, write_report_of

    if options.output is None:
        raise InvalidInputError("-o FILE is missing: the report is a file, as in -o report.html")
    for option, path in (("-o", options.output), ("--png", options.png)):
        if path == "":
            raise InvalidInputError(f"{option} is empty; give a path")
    files = ReportFiles(Path(options.output), None if options.png is None else Path(options.png))
    step, lowering = _group(StepOptions, options), lowering_of(options)
    report = write_report_of(options.model, step, lowering, files, options.typed, say=_say)
    print(figures_text(report))
    for line in files.written():
        print(f"  {line}")
    return 0


@progress.shown()
def search_command(options: argparse.Namespace) -> int:
    from wsesim.files import write_whole
    from wsesim.toolchain.searching import search_model

    if options.output is not None:
        _check_output("-o", options.output)
    found = search_model(options.model, _group(SearchOptions, options), lowering_of(options), say=_say)
    if options.output is not None:
        try:
            write_whole(Path(options.output), found.placement_text())
        except OSError as error:
            raise InvalidInputError(f"-o {options.output}: {error.strerror}") from None
    print(json.dumps(found.to_json()) if options.json else found)
    return 0


@progress.shown()
def compare_command(options: argparse.Namespace) -> int:
    from wsesim.files import check_page
    from wsesim.toolchain.comparing import compare_sides
    from wsesim.toolchain.reporting import written_text

    step = _group(StepOptions, options)
    sides = [*(options.models or [DEFAULT_MODEL]), *options.changes]
    if options.output == "":
        raise InvalidInputError("-o is empty; give a path")
    if options.output is not None:
        check_page(Path(options.output), "the comparison")
    compared = compare_sides(sides, step, lowering_of(options), say=_say)
    if options.output is not None:
        compared.write_html(options.output, command=options.typed)
    print(json.dumps(compared.to_json()) if options.json else compared.text(every_row=options.every_row))
    if options.output is not None and not options.json:
        print(f"\n{written_text(Path(options.output))}")
    return 0


@progress.shown()
def validate_command(options: argparse.Namespace) -> int:
    from wsesim.files import write_whole
    from wsesim.report.validation import validation_csv, validation_markdown, validation_text
    from wsesim.toolchain.cases import run_validation

    outputs = ((("--markdown", options.markdown), validation_markdown), (("--csv", options.csv), validation_csv))
    for (option, path), _ in outputs:
        if path is not None:
            _check_output(option, path)
    validation = run_validation(options.only, options.row)
    for (option, path), written in outputs:
        if path is not None:
            try:
                write_whole(Path(path), written(validation))
            except OSError as error:
                raise InvalidInputError(f"{option} {path}: {error.strerror}") from None
    print(json.dumps(validation.to_json()) if options.json else validation_text(validation))
    return 0 if validation.ok else 1


def serve_command(options: argparse.Namespace) -> int:
    from wsesim.serve.access import access_of
    from wsesim.serve.limits import Limits
    from wsesim.serve.server import listen, run
    from wsesim.toolchain.serving import make_server_app, start_api
    from wsesim.toolchain.tracing import check_trace

    limits = Limits(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Limits)})
    text, lowering, trace = _group(TextOptions, options), lowering_of(options), _group(TraceOptions, options).trace
    check_trace(trace)
    with listen(options.host, options.port) as bound:
        access = access_of(bound.getsockname()[0], options.allow_host, options.allow_origin)
        with progress.shown():
            api = start_api(options.model, text, lowering, limits, _say, trace)
        try:
            run(make_server_app(api, options.api_key, access), bound, lambda url: _say(f"listening at {url}"))
        finally:
            api.close()  # writes the trace
    return 0


def models_command(options: argparse.Namespace) -> int:
    del options
    from wsesim.tables import aligned
    from wsesim_models.cache import known

    rows = [("model", "parameters", "layers", "width", "context", "weights")]
    rows += [(m.name, f"{m.parameters:,}", str(m.layers), str(m.dim), f"{m.max_context:,}", m.weights) for m in known()]
    print(aligned(rows, indent=""))
    return 0


@progress.shown()
def pull_command(options: argparse.Namespace) -> int:
    from wsesim_models.cache import pull

    print(pull(options.name))
    return 0


def machines_command(options: argparse.Namespace) -> int:
    from wsesim.tables import aligned, si_bytes

    if options.print_machine is not None:
        print(machine_text(load_machine(options.print_machine).with_(dict(options.settings))), end="")
        return 0
    if options.settings:
        raise InvalidInputError("--set changes the machine that --print prints; give --print, as in --print wse3")

    rows = [("machine", "PEs usable", "clock", "room a PE", "in all", "hop", "cycles/wavelet")]
    for name in machine_names():
        m = load_machine(name)
        wavelet = m.fabric.wavelet_numerator / m.fabric.wavelet_denominator
        rows.append(
            (name, f"{m.usable.columns} x {m.usable.rows}", f"{m.clock_hz / 1e6:g} MHz", f"{m.room_bytes:,} B",
             si_bytes(m.room_bytes * m.usable.pes), str(m.fabric.hop_cycles), f"{wavelet:g}")
        )  # fmt: skip
    print(aligned(rows, indent=""))
    return 0


def software_command(options: argparse.Namespace) -> int:
    from wsesim.tables import aligned

    if options.print_software is not None:
        print(software_text(options.print_software), end="")
        return 0
    rows = [("software", "slot", "stage", "routes", "forms of its own")]
    ours = load_software(DEFAULT_SOFTWARE)
    for name in software_names():
        software = load_software(name)
        own = [form.kind for form in software.forms if name == DEFAULT_SOFTWARE or form != ours.form(form.kind)]
        cycles = (str(software.slot_cycles), str(software.stage_cycles))
        rows.append((name, *cycles, software.routes, "all" if name == DEFAULT_SOFTWARE else ", ".join(own) or "none"))
    print(aligned(rows, indent=""))
    return 0
