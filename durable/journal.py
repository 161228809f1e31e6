"""The notebook of one run, as one invocation reads and extends it. No I/O, no clock.

`Scope.claim` answers each request of the handler with the operation it stands for: recorded, or
new. It guards the rules that keep replay honest: one name one owner, no other type at replay, no
new operation before all recorded ones of its scope were claimed, none left over at the end.
`Journal.record` folds what happened into the state and queues it for the engine to write.
"""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .errors import InvocationEnded, NonDeterminismError, UsageError
from .events import Event, EventKind, fold
from .gates import PLAIN, Pass
from .names import ROOT, operation_id, scope_of
from .operations import Operation, OperationStatus, OperationType, SubType

if TYPE_CHECKING:
    from .batch import BranchState

_UNRECORDED = OperationStatus.UNRECORDED


class Journal:
    """The operations of one run, and what of them waits to be written."""

    def __init__(self, operations: dict[str, Operation], seed: str) -> None:
        self.operations = operations
        self.seed = seed
        self.outbox = Outbox()
        self.failure: BaseException | None = None
        self._scopes: dict[str, list[Operation]] = {}
        for id, operation in operations.items():
            self._scopes.setdefault(scope_of(id), []).append(operation)

    def root(self) -> Scope:
        """Return the handler's own scope, nothing of it claimed yet."""
        return Scope(self, ROOT, None, "")

    def recorded(self, scope: str) -> list[Operation]:
        """Return the operations recorded in a scope, in order of their start."""
        return self._scopes.setdefault(scope, [])

    def adopt(self, operation: Operation) -> None:
        """Make a new claim's operation part of the state; its first event follows."""
        self.operations[operation.id] = operation
        self.recorded(scope_of(operation.id)).append(operation)

    def record(self, event: Event) -> Operation:
        """Fold an event of this invocation into the state, and queue it to be written."""
        operation = fold(self.operations, event)
        assert operation is not None, event.kind
        self.outbox.add(event)
        return operation

    def start_step(
        self, operation: Operation, at: int, digest: str | None, opening: Pass = PLAIN
    ) -> None:
        """Note that an attempt of a STEP begins; it is an event only if the end comes later."""
        if opening.note is not None:
            operation.note = opening.note
        operation.status = OperationStatus.STARTED
        operation.due = operation.ended = operation.error = None
        if operation.started == 0:
            operation.started = at
        self.outbox.add_start(operation, at, digest, opening)

    def absorb(self, events: Iterable[Event]) -> list[Operation]:
        """Fold what others wrote (callbacks, timers); return the operations that changed."""
        changed = [fold(self.operations, event) for event in events]
        return [operation for operation in changed if operation is not None]

    def fail(self, error: BaseException) -> BaseException:
        """Make this the outcome of the invocation, whatever the handler does with the error."""
        if self.failure is None:
            self.failure = error
        return error


class Outbox:
    """What was recorded and is not written yet, in order. Threads of one run may share it.

    An end that finds its own start still here absorbs it: one row, one write.
    """

    __slots__ = ("_entries", "_guard", "_starts")

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._entries: dict[int, Event | _Start] = {}
        self._starts: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._entries)

    def add(self, event: Event) -> None:
        """Queue an event."""
        with self._guard:
            position = self._starts.pop(event.id, None)
            if position is not None and self._merges(event, position):
                start = self._entries.pop(position)
                event.started = start.at
                event.digest = start.digest
                if isinstance(start, _Start):
                    event.note, event.chain = start.opening.note, start.opening.chain
            elif event.kind is EventKind.CONTEXT_STARTED:
                self._starts[event.id] = id(event)
            self._entries[id(event)] = event

    def add_start(self, operation: Operation, at: int, digest: str | None, opening: Pass) -> None:
        """Queue the start of a STEP."""
        start = _Start(operation, at, digest, opening)
        with self._guard:
            self._starts[operation.id] = id(start)
            self._entries[id(start)] = start

    def take(self) -> list[Event]:
        """Return all that is queued, and forget it."""
        with self._guard:
            entries = list(self._entries.values())
            self._entries.clear()
            self._starts.clear()
        return [each.event() if isinstance(each, _Start) else each for each in entries]

    def _merges(self, event: Event, position: int) -> bool:
        if event.kind in (EventKind.STEP_SUCCEEDED, EventKind.STEP_FAILED, EventKind.STEP_RETRIED):
            return True
        # The start of a context stays ahead of what was recorded inside it.
        return next(reversed(self._entries)) == position


