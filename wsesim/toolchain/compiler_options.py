"""From the options of `Lowering` to a Machine and the compiler's Options, both checked."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from wsesim.errors import InvalidInputError, brief
from wsesim.files import read_text
from wsesim.machine import Machine
from wsesim.software import Software, load_software
from wsesim.toolchain.model_kinds import is_onnx
from wsesim.toolchain.options import DEFAULT_CONTEXT, Lowering

if TYPE_CHECKING:
    from wsesim_compiler.options import ByPhase, Options

_BY_PLACEMENT = ("strategy", "collective", "order", "layers_per_block", "block")
"""Options that cannot be given with a placement file, because the file states them."""


def machine_of(lowering: Lowering) -> Machine:
    """The machine, with the dead PEs of `defects`. Raises a WsesimError for a wrong file or a wrong number."""
    from wsesim.machine import load_machine, with_defects
    from wsesim.machine.rules import check_machine

    machine = lowering.machine if isinstance(lowering.machine, Machine) else load_machine(lowering.machine)
    check_machine(machine)
    return machine if lowering.defects is None else with_defects(machine, lowering.defects)


def options_of(model: str, lowering: Lowering, objective: str = "latency") -> Options:
    """The compiler's options, checked. Strategy auto places for `objective`.

    Raises InvalidInputError or UnknownNameError.
    """
    if lowering.rope_theta is not None and not is_onnx(model):
        raise InvalidInputError("`rope_theta` is for an .onnx file without its external data")
    if lowering.rope_theta is not None and not 0 < lowering.rope_theta < math.inf:
        raise InvalidInputError(f"`rope_theta` is {lowering.rope_theta}; it is a number above 0")
    from wsesim_compiler.options import Options

    software = lowering.software
    decided = {
        "objective": objective if lowering.strategy == "auto" else "latency",
        "forms": _forms(lowering.form),
        "software": software if isinstance(software, Software) else load_software(software),
        "max_context": _context(model, lowering.max_context),
        "sequences": 1 if lowering.sequences is None else lowering.sequences,
        "layers_per_block": _layers_per_block(model, lowering),
    }
    same = {f.name for f in dataclasses.fields(Options)} & {f.name for f in dataclasses.fields(Lowering)}
    options = Options(**{name: getattr(lowering, name) for name in same} | decided)
    if lowering.placement is not None:
        options = _placed_by_file(lowering, lowering.placement, options)
    options.check()
    return options


def _forms(stated: str | None) -> tuple[tuple[str, ByPhase], ...]:
    """Kernel and form of each entry of `swiglu=scalar_exp,layer0.o=one_product`."""
    from wsesim_compiler.options import ByPhase

    pairs = []
    for entry in stated.split(",") if stated is not None else ():
        kernel, equals, form = (part.strip() for part in entry.partition("="))
        if not (kernel and equals and form):
            raise InvalidInputError(f"`form` has {brief(entry)}; write KERNEL=FORM, as in swiglu=vector_exp")
        pairs.append((kernel, ByPhase(form, form)))
    return tuple(pairs)


def _layers_per_block(model: str, lowering: Lowering) -> int:
    if lowering.layers_per_block is not None:
        return lowering.layers_per_block
    if lowering.strategy == "hybrid":
        from wsesim_models.config import CONFIGS

        layers = CONFIGS[model].layers if model in CONFIGS else None
        choices = [n for n in range(2, layers) if layers % n == 0] if layers else [2, 4, 8]
        whose = f"for the {layers} layers of {model}" if layers else "as many as divide the model's layers"
        listed = ", ".join(map(str, choices))
        raise InvalidInputError(f"`strategy='hybrid'` needs `layers_per_block`: {listed} ({whose})")
    return 1


def _placed_by_file(lowering: Lowering, path: str, options: Options) -> Options:
    from wsesim_compiler.placement.placement_file import parse_placement

    for name in _BY_PLACEMENT:
        if getattr(lowering, name) != getattr(Lowering(), name):
            raise InvalidInputError(f"`{name}` and `placement` exclude each other: {path} states it")
    open_still = dataclasses.replace(options, prefill_chunk=None, softmax="auto")
    placed = parse_placement(read_text(path, "a placement"), path, open_still)
    for name in ("prefill_chunk", "softmax"):
        asked = getattr(lowering, name)
        if asked == getattr(Lowering(), name):
            continue
        if getattr(placed, name) != getattr(open_still, name):
            raise InvalidInputError(f"`{name}` and `placement` exclude each other: {path} states it")
        placed = dataclasses.replace(placed, **{name: asked})
    return placed


def _context(model: str, asked: int | None) -> int:
    from wsesim_models.config import CONFIGS

    own = CONFIGS[model].max_context if model in CONFIGS else None
    if asked is None:
        return min(DEFAULT_CONTEXT, own or DEFAULT_CONTEXT)
    if own is not None and asked > own:
        raise InvalidInputError(f"`max_context={asked}`: {model} was made for {own} tokens")
    return asked
