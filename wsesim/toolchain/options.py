"""The table of options: each class is a group, each field an option with its type, its default and its help.

    Lowering        how a model is compiled: machine, strategy, ...
    StepOptions     which step is simulated: phase, context, ...
    TextOptions     where the text comes from: weights, text_from, dtype
    RequestOptions  how a prompt is continued: max_tokens, temperature, ...
    TraceOptions    where a trace is written

The command line makes its arguments from the table (`wsesim/cli/parser.py`): `max_context` is `--max-context`. The
Python calls have the same keywords; `tests/test_options.py` compares their signatures with the table.
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
from wsesim.software.software import Software

DEFAULT_MODEL = "smollm2-135m"
DEFAULT_MACHINE = "wse3"
DEFAULT_SOFTWARE = "wsesim"
DEFAULT_CONTEXT = 8192
PHASES = ("decode", "prefill")

# The stages that the lowering passes to its observer, in order.
STAGES = ("graph", "canonicalize", "recognize", "partition", "place", "choose", "route", "plan_memory", "emit")

P = ParamSpec("P")
R = TypeVar("R")
Group = TypeVar("Group")


@dataclass(frozen=True, slots=True)
class Option:
    """One option. `metavar` stands for its value in a usage line; it is "" for a switch."""

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

    machine: str | Machine = _option(DEFAULT_MACHINE, "MACHINE", "a name in `wsesim machines`, or a .toml file")
    software: str | Software = _option(
        DEFAULT_SOFTWARE, "SOFTWARE", "how the kernels are written: a name in `wsesim software`, or a .toml file"
    )
    strategy: str = _option(
        "auto",
        "STRATEGY",
        "auto (the best of a few placements for what the command does), pipelined (each layer has its own block of "
        "PEs), shared (all layers share one block) or hybrid (several layers share a block)",
    )
    layers_per_block: int | None = _option(None, "N", "layers that share a block, with strategy hybrid")
    block: tuple[int, int] | None = _option(
        None, "WxH", "size of a block of layers: columns x rows of PEs (default: the compiler chooses)"
    )
    order: str = _option("serpentine", "ORDER", "order of the blocks on the wafer: serpentine or row_major")
    placement: str | None = _option(
        None, "FILE", "place the blocks as this TOML file states; `wsesim compile --print place` prints such a file"
    )
    defects: str | None = _option(
        None, "FILE", "a TOML file of dead PEs, with the keys dead, dead_rows and dead_columns"
    )
    rope_theta: float | None = _option(None, "X", "base of RoPE, for an .onnx file whose weights file is missing")
    max_context: int | None = _option(
        None, "N", "most tokens of a sequence, prompt and answer together (default: 8192, or the model's limit)"
    )
    sequences: int | None = _option(
        None,
        "N",
        "sequences that the KV cache holds (default: 1; wsesim serve: as many as fit, up to 8; wsesim search for "
        "throughput: as many as the best placement needs)",
    )
    batch: int = _option(1, "N", "sequences whose tokens go through a decode step together")
    timing_dtype: str = _option(
        "fp16", "DTYPE", "data type of vector operations and messages: fp16, bf16, int8 or fp32"
    )
    kv: str = _option("interleaved", "POLICY", "where new entries of the KV cache go: interleaved, shift or concat")
    kv_dtype: str | None = _option(
        None, "DTYPE", "data type of the KV cache: fp16, bf16 or int8 (default: the timing data type)"
    )
    softmax: str = _option("auto", "FORM", "two_pass, fused with the weighted sum of the values, or auto: the faster")
    collective: str = _option(
        "auto",
        "NAME",
        "algorithm of the collectives: auto (for each kernel the fastest), chain, star, tree, two_phase[:GROUPS], "
        "two_phase_end[:GROUPS] or ring; as streamed_NAME it is streamed",
    )
    prefill_chunk: int | None = _option(
        None, "N", "tokens of a prompt that go through a block together (default: the compiler chooses)"
    )
    form: str | None = _option(
        None,
        "KERNEL=FORM",
        "write kernels in these forms of the software, by role or by name: swiglu=scalar_exp,layer0.o=one_product",
    )


@dataclass(frozen=True, slots=True)
class StepOptions:
    """Which step is simulated, and what else is reported about it."""

    phase: str = _option("decode", "PHASE", "decode (one token) or prefill (a prompt)")
    context: int | None = _option(
        None, "N", "tokens in the KV cache before the decode step (default: 512, or as many as fit)"
    )
    tokens: int | None = _option(None, "N", "tokens of the prompt in prefill (default: 128, or as many as fit)")
    in_flight: int = _option(
        1, "N", "decode steps of different sequences on the wafer at once; reports their steady state"
    )
    congestion: bool = _option(False, "", "simulate also with free links; reports what waiting for links costs")
    sensitivity: bool = _option(
        False, "", "simulate also with each constant of the machine 10 % higher; reports how the cycles change"
    )


@dataclass(frozen=True, slots=True)
class TextOptions:
    """Where the text comes from."""

    weights: str | None = _option(
        None, "PATH", "weights of the model that makes the text: safetensors (file or folder) or GGUF, with a tokenizer"
    )
    text_from: str | None = _option(
        None, "MODEL", "take the text and the token counts from this model; the times stay those of the simulated one"
    )
    dtype: str = _option("fp32", "DTYPE", "data type of the weights in arithmetic: fp32, bf16, fp16 or int8")


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """How a prompt is continued. Without a seed, seed 0 is taken: the same call gives the same text."""

    max_tokens: int | None = _option(100, "N", "most tokens to generate")
    temperature: float = _option(0.0, "T", "0 takes the likeliest token; higher values, up to 1.5, draw more freely")
    top_p: float = _option(1.0, "P", "draw from the likeliest tokens whose probabilities sum up to P, above 0 to 1")
    seed: int | None = _option(None, "N", "seed of the draws; the same seed gives the same text (default: 0)")
    stop: str | Sequence[str] | None = _option(
        None, "TEXT", "end the answer before this text; may be given up to four times"
    )
    arrival_s: float | None = _option(None, "S", "virtual time of arrival (default: now)", on_command_line=False)


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """What a placement is searched for, and for how long."""

    objective: str = _option(
        "latency",
        "OBJECTIVE",
        "latency (of a token), throughput (of all sequences), context (the longest that fits) or prompt (the time to "
        "the first token); or weights, as in latency=3,prompt=1",
    )
    slo: str | Sequence[str] | None = _option(
        None,
        "LIMIT",
        "a limit that the placement must keep: context>=N, tokens_per_second>=X, seconds_per_token<=X or "
        "prompt_seconds<=X; may be given several times",
    )
    context: int | None = _option(None, "N", "cached tokens of the decode step (default: 512, or as many as fit)")
    prompt_tokens: int | None = _option(None, "N", "tokens of the prompt (default: 128, or as many as fit)")
    budget: str = _option(
        "60s", "BUDGET", "seconds, as 60s, or a number of candidates, as 1000; 0 only measures the default"
    )
    seed: int = _option(0, "N", "seed of the random changes")
    jobs: int | None = _option(None, "N", "processes for the bound and the best candidates (default: one per core)")
    top: int = _option(5, "N", "placements to report, which differ")
    explain: bool = _option(False, "", "say what each step from the simplest placement to the best one bought")


@dataclass(frozen=True, slots=True)
class TraceOptions:
    """Where a trace is written."""

    trace: str | None = _option(
        None,
        "FILE",
        "write a timeline of the wafer to FILE, for ui.perfetto.dev: .pftrace (Perfetto; needs the extra `report`) or "
        ".json (Chrome's JSON)",
    )


GROUPS = (Lowering, StepOptions, TextOptions, RequestOptions, SearchOptions, TraceOptions)
SET_HELP = (
    "change a field of the machine, for example fabric.hop_cycles=1; may be given several times (docs/machines.md "
    "lists the fields)"
)
"""The help of `--set`, which every command with `--machine` has. In Python it is `Machine.with_`."""


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

    An unknown keyword raises UnknownKeywordError, which suggests the nearest one. A value of another type than the
    table states raises InvalidInputError. On a terminal, long work shows its progress (`wsesim.progress`).
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
    """Raises InvalidInputError for the first value of another type than its option's, and for an empty path."""
    check_types(values, {name: option.type for name, option in options.items()})
    for name, value in values.items():
        if value == "" and name in options and options[name].metavar in ("FILE", "PATH"):
            raise InvalidInputError(f"`{name}` is empty; give a path, or leave it out")


def check_types(values: Mapping[str, object], hints: Mapping[str, Any]) -> None:
    """Raises InvalidInputError for the first value of another type than `hints` state."""
    for name, value in values.items():
        if name in hints and not is_a(value, hints[name]):
            raise InvalidInputError(f"`{name}` is {brief(value)}, not of type {shown(hints[name])}")
