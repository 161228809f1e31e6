"""How a run is resumed where an operation that has ended can never be written again.

With `hold_on_failure`, nothing is ended that a resume may have to open again. A scope or batch that
fails stays STARTED; what it came to is a STEP inside it, `<scope>-f<n>`. A step, callback or invoke
that failed is left as it is, and done again as another operation, `<id>-<n>`. What failed the run
is the STEP `<callback>-f0` beside the callback that holds it; what its resume opened again is the
STEP `<callback>-r0`, recorded once and obeyed at each replay. `n` counts how often a resume has
opened that operation, so ids follow from the record alone.

The journal knows nothing of it: `Generations` folds the service's operations into those of the
handler, one an id, and says under which ids the service has to be told of them.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from ..completion import Reason, read_summary
from ..events import Event, EventKind, fold
from ..offloaded import text_of
from ..operations import Operation, OperationType, SubType
from ..records import plain_json
from .wire import MAX_ERROR, Update, updates_of

_K, _T = EventKind, OperationType
RESUMED = "perdure:resumed"
FAILURE = "ScopeFailure"
OUTCOME = "ScopeOutcome"
REPLAYED = "ScopeReplayed"
"""Subtypes of what a failing scope came to: its error; a batch's outcome; one without results."""
_ID = re.compile(r"([0-9a-f]{20}-[0-9a-f]{20})-([fr]?)([0-9]+)")


class Generations:
    """The ids of one run's operations at the service."""

    def __init__(self, *, holding: bool, errors: int = MAX_ERROR) -> None:
        self._holding = holding
        self._errors = errors
        self._counts: Counter[str] = Counter()
        self._optional: set[str] = set()
        self._resumed: set[str] = set()
        self._sealed: set[str] = set()

    def fold(self, states: Iterable[Operation]) -> dict[str, Operation]:
        """Return the operations of the handler that the service's operations stand for."""
        found: dict[str, dict[int, Operation]] = {}
        outcomes: dict[tuple[str, int], Operation] = {}
        for state in states:
            id, kind, number = _split(state.id)
            if kind == "f":
                outcomes[id, number] = state
            elif kind == "r":
                self._take_up(id, json.loads(text_of(state.payload or "{}")))
            else:
                found.setdefault(id, {})[number] = state
        return {id: self._current(id, each, outcomes) for id, each in found.items()}

    def heard(self, state: Operation) -> Operation | None:
        """Return what the service tells of an operation as the handler's; None if it is none."""
        id, kind, number = _split(state.id)
        if kind or (state.type is not _T.CONTEXT and number != self._counts[id]):
            return None
        state.id = id
        return state

    def wire_id(self, id: str) -> str:
        """Return the id under which the service has, or is to have, an operation."""
        return f"{id}-{self._counts[id]}" if self._counts[id] else id

    def updates(self, event: Event) -> list[Update]:
        """Return the updates that tell the service of an event."""
        if event.subtype == SubType.FAILURE and event.error is not None:
            error = _step(event, "f0", event.at, name=event.name, error=event.error)
            return self._updates_of(error) + self._updates_of(event)
        if not self._holding:
            return self._updates_of(event)
        if event.kind is _K.CONTEXT_FAILED or _is_failed_batch(event):
            return self._left_open(event)
        if event.kind is _K.CONTEXT_SUCCEEDED or not self._counts[event.id]:
            return self._updates_of(event)
        return self._updates_of(replace(event, id=self.wire_id(event.id)))

    def is_resumed(self, held: Operation) -> bool:
        """Return whether it is on record what a resume opened again."""
        return held.id in self._resumed

    def reopenable(self, operations: dict[str, Operation]) -> dict[str, Operation]:
        """Return what a resume may open again.

        What stands in a scope that has succeeded stays as it is: the service keeps no more of it.
        """
        return {id: op for id, op in operations.items() if not self._is_sealed(operations, op)}

    def resume(
        self, operations: dict[str, Operation], held: Operation, wanted: Iterable[str], at: int
    ) -> list[Update]:
        """Open operations again; return the updates that put it on record."""
        before = {each.id for each in operations.values() if each.optional}
        reopened = list(wanted)
        fold(operations, Event(_K.EXECUTION_RESUMED, at, reopened=tuple(reopened)))
        for id in reopened:
            operations[id].callback_id = None
        optional = [each.id for each in operations.values() if each.optional]
        record = {"reopened": reopened, "optional": [id for id in optional if id not in before]}
        self._take_up(held.id, record)
        return self._updates_of(_step(held, "r0", at, name=RESUMED, payload=json.dumps(record)))

    def _updates_of(self, event: Event) -> list[Update]:
        return updates_of(event, self._errors)

    def _take_up(self, held: str, record: Mapping[str, Any]) -> None:
        self._resumed.add(held)
        self._counts.update(record.get("reopened", ()))
        self._optional.update(record.get("optional", ()))

    def _current(
        self,
        id: str,
        found: Mapping[int, Operation],
        outcomes: Mapping[tuple[str, int], Operation],
    ) -> Operation:
        number = self._counts[id]
        last = max(found)
        operation = found[last]
        operation.id = id
        operation.optional = id in self._optional
        if operation.type is _T.CONTEXT:
            self._read_outcome(operation, outcomes.get((id, number)))
        elif last < number:
            operation.reopen()
            operation.callback_id = None
        elif operation.subtype == SubType.FAILURE and (failure := outcomes.get((id, 0))):
            operation.error = failure.error
        if operation.carried is None:
            # What a gate left in the last failure stays, whatever was opened again since.
            earlier = (found[each].carried for each in sorted(found, reverse=True))
            operation.carried = next((each for each in earlier if each is not None), None)
        return operation

    def _read_outcome(self, scope: Operation, outcome: Operation | None) -> None:
        if scope.closed:
            self._sealed.add(scope.id)
        elif outcome is not None and outcome.closed:
            scope.status = outcome.status
            scope.payload, scope.error = outcome.payload, outcome.error
            scope.ended = outcome.ended
            scope.replay_children = outcome.subtype == REPLAYED

    def _is_sealed(self, operations: dict[str, Operation], operation: Operation | None) -> bool:
        while operation is not None:
            if operation.id in self._sealed:
                return True
            operation = operations.get(operation.parent or "")
        return False

    def _left_open(self, event: Event) -> list[Update]:
        """Return the updates by which a scope that failed stays open, what it came to inside."""
        subtype = FAILURE if event.error is not None else OUTCOME
        if event.replay_children:
            subtype = REPLAYED
        outcome = _step(
            event,
            f"f{self._counts[event.id]}",
            event.at,
            name=event.name,
            parent=event.id,
            subtype=subtype,
            payload=event.payload,
            error=event.error,
        )
        if event.started is None:
            return self._updates_of(outcome)
        start = replace(event, kind=_K.CONTEXT_STARTED, payload=None, error=None, started=None)
        return self._updates_of(start) + self._updates_of(outcome)


