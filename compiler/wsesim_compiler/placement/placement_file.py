"""The text of a placement: the TOML that an architect writes, and that `--print place` prints.

strategy = "explicit"     what the Program calls itself; decides nothing
prefill_chunk = 1         tokens of a prompt that go through a block together; left out: the compiler's choice
softmax = "auto"          two_pass, or fused with the weighted sum of the values; auto: the faster
collective = "auto"       of the kernels that are not named below
[blocks]                  where each block is, which way the residual stream is split over it, and what lives on it
layer0 = { x = 0, y = 1, columns = 2, rows = 3, axis = "rows", stages = ["layer0"] }
ffn0 = { ..., left_out_columns = [5], left_out_rows = [7] }     of the wafer, inside the block, for dead PEs on both
[collectives]             the algorithms of single kernels
"layer0.qkv" = "streamed_ring"
"layer0.o" = { decode = "chain", prefill = "ring" }
[forms]                   the forms of single kernels, by name or by role
swiglu = "scalar_exp"
"layer0.softmax" = { decode = "vector_exp", prefill = "sliced_exp" }
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
from collections.abc import Mapping
from typing import Any

from wsesim.errors import InvalidInputError, brief
from wsesim.files import parse_toml
from wsesim.machine.fields import build
from wsesim.program.parts import AXES, Block, wrongly_left_out
from wsesim_compiler.errors import PlacementFileError
from wsesim_compiler.options import AUTO, EXPLICIT, ByPhase, Options, PlacedBlock

FIELDS = ("strategy", "prefill_chunk", "softmax", "collective", "blocks", "collectives", "forms")
LEFT_OUT = ("left_out_columns", "left_out_rows")
BLOCK_FIELDS = ("x", "y", "columns", "rows", *LEFT_OUT, "axis", "stages")
_NAME = re.compile(r"[A-Za-z0-9_-]+")


def parse_placement(text: str, name: str, options: Options) -> Options:
    """`options` with what a placement's text states. Raises PlacementFileError, naming the file by `name`."""
    try:
        return _stated(parse_toml(text, f"placement {name}"), options)
    except InvalidInputError as error:
        raise PlacementFileError(str(error)) from None
    except ValueError as error:
        raise PlacementFileError(f"placement {name}: {error}") from None


def placement_text(options: Options, blocks: tuple[PlacedBlock, ...]) -> str:
    """The text that `parse_placement` reads back; the end of the last line is the caller's.

    What `options` leave to the compiler is left out.
    """
    lines = [f'strategy = "{options.strategy}"']
    lines += [f"prefill_chunk = {options.prefill_chunk}"] if options.prefill_chunk else []
    lines += [f'softmax = "{options.softmax}"'] if options.softmax != AUTO else []
    lines += [f'collective = "{options.collective}"'] if options.collective != AUTO else []
    lines += ["", "[blocks]", *map(_block_line, blocks)]
    for title, stated in (("collectives", options.collectives), ("forms", options.forms)):
        own = [f'"{kernel}" = {_phases_text(phases)}' for kernel, phases in stated]
        lines += ["", f"[{title}]", *own] if own else []
    return "\n".join(lines)


def _block_line(placed: PlacedBlock) -> str:
    b = placed.block
    place = f"x = {b.x}, y = {b.y}, columns = {b.columns}, rows = {b.rows}"
    left_out = "".join(f", {field} = {list(places)}" for field in LEFT_OUT if (places := getattr(b, field)))
    return f'{b.name} = {{ {place}{left_out}, axis = "{b.axis}", stages = {json.dumps(placed.stages)} }}'


def _phases_text(phases: ByPhase) -> str:
    if phases.differing:
        return f'{{ decode = "{phases.decode}", prefill = "{phases.prefill}" }}'
    return f'"{phases.decode}"'


def _phases(what: str, kernel: str, stated: object) -> ByPhase:
    """One choice for both phases, or one for each."""
    if isinstance(stated, dict):
        try:
            return build(ByPhase, stated)
        except ValueError as error:
            raise ValueError(f"{what} of {kernel}: {error}") from None
    choice = _text(f"the {what} of {kernel}", stated)
    return ByPhase(choice, choice)


