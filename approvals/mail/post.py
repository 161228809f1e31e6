"""What a transport carries, and what it may repeat of a server's words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from ..text import visible

_LONGEST_WORD = 48
_LONGEST = 300


@dataclass(frozen=True, slots=True)
class Post:
    """One mail to one person, as bytes.

    Attributes:
        sender, to: the addresses of the envelope.
        approval: the id of the request, to find the mail in the provider's records.
        data: headers and body; it holds the approver's link, so it is never shown.
    """

    sender: str
    to: str
    approval: str
    data: bytes

    def __repr__(self) -> str:
        return f"<mail to {self.to}, {len(self.data)} bytes>"


class Transport(Protocol):
    """A way to hand a mail over, once; retries are the step's."""

    def deliver(self, post: Post) -> None:
        """Hand over a mail.

        Raises:
            ChannelError: the other side did not take it, or could not be asked.
        """
        ...

    def spec(self) -> dict[str, Any]:
        """Return what builds this transport again: plain JSON, no secret."""
        ...


def quoted(text: str | bytes, secrets: Iterable[str | None] = ()) -> str:
    """Return a server's words for an error text; nothing if they repeat a secret.

    Long words are left out, because a server may repeat the link that it refuses.
    """
    words = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    if any(secret and secret in words for secret in secrets):
        return ""
    kept = [word if len(word) <= _LONGEST_WORD else "…" for word in words.split()]
    return visible(" ".join(kept))[:_LONGEST]
