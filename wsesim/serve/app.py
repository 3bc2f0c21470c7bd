"""The HTTP application: the routes of the API. Every error has the API's own body."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from wsesim.serve import results
from wsesim.serve.access import Access
from wsesim.serve.api import Api
from wsesim.serve.bodies import decompressed, parsed, too_large
from wsesim.serve.calls import Call
from wsesim.serve.client import AsyncStream, open_stream
from wsesim.serve.errors import BROKEN, NO_ROUTE, TOO_SLOW, WRONG_KEY, WRONG_METHOD, ApiError
from wsesim.serve.front import Front, error_response
from wsesim.serve.limits import Quota
from wsesim.serve.metrics import Metrics
from wsesim.serve.openapi import document
from wsesim.serve.reply import Reply
from wsesim.serve.stream import EventStream, disconnected

log = logging.getLogger("wsesim.serve")

Handler = Callable[[Request], Awaitable[Any]]


class Service:
    """The state of the routes. Without `keys` any key is accepted, and all clients share one quota."""

    def __init__(self, api: Api, keys: Sequence[str] = ()) -> None:
        self.api = api
        self.metrics = Metrics(api)
        self._keys = [key.encode() for key in keys]
        self._quotas = {key: Quota(api.limits) for key in (self._keys or [b""])}

    def routes(self) -> list[Route]:
        return [
            self._route("/v1/completions", self._calls(self.api.completion), "POST"),
            self._route("/v1/chat/completions", self._calls(self.api.chat), "POST"),
            self._route("/v1/models", self._models, "GET"),
            self._route("/v1/models/{name:path}", self._model, "GET"),
            self._route("/v1/tcp_warming", self._empty, "GET", keyed=False),
            self._route("/health", self._health, "GET", keyed=False),
            self._route("/metrics", self._metrics, "GET", keyed=False),
            self._route("/openapi.json", self._openapi, "GET", keyed=False),
        ]

    def quota(self, request: Request) -> Quota:
        """The quota of the request's key. Raises ApiError for a wrong key."""
        if not self._keys:
            return self._quotas[b""]
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        sent = given.strip().encode() if scheme.lower() == "bearer" else b""
        matches = [key for key in self._keys if hmac.compare_digest(key, sent)]
        if not matches:
            raise ApiError(WRONG_KEY, "Wrong API Key")
        return self._quotas[matches[0]]

    def _route(self, path: str, handler: Handler, method: str, *, keyed: bool = True) -> Route:
        """`keyed`: a key is needed, and the answer states what is left of its quota (`request.state.quota`)."""

        async def answer(request: Request) -> Any:
            quota = None
            try:
                if keyed:
                    request.state.quota = quota = self.quota(request)
                response = await handler(request)
            except ApiError as error:
                response = error_response(error)
            except ClientDisconnect:
                response = Gone()
            except Exception:
                log.exception("%s %s failed", method, path)
                response = error_response(ApiError(BROKEN, "the server failed; its log has the reason"))
            self.metrics.answered(path, response.status_code)
            response.headers.update(quota.headers() if quota else {})
            return response

        return Route(path, answer, methods=[method])

    def _calls(self, prepare: Callable[[dict[str, Any]], Call]) -> Handler:
        async def answer(request: Request) -> Any:
            quota: Quota = request.state.quota
            raw = await read_body(request, self.api.limits.body_bytes, self.api.limits.body_s)
            call = await asyncio.to_thread(lambda: prepare(unpacked(request, raw, self.api.limits.body_bytes)))
            quota.consume(call.tokens)
            stream = _Metered(await self._open(call, quota), self.metrics, quota, call)
            return EventStream(stream, _headers_of(call)) if call.stream else await whole_reply(request, stream, call)

        return answer

    async def _open(self, call: Call, quota: Quota) -> AsyncStream[Any]:
        """The call's stream. A refused call uses no tokens of the quota."""
        try:
            return await open_stream(self.api, call)
        except ApiError:
            quota.tokens.give_back(call.tokens)
            raise

    async def _models(self, request: Request) -> Response:
        return _result(self.api.models(request.query_params.get("format")))

    async def _model(self, request: Request) -> Response:
        name, format = unquote(request.path_params["name"]), request.query_params.get("format")
        return _result(self.api.model(name, format))

    async def _empty(self, request: Request) -> Response:
        return Response(status_code=200)

    async def _health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok", "models": list(self.api.deployments)})

    async def _metrics(self, request: Request) -> Response:
        return Response(self.metrics.text(), media_type="text/plain; version=0.0.4")

    async def _openapi(self, request: Request) -> Response:
        return JSONResponse(document())


