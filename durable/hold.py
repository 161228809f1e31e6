"""Keeping a failing run open, where a failed execution would be final.

With `hold_on_failure`, what would fail the run opens the callback `perdure:failed` instead; a
resume completes it and reopens what failed. To fail that callback is to let the run fail.

On AWS Lambda a run stays with the version of the function that it began with. A resume there picks
up what changed outside of it: data, services that are back, secrets and prompts read at run time,
permissions of the function's role. It cannot pick up another version's code, packages or
environment: to use those, start a new run (only one that began on `$LATEST` sees new code). What a
scope that succeeded holds is not opened again there, since the service keeps no more of it.
"""

from __future__ import annotations

from .events import Event, EventKind
from .handler import Handler
from .names import RESERVED, ROOT, operation_id
from .operations import ErrorObject, Operation, OperationStatus, SubType
from .run import Run
from .session import Ending, Failed, Pending

FAILED = f"{RESERVED}failed"


def is_held(operations: dict[str, Operation]) -> bool:
    """Return whether a run waits on the callback that holds a failure."""
    return held_by(operations) is not None


def held_by(operations: dict[str, Operation]) -> Operation | None:
    """Return the open callback that holds a failure of a run, if one."""
    return next((each for each in holds(operations) if not each.closed), None)


def hold(run: Run, handler: Handler[object], ending: Ending) -> Ending:
    """Return the ending to write: where the handler asks for it, a failure becomes a wait."""
    if not isinstance(ending, Failed) or not handler.hold_on_failure or run.session.replay_only:
        return ending
    operations = run.journal.operations
    if any(held.status is OperationStatus.FAILED for held in holds(operations)):
        return ending
    run.journal.record(opening(operations, ending.error, run.clock.now()))
    return Pending()


def holds(operations: dict[str, Operation]) -> list[Operation]:
    """Return all callbacks that held a failure of a run, the first one first."""
    return [each for each in operations.values() if each.subtype == SubType.FAILURE]


def opening(operations: dict[str, Operation], error: ErrorObject, at: int) -> Event:
    """Return the event that opens the callback to hold a failure of a run."""
    id = operation_id(ROOT, FAILED, len(holds(operations)))
    kind = EventKind.CALLBACK_STARTED
    return Event(kind, at, id, name=FAILED, subtype=SubType.FAILURE, error=error)
