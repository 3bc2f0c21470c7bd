"""Worker: the thread that runs one wafer's token loop for clients of any thread or task."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from wsesim.errors import InvalidInputError
from wsesim.runtime.completion import Completion, GenerationEvent
from wsesim.runtime.errors import RequestError
from wsesim.runtime.generation import Generation
from wsesim.runtime.request import Request
from wsesim.runtime.token_loop import TokenLoop
from wsesim.serve.errors import ARRIVAL, BROKEN, CLOSING, QUEUE_FULL, WRONG_FORMAT, ApiError

log = logging.getLogger("wsesim.serve")


@dataclass(frozen=True, slots=True)
class Accepted:
    """The requests of a call are valid and queued."""


@dataclass(frozen=True, slots=True)
class ChoiceEvent:
    """An event of request number `choice` of a call."""

    choice: int
    event: GenerationEvent


CallEvent = Accepted | ChoiceEvent | ApiError
Callback = Callable[[CallEvent], None]
"""Called in the worker's thread, or in that of `stop`. It must neither block nor raise."""


@dataclass(slots=True, eq=False)
class Ticket:
    """A submitted call: `left` of its `requests` have not ended."""

    requests: Sequence[Request]
    callback: Callback
    left: int
    generations: list[Generation] = field(default_factory=list)


class Worker:
    """Runs `loop` while there is work. At most `queue` requests wait for a slot; the next one is refused."""

    def __init__(self, loop: TokenLoop, queue: int, name: str = "wafer") -> None:
        self.loop = loop
        self._most = loop.slots + queue
        self._changed = threading.Condition()
        self._commands: deque[Callable[[], None]] = deque()
        self._tickets: dict[Ticket, None] = {}
        self._open = 0
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=f"wsesim-{name}", daemon=True)
        self._began = False
        self._process = 0  # that the thread runs in

    @property
    def open(self) -> int:
        """Submitted requests that have not ended."""
        return self._open

    @property
    def forked(self) -> bool:
        """Whether this process was forked after the thread began. It lacks the thread, and its lock may be held."""
        return self._began and self._process != os.getpid()

    def check_process(self) -> None:
        """Raises InvalidInputError in a forked process."""
        if self.forked:
            raise InvalidInputError(
                f"this client ran in process {self._process}, and its wafer's thread stayed there when this process, "
                f"{os.getpid()}, was forked: make the client in the child"
            )

    def submit(self, requests: Sequence[Request], callback: Callback) -> Ticket:
        """Submits a call. `callback` gets Accepted or an ApiError, then the events of its texts.

        Raises ApiError if the call is refused, InvalidInputError in a process that was forked after the first call.
        """
        self.check_process()
        ticket = Ticket(requests, callback, len(requests))
        if len(requests) > self._most:
            said = f"{len(requests)} texts are more than run and wait at once, {self._most}; ask for fewer"
            raise ApiError(WRONG_FORMAT, said, param="n")
        with self._changed:
            if self._closing:
                raise ApiError(CLOSING, "the server is shutting down")
            if self._open + len(requests) > self._most:
                raise ApiError(QUEUE_FULL, f"the queue is full: {self._open} requests run or wait, {self._most} may")
            self._open += len(requests)
            self._tickets[ticket] = None
            if not self._began:
                self._began, self._process = True, os.getpid()
                self._thread.start()
            self._command(lambda: self._begin(ticket))  # before the lock is let go: the thread may be about to end
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """Drops a call whose client is gone. Its callback is not called any more, and its slots are free at once."""
        if not self.forked:
            self._command(lambda: self._drop(ticket))

    def close(self) -> None:
        """Refuses new calls and returns when all running ones have ended."""
        if self.forked:
            return
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._began:
            self._thread.join()

    def stop(self) -> None:
        """Refuses new calls and ends all running ones with an ApiError at once. `close` then waits for the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        for ticket in list(self._tickets):
            self.cancel(ticket)
            ticket.callback(ApiError(CLOSING, "the server is shutting down"))

    def _command(self, command: Callable[[], None]) -> None:
        with self._changed:
            self._commands.append(command)
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._commands or self.loop.busy or self._closing):
                    self._changed.wait()
                if self._closing and not self._commands and not self.loop.busy:
                    return
            try:
                while self._commands:
                    self._commands.popleft()()
                self.loop.advance()
            except Exception:
                log.exception("the wafer's run failed")
                self._fail(ApiError(BROKEN, "the simulation failed; the server's log has the reason"))

    def _begin(self, ticket: Ticket) -> None:
        if ticket not in self._tickets:
            return
        callbacks = [self._listener(ticket, choice) for choice in range(len(ticket.requests))]
        try:
            ticket.generations = self.loop.submit_all(ticket.requests, callbacks)
        except RequestError as error:
            self._forget(ticket)
            ticket.callback(ApiError(ARRIVAL, str(error)))
        else:
            ticket.callback(Accepted())

    def _listener(self, ticket: Ticket, choice: int) -> Callable[[GenerationEvent], None]:
        def callback(event: GenerationEvent) -> None:
            if isinstance(event, Completion):
                ticket.left -= 1
                self._settle(1)
                if ticket.left == 0:
                    self._tickets.pop(ticket, None)
            ticket.callback(ChoiceEvent(choice, event))

        return callback

    def _drop(self, ticket: Ticket) -> None:
        if ticket in self._tickets:
            self._forget(ticket)
            for generation in ticket.generations:
                self.loop.cancel(generation)

    def _forget(self, ticket: Ticket) -> None:
        del self._tickets[ticket]
        self._settle(ticket.left)

    def _settle(self, count: int) -> None:
        with self._changed:
            self._open -= count

    def _fail(self, error: ApiError) -> None:
        self.loop.clear()
        for ticket in list(self._tickets):
            self._forget(ticket)
            ticket.callback(error)
