"""Where approvals are decided: the keys that sign, the address of the pages, the clock."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from perdure.durable.clock import Clock, SystemClock
from perdure.durable.errors import UsageError

from .keys import Keys, keys_for

VARIABLE = "PERDURE_BASE_URL"
DEFAULT = "http://127.0.0.1:8400"
SERVING = "serve.url"
"""Beside the journal: the address of the server that is up, for other processes to print."""


@dataclass(frozen=True, slots=True)
class Office:
    """What channels and receiver share.

    Attributes:
        keys: sign and verify tokens.
        base_url: where the pages are reached, without a slash at the end.
        clock: tells the time.
    """

    keys: Keys
    base_url: str
    clock: Clock

    @classmethod
    def at(
        cls, home: Path | None, clock: Clock | None = None, base_url: str | None = None
    ) -> Office:
        """Return the office of this process.

        Args:
            home: the folder of the journal; None on AWS.
            base_url: else that of the environment, of the server that is up, or the default.

        Raises:
            UsageError: a key is missing or too short, or the address is none.
        """
        given = base_url or os.environ.get(VARIABLE) or serving(home) or DEFAULT
        return cls(keys_for(home), checked_url(given), clock or SystemClock())

    @property
    def now(self) -> float:
        """The time, in seconds since the epoch."""
        return self.clock.now() / 1000


def serving(home: Path | None) -> str | None:
    """Return the address that a server of this journal wrote down, if one did."""
    try:
        return (home / SERVING).read_text(encoding="utf-8").strip() or None if home else None
    except (OSError, UnicodeDecodeError):
        return None


def checked_url(url: str) -> str:
    """Return a base URL without its last slash.

    Raises:
        UsageError: it is not http or https, or has a query.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise UsageError(
            f"a base URL is like https://approvals.example.org/, not {url!r}; set {VARIABLE} or "
            "--base-url"
        )
    if parts.username or parts.password:
        raise UsageError("a base URL holds no user and no password")
    return url.rstrip("/")
