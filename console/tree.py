"""A run's operations as rows of a tree, and how many of them fit on a screen. No I/O, no clock.

A row says what an operation is doing in the words a person would use; what was recorded before the
command began is `replayed`. Markers that no person asked for have no row: `Now`, `Patched`, and
the callback that holds a failure open. An approval is one row: of what stands inside it, only the
messages that are being sent or could not be are shown.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from perdure.durable.operations import Operation, OperationStatus, OperationType, SubType

from .asked import NOTICE, asked_in, row_note
from .costs import call_note, is_call
from .words import from_ms, one_error, until

_S = OperationStatus
_HIDDEN = (SubType.NOW, SubType.PATCH, SubType.FAILURE)
_BATCHES = (SubType.MAP, SubType.PARALLEL)


class State(StrEnum):
    """What an operation is doing."""

    RUNNING = "running"
    DONE = "done"
    REPLAYED = "replayed"
    WAITING = "waiting"
    RETRYING = "retrying"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    TIMED_OUT = "timed out"
    CANCELLED = "cancelled"
    STOPPED = "stopped"


OPEN = frozenset({State.RUNNING, State.WAITING, State.RETRYING, State.INTERRUPTED})
ENDED = frozenset(State) - OPEN
_CLOSED = {
    _S.SUCCEEDED: State.DONE,
    _S.FAILED: State.FAILED,
    _S.CANCELLED: State.CANCELLED,
    _S.TIMED_OUT: State.TIMED_OUT,
    _S.STOPPED: State.STOPPED,
}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the tree.

    Attributes:
        path: how the operation is addressed; empty for a line that stands for several.
        label: its name within its parent.
        attempt: how many attempts have ended.
        changed: when its state last changed, as far as that is recorded; milliseconds.
        seconds: how long it took or has taken, if that says anything.
        note: what else there is to say.
        said: the last of what it streams now, for a screen that is drawn again and again.
    """

    path: str
    label: str
    depth: int
    state: State
    attempt: int
    changed: int
    seconds: float | None
    note: str
    said: str = ""


@dataclass(frozen=True, slots=True)
class Moment:
    """What the rows depend on beside the operations; times in milliseconds.

    Attributes:
        began: when the command began; 0 where nothing counts from it.
        recorded: the ids that were closed before.
        active: a process runs the run now.
        said: the last of what each call streams now, by the operation's id.
        over: the run has ended: what is open in it waits for nothing any more.
    """

    now: int
    began: int = 0
    recorded: frozenset[str] = frozenset()
    active: bool = True
    said: Mapping[str, str] = field(default_factory=dict)
    over: bool = False


def is_shown(operation: Operation) -> bool:
    """Return whether an operation has a row, and counts as one for a person."""
    return operation.subtype not in _HIDDEN


def rows_of(operations: Mapping[str, Operation], at: Moment) -> list[Row]:
    """Return the rows of a run's operations, by path, in the order of their first events."""
    children: dict[str | None, list[tuple[str, Operation]]] = {}
    known = {operation.id for operation in operations.values()}
    for path, operation in operations.items():
        if is_shown(operation):
            parent = operation.parent if operation.parent in known else None
            children.setdefault(parent, []).append((path, operation))
    approvals = {
        each.request.operation: row_note(each, over=at.over) for each in asked_in(operations)
    }
    return _inside(_Tree(children, approvals, at), None, "", 0)


