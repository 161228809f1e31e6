"""What models are saying at this moment: tokens as they come, for whoever shows a running process.

Nothing of this is recorded, and nothing is shown at replay.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

_TAIL = 400
_log = logging.getLogger("perdure")
_guard = threading.Lock()
_open: dict[tuple[str, str], str] = {}

OnText = Callable[[str], Any]


def tail(execution_id: str, operation_id: str) -> str:
    """Return the last of what a call of this process streams now; empty if it does not."""
    return _open.get((execution_id, operation_id), "")


class Stream:
    """The tokens of one call, handed to the user's function and to whoever looks at `tail`."""

    def __init__(self, on_text: OnText | bool, execution_id: str, operation_id: str) -> None:
        self._on_text = on_text if callable(on_text) else None
        self._key = (execution_id, operation_id)

    def say(self, text: str) -> None:
        """Pass on what came; a failing listener never costs the answer."""
        if not text:
            return
        with _guard:
            _open[self._key] = (_open.get(self._key, "") + text)[-_TAIL:]
        if self._on_text is not None:
            try:
                self._on_text(text)
            except Exception:
                _log.exception("the function given as stream= failed; the call goes on")
                self._on_text = None

    def close(self) -> None:
        """Forget it."""
        with _guard:
            _open.pop(self._key, None)