class _Metered:
    """A call's stream. At its end it updates the metrics, and gives unused tokens back to the quota."""

    def __init__(self, stream: AsyncStream[Any], metrics: Metrics, quota: Quota, call: Call) -> None:
        self.running = stream.running
        self._stream = stream
        self._metrics = metrics
        self._quota = quota
        self._unsettled = call.tokens - sum(map(len, call.prompts))

    def __aiter__(self) -> AsyncIterator[Reply]:
        return self

    async def __anext__(self) -> Reply:
        reply: Reply = await anext(self._stream)
        if reply.usage is not None:
            self._metrics.completed(reply)
            self._settle()
        return reply

    async def aclose(self) -> None:
        self._settle()
        await self._stream.aclose()

    def _settle(self) -> None:
        if self._unsettled:
            self._quota.tokens.give_back(self._unsettled - self.running.chunks.generated)
        self._unsettled = 0


class Gone(Response):
    """The response to a client that is gone: nothing is sent. The status is for the metrics."""

    def __init__(self) -> None:
        super().__init__(status_code=499)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        pass


async def whole_reply(request: Request, stream: _Metered, call: Call) -> Response:
    """All chunks as one reply. Raises ClientDisconnect if the client leaves before its end."""
    reading = asyncio.ensure_future(_collect(stream))
    leaving = asyncio.ensure_future(disconnected(request.receive))
    try:
        await asyncio.wait((reading, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not reading.done():
            raise ClientDisconnect
        return _result(stream.running.chunks.whole(reading.result()), _headers_of(call))
    finally:
        leaving.cancel()
        reading.cancel()
        await asyncio.gather(reading, leaving, return_exceptions=True)
        await stream.aclose()


async def _collect(stream: _Metered) -> list[Reply]:
    return [reply async for reply in stream]


async def read_body(request: Request, most_bytes: int, within_s: float) -> bytes:
    """A request's body as sent. Raises ApiError if it is too large or arrives too slowly."""
    raw = bytearray()
    try:
        async with asyncio.timeout(within_s):
            async for part in request.stream():
                raw += part
                if len(raw) > most_bytes:
                    raise too_large(most_bytes)
    except TimeoutError:
        raise ApiError(TOO_SLOW, f"the body did not arrive within {within_s:g} s") from None
    return bytes(raw)


def unpacked(request: Request, raw: bytes, most_bytes: int) -> dict[str, Any]:
    """The object in a request's body. Raises ApiError. Decompressing and parsing may take long."""
    encoding = request.headers.get("content-encoding", "").strip().lower()
    return parsed(decompressed(raw, encoding, most_bytes), request.headers.get("content-type", ""))


def make_app(api: Api, keys: Sequence[str] = (), access: Access | None = None) -> Starlette:
    """The application. It ends after all running calls. Without `access` any Host and any web page may call."""
    service = Service(api, keys)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(api.drain)

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        kind = WRONG_METHOD if error.status_code == 405 else NO_ROUTE
        known = f"{request.method} {request.url.path[:200]} is not a route of this server"
        return error_response(ApiError(kind, known), dict(error.headers or {}))

    app = Starlette(routes=service.routes(), lifespan=lifespan, exception_handlers={HTTPException: refused})
    app.state.service = service
    if access is not None and access.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=sorted(access.origins),
            allow_methods=("GET", "POST"),
            allow_headers=("*",),
            allow_private_network=True,
            expose_headers=("*",),
        )
    app.add_middleware(Front, access=access)
    return app


def _result(result: results.Result, headers: dict[str, str] | None = None) -> Response:
    body = result.model_dump_json(exclude_none=True)
    return Response(body, media_type="application/json", headers=headers)


def _headers_of(call: Call) -> dict[str, str]:
    """The headers of a reply: its seed, and the model that the text is from if it is another one."""
    name = call.deployment.text_from
    return {"x-wsesim-seed": str(call.seed), **({"x-wsesim-text-from": name} if name else {})}
