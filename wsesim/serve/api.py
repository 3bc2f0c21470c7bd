"""Api: the core of the Completions API. Clients in process and the HTTP application both use it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wsesim.serve import results
from wsesim.serve.bodies import validated
from wsesim.serve.calls import Call, chat_call, completion_call
from wsesim.serve.deployment import Deployment
from wsesim.serve.errors import NO_MODEL, ApiError
from wsesim.serve.limits import Limits
from wsesim.serve.models import describe
from wsesim.serve.reply import Chunks, Reply
from wsesim.serve.schema import ChatRequest, CompletionRequest
from wsesim.serve.worker import Accepted, Callback, CallEvent, Ticket, Worker


@dataclass(slots=True, eq=False)
class Running:
    """A call that runs on its wafer."""

    call: Call
    chunks: Chunks
    worker: Worker
    ticket: Ticket

    def chunks_of(self, event: CallEvent) -> Iterator[Reply]:
        """The chunks that an event makes. Raises it if it is an ApiError."""
        if isinstance(event, ApiError):
            raise event
        if isinstance(event, Accepted):
            yield from self.chunks.first()
        else:
            yield self.chunks.of(event)

    @property
    def done(self) -> bool:
        return self.chunks.done

    def leave(self) -> None:
        """The client is gone: requests that have not ended free their slots."""
        if not self.done:
            self.worker.cancel(self.ticket)


class Api:
    """Models by name, each on a wafer of its own. `on_close` is called by `close`, when all calls have ended."""

    def __init__(
        self,
        deployments: Sequence[Deployment],
        limits: Limits | None = None,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_close = on_close
        self.limits = limits or Limits()
        self.deployments = {deployment.name: deployment for deployment in deployments}
        self.workers = {d.name: Worker(d.loop, self.limits.queue, d.name) for d in deployments}

    def completion(self, body: Mapping[str, Any]) -> Call:
        """The call of a body of POST /v1/completions. Raises ApiError. It tokenizes, which may take long."""
        request = validated(CompletionRequest, body)
        return completion_call(request, self.deployment(request.model))

    def chat(self, body: Mapping[str, Any]) -> Call:
        """The call of a body of POST /v1/chat/completions. Raises ApiError. It tokenizes, which may take long."""
        request = validated(ChatRequest, body)
        return chat_call(request, self.deployment(request.model))

    def start(self, call: Call, callback: Callback) -> Running:
        """Starts the call on its wafer. `callback` is called in the wafer's thread. Raises ApiError."""
        worker = self.workers[call.deployment.name]
        return Running(call, Chunks(call), worker, worker.submit(call.requests, callback))

    def deployment(self, name: str) -> Deployment:
        """Raises ApiError for a name that is not served."""
        if name not in self.deployments:
            known = ", ".join(self.deployments)
            raise ApiError(
                NO_MODEL, f"Model does not exist or you do not have access to it. Models of this server: {known}"
            )
        return self.deployments[name]

    def models(self, format: str | None = None) -> results.ModelList:
        """All served models, in one of `FORMATS`. Raises ApiError for another format."""
        return results.ModelList(data=[describe(deployment, format) for deployment in self.deployments.values()])

    def model(self, name: str, format: str | None = None) -> results.Result:
        """One served model. Raises ApiError for an unknown name or format."""
        return describe(self.deployment(name), format)

    def drain(self) -> None:
        """Refuses new calls and waits for those that run."""
        for worker in self.workers.values():
            worker.close()

    def close(self) -> None:
        """As `drain`; then all is over."""
        self.drain()
        self._on_close()
