"""Transports: they connect a client of httpx (or httpx2) to an ASGI application in process, and stream its replies.

httpx's own ASGITransport collects a whole reply before it returns it, and cannot serve blocking clients.
"""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import os
import queue
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from types import ModuleType
from typing import Any

_RUNNING: set[asyncio.Task[None]] = set()
"""Running applications. Event loops keep only weak references to their tasks."""


class Exchange:
    """One request and its reply, in the event loop `loop`.

    The queue `messages` gets all messages of the application, then the exception that ended it, or None. Methods may be
    called from any thread; `leave` also from a finalizer.
    """

    def __init__(self, app: Any, request: Any, body: bytes, loop: asyncio.AbstractEventLoop, messages: Any) -> None:
        self._app = app
        self._scope = _scope(request)
        self._body: bytes | None = body
        self._loop = loop
        self._messages = messages
        self._gone = asyncio.Event()

    def begin(self, ended: Callable[[Exchange], None]) -> None:
        """Starts the application. `ended` is called at its end."""
        self._soon(self._start, ended)

    def leave(self) -> None:
        """The client stops reading."""
        self._soon(self._gone.set)

    def cut(self, error: Exception) -> None:
        """As `leave`; a caller that waits for a message gets `error`."""
        self._soon(self._messages.put_nowait, error)
        self.leave()

    def _soon(self, what: Callable[..., object], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed: nothing runs in it
            self._loop.call_soon_threadsafe(what, *arguments)

    def _start(self, ended: Callable[[Exchange], None]) -> None:
        task = self._loop.create_task(self._run())
        _RUNNING.add(task)
        task.add_done_callback(_RUNNING.discard)
        task.add_done_callback(lambda _: ended(self))

    async def _run(self) -> None:
        app, self._app = self._app, None  # a kept answer must not keep the wafer
        end: Exception | None = RuntimeError("it was cancelled")
        try:
            await app(self._scope, self._receive, self._send)
            end = None
        except Exception as error:
            end = error
        finally:
            self._messages.put_nowait(end)

    async def _receive(self) -> MutableMapping[str, Any]:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        self._messages.put_nowait(message)


class Line:
    """The connection of one client to `app`: its open exchanges.

    `check` raises if no request can be answered. `release` is called once, when the line is closed or dropped. For a
    dropped line it runs in a new thread, because it may wait.
    """

    def __init__(self, app: Any, check: Callable[[], None], release: Callable[[], object] | None = None) -> None:
        self.check: Callable[[], None] = check
        self._app = app
        self._closed = False
        self._exchanges: set[Exchange] = set()
        self._release = release or _nothing
        self._dropped = weakref.finalize(self, _in_a_thread, release)
        self._dropped.atexit = False

    def exchange(self, request: Any, body: bytes, loop: asyncio.AbstractEventLoop, messages: Any) -> Exchange:
        """Starts an exchange in `loop`. Raises RuntimeError, as httpx does, if the line was closed."""
        exchange = Exchange(self._app, request, body, loop, messages)
        self._exchanges.add(exchange)
        if self._closed:
            raise RuntimeError("the client was closed")
        exchange.begin(self._exchanges.discard)
        return exchange

    def close(self, error: Exception) -> None:
        """Ends all exchanges with `error`, waits for `release`, and drops the application."""
        self._closed = True
        for exchange in list(self._exchanges):
            exchange.cut(error)
        self._app, self.check = None, _nothing
        if self._dropped.detach():
            release, self._release = self._release, _nothing
            release()


def _nothing() -> None:
    pass


def _in_a_thread(call: Callable[[], object] | None) -> None:
    """For finalizers. threading.Thread takes locks, and the interrupted code may hold them."""
    if call is not None:
        _thread.start_new_thread(call, ())


class LoopThread:
    """An event loop in its own thread, for blocking clients. It starts at its first use and never ends."""

    def __init__(self) -> None:
        self._beginning = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        with self._beginning:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="wsesim-transport", daemon=True).start()
            return self._loop


_LOOPS: dict[int, LoopThread] = {}
"""One for each process. A forked process lacks its parent's thread, and must not close the parent's loop."""


