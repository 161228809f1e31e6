"""What sync and async batches share: the branches of a map or parallel, checked and named."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .codec import Serdes
from .completion import ALL, Completion, DecidedPlan, Plan, read_summary
from .errors import UsageError
from .journal import Scope
from .names import branch_scope, check_name, child_scope, operation_id
from .operations import ErrorObject, Operation, OperationStatus, SubType
from .run import scope_path

Nesting = Literal["nested", "flat"]


@dataclass(frozen=True, slots=True)
class Branch:
    """One branch: its key in the batch, its name, and the user's function of the context."""

    key: str
    name: str
    call: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class BatchSpec:
    """A map or parallel as it was asked for."""

    name: str
    kind: str
    branches: Sequence[Branch]
    max_concurrency: int | None
    completion: Completion
    flat: bool
    serdes: Serdes | None
    item_serdes: Serdes | None

    @property
    def item_kind(self) -> str:
        """The subtype of a branch's operation."""
        return SubType.MAP_ITEM if self.kind == SubType.MAP else SubType.BRANCH

    def plan(self, batch: Operation) -> Plan:
        """Return the plan of this batch: a fresh one, or the one that is on record as decided."""
        total = len(self.branches)
        if batch.closed and batch.payload:
            return DecidedPlan(total, self.max_concurrency, read_summary(batch.payload))
        return Plan(total, self.max_concurrency, self.completion)

    def names(self) -> list[str]:
        """Return the names of all branches."""
        return [branch.name for branch in self.branches]

    def branch_id(self, batch: Operation, index: int) -> str:
        """Return the id of a branch's own operation."""
        return operation_id(child_scope(batch.id), f"\0{self.branches[index].key}", 0)

    def open_scope(self, scope: Scope, batch: Operation, index: int) -> Scope:
        """Return the scope of a branch, nothing of it claimed yet."""
        branch = self.branches[index]
        shown = branch.name
        if not shown.startswith(f"{self.name}["):
            shown = f"{self.name}[{branch.key}]"
        path = scope_path(scope, shown)
        if self.flat:
            digest = branch_scope(batch.id, branch.key)
            return Scope(scope.journal, digest, batch.id, path, scope)
        id = self.branch_id(batch, index)
        return Scope(scope.journal, child_scope(id), id, path, scope)


def recorded_outcome(branch: Operation) -> str | ErrorObject | None:
    """Return what a branch came to, encoded, if it is on record whole."""
    if branch.status is OperationStatus.SUCCEEDED and not branch.replay_children:
        return branch.payload or "null"
    if branch.status is OperationStatus.FAILED:
        return branch.error or ErrorObject("no error was recorded")
    return None


class BranchState:
    """How much of a running branch waits: one that waits frees its place in the plan."""

    __slots__ = ("_changed", "_plan", "_waiting")

    def __init__(self, plan: Plan, changed: Callable[[], None]) -> None:
        self._plan = plan
        self._changed = changed
        self._waiting = 0

    def park(self) -> None:
        """Note that a claim of the branch waits."""
        self._waiting += 1
        if self._waiting == 1:
            self._plan.parked()
            self._changed()

    def unpark(self) -> None:
        """Note that a claim of the branch goes on."""
        self._waiting -= 1
        if self._waiting == 0:
            self._plan.unparked()


def map_spec(
    name: str,
    items: Iterable[Any],
    fn: Callable[..., Any],
    item_name: Callable[..., str] | None,
    **options: Any,
) -> BatchSpec:
    """Return the batch of one branch an item.

    Raises:
        UsageError: naming the argument that cannot be meant.
    """
    check_name(name, "map")
    check_callable(fn, f"map {name!r}")
    if isinstance(items, (str, bytes, Mapping)) or not isinstance(items, Iterable):
        raise UsageError(f"map {name!r} goes over a list of items, not {type(items).__name__}")
    with_index = _takes(fn, 3)
    branches = []
    for index, item in enumerate(items):
        shown = f"{name}[{index}]"
        if item_name is not None:
            shown = item_name(item, index) if _takes(item_name, 2) else item_name(item)
        check_name(shown, "branch") if item_name is not None else None
        call = _item_call(fn, item, index) if with_index else _item_call(fn, item)
        branches.append(Branch(str(index), shown, call))
    return _spec(name, SubType.MAP, branches, **options)


