"""Which open callback or named wait of a run somebody means by a name or path."""

from __future__ import annotations

from .errors import CallbackClosedError, CallbackNotFoundError
from .operations import Operation, OperationType


def addressed(id: str, status: str, operations: dict[str, Operation], name: str) -> Operation:
    """Return the open callback or wait of this name, or path, of the run `id`.

    Raises:
        CallbackNotFoundError: none answers to it, or several do; lists the open ones.
        CallbackClosedError: it was already completed, or the run has ended.
    """
    from .local.paths import paths_of

    callbacks = [each for each in operations.values() if each.type is OperationType.CALLBACK]
    paths = paths_of(operations)
    matching = [each for each in callbacks if name in (each.name, paths[each.id])]
    still_open = [each for each in matching if not each.closed]
    exact = [each for each in still_open if paths[each.id] == name]
    if status != "RUNNING":
        raise CallbackClosedError(f"the execution {id!r} has ended ({status})")
    if len(exact) == 1 or len(still_open) == 1:
        return exact[0] if len(exact) == 1 else still_open[0]
    shown = ", ".join(sorted(paths[each.id] for each in callbacks if not each.closed)) or "none"
    if len(still_open) > 1:
        raise CallbackNotFoundError(
            f"{len(still_open)} open waits of {id!r} are named {name!r}; address one by its "
            f"path: {', '.join(sorted(paths[each.id] for each in still_open))}"
        )
    if matching:
        raise CallbackClosedError(f"{name!r} of {id!r} is already completed; open: {shown}")
    raise CallbackNotFoundError(f"{id!r} has no open wait named {name!r}; open: {shown}")
