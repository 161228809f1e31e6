"""Looks when something of a living invocation is due, should its own threads all be in bodies.

One thread a process, started when first needed. A run asks by itself where it can; what it has not
asked for a moment after the time is asked for here.
"""

from __future__ import annotations

import threading
from typing import Protocol


class Watched(Protocol):
    """An invocation under way."""

    def overdue_in(self) -> float | None:
        """Return the seconds until something is due and was not asked for, or None."""

    def ring(self) -> None:
        """Have it asked for."""


class Watch:
    """The thread that rings for invocations."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._watched: list[Watched] = []
        self._thread: threading.Thread | None = None

    def look_after(self, session: Watched) -> None:
        """Ring for an invocation from now on; or look again, since it has something new due."""
        with self._changed:
            if session not in self._watched:
                self._watched.append(session)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._look, name="perdure-watch", daemon=True
                )
                self._thread.start()
            self._changed.notify()

    def leave(self, session: Watched) -> None:
        """Ring for an invocation no more."""
        with self._changed:
            if session in self._watched:
                self._watched.remove(session)

    def _look(self) -> None:
        while True:
            with self._changed:
                times = [(session.overdue_in(), session) for session in self._watched]
                late = [session for seconds, session in times if seconds == 0]
                if not late:
                    self._changed.wait(min((t for t, _ in times if t is not None), default=None))
            for session in late:
                session.ring()
