"""The parser: its arguments are the table of options in `wsesim/toolchain/options.py`, by command."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Collection, Sequence
from typing import Any, NoReturn, get_args

from wsesim.cli import commands
from wsesim.cli.messages import flag
from wsesim.errors import InvalidInputError, brief
from wsesim.machine import parse_setting
from wsesim.serve.limits import Limits
from wsesim.toolchain.options import (
    DEFAULT_MODEL,
    SET_HELP,
    STAGES,
    Lowering,
    Option,
    RequestOptions,
    StepOptions,
    TextOptions,
    options_in,
)
from wsesim.version import __version__

LIMIT_HELP = {
    "queue": "requests that wait for a slot, beyond those that run",
    "body_bytes": "bytes of a body, unpacked",
    "body_s": "seconds for a body to arrive",
    "write_s": "seconds for a client to take 64 KiB of a reply, or all that waits for it",
    "requests_per_day": "requests of one key a day",
    "tokens_per_minute": "tokens of one key a minute",
}
MODEL = (
    "MODEL is a name of `wsesim models`, file.py:factory of a torch module, an .onnx or .pt2 file, or a saved Program."
)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are InvalidInputErrors of one line, and which suggests the nearest option."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """The options of one command. Raises InvalidInputError."""
        parsed, unknown = self.parse_known_args(arguments)
        if unknown:
            nearest = difflib.get_close_matches(unknown[0], _options_of(self, arguments[0]), n=1)
            self.error(f"unknown argument {brief(unknown[0])}{f'; did you mean {nearest[0]}?' if nearest else ''}")
        return parsed

    def error(self, message: str) -> NoReturn:
        raise InvalidInputError(f"{message}; see {self.prog} --help")


def make_parser() -> Parser:
    """The parser of all commands; each sets `run`, a function of the parsed options."""
    parser = Parser(prog="wsesim", description="Real model graphs, real text and modelled cycles on a simulated wafer.")
    parser.add_argument("--version", action="version", version=f"wsesim {__version__}")
    words = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in (_add_complete, _add_compile, _add_simulate, _add_validate, _add_serve, _add_models, _add_machines):
        add(words)
    return parser


def _options_of(parser: Parser, command: str) -> list[str]:
    """How the options of a command are spelt."""
    commands = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return [option for action in commands for option in action.choices[command]._option_string_actions]


def _add_complete(words: Any) -> None:
    command = words.add_parser(
        "complete", help="text and modelled times", description=f"Completes PROMPT on a simulated wafer. {MODEL}"
    )
    command.add_argument("prompt", metavar="PROMPT")
    command.add_argument("--model", default=DEFAULT_MODEL, metavar="MODEL")
    _add_options(command, TextOptions, RequestOptions)
    command.add_argument("--json", action="store_true", help="one object in the shape of the API, nothing else")
    add_lowering(command, without=("batch",))
    command.set_defaults(run=commands.complete_command)


def _add_compile(words: Any) -> None:
    command = words.add_parser("compile", help="a model to a Program", description=f"Compiles MODEL. {MODEL}")
    command.add_argument("model", metavar="MODEL", nargs="?")
    command.add_argument(
        "--print", dest="print_stage", metavar="STAGE", help=f"prints the result of a stage: {', '.join(STAGES)}"
    )
    command.add_argument("--stop-after", metavar="STAGE", help="stops there and prints that stage's result")
    command.add_argument("--from", dest="start", metavar="FILE", help="starts from a Graph's or Partition's text")
    command.add_argument("-o", "--output", metavar="FILE", help="writes the Program there")
    add_lowering(command)
    command.set_defaults(run=commands.compile_command)


def _add_simulate(words: Any) -> None:
    command = words.add_parser("simulate", help="cycles of a step", description=f"Simulates one step of MODEL. {MODEL}")
    command.add_argument("model", metavar="MODEL", nargs="?", default=DEFAULT_MODEL)
    _add_options(command, StepOptions)
    command.add_argument("--json", action="store_true", help="one object; docs/report.md defines its fields")
    add_lowering(command)
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
        description=f"Serves MODEL in the shape of the Cerebras Completions API, until SIGTERM. {MODEL}",
    )
    command.add_argument("--host", default="127.0.0.1", metavar="H", help="address to listen at (default: 127.0.0.1)")
    command.add_argument("--port", type=_integer, default=8000, metavar="N", help="0 takes a free one (default: 8000)")
    command.add_argument(
        "--model",
        metavar="MODEL",
        help="default: smollm2-135m, and llama3.1-8b with its text from it, or its own with --weights",
    )
    _add_options(command, TextOptions)
    command.add_argument(
        "--api-key", action="append", default=[], metavar="KEY", help="may be given several times (default: any key)"
    )
    callers = command.add_argument_group("who may call (docs/completions.md)")
    callers.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="HOST",
        help="answer this Host too, a name or an address without a port, or *; may be given several times "
        "(default on loopback: localhost, *.localhost and loopback addresses; on another address: any)",
    )
    callers.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="let the web pages of this origin call, as https://ui.example, or * for any; may be given several times "
        "(default: none)",
    )
    limits = command.add_argument_group("limits")
    for name, text in LIMIT_HELP.items():
        value = getattr(default, name)
        parse = _integer if isinstance(value, int) else _number
        limits.add_argument(flag(name), type=parse, default=value, metavar="N", help=f"{text} (default: {value})")
    add_lowering(command, without=("batch",))
    command.set_defaults(run=commands.serve_command)


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


def _add_machines(words: Any) -> None:
    command = words.add_parser(
        "machines",
        help="the machines that are known, or one of them as TOML",
        description="Lists the machine presets, or prints a machine as the TOML that --machine reads.",
    )
    command.add_argument(
        "--print", dest="print_machine", metavar="M", help="prints this machine: a preset's name, or a .toml file"
    )
    _add_set(command)
    command.set_defaults(run=commands.machines_command)


def add_lowering(command: argparse.ArgumentParser, without: Collection[str] = ()) -> None:
    """The options of compilation, and --set; `without` those that the command decides itself."""
    group = command.add_argument_group("compilation (not with a saved Program)")
    _add_options(group, Lowering, without=without)
    _add_set(group)


def _add_set(command: argparse._ActionsContainer) -> None:
    command.add_argument(
        "--set", action="append", type=_setting, default=[], dest="settings", metavar="FIELD=VALUE", help=SET_HELP
    )


def _add_options(command: argparse._ActionsContainer, *groups: type, without: Collection[str] = ()) -> None:
    """The options of some groups of the table."""
    for option in options_in(*groups).values():
        if option.on_command_line and option.name not in without:
            _add_option(command, option)


def _add_option(command: argparse._ActionsContainer, option: Option) -> None:
    name = flag(option.name)
    text = option.help.replace("%", "%%")
    if not option.metavar:
        command.add_argument(name, action="store_true", help=text)
        return
    if option.default is not None:
        text += f" (default: {option.default})"
    several = "append" if option.name == "stop" else "store"
    command.add_argument(
        name, type=_parser_of(option), action=several, default=option.default, metavar=option.metavar, help=text
    )


def _parser_of(option: Option) -> Any:
    """What makes an option's value of a text."""
    kinds = get_args(option.type) or (option.type,)
    if option.metavar == "WxH":
        return _size
    return _integer if int in kinds else _number if float in kinds else str


def _integer(text: str) -> int:
    """Decimal digits with or without a sign."""
    if not re.fullmatch(r"[+-]?[0-9]{1,20}", text):
        raise argparse.ArgumentTypeError(f"{brief(text)} is not an integer")
    return int(text)


def _number(text: str) -> float:
    """A decimal number, as Python writes it but without underscores."""
    try:
        if "_" in text:
            raise ValueError
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{brief(text)} is not a number") from None


def _setting(text: str) -> tuple[str, Any]:
    """fabric.hop_cycles=1 as its field and value."""
    try:
        return parse_setting(text)
    except InvalidInputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _size(text: str) -> tuple[int, int]:
    """190x128 as (190, 128)."""
    columns, _, rows = text.partition("x")
    if not (re.fullmatch("[0-9]{1,9}", columns) and re.fullmatch("[0-9]{1,9}", rows)):
        raise argparse.ArgumentTypeError(f"{brief(text)} is not WxH, columns x rows, as 190x128")
    return int(columns), int(rows)
