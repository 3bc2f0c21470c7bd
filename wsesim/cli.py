"""The command line: `wsesim complete | compile | simulate | models | machines`. The same words as in Python.

A user's mistake is one line on standard error and exit status 2; Ctrl-C is exit status 130.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsesim import __version__
from wsesim.errors import InvalidInputError, UnknownNameError, WsesimError
from wsesim.toolchain import DEFAULT_MACHINE, DEFAULT_MODEL, PHASES, STAGES, Lowering

if TYPE_CHECKING:
    from wsesim.program import Program
    from wsesim.runtime.loop import Completion, Token
    from wsesim.toolchain import Session

COMPILED_BY = "MODEL is a name of `wsesim models`, file.py:factory of a torch module, or a saved Program."


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; the exit status."""
    try:
        options = _parser().parse_args(arguments)
        _print_whatever_comes()
        status = int(options.run(options))
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        _forget_output()
        return 0  # the reader has what it wanted
    except (WsesimError, OSError, MemoryError) as error:
        print(f"error: {str(error) or 'out of memory'}", file=sys.stderr)
        _forget_output()
        return 2


def _print_whatever_comes() -> None:
    """A prompt may hold bytes that are no text, and a terminal may lack characters: then `?` stands for them."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _forget_output() -> None:
    """What standard output does not take is dropped: Python would try again at its exit, and complain."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wsesim", description="Real model graphs, real text and modelled cycles on a simulated wafer."
    )
    parser.add_argument("--version", action="version", version=f"wsesim {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_complete(commands)
    _add_compile(commands)
    _add_simulate(commands)
    _add_validate(commands)
    _add_models(commands)
    machines = commands.add_parser(
        "machines", help="the machines that are known", description="Lists the machine presets."
    )
    machines.set_defaults(run=_machines)
    return parser


def _add_complete(commands: Any) -> None:
    command = commands.add_parser(
        "complete",
        help="text and modelled times",
        description=f"Completes PROMPT on a simulated wafer. {COMPILED_BY}",
    )
    command.add_argument("prompt", metavar="PROMPT")
    command.add_argument("--model", default=DEFAULT_MODEL, metavar="MODEL")
    command.add_argument(
        "--weights",
        metavar="PATH",
        help="safetensors file or folder, or GGUF, with its tokenizer; of the model that the text is from",
    )
    command.add_argument(
        "--text-from", metavar="NAME", help="times of --model, text and token counts of this model, by name"
    )
    command.add_argument("--max-tokens", type=int, default=100, metavar="N")
    command.add_argument("--temperature", type=float, default=0.0, metavar="T", help="0 (greedy) to 1.5")
    command.add_argument("--top-p", type=float, default=1.0, metavar="P")
    command.add_argument("--seed", type=int, metavar="N")
    command.add_argument("--stop", action="append", default=[], metavar="TEXT", help="up to four times")
    command.add_argument(
        "--dtype", default="fp32", metavar="D", help="of the weights in execution: fp32, bf16, fp16, int8"
    )
    command.add_argument("--json", action="store_true", help="one object in the shape of the API, nothing else")
    _add_lowering(command)
    command.set_defaults(run=_complete)


def _add_compile(commands: Any) -> None:
    command = commands.add_parser("compile", help="a model to a Program", description=f"Compiles MODEL. {COMPILED_BY}")
    command.add_argument("model", metavar="MODEL", nargs="?")
    command.add_argument(
        "--print",
        dest="print_stage",
        metavar="STAGE",
        help=f"prints the result of a stage: {', '.join(STAGES)}",
    )
    command.add_argument("--stop-after", metavar="STAGE", help="stops there and prints that stage's result")
    command.add_argument("--from", dest="start", metavar="FILE", help="starts from a Graph's text instead of MODEL")
    command.add_argument("-o", "--output", metavar="FILE", help="writes the Program there")
    _add_lowering(command)
    command.set_defaults(run=_compile)


def _add_simulate(commands: Any) -> None:
    command = commands.add_parser(
        "simulate", help="cycles of a step", description=f"Simulates one step of MODEL. {COMPILED_BY}"
    )
    command.add_argument("model", metavar="MODEL", nargs="?", default=DEFAULT_MODEL)
    command.add_argument("--phase", default="decode", metavar="PHASE", help=" or ".join(PHASES))
    command.add_argument(
        "--context", type=int, metavar="N", help="tokens in the KV cache before a decode step (default 512, if it fits)"
    )
    command.add_argument("--tokens", type=int, metavar="N", help="tokens of a prefill (default 128, if it fits)")
    command.add_argument("--json", action="store_true")
    _add_lowering(command)
    command.set_defaults(run=_simulate)


def _add_validate(commands: Any) -> None:
    command = commands.add_parser(
        "validate",
        help="published measurements beside modelled ones",
        description="Simulates published measurements, prints the errors; exit status 1 if a group leaves its band.",
    )
    command.add_argument("--only", metavar="GROUP")
    command.add_argument("--json", action="store_true")
    command.add_argument("--markdown", metavar="FILE", help="writes the tables there as well")
    command.set_defaults(run=_validate)


def _add_models(commands: Any) -> None:
    models = commands.add_parser(
        "models",
        help="the models that are known, and `models pull NAME`",
        description="Lists the models, or pulls one's weights.",
    )
    models.set_defaults(run=_models)
    actions = models.add_subparsers(metavar="ACTION")
    pull = actions.add_parser("pull", help="keeps a model's weights in the cache")
    pull.add_argument("name", metavar="NAME")
    pull.set_defaults(run=_pull)


def _add_lowering(command: argparse.ArgumentParser) -> None:
    default = Lowering()
    group = command.add_argument_group("compilation (not with a saved Program)")
    group.add_argument(
        "--machine",
        default=default.machine,
        metavar="M",
        help=f"a name of `wsesim machines`, or a .toml file (default {DEFAULT_MACHINE})",
    )
    group.add_argument("--strategy", default=default.strategy, metavar="S", help="pipelined, shared or hybrid")
    group.add_argument(
        "--max-context",
        type=int,
        metavar="N",
        help="tokens of a sequence (default 8192, or the model's own limit)",
    )
    group.add_argument(
        "--sequences", type=int, default=default.sequences, metavar="N", help="sequences in the KV cache"
    )
    group.add_argument("--timing-dtype", default=default.timing_dtype, metavar="D", help="fp16, bf16, int8 or fp32")
    group.add_argument("--kv", default=default.kv, metavar="POLICY", help="interleaved")
    group.add_argument(
        "--collective",
        default=default.collective,
        metavar="C",
        help="auto, chain, star, tree, two_phase[:GROUPS], two_phase_end[:GROUPS], ring; each also as streamed_C",
    )
    group.add_argument("--order", default=default.order, metavar="O", help="of the blocks: serpentine or row_major")
    group.add_argument(
        "--block",
        type=_size,
        metavar="WxH",
        help="columns x rows of a layers' block (default: the compiler's choice)",
    )
    group.add_argument(
        "--layers-per-block", type=int, default=default.layers_per_block, metavar="N", help="with --strategy hybrid"
    )


def _size(text: str) -> tuple[int, int]:
    """190x128 as (190, 128)."""
    columns, _, rows = text.partition("x")
    if not (columns.isdecimal() and rows.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not WxH, columns x rows, as 190x128")
    return int(columns), int(rows)


def _lowering(options: argparse.Namespace) -> dict[str, Any]:
    words = (
        "machine",
        "strategy",
        "max_context",
        "sequences",
        "timing_dtype",
        "kv",
        "collective",
        "order",
        "layers_per_block",
        "block",
    )
    return {word: getattr(options, word) for word in words}


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _complete(options: argparse.Namespace) -> int:
    from wsesim.toolchain import check_request, open_session

    request = {
        "max_tokens": options.max_tokens,
        "temperature": options.temperature,
        "top_p": options.top_p,
        "seed": options.seed,
        "stop": tuple(options.stop),
    }
    check_request(options.prompt, **request)
    session = open_session(
        options.model,
        weights=options.weights,
        text_from=options.text_from,
        dtype=options.dtype,
        say=_say,
        progress=_Progress(),
        **_lowering(options),
    )
    if session.text_from:
        _say(f"text from {session.text_from}, times of {session.model}: token counts are {session.text_from}'s")
    if options.json:
        print(json.dumps(session.complete(options.prompt, **request).to_json()))
        return 0
    tokens = session.stream(options.prompt, **request)
    print(options.prompt, end="", flush=True)
    _print_answer(session, tokens)
    return 0


def _print_answer(session: Session, tokens: Iterator[Token | Completion]) -> None:
    from wsesim.report.completion import completion_text
    from wsesim.runtime.loop import Completion

    shown = 0
    for item in tokens:
        piece = item.text[shown:] if isinstance(item, Completion) else item.text
        shown += len(piece)
        print(piece, end="", flush=True)
        if isinstance(item, Completion):
            print("\n\n" + completion_text(item, session.program, session.text_from))


def _compile(options: argparse.Namespace) -> int:
    from wsesim.toolchain import compile_from, compile_model, is_saved_program

    _check_compile(options)
    lowering = Lowering(**_lowering(options))
    observe = _Observer(options.print_stage, options.stop_after)
    watched = {"observe": observe} if options.print_stage or options.stop_after else {}
    try:
        if options.start is not None:
            program = compile_from(options.start, lowering, **watched)
        else:
            model = DEFAULT_MODEL if options.model is None else options.model
            if watched and is_saved_program(model):
                raise InvalidInputError(f"{model} is a saved Program: its stages are behind it, print it as a file")
            program = compile_model(model, lowering, say=_say, **watched)
    except _StopCompiling:
        return 0
    if options.output is not None:
        _save(program, options.output)
    from wsesim.report.program import program_text

    print(program_text(program), file=sys.stderr if options.print_stage else sys.stdout)
    return 0


def _check_compile(options: argparse.Namespace) -> None:
    """What can be refused before the work begins."""
    for stage in (options.print_stage, options.stop_after):
        if stage is not None and stage not in STAGES:
            raise UnknownNameError("stage", stage, STAGES)
    if options.start is not None and options.model is not None:
        raise InvalidInputError(f"--from {options.start} takes the place of MODEL {options.model}: give one of them")
    if options.output is None:
        return
    if options.stop_after is not None:
        raise InvalidInputError("-o writes the Program, --stop-after ends before there is one: give one of them")
    if Path(options.output).is_dir() or not Path(options.output).parent.is_dir():
        raise InvalidInputError(f"-o {options.output}: a file in a folder that exists is needed")


def _save(program: Program, path: str) -> None:
    from wsesim.program.text import save_program

    try:
        save_program(program, path)
    except OSError as error:
        raise InvalidInputError(f"-o {path}: {error.strerror}") from None


class _StopCompiling(Exception):  # noqa: N818 - not an error
    """The stage that --stop-after names is done."""


class _Observer:
    """Prints the results of the stages that were asked for."""

    def __init__(self, print_stage: str | None, stop_after: str | None) -> None:
        self.print_stage = print_stage
        self.stop_after = stop_after

    def __call__(self, stage: str, value: Any) -> None:
        if stage in (self.print_stage, self.stop_after):
            print(value, end="")
        if stage == self.stop_after:
            raise _StopCompiling


def _simulate(options: argparse.Namespace) -> int:
    import time

    from wsesim.report.tables import report_text
    from wsesim.toolchain import compile_model, simulate, warm_up

    if options.phase not in PHASES:
        raise UnknownNameError("phase", options.phase, PHASES)
    program = compile_model(options.model, Lowering(**_lowering(options)), say=_say)
    jit_s = warm_up()
    began = time.perf_counter()
    report = simulate(program, phase=options.phase, context=options.context, tokens=options.tokens)
    wall_s = time.perf_counter() - began
    if options.json:
        print(json.dumps(report.to_json() | {"jit_wall_s": jit_s, "simulate_wall_s": wall_s}))
        return 0
    print(report_text(report))
    print(f"  simulated in {wall_s:.2f} s on this computer, and {jit_s:.2f} s of JIT compilation before")
    return 0


def _validate(options: argparse.Namespace) -> int:
    from wsesim.program.cache_dir import write_whole
    from wsesim.report.validation import validation_markdown, validation_text
    from wsesim.toolchain.cases import run_validation

    validation = run_validation(options.only)
    if options.markdown:
        write_whole(Path(options.markdown), validation_markdown(validation))
    print(json.dumps(validation.to_json()) if options.json else validation_text(validation))
    return 0 if validation.ok else 1


def _models(options: argparse.Namespace) -> int:
    del options
    from wsesim.report.tables import aligned
    from wsesim_models.cache import known

    rows = [("model", "parameters", "layers", "width", "context", "weights")]
    rows += [(m.name, f"{m.parameters:,}", str(m.layers), str(m.dim), f"{m.max_context:,}", m.weights) for m in known()]
    print(aligned(rows, indent=""))
    return 0


def _pull(options: argparse.Namespace) -> int:
    from wsesim_models.cache import pull

    print(pull(options.name, _Progress()))
    return 0


class _Progress:
    """One line that grows; where nobody watches, only its end."""

    def __init__(self) -> None:
        self._ended = False

    def __call__(self, done_bytes: int, total_bytes: int) -> None:
        if self._ended or not (sys.stderr.isatty() or done_bytes >= total_bytes):
            return
        self._ended = done_bytes >= total_bytes
        end = "\n" if self._ended else ""
        print(f"\r  {done_bytes / 1e6:6.1f} of {total_bytes / 1e6:.1f} MB", end=end, file=sys.stderr, flush=True)


def _machines(options: argparse.Namespace) -> int:
    del options
    from wsesim.machine import load_machine, machine_names
    from wsesim.report.tables import aligned, si_bytes

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


if __name__ == "__main__":
    sys.exit(main())
