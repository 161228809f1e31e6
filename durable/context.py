"""The context of a sync handler: each call returns the recorded result, or makes it.

A thin driver over the decisions in `run` and `journal`; `async_context` is its twin.
"""

from __future__ import annotations

import random as _random
import uuid as _uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from .batch import BatchSpec, Nesting, check_callable, map_spec, parallel_spec
from .calls import ONE_ATTEMPT, Retry, refuse_awaitable, seeded, step_spec
from .codec import Serdes, arguments_digest
from .completion import BatchResult, Completion
from .condition import ConditionSpec
from .duration import DurationLike, optional_seconds, seconds_of
from .journal import Scope
from .logger import ScopeLogger
from .names import check_name, child_scope
from .operations import Operation, OperationStatus, OperationType, SubType
from .run import Semantics, scope_path
from .sync_batch import SyncBatch
from .sync_run import SyncRun, Unit

if TYPE_CHECKING:
    from .handler import Handler

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741
_S = OperationStatus


class Context:
    """What a sync handler asks for durable things.

    Each call may raise `NonDeterminismError` (the handler no longer fits its journal) and
    `UsageError` (the call cannot be meant); a call that waits unwinds the handler, which is run
    again from its top when what it waits for has come.
    """

    def __init__(self, run: SyncRun, scope: Scope, unit: Unit) -> None:
        self._run = run
        self._scope = scope
        self._unit = unit

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
    ) -> T: ...
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
    ) -> T: ...
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
    ) -> Any:
        """Run `fn(*args, **kwargs)` once and record its result; at replay return the record.

        Args:
            name: 1 to 256 printable ASCII characters; it identifies the step at replay.
            fn: sync or async. Its arguments are not recorded, only their digest.
            retry: a `RetryPolicy` or a dict of its fields; None makes one attempt.
            semantics: "at_most_once" makes the start durable before the body runs, and never
                silently runs a started body again.
            returns: a class the result may hold that could not be found by import.
            serdes: an object with `dumps` and `loads` that keeps the result instead.
            kind: the operation's subtype.

        Raises:
            StepError: the step failed and has no attempts left.
            StepInterrupted: at most once, started, and its process died.
        """
        operation = self._claim(OperationType.STEP, kind, check_name(name, "step"))
        if operation.status is _S.SUCCEEDED:
            return self._run.value_of(operation, returns, serdes)
        spec = step_spec(name, fn, retry, semantics, returns, serdes)
        body = partial(fn, *args, **kwargs) if args or kwargs else fn
        digest = arguments_digest(args, kwargs) if args or kwargs else None
        return self._run.step(self._scope, self._unit, operation, spec, body, digest)

    def wait(self, duration: DurationLike, name: str | None = None) -> Any:
        """Suspend for a time; with a name, for an event or a time, whichever comes first.

        Returns:
            None when time is up; for a named wait, what was sent to it (True if sent without a
            payload).

        Raises:
            CallbackError: somebody failed the named wait.
        """
        if name is None:
            return self.sleep(duration)
        operation = self._claim(OperationType.CALLBACK, SubType.EVENT, check_name(name, "wait"))
        self._open_callback(operation, seconds_of(duration, f"wait {name!r}"), None)
        self._await(operation)
        return self._run.event_value(operation)

    def sleep(self, duration: DurationLike, name: str | None = None) -> None:
        """Suspend for a time, and nothing else."""
        if name is not None:
            check_name(name, "sleep")
        seconds = seconds_of(duration, "sleep" if name is None else f"sleep {name!r}")
        operation = self._claim(OperationType.WAIT, SubType.WAIT, name)
        if operation.status is _S.UNRECORDED:
            self._run.admit(self._scope, operation)
            self._run.start_wait(operation, seconds)
        self._await(operation)

    def callback(
        self,
        name: str,
        timeout: DurationLike | None = None,
        heartbeat: DurationLike | None = None,
    ) -> Callback:
        """Open something that others complete: hand out its `.id`, ask for its `.result()`."""
        operation = self._claim(
            OperationType.CALLBACK, SubType.CALLBACK, check_name(name, "callback")
        )
        where = f"callback {name!r}"
        fresh = self._open_callback(
            operation, optional_seconds(timeout, where), optional_seconds(heartbeat, where)
        )
        if fresh:
            self._run.commit()
        return Callback(self._run, self._unit, operation)

    def wait_for_callback(
        self,
        name: str,
        submit: Callable[[str], Any],
        timeout: DurationLike | None = None,
        heartbeat: DurationLike | None = None,
        retry: Retry = None,
    ) -> Any:
        """Open a callback, hand its id to `submit` (a step), and wait for its result.

        Raises:
            CallbackError: it was failed.
            CallbackTimeoutError: it timed out, or missed a heartbeat.
            ChildError: `submit` failed for good.
        """
        check_name(name, "wait_for_callback")

        def body(context: Context) -> Any:
            opened = context.callback(name, timeout, heartbeat)
            context.step("submitter", submit, opened.id, retry=retry)
            return opened.result()

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
    ) -> Any:
        """Poll `state = check(state)` until `until(state)`, suspended between polls.

        Args:
            every: the time between polls; or
            backoff: a `RetryPolicy` whose delays and `max_attempts` the polls follow.
            timeout: give up after this long, counted from the first poll.

        Raises:
            ConditionTimeoutError: not met in time, or within `backoff`'s attempts.
            StepError: `check` raised.
        """
        operation = self._claim(
            OperationType.STEP, SubType.CONDITION, check_name(name, "wait_for_condition")
        )
        spec = ConditionSpec.of(name, check, initial, until, every, backoff, timeout)
        return spec.sync_poll(self._run, self._scope, self._unit, operation)

    def child(self, name: str, fn: Callable[[Context], T], serdes: Serdes | None = None) -> T:
        """Run `fn(context)` in a scope of its own, recorded as one operation when it ends.

        Raises:
            ChildError: `fn` raised.
        """
        check_name(name, "child")
        check_callable(fn, f"child {name!r}")
        return cast("T", self._child(name, SubType.CHILD, fn, serdes))

    def map(
        self,
        name: str,
        items: Iterable[I],
        fn: Callable[..., T],
        max_concurrency: int | None = None,
        completion: Completion | None = None,
        nesting: Nesting = "nested",
        item_name: Callable[..., str] | None = None,
        item_serdes: Serdes | None = None,
        serdes: Serdes | None = None,
    ) -> BatchResult[T]:
        """Run `fn(context, item)` (or `fn(context, item, index)`) for each item, side by side.

        Args:
            max_concurrency: how many branches run at once; those that wait do not count.
            completion: when the batch is complete; by default all must succeed.
            nesting: "flat" records no operation for a branch, only its steps.
            item_name: the name of a branch, from its item and index.
            item_serdes: keeps each branch's result.
            serdes: keeps the whole result.

        Raises:
            BatchError: the completion rule was not met; carries `.result`.
        """
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
        return cast("BatchResult[T]", self._batch(spec))

    def parallel(
        self,
        name: str,
        branches: Mapping[str, Callable[[Context], T]] | Iterable[Callable[[Context], T]],
        max_concurrency: int | None = None,
        completion: Completion | None = None,
        nesting: Nesting = "nested",
        item_serdes: Serdes | None = None,
        serdes: Serdes | None = None,
    ) -> BatchResult[T]:
        """Run each `fn(context)` of a list or dict side by side; options as for `map`.

        Raises:
            BatchError: the completion rule was not met; carries `.result`.
        """
        spec = parallel_spec(
            name,
            branches,
            max_concurrency=max_concurrency,
            completion=completion,
            nesting=nesting,
            item_serdes=item_serdes,
            serdes=serdes,
        )
        return cast("BatchResult[T]", self._batch(spec))

    def invoke(
        self,
        name: str,
        function: str | Handler[Any],
        payload: Any = None,
        timeout: DurationLike | None = None,
    ) -> Any:
        """Run another durable function, by name, and wait for its result.

        Raises:
            InvokeError: it failed, timed out or was stopped.
        """
        operation = self._claim(
            OperationType.CHAINED_INVOKE, SubType.INVOKE, check_name(name, "invoke")
        )
        if operation.status in (_S.UNRECORDED, _S.READY):
            self._run.admit(self._scope, operation)
            target = function if isinstance(function, str) else function.name
            limit = optional_seconds(timeout, f"invoke {name!r}")
            self._run.start_invoke(operation, target, payload, limit)
        self._await(operation)
        if operation.status is not _S.SUCCEEDED:
            raise self._run.error_of(operation)
        return self._run.value_of(operation)

    def now(self) -> datetime:
        """Return the time, recorded once: the same at each replay, in UTC."""
        operation = self._claim(OperationType.STEP, SubType.NOW, None)
        if operation.status is _S.SUCCEEDED:
            return cast("datetime", self._run.value_of(operation))
        stamp = datetime.fromtimestamp(self._run.clock.now() / 1000, UTC)
        return cast(
            "datetime",
            self._run.step(self._scope, self._unit, operation, ONE_ATTEMPT, lambda: stamp, None),
        )

    def uuid(self) -> _uuid.UUID:
        """Return a random UUID that is the same at each replay; no operation."""
        return _uuid.UUID(int=self._seeded("uuid").getrandbits(128), version=4)

    def random(self) -> float:
        """Return a random number in [0, 1) that is the same at each replay; no operation."""
        return self._seeded("random").random()

    def patched(self, change: str) -> bool:
        """Return whether this run takes the new side of a change of code.

        True if recorded so, or if reached before anything recorded of this scope is left to claim.
        """
        self._run.enter(self._scope, self._unit, change)
        self._run.check_place(change)
        answer, marker = self._scope.patched(check_name(change, "change"), self._run.clock.now())
        if marker is not None:
            self._run.commit()
        return answer

    def _claim(self, type: OperationType, subtype: str, name: str | None) -> Operation:
        self._run.enter(self._scope, self._unit, name or subtype)
        scope = self._scope
        operation = scope.claim(type, subtype, name, self._unit)
        scope.open -= 1
        return operation

    def _claim_shared(self, subtype: str, name: str) -> Operation:
        """Claim a step for code that calls from threads of its own, all of it one owner."""
        scope = self._scope
        operation = scope.claim(OperationType.STEP, subtype, name, scope)
        scope.open -= 1
        return operation

    def _seeded(self, what: str) -> _random.Random:
        self._run.enter(self._scope, self._unit, what)
        self._run.check_place(what)
        return seeded(self._scope, what, self._unit)

    def _open_callback(
        self, operation: Operation, timeout: float | None, heartbeat: float | None
    ) -> bool:
        fresh = operation.status in (_S.UNRECORDED, _S.READY)
        if fresh:
            self._run.admit(self._scope, operation)
            self._run.start_callback(operation, timeout, heartbeat)
        return fresh

    def _await(self, operation: Operation) -> None:
        if not operation.closed:
            raise self._unit.suspend([operation])

    def _child(
        self, name: str, kind: str, fn: Callable[[Context], Any], serdes: Serdes | None
    ) -> Any:
        run = self._run
        operation = self._claim(OperationType.CONTEXT, kind, name)
        if operation.status is _S.FAILED:
            raise run.error_of(operation)
        if operation.status is _S.SUCCEEDED and not operation.replay_children:
            return run.value_of(operation, serdes=serdes)
        if operation.status is _S.UNRECORDED:
            run.admit(self._scope, operation)
        run.start_context(operation)
        path = scope_path(self._scope, name)
        scope = Scope(run.journal, child_scope(operation.id), operation.id, path, self._scope)
        try:
            value = fn(Context(run, scope, self._unit))
            refuse_awaitable(value, f"child {name!r}")
            run.check_unwound(self._unit)
            scope.finish()
            run.check_open(scope)
            _, copy = run.context_returned(operation, value, serdes)
        except Exception as error:
            if run.journal.failure is not None:
                raise
            run.check_unwound(self._unit, error)
            run.check_open(scope)
            run.context_raised(operation, error)
            run.commit()
            raise run.error_of(operation) from None
        run.commit()
        return copy

    def _batch(self, spec: BatchSpec) -> Any:
        run = self._run
        operation = self._claim(OperationType.CONTEXT, spec.kind, spec.name)
        if operation.status is _S.SUCCEEDED and not operation.replay_children:
            return run.batch_recorded(operation, spec.serdes, spec.item_serdes)
        if operation.status is _S.UNRECORDED:
            run.admit(self._scope, operation)
        run.start_context(operation)

        def body(scope: Scope, unit: Unit, index: int) -> Any:
            return spec.branches[index].call(Context(run, scope, unit))

        try:
            return SyncBatch(run, self._scope, self._unit, operation, spec, body).execute()
        finally:
            if run.journal.failure is None and operation.closed:
                run.settle()


class Callback:
    """An open callback: its id for whoever completes it, and its result."""

    def __init__(self, run: SyncRun, unit: Unit, operation: Operation) -> None:
        self._run = run
        self._unit = unit
        self._operation = operation

    @property
    def id(self) -> str:
        """The id by which the callback is completed, failed or kept alive."""
        return self._run.session.callback_id(self._operation)

    @property
    def closed(self) -> bool:
        """Whether it has ended, as far as this invocation knows: not recorded, so ask in a step."""
        return self._operation.closed

    def result(self) -> Any:
        """Return what it was completed with; suspend until then.

        Raises:
            CallbackError: it was failed.
            CallbackTimeoutError: it timed out, or missed a heartbeat.
        """
        if not self._operation.closed:
            # What waits is the branch that asks, not the scope that opened the callback.
            unit = self._run.unit_here() or self._unit
            raise unit.suspend([self._operation])
        return self._run.callback_value(self._operation)
