"""Middleware before the routes: who may call, the path of a request's target, and a request id for every answer."""

from __future__ import annotations

import uuid
from collections.abc import MutableMapping
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response

from wsesim.serve.access import Access
from wsesim.serve.errors import ApiError

DOUBLED = "/v1/v1/"
BARE = ("/completions", "/chat/completions", "/models")


class Front:
    """ASGI middleware. Without `access` anyone may call: clients in process are no web pages."""

    def __init__(self, app: Any, access: Access | None = None) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def identified(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"x-request-id", request_id())]}
            await send(message)

        host, path = split_target(scope["path"])
        try:
            if self._access is not None:
                headers = Headers(scope=scope)
                self._access.check(headers, headers.get("host") if host is None else host)
        except ApiError as error:
            await error_response(error)(scope, receive, identified)
        else:
            await self._app({**scope, "path": served_path(path)}, receive, identified)


def request_id() -> bytes:
    return uuid.uuid4().hex.encode()


def split_target(target: str) -> tuple[str | None, str]:
    """The host and the path of a target. Only an absolute target has a host; it then replaces the header's
    (RFC 9112, 3.2.2).
    """
    scheme, _, rest = target.partition("://")
    if scheme.lower() not in ("http", "https"):
        return None, target
    host, _, path = rest.partition("/")
    return host, f"/{path}"


def served_path(path: str) -> str:
    """The path of the route. A client's base URL may have one /v1 too many (Cerebras) or too few (OpenAI)."""
    if path.startswith(DOUBLED):
        return path[3:]
    return f"/v1{path}" if path.startswith(BARE) else path


def error_response(error: ApiError, headers: dict[str, str] | None = None) -> Response:
    """The response for an error. It closes the connection if the rest of the request's body is not read."""
    extra = {**(headers or {}), **error.headers()}
    if error.status in (408, 413):
        extra["connection"] = "close"
    return JSONResponse(error.body(), error.status, extra)