def news(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that say something new: not the insides of what is replayed."""
    return _without_insides(rows, {State.REPLAYED})


def fit(rows: Sequence[Row], height: int) -> list[Row]:
    """Return at most `height` rows: what is over is folded away first, what goes on stays."""
    if len(rows) <= height:
        return list(rows)
    folded = _without_insides(rows, ENDED)
    if len(folded) > height:
        folded = _with_finished_counted(folded)
    if len(folded) > height:
        folded = _shallowest(folded, max(1, height - 1))
    return folded


@dataclass(frozen=True, slots=True)
class _Tree:
    """What rows are made of.

    Attributes:
        children: the operations by the id of what they stand in, each with its path.
        approvals: what to say of each approval, by the id of its scope.
    """

    children: Mapping[str | None, list[tuple[str, Operation]]]
    approvals: Mapping[str, str]
    at: Moment


def _inside(tree: _Tree, parent: str | None, prefix: str, depth: int) -> list[Row]:
    rows: list[Row] = []
    for path, operation in tree.children.get(parent, ()):
        label = path.removeprefix(prefix).removeprefix("/") if prefix else path
        row = _row(path, label, depth, operation, tree.at)
        inside = _inside(tree, operation.id, path, depth + 1)
        if inside:
            row = _scope(row, operation, inside)
        if operation.id in tree.approvals:
            rows.append(replace(row, note=tree.approvals[operation.id]))
            rows += _messages(tree, operation.id, path, depth + 1)
        else:
            rows += [row, *inside]
    return rows


def _messages(tree: _Tree, scope: str, prefix: str, depth: int) -> list[Row]:
    """Return the rows of an approval's messages that say something: sending, or not sent."""
    rows: list[Row] = []
    for path, operation in tree.children.get(scope, ()):
        if operation.subtype == NOTICE:
            row = _row(path, path.removeprefix(f"{prefix}/"), depth, operation, tree.at)
            rows += [row] if row.state not in (State.DONE, State.REPLAYED) else []
        rows += _messages(tree, operation.id, prefix, depth)
    return rows


def _row(path: str, label: str, depth: int, operation: Operation, at: Moment) -> Row:
    state = _state(operation, at)
    changed = operation.started if operation.ended is None else operation.ended
    seconds, note = _seconds(operation, state, at), _note(operation, state, at)
    if is_call(operation):
        note = call_note(operation, note, interrupted=state is State.INTERRUPTED)
    said = at.said.get(operation.id, "") if state is State.RUNNING else ""
    return Row(path, label, depth, state, operation.attempt, changed, seconds, note, said)


def _state(operation: Operation, at: Moment) -> State:
    if operation.closed:
        done = operation.status is _S.SUCCEEDED and operation.id in at.recorded
        return State.REPLAYED if done else _CLOSED[operation.status]
    if at.over and not (operation.type is OperationType.STEP and operation.status is _S.STARTED):
        return State.STOPPED
    due = operation.due is not None and operation.due > at.now
    if operation.type is OperationType.STEP:
        if operation.status is _S.PENDING and due:
            return State.WAITING if _polls(operation) else State.RETRYING
        return State.RUNNING if at.active else _at_rest(operation)
    if operation.type is OperationType.CONTEXT:
        return State.RUNNING if at.active else State.WAITING
    return State.WAITING


def _at_rest(operation: Operation) -> State:
    begun = operation.status is _S.STARTED
    return State.INTERRUPTED if begun else State.WAITING


def _polls(operation: Operation) -> bool:
    return operation.subtype == SubType.CONDITION and operation.error is None


def _seconds(operation: Operation, state: State, at: Moment) -> float | None:
    if state in (State.WAITING, State.RETRYING, State.INTERRUPTED):
        return None
    # A step that is run again keeps the time of its first start, which may be days ago.
    again = operation.type is OperationType.STEP and operation.id not in at.recorded
    started = max(operation.started, at.began) if again else operation.started
    ended = at.now if operation.ended is None else operation.ended
    return max(0, ended - started) / 1000


def _note(operation: Operation, state: State, at: Moment) -> str:
    note = ""
    match state:
        case State.FAILED:
            tries = f"after {operation.attempt} attempts, " if operation.attempt > 1 else ""
            note = tries + _error(operation)
        case State.RETRYING:
            note = f"{_due(operation, at)}; attempt {operation.attempt}: {_error(operation)}"
        case State.WAITING:
            note = _waits_for(operation, at)
        case State.RUNNING if operation.attempt and not _polls(operation):
            note = f"attempt {operation.attempt + 1}"
        case State.DONE if operation.attempt > 1 and operation.type is OperationType.STEP:
            polls = operation.subtype == SubType.CONDITION
            note = f"{'poll' if polls else 'attempt'} {operation.attempt}"
        case State.TIMED_OUT if operation.subtype != SubType.EVENT:
            note = _error(operation)
    return note


def _error(operation: Operation) -> str:
    error = operation.error
    return one_error(error.type, error.message) if error is not None else ""


def _due(operation: Operation, at: Moment) -> str:
    if operation.due is None:
        return ""
    return until(from_ms(operation.due), from_ms(at.now))


def _waits_for(operation: Operation, at: Moment) -> str:
    due = _due(operation, at)
    match operation.type:
        case OperationType.CALLBACK:
            what = "for an event" if operation.subtype == SubType.EVENT else "for a callback"
            return f"{what}, times out {due}" if due else what
        case OperationType.CHAINED_INVOKE:
            return "for another function"
        case OperationType.CONTEXT:
            return ""
        case OperationType.STEP if operation.attempt:
            what = "poll" if operation.subtype == SubType.CONDITION else "attempt"
            return f"{what} {operation.attempt + 1} {due}".rstrip()
        case _:
            return f"goes on {due}" if due else ""


def _scope(row: Row, operation: Operation, inside: Sequence[Row]) -> Row:
    """Return a scope's row: an open one does what the rows inside do."""
    note = row.note
    if operation.subtype in _BATCHES:
        note = _branches(row, inside) or note
    going = {each.state for each in inside if each.state in OPEN}
    if row.state in OPEN and going and State.RUNNING not in going:
        return replace(row, state=State.WAITING, seconds=None, note=note)
    return replace(row, note=note)


def _branches(row: Row, inside: Sequence[Row]) -> str:
    """Count the branches of a batch: flat ones are known by the start of their steps' labels."""
    branches: dict[str, set[State]] = {}
    for each in inside:
        if each.depth == row.depth + 1:
            branches.setdefault(each.label.partition("]")[0], set()).add(each.state)
    failed = sum(State.FAILED in states for states in branches.values())
    going = sum(bool(states & OPEN) for states in branches.values())
    over = len(branches) - failed - going
    counts = {"done": over, "failed": failed, "running": going}
    if row.state not in OPEN:
        said = f"{len(branches)} branches" if len(branches) > 1 else ""
        return f"{said}, {failed} failed" if failed and said else said or row.note
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count)


