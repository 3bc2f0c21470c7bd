"""compare(): runs of models, Programs and saved reports beside the first of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsesim.errors import InvalidInputError, UnknownNameError, brief
from wsesim.files import open_file
from wsesim.machine import Machine, load_machine
from wsesim.software.software import Software
from wsesim.toolchain.compiling import compiled, prepare
from wsesim.toolchain.kept_reports import run_figures
from wsesim.toolchain.model_kinds import is_file, is_name, is_saved_program
from wsesim.toolchain.model_source import Say, silent
from wsesim.toolchain.options import (
    DEFAULT_MACHINE,
    DEFAULT_MODEL,
    DEFAULT_SOFTWARE,
    Lowering,
    StepOptions,
    check_values,
    chosen,
    options_in,
    public,
)
from wsesim.toolchain.simulating import check_step, objective_of

if TYPE_CHECKING:
    from wsesim.program import Program
    from wsesim.report.compare.comparison import Comparison
    from wsesim.report.compare.pairs import Side
    from wsesim.report.report import Report

STEP_CHANGES = ("context", "tokens")
"""Options of the step that sides may differ in."""
SETTING = "set."
"""Before the name of a machine's field: `set.fabric.hop_cycles`."""
_PLACES = ("placement", "strategy", "layers_per_block", "block", "order")
"""What places the blocks: a side that states one way of it does not have the first side's way."""


@public(StepOptions, Lowering)
def compare(
    first: str | Program | Report = DEFAULT_MODEL,
    *others: str | Program | Report | Mapping[str, Any],
    phase: str = "decode",
    context: int | None = None,
    tokens: int | None = None,
    machine: str | Machine = DEFAULT_MACHINE,
    software: str | Software = DEFAULT_SOFTWARE,
    strategy: str = "auto",
    layers_per_block: int | None = None,
    block: tuple[int, int] | None = None,
    order: str = "serpentine",
    placement: str | None = None,
    defects: str | None = None,
    rope_theta: float | None = None,
    max_context: int | None = None,
    sequences: int | None = None,
    batch: int = 1,
    timing_dtype: str = "fp16",
    kv: str = "interleaved",
    kv_dtype: str | None = None,
    softmax: str = "auto",
    collective: str = "auto",
    prefill_chunk: int | None = None,
    form: str | None = None,
    say: Say = silent,
) -> Comparison:
    """Each of `others` beside `first`: what differs in the inputs, and where the cycles of the critical path went.

        wsesim.compare("llama3.1-8b", {"strategy": "hybrid", "layers_per_block": 4}, {"placement": "best.toml"})

    In every table of the result the differences sum exactly to the difference of the cycles.

    Args:
        first: a model, as in `wsesim.compile`; a Program or a Report; or a file with one of the two.
        others: the same, or the options in which a side differs from `first`, by name. `context`, `tokens` and
            `model` may stand among them; "set.fabric.hop_cycles" changes a field of the machine.
        phase, context, tokens, batch: the step, as in `wsesim.simulate`. A Report has its own.
        machine, ..., form: as in `wsesim.compile`, of every side that is compiled.
        say: called with a line before long work.

    Raises InvalidInputError for one side only, for models that share no operator, and for a report of another schema.
    """
    values = locals()
    sides = [first, *others]
    return compare_sides(sides, chosen(StepOptions, values), chosen(Lowering, values), say=say)


def compare_sides(sides: Sequence[Any], step: StepOptions, lowering: Lowering, *, say: Say = silent) -> Comparison:
    """As `compare`, with the options as values. Every side is checked before the first one is simulated."""
    from wsesim.report.compare.comparison import compare_runs

    if len(sides) < 2:
        raise InvalidInputError(
            f"{_name(sides[0])} alone is nothing to compare; give another MODEL, or an option in which a second side "
            "differs, such as --with strategy=shared"
        )
    _check_options(sides, step, lowering)
    ready = [_prepared(side, sides, step, lowering) for side in sides]
    return compare_runs([make(_letter(number), say) for number, make in enumerate(ready)])


Make = Callable[[str, Say], "Side"]


def _prepared(side: Any, sides: Sequence[Any], step: StepOptions, lowering: Lowering) -> Make:
    """What makes the Side with a letter; everything that can be checked is."""
    match kind_of(side):
        case "options":
            return _compiled(_first_model(sides[0]), side, step, lowering)
        case "report":
            return _reported(side)
        case "program":
            any_compiled = any(kind_of(other) in ("options", "model") for other in sides)
            return _programmed(side, step, Lowering(batch=lowering.batch) if any_compiled else lowering)
        case _:
            return _compiled(side, {}, step, lowering)


def _compiled(model: str, changes: Mapping[str, Any], step: StepOptions, lowering: Lowering) -> Make:
    from wsesim.report.compare.pairs import Side

    check_changes(changes)
    if model.endswith(".toml") and is_file(Path(model)):
        raise InvalidInputError(f"{model} is no MODEL; a placement is given as --with placement={model}")
    own_step = dataclasses.replace(step, **{name: changes[name] for name in STEP_CHANGES if name in changes})
    own = changed_lowering(lowering, changes)
    check_step(own_step, own.batch)
    prepared = prepare(changes.get("model", model), own, objective_of(own_step))
    label = changes_text(changes) if changes else _base_label(model, lowering)

    def make(letter: str, say: Say) -> Side:
        program = compiled(prepared, say=say)
        return Side(letter, label, run_figures(program, own_step, own.batch, say), program)

    return make


