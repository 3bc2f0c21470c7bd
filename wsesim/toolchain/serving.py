"""The Completions API of simulated wafers: clients in process, the user's own clients, and the HTTP server."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from wsesim.errors import DoesNotFitError
from wsesim.machine import Machine
from wsesim.serve.access import Access
from wsesim.serve.api import Api
from wsesim.serve.client import ApiClient, AsyncApiClient
from wsesim.serve.deployment import Deployment
from wsesim.serve.limits import Limits
from wsesim.software.software import Software
from wsesim.toolchain.compiling import Compilation, prepare
from wsesim.toolchain.model_source import Say, silent
from wsesim.toolchain.options import (
    DEFAULT_MACHINE,
    DEFAULT_MODEL,
    DEFAULT_SOFTWARE,
    Lowering,
    TextOptions,
    TraceOptions,
    chosen,
    public,
)
from wsesim.toolchain.session import Session, start_session
from wsesim.toolchain.tracing import check_trace, traced

if TYPE_CHECKING:
    from starlette.applications import Starlette


BIG_MODEL = "llama3.1-8b"
MOST_SLOTS = 8


@public(TextOptions, TraceOptions, Lowering)
def open_api(
    model: str | None = None,
    *,
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
    limits: Limits | None = None,
    say: Say = silent,
) -> Api:
    """The Completions API over simulated wafers, one for each model.

    Args:
        model: as in `wsesim.compile`. None: two models, smollm2-135m and llama3.1-8b. The text of the second is its
            own with `weights`, or that of `text_from`, or that of smollm2-135m.
        weights, text_from, dtype: as in `wsesim.open_session`.
        trace: a file for the timeline of all requests, .pftrace or .json (docs/traces.md). It is there once the API
            is closed.
        sequences: slots of a wafer. None: as many as fit, up to 8.
        machine, ..., collective: as in `wsesim.compile`.
        limits: what one client may ask for.
        say: called with a line before long work.
    """
    values = locals()
    return start_api(model, chosen(TextOptions, values), chosen(Lowering, values), limits, say, trace)


def start_api(
    model: str | None,
    text: TextOptions,
    lowering: Lowering,
    limits: Limits | None = None,
    say: Say = silent,
    trace: str | None = None,
) -> Api:
    """As `open_api`, with the options as values."""
    check_trace(trace)

    def open_slots(name: str, source: TextOptions, lender: Session | None = None) -> Session:
        prepared = prepare(name, lowering, "throughput")
        if isinstance(prepared, Compilation) and lowering.sequences is None:
            prepared = with_slots(prepared)
        return start_session(prepared, source, lender=lender, say=say)

    if model is not None:
        sessions = [open_slots(model, text)]
    else:
        small = open_slots(DEFAULT_MODEL, TextOptions(dtype=text.dtype))
        lender = small if text.weights is None and text.text_from is None else None
        sessions = [small, open_slots(BIG_MODEL, text, lender)]
    for session in sessions:
        say(_served(session))
    deployments = [deployment_of(session) for session in sessions]
    writing = ExitStack()
    writing.enter_context(traced(trace, [(session.program, session.loop) for session in sessions], say=say))
    process = os.getpid()

    def finish() -> None:
        if os.getpid() == process:  # not in a fork
            writing.close()

    api = Api(deployments, limits, on_close=finish)
    weakref.finalize(api, finish)  # also when it is dropped, and at the end of the process
    return api


def with_slots(compilation: Compilation) -> Compilation:
    """The compilation with as many sequences as fit beside the model: at least one, at most MOST_SLOTS."""
    fits, too_many = 0, MOST_SLOTS + 1
    tried = MOST_SLOTS
    while too_many - fits > 1:
        try:
            compilation.with_sequences(tried).program()
            fits = tried
        except DoesNotFitError:
            too_many = tried
        tried = (fits + too_many) // 2
    return compilation.with_sequences(max(fits, 1))


def deployment_of(session: Session) -> Deployment:
    return Deployment(
        session.model,
        session.text_from,
        session.fingerprint,
        session.loop,
        session.tokenizer,
        created=int(time.time()),
    )


class Client(ApiClient):
    """`wsesim.Client(model=...)`: a client of the Completions API in process. Keywords: as in `open_api`."""

    @public(TextOptions, TraceOptions, Lowering)
    def __init__(
        self,
        model: str | None = None,
        *,
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
        limits: Limits | None = None,
        say: Say = silent,
    ) -> None:
        values = locals()
        super().__init__(start_api(model, chosen(TextOptions, values), chosen(Lowering, values), limits, say, trace))


class AsyncClient(AsyncApiClient):
    """`wsesim.AsyncClient(model=...)`: as Client, with calls to await. The constructor itself compiles and blocks."""

    @public(TextOptions, TraceOptions, Lowering)
    def __init__(
        self,
        model: str | None = None,
        *,
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
        limits: Limits | None = None,
        say: Say = silent,
    ) -> None:
        values = locals()
        super().__init__(start_api(model, chosen(TextOptions, values), chosen(Lowering, values), limits, say, trace))


@public(TextOptions, TraceOptions, Lowering)
def connect(
    client: type[Any] | None = None,
    *,
    client_options: dict[str, Any] | None = None,
    api: Api | None = None,
    model: str | None = None,
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
    limits: Limits | None = None,
    say: Say = silent,
) -> Any:
    """The user's own client, bound to simulated wafers in process.

    Wafers that are opened here end when the client is closed or dropped. An `api` that was given stays open.

    Args:
        client: its class. None: cerebras.cloud.sdk.Cerebras; also AsyncCerebras, openai.OpenAI and AsyncOpenAI.
        client_options: the client's own keywords.
        api: the result of `open_api`, instead of the keywords that follow.
        model, ..., say: as in `open_api`.
    """
    from wsesim.serve.app import make_app
    from wsesim.serve.connect import bound
    from wsesim.serve.transport import Line

    values = locals()
    served = api or start_api(model, chosen(TextOptions, values), chosen(Lowering, values), limits, say, trace)
    workers = list(served.workers.values())

    def check() -> None:
        for worker in workers:
            worker.check_process()

    line = Line(make_app(served), check, release=None if api else served.close)
    return bound(client, line, client_options or {})


def make_server_app(api: Api, keys: Sequence[str], access: Access) -> Starlette:
    """The HTTP application over `api`. It accepts `keys`, or any key if there are none. `access`: who may call."""
    from wsesim.serve.app import make_app

    return make_app(api, keys, access)


def _served(session: Session) -> str:
    slots = f"{session.loop.slots} slots of {session.loop.max_context:,} tokens"
    whose = f"its text and token counts are {session.text_from}'s" if session.text_from else "its own text"
    return f"{session.model} on {session.program.machine.name}: {whose}, {slots}"
