"""Waiting for runs: to end, to be left with longer waits, or for all of them to be idle.

Nobody polls while this process alone serves the journal; beside others, which may end a run
unheard, the journal is looked at once a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NoReturn

from ..codec import Codec
from ..errors import (
    ExecutionCancelledError,
    ExecutionError,
    ExecutionFailedError,
    ExecutionTimedOutError,
    HandlerNotFoundError,
)
from ..events import EventKind
from ..operations import ErrorObject
from .execution import ExecutionStatus
from .executions import Record, closing_of
from .peers import Peers
from .service import LocalService
from .worker import Worker

_ENDS = {
    ExecutionStatus.FAILED: ExecutionFailedError,
    ExecutionStatus.CANCELLED: ExecutionCancelledError,
    ExecutionStatus.TIMED_OUT: ExecutionTimedOutError,
}


class Waiting:
    """What waits for the runs of one engine.

    Args:
        record: returns the row of a run, or raises.
        suspended: raises for a run that has only longer waits left.
    """

    def __init__(
        self,
        service: LocalService,
        worker: Worker,
        peers: Peers,
        record: Callable[[str], Record],
        suspended: Callable[[Record], NoReturn],
    ) -> None:
        self._service = service
        self._worker = worker
        self._peers = peers
        self._record = record
        self._suspended = suspended

    def wait_for(self, id: str, timeout: float | None) -> Any:
        """Wait for a run to end and return its result."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._worker.watch(self._record(id).run) as changed:
            while True:
                changed.clear()
                record = self._record(id)
                if record.status != "RUNNING":
                    return self._outcome(record)
                self._check_progress(record)
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    told = f"the run {id!r} has not ended after {timeout:g} s; it goes on"
                    raise TimeoutError(told)
                known = record.handler in self._worker.handlers
                changed.wait(self._patience(left, known))

    def settle(self, id: str, timeout: float) -> Any:
        """Wait for a run to end or to have only longer waits left."""
        deadline = self._service.clock.now() + round(timeout * 1000)
        while True:
            seen = self._worker.generation
            record = self._record(id)
            if record.status != "RUNNING":
                return self._outcome(record)
            self._check_progress(record)
            waits = record.wake_at is None or record.wake_at > deadline
            if record.lease_owner is None and waits:
                self._suspended(record)
            self._wait_for_change(seen, 1.0)

    def wait_idle(self, timeout: float) -> None:
        """Wait until no handler runs here and none is due."""
        deadline = time.monotonic() + timeout
        while True:
            seen = self._worker.generation
            if self._worker.idle() or (self._service.store.killed and not self._worker.active):
                return
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"handlers still run after {timeout:g} s")
            self._wait_for_change(seen, left)

    def _outcome(self, record: Record) -> Any:
        with self._service.store.read() as connection:
            closing = closing_of(connection, record.run)
        if closing.kind is EventKind.EXECUTION_SUCCEEDED:
            handler = self._worker.handlers.get(record.handler)
            codec = handler.codec if handler is not None else Codec(None)
            return codec.decode(closing.payload or "null", where=f"the result of {record.id!r}")
        _raise_ended(record, closing.error)

    def _check_progress(self, record: Record) -> None:
        error = self._worker.errors.pop(record.run, None)
        if error is not None:
            raise error
        if record.lease_owner is not None:
            due = self._peers.is_dead(record.lease_owner)
        else:
            due = record.wake_at is not None and record.wake_at <= self._service.clock.now()
        if record.handler in self._worker.handlers or not due:
            return
        self._peers.sweep()
        if not self._peers.others():
            known = ", ".join(sorted(self._worker.handlers)) or "none"
            raise HandlerNotFoundError(
                f"the run {record.id!r} is due, and its handler {record.handler!r} is not "
                f"registered here (registered: {known}); the run is kept, and goes on when an "
                "engine with that handler serves this journal"
            )

    def _wait_for_change(self, seen: int, left: float | None) -> None:
        changed = self._worker.changed
        with changed:
            if self._worker.generation == seen:
                changed.wait(self._patience(left, True))

    def _patience(self, left: float | None, known: bool) -> float | None:
        # Another process may end the run, or come and do so; this one may not hear of it.
        alone = known and self._worker.serving and not self._peers.others()
        return left if alone else min(1.0, 1.0 if left is None else left)


def _raise_ended(record: Record, error: ErrorObject | None) -> NoReturn:
    kind: type[ExecutionError] = _ENDS[ExecutionStatus(record.status)]
    what = f"{error.type}: {error.message}" if error and error.type else error and error.message
    raise kind(f"the run {record.id!r} {record.status.lower().replace('_', ' ')}: {what}", error)