def _programmed(model: str | Program, step: StepOptions, lowering: Lowering) -> Make:
    from wsesim.report.compare.pairs import Side

    check_step(step, lowering.batch)
    program = compiled(prepare(model, dataclasses.replace(lowering, batch=1)))
    label = model if isinstance(model, str) else f"{program.model}, {program.strategy}"
    return lambda letter, say: Side(letter, label, run_figures(program, step, lowering.batch, say), program)


def _reported(report: str | Report) -> Make:
    from wsesim.report.compare.pairs import Side
    from wsesim.report.compare.saved import read_run, run_of

    if isinstance(report, str):
        run, label = read_run(report), report
    else:
        run, label = run_of(report.to_json(), "the report"), f"{report.model}, {report.strategy}"
    return lambda letter, say: Side(letter, label, run)


def changed_lowering(base: Lowering, changes: Mapping[str, Any]) -> Lowering:
    """The options of a side. One that states a strategy or a placement has nothing of the base's way to place.

    A placement states its collectives too.
    """
    values = {f.name: getattr(base, f.name) for f in dataclasses.fields(Lowering)}
    decided = _PLACES if {"placement", "strategy"} & set(changes) else ()
    decided = (*decided, "collective") if "placement" in changes else decided
    values |= {name: getattr(Lowering(), name) for name in decided}
    values |= {name: value for name, value in changes.items() if name in values}
    settings = {name[len(SETTING) :]: value for name, value in changes.items() if name.startswith(SETTING)}
    if settings:
        machine = values["machine"]
        values["machine"] = (machine if isinstance(machine, Machine) else load_machine(machine)).with_(settings)
    return Lowering(**values)


def change_options() -> dict[str, Any]:
    """The options in which a side may differ from the first, by name."""
    step = options_in(StepOptions)
    return options_in(Lowering) | {name: step[name] for name in STEP_CHANGES}


def check_changes(changes: Mapping[str, Any]) -> None:
    """Raises UnknownNameError or InvalidInputError for a side's options."""
    known = change_options()
    for name in changes:
        if not isinstance(name, str) or not (name in known or name == "model" or name.startswith(SETTING)):
            hint = "set.FIELD changes a field of the machine"
            raise UnknownNameError("option", str(name), [*known, "model"], hint)
    if not isinstance(changes.get("model", ""), str):
        raise InvalidInputError(f"`model` is {brief(changes['model'])}, not of type str")
    check_values({name: value for name, value in changes.items() if name in known}, known)


def changes_text(changes: Mapping[str, Any]) -> str:
    """As --with states them: strategy=hybrid,layers_per_block=4."""
    return ",".join(f"{name}={_shown(value)}" for name, value in changes.items()) or "no change"


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    return value.name if isinstance(value, Machine | Software) else str(value)


def _base_label(model: str, lowering: Lowering) -> str:
    stated = {
        f.name: getattr(lowering, f.name)
        for f in dataclasses.fields(Lowering)
        if getattr(lowering, f.name) != f.default
    }
    return f"{model} {changes_text(stated)}" if stated else model


def _check_options(sides: Sequence[Any], step: StepOptions, lowering: Lowering) -> None:
    """Raises InvalidInputError for options that no side takes."""
    if all(kind_of(side) == "report" for side in sides) and (step, lowering) != (StepOptions(), Lowering()):
        raise InvalidInputError("saved reports have their step, machine and placement: give no options for them")


def _first_model(first: Any) -> str:
    """The model that options of another side belong to."""
    if isinstance(first, str) and kind_of(first) == "model":
        return first
    raise InvalidInputError(
        f"{_name(first)} cannot be compiled with other options; the first side has to be a model, or give two Programs "
        "or reports"
    )


def kind_of(side: object) -> str:
    """What a side is: "options", "program", "report" or "model". Raises InvalidInputError for anything else.

    A file is a report if its name ends in .json or it begins like JSON, unless it is a saved Program.
    """
    from wsesim.program import Program

    if isinstance(side, str):
        if is_name(side) or not (side.endswith(".json") or is_file(Path(side))):
            return "model"
        if is_saved_program(side):
            return "program"
        return "report" if side.endswith(".json") or _begins_like_json(side) else "model"
    if isinstance(side, Mapping):
        return "options"
    return "program" if isinstance(side, Program) else _kind_of_report(side)


def _kind_of_report(side: object) -> str:
    from wsesim.report.report import Report

    if not isinstance(side, Report):
        raise InvalidInputError(f"{brief(side)} is no side: give a model, a Program, a Report or a dict of options")
    return "report"


def _begins_like_json(path: str) -> bool:
    with open_file(path, "a model") as file:
        return file.read(64).lstrip().startswith(b"{")


def _name(side: Any) -> str:
    return side if isinstance(side, str) else brief(side)


def _letter(number: int) -> str:
    """A to Z, then A2 to Z2."""
    turn, letter = divmod(number, 26)
    return f"{chr(ord('A') + letter)}{turn + 1 if turn else ''}"
