"""A map or parallel of an async handler: each branch a task, as many at once as the plan allows."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

from .async_run import AsyncRun
from .batch import BatchSpec, BranchState, recorded_outcome
from .completion import Plan
from .errors import InvocationEnded
from .failures import error_object
from .journal import Scope
from .names import child_scope
from .operations import ErrorObject, Operation
from .quiescence import ClaimFuture

BranchBody = Callable[[Scope, int], Any]


class AsyncBatch:
    """One batch during one invocation."""

    def __init__(
        self, run: AsyncRun, scope: Scope, batch: Operation, spec: BatchSpec, body: BranchBody
    ) -> None:
        self._run = run
        self._scope = scope
        self._batch = batch
        self._spec = spec
        self._body = body
        self._plan: Plan = spec.plan(batch)
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._open: dict[int, Scope] = {}
        self._fatal: BaseException | None = None
        self._changed: ClaimFuture | None = None
        self._parked = False
        self._inner = Scope(run.journal, child_scope(batch.id), batch.id, scope.path, scope)

    async def execute(self) -> Any:
        """Run the batch to its decision, and return its result.

        Raises:
            BatchError: the completion rule was not met.
        """
        try:
            while self._plan.reason is None and self._fatal is None:
                self._start_branches()
                if self._plan.reason is None and self._fatal is None:
                    await self._wait_for_change()
        finally:
            self._park_outer(False)
            dropped = self._drop_the_rest()
        await self._run.settle_guarded(dropped)
        if self._fatal is not None:
            raise self._fatal
        return self._run.batch_decided(
            self._batch, self._plan, self._spec.names(), self._spec.serdes, self._spec.item_serdes
        )

    def note(self) -> None:
        """See whether another branch may start."""
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    def _start_branches(self) -> None:
        while (index := self._plan.next()) is not None:
            # Made directly: the loop's task factory would only do the same, slower.
            task = asyncio.Task(self._branch(index), loop=self._run.loop)
            self._tasks[index] = task
            self._run.tasks.add(task)

    async def _wait_for_change(self) -> None:
        self._changed = ClaimFuture(loop=self._run.loop)
        self._park_outer(self._plan.running == 0)
        self._run.check_soon()
        await self._changed

    def _park_outer(self, parked: bool) -> None:
        outer = self._scope.branch
        if outer is not None and parked != self._parked:
            self._parked = parked
            outer.park() if parked else outer.unpark()

    async def _branch(self, index: int) -> None:
        try:
            outcome = await self._outcome(index)
        except (asyncio.CancelledError, InvocationEnded):
            self._plan.parked()
            raise
        except BaseException as error:
            # What is not an outcome of the branch (a lost lease, a full disk) ends the batch.
            self._fatal = self._fatal or error
        else:
            self._open.pop(index, None)
            self._plan.ended(index, outcome)
        finally:
            task = self._tasks.pop(index, None)
            if task is not None:
                self._run.tasks.discard(task)
            self.note()

    async def _outcome(self, index: int) -> str | ErrorObject:
        run, spec = self._run, self._spec
        scope = spec.open_scope(self._scope, self._batch, index)
        scope.branch = BranchState(self._plan, self.note)
        run.enter_branch(scope)
        self._open[index] = scope
        if spec.flat:
            return await self._flat_outcome(scope, index)
        branch = self._inner.claim_branch(
            spec.branch_id(self._batch, index), spec.item_kind, spec.branches[index].name
        )
        if (recorded := recorded_outcome(branch)) is not None:
            return recorded
        run.start_context(branch)
        try:
            value = await self._call(scope, index)
            payload, _ = run.context_returned(branch, value, spec.item_serdes)
        except Exception as error:
            if run.journal.failure is not None:
                raise
            kept = run.context_raised(branch, error)
            await run.committed()
            return kept
        await run.committed()
        return payload

    async def _flat_outcome(self, scope: Scope, index: int) -> str | ErrorObject:
        try:
            value = await self._call(scope, index)
            return self._run.codec.encode(
                value, where=self._spec.branches[index].name, serdes=self._spec.item_serdes
            )
        except Exception as error:
            if self._run.journal.failure is not None:
                raise
            return error_object(error)

    async def _call(self, scope: Scope, index: int) -> Any:
        value = self._body(scope, index)
        if inspect.isawaitable(value):
            value = await value
        self._run.check_awaited(scope)
        scope.finish()
        return value

    def _drop_the_rest(self) -> list[Scope]:
        dropped = list(self._open.values())
        for scope in dropped:
            scope.closed = True
        for task in list(self._tasks.values()):
            task.cancel()
        return dropped
