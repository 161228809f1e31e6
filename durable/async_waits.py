"""What an async run waits for: its writes, others' answers, timers; and when only that is left."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from contextvars import ContextVar
from threading import get_ident
from typing import Any

from .clock import Clock
from .codec import Codec
from .errors import JournalError
from .group_commit import Ticket
from .host import Host
from .journal import Scope
from .operations import Operation
from .quiescence import ClaimFuture, Stillness, WrittenFuture, stillness
from .run import Run
from .session import Session

_log = logging.getLogger("perdure")
_here: ContextVar[Scope | None] = ContextVar("perdure_scope", default=None)
_STILL = 3
"""How often in a row tasks are found still: what a finished one wakes is seen a turn later."""


class AsyncWaits(Run):
    """The waiting side of a run on an event loop."""

    def __init__(self, session: Session, codec: Codec, clock: Clock, host: Host) -> None:
        super().__init__(session, codec, clock)
        self.host = host
        self.loop = asyncio.get_running_loop()
        self._thread = get_ident()
        self.tasks: set[asyncio.Task[Any]] = set()
        self.over = False
        self.stopped = False
        self.returned = False
        self.sites: dict[str, str] = {}
        self._bodies = 0
        self._detached: dict[asyncio.Task[Any], Scope] = {}
        self._guarded: dict[asyncio.Task[Any], Scope] = {}
        self._writing = 0
        self._flushing: WrittenFuture | None = None
        self._resolved: list[tuple[ClaimFuture, Any]] = []
        self._pending: dict[str, list[ClaimFuture]] = {}
        self._held: list[tuple[Scope, Operation, ClaimFuture]] = []
        self._checking = False
        self._still = 0
        self._refused = 0
        self._strange_since: float | None = None
        self._alarm: tuple[int, asyncio.TimerHandle] | None = None
        self._end: asyncio.Future[str] = self.loop.create_future()

    def refresh(self) -> None:
        """Look for what others did, and for timers that are due."""
        if not self.over and not self.session.replay_only:
            self._want_flush()
            self._resolve_due(list(self._pending))

    def committed(self) -> Awaitable[Any]:
        """Write what was recorded; await the result to know it is durable."""
        return self._want_flush()

    def when_written(self, future: ClaimFuture, value: Any) -> None:
        """Resolve a future once what was recorded so far is durable."""
        self._want_flush()
        self._resolved.append((future, value))

    def note_start(self) -> None:
        """Have starts written whose bodies still run after a pulse."""
        self.host.loop_pulse.arm(self)

    def write_starts(self) -> None:
        """Write the starts of bodies that still run; called by the pulse."""
        if self.journal.outbox and not self.over:
            self._want_flush()

    def _want_flush(self) -> WrittenFuture:
        if self._flushing is None:
            self._flushing = WrittenFuture(loop=self.loop)
            self.loop.call_soon(self._flush)
        return self._flushing

    def _flush(self) -> None:
        future, self._flushing = self._flushing, None
        resolved, self._resolved = self._resolved, []
        assert future is not None
        self._writing += 1
        ticket = self.session.enqueue(
            self.journal.outbox.take(),
            lambda ticket: self.host.post(self._written, ticket, future, resolved),
        )
        self.session.soon(ticket)

    def _written(
        self, ticket: Ticket, future: WrittenFuture, resolved: list[tuple[ClaimFuture, Any]]
    ) -> None:
        self._writing -= 1
        error = ticket.error
        if error is None:
            changed = self.absorb(ticket.result)
            future.set_result(None)
            for claim, value in resolved:
                if not claim.done():
                    claim.set_result(value)
            self.stopped = self.stopped or self.ended
            if changed:
                self._resolve_due([operation.id for operation in changed])
        else:
            if isinstance(error, JournalError):
                self.journal.fail(error)
            for each in (future, *(claim for claim, _ in resolved)):
                if not each.done():
                    each.set_exception(error)
                    each.exception()
            self._fail_pending(error)
        self.check_soon()

    def enter_branch(self, scope: Scope) -> None:
        """Note that the calling task, and those it starts, run the branch that a scope is of."""
        _here.set(scope)

    def scope_here(self, otherwise: Scope) -> Scope:
        """Return the scope of the branch that the calling task runs."""
        scope = _here.get()
        return scope if scope is not None and scope.journal is self.journal else otherwise

    async def pending(self, scope: Scope, operation: Operation) -> None:
        """Wait until something has come for an operation."""
        while not self.is_due(operation):
            future = ClaimFuture(loop=self.loop)
            self._pending.setdefault(operation.id, []).append(future)
            self.check_soon()
            branch = scope.branch
            if branch is not None:
                branch.park()
            try:
                await future
            finally:
                if branch is not None:
                    branch.unpark()

    def _resolve_due(self, ids: Sequence[str]) -> None:
        for id in ids:
            operation = self.journal.operations.get(id)
            if id in self._pending and operation is not None and self.is_due(operation):
                for future in self._pending.pop(id):
                    if not future.done():
                        future.set_result(None)

    def _fail_pending(self, error: BaseException) -> None:
        for futures in self._pending.values():
            for future in futures:
                if not future.done():
                    future.set_exception(error)
        self._pending.clear()

    def _set_alarm(self, due: int | None) -> None:
        if due is None or not self.clock.real():
            return
        if self._alarm is not None:
            if self._alarm[0] <= due:
                return
            self._alarm[1].cancel()
        seconds = max(0.0, (due - self.clock.now()) / 1000)
        self._alarm = (due, self.loop.call_later(seconds, self._ring))

    def _ring(self) -> None:
        self._alarm = None
        if self.over:
            return
        self.refresh()
        self._watch_timers()

    def _watch_timers(self) -> None:
        """Have the next timer ring here: this invocation goes on beside what waits for it."""
        if self._pending:
            dues = [self.journal.operations[id].due for id in self._pending]
            self._set_alarm(min((due for due in dues if due is not None), default=None))

    def check_soon(self) -> None:
        """See, once the loop has run what is ready, whether only waits are left."""
        waits = self._pending or self._held or self.stopped
        if waits and not self._checking and not self.over:
            self._checking = True
            self.loop.call_soon(self._check)

    def _check(self) -> None:
        self._checking = False
        if self.over or self._end.done():
            return
        if self._bodies or self._writing or self._flushing:
            self._watch_timers()
            return
        if self.stopped:
            self._finish("suspended")
            return
        found = stillness(self.tasks)
        self._still = self._still + 1 if found is Stillness.STILL else 0
        match found:
            case Stillness.RUNNING:
                self.check_soon()
            case Stillness.STILL if self._still < _STILL:
                self.check_soon()
            case Stillness.STRANGE:
                self._wait_for_stranger()
            case Stillness.STILL if self._held:
                scope, operation, future = self._held.pop(0)
                future.set_exception(self.journal.fail(self._unexpected(scope, operation)))
            case Stillness.STILL if self._pending:
                self._finish("suspended")

    def _unexpected(self, scope: Scope, operation: Operation) -> BaseException:
        return scope.unexpected(operation, self.sites.get(operation.id))

    def _wait_for_stranger(self) -> None:
        """Look again, since a task awaits what is no durable call; say so after a second."""
        now = self.loop.time()
        if self._strange_since is None:
            self._strange_since = now
        elif now - self._strange_since > 1 and self._pending:
            _log.warning(
                "the run %r has only waits left but for a task that awaits something that is not "
                "durable; it cannot be suspended until that ends",
                self.execution_id,
            )
            self._strange_since = float("inf")
        self._watch_timers()
        self.loop.call_later(0.05, self.check_soon)

    def _finish(self, why: str) -> None:
        if not self._end.done():
            self._end.set_result(why)
            # A timer that rings from now on is the next invocation's: nobody here hears its end.
            self.over = self.over or why == "suspended"
