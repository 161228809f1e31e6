"""What every part of a run does: record events, and keep and read values."""

from __future__ import annotations

import json
from typing import Any

from .clock import Clock
from .codec import Codec, Serdes
from .errors import (
    JournalError,
    NonDeterminismError,
    OperationError,
    OperationLimitError,
    PayloadTooLargeError,
    PayloadUnavailableError,
)
from .events import Event, EventKind
from .failures import error_of
from .journal import Journal
from .offloaded import text_of
from .operations import Operation, OperationStatus
from .session import Reply, Session, hear

_S = OperationStatus


class Records:
    """One execution's journal and values during one invocation."""

    def __init__(self, session: Session, codec: Codec, clock: Clock) -> None:
        self.session = session
        self.codec = codec
        self.clock = clock
        self.journal = Journal(session.operations, session.seed)
        self.ended = False
        self._room = session.room
        self.state: dict[str, Any] = {}
        """What floors above keep of this run while it is invoked, by their names."""

    @property
    def execution_id(self) -> str:
        """The id of the execution."""
        return self.session.execution_id

    def value_of(
        self, operation: Operation, returns: Any = None, serdes: Serdes | None = None
    ) -> Any:
        """Return the recorded result of an operation, decoded."""
        payload = operation.payload
        if payload is None:
            return None
        text = self.text_of(payload)
        return self.codec.decode(text, where=Where(operation), returns=returns, serdes=serdes)

    def text_of(self, payload: str) -> str:
        """Return a recorded text, from where it is kept.

        Raises:
            PayloadUnavailableError: it cannot be had; whatever the handler does, its run fails.
        """
        try:
            return text_of(payload)
        except (PayloadUnavailableError, JournalError) as error:
            raise self.journal.fail(error) from None

    def error_of(self, operation: Operation) -> OperationError:
        """Return the error of a failed operation, as the handler gets it."""
        return error_of(operation)

    def is_due(self, operation: Operation) -> bool:
        """Return whether something that was waited for has come."""
        if operation.closed or operation.status is _S.READY:
            return True
        return operation.status is _S.PENDING and (operation.due or 0) <= self.clock.now()

    def absorb(self, reply: Reply) -> list[Operation]:
        """Take in what others did; return the operations that changed."""
        self.ended = self.ended or reply.ended
        changed = self.journal.absorb(reply.events)
        for state in reply.operations:
            operation = self.journal.operations.get(state.id)
            if operation is not None and hear(operation, state):
                changed.append(operation)
        return changed

    def check_size(self, text: str, what: str, limit: int | None = None) -> None:
        """Refuse a text over a limit; over that of a result, if none is given.

        Raises:
            PayloadTooLargeError: with both sizes.
        """
        if limit is None:
            limit = self.session.limits.offloaded or self.session.limits.payload
        if len(text) * 4 <= limit:
            return
        size = len(text.encode())
        if size > limit:
            raise PayloadTooLargeError(
                f"{what} is {size:,} bytes; this engine keeps at most {limit:,}. Store it "
                "elsewhere and return a reference"
            )

    def keep(
        self,
        operation: Operation,
        value: Any,
        returns: Any,
        serdes: Serdes | None,
        *,
        limited: bool = True,
    ) -> tuple[str, Any]:
        """Return a result's text, and the copy of it that the handler gets."""
        kept = self.codec.roundtrip(value, where=Where(operation), returns=returns, serdes=serdes)
        if limited:
            self.check_size(kept[0], f"the result of {words(operation)}")
        return kept

    def too_large_inline(self, payload: str) -> bool:
        """Return whether a scope's result is recorded without its payload."""
        limit = self.session.limits.replay_children
        return limit is not None and len(payload.encode()) > limit

    def record(self, operation: Operation, kind: EventKind, **fields: Any) -> None:
        """Record an event of an operation."""
        self.adopt(operation, kind)
        self.journal.record(
            Event(
                kind,
                self.clock.now(),
                operation.id,
                operation.parent,
                operation.name,
                operation.subtype,
                **fields,
            )
        )

    def adopt(self, operation: Operation, kind: EventKind) -> None:
        """Make a claim's operation part of the journal: its first event is about to be recorded."""
        if self.session.replay_only:
            what = f"{kind.value} of {words(operation)}"
            raise self.journal.fail(
                NonDeterminismError(f"the handler does something its journal does not hold: {what}")
            )
        if operation.status is _S.UNRECORDED and operation.id not in self.journal.operations:
            self._count(operation)
            # The claim's own object becomes the recorded state, so whoever holds it sees it move.
            operation.status = _S.STARTED
            operation.started = 0
            self.journal.adopt(operation)

    def _count(self, operation: Operation) -> None:
        """Count a new operation.

        Raises:
            OperationLimitError: it would be one too many.
        """
        if self._room is None:
            return
        self._room -= 1
        if self._room < 0:
            limit = self.session.limits.operations
            raise self.journal.fail(
                OperationLimitError(
                    f"{words(operation)} would be more than the {limit:,} operations that a run "
                    "may have here. Do more in one step, use nesting='flat' for large batches, "
                    "or split the work over several runs (context.invoke)"
                )
            )


class Where:
    """Words for an operation in an error message, put together only when asked for."""

    __slots__ = ("_operation",)

    def __init__(self, operation: Operation) -> None:
        self._operation = operation

    def __str__(self) -> str:
        return words(self._operation)


def words(operation: Operation) -> str:
    """Return how a message names an operation."""
    kind = (operation.subtype or operation.type.value).lower()
    return f"{kind} {operation.name!r}" if operation.name else f"an unnamed {kind}"


def plain_json(payload: str | None) -> Any:
    """Return what an outsider sent: JSON if it is, else the text itself."""
    if payload is None:
        return None
    try:
        return json.loads(payload)
    except ValueError:
        return payload
