"""Ctrl-C and SIGTERM: the first asks to stop and is obeyed at a safe place, the second leaves.

Nothing is raised from inside a signal handler, so no lock and no transaction is ever left behind by
the first. The second ends the process at once, which the journal survives as it does a kill -9.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

_SHOW_CURSOR = b"\x1b[?25h"


class Stop:
    """Whether the user asked to stop.

    Attributes:
        signal: the number of the signal that asked, or 0.
    """

    def __init__(self, wake: Callable[[], None] = lambda: None) -> None:
        self.signal = 0
        self._wake = wake
        self._leaving = False

    def install(self) -> None:
        """Take the signals over from now on."""
        signal.signal(signal.SIGINT, self._asked)
        signal.signal(signal.SIGTERM, self._asked)

    def leave_next(self) -> None:
        """Leave at the next signal, as there is nothing left to stop for."""
        self._leaving = True

    @property
    def exit_code(self) -> int:
        """What the shell is told: 130 for Ctrl-C."""
        return 128 + self.signal

    def _asked(self, number: int, frame: FrameType | None) -> None:
        if self._leaving:
            _leave(128 + number)
        self._leaving = True
        self.signal = number
        self._wake()


def _leave(code: int) -> None:
    if sys.stdout.isatty():
        os.write(sys.stdout.fileno(), _SHOW_CURSOR)
    os._exit(code)
