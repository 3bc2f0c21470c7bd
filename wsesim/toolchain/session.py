"""A model on a simulated wafer, ready to continue prompts: open_session() and complete()."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wsesim.errors import InvalidInputError
from wsesim.machine import Machine
from wsesim.progress import working
from wsesim.software.software import Software
from wsesim.tables import Table, html_of, shortened, si_seconds, text_of
from wsesim.toolchain.compiling import Compilation, compiled, prepare
from wsesim.toolchain.model_source import Say, silent
from wsesim.toolchain.options import (
    DEFAULT_MACHINE,
    DEFAULT_MODEL,
    DEFAULT_SOFTWARE,
    Lowering,
    RequestOptions,
    TextOptions,
    TraceOptions,
    check_types,
    chosen,
    public,
)
from wsesim.toolchain.step_timing import make_steps, say_if_long
from wsesim.toolchain.text_source import TextSource, load_text, open_text, text_model
from wsesim.toolchain.tracing import check_trace, traced
from wsesim.toolchain.warm_up import say_if_compiling, warm_up

if TYPE_CHECKING:
    from wsesim.engine.steps.effort import Effort
    from wsesim.program import Program
    from wsesim.runtime.completion import Completion, Token
    from wsesim.runtime.request import GenerationOptions, Request
    from wsesim.runtime.token_loop import TokenLoop
    from wsesim_models.tokenizers import Tokenizer


@dataclass(frozen=True, slots=True)
class Answer:
    """A completion, and the model and Program that made it.

    `text_from` is the model that the text comes from; None if it is the model's own.
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
        """The answer as the Completions API returns it."""
        from wsesim.serve.reply import completion_reply

        return completion_reply(self.completion, self.model, self.fingerprint, self.text_from).to_json()


