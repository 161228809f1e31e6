"""The embedded engine as decisions see it: how a request stands, read from the journal each time.

Nothing is kept here. A callback that was completed with something that is no decision never counts
as a vote, and an engine that cannot be asked is `Unavailable`, never "closed".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from perdure.durable.codec import Codec
from perdure.durable.errors import (
    CallbackClosedError,
    CallbackNotFoundError,
    ExecutionNotFoundError,
    JournalError,
    SerializationError,
)
from perdure.durable.operations import Operation, OperationStatus, OperationType, SubType

from .callbacks import Ballot, OpenWait, Page, Standing
from .decisions import Decision
from .errors import ApprovalError, Unavailable
from .requests import REQUEST, ApprovalRequest

if TYPE_CHECKING:
    from perdure.durable import LocalEngine, OpenCallback

_RUNNING = "RUNNING"
_ALL = 1_000_000
"""More than a run has open callbacks."""
_WITHDRAWN = "Withdrawn"
"""The end of the error type of a callback that nobody is to answer any more."""


class LocalCallbacks:
    """`Callbacks` over one journal file."""

    def __init__(self, engine: LocalEngine) -> None:
        self._engine = engine

    def complete(self, callback: str, payload: str) -> Literal["recorded", "closed"]:
        """Complete a callback with JSON text, once; "closed" if that was too late, or no callback.

        Raises:
            Unavailable: the journal could not be written.
        """
        with _available():
            try:
                self._engine.complete_callback(callback, payload=payload)
            except (CallbackClosedError, CallbackNotFoundError):
                return "closed"
        return "recorded"

    def lookup(self, execution: str, operation: str) -> Standing | OpenWait | None:
        """Return how a request or an open wait stands; None for a closed wait, or no such thing.

        Raises:
            Unavailable: the journal could not be read.
        """
        with _available():
            try:
                return self._standing(execution, operation) or self._wait(execution, operation)
            except ExecutionNotFoundError:
                return None

    def inbox(self, after: int | None = None, limit: int = 50) -> Page:
        """Return what is open, newest first; a request once, however many may vote on it.

        Callbacks that a handler hands out by their ids wait for programs, and are left out.
        The count is exact on a page that holds all; else a quorum counts once for each open vote.

        Raises:
            Unavailable: the journal could not be read.
        """
        with _available():
            return _Inbox(self._engine, self._standing).page(after, max(1, limit))

    def _standing(self, execution: str, operation: str) -> Standing | None:
        # The run first, then what is inside: a vote that ended it must be among what is seen.
        info = self._engine.info(execution)
        scope = self._engine.operation(execution, operation)
        inside = self._engine.children(execution, operation)
        return standing_of(inside, scope, info.status.value, info.handler)

    def _wait(self, execution: str, operation: str) -> OpenWait | None:
        for each in self._engine.open_callbacks(limit=_ALL, execution=execution):
            if each.operation_id == operation and each.subtype == SubType.EVENT:
                asking = {step.parent for step in self._engine.steps(execution, REQUEST)}
                return (
                    None
                    if each.parent in asking
                    else _open_wait(each, _paths(self._engine, execution))
                )
        return None


class _Inbox:
    """One look at what is open; the requests of a run are read once."""

    def __init__(
        self, engine: LocalEngine, standing: Callable[[str, str], Standing | None]
    ) -> None:
        self._engine = engine
        self._standing = standing
        self._asking: dict[str, set[str | None]] = {}
        self._known: dict[str, dict[str, str]] = {}

    def page(self, after: int | None, limit: int) -> Page:
        entries: list[Standing | OpenWait] = []
        cursor = after
        while found := self._engine.open_callbacks(limit=limit + 1, after=cursor):
            for callback in found:
                if len(entries) == limit:
                    return Page(tuple(entries), self._engine.count_callbacks(), cursor)
                cursor = callback.cursor
                try:
                    entry = self._entry(callback)
                except ExecutionNotFoundError:  # deleted since
                    continue
                entries += [entry] if entry is not None else []
            if len(found) <= limit:
                break
        count = len(entries) if after is None else self._engine.count_callbacks()
        return Page(tuple(entries), count, None)

    def _entry(self, callback: OpenCallback) -> Standing | OpenWait | None:
        """Return what a callback stands for; None if another one of its request does."""
        if callback.parent is None or callback.parent not in self._requests(callback.execution_id):
            if callback.subtype != SubType.EVENT:
                return None
            return _open_wait(callback, self._paths(callback.execution_id))
        standing = self._standing(callback.execution_id, callback.parent)
        if standing is None or not standing.is_open:
            return None
        last = [each.callback for each in standing.ballots if each.open][-1]
        return standing if last == callback.callback_id else None

    def _requests(self, execution: str) -> set[str | None]:
        if execution not in self._asking:
            steps = self._engine.steps(execution, REQUEST)
            self._asking[execution] = {step.parent for step in steps}
        return self._asking[execution]

    def _paths(self, execution: str) -> dict[str, str]:
        if execution not in self._known:
            self._known[execution] = _paths(self._engine, execution)
        return self._known[execution]


def standing_of(
    inside: Sequence[Operation], scope: Operation | None, status: str, handler: str = ""
) -> Standing | None:
    """Return how a request stands, or None if there is none.

    Args:
        inside: the operations directly in the scope of the request; callbacks have their ids.
        scope: the CONTEXT operation of that scope.
        status: of the run.
    """
    request = next((found for each in inside if (found := _request(each)) is not None), None)
    if request is None:
        return None
    runs = status == _RUNNING and not (scope is not None and scope.closed)
    ballots = tuple(
        _ballot(each, request, runs) for each in inside if each.type is OperationType.CALLBACK
    )
    return Standing(request, ballots, _decided(scope), status, handler)


def _request(step: Operation) -> ApprovalRequest | None:
    if step.subtype != REQUEST or step.status is not OperationStatus.SUCCEEDED:
        return None
    try:
        return ApprovalRequest.read(_value(step))
    except (ValueError, SerializationError):
        return None


def _ballot(callback: Operation, request: ApprovalRequest, runs: bool) -> Ballot:
    made = _made(callback, runs)
    return Ballot(
        callback.callback_id or "",
        _approver(callback, request),
        open=made is None,
        vote=made if isinstance(made, Decision) else None,
        ended=made if isinstance(made, str) else None,
    )


def _approver(callback: Operation, request: ApprovalRequest) -> str | None:
    """Return whose callback it is: in a quorum they are numbered from 1, as in the policy."""
    if not request.policy.is_quorum:
        return None
    number = (callback.name or "").removeprefix("vote-")
    everyone = request.policy.everyone
    if not number.isdecimal() or not 1 <= int(number) <= len(everyone):
        return ""
    return everyone[int(number) - 1].name


def _made(callback: Operation, runs: bool) -> Decision | str | None:
    """Return the vote that closed a callback, or why it is closed without one; None while open."""
    if callback.status is OperationStatus.SUCCEEDED:
        try:
            return Decision.read(json.loads(callback.payload or "null"))
        except (ApprovalError, ValueError, RecursionError):
            return "foreign"
    if callback.status is OperationStatus.TIMED_OUT:
        return "timed out"
    if callback.status is OperationStatus.FAILED:
        kind = callback.error.type if callback.error is not None else None
        return "withdrawn" if (kind or "").endswith(_WITHDRAWN) else "foreign"
    return None if runs and not callback.closed else "withdrawn"


def _decided(scope: Operation | None) -> Decision | None:
    if scope is None or scope.status is not OperationStatus.SUCCEEDED:
        return None
    try:
        return Decision.read(_value(scope))
    except (ApprovalError, SerializationError):
        return None


def _value(operation: Operation) -> Any:
    return Codec().decode(operation.payload or "null", where=operation.name or operation.id)


def _paths(engine: LocalEngine, execution: str) -> dict[str, str]:
    return {each.id: path for path, each in engine.operations(execution).items()}


def _open_wait(callback: OpenCallback, paths: Mapping[str, str]) -> OpenWait:
    return OpenWait(
        callback.execution_id,
        callback.operation_id,
        callback.callback_id,
        paths.get(callback.operation_id, callback.name),
        callback.handler,
        callback.created,
        callback.due,
    )


@contextmanager
def _available() -> Iterator[None]:
    """Have an engine that cannot be asked say so in one way."""
    try:
        yield
    except JournalError as error:
        raise Unavailable(f"the journal could not be asked: {error}") from error
