"""How a person addresses an operation: `review[3]/approval`, the names of its scopes and its own."""

from __future__ import annotations

from ..names import branch_scope, child_scope, operation_id, scope_of
from ..operations import Operation, SubType

_BATCHES = (SubType.MAP, SubType.PARALLEL)


def paths_of(operations: dict[str, Operation]) -> dict[str, str]:
    """Return the path of each operation of a run, by its id."""
    scopes: dict[str, str] = {}
    paths: dict[str, str] = {}
    taken: dict[str, int] = {}
    for operation in operations.values():
        base = _scope_path(operation, operations, paths, scopes)
        own = _own(operation, operations)
        if operation.subtype in (SubType.MAP_ITEM, SubType.BRANCH):
            path = f"{base}[{own}]"
        else:
            path = f"{base}/{own}" if base else own
        taken[path] = taken.get(path, 0) + 1
        if taken[path] > 1:
            path = f"{path}#{taken[path]}"
        paths[operation.id] = path
        scopes[child_scope(operation.id)] = path
    return paths


def _scope_path(
    operation: Operation,
    operations: dict[str, Operation],
    paths: dict[str, str],
    scopes: dict[str, str],
) -> str:
    digest = scope_of(operation.id)
    if digest in scopes:
        return scopes[digest]
    batch = operations.get(operation.parent or "")
    if batch is None:
        return ""
    # A flat branch has no operation to read its index from: try them.
    for index in range(100_000):
        if branch_scope(batch.id, str(index)) == digest:
            scopes[digest] = f"{paths.get(batch.id, batch.name)}[{index}]"
            return scopes[digest]
    return paths.get(batch.id, "")


def _own(operation: Operation, operations: dict[str, Operation]) -> str:
    name = operation.name or (operation.subtype or operation.type.value).lower()
    batch = operations.get(operation.parent or "")
    if batch is None or operation.subtype not in (SubType.MAP_ITEM, SubType.BRANCH):
        return name
    prefix = f"{batch.name}["
    if name.startswith(prefix):
        return name[len(prefix) : -1]
    scope = child_scope(batch.id)
    for key in map(str, range(100_000)):
        if operation_id(scope, f"\0{key}", 0) == operation.id:
            return key
    return name