class _Start:
    """The start of a step whose end has not come yet."""

    __slots__ = ("at", "digest", "opening", "operation")

    def __init__(self, operation: Operation, at: int, digest: str | None, opening: Pass) -> None:
        self.operation = operation
        self.at = at
        self.digest = digest
        self.opening = opening

    def event(self) -> Event:
        """Return the event it is, once it is written by itself."""
        operation = self.operation
        return Event(
            EventKind.STEP_STARTED,
            self.at,
            operation.id,
            operation.parent,
            operation.name,
            operation.subtype,
            digest=self.digest,
            note=self.opening.note,
            chain=self.opening.chain,
        )


class Scope:
    """One context as replay sees it: what is recorded in it, and what was claimed of that."""

    __slots__ = (
        "_counts",
        "_patches",
        "branch",
        "closed",
        "digest",
        "exempt",
        "journal",
        "open",
        "operation",
        "overlapped",
        "parent",
        "path",
        "unawaited",
        "unclaimed",
    )

    def __init__(
        self,
        journal: Journal,
        digest: str,
        operation: str | None,
        path: str,
        parent: Scope | None = None,
    ) -> None:
        self.journal = journal
        self.digest = digest
        self.operation = operation
        self.path = path
        self.parent = parent
        self.branch: BranchState | None = parent.branch if parent is not None else None
        self.open = 0
        self.unawaited: dict[str, tuple[Any, Operation]] = {}
        self.overlapped = False
        self.exempt = False
        self.closed = False
        self._counts: dict[str, tuple[int, object]] = {}
        self._patches: dict[str, bool] = {}
        self.unclaimed = {
            each.id: each
            for each in journal.recorded(digest)
            if not each.optional and each.subtype not in _OURS_ALONE
        }

    def claim(
        self, type: OperationType, subtype: str, name: str | None, owner: object
    ) -> Operation:
        """Return the operation this request of the handler stands for.

        A new one is UNRECORDED; it may run once `held` of it is False.

        Raises:
            NonDeterminismError: the name was claimed by another task first, or the recorded
                operation is of another type.
            InvocationEnded: this scope takes no more claims.
        """
        if self.closed:
            raise InvocationEnded
        if self.journal.failure is not None:
            raise self.journal.failure
        key = name if name is not None else f"\0{subtype}"
        count, first = self._counts.get(key, (0, owner))
        if first is not owner:
            raise self.journal.fail(_shared_name(self, name, subtype))
        self._counts[key] = (count + 1, owner)
        self.open += 1
        if self.open > 1:
            self.overlapped = True
        return self._find(operation_id(self.digest, key, count), type, subtype, name)

    def derive(self, what: str, owner: object) -> int:
        """Return the number of a value derived from the run's seed, counted from 1.

        Raises:
            NonDeterminismError: another task took the ones before.
        """
        return self.number("\0derived", f"{what}()", owner)

    def number(self, key: str, what: str, owner: object) -> int:
        """Return how often this was asked of the scope, from 1, always by the same task.

        Raises:
            NonDeterminismError: another task asked before.
        """
        count, first = self._counts.get(key, (0, owner))
        if first is not owner:
            raise self.journal.fail(_shared_name(self, None, what))
        self._counts[key] = (count + 1, owner)
        return count + 1

    def claim_branch(self, id: str, subtype: str, name: str) -> Operation:
        """Return the operation of a branch, which is known by its index or key."""
        return self._find(id, OperationType.CONTEXT, subtype, name)

    def release(self) -> None:
        """Note that the handler has the result of a claim."""
        self.open -= 1

    def holds(self, operation: Operation) -> bool:
        """Return whether a new operation must wait until all recorded ones are claimed."""
        return operation.status is _UNRECORDED and bool(self.unclaimed) and not self.exempt

    def replaying(self) -> bool:
        """Return whether recorded operations of this scope are still to be claimed."""
        return bool(self.unclaimed)

    def patched(self, change: str, at: int) -> tuple[bool, Operation | None]:
        """Decide a `patched` marker; also return the marker, if it is to be recorded now."""
        known = self._patches.get(change)
        if known is not None:
            return known, None
        id = operation_id(self.digest, f"\0patched\0{change}", 0)
        answer = id in self.journal.operations
        marker = None
        if not answer and not self.unclaimed:
            answer = True
            event = Event(
                EventKind.STEP_SUCCEEDED,
                at,
                id,
                self.operation,
                change,
                SubType.PATCH,
                started=at,
                attempt=1,
                payload="true",
            )
            marker = Operation(id, OperationType.STEP, _UNRECORDED, self.operation)
            self.journal.adopt(marker)
            self.journal.record(event)
        self._patches[change] = answer
        return answer, marker

    def unexpected(self, operation: Operation, site: str | None = None) -> NonDeterminismError:
        """Return the error for a new claim while recorded operations are unclaimed."""
        missing = ", ".join(_describe(each) for each in list(self.unclaimed.values())[:3])
        more = len(self.unclaimed) - 3
        return NonDeterminismError(
            f"the handler asks for {_describe(operation)}{site or call_site()}, which is not in "
            "the journal, "
            f"while the journal{_in(self)} holds {missing}{f' and {more} more' if more > 0 else ''}"
            " that it has not asked for. The code changed under a running execution, or it depends "
            f"on something that is not recorded. {_WAYS_OUT}"
        )

    def finish(self) -> None:
        """Check, at the end of the scope, that nothing recorded was left unclaimed.

        Raises:
            NonDeterminismError: a completed operation was not asked for.
        """
        if self.exempt or not self.unclaimed:
            return
        left = [each for each in self.unclaimed.values() if each.closed]
        if not left:
            return
        text = (
            f"the handler ended{_in(self)} without asking for {_describe(left[0])}, which its "
            f"journal holds{f' (and {len(left) - 1} more)' if len(left) > 1 else ''}. {_WAYS_OUT}"
        )
        if self.overlapped:
            warnings.warn(text, stacklevel=2)
            return
        raise self.journal.fail(NonDeterminismError(text))

    def dropped(self) -> bool:
        """Return whether this scope, or one around it, was closed: its batch went on without it."""
        scope: Scope | None = self
        while scope is not None:
            if scope.closed:
                return True
            scope = scope.parent
        return False

    def is_within(self, other: Scope) -> bool:
        """Return whether this scope is `other` or inside it."""
        scope: Scope | None = self
        while scope is not None:
            if scope is other:
                return True
            scope = scope.parent
        return False

    def _find(self, id: str, type: OperationType, subtype: str, name: str | None) -> Operation:
        operation = self.journal.operations.get(id)
        if operation is None:
            return Operation(id, type, _UNRECORDED, self.operation, name, subtype)
        if operation.type is not type or not _compatible(operation.subtype, subtype):
            raise self.journal.fail(_other_type(self, operation, subtype))
        self.unclaimed.pop(id, None)
        return operation


