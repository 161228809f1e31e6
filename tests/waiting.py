"""Waiting in tests: for a condition, with a deadline, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

PATIENCE = 30.0


def until(
    condition: Callable[[], Any], what: str = "a condition", patience: float = PATIENCE
) -> Any:
    """Return the condition's first true value; fail when it does not come."""
    deadline = time.monotonic() + patience
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {patience:g} s in vain for {what}"
        time.sleep(0.002)
    return value
