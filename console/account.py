"""All that is known of one run, read once: for `show`, for the report at the end, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from perdure.durable.operations import ErrorObject, Operation, SubType

from .asked import asked_in, pending, title_of, without
from .costs import CALL, is_call, note_of
from .words import from_ms, length, moment, parsed, safe, until

if TYPE_CHECKING:
    from perdure.agents.ledgers import Ledger
    from perdure.approvals.audit import AuditRecord
    from perdure.durable import ExecutionInfo, Wait

    from .place import Runs

_CLOSING = ("ExecutionSucceeded", "ExecutionFailed", "ExecutionTimedOut", "ExecutionStopped")
_HELD = "perdure:failed"
_ANSWERED = ("usage", "cost", "stop_reason", "request_id", "seconds")
STYLES = {
    "running": "cyan",
    "waiting": "yellow",
    "succeeded": "green",
    "failed": "red",
    "timed out": "red",
    "cancelled": "dim",
}
"""How each status is coloured."""
_WAITS = {
    "event": "event",
    "callback": "callback",
    "timer": "timer",
    "retry": "retry of",
    "invoke": "function",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """What ended a run without a result.

    Attributes:
        path: the operation whose error it was, if one's.
        attempts: how many attempts that operation had.
    """

    type: str | None
    message: str
    trace: tuple[str, ...]
    path: str | None = None
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Account:
    """What is known of a run; `input` and `result` are data as the journal keeps it.

    A run whose failure is held open (`hold_on_failure`) has that failure, and is running.
    """

    info: ExecutionInfo
    operations: dict[str, Operation]
    waits: list[Wait]
    input: Any
    result: Any
    failure: Failure | None
    ledger: Ledger
    approvals: list[AuditRecord] = field(default_factory=list)

    @property
    def status(self) -> str:
        """The run's status in the console's words; see `status_of`."""
        return status_of(self.info)

    def seconds(self) -> float:
        """Return how long the run took, or has taken."""
        return seconds_of(self.info)

    def outcome(self) -> dict[str, Any]:
        """Return what the run came to, as JSON."""
        return summary(self.info, self.waits) | {
            "result": self.result,
            "error": self._error(),
            "ledger": self.ledger.as_json(),
            "approvals": [each.kept() for each in self.approvals],
        }

    def details(self) -> dict[str, Any]:
        """Return all of it as JSON."""
        outcome = self.outcome()
        calls = {each["path"]: each for each in outcome["ledger"]["calls"]}
        listed = [_operation(path, each) for path, each in self.operations.items()]
        for each, operation in zip(listed, self.operations.values(), strict=True):
            if is_call(operation):
                each["call"] = call_json(operation, calls[each["path"]])
        return outcome | {"input": self.input, "operations": listed}

    def _error(self) -> dict[str, Any] | None:
        if self.failure is None:
            return None
        each = self.failure
        return {
            "type": each.type,
            "message": each.message,
            "operation": each.path,
            "trace": list(each.trace),
        }


def account_of(engine: Runs, id: str) -> Account:
    """Read all there is of a run.

    Raises:
        ExecutionNotFoundError: there is none of this id.
    """
    from perdure.agents.ledgers import ledger_of

    execution = engine.get(id)
    info = execution.info()
    operations, history = execution.operations(), execution.history()
    closing: Mapping[str, Any] = {}
    if info.status != "RUNNING":
        ends = (event for event in reversed(history) if event["EventType"] in _CLOSING)
        closing = next(ends, {})
    details: Mapping[str, Any] = closing.get(f"{closing.get('EventType')}Details", {})
    error = details.get("Error", {}).get("Payload")
    failure = _held(operations) if error is None else _failure(error, operations)
    return Account(
        info,
        operations,
        execution.waiting_for(),
        parsed(history[0]["ExecutionStartedDetails"]["Input"].get("Payload")),
        parsed(details.get("Result", {}).get("Payload")),
        failure,
        ledger_of(operations, active=info.active, replays=execution.replays(CALL)),
        asked_in(operations, info.handler, info.status.value),
    )


def brief_ledger(engine: Runs, info: ExecutionInfo) -> Ledger:
    """Return the ledger of a run by reading its model calls alone, known by their ids."""
    from perdure.agents.ledgers import Ledger, ledger_of

    execution = engine.get(info.id)
    calls = {each.id: each for each in execution.steps(CALL)}
    if not calls:
        return Ledger()
    return ledger_of(calls, active=info.active, replays=execution.replays(CALL))


def call_json(operation: Operation, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of a model call, its place in the ledger first, as JSON.

    `prompt` is the digest of its messages.
    """
    note, record = note_of(operation), record_of(operation)
    return {
        **{key: entry[key] for key in ("model", "template", "attempts")},
        "provider": record.get("provider", note.get("provider")),
        "prompt": note.get("prompt"),
        **{key: record.get(key) for key in _ANSWERED},
    }