@dataclass(slots=True)
class Session:
    """A model on a simulated wafer, ready to continue prompts. Requests follow one another on its virtual clock."""

    model: str
    text_from: str | None
    fingerprint: str
    program: Program
    loop: TokenLoop
    tokenizer: Tokenizer
    text: TextSource
    say: Say = silent

    def __repr__(self) -> str:
        slots = f"{self.loop.slots} slots of {self.loop.max_context:,} tokens"
        return f"<Session of {self.model} on {self.program.machine.name}: {self._whose_text()}, {slots}>"

    def __str__(self) -> str:
        """The Program's table, where the text comes from, and the number of slots."""
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
        """The tokens as they come, then the Completion. `complete` explains the keywords."""
        return self.run(prompt, generation_options(chosen(RequestOptions, locals())))

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
            top_p: draw from the likeliest tokens whose probabilities sum up to it; above 0 to 1.
            seed: seed of the draws. None: 0, so that the same call gives the same text.
            stop: up to four texts that end the answer.
            arrival_s: when the request arrives, in seconds of virtual time. None: now.
        """
        return self.answer(prompt, generation_options(chosen(RequestOptions, locals())))

    def run(self, prompt: str, options: GenerationOptions) -> Iterator[Token | Completion]:
        """As `stream`, with the options as a value."""
        from wsesim.runtime.request import Request

        request = Request(tuple(self.tokenizer.encode(prompt)) if prompt else (), options)
        max_tokens, max_context = options.max_tokens, self.loop.max_context
        room = request.output_tokens(max_context)
        if max_tokens is not None and room < max_tokens:
            self.say(
                f"the answer ends after {room:,} tokens at the latest, not {max_tokens:,}: the context of "
                f"{max_context:,} tokens holds {len(request.prompt_ids):,} of the prompt"
            )
        tokens = len(request.prompt_ids)
        say_if_long(f"simulating the prompt's {tokens:,} tokens", self._prompt_effort(request), self.say)
        return self.loop.run(request)

    def _prompt_effort(self, request: Request) -> Effort:
        """The estimated time and memory to simulate the prompt; none if they cannot be estimated."""
        from wsesim.engine.steps.effort import Effort
        from wsesim.toolchain.kept_steps import KeptSteps

        steps = self.loop.cycles
        if not isinstance(steps, KeptSteps):
            return Effort()
        return steps.prefill_effort(len(request.prompt_ids), request.options.candidates)

    def answer(self, prompt: str, options: GenerationOptions) -> Answer:
        """As `complete`, with the options as a value."""
        from wsesim.runtime.completion import Completion

        with working("generating", options.max_tokens, "token") as work:
            for work.done, completion in enumerate(self.run(prompt, options)):  # noqa: B007
                pass
        assert isinstance(completion, Completion)
        return Answer(self.model, self.text_from, self.fingerprint, completion, self.program)


@public(RequestOptions, TextOptions, TraceOptions, Lowering)
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
    trace: str | None = None,
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
    timing_dtype: str = "fp16",
    kv: str = "interleaved",
    kv_dtype: str | None = None,
    softmax: str = "auto",
    collective: str = "auto",
    prefill_chunk: int | None = None,
    form: str | None = None,
    say: Say = silent,
) -> Answer:
    """Continues a prompt: text and modelled times.

    Args:
        prompt: text, not empty.
        model: as in `wsesim.compile`.
        max_tokens: most tokens to generate. None: up to the end of the text or of the context.
        temperature: 0 (greedy) to 1.5.
        top_p: draw from the likeliest tokens whose probabilities sum up to it; above 0 to 1.
        seed: seed of the draws. None: 0, so that the same call gives the same text.
        stop: up to four texts that end the answer.
        arrival_s: when the request arrives, in seconds of virtual time. None: at once.
        trace: a file for the timeline of the request and its steps, .pftrace or .json (docs/traces.md).
        weights, text_from, dtype: as in `wsesim.open_session`. The others: as in `wsesim.compile`.
        say: called with a line before long work.
    """
    values = locals()
    options = generation_options(chosen(RequestOptions, values))
    check_prompt(prompt)
    check_trace(trace)
    session = start_session(prepare(model, chosen(Lowering, values)), chosen(TextOptions, values), say=say)
    with traced(trace, [(session.program, session.loop)]):
        return session.answer(prompt, options)


@public(TextOptions, Lowering)
def open_session(
    model: str | Program = DEFAULT_MODEL,
    *,
    weights: str | None = None,
    text_from: str | None = None,
    dtype: str = "fp32",
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
    timing_dtype: str = "fp16",
    kv: str = "interleaved",
    kv_dtype: str | None = None,
    softmax: str = "auto",
    collective: str = "auto",
    prefill_chunk: int | None = None,
    form: str | None = None,
    say: Say = silent,
) -> Session:
    """A simulated wafer with `model` on it, which continues prompt after prompt.

    Wrong options and missing weights raise a WsesimError before anything is compiled.

    Args:
        model: as in `wsesim.compile`.
        weights: path of safetensors (file or folder) or GGUF, with a tokenizer, of the model that makes the text.
        text_from: a model whose text and token counts are taken; the times stay those of `model`.
        dtype: data type of the weights in arithmetic: "fp32", "bf16", "fp16" or "int8".
        machine, ..., collective: as in `wsesim.compile`.
        say: called with a line before long work.
    """
    values = locals()
    return start_session(prepare(model, chosen(Lowering, values)), chosen(TextOptions, values), say=say)


def start_session(
    prepared: Compilation | Program,
    text: TextOptions,
    *,
    lender: Session | None = None,
    say: Say = silent,
) -> Session:
    """The session of a prepared model. With a `lender`, both sessions share the lender's text source."""
    from wsesim.execute.pack import check_dtype
    from wsesim.runtime.token_loop import TokenLoop

    check_dtype(text.dtype)
    text_from = lender.model if lender else text.text_from
    loaded = None if lender else load_text(text_model(prepared, text_from), text.weights, say)
    program = compiled(prepared, say=say)
    say_if_compiling(say)
    source = lender.text if lender else None
    if loaded is not None:
        source = open_text(program, text_from, loaded, text.dtype, say)
    assert source is not None
    warm_up()
    context = min(program.max_context, source.program.max_context)
    steps = make_steps(program)
    loop = TokenLoop(program.machine, context, source.arithmetic, steps, source.tokenizer, program.sequences)
    stated = "\n".join((program.fingerprint(), source.fingerprint))
    fingerprint = hashlib.sha256(stated.encode()).hexdigest()[:20]
    return Session(program.model, text_from, fingerprint, program, loop, source.tokenizer, source, say)


def check_prompt(prompt: str) -> None:
    """Raises InvalidInputError for an empty prompt, before anything is compiled."""
    check_types({"prompt": prompt}, {"prompt": str})
    if not prompt:
        raise InvalidInputError("the prompt is empty; give at least one token of text")


def generation_options(options: RequestOptions) -> GenerationOptions:
    """The options for the token loop. Raises RequestError or SamplingRangeError."""
    from wsesim.execute.sampling import SamplingOptions
    from wsesim.runtime.request import GenerationOptions

    sampling = SamplingOptions(options.temperature, options.top_p, options.seed or 0)
    stop = options.stop
    stops = (stop,) if isinstance(stop, str) else tuple(stop or ())
    return GenerationOptions(sampling, options.max_tokens, stops, options.arrival_s)
