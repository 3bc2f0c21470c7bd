"""Wire: h11's HTTP/1.1, stricter about the length of a body. Bytes that are no HTTP become an error of the API."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

import h11

from wsesim.serve.errors import BAD_HTTP, HEADER_TOO_LARGE, NO_SUCH_CODING, ApiError

MOST_HEADER_BYTES = 16 * 1024
_KINDS = {431: HEADER_TOO_LARGE, 501: NO_SUCH_CODING}


class Wire(h11.Connection):
    """The server's side of a connection. `refuse` gets the error of bytes that are no HTTP; no event follows.

    uvicorn would answer in plain text, and log a line that does not name the sender.
    """

    def __init__(self, refuse: Callable[[ApiError], None]) -> None:
        super().__init__(h11.SERVER, MOST_HEADER_BYTES)
        self._refuse = refuse
        self.method = b""

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        try:
            event = super().next_event()
            if isinstance(event, h11.Request):
                self.method = event.method
                _check_length(event)
        except h11.RemoteProtocolError as error:
            self._refuse(_as_api_error(error))
            return h11.NEED_DATA
        return event

    def answer(self, error: ApiError, headers: list[tuple[bytes, bytes]], body: bytes) -> bytes:
        """The bytes of a last answer; none if another answer has begun."""
        if self.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return b""
        last = [*headers, (b"content-length", str(len(body)).encode()), (b"connection", b"close")]
        reason = HTTPStatus(error.status).phrase
        events = [h11.Response(status_code=error.status, headers=last, reason=reason), h11.EndOfMessage()]
        if self.method != b"HEAD":
            events.insert(1, h11.Data(data=body))
        return b"".join(self.send(event) or b"" for event in events)


def _check_length(request: h11.Request) -> None:
    """Raises RemoteProtocolError for headers that let two servers disagree about the body's end (RFC 9112, 6.1)."""
    names = {name for name, _ in request.headers}
    if b"transfer-encoding" not in names:
        return
    if b"content-length" in names:
        raise h11.RemoteProtocolError("Content-Length and Transfer-Encoding are both given")
    if request.http_version < b"1.1":
        raise h11.RemoteProtocolError("HTTP/1.0 has no Transfer-Encoding")


def _as_api_error(error: h11.RemoteProtocolError) -> ApiError:
    kind = _KINDS.get(error.error_status_hint, BAD_HTTP)
    said = str(error).partition(": bytearray(")[0].partition(": b'")[0][:200]
    if kind is HEADER_TOO_LARGE:
        said = f"a header of more than {MOST_HEADER_BYTES:,} bytes"
    return ApiError(kind, f"the request is not read: {said}")
