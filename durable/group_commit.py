"""Whoever waits together is committed together; whoever waits alone commits for itself.

Work is queued in order and done in batches by one thread at a time: a waiting thread if there is
one (the leader, which does everybody's work along with its own), else a background thread. Nobody
waits for company, and a lone caller pays for no hand-over between threads.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

Work = Callable[[Any], Any]
QUICK = 0.004
"""Seconds a write may usually take for an event loop to do it itself."""
_log = logging.getLogger("perdure")


class Ticket:
    """A piece of queued work, and what came of it."""

    __slots__ = ("callback", "done", "error", "result", "waiter", "work")

    def __init__(self, work: Any, callback: Callable[[Ticket], None] | None = None) -> None:
        self.work = work
        self.callback = callback
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None
        self.waiter: Any = None

    def value(self) -> Any:
        """Return the result of the work, or raise its error."""
        if self.error is not None:
            raise self.error
        return self.result


class GroupCommit:
    """A queue of work that is written in batches by `write`, which sets each ticket's outcome."""

    def __init__(self, write: Callable[[list[Ticket]], None], *, batch: int = 1000) -> None:
        self._write = write
        self._batch = batch
        self._queue: deque[Ticket] = deque()
        self._lead = threading.Lock()
        self._wake = threading.Semaphore(0)
        self._closed = False
        self._usual = 0.0
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def enqueue(self, ticket: Ticket) -> Ticket:
        """Queue work that its caller will `wait` for."""
        self._queue.append(ticket)
        return ticket

    def wait(self, ticket: Ticket) -> Any:
        """Return the result of queued work once it is written; the caller may do the writing."""
        if threading.current_thread() is threading.main_thread():
            # Ctrl-C strikes the main thread alone: it must not strike half-way through a write.
            return self._wait_for_background(ticket)
        while not ticket.done:
            if self._lead.acquire(blocking=False):
                self._do(until=ticket)
                continue
            waiter = threading.Lock()
            waiter.acquire()
            ticket.waiter = waiter
            # The leader may have left between the two looks; then this thread leads.
            if not ticket.done and self._lead.acquire(blocking=False):
                ticket.waiter = None
                self._do(until=ticket)
                continue
            if not ticket.done:
                waiter.acquire()
            ticket.waiter = None
        return ticket.value()

    def run(self, work: Any) -> Any:
        """Queue work and wait for it."""
        return self.wait(self.enqueue(Ticket(work)))

    def wake(self) -> None:
        """Have the background thread do what is queued; each ticket's callback tells of its end."""
        self._wake_background()

    def quick(self) -> bool:
        """Return whether a write takes so little time that an event loop may do it itself."""
        return self._usual < QUICK

    def lead(self) -> bool:
        """Do what is queued on this thread, unless another thread is at it already."""
        if not self._lead.acquire(blocking=False):
            return False
        try:
            self._write_some()
        finally:
            self._lead.release()
        self._hand_over()
        return True

    def close(self) -> None:
        """Do what is queued and stop the background thread."""
        self._closed = True
        if self._thread is not None:
            self._wake.release()
            self._thread.join()
        with self._lead:
            while self._queue:
                self._write_some()

    def _wait_for_background(self, ticket: Ticket) -> Any:
        waiter = threading.Lock()
        waiter.acquire()
        ticket.waiter = waiter
        while not ticket.done:
            self._wake_background()
            waiter.acquire()
        return ticket.value()

    def _do(self, until: Ticket) -> None:
        try:
            while self._queue and not until.done:
                self._write_some()
        finally:
            self._lead.release()
        self._hand_over()

    def _hand_over(self) -> None:
        try:
            first = self._queue[0]
        except IndexError:
            return
        waiter = first.waiter
        if waiter is not None:
            _release(waiter)
        else:
            # Either its thread is about to look for itself, or nobody waits for it.
            self._wake_background()

    def _wake_background(self) -> None:
        if self._thread is None:
            with self._starting:
                if self._thread is None:
                    self._thread = threading.Thread(
                        target=self._background, name="perdure-writer", daemon=True
                    )
                    self._thread.start()
        self._wake.release()

    def _background(self) -> None:
        while True:
            self._wake.acquire()
            if self._closed:
                return
            while self._queue:
                with self._lead:
                    self._write_some()

    def _write_some(self) -> None:
        tickets: list[Ticket] = []
        while self._queue and len(tickets) < self._batch:
            tickets.append(self._queue.popleft())
        if not tickets:
            return
        begin = time.perf_counter()
        try:
            self._write(tickets)
        except BaseException as error:
            for ticket in tickets:
                if not ticket.done:
                    ticket.error = error
        self._usual += (time.perf_counter() - begin - self._usual) / 8
        for ticket in tickets:
            ticket.done = True
            waiter = ticket.waiter
            if waiter is not None:
                _release(waiter)
            elif ticket.callback is not None:
                _call(ticket.callback, ticket)


def _call(callback: Callable[[Ticket], None], ticket: Ticket) -> None:
    try:
        callback(ticket)
    except Exception:  # its fault is not that of those who wait behind it
        _log.exception("somebody could not be told of a write")


def _release(waiter: Any) -> None:
    with suppress(RuntimeError):  # it was told before
        waiter.release()
