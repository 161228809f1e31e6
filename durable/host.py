"""The threads that runs live on: a bounded pool, one event loop, and one slow pulse.

All are started when first needed, so an engine that only looks has none of them.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")
PULSE = 0.02
"""Seconds after which the start of a step that still runs is written alone."""


class Pulsed(Protocol):
    """Something with starts that are recorded and not yet written."""

    def write_starts(self) -> bool:
        """Have old starts written; return whether there may be more to come."""


class Host:
    """The pool, the loop and the pulse of one engine."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread: threading.Thread | None = None
        self.pulse = Pulse()
        self.loop_pulse = LoopPulse(self)
        self.alarm: Callable[[int, Any], None] = lambda due, run: None
        self._posted: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._delivering = False

    @property
    def pool(self) -> ThreadPoolExecutor:
        """The threads that sync code runs on."""
        if self._pool is None:
            with self._lock:
                if self._pool is None:
                    self._pool = ThreadPoolExecutor(self.threads, "perdure-worker")
        return self._pool

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that async code runs on, in a thread of its own."""
        if self._loop is None:
            with self._lock:
                if self._loop is None:
                    self._start_loop()
        assert self._loop is not None
        return self._loop

    def run_async(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop, in a copy of the caller's context; wait for its result."""
        future: Future[T] = Future()

        async def run() -> None:
            try:
                result = await coroutine
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        loop = self.loop
        tasks = set()

        def start() -> None:
            task = loop.create_task(run())
            tasks.add(task)

        loop.call_soon_threadsafe(start, context=copy_context())
        return future.result()

    def post(self, fn: Callable[..., None], *args: Any) -> None:
        """Call a function on the loop, from any thread; many posts wake the loop once."""
        self._posted.append((fn, args))
        if not self._delivering:
            self._delivering = True
            if self.on_loop():
                self.loop.call_soon(self._deliver)
            else:
                self.loop.call_soon_threadsafe(self._deliver)

    def on_loop(self) -> bool:
        """Return whether the caller is on the loop's thread."""
        return self._loop_thread is not None and self._loop_thread.ident == threading.get_ident()

    def _deliver(self) -> None:
        self._delivering = False
        while self._posted:
            fn, args = self._posted.popleft()
            fn(*args)

    def close(self) -> None:
        """Wait for what runs, then stop all threads."""
        self.pulse.close()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        loop, thread = self._loop, self._loop_thread
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    @staticmethod
    def _served(loop: asyncio.AbstractEventLoop) -> bool:
        try:
            loop.run_forever()
        except (SystemExit, KeyboardInterrupt):
            # Raised in a handler's task, which keeps it; asyncio also throws it at the loop.
            return False
        return True

    def _start_loop(self) -> None:
        import asyncio

        loop = asyncio.new_event_loop()
        started = threading.Event()

        def serve() -> None:
            asyncio.set_event_loop(loop)
            loop.call_soon(started.set)
            while not self._served(loop):
                pass
            _cancel_all(loop)

        self._loop_thread = threading.Thread(target=serve, name="perdure-loop", daemon=True)
        self._loop_thread.start()
        started.wait()
        self._loop = loop


class Pulse:
    """Beats every 20 ms while some run has starts to write, and sleeps otherwise."""

    def __init__(self) -> None:
        self._armed: set[Pulsed] = set()
        self._condition = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def arm(self, run: Pulsed) -> None:
        """Call `run.write_starts` from now on, until it says there is no more."""
        with self._condition:
            idle = not self._armed
            self._armed.add(run)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._beat, name="perdure-pulse", daemon=True
                )
                self._thread.start()
            elif idle:
                self._condition.notify()

    def close(self) -> None:
        """Stop beating."""
        with self._condition:
            self._closed = True
            self._condition.notify()

    def _beat(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._armed or self._closed)
                self._condition.wait_for(lambda: self._closed, timeout=PULSE)
                if self._closed:
                    return
                armed = list(self._armed)
            idle = [run for run in armed if not run.write_starts()]
            with self._condition:
                self._armed.difference_update(idle)


class LoopPulse:
    """The pulse of the runs on the loop: one timer for all of them."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._runs: set[Any] = set()
        self._timer: asyncio.TimerHandle | None = None

    def arm(self, run: Any) -> None:
        """Call `run.write_starts` once, at the next beat."""
        self._runs.add(run)
        if self._timer is None:
            self._timer = self._host.loop.call_later(PULSE, self._beat)

    def _beat(self) -> None:
        self._timer = None
        runs, self._runs = self._runs, set()
        for run in runs:
            run.write_starts()


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    import asyncio

    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())
