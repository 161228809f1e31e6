"""The way in for floors above: claims of gated steps, scopes beside operations, bodies for both.

`Claim`, `opened` and `annex` serve the sync and the async context alike; what a claim returns is a
value in the one and an awaitable in the other, and `drive` runs one `async def` over either. The
rest tells where a context stands (`scope_of`, `address_of`, `home_of`, `clock_of`, `end_of`) and
closes, from inside a step, a callback that nobody is to answer any more (`withdraw`).
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from .async_context import AsyncContext
from .clock import Clock
from .context import Context
from .errors import ChildError, PerdureError, UsageError
from .gates import Gate
from .journal import Scope
from .names import check_name, child_scope, operation_id
from .operations import ErrorObject, Operation, OperationStatus, OperationType
from .retry import ONCE
from .run import Run, StepSpec, scope_path
from .sync_run import Unit

T = TypeVar("T")
AnyContext = Context | AsyncContext


class Claim:
    """A claim of a gated step, made at once; `run` brings it to its end.

    Attributes:
        operation: what is recorded of it.
    """

    def __init__(self, context: AnyContext, kind: str, name: str, *, shared: bool = False) -> None:
        self._context = context
        check_name(name, kind)
        self.operation: Operation = (
            context._claim_shared(kind, name)
            if shared
            else context._claim(OperationType.STEP, kind, name)
        )

    def run(self, gate: Gate, body: Callable[[], Any]) -> Any:
        """Return the step's value, or an awaitable of it in an async handler.

        Raises:
            StepError: its gate let it fail for good.
        """
        spec = StepSpec(ONCE, at_most_once=True, gate=gate)
        context, operation = self._context, self.operation
        if isinstance(context, AsyncContext):
            return context._awaited(operation, context._step(operation, spec, body, None))
        return context._run.step(context._scope, context._unit, operation, spec, body, None)

    def awaited(self, result: Any) -> Any:
        """Return a result as it is; noted, if it is a coroutine, as one to be awaited."""
        if isinstance(self._context, AsyncContext):
            return self._context._awaited(self.operation, result)
        return result


def opened(
    context: AnyContext,
    name: str,
    body: Callable[[Any], Coroutine[Any, Any, Any]],
    *own: type[PerdureError],
) -> Any:
    """Run a body in a child scope of this name, claimed now.

    Args:
        own: errors of one text that the caller is to meet as themselves, not as a `ChildError`; a
            resume follows them to what failed.

    Returns:
        the body's result; in an async handler an awaitable of it.
    """
    run_of(context)
    errors = {f"perdure.{kind.__name__}": kind for kind in own}

    def raise_own(error: ChildError) -> None:
        kind = errors.get(error.error_type or "")
        if kind is not None:
            raise kind(error.error.message) from error

    async def awaited(call: Awaitable[Any]) -> Any:
        try:
            return await call
        except ChildError as error:
            raise_own(error)
            raise

    try:
        call = context.child(name, lambda scope: drive(scope, body(scope)))
    except ChildError as error:
        raise_own(error)
        raise
    return awaited(call) if is_async(context) else call


def annex(context: AnyContext, operation: Operation) -> Any:
    """Return a context whose scope stands beside an operation and has none of its own.

    What is claimed in it is known by that operation, so it is never mistaken for a later claim of
    the same name.
    """
    return _beside(context, operation.id, operation.name)


def _beside(context: AnyContext, id: str, name: str | None, *, exempt: bool = False) -> Any:
    outer = context._scope
    path = scope_path(outer, name)
    scope = Scope(outer.journal, child_scope(id), outer.operation, path, outer)
    scope.exempt = exempt
    if isinstance(context, AsyncContext):
        return AsyncContext(context._run, scope)
    return Context(context._run, scope, context._unit)


def apart(context: AnyContext, name: str) -> Any:
    """Return a context whose claims are exempt from order, in a scope beside all others.

    The scope is known by its name and how often the name was asked for here. In a sync handler it
    may be used from other threads; each takes its own by `on_this_thread`.
    """
    outer = context._scope
    owner = asyncio.current_task() if isinstance(context, AsyncContext) else context._unit
    count = outer.number(f"\0apart\0{name}", name, owner)
    id = operation_id(outer.digest, f"\0apart\0{name}", count)
    return _beside(context, id, name, exempt=True)


def on_this_thread(context: Context) -> Context:
    """Return a context of `apart` for the calling thread."""
    if context._unit.thread == threading.get_ident():
        return context
    return Context(context._run, context._scope, Unit())


def wait_here(context: Context, operations: Sequence[Operation]) -> None:
    """Hold this thread until something has come for one of these; see what others did meanwhile."""
    run = context._run
    while not any(run.is_due(each) for each in operations) and not run.ended and not run.closed:
        time.sleep(0.05)
        run.commit()


def has_more(context: AnyContext) -> bool:
    """Return whether operations recorded in a context's scope were not asked for yet."""
    return context._scope.replaying()


