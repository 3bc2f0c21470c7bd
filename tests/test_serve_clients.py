"""Clients in process that stop early: cancelled, dropped, closed in use, timed out, forked."""

from __future__ import annotations

import asyncio
import gc
import os
import select
import signal
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import cerebras.cloud.sdk as cerebras
import openai
import pytest

import wsesim
from tests.serving import Gate, tiny_api, tiny_session
from wsesim.errors import InvalidInputError
from wsesim.serve.api import Api
from wsesim.serve.client import ApiClient, AsyncApiClient
from wsesim.serve.errors import ApiError
from wsesim.toolchain import serving

LONG = 200  # tokens: more passes than any test lets through
TIMEOUTS = (openai.APITimeoutError, cerebras.APITimeoutError)
CONNECTIONS = (openai.APIConnectionError, cerebras.APIConnectionError)


class Wafer:
    """A wafer with one slot behind a gate."""

    def __init__(self) -> None:
        self.gate = Gate(tiny_session(1).loop.arithmetic)
        self.api = tiny_api(slots=1, arithmetic=self.gate)

    @property
    def open(self) -> int:
        return self.api.workers["tiny"].open

    def freed(self) -> bool:
        """Whether the slot becomes free within some passes, fewer than the text needs."""

        def free() -> bool:
            if not self.open:
                return True
            gc.collect()  # the clients' streams are cycles of generators, which are collected one after the other
            self.gate.let(1)
            return False

        return until(free, tries=100)

    def close(self) -> None:
        self.gate.let(10 * LONG)
        self.api.close()


@pytest.fixture
def wafer() -> Iterator[Wafer]:
    made = Wafer()
    yield made
    made.close()


def until(true: Callable[[], Any], tries: int = 1000) -> bool:
    for _ in range(tries):
        if true():
            return True
        time.sleep(0.02)
    return False


def ask(client: Any, **options: Any) -> Any:
    return client.completions.create(**{"model": "tiny", "prompt": "ab", "max_tokens": LONG, "seed": 0} | options)


def connected(cls: type[Any]) -> Callable[..., Any]:
    def connect(api: Api, **options: Any) -> Any:
        return wsesim.connect(cls, api=api, client_options={"max_retries": 0, **options})

    return connect


SDKS = [connected(cerebras.Cerebras), connected(openai.OpenAI)]
ASYNC_SDKS = [connected(cerebras.AsyncCerebras), connected(openai.AsyncOpenAI)]
each = pytest.mark.parametrize("make", [ApiClient, *SDKS], ids=["ours", "cerebras", "openai"])
each_async = pytest.mark.parametrize("make", [AsyncApiClient, *ASYNC_SDKS], ids=["ours", "cerebras", "openai"])
each_sdk = pytest.mark.parametrize("make", SDKS, ids=["cerebras", "openai"])
each_async_sdk = pytest.mark.parametrize("make", ASYNC_SDKS, ids=["cerebras", "openai"])


def started(call: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """A thread that makes the call, and where its result or exception will be."""
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(call())
        except Exception as error:
            results.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, results


def ended(thread: threading.Thread, results: list[Any]) -> Any:
    thread.join(timeout=20)
    assert not thread.is_alive(), "it hangs"
    return results[0]


# Cancelled and dropped


@each_async
def test_a_call_whose_task_is_cancelled_frees_its_slot(wafer: Wafer, make: Callable[..., Any]) -> None:
    async def scenario() -> None:
        client = make(wafer.api)
        call = asyncio.ensure_future(ask(client))
        assert await asyncio.to_thread(until, lambda: wafer.gate.passes)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await asyncio.to_thread(wafer.freed)
        await asyncio.wait_for(ask_a_little(client, wafer), 20)

    asyncio.run(scenario())


async def ask_a_little(client: Any, wafer: Wafer) -> None:
    wafer.gate.let(10)
    assert (await ask(client, max_tokens=2)).usage.completion_tokens == 2


@each_async
def test_a_call_that_takes_too_long_for_wait_for_frees_its_slot(wafer: Wafer, make: Callable[..., Any]) -> None:
    async def scenario() -> None:
        client = make(wafer.api)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ask(client), 0.3)
        assert await asyncio.to_thread(wafer.freed)

    asyncio.run(scenario())


@pytest.mark.parametrize("read", [0, 3])
@each_async
def test_a_stream_of_a_loop_that_is_dropped_frees_its_slot(wafer: Wafer, make: Callable[..., Any], read: int) -> None:
    async def scenario() -> None:
        client = make(wafer.api)
        stream = await ask(client, stream=True)
        wafer.gate.let(5)
        for _ in range(read):
            async for _ in stream:
                break
        del stream
        assert await asyncio.to_thread(wafer.freed)

    asyncio.run(scenario())


@each_async
def test_a_stream_frees_its_slot_when_its_loop_was_closed(wafer: Wafer, make: Callable[..., Any]) -> None:
    client = make(wafer.api)
    stream = asyncio.run(ask(client, stream=True))
    assert wafer.freed()
    del stream


