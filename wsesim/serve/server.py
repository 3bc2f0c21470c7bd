"""The HTTP server: uvicorn with this application's limits."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Callable

import uvicorn
from starlette.applications import Starlette

from wsesim.errors import InvalidInputError

IDLE_S = 75
"""Seconds that a connection may idle between two requests."""

BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """A socket that is bound; port 0 takes a free one. Raises InvalidInputError where that cannot be."""
    if not 0 <= port < 2**16:
        raise InvalidInputError(f"--port {port}: a number from 0 to 65535 is needed; 0 takes a free one")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise InvalidInputError(f"--host {host} --port {port}: {error}") from None


def run(app: Starlette, bound: socket.socket, started: Callable[[str], None]) -> None:
    """Serves until SIGTERM or SIGINT; then refuses what comes and finishes what runs."""
    _allow_many_connections()
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_keep_alive=IDLE_S, backlog=BACKLOG, server_header=False
    )
    host, port = bound.getsockname()[:2]
    started(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")
    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises it once more when it has finished
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[bound])


def _allow_many_connections() -> None:
    """As many open files as the system lets this process have."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65_536)), hard))
