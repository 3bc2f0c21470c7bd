"""Clients in process: the calls and the results of the API's own clients, without a socket.

    client = wsesim.Client(model="smollm2-135m")
    reply = client.completions.create(model="smollm2-135m", prompt="Once", max_tokens=8)
    for chunk in client.completions.create(model="smollm2-135m", prompt="Once", max_tokens=8, stream=True): ...

Errors are ApiErrors with the API's status and code. A stream that is closed or dropped frees its slots, and so does a
call whose task is cancelled. After os.fork() the client belongs to the parent; the child needs a new one.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, Generic, Literal, TypeVar, overload

from wsesim.serve import results
from wsesim.serve.api import Api, Running
from wsesim.serve.calls import Call
from wsesim.serve.errors import ApiError
from wsesim.serve.worker import CallEvent

R = TypeVar("R", results.TextCompletion, results.ChatCompletion)
Prepare = Callable[[Mapping[str, Any]], Call]


class ApiClient:
    """Calls `api` and blocks. Several threads may use it at once."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.completions: Endpoint[results.TextCompletion] = Endpoint(api, api.completion)
        self.chat = Chat(api)
        self.models = Models(api)

    def close(self) -> None:
        """Waits for running calls; later calls are refused."""
        self.api.close()

    def __enter__(self) -> ApiClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncApiClient:
    """Calls `api` from a running event loop."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.completions: AsyncEndpoint[results.TextCompletion] = AsyncEndpoint(api, api.completion)
        self.chat = AsyncChat(api)
        self.models = AsyncModels(api)

    async def close(self) -> None:
        """Waits for running calls, without blocking the event loop; later calls are refused."""
        await asyncio.to_thread(self.api.close)

    async def __aenter__(self) -> AsyncApiClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class Endpoint(Generic[R]):
    """`create` for one kind of call. Its replies and chunks are of type `R`."""

    def __init__(self, api: Api, prepare: Prepare) -> None:
        self._api = api
        self._prepare = prepare

    @overload
    def create(self, *, stream: Literal[True], **body: Any) -> Stream[R]: ...

    @overload
    def create(self, *, stream: Literal[False] | None = None, **body: Any) -> R: ...

    def create(self, **body: Any) -> Any:
        """The reply; with `stream=True` a Stream of its chunks. Keywords are the API's. Raises ApiError."""
        call = self._prepare(body)
        events: queue.SimpleQueue[CallEvent | None] = queue.SimpleQueue()
        running = self._api.start(call, events.put)
        stream: Stream[R] = Stream(running, events)
        return stream if call.stream else running.chunks.whole(stream)


class Stream(Iterator[R]):
    """The chunks as they come.

    The slot is freed by `close` (from any thread), at the end of a `with` block, and when the stream is dropped.
    """

    def __init__(self, running: Running, events: queue.SimpleQueue[CallEvent | None]) -> None:
        self._running = running
        self._events = events  # None: closed
        self._made: deque[R] = deque()
        self._closed = False
        self._reading = threading.Lock()
        weakref.finalize(self, running.leave).atexit = False
        self._listen()  # raises the ApiError of a refused call

    def __next__(self) -> R:
        with self._reading:
            while not (self._made or self._closed or self._running.done):
                self._listen()
            if self._closed or not self._made:
                raise StopIteration
            return self._made.popleft()

    def close(self) -> None:
        """Ends the stream, also for a thread that waits for a chunk."""
        self._closed = True
        self._running.leave()
        self._events.put(None)

    def __enter__(self) -> Stream[R]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _listen(self) -> None:
        try:
            event = self._events.get()
            if event is not None:
                made: Iterator[Any] = self._running.chunks_of(event)
                self._made.extend(made)
        except BaseException:
            self.close()
            raise


class AsyncEndpoint(Generic[R]):
    """`create` for one kind of call, to await. Its replies and chunks are of type `R`."""

    def __init__(self, api: Api, prepare: Prepare) -> None:
        self._api = api
        self._prepare = prepare

    @overload
    async def create(self, *, stream: Literal[True], **body: Any) -> AsyncStream[R]: ...

    @overload
    async def create(self, *, stream: Literal[False] | None = None, **body: Any) -> R: ...

    async def create(self, **body: Any) -> Any:
        """The reply; with `stream=True` an AsyncStream of its chunks. Raises ApiError."""
        call = await asyncio.to_thread(self._prepare, body)
        stream = await open_stream(self._api, call)
        if call.stream:
            return stream
        async with stream:
            return stream.running.chunks.whole([chunk async for chunk in stream])


async def open_stream(api: Api, call: Call) -> AsyncStream[Any]:
    """A call's chunks, for the running event loop. Raises the ApiError of a refused call."""
    loop = asyncio.get_running_loop()
    events: asyncio.Queue[CallEvent | None] = asyncio.Queue()
    listeners: list[weakref.ref[AsyncStream[Any]]] = []

    def callback(event: CallEvent) -> None:
        try:
            loop.call_soon_threadsafe(events.put_nowait, event)
        except RuntimeError:  # the loop was closed: nobody reads the events
            for stream in filter(None, (listener() for listener in listeners)):
                stream.running.leave()

    stream: AsyncStream[Any] = AsyncStream(api.start(call, callback), events)
    listeners.append(weakref.ref(stream))
    await stream.begin()
    return stream


class AsyncStream(AsyncIterator[R]):
    """The chunks as they come.

    The slot is freed by `aclose`, at the end of an `async with` block, and when the stream is dropped.
    """

    def __init__(self, running: Running, events: asyncio.Queue[CallEvent | None]) -> None:
        self.running = running
        self._events = events  # None: closed
        self._made: deque[R] = deque()
        self._closed = False
        weakref.finalize(self, running.leave).atexit = False

    async def begin(self) -> None:
        """Waits until the call is accepted."""
        try:
            await self._listen()
        except BaseException:
            await self.aclose()
            raise

    async def __anext__(self) -> R:
        while not (self._made or self._closed or self.running.done):
            await self._listen()
        if self._closed or not self._made:
            raise StopAsyncIteration
        return self._made.popleft()

    async def aclose(self) -> None:
        """Ends the stream, also for a task that waits for a chunk."""
        self._closed = True
        self.running.leave()
        self._events.put_nowait(None)

    async def __aenter__(self) -> AsyncStream[R]:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _listen(self) -> None:
        event = await self._events.get()
        try:
            made: Iterator[Any] = iter(()) if event is None else self.running.chunks_of(event)
            self._made.extend(made)
        except ApiError:
            await self.aclose()
            raise


class Models:
    """The served models. `format` is default, openrouter or huggingface."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def list(self, *, format: str | None = None) -> results.ModelList:
        """All models. Raises ApiError for an unknown format."""
        return self._api.models(format)

    def retrieve(self, model: str, *, format: str | None = None) -> results.Result:
        """One model. Raises ApiError for an unknown name."""
        return self._api.model(model, format)


class AsyncModels:
    """As Models, to await."""

    def __init__(self, api: Api) -> None:
        self._models = Models(api)

    async def list(self, *, format: str | None = None) -> results.ModelList:
        return self._models.list(format=format)

    async def retrieve(self, model: str, *, format: str | None = None) -> results.Result:
        return self._models.retrieve(model, format=format)


class Chat:
    """`chat.completions`."""

    def __init__(self, api: Api) -> None:
        self.completions: Endpoint[results.ChatCompletion] = Endpoint(api, api.chat)


class AsyncChat:
    """`chat.completions`."""

    def __init__(self, api: Api) -> None:
        self.completions: AsyncEndpoint[results.ChatCompletion] = AsyncEndpoint(api, api.chat)
