"""The contents of a report's page as plain values: everything that the page shows, and nothing that it computes."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

import numpy as np

from wsesim.engine.observe.path import PathStep
from wsesim.engine.steps.timing import Step
from wsesim.machine.values import toml_value, values_of
from wsesim.program.program import Program
from wsesim.program.transfers import TURN
from wsesim.report.figures import KINDS
from wsesim.report.kernel_figures import kernel_figures
from wsesim.report.page.layers import wafer_layers
from wsesim.report.page.packed import packed
from wsesim.report.palette import KIND_COLOURS, ROLE_COLOURS, ROLE_NAMES, role_of
from wsesim.report.report import Report
from wsesim.report.stretches import operator_named, stretches

LIBRARIES = ("numpy", "numba")
DIRECTIONS = ("east", "west", "north", "south")


def page_contents(program: Program, step: Step, report: Report, command: str) -> dict[str, Any]:
    """What the page of `report`, the report of `step`, shows. `command` makes the page again.

    `report` in it is `Report.to_json()`. Arrays are packed (`wsesim.report.page.packed`).
    """
    return {
        "command": command,
        "versions": versions(),
        "report": report.to_json(),
        "kernels": [dataclasses.asdict(row) for row in kernel_figures(program, step, report.path)],
        "stretches": [dataclasses.asdict(one) for one in stretches(report.path)],
        **explorer_contents(program, step, report.path),
    }


def explorer_contents(program: Program, step: Step, path: Iterable[PathStep]) -> dict[str, Any]:
    """What an explorer of the wafer shows: every PE in `step`, and `path`, the critical path of the step."""
    return {
        "cycles": step.cycles,
        "kinds": list(KINDS),
        "colours": {"kinds": KIND_COLOURS, "roles": ROLE_COLOURS},
        "machine": _machine(program),
        "blocks": _blocks(program),
        "path": _path(path, _down_first(program)),
        "wafer": _wafer(program, step),
    }


def versions() -> dict[str, str]:
    """Of Python and of the libraries that decide figures."""
    return {"Python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}


def _machine(program: Program) -> dict[str, Any]:
    machine = program.machine
    listed = ("dead", "slow", "assumptions")
    return {
        "columns": machine.columns,
        "rows": machine.rows,
        "usable": dataclasses.asdict(machine.usable),
        "dead": toml_value(machine.dead),
        "slow": toml_value(machine.slow),
        "room_bytes": machine.room_bytes,
        "fields": {name: toml_value(value) for name, value in values_of(machine).items() if name not in listed},
        "assumptions": list(machine.assumptions),
    }


def _blocks(program: Program) -> list[dict[str, Any]]:
    """Each block with the SRAM of its fullest PE, which all of its PEs set aside."""
    memory = {m.block: dataclasses.asdict(m) for m in program.memory}
    return [
        dataclasses.asdict(block)
        | {key: count for key, count in memory[block.name].items() if key != "block"}
        | {"role": role_of(program, block), "role_name": ROLE_NAMES[role_of(program, block)]}
        | {"stages": [stage.name for stage in program.stages if stage.block == block.name]}
        for block in program.blocks
    ]


def _down_first(program: Program) -> dict[str, bool]:
    """Of each move: whether its messages go along a column first, then along a row."""
    moves = {}
    for t in program.transfers:
        along_rows = program.block(t.source).axis == "rows"
        moves[f"{t.source}->{t.target}"] = along_rows != (t.kind == TURN)
    return {**moves, "feedback": program.feedback.lane is None}


def _path(path: Iterable[PathStep], down_first: dict[str, bool]) -> dict[str, Any]:
    """The steps of the critical path as columns. Each begins when the one before it ends."""
    steps = tuple(path)
    stages = {name: number for number, name in enumerate(dict.fromkeys(s.segment for s in steps))}
    names = [operator_named(s.segment, s.label) for s in steps]
    operators = {name: number for number, name in enumerate(dict.fromkeys(names))}
    columns = {
        "kind": [KINDS.index(s.kind) for s in steps],
        "stage": [stages[s.segment] for s in steps],
        "operator": [operators[name] for name in names],
        "x": [s.pe[0] for s in steps],
        "y": [s.pe[1] for s in steps],
        "to_x": [s.to_pe[0] for s in steps],
        "to_y": [s.to_pe[1] for s in steps],
        "cycles": [s.cycles for s in steps],
    }
    return {
        "stages": list(stages),
        "operators": list(operators),
        "down_first": [down_first.get(name, False) for name in stages],
        "start_cycle": steps[0].start_cycle,
        "steps": {name: packed(np.array(values)) for name, values in columns.items()},
    }


def _wafer(program: Program, step: Step) -> dict[str, Any]:
    layers = wafer_layers(program, step)
    total = sum(layers.busy_cycles.values(), np.zeros(layers.route_set.shape, np.int64))
    return {
        "busy_cycles": packed(total),
        "operator_cycles": {name: packed(cycles) for name, cycles in layers.busy_cycles.items()},
        "wavelets": {name: packed(layers.wavelets[:, :, number]) for number, name in enumerate(DIRECTIONS)},
        "route_set": packed(layers.route_set),
        "route_sets": [list(numbers) for numbers in layers.route_sets],
        "streams": [dataclasses.asdict(stream) for stream in layers.streams],
    }
