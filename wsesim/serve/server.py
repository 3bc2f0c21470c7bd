"""The HTTP server: uvicorn with this application's limits and its own handling of signals."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType
from typing import cast

import uvicorn
from starlette.applications import Starlette
from uvicorn.server import HANDLED_SIGNALS

from wsesim.errors import InvalidInputError
from wsesim.serve.connection import Connection

log = logging.getLogger("wsesim.serve")

IDLE_S = 75
"""Seconds within which a connection must send a whole header, at its beginning and after each reply."""

LAST_WORDS_S = 1.0
"""Seconds that clients have to read the error that ends their reply, after the second signal."""

BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """A bound socket. Port 0 takes a free one. Raises InvalidInputError if the address cannot be bound."""
    if not 0 <= port < 2**16:
        raise InvalidInputError(f"--port {port}: a number from 0 to 65535 is needed; 0 takes a free one")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, ValueError) as error:  # ValueError: a host that is no name, such as a..b
        raise InvalidInputError(f"--host {host} --port {port}: {error}; --port 0 takes a free port") from None


def run(app: Starlette, bound: socket.socket, started: Callable[[str], None]) -> None:
    """Serves until a signal. `started` is called with the URL. The process should end afterwards: signals stay ignored.

    Raises KeyboardInterrupt if the first signal was SIGINT.
    """
    _allow_many_connections()
    host, port = bound.getsockname()[:2]
    server = Server(app, lambda: started(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"))
    server.run(sockets=[bound])
    if server.ended_by == signal.SIGINT:
        raise KeyboardInterrupt


class Server(uvicorn.Server):
    """uvicorn's server. After the first SIGTERM or SIGINT it finishes running requests; the next one ends them.

    `started` is called when the server accepts connections and handles signals. `ended_by` is the first signal.
    """

    def __init__(self, app: Starlette, started: Callable[[], None] = lambda: None) -> None:
        self._api = app.state.service.api
        connection = partial(Connection, write_s=self._api.limits.write_s, idle_s=IDLE_S)
        super().__init__(
            uvicorn.Config(
                app,
                http=cast(type[asyncio.Protocol], connection),
                ws="none",
                loop="asyncio",
                log_config=None,
                log_level="warning",
                access_log=False,
                timeout_keep_alive=IDLE_S,
                backlog=BACKLOG,
                server_header=False,
            )
        )
        self.ended_by: int | None = None
        self._started = started
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        self._started()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:  # type: ignore[override]
        """Handles the signals while it serves. uvicorn would raise them again at its end, and kill the process."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        for number in HANDLED_SIGNALS:
            signal.signal(number, self.handle_exit)
        try:
            yield
        finally:
            for number in HANDLED_SIGNALS:
                signal.signal(number, signal.SIG_IGN)  # also while the interpreter ends

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.ended_by is None:
            self.ended_by = sig
            running = sum(worker.open for worker in self._api.workers.values())
            if running:
                log.warning("finishing %d requests; a second signal ends them", running)
        elif self._loop is not None:
            self._loop.call_soon_threadsafe(self._end_what_runs)
        self.should_exit = True

    def _end_what_runs(self) -> None:
        for worker in self._api.workers.values():
            worker.stop()
        asyncio.get_running_loop().call_later(LAST_WORDS_S, self._abort_connections)

    def _abort_connections(self) -> None:
        for connection in list(self.server_state.connections):
            cast(Connection, connection).abort()


def _allow_many_connections() -> None:
    """Raises the limit of open files as far as the system allows."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65_536)), hard))