def _without_insides(rows: Sequence[Row], closed: Collection[State]) -> list[Row]:
    """Leave out what is inside rows of these states."""
    kept: list[Row] = []
    closed_at: int | None = None
    for row in rows:
        if closed_at is not None and row.depth > closed_at:
            continue
        closed_at = row.depth if row.state in closed else None
        kept.append(row)
    return kept


def _with_finished_counted(rows: Sequence[Row]) -> list[Row]:
    kept: list[Row] = []
    finished: list[Row] = []
    for row in rows:
        if finished and (row.state in OPEN or row.depth != finished[0].depth):
            kept += _counted(finished)
            finished = []
        if row.state in OPEN:
            kept.append(row)
        else:
            finished.append(row)
    return [*kept, *_counted(finished)]


def _counted(rows: Sequence[Row]) -> Iterable[Row]:
    """Stand for rows that ended: those that failed stay."""
    shown = [row for row in rows if row.state is State.FAILED] if len(rows) > 1 else rows
    others = len(rows) - len(shown)
    if others:
        yield _count(others, rows[0].depth, "more, ended")
    yield from shown


def _shallowest(rows: Sequence[Row], height: int) -> list[Row]:
    """Keep the outermost rows, of those the latest, and count the others."""
    ranked = sorted(range(len(rows)), key=lambda number: (rows[number].depth, -number))
    kept = [rows[number] for number in sorted(ranked[:height])]
    return [*kept, _count(len(rows) - len(kept), 0, "more")]


def _count(many: int, depth: int, what: str) -> Row:
    return Row("", f"… {many:,} {what}", depth, State.DONE, 0, 0, None, "")
