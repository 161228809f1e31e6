"""The async driver: carries out a run's moves on an event loop, all runs of a process on one.

A claim that cannot go on is a future nobody resolves. When no body of the run is running, nothing
of it is being written, and each of its tasks awaits only such futures (or other tasks that do), the
invocation is over: its tasks are cancelled, and nothing of it is left. The body of a step runs in a
task of its own that no cancellation of the handler's tasks reaches, and records its result itself.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Sequence
from contextvars import ContextVar, copy_context
from functools import partial
from threading import get_ident
from types import FunctionType
from typing import TYPE_CHECKING, Any, cast

from .async_waits import AsyncWaits
from .current import current
from .errors import InvocationEnded, UsageError
from .handler import Handler
from .journal import Scope, call_site
from .operations import Operation, OperationStatus
from .quiescence import ClaimFuture
from .retry import ONCE
from .run import Move, StepSpec, misplaced
from .session import Ending, Pending

if TYPE_CHECKING:
    from .condition import ConditionSpec

owner: ContextVar[AsyncRun | None] = ContextVar("perdure_owner", default=None)
Body = Callable[[], Any]
_REFUSALS = 1_000


class AsyncRun(AsyncWaits):
    """One execution during one invocation of an async handler; lives on the loop's thread."""

    async def invoke(self, main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Run the handler until it ends or only waits are left; return its result.

        Raises:
            InvocationEnded: only waits are left, or the run was stopped.
        """
        install(self.loop)
        token = owner.set(self)
        try:
            task = self.loop.create_task(main())
        finally:
            owner.reset(token)
        task.add_done_callback(lambda _: self._finish("returned"))
        self.check_soon()
        why = await self._end
        if why == "returned":
            await self._finish_bodies()
        self.over = True
        if self._alarm is not None:
            self._alarm[1].cancel()
        await self._close_tasks(task)
        if why == "suspended" or self.stopped:
            raise InvocationEnded
        return task.result()

    async def _finish_bodies(self) -> None:
        """Let the bodies that a failed or forgotten sibling left in flight record their results."""
        self.returned = True
        while left := [task for task, scope in self._detached.items() if not scope.dropped()]:
            await asyncio.wait(left)

    def task_done(self, task: asyncio.Task[Any]) -> None:
        """Note that a task of the handler has ended."""
        self.tasks.discard(task)
        self.check_soon()

    def close(self) -> None:
        """Stop once the bodies in flight are recorded: the engine is closing."""
        self.loop.call_soon_threadsafe(self._stop)

    def wake(self) -> None:
        """Look for what others did, from any thread."""
        if not self.over:
            self.loop.call_soon_threadsafe(self.refresh)

    def _stop(self) -> None:
        self.stopped = True
        self.check_soon()

    async def _close_tasks(self, main: asyncio.Task[Any]) -> None:
        for _ in range(3):
            left = [task for task in self.tasks if not task.done()]
            if not left:
                return
            for task in left:
                task.cancel()
            done, _ = await asyncio.wait(left, timeout=5)
            for task in done:
                if not task.cancelled():
                    task.exception()
        self.journal.fail(
            UsageError("a task of the handler does not end when it is cancelled; let it pass")
        )

    def enter(self, scope: Scope, what: str) -> object:
        """Check that the caller may ask this scope for an operation; return the calling task."""
        if self.returned or self.over or self.stopped or scope.dropped():
            raise self._refusal(what)
        running = current.get()
        if running is not None and running.execution_id == self.execution_id:
            raise misplaced(what, running)
        if get_ident() != self._thread or (task := asyncio.current_task(self.loop)) is None:
            raise UsageError(
                f"{what!r} was called from a thread that does not run this context{call_site()}; "
                "use context.map or context.parallel to run things side by side"
            )
        return task

    def _refusal(self, what: str) -> BaseException:
        self._refused += 1
        if self._refused > _REFUSALS:
            # Somebody catches CancelledError and asks again, for ever.
            return InvocationEnded()
        return asyncio.CancelledError(f"perdure: this invocation is over; {what!r} is not begun")

    def claimed(self, scope: Scope) -> None:
        """Note that a claim was made: what was held back may be free now."""
        if self._held and not scope.unclaimed:
            free = [entry for entry in self._held if entry[0] is scope]
            self._held = [entry for entry in self._held if entry[0] is not scope]
            for _, _, future in free:
                if not future.done():
                    future.set_result(None)

    async def admit(self, scope: Scope, operation: Operation) -> None:
        """Wait until a new operation may run: all that is recorded of its scope was claimed."""
        if scope.holds(operation):
            future = ClaimFuture(loop=self.loop)
            self._held.append((scope, operation, future))
            self.check_soon()
            await future

    def check_awaited(self, scope: Scope) -> None:
        """Check, at the end of a scope, that no call in it was left without `await`.

        Raises:
            UsageError: naming the call.
        """
        for coroutine, operation in scope.unawaited.values():
            if inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
                coroutine.close()
                raise UsageError(
                    f"{operation.name or operation.subtype!r} was called and never awaited; "
                    "nothing of it was run"
                )

    async def step(
        self, scope: Scope, operation: Operation, spec: StepSpec, body: Body, digest: str | None
    ) -> Any:
        """Bring a claimed step to its end, and return its value."""
        while True:
            match self.step_move(operation, at_most_once=spec.at_most_once):
                case Move.RETURN:
                    return self.value_of(operation, spec.returns, spec.serdes)
                case Move.RAISE:
                    raise self.error_of(operation)
                case Move.PAUSE:
                    await self.pending(scope, operation)
                case Move.INTERRUPTED:
                    first = self.step_interrupted(operation, spec)
                    await self.committed()
                    if first is not None:
                        await self.pending(scope, first)
                case move:
                    if move is Move.RERUN and self.session.replay_only:
                        await ClaimFuture(loop=self.loop)
                    start = move is Move.START
                    if start:
                        first = self.open_gate(operation, spec, digest)
                        if first is not None or operation.status is not OperationStatus.STARTED:
                            await self.committed()
                            await self.pending(scope, first or operation)
                            continue
                    attempt = partial(
                        self._attempt,
                        scope=scope,
                        operation=operation,
                        spec=spec,
                        body=body,
                        start=start,
                    )
                    value = await self.detach(scope, attempt, guarded=spec.at_most_once)
                    if operation.closed and operation.error is None:
                        return value

    async def poll(self, scope: Scope, operation: Operation, condition: ConditionSpec) -> Any:
        """Poll a condition until it is met."""
        while True:
            match self.step_move(operation, at_most_once=False):
                case Move.RETURN:
                    return self.value_of(operation)
                case Move.RAISE:
                    raise self.error_of(operation)
                case Move.PAUSE:
                    await self.pending(scope, operation)
                case move:
                    start = move is Move.START
                    poll = partial(
                        self._poll,
                        scope=scope,
                        operation=operation,
                        condition=condition,
                        start=start,
                    )
                    await self.detach(scope, poll, guarded=False)

    def detach(
        self,
        scope: Scope,
        work: Callable[[ClaimFuture], Coroutine[Any, Any, None]],
        *,
        guarded: bool,
    ) -> ClaimFuture:
        """Run work in a task that no cancellation of the handler reaches; return its outcome.

        The work resolves the future it is given, by `when_written`.
        """
        self._bodies += 1
        future = ClaimFuture(loop=self.loop)
        task = asyncio.Task(self._detached_work(work, future), loop=self.loop)
        self._detached[task] = scope
        if guarded:
            self._guarded[task] = scope
            task.add_done_callback(self._guarded.pop)
        return future

    async def _detached_work(
        self, work: Callable[[ClaimFuture], Coroutine[Any, Any, None]], future: ClaimFuture
    ) -> None:
        owner.set(None)
        try:
            await work(future)
        except BaseException as error:
            if not future.done():
                future.set_exception(error)
                future.exception()
        finally:
            self._bodies -= 1
            del self._detached[cast("asyncio.Task[Any]", asyncio.current_task(self.loop))]
            self.check_soon()

    async def settle_guarded(self, scopes: Sequence[Scope]) -> None:
        """Wait for at-most-once bodies inside these scopes: what they did is recorded."""
        while True:
            inside = [
                task
                for task, scope in self._guarded.items()
                if any(scope.is_within(each) for each in scopes)
            ]
            if not inside:
                return
            await asyncio.wait(inside)

    async def _attempt(
        self,
        future: ClaimFuture,
        scope: Scope,
        operation: Operation,
        spec: StepSpec,
        body: Body,
        start: bool,
    ) -> None:
        if start and (spec.at_most_once or self.session.cautious):
            await self.committed()
        if not spec.at_most_once:
            self.note_start()
        value: Any = None
        try:
            value = await self._call(body, operation)
        except Exception as error:
            if not self._recordable(scope, spec):
                return self._abandon(future)
            self.step_raised(operation, spec, error)
        else:
            if not self._recordable(scope, spec):
                return self._abandon(future)
            value = self.step_returned(operation, spec, value)
        self.when_written(future, value)

    async def _poll(
        self,
        future: ClaimFuture,
        scope: Scope,
        operation: Operation,
        condition: ConditionSpec,
        start: bool,
    ) -> None:
        spec = StepSpec(ONCE)
        state = condition.state(self, operation)
        if start:
            self.start_step(operation)
        self.note_start()
        try:
            state = await self._call(lambda: condition.check(state), operation)
            if self._recordable(scope, spec):
                condition.settle(self, operation, state)
        except Exception as error:
            if self._recordable(scope, spec):
                self.step_raised(operation, spec, error)
        self.when_written(future, None)

    def _abandon(self, future: ClaimFuture) -> None:
        """Leave an outcome unrecorded: its branch was dropped, or its run is over."""
        if not future.done():
            future.cancel()

    def _recordable(self, scope: Scope, spec: StepSpec) -> bool:
        if self.over:
            return False
        return spec.at_most_once or not scope.dropped()

    async def _call(self, body: Body, operation: Operation) -> Any:
        token = current.set(self.current_step(operation))
        try:
            if is_coroutine_function(body):
                return await body()
            value = await self.loop.run_in_executor(self.host.pool, copy_context().run, body)
            return await value if inspect.isawaitable(value) else value
        except asyncio.CancelledError:
            if self.over:
                raise
            raise RuntimeError("the body of the step was cancelled from inside") from None
        finally:
            current.reset(token)


async def run_handler(run: AsyncRun, handler: Handler[Any]) -> Ending:
    """Run an async handler once; return what it comes to, not yet written."""
    from .async_context import AsyncContext
    from .hold import is_held
    from .invocation import raised, returned

    if is_held(run.journal.operations):
        return Pending()
    scope = run.journal.root()

    async def main() -> Any:
        run.enter_branch(scope)
        event = run.codec.decode(run.session.payload, where="the input")
        value = await handler.fn(event, AsyncContext(run, scope))
        run.check_awaited(scope)
        scope.finish()
        return value

    try:
        ending: Ending = returned(run, handler, await run.invoke(main))
    except InvocationEnded:
        ending = Pending(again=run.stopped and not run.ended)
    except BaseException as error:
        return raised(run, error)
    if run.journal.failure is not None:
        return raised(run, run.journal.failure)
    return ending


def install(loop: asyncio.AbstractEventLoop) -> None:
    """Have the loop tell a run of the tasks that its handler starts."""
    if loop.get_task_factory() is not _task_factory:
        loop.set_task_factory(_task_factory)


def _task_factory(
    loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any
) -> asyncio.Task[Any]:
    task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **options)
    run = owner.get()
    if run is not None:
        run.tasks.add(task)
        task.add_done_callback(run.task_done)
    return task


def is_coroutine_function(fn: Any) -> bool:
    """Return what `inspect.iscoroutinefunction` says, faster for plain functions."""
    if isinstance(fn, FunctionType):
        return bool(fn.__code__.co_flags & inspect.CO_COROUTINE)
    return inspect.iscoroutinefunction(fn)


def is_new(operation: Operation) -> bool:
    """Return whether a claimed operation is to be started."""
    return operation.status in (OperationStatus.UNRECORDED, OperationStatus.READY)
