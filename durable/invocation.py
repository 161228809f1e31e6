"""One pass through a handler from the top: replay, then new work, until it ends or suspends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from .calls import refuse_awaitable
from .clock import Clock
from .context import Context
from .errors import InvocationEnded, InvocationSuspended, JournalError, UsageError
from .events import Event
from .failures import error_object
from .handler import Handler
from .hold import hold, is_held
from .host import Host
from .run import Run
from .session import Ending, Failed, Pending, Session, Succeeded
from .sync_run import SyncRun, Unit


class Wakeable(Protocol):
    """A run under way."""

    def wake(self) -> None:
        """Note that others did something to it, or that something of it is due."""


def sync_run(session: Session, handler: Handler[Any], clock: Clock, host: Host) -> SyncRun:
    """Return the run of one invocation, not begun."""
    return SyncRun(session, handler.codec, clock, host)


def invoke(run: SyncRun, handler: Handler[Any]) -> Ending:
    """Run the handler once and write what came of it.

    Raises:
        JournalError: the journal cannot be written, or another process has the run.
    """
    ending = hold(run, handler, _pass(run, handler))
    run.session.end(run.journal.outbox.take(), ending)
    return ending


def outcome_of(session: Session, handler: Handler[Any], clock: Clock, host: Host) -> Ending:
    """Run a handler, sync or async, over a session; return what it comes to, not written."""
    return _outcome(session, handler, clock, host)[0]


def conclude(
    session: Session,
    handler: Handler[Any],
    clock: Clock,
    host: Host,
    begun: Callable[[Wakeable], None],
) -> Ending:
    """Run a handler, sync or async, over a session and write what came of it.

    Args:
        begun: is given the run before its handler is called, to wake it when something is due.

    Raises:
        JournalError: the journal cannot be written, or another process has the run.
    """
    ending, events = _outcome(session, handler, clock, host, begun)
    session.end(events, ending)
    return ending


def _outcome(
    session: Session,
    handler: Handler[Any],
    clock: Clock,
    host: Host,
    begun: Callable[[Wakeable], None] = lambda run: None,
) -> tuple[Ending, list[Event]]:
    if not handler.is_async:
        run = sync_run(session, handler, clock, host)
        begun(run)
        return hold(run, handler, _pass(run, handler)), run.journal.outbox.take()

    from .async_run import AsyncRun, run_handler

    async def run_it() -> tuple[Ending, list[Event]]:
        run = AsyncRun(session, handler.codec, clock, host)
        begun(run)
        ending = hold(run, handler, await run_handler(run, handler))
        return ending, run.journal.outbox.take()

    return host.run_async(run_it())


def _pass(run: SyncRun, handler: Handler[Any]) -> Ending:
    if is_held(run.journal.operations):
        return Pending()
    unit = Unit()
    run.begin(unit)
    scope = run.journal.root()
    try:
        event = run.codec.decode(run.session.payload, where="the input")
        value = handler.fn(event, Context(run, scope, unit))
        refuse_awaitable(value, f"the result of the handler {handler.name!r}")
        run.check_unwound(unit)
        scope.finish()
        ending = returned(run, handler, value)
    except InvocationSuspended as suspension:
        ending = _suspended(run, suspension)
    except InvocationEnded:
        ending = Pending(again=run.closed)
    except BaseException as error:
        ending = _raised(run, unit, error)
    if run.journal.failure is not None and not isinstance(ending, Failed):
        return raised(run, run.journal.failure)
    return ending


def _raised(run: SyncRun, unit: Unit, error: BaseException) -> Ending:
    try:
        if run.journal.failure is None:
            run.check_unwound(unit, error)
    except InvocationEnded:
        return Pending(again=run.closed)
    except UsageError as swallowed:
        return raised(run, swallowed)
    return raised(run, error)


def _suspended(run: SyncRun, suspension: InvocationSuspended) -> Ending:
    try:
        return Pending(again=run.closed or run.overlooked(suspension))
    except JournalError as error:
        return raised(run, error)


def returned(run: Run, handler: Handler[Any], value: object) -> Ending:
    """Return the ending for what a handler returned."""
    what = f"the result of the handler {handler.name!r}"
    payload = run.codec.encode(value, where=what)
    limits = run.session.limits
    run.check_size(payload, what, limits.offloaded or limits.execution)
    return Succeeded(payload)


def raised(run: Run, error: BaseException) -> Ending:
    """Return the ending for what a handler raised.

    Raises:
        JournalError: the failure is the engine's, not the handler's; the run goes on elsewhere.
    """
    cause = run.journal.failure or error
    if isinstance(cause, JournalError):
        raise cause
    if isinstance(cause, SystemExit | KeyboardInterrupt):
        cause = UsageError(f"the handler raised {type(cause).__name__}; return, or raise an error")
    return Failed(error_object(cause))
