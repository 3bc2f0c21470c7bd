"""The user's own clients, unmodified, bound to an application in process."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

from wsesim.errors import InvalidInputError
from wsesim.serve.transport import async_transport, sync_transport

HOST = "http://wsesim"
KEY = "in-process"
_OWN: dict[str, dict[str, Any]] = {
    "cerebras": {"base_url": HOST, "warm_tcp_connection": False},
    "openai": {"base_url": f"{HOST}/v1"},
}


def bound(client: type[Any] | None, app: Any, **options: Any) -> Any:
    """An instance of `client` (default: cerebras.cloud.sdk.Cerebras) whose requests go to `app`, without a socket.

    `options` are the client's own. Raises InvalidInputError for a class that is neither Cerebras' nor OpenAI's.
    """
    client = client or _cerebras()
    package = client.__module__.partition(".")[0]
    if package not in _OWN:
        raise InvalidInputError(f"{client.__module__}.{client.__name__} is not a client of cerebras or openai")
    http = _http_of(client)
    if "Async" in client.__name__:
        http_client = http.AsyncClient(transport=async_transport(http, app))
    else:
        http_client = http.Client(transport=sync_transport(http, app))
    return client(http_client=http_client, **{"api_key": KEY, **_OWN[package], **options})


def _cerebras() -> type[Any]:
    try:
        return importlib.import_module("cerebras.cloud.sdk").Cerebras  # type: ignore[no-any-return]
    except ImportError:
        raise InvalidInputError(
            "connect() needs a client: pip install cerebras_cloud_sdk, or give one, as connect(openai.OpenAI)"
        ) from None


def _http_of(client: type[Any]) -> ModuleType:
    """The httpx that the client's base class was written for: openai has one of its own name."""
    for base in client.__mro__:
        module = sys.modules[base.__module__]
        found = [one for one in list(vars(module).values()) if isinstance(one, ModuleType) and one.__name__ in _HTTP]
        if module.__name__.endswith("_base_client") and found:
            return found[0]
    raise InvalidInputError(f"{client.__module__}.{client.__name__} is built on neither httpx nor httpx2")


_HTTP = ("httpx", "httpx2")
