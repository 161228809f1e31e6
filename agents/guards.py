"""The switch that keeps tests and rehearsals from asking a real model.

It holds for the whole process, all threads and loops. Whoever is about to send a request asks
`check_allowed` first; the offline stand-in and the scripted test double are always allowed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import RequestsForbidden

VARIABLE = "PERDURE_FORBID_MODEL_REQUESTS"
PRETENDERS = frozenset({"offline", "scripted"})
"""The providers that ask nobody."""

_lock = threading.Lock()
_depth = 0


def forbidden() -> str | None:
    """Return what forbids requests to real models, or None."""
    if _depth:
        return "forbid_model_requests() is in force"
    if os.environ.get(VARIABLE, "").strip().casefold() not in ("", "0", "false", "no", "off"):
        return f"{VARIABLE} is set"
    return None


def check_allowed(model: str, provider: str) -> None:
    """Let a request pass, or refuse it before it is sent.

    Args:
        model: what the error calls the model, for example `bedrock:us.amazon.nova-lite-v1:0`.
        provider: who would be asked; `offline` and `scripted` may always be.

    Raises:
        RequestsForbidden: requests to real models are forbidden now.
    """
    reason = None if provider in PRETENDERS else forbidden()
    if reason is not None:
        raise RequestsForbidden(
            f"model {model!r} was about to be asked, and {reason}; use model='offline' or a"
            " ScriptedModel here, or lift the ban"
        )


@contextmanager
def forbid_model_requests() -> Iterator[None]:
    """Forbid requests to real models while the block runs, in the whole process; it nests.

    As a fixture for all tests::

        @pytest.fixture(autouse=True)
        def no_real_models():
            with forbid_model_requests():
                yield
    """
    global _depth  # noqa: PLW0603
    with _lock:
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
