"""Facades for tests: the tiny model on a wafer, behind clients in process or behind a socket."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from wsesim.runtime.token_loop import TokenLoop
from wsesim.serve.access import access_of
from wsesim.serve.api import Api
from wsesim.serve.app import make_app
from wsesim.serve.deployment import Deployment
from wsesim.serve.limits import Limits
from wsesim.serve.server import Server, listen
from wsesim.toolchain.serving import deployment_of
from wsesim.toolchain.session import Session, open_session
from wsesim_models.tokenizers import Tokenizer
from wsesim_models.tokenizers.chat import ChatTemplate

TEMPLATE = ChatTemplate(
    "{% for m in messages %}{% if m.role == 'assistant' and loop.first %}"
    "{{ raise_exception('the user speaks first') }}{% endif %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>",
    "",
    "",
)


@cache
def tiny_session(slots: int) -> Session:
    """The tiny model on a whole wafer; compiled once in a process."""
    return open_session("tiny", machine="wse3", sequences=slots, max_context=256)


def tiny_deployment(slots: int = 4, name: str = "tiny", arithmetic: Any = None, chat: bool = True) -> Deployment:
    """A wafer of its own with a virtual clock at 0."""
    session = tiny_session(slots)
    own = session.loop
    loop = TokenLoop(own.machine, own.max_context, arithmetic or own.arithmetic, own.cycles, own.tokenizer, slots)
    t = session.tokenizer
    tokenizer = Tokenizer(t.split, t.pieces, t.bos_id, t.eos_ids, t.add_bos, TEMPLATE if chat else None)
    session = dataclasses.replace(session, model=name, loop=loop, tokenizer=tokenizer)
    return deployment_of(session)


def tiny_api(slots: int = 4, arithmetic: Any = None, **limits: Any) -> Api:
    return Api([tiny_deployment(slots, arithmetic=arithmetic)], Limits(**limits))


class Gate:
    """Arithmetic that waits, before each pass, until it is let through; `passes` counts those that began."""

    def __init__(self, arithmetic: Any) -> None:
        self._arithmetic = arithmetic
        self._permits = threading.Semaphore(0)
        self.passes = 0

    def let(self, passes: int) -> None:
        for _ in range(passes):
            self._permits.release()

    def new_sequence(self) -> Any:
        return self._arithmetic.new_sequence()

    def fork(self, sequence: Any) -> Any:
        return self._arithmetic.fork(sequence)

    def step_each(self, sequences: Any, token_ids: Any, *, phase: str) -> Any:
        self.passes += 1
        assert self._permits.acquire(timeout=60), "nobody let this pass through"
        return self._arithmetic.step_each(sequences, token_ids, phase=phase)


@contextmanager
def served(
    api: Api, *, address: str = "127.0.0.1", hosts: Sequence[str] = (), origins: Sequence[str] = (), **options: Any
) -> Iterator[str]:
    """The base URL of a server on loopback that runs in a thread; it has ended when the block has.

    hosts, origins: what the user allows. `address`: what it would be bound to elsewhere.
    """
    bound = listen("127.0.0.1", 0)
    server = Server(make_app(api, access=access_of(address, hosts, origins), **options))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    try:
        yield "http://{}:{}".format(*bound.getsockname())
    finally:
        server.should_exit = True
        thread.join(timeout=60)
        assert not thread.is_alive()
