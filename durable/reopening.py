"""What a resume opens again: the operation whose error ended the run, and what failed by it.

Failures that the handler caught stay as they are recorded, and so does everything that succeeded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .completion import read_summary
from .errors import UsageError
from .operations import ErrorObject, Operation, OperationStatus, OperationType, SubType

_FAILED = (OperationStatus.FAILED, OperationStatus.TIMED_OUT, OperationStatus.STOPPED)
_FROM = "perdure:"


def reopened_by_resume(
    operations: dict[str, Operation], error: ErrorObject | None, names: Sequence[str]
) -> set[str]:
    """Return what a resume opens again for the error that ended a run, and by name.

    Raises:
        UsageError: no failed operation has one of the names.
    """
    data = error.data if error is not None else None
    return reopened_by(operations, (data or "").removeprefix(_FROM)) | _named(operations, names)


def reopened_by(operations: dict[str, Operation], source: str | None) -> set[str]:
    """Return what a resume opens again for the failure that came from this operation."""
    reopened: set[str] = set()
    operation = operations.get(source or "")
    while operation is not None and operation.id not in reopened:
        reopened.add(operation.id)
        if operation.subtype in (SubType.MAP, SubType.PARALLEL):
            for branch in _failed_branches(operations, operation):
                reopened |= reopened_by(operations, branch.id)
                reopened |= _inner(operations, branch)
        inner = _inner_source(operation)
        if inner is None:
            break
        operation = operations.get(inner)
    for id in list(reopened):
        parent = operations.get(operations[id].parent or "")
        while parent is not None:
            if parent.closed:
                reopened.add(parent.id)
            parent = operations.get(parent.parent or "")
    return {id for id in reopened if _reopenable(operations[id])}


def _inner(operations: dict[str, Operation], operation: Operation) -> set[str]:
    inner = _inner_source(operation)
    return reopened_by(operations, inner) if inner else set()


def _inner_source(operation: Operation) -> str | None:
    data = operation.error.data if operation.error is not None else None
    return data.removeprefix(_FROM) if data and data.startswith(_FROM) else None


def _failed_branches(operations: dict[str, Operation], batch: Operation) -> Iterable[Operation]:
    for operation in operations.values():
        if operation.parent == batch.id and operation.status in _FAILED:
            yield operation
    for _, _, status, error in read_summary(batch.payload or "{}").items if batch.payload else ():
        # A flat branch has no operation of its own; its error says where it came from.
        if status == "FAILED" and isinstance(error, ErrorObject) and error.data:
            source = operations.get(error.data.removeprefix(_FROM))
            if source is not None:
                yield source


def _reopenable(operation: Operation) -> bool:
    return (
        operation.status in _FAILED
        or operation.type is OperationType.CONTEXT
        or (operation.type is OperationType.STEP and operation.status is OperationStatus.STARTED)
    )


def _named(operations: dict[str, Operation], names: Sequence[str]) -> set[str]:
    if not names:
        return set()
    from .local.paths import paths_of

    found: set[str] = set()
    paths = paths_of(operations)
    for name in names:
        matching = [
            operation.id
            for operation in operations.values()
            if name in (operation.name, paths[operation.id]) and operation.status in _FAILED
        ]
        if not matching:
            raise UsageError(f"no failed operation is named {name!r}")
        for id in matching:
            found |= reopened_by(operations, id)
    return found
