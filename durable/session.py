"""The line between journal and engine: what a worker holds while it runs one execution.

An engine hands a `Session` to the run of one invocation. The run writes its events through it and
learns what others did (callbacks, timers, a cancel); it never sees where they are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from .events import Event
from .group_commit import Ticket
from .limits import Limits
from .operations import ErrorObject, Operation, OperationStatus, OperationType

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Reply:
    """What a run learns when its events were written.

    Attributes:
        events: what others did to this run since it last heard.
        operations: the same as states, where an engine reports those; taken over by `hear`.
        ended: the execution was cancelled or timed out: no new operation may start.
    """

    events: Sequence[Event] = ()
    operations: Sequence[Operation] = ()
    ended: bool = False


def hear(operation: Operation, state: Operation) -> bool:
    """Take over what an engine tells of a recorded operation; return whether it was news.

    What others end (waits, callbacks, invokes) the engine knows. Steps and scopes this invocation
    writes itself, and its own state is ahead of any reply; of them only a retry's delay is taken.
    A due time moves only to a later one.
    """
    if not is_news(operation, state):
        return False
    if operation.type is not OperationType.STEP:
        operation.payload = state.payload
        operation.error = state.error
        operation.ended = state.ended
        operation.callback_id = state.callback_id
    operation.due = max(state.due, operation.due or 0) if state.due is not None else None
    # Last, since other threads look at the status first.
    operation.status = state.status
    return True


def is_news(operation: Operation, state: Operation) -> bool:
    """Return whether an engine tells something of an operation that is not known here."""
    if operation.closed:
        return False
    if state.type in (OperationType.STEP, OperationType.CONTEXT) and (
        operation.status is not OperationStatus.PENDING
        or state.status not in (OperationStatus.PENDING, OperationStatus.READY)
        or state.attempt != operation.attempt
    ):
        return False
    if state.status is not operation.status or state.callback_id != operation.callback_id:
        return True
    return state.due is not None and state.due > (operation.due or 0)


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The handler returned; `payload` is its encoded result."""

    payload: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The handler raised."""

    error: ErrorObject


@dataclass(frozen=True, slots=True)
class Pending:
    """The handler waits; nothing of it is left in memory.

    `again` has it invoked again at once: it was stopped, not suspended.
    """

    again: bool = False


Ending = Succeeded | Failed | Pending


class Session(Protocol):
    """One invocation's hold on one execution."""

    execution_id: str
    payload: str
    seed: str
    operations: dict[str, Operation]
    limits: Limits
    cautious: bool
    """Whether the last invocation died: starts are then written before bodies run."""
    replay_only: bool
    """Whether nothing may be recorded: a finished run is being checked."""

    @property
    def address(self) -> str:
        """What an operator's engine finds the execution by: its id, or on AWS its ARN."""

    @property
    def room(self) -> int | None:
        """How many operations may still be added; None for any number."""

    @property
    def home(self) -> Path | None:
        """The folder of the journal file; None where there is none."""

    @property
    def deadline(self) -> int | None:
        """When the timeout of the whole run ends it, in milliseconds; None where unknown."""

    def enqueue(self, events: list[Event], callback: Callable[[Ticket], None] | None) -> Ticket:
        """Queue events to be written, in this order, after those queued before."""

    def wait(self, ticket: Ticket) -> Reply:
        """Return once the ticket's events are durable."""

    def soon(self, ticket: Ticket) -> None:
        """Have a queued ticket written without anybody waiting; its callback tells of the end."""

    def callback_id(self, operation: Operation) -> str:
        """Return the id by which others complete a recorded CALLBACK."""

    def fail_callback(self, callback_id: str, error: ErrorObject) -> bool:
        """Fail a CALLBACK of this run, from any thread; return whether it was open until now."""

    def enqueue_end(
        self, events: list[Event], ending: Ending, callback: Callable[[Ticket], None] | None
    ) -> Ticket:
        """Queue the last events of the invocation and its outcome."""

    def end(self, events: list[Event], ending: Ending) -> None:
        """Write the last events of the invocation and its outcome, and let go of the execution."""
