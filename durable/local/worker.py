"""What invokes handlers: takes runs that are due, runs them, and sleeps until the next is.

One thread looks; handlers run on the host's pool or loop. It sleeps until the next timer, until
somebody tells of work, or, while this process holds leases or shares the file, until it is time to
renew them or to look after the others.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Any

from ..clock import Clock
from ..errors import JournalError, LeaseLostError
from ..handler import Handler
from ..host import Host
from ..invocation import invoke, sync_run
from .peers import DUE, Peers
from .service import LocalService
from .session import LocalSession

_log = logging.getLogger("perdure")
LOOK_AFTER = 1.0
"""Seconds between two looks after other processes, while there are any."""
AGAIN = 5_000
"""Milliseconds until a run is invoked again that the engine itself failed to invoke."""


class Worker:
    """Invokes the registered handlers whenever one of their runs is due."""

    def __init__(
        self, service: LocalService, peers: Peers, host: Host, clock: Clock, handlers: int
    ) -> None:
        self.handlers: dict[str, Handler[Any]] = {}
        self.active: dict[int, Any] = {}
        self.errors: dict[int, BaseException] = {}
        self.changed = threading.Condition()
        self.generation = 0
        self._service = service
        self._peers = peers
        self._host = host
        self._clock = clock
        self._sync_limit = handlers
        self._sync_active = 0
        self._poked = False
        self._taking = False
        self._alarms: list[tuple[int, int, Any]] = []
        self._count = count()
        self._watchers: dict[int, list[threading.Event]] = {}
        host.alarm = self._set_alarm
        self.closing = False
        self._thread: threading.Thread | None = None
        self._orphans: list[LocalSession] = []
        self._next_look = 0.0
        self._next_renewal = 0.0
        self._async: Any = None

    @property
    def serving(self) -> bool:
        """Whether this process looks for runs to invoke."""
        return self._thread is not None

    def serve(self) -> None:
        """Free what dead processes held, and start looking, if there is a handler to look for."""
        if self._thread is not None or not self.handlers:
            return
        self._look_after_others()
        with self.changed:
            if self._thread is None and self.handlers and not self.closing:
                self._thread = threading.Thread(
                    target=self._look, name="perdure-dispatcher", daemon=True
                )
                self._thread.start()
                # The others know from now on that they are not alone, and look after this one.
                self._peers.notify()

    def poke(self, runs: Iterable[int] = ()) -> None:
        """Say that there may be work, and that these runs changed."""
        active = [self.active.get(run) for run in runs]
        for run in active:
            if run is not None:
                run.wake()
        with self.changed:
            self._poked = True
            self.generation += 1
            self.changed.notify_all()
            self._tell_watchers(runs)

    def poke_all(self) -> None:
        """Say that the clock was moved: any timer may be due."""
        self.poke([DUE, *self.active])

    @contextmanager
    def watch(self, run: int) -> Iterator[threading.Event]:
        """Have an event set whenever a run changes."""
        event = threading.Event()
        with self.changed:
            self._watchers.setdefault(run, []).append(event)
        try:
            yield event
        finally:
            with self.changed:
                self._watchers[run].remove(event)
                if not self._watchers[run]:
                    del self._watchers[run]

    def _tell_watchers(self, runs: Iterable[int]) -> None:
        if self._watchers:
            told = self._watchers if DUE in (runs := list(runs)) else runs
            for run in told:
                for event in self._watchers.get(run, ()):
                    event.set()

    def capacity(self, handler: Handler[Any]) -> int:
        """Return how many runs of this handler could be invoked at once."""
        if self._thread is None or self.closing:
            return 0
        return 10_000 if handler.is_async else max(0, self._sync_limit - self._sync_active)

    def room(self, handler: Handler[Any]) -> bool:
        """Return whether a run of this handler could be invoked at once."""
        return self.capacity(handler) > 0

    def launch(self, session: LocalSession) -> None:
        """Invoke the handler of a leased run."""
        handler = self.handlers[session.handler]
        self.errors.pop(session.run, None)
        with self.changed:
            if not self.active:  # the thread may sleep without an end, and a lease is to be renewed
                self._poked = True
                self.changed.notify_all()
            self.active[session.run] = _Starting(session)
            self._sync_active += not handler.is_async
        if handler.is_async:
            self._async_driver().launch(session, handler)
            return
        self._host.pool.submit(self._invoke, session, handler)

    def idle(self) -> bool:
        """Return whether nothing runs here and nothing is due."""
        if self._taking or self.active:
            return False
        due = self._service.due(list(self.handlers)) if self.handlers else None
        quiet = due is None or due > self._clock.now()
        return quiet and not self._taking and not self.active

    def close(self) -> None:
        """Take no more runs, and wait until the bodies in flight are recorded."""
        with self.changed:
            self.closing = True
            self._tell_watchers([DUE])
            for run in list(self.active.values()):
                run.close()
            self.changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        with self.changed:
            self.changed.wait_for(lambda: not self.active)

    def _look(self) -> None:
        while not self.closing:
            try:
                wait = self._round()
            except JournalError as error:
                _log.error("%s", error)
                wait = AGAIN / 1000
            except Exception:
                # Without this thread nothing is ever invoked again.
                _log.exception("perdure could not look for runs; it tries again")
                wait = AGAIN / 1000
            with self.changed:
                self.generation += 1
                self.changed.notify_all()
                if not self._poked and not self.closing:
                    self.changed.wait_for(lambda: self._poked or self.closing, timeout=wait)
                self._poked = False

    def _round(self) -> float | None:
        self._look_after_others()
        self._renew()
        self._hand_back_orphans()
        self._ring_alarms()
        names = [name for name, handler in self.handlers.items() if self.room(handler)]
        due = self._service.due(names) if names else None
        now = self._clock.now()
        if due is not None and due <= now:
            self._taking = True
            try:
                for session in self._service.take(names, self._most(names)):
                    self.launch(session)
            finally:
                self._taking = False
            return 0
        return self._seconds(due, now)

    def _most(self, names: Iterable[str]) -> int:
        if all(self.handlers[name].is_async for name in names):
            return 1000
        return max(1, self._sync_limit - self._sync_active)

    def _seconds(self, due: int | None, now: int) -> float | None:
        waits = [] if due is None or not self._clock.real() else [(due - now) / 1000]
        if self._alarms and self._clock.real():
            waits.append((self._alarms[0][0] - now) / 1000)
        if self.active:
            waits.append(self._next_renewal - time.monotonic())
        if self._next_look:
            waits.append(self._next_look - time.monotonic())
        if self._orphans:
            waits.append(AGAIN / 1000)
        return max(0.0, min(waits)) if waits else None

    def _look_after_others(self) -> None:
        if time.monotonic() < self._next_look:
            return
        held = self._service.recover(self._peers.is_dead)
        others = self._peers.others()
        if others:
            self._peers.sweep()
        self._next_look = time.monotonic() + LOOK_AFTER if held or others else 0.0

    def _renew(self) -> None:
        if self.active and time.monotonic() >= self._next_renewal:
            if self._next_renewal:
                self._service.renew()
            self._next_renewal = time.monotonic() + self._service.lease / 3000

    def _set_alarm(self, due: int, run: Any) -> None:
        """Wake a run under way when something of it is due."""
        with self.changed:
            heappush(self._alarms, (due, next(self._count), run))
            if self._alarms[0][2] is run:
                self._poked = True
                self.changed.notify_all()

    def _ring_alarms(self) -> None:
        late = []
        with self.changed:
            while self._alarms and self._alarms[0][0] <= self._clock.now():
                late.append(heappop(self._alarms)[2])
        for run in late:
            run.wake()

    def _hand_back_orphans(self) -> None:
        orphans, self._orphans = self._orphans, []
        for session in orphans:
            self.hand_back(session, later=AGAIN)

    def _invoke(self, session: LocalSession, handler: Handler[Any]) -> None:
        try:
            self.prepare(session)
            run = sync_run(session, handler, self._clock, self._host)
            self.active[session.run] = run
            if self.closing:
                run.close()
            invoke(run, handler)
            if run.closed:
                self._poked = True
        except BaseException as error:
            self.failed(session, error)
        finally:
            with self.changed:
                self._sync_active -= 1
            self.ended(session)

    def prepare(self, session: LocalSession) -> None:
        """Load what is recorded of a run that is not new."""
        if session.token > 1:
            with self._service.store.read() as connection:
                session.load(connection)
            session.fire_timers()

    def failed(self, session: LocalSession, error: BaseException) -> None:
        """Note that an invocation failed for the engine's reasons, and have the run kept."""
        if isinstance(error, LeaseLostError):
            _log.warning("%s", error)
            return
        _log.error("the run %r was interrupted: %s", session.execution_id, error)
        self.errors[session.run] = error
        self.hand_back(session, later=AGAIN)

    def hand_back(self, session: LocalSession, *, later: int) -> None:
        """Give a run up so that it is invoked again; try again later if that cannot be written."""
        try:
            self._service.hand_back(session, later=later)
        except JournalError:
            self._orphans.append(session)

    def ended(self, session: LocalSession) -> None:
        """Note that an invocation is over."""
        with self.changed:
            run = self.active.get(session.run)
            if run is not None and run.session is session:  # not one that took over from it
                del self.active[session.run]
                if self._alarms:
                    self._alarms = [alarm for alarm in self._alarms if alarm[2] is not run]
                    heapify(self._alarms)
            self._poked = True
            self.generation += 1
            self.changed.notify_all()
            self._tell_watchers([session.run])

    def _async_driver(self) -> Any:
        if self._async is None:
            from .async_worker import AsyncWorker

            self._async = AsyncWorker(self, self._host, self._clock)
        return self._async


class _Starting:
    """Stands for a run that is leased and not begun."""

    def __init__(self, session: LocalSession) -> None:
        self.session = session

    def wake(self) -> None:
        """Do nothing: it will read all there is."""

    def close(self) -> None:
        """Do nothing: it looks when it begins."""
