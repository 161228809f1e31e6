"""A transport that keeps mails, for tests of what stands in them."""

from __future__ import annotations

from email.message import EmailMessage
from typing import Any

from perdure.approvals.mail.post import Post

from .smtp_server import read


class Tray:
    """A transport that keeps mails."""

    def __init__(self) -> None:
        self.posts: list[Post] = []

    def deliver(self, post: Post) -> None:
        """Keep a mail."""
        self.posts.append(post)

    def spec(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    @property
    def mails(self) -> list[EmailMessage]:
        """The mails, parsed."""
        return [read(each.data) for each in self.posts]
