"""A map or parallel of a sync handler: branches on the pool, and on the thread that waits for them.

The calling thread runs branches itself, helpers from the pool take some off it, and nobody waits
for a branch that nobody has started; so nesting never deadlocks, whatever the size of the pool.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import Any

from .batch import BatchSpec, recorded_outcome
from .errors import InvocationEnded, InvocationSuspended, JournalError, UsageError
from .failures import error_object
from .journal import Scope
from .names import child_scope
from .operations import ErrorObject, Operation
from .sync_run import SyncRun, Unit

BranchBody = Callable[[Scope, Unit, int], Any]


class SyncBatch:
    """One batch during one invocation."""

    def __init__(
        self,
        run: SyncRun,
        scope: Scope,
        unit: Unit,
        batch: Operation,
        spec: BatchSpec,
        body: BranchBody,
    ) -> None:
        self._run = run
        self._scope = scope
        self._unit = unit
        self._batch = batch
        self._spec = spec
        self._body = body
        self._plan = spec.plan(batch)
        self._inner = Scope(run.journal, child_scope(batch.id), batch.id, scope.path, scope)
        self._lock = threading.Lock()
        self._parked: dict[int, Sequence[Operation]] = {}
        self._open: dict[int, Scope] = {}
        self._fatal: BaseException | None = None
        self._left = False

    def execute(self) -> Any:
        """Run the batch to its decision, and return its result.

        Raises:
            BatchError: the completion rule was not met.
            InvocationSuspended: all that is left of it waits.
        """
        self._call_helpers()
        self._run.batches.append(self)
        try:
            while True:
                self._take_branches()
                if self._over():
                    break
                if not self._wait_for_change():
                    raise self._unit.suspend(self._waited_for())
        finally:
            self._run.batches.remove(self)
        self._drop_the_rest()
        self._settle_in_flight()
        if self._fatal is not None:
            raise self._fatal
        return self._run.batch_decided(
            self._batch, self._plan, self._spec.names(), self._spec.serdes, self._spec.item_serdes
        )

    def _call_helpers(self) -> None:
        wanted = min(self._spec.max_concurrency or len(self._spec.branches), self._run.host.threads)
        for _ in range(min(wanted, len(self._spec.branches)) - 1):
            self._run.host.pool.submit(copy_context().run, self._take_branches)

    def answer(self) -> None:
        """Hear what others did, on a thread of the pool: the batch's own may be in a body."""
        run = self._run
        with run.changed:
            if self not in run.batches:
                return  # the invocation may be ending, which sees for itself what nobody heard
            run.hearing += 1
        try:
            run.listen()
        except JournalError:
            return  # it shows at the next claim of each branch
        finally:
            with run.changed:
                run.hearing -= 1
                run.changed.notify_all()
        self._take_branches()

    def _take_branches(self) -> None:
        while True:
            index = self._next()
            if index is None:
                return
            self._run_branch(index)
            with self._run.changed:
                self._run.changed.notify_all()

    def _next(self) -> int | None:
        with self._lock:
            if self._fatal is not None or self._left:
                return None
            for index, operations in self._parked.items():
                if any(self._run.is_due(operation) for operation in operations):
                    del self._parked[index]
                    self._plan.unparked()
                    return index
            return self._plan.next()

    def _run_branch(self, index: int) -> None:
        try:
            outcome = self._outcome(index)
        except InvocationSuspended as suspension:
            with self._lock:
                self._open.pop(index, None)
                self._parked[index] = suspension.operations
                self._plan.parked()
            self._set_alarm(suspension.operations)
        except InvocationEnded:
            with self._lock:
                self._open.pop(index, None)
                self._plan.parked()
        except BaseException as error:
            # What is not an outcome of the branch (a lost lease, a full disk) ends the batch.
            with self._lock:
                self._open.pop(index, None)
                self._plan.parked()
                self._fatal = self._fatal or error
        else:
            with self._lock:
                self._open.pop(index, None)
                self._plan.ended(index, outcome)

    def _outcome(self, index: int) -> str | ErrorObject:
        run, spec = self._run, self._spec
        scope = spec.open_scope(self._scope, self._batch, index)
        with self._lock:
            if self._plan.reason is not None:
                raise InvocationEnded
            self._open[index] = scope
        if spec.flat:
            return self._flat_outcome(scope, index)
        branch = self._inner.claim_branch(
            spec.branch_id(self._batch, index), spec.item_kind, spec.branches[index].name
        )
        if (recorded := recorded_outcome(branch)) is not None:
            return recorded
        run.start_context(branch)
        kept: str | ErrorObject
        try:
            value = self._call(scope, index)
            run.check_open(scope)
            kept, _ = run.context_returned(branch, value, spec.item_serdes)
        except Exception as error:
            if run.journal.failure is not None:
                raise
            run.check_open(scope)
            kept = run.context_raised(branch, error)
        # The handler sees it when the batch is decided, and that is written after it.
        run.commit_soon()
        return kept

    def _flat_outcome(self, scope: Scope, index: int) -> str | ErrorObject:
        try:
            value = self._call(scope, index)
            return self._run.codec.encode(
                value, where=self._spec.branches[index].name, serdes=self._spec.item_serdes
            )
        except Exception as error:
            if self._run.journal.failure is not None:
                raise
            return error_object(error)

    def _call(self, scope: Scope, index: int) -> Any:
        unit = Unit()
        before = self._run.begin(unit)
        try:
            value = self._body(scope, unit, index)
        except Exception as error:
            self._run.check_unwound(unit, error)
            raise
        finally:
            self._run.go_back(unit, before)
        if inspect.isawaitable(value):
            if inspect.iscoroutine(value):
                value.close()
            raise UsageError(
                f"branch {self._spec.branches[index].name!r} is async; the branches of a sync "
                "handler are plain functions (their steps may be async)"
            )
        self._run.check_unwound(unit)
        scope.finish()
        return value

    def _over(self) -> bool:
        with self._lock:
            return self._plan.reason is not None or self._fatal is not None

    def _wait_for_change(self) -> bool:
        """Wait until a branch ends or something comes for one; False if all that is left waits."""
        run = self._run
        with run.changed:
            while True:
                with self._lock:
                    due = any(run.is_due(o) for ops in self._parked.values() for o in ops)
                    if self._plan.reason is not None or self._fatal is not None or due:
                        return True
                    if run.told:
                        break
                    if self._plan.running == 0 and not run.hearing:
                        # A helper that only now gets a thread finds nothing: the run is let go.
                        self._left = True
                        return False
                    next_due = self._next_due()
                if next_due is not None and next_due <= run.clock.now():
                    break
                run.changed.wait(self._seconds_until(next_due))
        run.told = False
        run.commit()
        return True

    def _set_alarm(self, operations: Sequence[Operation]) -> None:
        """Have the run told when a branch's timer is due, in case all its threads are in bodies."""
        due = min((each.due for each in operations if each.due is not None), default=None)
        if due is not None:
            self._run.host.alarm(due, self._run)

    def _next_due(self) -> int | None:
        return min(
            (o.due for ops in self._parked.values() for o in ops if o.due is not None), default=None
        )

    def _seconds_until(self, due: int | None) -> float | None:
        if due is None or not self._run.clock.real():
            return None
        return max(0.001, (due - self._run.clock.now()) / 1000)

    def _waited_for(self) -> list[Operation]:
        return [operation for operations in self._parked.values() for operation in operations]

    def _drop_the_rest(self) -> None:
        with self._lock:
            for scope in self._open.values():
                scope.closed = True
            if self._open:
                self._run.dropping = True

    def _settle_in_flight(self) -> None:
        """Wait for at-most-once bodies of dropped branches: what they did is recorded."""
        run = self._run
        with self._lock:
            dropped = list(self._open.values())
        with run.changed:
            run.changed.wait_for(lambda: not run.guarded_within(dropped))
