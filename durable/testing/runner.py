"""Drives runs until nothing is due, with time at one's command; kills their engine on demand."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..errors import JournalError
from ..handler import Handler
from ..limits import Limits
from ..local import Execution, LocalEngine
from .clock import ManualClock


class Crashed(JournalError):
    """The engine was killed by `Runner.crash_after`; nothing it does is recorded any more."""


class Runner:
    """An engine on a manual clock, and the means to drive it.

    Args:
        path: the journal file; a temporary one if not given.
        handlers: the handlers to run.
        clock: the clock; a new `ManualClock` if not given.
        limits: sizes of payloads.
        threads: how many threads sync code runs on.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        handlers: Iterable[Handler[Any]] = (),
        *,
        clock: ManualClock | None = None,
        limits: Limits | None = None,
        threads: int = 128,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory() if path is None else None
        self._path = Path(path) if path is not None else Path(self._folder_name(), "journal.db")
        self._handlers = list(handlers)
        self._limits = limits
        self._threads = threads
        self.clock = clock or ManualClock()
        self.engine = self._open()

    def __enter__(self) -> Self:
        self.engine.serve()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.engine.close()
        if self._folder is not None:
            self._folder.cleanup()

    def start(self, handler: Handler[Any], event: Any = None, id: str | None = None) -> Execution:
        """Start a run; see `LocalEngine.start`."""
        return self.engine.start(handler, event, id)

    def settle(self, timeout: float = 60) -> None:
        """Run what is due now, until all runs have ended or wait.

        Raises:
            TimeoutError: something still runs after `timeout` seconds of real time.
        """
        self.engine.wait_idle(timeout)

    def run_until_idle(self, timeout: float = 60, most: int = 100_000) -> int:
        """Run what is due and move the clock from timer to timer until none is left.

        Runs that wait for an event without a timeout are left waiting.

        Returns:
            How often the clock was moved.

        Raises:
            TimeoutError: something still runs after `timeout` seconds, or the clock was moved
                `most` times.
        """
        for moved in range(most):
            self.settle(timeout)
            due = None if self.engine.killed else self.engine.next_timer()
            if due is None:
                return moved
            self.clock.set(due)
        raise TimeoutError(f"timers are still due after the clock was moved {most} times")

    def crash_after(self, writes: int) -> None:
        """Kill the engine after so many more writes: what it does then is lost.

        The next write raises `Crashed` inside the engine, as do all that follow.
        """
        self.engine.kill_after(writes, Crashed("the engine was killed by the test"))

    def restart(self, *handlers: Handler[Any]) -> None:
        """Open a new engine on the same journal, as after a crash; the old one is left for dead.

        Args:
            handlers: changed handlers, each instead of the one of its name that served before.
        """
        known = {each.name: each for each in (*self.engine.handlers.values(), *handlers)}
        self._handlers = list(known.values())
        self.engine.close()
        self.engine = self._open()
        self.engine.serve()

    def _open(self) -> LocalEngine:
        return LocalEngine(
            self._path,
            self._handlers,
            clock=self.clock,
            limits=self._limits,
            threads=self._threads,
        )

    def _folder_name(self) -> str:
        assert self._folder is not None
        return self._folder.name