def handlers_operations(states: Iterable[Operation]) -> dict[str, Operation]:
    """Return the operations of a handler, by their ids, that the service's operations stand for."""
    return Generations(holding=False).fold(states)


def names_of(payload: str | None) -> list[str]:
    """Return the names that a resume is to open again: `{"reopen": ["name", ...]}`, or none."""
    sent = plain_json(payload)
    names = sent.get("reopen") if isinstance(sent, dict) else None
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _step(of: Event | Operation, suffix: str, at: int, **fields: Any) -> Event:
    """Return the event of a STEP of this package's own, started and ended at once."""
    kind = _K.STEP_FAILED if fields.get("error") is not None else _K.STEP_SUCCEEDED
    fields.setdefault("subtype", SubType.FAILURE)
    return Event(kind, at, f"{of.id}-{suffix}", started=at, attempt=1, **fields)


def _is_failed_batch(event: Event) -> bool:
    if event.kind is not _K.CONTEXT_SUCCEEDED or event.payload is None:
        return False
    if event.subtype not in (SubType.MAP, SubType.PARALLEL):
        return False
    try:
        return read_summary(event.payload).reason is Reason.FAILURE_TOLERANCE_EXCEEDED
    except (ValueError, TypeError, KeyError):
        return False  # what a serdes of the user's wrote: that of a batch that succeeded


def _split(id: str) -> tuple[str, str, int]:
    found = _ID.fullmatch(id)
    return (found[1], found[2], int(found[3])) if found else (id, "", 0)
