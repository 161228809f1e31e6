"""Email as a channel: each approver gets a mail of their own, whose one secret is the link in it.

A mail cannot be looked for, so an attempt that died may have sent it: the next one sends the same
mail with the same Message-ID and a link to the same vote.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from ipaddress import ip_address
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

from perdure.durable.errors import UsageError

from ..channels import Notice, Receipt
from ..errors import ChannelError
from ..office import VARIABLE as BASE_URL
from ..people import Approver, IdentityKind
from .addresses import mailbox, sendable
from .post import Transport
from .ses import Ses
from .smtp import URL, Smtp

FROM = "PERDURE_EMAIL_FROM"
REGION = "PERDURE_SES_REGION"
_log = logging.getLogger("perdure")
_telling = Lock()


class Email:
    """Mail to each approver who has an address.

    Args:
        sender: an address, or `Approvals <approvals@example.org>`; by default PERDURE_EMAIL_FROM.
        transport: `Smtp(...)` or `Ses(...)`; by default what PERDURE_SMTP_URL or
            PERDURE_SES_REGION names.
        reply_to: where answers go, which decide nothing; by default to the sender.
    """

    name = "email"
    personal = True

    def __init__(
        self,
        sender: str | None = None,
        transport: Transport | None = None,
        reply_to: str | None = None,
    ) -> None:
        given = sender or os.environ.get(FROM)
        if not given:
            raise UsageError(
                f"Email has no sender; give Email('approvals@example.org') or set {FROM}"
            )
        self._sender = mailbox(given, "Email: sender" if sender else FROM)
        self._reply_to = mailbox(reply_to, "Email: reply_to") if reply_to else None
        self._transport = transport or _transport()

    def __repr__(self) -> str:
        return f"Email({str(self._sender)!r}, {self._transport!r})"

    def reaches(self, approver: Approver) -> bool:
        """Return whether the approver has an address that mail servers take."""
        return _address(approver) is not None

    def send(self, notice: Notice) -> Receipt:
        """Ask one approver.

        Raises:
            ChannelError: the mail was not taken.
        """
        from .message import message_id

        [approver] = notice.to
        with _telling:
            _warn_of_loopback(notice.office.base_url)
        address = self._deliver(notice, approver)
        return Receipt(
            channel=self.name,
            to=(approver.name,),
            ref={"message_id": message_id(notice, approver, self._sender), "to": address},
            at=datetime.fromtimestamp(notice.office.now, UTC),
        )

    def update(self, receipt: Receipt, notice: Notice) -> None:
        """Remind the approver, or tell what became of the request, in the thread of the first mail.

        Raises:
            ChannelError: the mail was not taken.
        """
        for approver in notice.to:
            if approver.name in receipt.to:
                self._deliver(notice.personal(approver), approver, receipt.ref["message_id"])

    def find(self, notice: Notice, since: datetime) -> Receipt | None:
        """Return None: a mail that was sent cannot be looked for."""
        return None

    def spec(self) -> dict[str, Any] | None:
        """Return what builds this channel again; None with a transport of your own."""
        kinds = {Smtp: "smtp", Ses: "ses"}
        kind = kinds.get(type(self._transport))
        if kind is None:
            return None
        return {
            "channel": self.name,
            "sender": str(self._sender),
            "reply_to": str(self._reply_to) if self._reply_to else None,
            kind: self._transport.spec(),
        }

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> Email:
        """Return the channel of a spec; a password comes from the environment.

        Raises:
            UsageError: the environment has none.
        """
        smtp = spec.get("smtp")
        transport: Transport = Smtp.from_spec(smtp) if smtp else Ses.from_spec(spec["ses"])
        return cls(spec["sender"], transport, spec.get("reply_to"))

    def _deliver(self, notice: Notice, approver: Approver, thread: str | None = None) -> str:
        """Send a mail, and return the address it went to."""
        from .message import post

        address = _address(approver)
        if address is None:
            raise ChannelError(f"{approver.name} has no address for mail", final=True)
        self._transport.deliver(
            post(notice, approver, address, self._sender, self._reply_to, thread)
        )
        return address


def _transport() -> Transport:
    url, region = os.environ.get(URL), os.environ.get(REGION)
    if url:
        return Smtp.from_url(url)
    if region:
        return Ses(region)
    raise UsageError(
        f"Email has no way to send: set {URL} (smtp://user@mail.example.org:587) or {REGION} "
        "(eu-west-1), or give transport=Smtp(...) or Ses(...)"
    )


def _address(approver: Approver) -> str | None:
    identity = approver.of(IdentityKind.EMAIL)
    return sendable(identity) if identity else None


@cache
def _warn_of_loopback(base_url: str) -> None:
    """Say, once, that links which open on this machine alone are mailed."""
    host = urlsplit(base_url).hostname or ""
    try:
        local = ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost" or host.endswith(".localhost")
    if local:
        _log.warning(
            "the links in mails begin with %s, which opens on this machine alone; set %s to an "
            "address that approvers reach",
            base_url,
            BASE_URL,
        )
