"""The words of the commands that compile: what MODEL and its options mean, and what can be refused at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsesim.errors import InvalidInputError

if TYPE_CHECKING:
    from wsesim.machine import Machine
    from wsesim_compiler.options import Options

DEFAULT_MODEL = "smollm2-135m"
DEFAULT_MACHINE = "wse3"
DEFAULT_CONTEXT = 8192

# What the lowering passes to its observer, in order.
STAGES = ("graph", "canonicalize", "recognize", "partition", "place", "choose", "route", "plan_memory", "emit")


@dataclass(frozen=True, slots=True)
class Lowering:
    """What the commands that compile have in common. `max_context` None is 8192, or the model's own if that is less."""

    machine: str = DEFAULT_MACHINE
    strategy: str = "pipelined"
    max_context: int | None = None
    sequences: int = 1
    timing_dtype: str = "fp16"
    kv: str = "interleaved"
    kv_dtype: str | None = None  # None: the timing dtype
    softmax: str = "two_pass"
    collective: str = "auto"
    order: str = "serpentine"
    layers_per_block: int = 1
    block: tuple[int, int] | None = None  # (columns, rows) of the layers' blocks; None lets the compiler choose
    batch: int = 1  # tokens, each of its own sequence, that a decode step may take through the blocks together
    placement: str | None = None  # TOML file that says where everything lies, instead of a strategy and its words
    defects: str | None = None  # TOML file of dead PEs, added to the machine's own


def check_types(words: Mapping[str, object], hints: Mapping[str, Any]) -> None:
    """Raises InvalidInputError for the first word whose value is of another type than `hints` say."""
    from wsesim.machine.fields import is_a, shown

    for name, value in words.items():
        if name in hints and not is_a(value, hints[name]):
            raise InvalidInputError(f"{name} is {value!r:.60}, not of type {shown(hints[name])}")


def lowering_of(**words: Any) -> Lowering:
    """The Lowering of a call's keywords. Raises InvalidInputError for one that is unknown or of another type."""
    from wsesim.machine.fields import build

    try:
        return build(Lowering, words)
    except ValueError as error:
        raise InvalidInputError(str(error)) from None


def check_words(model: str, lowering: Lowering) -> Machine:
    """The machine. Raises a WsesimError for all that is wrong with the words themselves, before anything is read."""
    from wsesim_models.config import config

    if not (is_name(model) or is_factory(model) or is_onnx(model) or is_exported(model)):
        _refuse_file(Path(model))
        config(model)  # raises, naming the models that are known
    machine = machine_of(lowering)
    options_of(model, lowering).check()
    return machine


def machine_of(lowering: Lowering) -> Machine:
    """The machine, with the dead PEs of --defects. Raises what is wrong with either file."""
    from wsesim.machine import load_machine, with_defects

    machine = load_machine(lowering.machine)
    return machine if lowering.defects is None else with_defects(machine, lowering.defects)


def options_of(model: str, lowering: Lowering) -> Options:
    """The compiler's options. Raises InvalidInputError for a context beyond the model's own, or a bad placement."""
    from wsesim_compiler.options import Options

    options = Options(
        strategy=lowering.strategy,
        max_context=_context(model, lowering.max_context),
        sequences=lowering.sequences,
        timing_dtype=lowering.timing_dtype,
        kv=lowering.kv,
        kv_dtype=lowering.kv_dtype,
        softmax=lowering.softmax,
        collective=lowering.collective,
        order=lowering.order,
        layers_per_block=lowering.layers_per_block,
        block=lowering.block,
        batch=lowering.batch,
    )
    return options if lowering.placement is None else _placed_by_file(lowering, lowering.placement, options)


def _placed_by_file(lowering: Lowering, path: str, options: Options) -> Options:
    from wsesim_compiler.placement_file import parse_placement

    for word in ("strategy", "collective", "order", "layers_per_block", "block"):
        if getattr(lowering, word) != getattr(Lowering(), word):
            raise InvalidInputError(
                f"--{word.replace('_', '-')} goes without --placement: {path} says it, or decides it"
            )
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path}: cannot be read as a placement: {error}") from None
    return parse_placement(text, path, options)


def is_name(model: str) -> bool:
    """Whether MODEL is in the table of `wsesim models`; a name goes before a file that is called the same."""
    from wsesim_models.config import CONFIGS

    return model in CONFIGS


def is_factory(model: str) -> bool:
    """Whether MODEL is written as file.py:factory."""
    return ":" in model


def is_onnx(model: str) -> bool:
    """Whether MODEL is written as an ONNX file."""
    return model.endswith(".onnx") and not is_name(model)


def is_exported(model: str) -> bool:
    """Whether MODEL is written as a file of torch.export.save."""
    return model.endswith(".pt2") and not is_name(model)


def is_saved_program(model: str) -> bool:
    """Whether MODEL is a file that begins as a Program's text does."""
    path = Path(model)
    if is_name(model) or not is_file(path):
        return False
    with path.open("rb") as file:
        return file.read(8) == b"program "


def is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that no file can have
        return False


def _refuse_file(path: Path) -> None:
    """Raises for a file that MODEL cannot be; what it should have been is said in the file's terms."""
    if path.suffix == ".py":
        raise InvalidInputError(f"{path}: which callable makes the torch module? Give {path}:factory")
    if is_file(path):
        raise InvalidInputError(f"{path} is not a saved Program: that begins with `program` and its version")


def _context(model: str, asked: int | None) -> int:
    from wsesim_models.config import CONFIGS

    own = CONFIGS[model].max_context if model in CONFIGS else None
    if asked is None:
        return min(DEFAULT_CONTEXT, own or DEFAULT_CONTEXT)
    if own is not None and asked > own:
        raise InvalidInputError(f"--max-context {asked}: {model} was made for {own} tokens")
    return asked
