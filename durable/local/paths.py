"""How a person addresses an operation: `review[3]/approval`, its scopes and its own name."""

from __future__ import annotations

from ..names import branch_scope, child_scope, operation_id, scope_of
from ..operations import Operation, SubType

_BATCHES = (SubType.MAP, SubType.PARALLEL)
MOST = 100_000
"""Indexes tried for a branch whose name does not tell its own."""


def paths_of(operations: dict[str, Operation]) -> dict[str, str]:
    """Return the path of each operation of a run, by its id."""
    return _Paths(operations).all()


class _Paths:
    """The paths of one run's operations, found from the outermost scope inwards."""

    def __init__(self, operations: dict[str, Operation]) -> None:
        self._operations = operations
        self._paths: dict[str, str] = {}
        self._scopes: dict[str, str] = {}
        self._tried: dict[str, int] = {}
        self._keys: dict[str, str] = {}

    def all(self) -> dict[str, str]:
        taken: dict[str, int] = {}
        for operation in self._operations.values():
            base = self._scope_path(operation)
            if operation.subtype in (SubType.MAP_ITEM, SubType.BRANCH):
                path = f"{base}[{self._key(operation)}]"
            else:
                own = operation.name or (operation.subtype or operation.type.value).lower()
                path = f"{base}/{own}" if base else own
            taken[path] = taken.get(path, 0) + 1
            if taken[path] > 1:
                path = f"{path}#{taken[path]}"
            self._paths[operation.id] = path
            self._scopes[child_scope(operation.id)] = path
        return self._paths

    def _scope_path(self, operation: Operation) -> str:
        digest = scope_of(operation.id)
        batch = self._operations.get(operation.parent or "")
        if digest not in self._scopes and batch is not None and batch.subtype in _BATCHES:
            self._find_flat_branch(batch, digest)
        return self._scopes.get(digest, self._paths.get(operation.parent or "", ""))

    def _find_flat_branch(self, batch: Operation, digest: str) -> None:
        """Try indexes: a flat branch has no operation that its own could be read from."""
        path = self._paths.get(batch.id, batch.name or "")
        for index in range(self._tried.get(batch.id, 0), MOST):
            scope = branch_scope(batch.id, str(index))
            self._scopes[scope] = f"{path}[{index}]"
            self._tried[batch.id] = index + 1
            if scope == digest:
                return

    def _key(self, branch: Operation) -> str:
        """Return the index or key of a branch: in its name, or found by trying indexes."""
        batch = self._operations.get(branch.parent or "")
        name = branch.name or ""
        if batch is None or name.startswith(f"{batch.name}["):
            return name[len(batch.name or "") + 1 : -1] if batch is not None else name
        if operation_id(child_scope(batch.id), f"\0{name}", 0) == branch.id:
            return name
        for index in range(self._tried.get(batch.id, 0), MOST):
            if branch.id in self._keys:
                break
            self._keys[operation_id(child_scope(batch.id), f"\0{index}", 0)] = str(index)
            self._tried[batch.id] = index + 1
        return self._keys.get(branch.id, name)
