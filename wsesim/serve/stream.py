"""Server-sent events: one `data:` line for each chunk, ended so that every client delivers it at once."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, Protocol

from wsesim.serve.errors import ApiError
from wsesim.serve.reply import Reply

log = logging.getLogger("wsesim.serve")

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

END = b"\r\n\r\n"
"""The npm client 1.91 needs it: it finds `\\n\\n` at the end of its buffer only when the next event arrives."""

DONE = b"data: [DONE]" + END
FILLER = b":" + END
"""A comment, which clients skip. A connection may send it between two events."""


class ReplyStream(Protocol):
    """The chunks of a call. `aclose` leaves the call."""

    def __aiter__(self) -> AsyncIterator[Reply]: ...

    async def aclose(self) -> None: ...


class EventStream:
    """An ASGI response that sends a call's chunks. It leaves the call when the client is gone."""

    status_code = 200

    def __init__(self, stream: ReplyStream, headers: dict[str, str]) -> None:
        self._stream = stream
        self.headers = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache", **headers}

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})["filler"] = FILLER
        sending = asyncio.ensure_future(self._send_all(send))
        leaving = asyncio.ensure_future(disconnected(receive))
        try:
            await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            sending.cancel()
            failed, _ = await asyncio.gather(sending, leaving, return_exceptions=True)
            await self._stream.aclose()
            if isinstance(failed, Exception) and not isinstance(failed, OSError):
                log.error("a stream failed", exc_info=failed)

    async def _send_all(self, send: Send) -> None:
        headers = [(name.encode(), value.encode()) for name, value in self.headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        try:
            async for chunk in self._stream:
                await self._send(send, b"data: " + chunk.model_dump_json(exclude_none=True).encode() + END)
            await self._send(send, DONE)
        except ApiError as error:
            await self._send(send, b"data: " + json.dumps(error.event()).encode() + END)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send, body: bytes) -> None:
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await asyncio.sleep(0)  # lets other tasks run, and a lost connection be noticed


async def disconnected(receive: Receive) -> None:
    """Returns when the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