@pytest.mark.parametrize("read", [0, 3])
@each
def test_a_stream_that_is_dropped_frees_its_slot(wafer: Wafer, make: Callable[..., Any], read: int) -> None:
    client = make(wafer.api)
    stream = ask(client, stream=True)
    wafer.gate.let(5)
    for _ in range(read):
        assert next(stream).choices
    del stream
    assert wafer.freed()


@each
def test_an_interrupted_call_frees_its_slot(wafer: Wafer, make: Callable[..., Any]) -> None:
    def interrupt() -> None:
        assert until(lambda: wafer.gate.passes)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    client = make(wafer.api)
    thread, results = started(interrupt)
    with pytest.raises(KeyboardInterrupt):
        ask(client)
    assert ended(thread, results) is None
    assert wafer.freed()


# Closed in use


@each_sdk
def test_who_waits_for_a_client_that_is_closed_gets_its_error(wafer: Wafer, make: Callable[..., Any]) -> None:
    client = make(wafer.api)
    stream = ask(client, stream=True)
    reading, whole = started(lambda: list(stream)), started(lambda: ask(client))
    assert until(lambda: wafer.open == 2)
    client.close()
    for one in (reading, whole):
        error = ended(*one)
        assert isinstance(error, CONNECTIONS) or type(error).__name__ == "ReadError"
    assert wafer.freed()


@each_async_sdk
def test_a_task_that_waits_for_a_closed_client_gets_its_error(wafer: Wafer, make: Callable[..., Any]) -> None:
    async def scenario() -> None:
        client = make(wafer.api)
        call = asyncio.ensure_future(ask(client))
        assert await asyncio.to_thread(until, lambda: wafer.open == 1)
        await client.close()
        with pytest.raises(CONNECTIONS):
            await asyncio.wait_for(call, 20)
        assert await asyncio.to_thread(wafer.freed)

    asyncio.run(scenario())


def test_a_stream_that_another_thread_closes_ends_quietly(wafer: Wafer) -> None:
    stream = ask(ApiClient(wafer.api), stream=True)
    reading = started(lambda: list(stream))
    assert until(lambda: wafer.gate.passes)
    stream.close()
    assert len(ended(*reading)) == 1
    assert wafer.freed()


def test_a_closed_stream_yields_nothing_more(wafer: Wafer) -> None:
    stream = ask(ApiClient(wafer.api), stream=True)
    stream.close()
    assert list(stream) == []


def test_a_closed_stream_of_a_loop_yields_nothing_more(wafer: Wafer) -> None:
    async def scenario() -> None:
        stream = await ask(AsyncApiClient(wafer.api), stream=True)
        await anext(stream)
        reading = asyncio.ensure_future(anext(stream, None))
        await asyncio.sleep(0)
        await stream.aclose()
        assert await asyncio.wait_for(reading, 20) is None
        assert [chunk async for chunk in stream] == []

    asyncio.run(scenario())


def test_threads_that_share_a_stream_all_come_to_its_end() -> None:
    with ApiClient(tiny_api()) as client:
        stream = ask(client, stream=True, max_tokens=20)
        parts = [ended(*one) for one in [started(lambda: list(stream)) for _ in range(3)]]
    assert sum(map(len, parts)) == 1 + 20 + 1


def test_a_client_that_is_closed_lets_a_stream_come_to_its_end(wafer: Wafer) -> None:
    async def scenario() -> None:
        client = AsyncApiClient(wafer.api)
        stream = await ask(client, stream=True, max_tokens=20)
        closing = asyncio.ensure_future(client.close())
        assert await asyncio.to_thread(until, lambda: wafer.api.workers["tiny"]._closing)
        with pytest.raises(ApiError, match="shutting down"):
            await ask(client)
        assert not closing.done()
        wafer.gate.let(LONG)
        chunks = [chunk async for chunk in stream]
        assert chunks[-1].usage.completion_tokens == 20
        await asyncio.wait_for(closing, 20)

    asyncio.run(scenario())


# What clients hold


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@each_sdk
def test_clients_share_one_thread(make: Callable[..., Any]) -> None:
    api = tiny_api()
    ask(make(api), max_tokens=1)
    gc.collect()
    before = descriptors()
    clients = [make(api) for _ in range(20)]
    for client in clients:
        assert ask(client, max_tokens=1).usage.completion_tokens == 1
    assert len([thread for thread in threading.enumerate() if thread.name == "wsesim-transport"]) == 1
    assert descriptors() <= before + 2
    api.close()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[Api]]:
    """The Apis that connect() opens."""
    found: list[weakref.ref[Api]] = []

    def start_api(*arguments: Any, **options: Any) -> Api:
        api = tiny_api()
        found.append(weakref.ref(api))
        return api

    monkeypatch.setattr(serving, "start_api", start_api)
    return found


