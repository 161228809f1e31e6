"""Time as the engine sees it: milliseconds since the epoch, from a clock tests can replace."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """Where an engine gets the time from."""

    def now(self) -> int:
        """Return the time in integer milliseconds since the epoch."""

    def real(self) -> bool:
        """Return whether waiting makes this clock advance by itself."""

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Call `callback` whenever the clock is moved by hand."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> int:
        """Return the time in integer milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    def real(self) -> bool:
        """Return True: waiting makes it advance."""
        return True

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Do nothing: nobody moves this clock by hand."""
