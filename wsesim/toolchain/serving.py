"""Models -> the completions facade: clients in process, the user's own clients, and the HTTP server."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from wsesim.errors import DoesNotFitError
from wsesim.serve.api import Api
from wsesim.serve.client import AsyncClient as _AsyncClient
from wsesim.serve.client import Client as _Client
from wsesim.serve.deployment import Deployment
from wsesim.serve.limits import Limits
from wsesim.toolchain.compiling import Say, compile, silent
from wsesim.toolchain.running import Session, open_session
from wsesim.toolchain.words import DEFAULT_MODEL, check_types, is_saved_program

if TYPE_CHECKING:
    from starlette.applications import Starlette

BIG_MODEL = "llama3.1-8b"
MOST_SLOTS = 8
_NOT_COMPILED = ("weights", "text_from", "dtype", "progress")


def open_api(
    model: str | None = None,
    *,
    weights: str | None = None,
    text_from: str | None = None,
    limits: Limits | None = None,
    say: Say = silent,
    **options: Any,
) -> Api:
    """The facade's core over simulated wafers, one a model. Options: those of `open_session`.

    Without `model`: smollm2-135m, and llama3.1-8b with its text from smollm2-135m, from another model (`text_from`), or
    its own (`weights`). Without `sequences` a wafer has as many slots, up to 8, as the model leaves room for.
    """
    check_types(
        {"model": model, "weights": weights, "text_from": text_from},
        {"model": str | None, "weights": str | None, "text_from": str | None},
    )
    if model is not None:
        sessions = [open_slots(model, weights=weights, text_from=text_from, say=say, **options)]
    else:
        small = open_slots(DEFAULT_MODEL, say=say, **options)
        lent = small if weights is None and text_from is None else text_from
        sessions = [small, open_slots(BIG_MODEL, weights=weights, text_from=lent, say=say, **options)]
    for session in sessions:
        say(_served(session))
    return Api([deployment_of(session) for session in sessions], limits)


def open_slots(model: str, *, sequences: int | None = None, **options: Any) -> Session:
    """A session with `sequences` slots, or with as many as fit, up to MOST_SLOTS; a saved Program has its own."""
    if sequences is None and is_saved_program(model):
        return open_session(model, **options)
    if sequences is None:
        sequences = most_slots(model, **{word: value for word, value in options.items() if word not in _NOT_COMPILED})
    return open_session(model, sequences=sequences, **options)


def most_slots(model: str, **options: Any) -> int:
    """How many sequences the model leaves room for, at least 1 and up to MOST_SLOTS, by halving what is unknown."""
    fits, too_many = 0, MOST_SLOTS + 1
    tried = MOST_SLOTS
    while too_many - fits > 1:
        try:
            compile(model, sequences=tried, **options)
            fits = tried
        except DoesNotFitError:
            too_many = tried
        tried = (fits + too_many) // 2
    return max(fits, 1)


def deployment_of(session: Session) -> Deployment:
    return Deployment(
        session.model,
        session.text_from,
        session.fingerprint,
        session.engine,
        session.tokenizer,  # type: ignore[arg-type]
        created=int(time.time()),
    )


class Client(_Client):
    """`wsesim.Client(model=...)`: completions of the API's shape in process. Options: those of `open_api`."""

    def __init__(self, model: str | None = None, **options: Any) -> None:
        super().__init__(open_api(model, **options))


class AsyncClient(_AsyncClient):
    """`wsesim.AsyncClient(model=...)`: as Client, awaited. It compiles before it returns."""

    def __init__(self, model: str | None = None, **options: Any) -> None:
        super().__init__(open_api(model, **options))


def connect(
    client: type[Any] | None = None,
    *,
    client_options: dict[str, Any] | None = None,
    api: Api | None = None,
    **options: Any,
) -> Any:
    """The user's own client (default: cerebras.cloud.sdk.Cerebras; also AsyncCerebras, openai.OpenAI, AsyncOpenAI),
    bound to simulated wafers in process.

    client_options: the client's own. Options: those of `open_api`, whose result may be given as `api` instead. What is
    opened here ends when the client is closed or dropped; an `api` that was given does not.
    """
    from wsesim.serve.app import make_app
    from wsesim.serve.connect import bound
    from wsesim.serve.transport import Line

    served = api or open_api(**options)
    workers = list(served.workers.values())

    def check() -> None:
        for worker in workers:
            worker.check_process()

    line = Line(make_app(served), check, release=None if api else served.close)
    return bound(client, line, client_options or {})


def make_server_app(api: Api, keys: Sequence[str] = ()) -> Starlette:
    """The HTTP application over `api`."""
    from wsesim.serve.app import make_app

    return make_app(api, keys)


def _served(session: Session) -> str:
    slots = f"{session.engine.slots} slots of {session.engine.max_context:,} tokens"
    whose = f"its text and token counts are {session.text_from}'s" if session.text_from else "its own text"
    return f"{session.model} on {session.program.machine.name}: {whose}, {slots}"
