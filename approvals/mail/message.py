"""The one builder of mails: the same bytes for every transport.

Headers hold no word that was not made one clean line. Reminders and the closing mail belong to the
thread of the request, by its Message-ID and by its subject, for clients that go by that.
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.headerregistry import Address, HeaderRegistry, MessageIDHeader
from email.message import EmailMessage
from email.policy import SMTP
from typing import Any

from ..channels import Notice
from ..people import Approver
from .addresses import Mailbox
from .letter import letter, one_line, rendered
from .post import Post

_SUBJECT = 180


def post(
    notice: Notice,
    approver: Approver,
    address: str,
    sender: Mailbox,
    reply_to: Mailbox | None = None,
    thread: str | None = None,
) -> Post:
    """Return the mail that tells one approver.

    Args:
        thread: the Message-ID of the request that it follows up.
    """
    message = EmailMessage(_policy())
    message["From"] = Address(sender.name, addr_spec=sender.address)
    message["To"] = Address(addr_spec=address)
    if reply_to is not None:
        message["Reply-To"] = Address(reply_to.name, addr_spec=reply_to.address)
    message["Subject"] = f"{'Re: ' if thread else ''}Approval needed: {_subject(notice)}"
    message["Date"] = datetime.fromtimestamp(int(notice.office.now), UTC)
    message["Message-ID"] = message_id(notice, approver, sender)
    if thread is not None:
        message["In-Reply-To"] = thread
        message["References"] = thread
    message["Auto-Submitted"] = "auto-generated"
    words = letter(notice, address)
    # Quoted-printable keeps a link of any length whole, in lines that every server takes.
    message.set_content(rendered(words, "txt"), cte="quoted-printable")
    message.add_alternative(rendered(words, "html"), subtype="html", cte="quoted-printable")
    return Post(sender.address, address, notice.request.id, message.as_bytes())


def message_id(notice: Notice, approver: Approver, sender: Mailbox) -> str:
    """Return the Message-ID: the same for each attempt to send the same mail."""
    names = [each.name for each in notice.request.policy.everyone]
    number = str(names.index(approver.name) + 1)
    if notice.kind == "reminder":
        number += f"-r{notice.number}"
    elif notice.kind == "closed":
        number += "-closed"
    return f"<{notice.request.id}.{number}@{sender.domain}>"


def _subject(notice: Notice) -> str:
    # Some versions of Python decode an encoded word that is set, and fold in the lines it holds.
    title = one_line(notice.request.title).replace("=?", "= ?")
    return title if len(title) <= _SUBJECT else f"{title[:_SUBJECT]}…"


def _policy() -> Any:
    """Return the policy of SMTP, with the ids of a thread never folded or encoded."""
    registry = HeaderRegistry()
    one_id: Any = MessageIDHeader
    for name in ("in-reply-to", "references"):
        registry.map_to_type(name, one_id)
    return SMTP.clone(header_factory=registry)
