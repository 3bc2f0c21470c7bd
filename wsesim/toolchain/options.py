"""One table of options: each class is a group, each field an option with its type, its default and its help.

    Lowering      how a model is compiled: machine, strategy, ...
    StepOptions   which step is simulated: phase, context, ...
    TextOptions   what the text comes from: weights, text_from, dtype
    Request...    what a completion is asked for: max_tokens, temperature, ...

The command line makes its arguments from the table (`wsesim/cli/parser.py`): `max_context` is `--max-context`. The
Python calls have the same keywords; `tests/test_options.py` compares their signatures with the table. The cache of
Programs is keyed by the value of `Lowering`.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar, get_type_hints

from wsesim import progress
from wsesim.errors import InvalidInputError, UnknownKeywordError, brief
from wsesim.machine import Machine
from wsesim.machine.fields import is_a, shown

DEFAULT_MODEL = "smollm2-135m"
DEFAULT_MACHINE = "wse3"
DEFAULT_CONTEXT = 8192
PHASES = ("decode", "prefill")

# What the lowering passes to its observer, in order.
STAGES = ("graph", "canonicalize", "recognize", "partition", "place", "choose", "route", "plan_memory", "emit")

P = ParamSpec("P")
R = TypeVar("R")
Group = TypeVar("Group")


@dataclass(frozen=True, slots=True)
class Option:
    """One option. `metavar` is its value in a usage line, "" where the option is a switch."""

    name: str
    type: Any
    default: Any
    metavar: str
    help: str
    on_command_line: bool


def _option(default: Any, metavar: str, help: str, *, on_command_line: bool = True) -> Any:
    stated = {"metavar": metavar, "help": help, "on_command_line": on_command_line}
    return dataclasses.field(default=default, metadata=stated)


@dataclass(frozen=True, slots=True)
class Lowering:
    """How a model is compiled."""

    machine: str | Machine = _option(
        DEFAULT_MACHINE, "M", "a name of `wsesim machines`, or a .toml file; in Python also a Machine"
    )
    strategy: str = _option("pipelined", "S", "pipelined, shared or hybrid")
    layers_per_block: int | None = _option(None, "N", "layers that share a block, with strategy hybrid")
    block: tuple[int, int] | None = _option(
        None, "WxH", "columns x rows of a block of layers (default: the compiler's choice)"
    )
    order: str = _option("serpentine", "O", "order of the blocks: serpentine or row_major")
    placement: str | None = _option(
        None, "FILE", "a TOML that says what lies where, as `wsesim compile --print place` prints it"
    )
    defects: str | None = _option(None, "FILE", "a TOML of dead PEs: dead, dead_rows, dead_columns")
    rope_theta: float | None = _option(None, "X", "RoPE's base, for an .onnx file whose external data is absent")
    max_context: int | None = _option(None, "N", "tokens of a sequence (default: 8192, or the model's limit)")
    sequences: int | None = _option(
        None, "N", "sequences in the KV cache (default: 1; serving: as many as fit, up to 8)"
    )
    batch: int = _option(1, "N", "sequences whose tokens make a decode step together")
    timing_dtype: str = _option("fp16", "D", "dtype of vector operations and wavelets: fp16, bf16, int8 or fp32")
    kv: str = _option("interleaved", "POLICY", "where the KV cache lies: interleaved, shift or concat")
    kv_dtype: str | None = _option(None, "D", "dtype of the KV cache: fp16, bf16 or int8 (default: the timing dtype)")
    softmax: str = _option("two_pass", "S", "two_pass, or fused into the scan over the values")
    collective: str = _option(
        "auto",
        "C",
        "auto, chain, star, tree, two_phase[:GROUPS], two_phase_end[:GROUPS], ring; also as streamed_C",
    )


@dataclass(frozen=True, slots=True)
class StepOptions:
    """Which step is simulated, and what else is asked about it."""

    phase: str = _option("decode", "PHASE", " or ".join(PHASES))
    context: int | None = _option(None, "N", "tokens in the KV cache before a decode step (default: 512, if it fits)")
    tokens: int | None = _option(None, "N", "tokens of a prefill (default: 128, if it fits)")
    in_flight: int = _option(1, "N", "decode steps of other sequences in different blocks at once: the steady state")
    congestion: bool = _option(False, "", "simulate with free links too: what waiting for links costs")
    sensitivity: bool = _option(False, "", "simulate with each constant of the machine 10 % higher")


@dataclass(frozen=True, slots=True)
class TextOptions:
    """What the text comes from."""

    weights: str | None = _option(
        None, "PATH", "safetensors (file or folder) or GGUF with its tokenizer, of the model that the text is from"
    )
    text_from: str | None = _option(None, "MODEL", "text and token counts of this model, times of the other")
    dtype: str = _option("fp32", "D", "dtype of the weights in execution: fp32, bf16, fp16 or int8")


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """What a completion is asked for. Without a seed a draw takes seed 0: the same call gives the same text."""

    max_tokens: int | None = _option(100, "N", "most tokens to generate")
    temperature: float = _option(0.0, "T", "0 (greedy) to 1.5")
    top_p: float = _option(1.0, "P", "draw from the likeliest tokens of this mass, above 0 to 1")
    seed: int | None = _option(None, "N", "seed of the draws (default: 0)")
    stop: str | Sequence[str] | None = _option(None, "TEXT", "end the text here; up to four times")
    arrival_s: float | None = _option(None, "S", "virtual time of arrival (default: now)", on_command_line=False)


GROUPS = (Lowering, StepOptions, TextOptions, RequestOptions)
SET_HELP = "change a field of the machine, as fabric.hop_cycles=1; may be given several times (docs/machines.md)"
"""Of `--set`, which every command has that takes `--machine`. In Python it is `Machine.with_`."""


def options_in(*groups: type) -> dict[str, Option]:
    """The options of some groups, by name."""
    return {
        f.name: Option(f.name, get_type_hints(group)[f.name], f.default, **f.metadata)
        for group in groups
        for f in dataclasses.fields(group)
    }


def chosen(group: type[Group], values: Mapping[str, Any]) -> Group:
    """The options of a group among `values`, which may hold more, such as `locals()`."""
    names = [f.name for f in dataclasses.fields(group)]  # type: ignore[arg-type]
    return group(**{name: values[name] for name in names if name in values})


def public(*groups: type) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorates a public call whose keywords are the options of `groups`, among others.

    An unknown keyword raises UnknownKeywordError, which suggests the nearest; a value of another type than the table
    says raises InvalidInputError. What takes long is shown on a terminal (`wsesim.progress`).
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        accepted = list(inspect.signature(function).parameters)

        @functools.wraps(function)
        def call(*arguments: P.args, **keywords: P.kwargs) -> R:
            for name in keywords:
                if name not in accepted:
                    raise UnknownKeywordError(name, [known for known in accepted if known != "self"])
            check_values(keywords, options_in(*groups))
            with progress.shown():
                return function(*arguments, **keywords)

        call.__option_groups__ = groups  # type: ignore[attr-defined]
        return call

    return decorate


def check_values(values: Mapping[str, object], options: Mapping[str, Option]) -> None:
    """Raises InvalidInputError for the first value that is not of its option's type, or an empty path."""
    check_types(values, {name: option.type for name, option in options.items()})
    for name, value in values.items():
        if value == "" and name in options and options[name].metavar in ("FILE", "PATH"):
            raise InvalidInputError(f"`{name}` is empty; give a path, or leave it out")


def check_types(values: Mapping[str, object], hints: Mapping[str, Any]) -> None:
    """Raises InvalidInputError for the first value that is of another type than `hints` say."""
    for name, value in values.items():
        if name in hints and not is_a(value, hints[name]):
            raise InvalidInputError(f"`{name}` is {brief(value)}, not of type {shown(hints[name])}")
