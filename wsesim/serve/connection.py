"""A connection: uvicorn's HTTP over h11, with time limits for clients that send no header or read no reply.

Bytes that are no HTTP are answered with an error of the API.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from wsesim.serve.errors import ApiError
from wsesim.serve.front import request_id
from wsesim.serve.wire import Wire

log = logging.getLogger("wsesim.serve")

LEAST_BYTES = 64 * 1024
"""Bytes that a client must read within the time limit, or all that waits for it if that is less."""

ASK_S = (0.001, 1.0)
"""Shortest and longest time between two checks whether a half-closed client is still there; the time doubles."""


class Connection(H11Protocol):
    """Closes if the client does not read LEAST_BYTES within `write_s` seconds, or sends no header within `idle_s`."""

    def __init__(self, *args: Any, write_s: float, idle_s: float, **options: Any) -> None:
        super().__init__(*args, **options)
        self.conn: Wire = Wire(self._refuse)
        self._write_s = write_s
        self._idle_s = idle_s
        self._owed = 0
        self._ask_again_s = 0.0
        self._timers: dict[Callable[[], None], asyncio.TimerHandle] = {}

    @property
    def answering(self) -> bool:
        """Whether a request has arrived whose reply is not complete."""
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # writing is paused whenever something waits for the client
        self._later(self._idle_s, self._close_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in self._timers.values():
            timer.cancel()
        super().connection_lost(exc)

    def abort(self) -> None:
        """Closes at once, even if data waits to be sent."""
        self.transport.abort()

    def _unsupported_upgrade_warning(self) -> None:
        """Logs nothing. A server may ignore Upgrade (RFC 9110, 7.8), and clients ask for HTTP/2 this way."""

    # A client that sends no HTTP

    def _refuse(self, error: ApiError) -> None:
        """Sends the error, unless another answer has begun, and closes."""
        if self.transport.is_closing():
            return
        log.warning("%s: %s", _peer(self.client), error.message)
        if self.answering:  # the error is in a request's body: the application sends nothing more
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        extra = {"content-type": "application/json", **error.headers()}
        headers = [(name.encode(), value.encode()) for name, value in extra.items()]
        headers += [*self.server_state.default_headers, (b"x-request-id", request_id())]
        self.transport.write(self.conn.answer(error, headers, json.dumps(error.body()).encode()))
        self.transport.close()

    # A client that sends nothing

    def on_response_complete(self) -> None:
        self._later(self._idle_s, self._close_idle)  # first: super() may begin with the next request
        super().on_response_complete()

    def _close_idle(self) -> None:
        if not self.answering:  # a new request would have started the timer again
            self.transport.close()

    # A client that reads nothing

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._never(self._check_reading)

    def _expect_reading(self) -> None:
        self._owed = self.transport.get_write_buffer_size()
        self._later(self._write_s, self._check_reading)

    def _check_reading(self) -> None:
        if self._owed - self.transport.get_write_buffer_size() < LEAST_BYTES:
            self.abort()
        else:
            self._expect_reading()

    # A client that sends no more

    def eof_received(self) -> bool:  # type: ignore[override]
        """Whether to keep the connection: if a whole request has arrived, the client may still read the reply.

        TCP cannot tell a close from a half-close until the server sends something; a closed socket then answers with a
        reset. So the server sends bytes without meaning. HTTP/1.0 has none, so there the client counts as gone.
        """
        if not self.answering or self.cycle.more_body or self.scope["http_version"] != "1.1":
            return False
        self.cycle.keep_alive = False
        self._ask_again_s = ASK_S[0]
        self._ask()
        return True

    def _ask(self) -> None:
        if not self.answering or self.transport.is_closing():
            return
        if not self.flow.write_paused:  # otherwise data is being sent anyway
            self.transport.write(self._filler())
        self._later(self._ask_again_s, self._ask)
        self._ask_again_s = min(2 * self._ask_again_s, ASK_S[1])

    def _filler(self) -> bytes:
        """Bytes without meaning: an interim response before the reply, the response's own filler within it."""
        if not self.cycle.response_started:
            return self.conn.send(h11.InformationalResponse(status_code=100, headers=[], reason="Continue")) or b""
        return self.conn.send(h11.Data(data=self.scope["state"].get("filler", b""))) or b""

    # Timers

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        """Calls `call` after `seconds`. An earlier timer of it is cancelled."""
        self._never(call)
        self._timers[call] = self.loop.call_later(seconds, call)

    def _never(self, call: Callable[[], None]) -> None:
        if call in self._timers:
            self._timers.pop(call).cancel()


def _peer(address: tuple[str, int] | None) -> str:
    """host:port, or [host]:port."""
    if address is None:
        return "a client without an address"
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
