"""Transports: an ASGI application behind a client of httpx (or httpx2), in process, streamed as it is made.

httpx's own ASGITransport gathers a whole reply before it hands it on, and has no form for blocking clients.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Iterator, MutableMapping
from types import ModuleType
from typing import Any


class Exchange:
    """One request's way through the application, in the event loop that it is awaited in.

    `messages` are what the application sends, then the exception that ended it or None; both are `put`.
    """

    def __init__(self, app: Any, request: Any, body: bytes, messages: Any) -> None:
        self._app = app
        self._scope = _scope(request)
        self._body: bytes | None = body
        self._messages = messages
        self._gone = asyncio.Event()

    async def run(self) -> None:
        try:
            await self._app(self._scope, self._receive, self._send)
        except Exception as error:
            self._messages.put_nowait(error)
        else:
            self._messages.put_nowait(None)

    def leave(self) -> None:
        """The client reads no further."""
        self._gone.set()

    async def _receive(self) -> MutableMapping[str, Any]:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        self._messages.put_nowait(message)


class LoopThread:
    """An event loop in a thread of its own, for clients that block."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="wsesim-transport", daemon=True)
        self._thread.start()

    def close(self) -> None:
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join()
            self.loop.close()


def sync_transport(http: ModuleType, app: Any) -> Any:
    """A transport for `http.Client`; `http` is the httpx that the client was written for."""

    class Transport(http.BaseTransport):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self._thread = LoopThread()

        def handle_request(self, request: Any) -> Any:
            messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
            body, loop = request.read(), self._thread.loop

            async def begin() -> tuple[Exchange, asyncio.Task[None]]:
                exchange = Exchange(app, request, body, messages)
                return exchange, asyncio.ensure_future(exchange.run())

            exchange, task = asyncio.run_coroutine_threadsafe(begin(), loop).result()
            status, headers = _start(http, messages.get())

            class Body(http.SyncByteStream):  # type: ignore[misc, name-defined]
                _task = task  # a loop keeps no more than a weak reference

                def __iter__(self) -> Iterator[bytes]:
                    while (message := messages.get()) is not None:
                        yield _part(http, message)

                def close(self) -> None:
                    loop.call_soon_threadsafe(exchange.leave)

            return http.Response(status, headers=headers, stream=Body(), request=request)

        def close(self) -> None:
            self._thread.close()

    return Transport()


def async_transport(http: ModuleType, app: Any) -> Any:
    """A transport for `http.AsyncClient`; the application runs in the client's own event loop."""

    class Transport(http.AsyncBaseTransport):  # type: ignore[misc, name-defined]
        async def handle_async_request(self, request: Any) -> Any:
            messages: asyncio.Queue[Any] = asyncio.Queue()
            exchange = Exchange(app, request, await request.aread(), messages)
            task = asyncio.ensure_future(exchange.run())
            status, headers = _start(http, await messages.get())

            class Body(http.AsyncByteStream):  # type: ignore[misc, name-defined]
                _task = task  # a loop keeps no more than a weak reference

                async def __aiter__(self) -> AsyncIterator[bytes]:
                    while (message := await messages.get()) is not None:
                        yield _part(http, message)

                async def aclose(self) -> None:
                    exchange.leave()

            return http.Response(status, headers=headers, stream=Body(), request=request)

    return Transport()


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
