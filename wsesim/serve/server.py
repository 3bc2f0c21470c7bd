"""The HTTP server: uvicorn with this application's limits, and what it does on signals."""

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
"""Seconds that a connection may be without a whole header, at its beginning and after a reply."""

LAST_WORDS_S = 1.0
"""Seconds in which a client may take the error that ends its reply, when the server is told a second time to end."""

BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """A socket that is bound; port 0 takes a free one. Raises InvalidInputError where that cannot be."""
    if not 0 <= port < 2**16:
        raise InvalidInputError(f"--port {port}: a number from 0 to 65535 is needed; 0 takes a free one")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, ValueError) as error:  # ValueError: a host that is no name, such as a..b
        raise InvalidInputError(f"--host {host} --port {port}: {error}; --port 0 takes a free port") from None


def run(app: Starlette, bound: socket.socket, started: Callable[[str], None]) -> None:
    """Serves until a signal, as Server does; `started` hears the URL. The last thing that a process does.

    Raises KeyboardInterrupt if the first signal was SIGINT.
    """
    _allow_many_connections()
    host, port = bound.getsockname()[:2]
    server = Server(app, lambda: started(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"))
    server.run(sockets=[bound])
    if server.ended_by == signal.SIGINT:
        raise KeyboardInterrupt


class Server(uvicorn.Server):
    """The first SIGTERM or SIGINT refuses what comes and finishes what runs; the next one ends what runs.

    `started` is called when both connections and signals are heard. `ended_by` is the first signal.
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
        """Where uvicorn raises the signals once more at the end, which would kill, these are over."""
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
    """As many open files as the system lets this process have."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65_536)), hard))
