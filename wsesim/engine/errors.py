"""Errors of the timing engine.

WsesimError
├── VerificationError
│   └── TaskGraphError    a task graph breaks a rule; names the task, its PE and the rule
├── InvalidInputError
│   ├── ProfileError      port times, a State or a Fabric that the engine cannot run with
│   ├── SequencesError    more tokens at once than the Program has KV slots or buffers for
│   └── GraphSizeError    a part of the run needs one task graph that is too large to simulate
├── DeadlockError         tasks, messages or tokens wait for each other in a cycle; names them
└── UnsettledError        tokens in flight that reach no steady state
"""

from __future__ import annotations

from wsesim.errors import InvalidInputError, VerificationError, WsesimError


class TaskGraphError(VerificationError):
    """A task graph breaks a rule of its stage."""


class ProfileError(InvalidInputError):
    """Port times, a State or a Fabric do not suit the task graph or the engine."""


class SequencesError(InvalidInputError):
    """More tokens at once than the Program has places in the KV cache, or buffers, for."""


class GraphSizeError(InvalidInputError):
    """A part of the run needs one task graph that would take more memory than GRAPH_LIMIT_BYTES."""


class DeadlockError(WsesimError):
    """Tasks or messages wait for each other: `waiting` names those in the cycle, each waits for the next."""

    def __init__(self, waiting: tuple[str, ...], unfinished_tasks: int) -> None:
        self.waiting = waiting
        self.unfinished_tasks = unfinished_tasks
        shown = [*waiting[:8], f"... ({len(waiting)} in all)"] if len(waiting) > 8 else [*waiting, waiting[0]]
        super().__init__(f"deadlock, {unfinished_tasks} tasks cannot finish: {' waits for '.join(shown)}")


class UnsettledError(WsesimError):
    """Tokens in flight whose distance at the output does not repeat."""
