"""The embedded engine: the verbs of a durable service over one SQLite file, and its worker."""

from __future__ import annotations

import builtins
import re
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

from ..clock import Clock, SystemClock
from ..codec import Codec
from ..duration import DurationLike, seconds_of
from ..errors import (
    HandlerNotFoundError,
    Suspended,
    UsageError,
)
from ..handler import Handler
from ..host import Host
from ..limits import Limits
from ..operations import ErrorObject, Operation
from . import callbacks, rows
from .callbacks import OpenCallback
from .execution import (
    Execution,
    ExecutionInfo,
    ExecutionStatus,
    Snapshot,
    Wait,
    info_of,
    waits_of,
)
from .executions import Record
from .history import HistoryEvent, history
from .paths import paths_of
from .peers import Peers
from .service import LocalService, Start
from .store import Store
from .verbs import NOTHING, Verbs, plain_text
from .waiting import Waiting
from .worker import Worker
from .writing import LoopWriter

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class LocalEngine:
    """Durable execution in this process, on one SQLite file that several processes may share.

    Args:
        path: the journal file; made with its folder if it does not exist.
        handlers: the handlers whose runs this process invokes.
        limits: sizes of payloads.
        clock: where the time comes from.
        lease: how long a silent process keeps its runs before others take them over.
        threads: how many threads sync code runs on; half of them, at least one, take handlers.

    Raises:
        JournalError: the file is damaged, foreign, newer, or cannot be written.
    """

    def __init__(
        self,
        path: str | Path = ".perdure/journal.db",
        handlers: Iterable[Handler[Any]] = (),
        *,
        limits: Limits | None = None,
        clock: Clock | None = None,
        lease: DurationLike = 30,
        threads: int = 128,
    ) -> None:
        if threads < 1:
            raise UsageError(f"threads is at least 1, not {threads}")
        self.path = Path(path).absolute()
        self.clock = clock or SystemClock()
        self._store = Store(self.path)
        self._host = Host(threads)
        self._peers = Peers(self.path, self._heard)
        milliseconds = round(seconds_of(lease, "lease") * 1000)
        self._service = LocalService(
            self._store, self.clock, limits or Limits(), self._peers.id, milliseconds
        )
        self._service.on_work = self._tell
        self._service.drain_soon = LoopWriter(self._store.group, self._host).soon
        self._verbs = Verbs(self._service)
        self._worker = Worker(
            self._service, self._peers, self._host, self.clock, max(1, threads // 2)
        )
        self._waiting = Waiting(
            self._service, self._worker, self._peers, self._record, self._raise_suspended
        )
        self._open = True
        self.clock.subscribe(self._worker.poke_all)
        self.register(*handlers)

    def __enter__(self) -> Self:
        try:
            self.serve()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def handlers(self) -> Mapping[str, Handler[Any]]:
        """The registered handlers, by name."""
        return self._worker.handlers

    @property
    def home(self) -> Path:
        """The folder of the journal file."""
        return self.path.parent

    def register(self, *handlers: Handler[Any]) -> None:
        """Add handlers to those whose runs this process invokes.

        Raises:
            UsageError: not a handler, or another one has its name.
        """
        for handler in handlers:
            if not isinstance(handler, Handler):
                raise UsageError(
                    f"handlers are functions decorated with @durable_execution, not {handler!r}"
                )
            known = self._worker.handlers.get(handler.name)
            if known is not None and known is not handler:
                raise UsageError(f"two handlers are named {handler.name!r}; give one another name=")
            self._worker.handlers[handler.name] = handler
            if known is None:
                self._worker.poke()  # its runs may have waited for it

    def serve(self) -> None:
        """Invoke the registered handlers from now on, whenever their runs are due."""
        self._peers.join()
        self._worker.serve()

    def close(self) -> None:
        """Let the steps in flight record their results, then stop; runs go on at the next start."""
        if not self._open:
            return
        self._open = False
        self._worker.close()
        self._host.close()
        self._store.close()
        self._peers.leave()

    def start(
        self, handler: Handler[Any] | str, event: Any = None, id: str | None = None
    ) -> Execution:
        """Start a run, durably, and return its handle.

        Args:
            handler: a handler, which is registered with it, or the name of one.
            event: the input; what the journal can keep.
            id: 1 to 64 letters, digits, `-` or `_`; made up if not given. The same id with the same
                input returns the execution that exists.

        Raises:
            ExecutionConflictError: the id exists with another handler or input.
            SerializationError: the input cannot be kept.
        """
        return self.start_many(handler, [(event, id)])[0]

    def start_many(
        self, handler: Handler[Any] | str, runs: Iterable[tuple[Any, str | None]]
    ) -> list[Execution]:
        """Start a run for each `(event, id)`, all in one transaction; see `start`."""
        known = self._handler(handler)
        name = known.name if known is not None else str(handler)
        codec = known.codec if known is not None else Codec(None)
        timeout = known.timeout if known is not None else 366 * 86_400
        source = known.source if known is not None else None
        largest = self._service.limits.execution or self._service.limits.payload
        starts = []
        for event, id in runs:
            payload = codec.encode(event, where="the input")
            if len(payload.encode()) > largest:
                plain = f"the input of {len(payload.encode()):,} bytes is over the limit of "
                raise UsageError(plain + f"{largest:,}")
            starts.append(Start(run_id(id), name, payload, round(timeout * 1000), source))
        self._check_open()
        room = self._worker.capacity(known) if known is not None else 0
        for session in self._service.start(starts, take=room):
            if session is not None:
                self._worker.launch(session)
        return [Execution(self, start.id) for start in starts]

    def get(self, id: str) -> Execution:
        """Return the handle of a run.

        Raises:
            ExecutionNotFoundError: there is none of this id.
        """
        self._record(id)
        return Execution(self, id)

    def list(
        self, *, status: str | None = None, handler: str | None = None, limit: int = 100
    ) -> list[ExecutionInfo]:
        """Return the newest executions, newest first.

        Raises:
            UsageError: an unknown status.
        """
        if status is not None and status not in ExecutionStatus.__members__:
            known = ", ".join(ExecutionStatus.__members__)
            raise UsageError(f"status is one of {known}, not {status!r}")
        records = self._service.records(status, handler, limit)
        return [info_of(record, self._peers.is_dead) for record in records]

    def info(self, id: str) -> ExecutionInfo:
        """Return what a listing tells of one execution."""
        return info_of(self._record(id), self._peers.is_dead)

    def resume(self, id: str, reopen: Sequence[str] = ()) -> Execution:
        """Have a failed run go on: what ended it is tried again, what is recorded stays.

        Args:
            reopen: names or paths of further failed operations to try again.

        Raises:
            ExecutionConflictError: the run is not a failed one.
        """
        self._verbs.resume(id, reopen)
        return Execution(self, id)

    def cancel(self, id: str, reason: str = "cancelled") -> None:
        """End a run; a step in flight may still record its result.

        Raises:
            ExecutionConflictError: it has ended.
        """
        self._verbs.cancel(id, reason)

    def delete(self, id: str) -> None:
        """Remove an ended run from the journal.

        Raises:
            ExecutionConflictError: it is running.
        """
        self._verbs.delete(id)

    def send(self, id: str, name: str, payload: Any = NOTHING) -> None:
        """Send an event to the open wait of this name, or path, of a run.

        Args:
            payload: plain JSON, not null; nothing gives the handler True.

        Raises:
            CallbackNotFoundError: no open wait answers to it, or several do; lists the open ones.
            CallbackClosedError: it was already completed, or the run has ended.
        """
        self._verbs.send(id, name, payload)

    def complete_callback(
        self, callback_id: str, result: Any = None, *, payload: str | None = None
    ) -> None:
        """Complete a callback with a result (plain JSON), or with `payload` as it stands.

        Raises:
            CallbackNotFoundError: the id is not that of a callback.
            CallbackClosedError: it was completed, failed or timed out before.
        """
        text = payload if payload is not None or result is None else plain_text(result)
        self._verbs.complete(callback_id, text)

    def fail_callback(
        self, callback_id: str, message: str = "", error_type: str | None = None
    ) -> None:
        """Complete a callback as failed.

        Raises:
            CallbackNotFoundError: the id is not that of a callback.
            CallbackClosedError: it was completed, failed or timed out before.
        """
        self._verbs.fail(callback_id, ErrorObject(message, error_type))

    def heartbeat_callback(self, callback_id: str) -> None:
        """Keep a callback with a heartbeat alive for another interval.

        Raises:
            CallbackNotFoundError: the id is not that of a callback.
            CallbackClosedError: it was completed, failed or timed out before.
        """
        self._verbs.heartbeat(callback_id)

    def open_callbacks(
        self, *, limit: int = 100, after: int | None = None, execution: str | None = None
    ) -> builtins.list[OpenCallback]:
        """Return the callbacks and named waits that may be completed now, newest first.

        A callback whose time is up is left out, and so is what holds a failed run open. One that a
        resume opened again counts as new.

        Args:
            limit: how many at most.
            after: the `cursor` of the last one seen: those that follow it.
            execution: only those of the run of this id.

        Raises:
            ExecutionNotFoundError: there is no such run.
        """
        now = self.clock.now()
        run = None if execution is None else self._record(execution).run
        self._check_open()
        with self._store.read() as connection:
            return callbacks.list_open(connection, now, limit, after, run)

    def count_callbacks(self) -> int:
        """Return how many callbacks and named waits may be completed now, in all runs."""
        self._check_open()
        with self._store.read() as connection:
            return callbacks.count_open(connection, self.clock.now())

    def callback(self, callback_id: str) -> tuple[ExecutionInfo, Operation]:
        """Return the state of a callback, open or closed, and what is told of its run.

        Raises:
            CallbackNotFoundError: no run of this journal has it.
        """
        self._check_open()
        with self._store.read() as connection:
            record, operation = callbacks.find(self._service, connection, callback_id)
        return info_of(record, self._peers.is_dead), operation

    def children(self, id: str, parent: str | None) -> builtins.list[Operation]:
        """Return the state of the operations directly under one of a run, without the others.

        Args:
            parent: the id of a child, branch or batch; None for what the handler itself claimed.

        Raises:
            ExecutionNotFoundError: there is no such run.
        """
        with self._store.read() as connection:
            run = self._service.record(connection, id).run
            return rows.children(connection, run, parent)

    def operation(self, id: str, operation: str) -> Operation | None:
        """Return the state of one operation of a run by its id, or None.

        Raises:
            ExecutionNotFoundError: there is no such run.
        """
        with self._store.read() as connection:
            return rows.one(connection, self._service.record(connection, id).run, operation)

    def history(self, id: str) -> builtins.list[HistoryEvent]:
        """Return a run's events in the shape of AWS's `GetDurableExecutionHistory`."""
        with self._store.read() as connection:
            return history(connection, self._service.record(connection, id))

    def operations(self, id: str) -> dict[str, Operation]:
        """Return the state of a run's operations, by the path that addresses each."""
        operations = self._operations(id)[1]
        paths = paths_of(operations)
        return {paths[operation.id]: operation for operation in operations.values()}

    def steps(self, id: str, kind: str) -> builtins.list[Operation]:
        """Return the steps of one kind of a run, without reading the others."""
        with self._store.read() as connection:
            run = self._service.record(connection, id).run
            return rows.steps(connection, run, kind)

    def replays(self, id: str, kind: str) -> dict[str, int]:
        """Return how many ended invocations found each step of a kind recorded, by its id."""
        with self._store.read() as connection:
            return rows.replays(connection, self._service.record(connection, id).run, kind)

    def texts(self, last: str) -> builtins.list[str]:
        """Return the texts of a chain, named by its last link in hex; [] if not kept."""
        with self._store.read() as connection:
            return rows.texts(connection, bytes.fromhex(last))

    def snapshot(self, id: str) -> Snapshot:
        """Return all that a replay of a run needs.

        Raises:
            HandlerNotFoundError: its handler is not registered here.
        """
        record, operations = self._operations(id)
        handler = self._worker.handlers.get(record.handler)
        if handler is None:
            raise HandlerNotFoundError(f"the handler {record.handler!r} is not registered here")
        return Snapshot(handler, record.payload, record.seed, operations, self.clock)

    @property
    def killed(self) -> bool:
        """Whether `kill_after` has struck."""
        return self._store.killed

    def kill_after(self, writes: int, error: Exception) -> None:
        """Refuse all writes after so many more, for tests of what a crash leaves."""
        self._store.kill_after(writes, error)

    def waiting_for(self, id: str) -> builtins.list[Wait]:
        """Return what a run waits for."""
        record, operations = self._operations(id)
        return waits_of(operations, record.run) if record.status == "RUNNING" else []

    def wait_for(self, id: str, timeout: float | None = None) -> Any:
        """Wait for a run to end and return its result; see `Execution.result`."""
        return self._waiting.wait_for(id, timeout)

    def settle(self, id: str, timeout: float) -> Any:
        """Wait for a run to end or to have only longer waits left; see `Execution.settle`."""
        return self._waiting.settle(id, timeout)

    def wait_idle(self, timeout: float = 60) -> None:
        """Wait until no handler runs here and none is due.

        Raises:
            TimeoutError: something still runs after `timeout` seconds of real time.
        """
        self._waiting.wait_idle(timeout)

    def next_timer(self) -> int | None:
        """Return when the next timer of any run is due, in milliseconds, or None."""
        return self._service.next_timer()

    def _handler(self, handler: Handler[Any] | str) -> Handler[Any] | None:
        if isinstance(handler, str):
            return self._worker.handlers.get(handler)
        self.register(handler)
        self.serve()
        return handler

    def _record(self, id: str) -> Record:
        self._check_open()
        with self._store.read() as connection:
            return self._service.record(connection, id)

    def _operations(self, id: str) -> tuple[Record, dict[str, Operation]]:
        with self._store.read() as connection:
            record = self._service.record(connection, id)
            return record, self._service.operations(connection, record.run)

    def _check_open(self) -> None:
        if not self._open:
            raise UsageError("this engine is closed; open another on the same file")

    def _raise_suspended(self, record: Record) -> NoReturn:
        waits = self.waiting_for(record.id)
        lines = [
            f"{wait.kind} {wait.path!r}"
            + (f" until {wait.due:%Y-%m-%d %H:%M} UTC" if wait.due else "")
            for wait in waits
        ]
        raise Suspended(
            f"the run {record.id!r} waits for {', '.join(lines) or 'nothing'}",
            Execution(self, record.id),
            lines,
        )

    def _tell(self, runs: Iterable[int]) -> None:
        self._worker.poke(runs)
        self._peers.notify(*runs)

    def _heard(self, runs: frozenset[int]) -> None:
        self._worker.poke(runs)


def run_id(id: str | None) -> str:
    """Return the id of a new run: as given, or made up.

    Raises:
        UsageError: it cannot be one.
    """
    if id is None:
        return f"{int(time.time()):x}-{secrets.token_hex(6)}"
    if not isinstance(id, str) or not _ID.fullmatch(id):
        raise UsageError(
            f"the id of a run is 1 to 64 letters, digits, '-' or '_' (the rule of AWS), not {id!r}"
        )
    return id
