"""The user's own clients, unmodified, connected to an application in process."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

from wsesim.errors import InvalidInputError
from wsesim.serve.transport import Line, async_transport, sync_transport

HOST = "http://wsesim"
KEY = "in-process"
_OWN: dict[str, dict[str, Any]] = {
    "cerebras": {"base_url": HOST, "warm_tcp_connection": False},
    "openai": {"base_url": f"{HOST}/v1"},
}


def bound(client: type[Any] | None, line: Line, options: dict[str, Any]) -> Any:
    """An instance of `client` (default: cerebras.cloud.sdk.Cerebras) that sends its requests over `line`, not a socket.

    `options` are the client's own keywords. Without a `timeout` it waits for as long as an answer takes. Raises
    InvalidInputError for a class of neither Cerebras nor OpenAI.
    """
    client = client or _cerebras()
    package = client.__module__.partition(".")[0]
    if package not in _OWN:
        raise InvalidInputError(f"{client.__module__}.{client.__name__} is not a client of cerebras or openai")
    http_client = _http_client(_http_of(client), "Async" in client.__name__, line)
    return client(http_client=http_client, **{"api_key": KEY, **_OWN[package], **options})


def _http_client(http: ModuleType, awaited: bool, line: Line) -> Any:
    base = http.AsyncClient if awaited else http.Client

    class HttpClient(base):  # type: ignore[misc, valid-type]
        def build_request(self, *arguments: Any, **options: Any) -> Any:
            line.check()  # here, because errors while a request is sent become the client's own errors
            return super().build_request(*arguments, **options)

    transport = async_transport(http, line) if awaited else sync_transport(http, line)
    return HttpClient(transport=transport, timeout=None)


def _cerebras() -> type[Any]:
    try:
        return importlib.import_module("cerebras.cloud.sdk").Cerebras  # type: ignore[no-any-return]
    except ImportError:
        raise InvalidInputError(
            "connect() needs a client: pip install cerebras_cloud_sdk, or give one, as connect(openai.OpenAI)"
        ) from None


def _http_of(client: type[Any]) -> ModuleType:
    """The module that the client's base class uses as httpx. openai may use one under another name."""
    for base in client.__mro__:
        module = sys.modules[base.__module__]
        found = [one for one in list(vars(module).values()) if isinstance(one, ModuleType) and one.__name__ in _HTTP]
        if module.__name__.endswith("_base_client") and found:
            return found[0]
    raise InvalidInputError(f"{client.__module__}.{client.__name__} is built on neither httpx nor httpx2")


_HTTP = ("httpx", "httpx2")
