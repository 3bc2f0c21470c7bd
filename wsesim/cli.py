"""The command line: `wsesim complete | compile | simulate | models | machines`. The same words as in Python.

A user's mistake is one line on standard error and exit status 2; Ctrl-C is exit status 130.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from wsesim import __version__
from wsesim.errors import UnknownNameError, WsesimError
from wsesim.toolchain import DEFAULT_MACHINE, DEFAULT_MODEL, PHASES, Lowering

if TYPE_CHECKING:
    from wsesim.runtime.loop import Completion, Token
    from wsesim.toolchain import Session

STAGES = (
    "graph",
    "canonicalize",
    "recognize",
    "partition",
    "place",
    "choose",
    "route",
    "plan_memory",
    "emit",
)
COMPILED_BY = "MODEL is a name of `wsesim models`, file.py:factory of a torch module, or a saved Program."


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except WsesimError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # the reader has gone; nothing is left to be said to it
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wsesim", description="Real model graphs, real text and modelled cycles on a simulated wafer."
    )
    parser.add_argument("--version", action="version", version=f"wsesim {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_complete(commands)
    _add_compile(commands)
    _add_simulate(commands)
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
    command.add_argument("--weights", metavar="PATH", help="safetensors file or folder, or GGUF, with its tokenizer")
    command.add_argument("--text-from", metavar="MODEL", help="times of --model, text and token counts of this one")
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
        "--context", type=int, default=512, metavar="N", help="tokens in the KV cache before a decode step"
    )
    command.add_argument("--tokens", type=int, default=128, metavar="N", help="tokens of a prefill")
    command.add_argument("--json", action="store_true")
    _add_lowering(command)
    command.set_defaults(run=_simulate)


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
    group.add_argument("--strategy", default=default.strategy, metavar="S", help="pipelined or shared")
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
    group.add_argument("--collective", default=default.collective, metavar="C", help="auto, chain or two_phase")
    group.add_argument("--order", default=default.order, metavar="O", help="of the blocks: serpentine or row_major")


def _lowering(options: argparse.Namespace) -> dict[str, Any]:
    words = ("machine", "strategy", "max_context", "sequences", "timing_dtype", "kv", "collective", "order")
    return {word: getattr(options, word) for word in words}


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _complete(options: argparse.Namespace) -> int:
    from wsesim.toolchain import open_session

    say = _say
    request = {
        "max_tokens": options.max_tokens,
        "temperature": options.temperature,
        "top_p": options.top_p,
        "seed": options.seed,
        "stop": tuple(options.stop),
    }
    _check_request(options.prompt, request)
    session = open_session(
        options.model,
        weights=options.weights,
        text_from=options.text_from,
        dtype=options.dtype,
        say=say,
        progress=_progress,
        **_lowering(options),
    )
    if session.text_from:
        say(f"text from {session.text_from}, times of {session.model}: token counts are {session.text_from}'s")
    if options.json:
        print(json.dumps(session.complete(options.prompt, **request).to_json()))
        return 0
    tokens = session.stream(options.prompt, **request)
    print(options.prompt, end="", flush=True)
    _print_answer(session, tokens)
    return 0


def _check_request(prompt: str, request: dict[str, Any]) -> None:
    """What can be refused before a model is loaded."""
    from wsesim.execute.sampling import SamplingOptions
    from wsesim.runtime.request import Request

    sampling = SamplingOptions(request["temperature"], request["top_p"], request["seed"] or 0)
    Request((0,) if prompt else (), sampling, request["max_tokens"], request["stop"]).limit(max_context=2)


def _print_answer(session: Session, tokens: Any) -> None:
    from wsesim.report.completion import completion_text

    shown = ""
    completion: Completion | Token | None = None
    for item in tokens:
        completion = item
        piece = item.text[len(shown) :] if hasattr(item, "times") else item.text
        shown += piece
        print(piece, end="", flush=True)
    print("\n")
    print(completion_text(completion, session.program, session.text_from))  # type: ignore[arg-type]


def _compile(options: argparse.Namespace) -> int:
    from wsesim.program.text import save_program
    from wsesim.toolchain import compile_from, compile_model

    for stage in (options.print_stage, options.stop_after):
        if stage is not None and stage not in STAGES:
            raise UnknownNameError("stage", stage, STAGES)
    lowering = Lowering(**_lowering(options))
    observe = _Observer(options.print_stage, options.stop_after)
    watched = {"observe": observe} if options.print_stage or options.stop_after else {}
    try:
        if options.start:
            program = compile_from(options.start, lowering, **watched)
        else:
            program = compile_model(options.model or DEFAULT_MODEL, lowering, say=_say, **watched)
    except _StopCompiling:
        return 0
    if options.output:
        save_program(program, options.output)
    from wsesim.report.program import program_text

    print(program_text(program), file=sys.stderr if options.print_stage else sys.stdout)
    return 0


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

    print(pull(options.name, _progress))
    return 0


def _progress(done_bytes: int, total_bytes: int) -> None:
    """One line that grows; where nobody watches, only its end."""
    if sys.stderr.isatty() or done_bytes >= total_bytes:
        end = "\n" if done_bytes >= total_bytes else ""
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
