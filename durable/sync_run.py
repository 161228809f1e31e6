"""The sync driver: carries out a run's moves on the calling thread, and waits for its writes.

A `Unit` is what suspends as a whole: the handler, or one branch of a batch. Suspension unwinds it
with `InvocationSuspended`, and it is run again from its top when what it waits for has come.
"""

from __future__ import annotations

import inspect
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .clock import Clock
from .codec import Codec
from .current import CurrentStep, current
from .errors import InvocationEnded, InvocationSuspended, JournalError, UsageError
from .group_commit import Ticket
from .host import PULSE, Host
from .journal import Scope, call_site, misuse
from .operations import Operation, OperationStatus
from .retry import ONCE
from .run import Move, Run, StepSpec, misplaced
from .session import Reply, Session

if TYPE_CHECKING:
    from .condition import ConditionSpec
    from .sync_batch import SyncBatch


_S = OperationStatus


class Unit:
    """The handler or a branch, as far as it suspends on its own."""

    __slots__ = ("suspension", "thread", "where")

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.suspension: InvocationSuspended | None = None
        self.where = ""

    def suspend(self, operations: Sequence[Operation]) -> InvocationSuspended:
        """Return the exception that unwinds this unit."""
        self.suspension = InvocationSuspended(operations)
        self.where = call_site()
        return self.suspension

    def swallowed(self, error: BaseException | None = None) -> UsageError:
        """Return the error for a handler that caught its suspension, or made it another error."""
        became = f" (it became {type(error).__name__}: {error})" if error is not None else ""
        return UsageError(
            f"the handler waits{self.where}, and the exception that suspends it was swallowed by "
            f"an `except BaseException` or a bare `except`{became}; catch Exception, or re-raise"
        )