def shared_loop() -> asyncio.AbstractEventLoop:
    """The loop of this process's LoopThread."""
    return _LOOPS.setdefault(os.getpid(), LoopThread()).loop


def sync_transport(http: ModuleType, line: Line) -> Any:
    """A transport for `http.Client`; `http` is the httpx that the client was written for."""

    class Body(http.SyncByteStream):  # type: ignore[misc, name-defined]
        """The reply of an exchange. Closing or dropping it, or interrupting a read, leaves the exchange."""

        def __init__(self, request: Any) -> None:
            self._messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
            self._read_s = _read_s(request)
            self._exchange = line.exchange(request, request.read(), shared_loop(), self._messages)
            weakref.finalize(self, self._exchange.leave).atexit = False

        def message(self) -> Any:
            try:
                return self._messages.get(timeout=self._read_s)
            except BaseException as error:
                self.close()
                if isinstance(error, queue.Empty):
                    raise _silent(http, self._read_s) from None
                raise

        def __iter__(self) -> Iterator[bytes]:
            while (message := self.message()) is not None:
                yield _part(http, message)

        def close(self) -> None:
            self._exchange.leave()

    class Transport(http.BaseTransport):  # type: ignore[misc, name-defined]
        def handle_request(self, request: Any) -> Any:
            body = Body(request)
            status, headers = _start(http, body.message())
            return http.Response(status, headers=headers, stream=body, request=request)

        def close(self) -> None:
            line.close(_closed(http))

    return Transport()


def async_transport(http: ModuleType, line: Line) -> Any:
    """A transport for `http.AsyncClient`; the application runs in the client's own event loop."""

    class Body(http.AsyncByteStream):  # type: ignore[misc, name-defined]
        """The reply of an exchange. Closing or dropping it, or cancelling a read, leaves the exchange."""

        def __init__(self, request: Any, content: bytes) -> None:
            self._messages: asyncio.Queue[Any] = asyncio.Queue()
            self._read_s = _read_s(request)
            self._exchange = line.exchange(request, content, asyncio.get_running_loop(), self._messages)
            weakref.finalize(self, self._exchange.leave).atexit = False

        async def message(self) -> Any:
            try:
                async with asyncio.timeout(self._read_s):
                    return await self._messages.get()
            except BaseException as error:
                self._exchange.leave()
                if isinstance(error, TimeoutError):
                    raise _silent(http, self._read_s) from None
                raise

        async def __aiter__(self) -> AsyncIterator[bytes]:
            while (message := await self.message()) is not None:
                yield _part(http, message)

        async def aclose(self) -> None:
            self._exchange.leave()

    class Transport(http.AsyncBaseTransport):  # type: ignore[misc, name-defined]
        async def handle_async_request(self, request: Any) -> Any:
            body = Body(request, await request.aread())
            status, headers = _start(http, await body.message())
            return http.Response(status, headers=headers, stream=body, request=request)

        async def aclose(self) -> None:
            await asyncio.to_thread(line.close, _closed(http))

    return Transport()


def _closed(http: ModuleType) -> Exception:
    error: Exception = http.ReadError("the client was closed")
    return error


def _silent(http: ModuleType, read_s: float | None) -> Exception:
    error: Exception = http.ReadTimeout(f"no part of the answer came within {read_s:g} s")
    return error


def _read_s(request: Any) -> float | None:
    """The timeout for each part of the answer; None waits without end."""
    seconds: float | None = request.extensions.get("timeout", {}).get("read")
    return seconds


def _start(http: ModuleType, message: Any) -> tuple[int, list[tuple[bytes, bytes]]]:
    if message is None or isinstance(message, Exception):
        raise http.ReadError(f"the application ended without an answer: {message}")
    return message["status"], list(message["headers"])


def _part(http: ModuleType, message: Any) -> bytes:
    if isinstance(message, Exception):
        raise http.ReadError(f"the application ended in the middle: {message}")
    body: bytes = message.get("body", b"")
    return body


def _scope(request: Any) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": request.method,
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "scheme": request.url.scheme,
        "path": request.url.path,
        "raw_path": request.url.raw_path.partition(b"?")[0],
        "query_string": request.url.query,
        "server": (request.url.host, request.url.port),
        "client": ("in-process", 0),
        "root_path": "",
    }
