"""Errors of the API, on the wire and as exceptions in process.

    WsesimError
    └── ApiError              .status, .message, .type, .param, .code; its body is both the flat and the wrapped form

Clients retry 408, 409, 429 and 5xx silently. If a retry cannot help, such a status comes with `x-should-retry: false`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from wsesim.errors import WsesimError


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of error. `retry_after_s`: when to try again. `retry` False: a retry never helps."""

    status: int
    type: str
    param: str | None
    code: str
    retry_after_s: int | None = None
    retry: bool | None = None


WRONG_FORMAT = Kind(400, "invalid_request_error", "validation_error", "wrong_api_format")
CONTEXT_LENGTH = Kind(400, "invalid_request_error", "messages", "context_length_exceeded")
ARRIVAL = Kind(400, "invalid_request_error", "arrival_time", "arrival_in_the_past")
BAD_HTTP = Kind(400, "invalid_request_error", None, "invalid_http")
HEADER_TOO_LARGE = Kind(431, "invalid_request_error", None, "header_too_large")
NO_SUCH_CODING = Kind(501, "invalid_request_error", None, "unsupported_transfer_encoding", retry=False)
WRONG_KEY = Kind(401, "invalid_request_error", "api_key", "wrong_api_key")
FOREIGN_HOST = Kind(403, "permission_error", "host", "host_not_allowed")
FOREIGN_ORIGIN = Kind(403, "permission_error", "origin", "origin_not_allowed")
NO_MODEL = Kind(404, "not_found_error", "model", "model_not_found")
NO_ROUTE = Kind(404, "not_found_error", None, "not_found")
WRONG_METHOD = Kind(405, "invalid_request_error", None, "method_not_allowed")
TOO_LARGE = Kind(413, "invalid_request_error", "body", "request_too_large")
WRONG_MEDIA = Kind(415, "invalid_request_error", "content_type", "unsupported_media_type")
TOO_SLOW = Kind(408, "invalid_request_error", "body", "request_timeout", retry=False)
QUEUE_FULL = Kind(429, "too_many_requests_error", "queue", "queue_full", retry_after_s=1)
REQUEST_QUOTA = Kind(429, "too_many_requests_error", "quota", "request_quota_exceeded", retry_after_s=60)
TOKEN_QUOTA = Kind(429, "too_many_requests_error", "quota", "token_quota_exceeded", retry_after_s=60)
CLOSING = Kind(503, "service_unavailable_error", None, "shutting_down", retry_after_s=5)
BROKEN = Kind(500, "server_error", None, "internal_error", retry=False)


class ApiError(WsesimError):
    """An error of the API. `status` is the HTTP status."""

    def __init__(self, kind: Kind, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.param = param or kind.param

    @property
    def status(self) -> int:
        return self.kind.status

    @property
    def code(self) -> str:
        return self.kind.code

    def body(self) -> dict[str, Any]:
        """The JSON body. The Cerebras clients read the flat fields, OpenAI's the object under `error`."""
        flat = {"message": self.message, "type": self.kind.type, "param": self.param, "code": self.kind.code}
        return {**flat, "error": dict(flat)}

    def event(self) -> dict[str, Any]:
        """The event that ends a stream. Clients choose the class of their exception by `status_code`."""
        return {"error": self.body()["error"], "status_code": self.status}

    def headers(self) -> dict[str, str]:
        found = {}
        if self.kind.retry_after_s is not None:
            found["retry-after"] = str(self.kind.retry_after_s)
        if self.kind.retry is not None:
            found["x-should-retry"] = str(self.kind.retry).lower()
        return found