class SyncRun(Run):
    """One execution during one invocation of a sync handler."""

    def __init__(self, session: Session, codec: Codec, clock: Clock, host: Host) -> None:
        super().__init__(session, codec, clock)
        self.host = host
        self.changed = threading.Condition()
        self._order = threading.Lock()
        self._armed = False
        self._waiting_since = 0.0
        self._quiet: Ticket | None = None
        self.told = False
        self.hearing = 0
        self.batches: list[SyncBatch] = []
        self.dropping = False
        self.closed = False
        self.refused = False
        self._guarded: list[Scope] = []
        self._units: dict[int, Unit] = {}

    def begin(self, unit: Unit) -> Unit | None:
        """Note that a unit runs on its thread from now on; return the one it interrupts."""
        before = self._units.get(unit.thread)
        self._units[unit.thread] = unit
        return before

    def go_back(self, unit: Unit, before: Unit | None) -> None:
        """Note that a unit is over, and what it interrupted goes on."""
        if before is None:
            del self._units[unit.thread]
        else:
            self._units[unit.thread] = before

    def unit_here(self) -> Unit | None:
        """Return the unit that runs on the calling thread."""
        return self._units.get(threading.get_ident())

    def enter(self, scope: Scope, unit: Unit, what: str) -> None:
        """Check that this thread may ask this scope for an operation now."""
        if unit.suspension is not None:
            raise self._unwinding(unit)
        if unit.thread != threading.get_ident():
            raise misuse(
                f"{what!r} was called from a thread that does not run this context; "
                "use context.map or context.parallel to run things side by side"
            )
        if self.ended or self.closed:
            self.refused = scope.closed = True
        elif self.dropping and scope.dropped():
            scope.closed = True

    def check_unwound(self, unit: Unit, error: BaseException | None = None) -> None:
        """Check that no handler goes on, or fails, where it was to be unwound.

        Raises:
            InvocationEnded: its run takes no more claims, and it caught that.
            UsageError: it waits, and it caught that.
        """
        if self.refused:
            raise InvocationEnded
        if unit.suspension is not None:
            raise self.journal.fail(unit.swallowed(error)) from error

    def check_place(self, what: str) -> None:
        """Refuse a durable call inside the body of a step.

        Raises:
            UsageError: naming both.
        """
        running = current.get()
        if running is not None and running.execution_id == self.execution_id:
            raise misplaced(what, running)

    def admit(self, scope: Scope, operation: Operation) -> None:
        """Check that a new operation may run: the run goes on, all that is recorded was claimed."""
        self.listen()
        self._check_going(scope)
        self.check_place(operation.name or operation.id)
        if scope.holds(operation):
            raise self.journal.fail(scope.unexpected(operation))

    def commit(self) -> None:
        """Write what was recorded; return when it is durable."""
        with self._order:
            ticket = self.session.enqueue(self.journal.outbox.take(), None)
        try:
            reply = self.session.wait(ticket)
        except JournalError as error:
            raise self.journal.fail(error) from None
        self._hear(reply)

    def commit_soon(self) -> None:
        """Have what was recorded written with the next commit, or by the pulse if none comes."""
        if self.session.cautious:
            self.commit()
        elif not self._armed:
            self._armed = True
            self._waiting_since = time.monotonic()
            self.host.pulse.arm(self)

    def settle(self) -> None:
        """Return when all that was recorded is durable, also what the pulse has taken to write."""
        with self._order:
            left, quiet = bool(self.journal.outbox), self._quiet
        if left or (quiet is not None and not quiet.done):
            self.commit()
        if quiet is not None and quiet.error is not None:
            raise self.journal.fail(quiet.error)

    def _hear(self, reply: Reply) -> None:
        if reply.events or reply.operations or reply.ended:
            with self._order:
                self.absorb(reply)
            self.poke()

    def poke(self) -> None:
        """Wake the batches of this run: something may have come for them."""
        with self.changed:
            self.changed.notify_all()

    def wake(self) -> None:
        """Note that others did something to this run: it is heard before anything new begins."""
        self.told = True
        self.poke()
        for batch in list(self.batches):
            self.host.pool.submit(batch.answer)

    def listen(self) -> None:
        """Hear what others did, if they did something."""
        if self.told:
            self.told = False
            self.commit()

    def close(self) -> None:
        """Stop at the next claim: the engine is closing."""
        self.closed = True
        self.poke()

    def write_starts(self) -> bool:
        """Have starts written whose bodies still run; called by the pulse."""
        if not self.journal.outbox:
            self._armed = False
            return bool(self.journal.outbox)
        if time.monotonic() - self._waiting_since < PULSE / 2:
            return True
        with self._order:
            events = self.journal.outbox.take()
            if events:
                self._quiet = self.session.enqueue(events, self._written)
                self.session.soon(self._quiet)
        return True

    def _written(self, ticket: Ticket) -> None:
        # An error shows at the next commit, which somebody waits for.
        if ticket.error is None:
            self._hear(ticket.result)

    def overlooked(self, suspension: InvocationSuspended) -> bool:
        """Return whether what the handler waits for came while it was let go."""
        with self.changed:
            self.changed.wait_for(lambda: not self.hearing)
        with self._order:
            quiet = self._quiet
        if quiet is not None:
            try:
                self._hear(self.session.wait(quiet))
            except JournalError as error:
                raise self.journal.fail(error) from None
        return any(operation.closed for operation in suspension.operations)

    def step(
        self,
        scope: Scope,
        unit: Unit,
        operation: Operation,
        spec: StepSpec,
        body: Callable[[], Any],
        digest: str | None,
    ) -> Any:
        """Bring a claimed step to its end, and return its value."""
        while True:
            move = self.step_move(operation, at_most_once=spec.at_most_once)
            if move is Move.START or move is Move.RERUN:
                value = self._attempt(scope, unit, operation, spec, body, digest, move)
                if operation.closed and operation.error is None:
                    return value
            elif move is Move.RETURN:
                return self.value_of(operation, spec.returns, spec.serdes)
            elif move is Move.RAISE:
                raise self.error_of(operation)
            elif move is Move.PAUSE:
                raise unit.suspend([operation])
            else:
                first = self.step_interrupted(operation, spec)
                self.commit()
                self._hold(unit, first)

    def _hold(self, unit: Unit, first: Operation | None) -> None:
        if first is not None and not first.closed:
            raise unit.suspend([first])

    def _attempt(
        self,
        scope: Scope,
        unit: Unit,
        operation: Operation,
        spec: StepSpec,
        body: Callable[[], Any],
        digest: str | None,
        move: Move,
    ) -> Any:
        if move is Move.START:
            self.admit(scope, operation)
        if not spec.at_most_once:
            if move is Move.START:
                self.start_step(operation, digest)
                self.commit_soon()
            return self._settle(scope, operation, spec, body)
        with self._guard(scope):
            first = self.open_gate(operation, spec, digest)
            self.commit()
            self._hold(unit, first)
            if operation.status is not _S.STARTED:
                return None
            self._check_going(scope)
            return self._settle(scope, operation, spec, body)

    @contextmanager
    def _guard(self, scope: Scope) -> Iterator[None]:
        """Hold the close of a batch that drops this scope until the body inside has ended."""
        with self.changed:
            self._guarded.append(scope)
        try:
            self.check_open(scope)
            yield
        finally:
            with self.changed:
                self._guarded.remove(scope)
                self.changed.notify_all()

    def _settle(
        self, scope: Scope, operation: Operation, spec: StepSpec, body: Callable[[], Any]
    ) -> Any:
        value: Any = None
        try:
            value = self.call(body, self.current_step(operation))
        except Exception as error:
            self._check_recordable(scope, spec)
            self.step_raised(operation, spec, error)
        else:
            self._check_recordable(scope, spec)
            value = self.step_returned(operation, spec, value)
        self.commit()
        return value

    def settle_poll(
        self, condition: ConditionSpec, scope: Scope, operation: Operation, state: Any
    ) -> None:
        """Make one poll of a condition and record what it came to."""
        try:
            state = self.call(lambda: condition.check(state), self.current_step(operation))
            self.check_open(scope)
            condition.settle(self, operation, state)
        except Exception as error:
            self.check_open(scope)
            self.step_raised(operation, StepSpec(ONCE), error)
        self.commit()

    def guarded_within(self, scopes: Sequence[Scope]) -> bool:
        """Return whether an at-most-once body runs inside one of these scopes."""
        return any(each.is_within(scope) for each in self._guarded for scope in scopes)

    def call(self, body: Callable[[], Any], step: CurrentStep) -> Any:
        """Run the body of a step, sync or async."""
        token = current.set(step)
        try:
            value = body()
            if inspect.isawaitable(value):
                value = self.host.run_async(as_coroutine(value))
            return value
        finally:
            current.reset(token)

    def check_open(self, scope: Scope) -> None:
        """Stop a branch whose batch was decided without it."""
        if self.dropping and scope.dropped():
            raise InvocationEnded

    def _check_going(self, scope: Scope) -> None:
        if self.ended:
            self.refused = scope.closed = True
            raise InvocationEnded

    def _check_recordable(self, scope: Scope, spec: StepSpec) -> None:
        if not spec.at_most_once:
            self.check_open(scope)

    def _unwinding(self, unit: Unit) -> BaseException:
        suspension: BaseException | None = unit.suspension
        error = sys.exc_info()[1]
        while error is not None:
            if error is suspension:
                return error
            error = error.__context__
        return self.journal.fail(unit.swallowed())


async def as_coroutine(awaitable: Any) -> Any:
    """Await anything awaitable."""
    return await awaitable