def parallel_spec(
    name: str,
    branches: Mapping[str, Callable[..., Any]] | Iterable[Callable[..., Any]],
    **options: Any,
) -> BatchSpec:
    """Return the batch of these functions.

    Raises:
        UsageError: naming the argument that cannot be meant.
    """
    check_name(name, "parallel")
    if isinstance(branches, Mapping):
        named = [(check_name(key, "branch"), key, fn) for key, fn in branches.items()]
    else:
        functions = list(branches)
        _refuse_late_binding(name, functions)
        named = [(str(i), f"{name}[{i}]", fn) for i, fn in enumerate(functions)]
    for _, shown, fn in named:
        check_callable(fn, f"branch {shown!r}")
    parts = [Branch(key, shown, fn) for key, shown, fn in named]
    return _spec(name, SubType.PARALLEL, parts, **options)


def _spec(
    name: str,
    kind: str,
    branches: list[Branch],
    *,
    max_concurrency: int | None = None,
    completion: Completion | None = None,
    nesting: Nesting = "nested",
    serdes: Serdes | None = None,
    item_serdes: Serdes | None = None,
) -> BatchSpec:
    what = f"{kind.lower()} {name!r}"
    if nesting not in ("nested", "flat"):
        raise UsageError(f"{what}: nesting is 'nested' or 'flat', not {nesting!r}")
    if max_concurrency is not None:
        whole = isinstance(max_concurrency, int) and not isinstance(max_concurrency, bool)
        if not whole or max_concurrency < 1:
            raise UsageError(
                f"{what}: max_concurrency is a whole number from 1, not {max_concurrency!r}"
            )
    if completion is not None and not isinstance(completion, Completion):
        raise UsageError(f"{what}: completion is a Completion, not {type(completion).__name__}")
    return BatchSpec(
        name,
        kind,
        branches,
        max_concurrency,
        completion or ALL,
        nesting == "flat",
        serdes,
        item_serdes,
    )


def _item_call(fn: Callable[..., Any], *arguments: Any) -> Callable[[Any], Any]:
    return lambda context: fn(context, *arguments)


def check_callable(fn: object, what: str) -> None:
    """Refuse what is not a function, naming the call.

    Raises:
        UsageError: with the type that was given.
    """
    if not callable(fn):
        raise UsageError(f"{what} needs a function, not {type(fn).__name__}")


def _takes(fn: Callable[..., Any], count: int) -> bool:
    """Return whether a function has at least so many positional parameters of its own."""
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if count == 3:
        positional = [p for p in positional if p.default is p.empty]
    return len(positional) >= count


def _refuse_late_binding(name: str, functions: Sequence[Any]) -> None:
    """Refuse lambdas made in a loop that share their variables: all would see the last value."""
    seen: dict[Any, Any] = {}
    for fn in functions:
        code = getattr(fn, "__code__", None)
        if code is None:
            continue
        # A cell has no hash; two functions share a variable if they share its cell.
        cells = tuple(map(id, fn.__closure__ or ()))
        key = (code, cells, fn.__defaults__, _frozen(fn.__kwdefaults__))
        try:
            other = seen.setdefault(key, fn)
        except TypeError:
            continue
        if other is not fn:
            raise UsageError(
                f"parallel {name!r}: two branches are the same function over the same variables, "
                "so each would see the last value of the loop. Bind it (`lambda c, x=x: …`) or "
                "use map"
            )


def _frozen(mapping: dict[str, Any] | None) -> Any:
    return tuple(mapping.items()) if mapping else None