_WAYS_OUT = (
    "Ways out: restore the name; guard the change with `if context.patched('…'):`; "
    "or start a new run for the new code."
)
_OURS_ALONE = (SubType.PATCH, SubType.FAILURE)
_APART = frozenset(
    {
        SubType.CONDITION,
        SubType.PATCH,
        SubType.CHILD,
        SubType.WAIT_FOR_CALLBACK,
        SubType.MAP,
        SubType.PARALLEL,
        SubType.CALLBACK,
        SubType.EVENT,
    }
)


def _compatible(recorded: str | None, claimed: str) -> bool:
    if recorded == claimed:
        return True
    return recorded not in _APART and claimed not in _APART


def _shared_name(scope: Scope, name: str | None, subtype: str) -> NonDeterminismError:
    what = f"the name {name!r}" if name is not None else f"an unnamed {subtype}"
    return NonDeterminismError(
        f"{what} is claimed{_in(scope)}{call_site()} by a second task; which of them comes "
        "first may differ at replay, and results would be swapped. Give it its own name, or use "
        "map."
    )


def _other_type(scope: Scope, recorded: Operation, subtype: str) -> NonDeterminismError:
    return NonDeterminismError(
        f"the journal{_in(scope)} holds {_describe(recorded)} where the handler asks for a "
        f"{subtype} of that name{call_site()}. {_WAYS_OUT}"
    )


def misuse(text: str) -> UsageError:
    """Return a misuse of the API, naming the line of the handler's call."""
    return UsageError(text + call_site())


def _describe(operation: Operation) -> str:
    kind = operation.subtype or operation.type.value
    return f"{kind} {operation.name!r}" if operation.name else f"an unnamed {kind}"


def _in(scope: Scope) -> str:
    return f" (in {scope.path!r})" if scope.path else ""


def call_site() -> str:
    """Return ` at file:line` of the handler's call that led here."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(_OURS):
        frame = frame.f_back
    return f" at {frame.f_code.co_filename}:{frame.f_lineno}"


_OURS = __name__.rpartition(".")[0]