def _stated(table: dict[str, Any], options: Options) -> Options:
    _check_fields(table, FIELDS)
    blocks = _table(table, "blocks")
    if not blocks:
        raise ValueError(
            'there is no block; one is name = { x = 0, y = 0, columns = 4, rows = 4, stages = ["layer0"] }'
        )
    chunk = table.get("prefill_chunk")
    if chunk is not None and (type(chunk) is not int or chunk < 1):
        raise ValueError(f"prefill_chunk is {brief(chunk)}; it is an integer of at least 1")
    collectives, forms = _table(table, "collectives"), _table(table, "forms")
    return dataclasses.replace(
        options,
        strategy=_text("strategy", table.get("strategy", EXPLICIT)),
        prefill_chunk=chunk,
        softmax=_text("softmax", table.get("softmax", options.softmax)),
        collective=_text("collective", table.get("collective", AUTO)),
        blocks=tuple(_block(block, fields) for block, fields in blocks.items()),
        collectives=tuple((k, _phases("collective", k, stated)) for k, stated in collectives.items()),
        forms=tuple((k, _phases("form", k, stated)) for k, stated in forms.items()) + options.forms,
    )


def _block(name: str, fields: object) -> PlacedBlock:
    if not _NAME.fullmatch(name):
        raise ValueError(f"block {brief(name)}: a name is of letters, digits, _ and -")
    if not isinstance(fields, dict):
        raise ValueError(f"block {name} is {brief(fields)}, not a table with x, y, columns, rows and stages")
    try:
        _check_fields(fields, BLOCK_FIELDS)
    except ValueError as error:
        raise ValueError(f"block {name}: {error}") from None
    where: Mapping[str, Any] = {
        "axis": AXES[0],
        **{k: v for k, v in fields.items() if k != "stages"},
        **{k: _places(name, k, fields[k]) for k in LEFT_OUT if k in fields},
    }
    stages = fields.get("stages")
    if not isinstance(stages, list) or not stages or not all(isinstance(stage, str) for stage in stages):
        raise ValueError(f"block {name}: stages is {brief(stages)}, not a list of names of stages")
    try:
        block = build(Block, {"name": name, **where})
    except ValueError as error:
        raise ValueError(f"block {name}: {error}") from None
    if min(block.columns, block.rows) < 1:
        raise ValueError(f"block {name} is {block.columns} x {block.rows} PEs; columns and rows are at least 1")
    if wrong := wrongly_left_out(block):
        raise ValueError(f"block {name} ({block.rect}) {wrong}")
    if block.axis not in AXES:
        raise ValueError(f"block {name}: axis is {brief(block.axis)}; it is one of {', '.join(AXES)}")
    return PlacedBlock(block, tuple(stages))


def _places(name: str, field: str, stated: object) -> tuple[int, ...]:
    """Columns or rows of the wafer, in ascending order."""
    if not isinstance(stated, list) or any(type(place) is not int for place in stated):
        raise ValueError(f"block {name}: {field} is {brief(stated)}, not a list of numbers")
    return tuple(sorted(stated))


def _check_fields(table: Mapping[str, Any], known: tuple[str, ...]) -> None:
    """Raises ValueError for the first field that is not known, with the nearest one."""
    for extra in sorted(set(table) - set(known)):
        nearest = difflib.get_close_matches(extra, known, n=1)
        meant = f" (did you mean {nearest[0]}?)" if nearest else ""
        raise ValueError(f"unknown field {brief(extra)}{meant}; known: {', '.join(known)}")


def _table(table: dict[str, Any], field: str) -> dict[str, Any]:
    found = table.get(field, {})
    if not isinstance(found, dict):
        raise ValueError(f"{field} is {brief(found)}, not a table")
    return found


def _text(field: str, value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{field} is {brief(value)}, not a text")
    return value