def recorded_within(context: AnyContext, kind: str) -> list[Operation]:
    """Return the steps of a kind that succeeded in a context's scope, or in a scope inside it."""
    scope = context._scope
    operations = scope.journal.operations

    def is_inside(operation: Operation) -> bool:
        parent = operation.parent
        while parent is not None and parent != scope.operation:
            above = operations.get(parent)
            parent = above.parent if above is not None else None
        return parent is not None

    return [
        each
        for each in list(operations.values())
        if each.subtype == kind and each.status is OperationStatus.SUCCEEDED and is_inside(each)
    ]


def run_of(context: AnyContext) -> Run:
    """Return the run that a context belongs to.

    Raises:
        UsageError: it is no durable context.
    """
    if not isinstance(context, Context | AsyncContext):
        raise UsageError(
            f"the first argument is the handler's context, not a {type(context).__name__}"
        )
    return context._run


def scope_of(context: AnyContext) -> str | None:
    """Return the id of the CONTEXT operation whose scope a context is; None for the handler's own.

    A flat branch has no operation of its own: for its context it is the batch's.
    """
    run_of(context)
    return context._scope.operation


def address_of(context: AnyContext) -> str:
    """Return what an operator's engine finds the run by: its id, or on AWS its ARN."""
    return run_of(context).session.address


def home_of(context: AnyContext) -> Path | None:
    """Return the folder of the journal file; None on AWS, which has no such file."""
    return run_of(context).session.home


def clock_of(context: AnyContext) -> Clock:
    """Return the clock of a context's engine.

    What it says is not recorded: read it inside a step, or use the context's `now`.
    """
    return run_of(context).clock


def end_of(context: AnyContext) -> datetime | None:
    """Return when the timeout of the whole run ends it, in UTC; None where unknown (AWS).

    A resume may move it: a decision that rests on it belongs in a step.
    """
    deadline = run_of(context).session.deadline
    return None if deadline is None else datetime.fromtimestamp(deadline / 1000, UTC)


def withdraw(context: AnyContext, callback_id: str, message: str, error_type: str) -> bool:
    """Fail an open callback of this run, from inside the body of one of its steps, in any thread.

    Whoever awaits the callback, in this run, meets a `CallbackError` of this message and type;
    whoever completes it later meets a `CallbackClosedError`. The call waits for the journal (on
    AWS for the service), so on an event loop it belongs in a thread.

    Returns:
        True if it was open until now; False if it was closed already, or is no callback of this
        run. After a crash, or a lost answer, a second attempt finds it closed.

    Raises:
        JournalError: it could not be written, or another process has the run.
    """
    return run_of(context).session.fail_callback(callback_id, ErrorObject(message, error_type))


def is_async(context: AnyContext) -> bool:
    """Return whether a context's calls are awaited."""
    return isinstance(context, AsyncContext)


async def value_of(result: T | Awaitable[T]) -> T:
    """Return what a call of a context gives, sync or async, inside a body for `drive`."""
    return await result if isinstance(result, Awaitable) else result


def drive(context: AnyContext, body: Coroutine[Any, Any, T]) -> Any:
    """Run a body over a context's calls, each awaited by `value_of`.

    Returns:
        its result; for an async context the coroutine that comes to it.
    """
    if isinstance(context, AsyncContext):
        return body
    try:
        body.send(None)
    except StopIteration as done:
        return done.value
    body.close()
    raise RuntimeError("a body over a sync context awaited something that is not ready")
