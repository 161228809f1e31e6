"""The context of an async handler: the calls of `context.Context`, awaited.

A call claims its operation when it is made, not when it is awaited, so what `gather` and
`TaskGroup` run side by side is the same at each replay.
"""

from __future__ import annotations

import random as _random
import uuid as _uuid
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from .async_batch import AsyncBatch
from .async_run import AsyncRun, is_new
from .batch import BatchSpec, Nesting, check_callable, map_spec, parallel_spec
from .calls import Retry, bound, seeded, step_spec
from .codec import Serdes, arguments_digest
from .completion import BatchResult, Completion
from .condition import ConditionSpec
from .duration import DurationLike, optional_seconds, seconds_of
from .errors import UsageError
from .journal import Scope, call_site
from .logger import ScopeLogger
from .names import check_name, child_scope
from .operations import Operation, OperationStatus, OperationType, SubType
from .retry import ONCE
from .run import Semantics, StepSpec, scope_path

if TYPE_CHECKING:
    from .handler import Handler

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741
_S = OperationStatus


class AsyncContext:
    """What an async handler asks for durable things; see `Context` for each call.

    What depends on which call finished first (`asyncio.as_completed`, `asyncio.timeout` around a
    durable call) is not durable: use `parallel(completion=…)` and `timeout=`.
    """

    def __init__(self, run: AsyncRun, scope: Scope) -> None:
        self._run = run
        self._scope = scope

    @cached_property
    def logger(self) -> ScopeLogger:
        """A logger that is silent while replaying; `logger.replay = True` shows that, too."""
        return ScopeLogger(self._scope, self._run.execution_id)

    @property
    def execution_id(self) -> str:
        """The id of this run."""
        return self._run.execution_id

    @overload
    def step(
        self,
        name: str,
        fn: Callable[..., Awaitable[T]],
        *args: Any,
        retry: Retry = None,
        semantics: Semantics = "at_least_once",
        returns: Any = None,
        serdes: Serdes | None = None,
        kind: str = SubType.STEP,
        **kwargs: Any,
    ) -> Coroutine[Any, Any, T]: ...
    @overload
    def step(
        self,
        name: str,
        fn: Callable[..., T],
        *args: Any,
        retry: Retry = None,
        semantics: Semantics = "at_least_once",
        returns: Any = None,
        serdes: Serdes | None = None,
        kind: str = SubType.STEP,
        **kwargs: Any,
    ) -> Coroutine[Any, Any, T]: ...
    def step(
        self,
        name: str,
        fn: Callable[..., Any],
        *args: Any,
        retry: Retry = None,
        semantics: Semantics = "at_least_once",
        returns: Any = None,
        serdes: Serdes | None = None,
        kind: str = SubType.STEP,
        **kwargs: Any,
    ) -> Coroutine[Any, Any, Any]:
        """Run `fn(*args, **kwargs)` once and record its result; see `Context.step`.

        A sync `fn` runs in a thread.
        """
        operation = self._claim(OperationType.STEP, kind, check_name(name, "step"))
        if operation.status is _S.SUCCEEDED:
            return self._awaited(operation, self._recorded(operation, returns, serdes))
        spec = step_spec(name, fn, retry, semantics, returns, serdes)
        digest = arguments_digest(args, kwargs) if args or kwargs else None
        body = bound(name, fn, args, kwargs)
        return self._awaited(operation, self._step(operation, spec, body, digest))

    def wait(self, duration: DurationLike, name: str | None = None) -> Coroutine[Any, Any, Any]:
        """Suspend for a time; with a name, for an event or a time; see `Context.wait`."""
        if name is None:
            return self.sleep(duration)
        operation = self._claim(OperationType.CALLBACK, SubType.EVENT, check_name(name, "wait"))
        seconds = seconds_of(duration, f"wait {name!r}")

        async def wait() -> Any:
            if is_new(operation):
                await self._run.admit(self._scope, operation)
                self._run.start_callback(operation, seconds, None)
            await self._run.pending(self._scope, operation)
            return self._run.event_value(operation)

        return self._awaited(operation, self._released(operation, wait))

    def sleep(self, duration: DurationLike, name: str | None = None) -> Coroutine[Any, Any, None]:
        """Suspend for a time, and nothing else."""
        if name is not None:
            check_name(name, "sleep")
        seconds = seconds_of(duration, "sleep" if name is None else f"sleep {name!r}")
        operation = self._claim(OperationType.WAIT, SubType.WAIT, name)

        async def sleep() -> None:
            if is_new(operation):
                await self._run.admit(self._scope, operation)
                self._run.start_wait(operation, seconds)
            await self._run.pending(self._scope, operation)

        return self._awaited(operation, self._released(operation, sleep))

    def callback(
        self,
        name: str,
        timeout: DurationLike | None = None,
        heartbeat: DurationLike | None = None,
    ) -> Coroutine[Any, Any, AsyncCallback]:
        """Open something that is completed from outside; see `Context.callback`."""
        operation = self._claim(
            OperationType.CALLBACK, SubType.CALLBACK, check_name(name, "callback")
        )
        where = f"callback {name!r}"
        limit, beat = optional_seconds(timeout, where), optional_seconds(heartbeat, where)

        async def open_() -> AsyncCallback:
            if is_new(operation):
                await self._run.admit(self._scope, operation)
                self._run.start_callback(operation, limit, beat)
                await self._run.committed()
            return AsyncCallback(self._run, self._scope, operation)

        return self._awaited(operation, self._released(operation, open_))

    def wait_for_callback(
        self,
        name: str,
        submit: Callable[[str], Any],
        timeout: DurationLike | None = None,
        heartbeat: DurationLike | None = None,
        retry: Retry = None,
    ) -> Coroutine[Any, Any, Any]:
        """Open a callback, hand its id to `submit` (a step), and wait for its result."""
        check_name(name, "wait_for_callback")

        async def body(context: AsyncContext) -> Any:
            opened = await context.callback(name, timeout, heartbeat)
            await context.step("submitter", submit, opened.id, retry=retry)
            return await opened.result()

        return self._child(name, SubType.WAIT_FOR_CALLBACK, body, None)

    def wait_for_condition(
        self,
        name: str,
        check: Callable[[Any], Any],
        initial: Any = None,
        until: Callable[[Any], bool] = bool,
        every: DurationLike | None = None,
        backoff: Retry = None,
        timeout: DurationLike | None = None,
    ) -> Coroutine[Any, Any, Any]:
        """Poll `state = check(state)` until `until(state)`; see `Context.wait_for_condition`."""
        operation = self._claim(
            OperationType.STEP, SubType.CONDITION, check_name(name, "wait_for_condition")
        )
        spec = ConditionSpec.of(name, check, initial, until, every, backoff, timeout)

        async def poll() -> Any:
            if is_new(operation):
                await self._run.admit(self._scope, operation)
            return await self._run.poll(self._scope, operation, spec)

        return self._awaited(operation, self._released(operation, poll))

    def child(
        self, name: str, fn: Callable[[AsyncContext], Awaitable[T]], serdes: Serdes | None = None
    ) -> Coroutine[Any, Any, T]:
        """Run `await fn(context)` in a scope of its own, recorded as one operation."""
        check_name(name, "child")
        check_callable(fn, f"child {name!r}")
        return self._child(name, SubType.CHILD, fn, serdes)

    def map(
        self,
        name: str,
        items: Iterable[I],
        fn: Callable[..., Awaitable[T]],
        max_concurrency: int | None = None,
        completion: Completion | None = None,
        nesting: Nesting = "nested",
        item_name: Callable[..., str] | None = None,
        item_serdes: Serdes | None = None,
        serdes: Serdes | None = None,
    ) -> Coroutine[Any, Any, BatchResult[T]]:
        """Run `fn(context, item)`, or with the index too, for each item; see `Context.map`."""
        spec = map_spec(
            name,
            items,
            fn,
            item_name,
            max_concurrency=max_concurrency,
            completion=completion,
            nesting=nesting,
            item_serdes=item_serdes,
            serdes=serdes,
        )
        return self._batch(spec)

    def parallel(
        self,
        name: str,
        branches: Mapping[str, Callable[[AsyncContext], Awaitable[T]]]
        | Iterable[Callable[[AsyncContext], Awaitable[T]]],
        max_concurrency: int | None = None,
        completion: Completion | None = None,
        nesting: Nesting = "nested",
        item_serdes: Serdes | None = None,
        serdes: Serdes | None = None,
    ) -> Coroutine[Any, Any, BatchResult[T]]:
        """Run each `fn(context)` of a list or dict side by side; see `Context.parallel`."""
        spec = parallel_spec(
            name,
            branches,
            max_concurrency=max_concurrency,
            completion=completion,
            nesting=nesting,
            item_serdes=item_serdes,
            serdes=serdes,
        )
        return self._batch(spec)

    def invoke(
        self,
        name: str,
        function: str | Handler[Any],
        payload: Any = None,
        timeout: DurationLike | None = None,
    ) -> Coroutine[Any, Any, Any]:
        """Run another durable function, by name, and wait for its result; see `Context.invoke`."""
        operation = self._claim(
            OperationType.CHAINED_INVOKE, SubType.INVOKE, check_name(name, "invoke")
        )
        target = function if isinstance(function, str) else function.name
        limit = optional_seconds(timeout, f"invoke {name!r}")

        async def invoke() -> Any:
            if is_new(operation):
                await self._run.admit(self._scope, operation)
                self._run.start_invoke(operation, target, payload, limit)
                self._run.committed()
            await self._run.pending(self._scope, operation)
            if operation.status is not _S.SUCCEEDED:
                raise self._run.error_of(operation)
            return self._run.value_of(operation)

        return self._awaited(operation, self._released(operation, invoke))

    def now(self) -> Coroutine[Any, Any, datetime]:
        """Return the time, recorded once: the same at each replay, in UTC."""
        operation = self._claim(OperationType.STEP, SubType.NOW, None)
        if operation.status is _S.SUCCEEDED:
            return self._awaited(operation, self._recorded(operation, None, None))
        stamp = datetime.fromtimestamp(self._run.clock.now() / 1000, UTC)

        async def body() -> datetime:
            return stamp

        return self._awaited(operation, self._step(operation, StepSpec(ONCE), body, None))

    def uuid(self) -> _uuid.UUID:
        """Return a random UUID that is the same at each replay; no operation, not awaited."""
        return _uuid.UUID(int=self._seeded("uuid").getrandbits(128), version=4)

    def random(self) -> float:
        """Return a random number in [0, 1), the same at each replay; no operation, not awaited."""
        return self._seeded("random").random()

    async def patched(self, change: str) -> bool:
        """Return whether this run takes the new side of a change; see `Context.patched`."""
        self._run.enter(self._scope, change)
        answer, marker = self._scope.patched(check_name(change, "change"), self._run.clock.now())
        if marker is not None:
            await self._run.committed()
        return answer

    def _claim(self, type: OperationType, subtype: str, name: str | None) -> Operation:
        task = self._run.enter(self._scope, name or subtype)
        operation = self._scope.claim(type, subtype, name, task)
        if self._scope.holds(operation):
            self._run.sites[operation.id] = call_site()
        self._run.claimed(self._scope)
        return operation

    def _claim_shared(self, subtype: str, name: str) -> Operation:
        """Claim a step for code that calls from tasks of its own, all of it one owner."""
        self._run.enter(self._scope, name)
        operation = self._scope.claim(OperationType.STEP, subtype, name, self._scope)
        self._run.claimed(self._scope)
        return operation

    def _seeded(self, what: str) -> _random.Random:
        return seeded(self._scope, what, self._run.enter(self._scope, what))

    def _awaited(
        self, operation: Operation, coroutine: Coroutine[Any, Any, T]
    ) -> Coroutine[Any, Any, T]:
        self._scope.unawaited[operation.id] = (coroutine, operation)
        return coroutine

    async def _released(
        self, operation: Operation, call: Callable[[], Coroutine[Any, Any, T]]
    ) -> T:
        try:
            return await call()
        finally:
            self._release(operation)

    def _release(self, operation: Operation) -> None:
        self._scope.release()
        self._scope.unawaited.pop(operation.id, None)

    async def _recorded(self, operation: Operation, returns: Any, serdes: Serdes | None) -> Any:
        self._release(operation)
        return self._run.value_of(operation, returns, serdes)

    async def _step(
        self, operation: Operation, spec: StepSpec, body: Callable[[], Any], digest: str | None
    ) -> Any:
        try:
            if self._scope.holds(operation):
                await self._run.admit(self._scope, operation)
            return await self._run.step(self._scope, operation, spec, body, digest)
        finally:
            self._release(operation)

    def _child(
        self,
        name: str,
        kind: str,
        fn: Callable[[AsyncContext], Awaitable[T]],
        serdes: Serdes | None,
    ) -> Coroutine[Any, Any, T]:
        run = self._run
        operation = self._claim(OperationType.CONTEXT, kind, name)

        async def child() -> T:
            if operation.status is _S.FAILED:
                raise run.error_of(operation)
            if operation.status is _S.SUCCEEDED and not operation.replay_children:
                return cast("T", run.value_of(operation, serdes=serdes))
            await run.admit(self._scope, operation)
            run.start_context(operation)
            path = scope_path(self._scope, name)
            scope = Scope(run.journal, child_scope(operation.id), operation.id, path, self._scope)
            try:
                value = await _call(fn, AsyncContext(run, scope), f"child {name!r}")
                run.check_awaited(scope)
                scope.finish()
                _, copy = run.context_returned(operation, value, serdes)
            except Exception as error:
                if run.journal.failure is not None:
                    raise
                run.context_raised(operation, error)
                await run.committed()
                raise run.error_of(operation) from None
            await run.committed()
            return cast("T", copy)

        return self._awaited(operation, self._released(operation, child))

    def _batch(self, spec: BatchSpec) -> Coroutine[Any, Any, Any]:
        run = self._run
        operation = self._claim(OperationType.CONTEXT, spec.kind, spec.name)

        def body(scope: Scope, index: int) -> Any:
            return spec.branches[index].call(AsyncContext(run, scope))

        async def batch() -> Any:
            if operation.status is _S.SUCCEEDED and not operation.replay_children:
                return run.batch_recorded(operation, spec.serdes, spec.item_serdes)
            await run.admit(self._scope, operation)
            run.start_context(operation)
            try:
                return await AsyncBatch(run, self._scope, operation, spec, body).execute()
            finally:
                if operation.closed and run.journal.outbox and run.journal.failure is None:
                    await run.committed()

        return self._awaited(operation, self._released(operation, batch))


class AsyncCallback:
    """An open callback: its id for whoever completes it, and its result."""

    def __init__(self, run: AsyncRun, scope: Scope, operation: Operation) -> None:
        self._run = run
        self._scope = scope
        self._operation = operation

    @property
    def id(self) -> str:
        """The id by which the callback is completed, failed or kept alive."""
        return self._run.session.callback_id(self._operation)

    @property
    def closed(self) -> bool:
        """Whether it has ended, as far as this invocation knows: not recorded, so ask in a step."""
        return self._operation.closed

    async def result(self) -> Any:
        """Return what it was completed with; suspend until then.

        Raises:
            CallbackError: it was failed.
            CallbackTimeoutError: it timed out, or missed a heartbeat.
        """
        # What waits is the branch that asks, not the scope that opened the callback.
        await self._run.pending(self._run.scope_here(self._scope), self._operation)
        return self._run.callback_value(self._operation)


async def _call(fn: Callable[[AsyncContext], Any], context: AsyncContext, what: str) -> Any:
    value = fn(context)
    if not hasattr(value, "__await__"):
        raise UsageError(f"{what} of an async handler is `async def`; {fn!r} is not")
    return await value
