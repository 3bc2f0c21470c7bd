"""Api: the facade's core, which clients in process and the HTTP application both drive."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
    """A call that was handed to its wafer."""

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
        """The client listens no longer: what is not done frees its slots."""
        if not self.done:
            self.worker.cancel(self.ticket)


class Api:
    """Models by name, each on a wafer of its own."""

    def __init__(self, deployments: Sequence[Deployment], limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.deployments = {deployment.name: deployment for deployment in deployments}
        self.workers = {d.name: Worker(d.loop, self.limits.queue, d.name) for d in deployments}

    def completion(self, body: Mapping[str, Any]) -> Call:
        """What a body of POST /v1/completions asks for. Raises ApiError. May take a while: it tokenizes."""
        request = validated(CompletionRequest, body)
        return completion_call(request, self.deployment(request.model))

    def chat(self, body: Mapping[str, Any]) -> Call:
        """What a body of POST /v1/chat/completions asks for. Raises ApiError. May take a while: it tokenizes."""
        request = validated(ChatRequest, body)
        return chat_call(request, self.deployment(request.model))

    def start(self, call: Call, callback: Callback) -> Running:
        """Hands the call to its wafer; `callback` is called in that wafer's thread. Raises ApiError."""
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
        """All that is served, in one of `FORMATS`. Raises ApiError for another one."""
        return results.ModelList(data=[describe(deployment, format) for deployment in self.deployments.values()])

    def model(self, name: str, format: str | None = None) -> results.Result:
        """Raises ApiError for a name that is not served, and for a format that there is not."""
        return describe(self.deployment(name), format)

    def close(self) -> None:
        """Refuses what comes and waits for what runs."""
        for worker in self.workers.values():
            worker.close()