def record_of(operation: Operation) -> dict[str, Any]:
    """Return the record of a call's answer; empty if it has none."""
    found = parsed(operation.payload) if operation.closed else None
    return found if isinstance(found, dict) else {}


def status_of(info: ExecutionInfo) -> str:
    """Return a status in small letters; a running one that no process runs is `waiting`."""
    if info.status == "RUNNING" and not info.active:
        return "waiting"
    return info.status.value.lower().replace("_", " ")


def seconds_of(info: ExecutionInfo) -> float:
    """Return how long a run took, or has taken."""
    return ((info.ended or datetime.now(UTC)) - info.created).total_seconds()


def waits_words(waits: Sequence[Wait], approvals: Iterable[AuditRecord] = ()) -> str:
    """Return the first of what a run waits for, and how many there are; "" for nothing.

    A run whose failure is held waits for that, whatever else is open in it.
    """
    held = next((each for each in waits if each.path.startswith(_HELD)), None)
    if held is not None:
        return wait_words(held)
    asked = pending(approvals)
    words = [approval_words(each) for each in asked]
    words += [wait_words(each) for each in without(waits, asked)]
    more = f" and {len(words) - 1} more" if len(words) > 1 else ""
    return words[0] + more if words else ""


def approval_words(record: AuditRecord) -> str:
    """Return an open approval in a few words."""
    return f"approval {title_of(record)!r} until {moment(record.request.deadline)}"


def wait_words(wait: Wait) -> str:
    """Return what a run waits for in words."""
    if wait.path.startswith(_HELD):
        return "its failure to be mended: resume it"
    what = f"{_WAITS.get(wait.kind, wait.kind)} {safe(wait.path)!r}"
    if wait.due is None:
        return what
    left = (wait.due - datetime.now(UTC)).total_seconds()
    if wait.kind in ("timer", "retry"):
        return f"{what} {until(wait.due, datetime.now(UTC))}"
    if left < 60:
        return f"{what}, at most {length(max(0.0, left))} more"
    return f"{what} until {moment(wait.due)}"


def summary(info: ExecutionInfo, waits: list[Wait]) -> dict[str, Any]:
    """Return what a listing tells of a run, as JSON."""
    return {
        "id": info.id,
        "handler": info.handler,
        "status": info.status.value,
        "active": info.active,
        "created": _iso(info.created),
        "ended": _iso(info.ended),
        "wakes": _iso(info.wakes),
        "source": info.source,
        "waiting_for": [
            {
                "path": wait.path,
                "kind": wait.kind,
                "due": _iso(wait.due),
                "callback_id": wait.callback_id,
            }
            for wait in waits
        ],
    }


def _iso(when: datetime | None) -> str | None:
    return None if when is None else when.astimezone(UTC).isoformat(timespec="milliseconds")


def _failure(error: Mapping[str, Any], operations: Mapping[str, Operation]) -> Failure:
    message, trace = str(error.get("ErrorMessage", "")), tuple(error.get("StackTrace", ()))
    ended = ErrorObject(message, error.get("ErrorType"), error.get("ErrorData"), trace)
    return _told(ended, operations)


def _held(operations: Mapping[str, Operation]) -> Failure | None:
    for each in operations.values():
        if each.subtype == SubType.FAILURE and not each.closed and each.error is not None:
            return _told(each.error, operations)
    return None


def _told(error: ErrorObject, operations: Mapping[str, Operation]) -> Failure:
    """Return a failure in the words of the operation that it came from, if it came from one."""
    path, operation = _origin(error.data or "", operations) or (None, None)
    own = operation.error if operation is not None else None
    if operation is None or own is None:
        return Failure(error.type, error.message, error.trace)
    return Failure(own.type, own.message, own.trace or error.trace, path, operation.attempt)


def _origin(data: str, operations: Mapping[str, Operation]) -> tuple[str, Operation] | None:
    """Follow an error to the innermost operation that it came from."""
    by_id = {each.id: (path, each) for path, each in operations.items()}
    found = None
    seen: set[str] = set()
    while data.startswith("perdure:") and data not in seen:
        seen.add(data)
        inner = by_id.get(data.removeprefix("perdure:"))
        if inner is None:
            break
        found = inner
        data = (inner[1].error.data if inner[1].error is not None else None) or ""
    return found


def _operation(path: str, each: Operation) -> dict[str, Any]:
    error = each.error
    return {
        "path": path,
        "id": each.id,
        "type": each.type.value,
        "subtype": each.subtype,
        "status": each.status.value,
        "attempt": each.attempt,
        "started": _iso(from_ms(each.started)),
        "ended": None if each.ended is None else _iso(from_ms(each.ended)),
        "due": None if each.due is None else _iso(from_ms(each.due)),
        "result": parsed(each.payload),
        "error": None if error is None else {"type": error.type, "message": error.message},
    }