def gone(api: weakref.ref[Api], threads: set[threading.Thread]) -> bool:
    def nothing_left() -> bool:
        gc.collect()
        mine = [one for one in set(threading.enumerate()) - threads if one.name == "wsesim-tiny"]
        return not mine and api() is None

    return until(nothing_left, tries=100)


def test_a_closed_client_keeps_nothing_of_the_wafer_that_it_opened(opened: list[weakref.ref[Api]]) -> None:
    before = set(threading.enumerate())
    client = wsesim.connect(openai.OpenAI, model="tiny")
    ask(client, max_tokens=1)
    client.close()
    assert gone(opened[0], before)
    client.close()


def test_a_closed_client_of_a_loop_keeps_nothing_either(opened: list[weakref.ref[Api]]) -> None:
    async def scenario() -> Any:
        async with wsesim.connect(openai.AsyncOpenAI, model="tiny") as client:
            await ask(client, max_tokens=1)
        return client

    before = set(threading.enumerate())
    client = asyncio.run(scenario())
    assert gone(opened[0], before)
    assert client.is_closed()


def test_a_dropped_client_keeps_nothing_of_the_wafer_that_it_opened(opened: list[weakref.ref[Api]]) -> None:
    before = set(threading.enumerate())
    client = wsesim.connect(cerebras.Cerebras, model="tiny")
    stream = ask(client, max_tokens=8, stream=True)
    del client
    gc.collect()
    assert len(list(stream)) == 1 + 8 + 1  # a stream is a use of its client
    del stream
    assert gone(opened[0], before)


def test_a_wafer_that_was_given_outlives_its_clients() -> None:
    api = tiny_api()
    for _ in range(2):
        with wsesim.connect(openai.OpenAI, api=api) as client:
            assert ask(client, max_tokens=1).usage.completion_tokens == 1
    api.close()


# Out of time


@each_sdk
def test_a_client_waits_no_longer_than_its_timeout(wafer: Wafer, make: Callable[..., Any]) -> None:
    client = make(wafer.api, timeout=0.2)
    thread, results = started(lambda: ask(client))
    assert isinstance(ended(thread, results), TIMEOUTS)
    assert wafer.freed()
    stream = ask(client, stream=True, timeout=0.2)
    error = ended(*started(lambda: list(stream)))
    assert isinstance(error, TIMEOUTS) or type(error).__name__ == "ReadTimeout"
    assert wafer.freed()


@each_async_sdk
def test_a_task_waits_no_longer_than_its_timeout(wafer: Wafer, make: Callable[..., Any]) -> None:
    async def scenario() -> None:
        with pytest.raises(TIMEOUTS):
            await asyncio.wait_for(ask(make(wafer.api), timeout=0.2), 20)
        assert await asyncio.to_thread(wafer.freed)

    asyncio.run(scenario())


@pytest.mark.parametrize("make", [*SDKS, *ASYNC_SDKS])
def test_a_client_without_a_timeout_waits_as_long_as_it_takes(wafer: Wafer, make: Callable[..., Any]) -> None:
    assert make(wafer.api).timeout.read is None
    assert make(wafer.api, timeout=3).timeout == 3


# Forked


def in_a_child(call: Callable[[], str]) -> str:
    """What the call says in a forked process."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a process of several threads forks: that is the point
        child = os.fork()
    if not child:
        try:
            os.write(write, call().encode())
        finally:
            os._exit(0)
    os.close(write)
    heard = select.select([read], [], [], 20)[0]
    said = os.read(read, 10_000).decode() if heard else "it hangs"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(read)
    return said


@each
def test_a_client_that_was_used_before_a_fork_is_refused_in_the_child(make: Callable[..., Any]) -> None:
    api = tiny_api()
    client = make(api)
    ask(client, max_tokens=1)

    def call() -> str:
        try:
            ask(client, max_tokens=1)
        except InvalidInputError as error:
            client.close()
            api.close()
            return str(error)
        return "it ran"

    assert "make the client in the child" in in_a_child(call)
    assert ask(client, max_tokens=1).usage.completion_tokens == 1
    api.close()


@each_async
def test_so_is_a_client_of_a_loop(make: Callable[..., Any]) -> None:
    api = tiny_api()
    client = make(api)
    asyncio.run(ask(client, max_tokens=1))

    def call() -> str:
        try:
            asyncio.run(ask(client, max_tokens=1))
        except InvalidInputError as error:
            return str(error)
        return "it ran"

    assert "make the client in the child" in in_a_child(call)
    api.close()


@each
def test_a_client_that_is_made_in_the_child_runs_there(make: Callable[..., Any]) -> None:
    with ApiClient(tiny_api()) as parents:
        expected = ask(parents, max_tokens=8).choices[0].text
        connected(openai.OpenAI)(parents.api).models.list()
        assert in_a_child(lambda: str(ask(make(tiny_api()), max_tokens=8).choices[0].text)) == expected
