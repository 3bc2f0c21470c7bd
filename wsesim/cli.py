"""The command line: `wsesim complete | compile | simulate | validate | serve | models | machines`; Python's own words.

A user's mistake is one line on standard error and exit status 2; Ctrl-C is exit status 130.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from typing import Any

from wsesim import __version__, commands
from wsesim.errors import WsesimError
from wsesim.serve.limits import Limits
from wsesim.toolchain import DEFAULT_MACHINE, DEFAULT_MODEL, PHASES, STAGES, Lowering

LIMIT_HELP = {
    "queue": "requests that wait for a slot, beyond those that run",
    "body_bytes": "bytes of a body, unpacked",
    "body_s": "seconds for a body to arrive",
    "write_s": "seconds for a client to take 64 KiB of a reply, or all that waits for it",
    "requests_per_day": "requests of one key a day",
    "tokens_per_minute": "tokens of one key a minute",
}
COMPILED_BY = (
    "MODEL is a name of `wsesim models`, file.py:factory of a torch module, an .onnx or .pt2 file, or a saved Program."
)


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
    words = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_complete(words)
    _add_compile(words)
    _add_simulate(words)
    _add_validate(words)
    _add_serve(words)
    _add_models(words)
    machines = words.add_parser(
        "machines", help="the machines that are known", description="Lists the machine presets."
    )
    machines.set_defaults(run=commands.machines_command)
    return parser


def _add_complete(words: Any) -> None:
    command = words.add_parser(
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
    command.set_defaults(run=commands.complete_command)


def _add_compile(words: Any) -> None:
    command = words.add_parser("compile", help="a model to a Program", description=f"Compiles MODEL. {COMPILED_BY}")
    command.add_argument("model", metavar="MODEL", nargs="?")
    command.add_argument(
        "--print",
        dest="print_stage",
        metavar="STAGE",
        help=f"prints the result of a stage: {', '.join(STAGES)}",
    )
    command.add_argument("--stop-after", metavar="STAGE", help="stops there and prints that stage's result")
    command.add_argument("--from", dest="start", metavar="FILE", help="starts from a Graph's or Partition's text")
    command.add_argument("-o", "--output", metavar="FILE", help="writes the Program there")
    _add_lowering(command).add_argument(
        "--batch", type=int, default=1, metavar="N", help="tokens of a decode step that the buffers are for"
    )
    command.set_defaults(run=commands.compile_command)


def _add_simulate(words: Any) -> None:
    command = words.add_parser(
        "simulate", help="cycles of a step", description=f"Simulates one step of MODEL. {COMPILED_BY}"
    )
    command.add_argument("model", metavar="MODEL", nargs="?", default=DEFAULT_MODEL)
    command.add_argument("--phase", default="decode", metavar="PHASE", help=" or ".join(PHASES))
    command.add_argument(
        "--context", type=int, metavar="N", help="tokens in the KV cache before a decode step (default 512, if it fits)"
    )
    command.add_argument("--tokens", type=int, metavar="N", help="tokens of a prefill (default 128, if it fits)")
    command.add_argument(
        "--batch", type=int, default=1, metavar="N", help="sequences whose tokens make a decode step together"
    )
    command.add_argument(
        "--in-flight",
        type=int,
        default=1,
        metavar="N",
        help="decode steps of other sequences in different blocks at once: prints the steady state",
    )
    command.add_argument("--congestion", action="store_true", help="runs it with free links too: what waiting costs")
    command.add_argument(
        "--sensitivity", action="store_true", help="runs it with each of the machine's constants 10 %% higher"
    )
    command.add_argument("--json", action="store_true")
    _add_lowering(command)
    command.set_defaults(run=commands.simulate_command)


def _add_validate(words: Any) -> None:
    command = words.add_parser(
        "validate",
        help="published measurements beside modelled ones",
        description="Simulates published measurements, prints the errors; exit status 1 if a group leaves its band.",
    )
    command.add_argument("--only", metavar="GROUP", help="one group, by the name that stands before its table")
    command.add_argument("--json", action="store_true", help="one object with all rows instead of tables")
    command.add_argument("--markdown", metavar="FILE", help="writes the tables there as well")
    command.set_defaults(run=commands.validate_command)


def _add_serve(words: Any) -> None:
    default = Limits()
    command = words.add_parser(
        "serve",
        help="the Completions API over HTTP",
        description=f"Serves MODEL in the shape of the Cerebras Completions API, until SIGTERM. {COMPILED_BY}",
    )
    command.add_argument("--host", default="127.0.0.1", metavar="H", help="address to listen at (default 127.0.0.1)")
    command.add_argument("--port", type=int, default=8000, metavar="N", help="0 takes a free one (default 8000)")
    command.add_argument(
        "--model",
        metavar="MODEL",
        help="default: smollm2-135m, and llama3.1-8b with its text from it, or its own with --weights",
    )
    command.add_argument("--weights", metavar="PATH", help="the weights of the model that the text is from")
    command.add_argument("--text-from", metavar="MODEL", help="text and token counts of another model")
    command.add_argument("--dtype", default="fp32", metavar="D", help="of the weights: fp32, bf16, fp16 or int8")
    command.add_argument(
        "--api-key", action="append", default=[], metavar="KEY", help="may be given several times (default: any key)"
    )
    limits = command.add_argument_group("limits")
    for name, text in LIMIT_HELP.items():
        value = getattr(default, name)
        limits.add_argument(
            f"--{name.replace('_', '-')}",
            type=type(value),
            default=value,
            metavar="N",
            help=f"{text} (default {value})",
        )
    _add_lowering(command)
    command.set_defaults(run=commands.serve_command, sequences=None)


def _add_models(words: Any) -> None:
    models = words.add_parser(
        "models",
        help="the models that are known, and `models pull NAME`",
        description="Lists the models, or pulls one's weights.",
    )
    models.set_defaults(run=commands.models_command)
    actions = models.add_subparsers(metavar="ACTION")
    pull = actions.add_parser("pull", help="keeps a model's weights in the cache")
    pull.add_argument("name", metavar="NAME")
    pull.set_defaults(run=commands.pull_command)


def _add_lowering(command: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """The options of all that compile, as a group that can be added to."""
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
        "--sequences",
        type=int,
        default=default.sequences,
        metavar="N",
        help="sequences in the KV cache (default 1; serve: as many as fit, up to 8)",
    )
    group.add_argument("--timing-dtype", default=default.timing_dtype, metavar="D", help="fp16, bf16, int8 or fp32")
    group.add_argument("--kv", default=default.kv, metavar="POLICY", help="interleaved, shift or concat")
    group.add_argument(
        "--kv-dtype", metavar="D", help="of the KV cache: fp16, bf16 or int8 (default: the timing dtype)"
    )
    group.add_argument("--softmax", default=default.softmax, metavar="S", help="two_pass or fused (flash style)")
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
    group.add_argument(
        "--placement", metavar="FILE", help="a TOML that says what lies where, as `compile --print place` prints it"
    )
    group.add_argument("--defects", metavar="FILE", help="a TOML of dead PEs: dead, dead_rows, dead_columns")
    return group


def _size(text: str) -> tuple[int, int]:
    """190x128 as (190, 128)."""
    columns, _, rows = text.partition("x")
    if not (columns.isdecimal() and rows.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not WxH, columns x rows, as 190x128")
    return int(columns), int(rows)


if __name__ == "__main__":
    sys.exit(main())
