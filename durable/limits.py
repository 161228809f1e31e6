"""What an engine allows in size; settings, since the services behind them change theirs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes of UTF-8 text.

    Attributes:
        payload: the largest input, result or callback payload; more is `PayloadTooLargeError`.
        replay_children: a child scope or batch whose result is larger is recorded without it, and
            its function runs again over its recorded operations at replay. None: stored whole.
    """

    payload: int = 64 * 1024 * 1024
    replay_children: int | None = None

    @classmethod
    def aws(cls) -> Limits:
        """Return the sizes of AWS Lambda durable functions: 1 MB, replay-children at 256 KiB."""
        return cls(payload=1_000_000, replay_children=256 * 1024)
