"""A clock that stands until it is moved."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime

from ..duration import DurationLike, seconds_of

START = 1_767_225_600_000
"""2026-01-01 00:00 UTC, in milliseconds."""


class ManualClock:
    """A clock for tests: a year passes in one call.

    Args:
        start: milliseconds since the epoch; 2026-01-01 by default.
    """

    def __init__(self, start: int = START) -> None:
        self._now = start
        self._callbacks: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    def now(self) -> int:
        """Return the time in integer milliseconds since the epoch."""
        return self._now

    def real(self) -> bool:
        """Return False: waiting does not make it advance."""
        return False

    def moment(self) -> datetime:
        """Return the time as an aware `datetime`."""
        return datetime.fromtimestamp(self._now / 1000, UTC)

    def advance(self, duration: DurationLike) -> None:
        """Let this much time pass, and tell the engines that read this clock."""
        self.set(self._now + round(seconds_of(duration, "advance") * 1000))

    def set(self, milliseconds: int) -> None:
        """Move to a time, never back."""
        with self._lock:
            self._now = max(self._now, milliseconds)
        for callback in list(self._callbacks):
            callback()

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Call `callback` whenever the clock is moved."""
        self._callbacks.append(callback)
