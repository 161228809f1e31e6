"""A mail server on this machine: STARTTLS, sign-in, and whatever it is told to answer."""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import SMTP
from pathlib import Path
from typing import Any

import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from perdure.approvals.mail import Smtp

HOST = "127.0.0.1"
USER = "alice"
PASSWORD = "canary-smtp-pass+word/with=signs"


@dataclass
class Desk:
    """What a mail server does with its visitors, and what it saw.

    Attributes:
        mails: what was taken, as bytes, in order; `to` has the envelope's recipients.
        answers: to the next mails, in place of 250.
        refused: answers to recipients.
        goodbye: the answer to QUIT; "" drops the connection.
    """

    mails: list[bytes] = field(default_factory=list)
    to: list[list[str]] = field(default_factory=list)
    passwords: list[bytes] = field(default_factory=list)
    offered: int = 0
    answers: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    goodbye: str = "221 Bye"
    encrypted: list[bool] = field(default_factory=list)
    offers_auth: bool = True

    @property
    def messages(self) -> list[EmailMessage]:
        """The mails that were taken, parsed."""
        return [read(each) for each in self.mails]

    def authenticate(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any):
        """Take the one user, remember what was tried."""
        self.passwords.append(data.password)
        right = (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        return AuthResult(success=right, handled=False)

    async def handle_EHLO(self, server, session, envelope, hostname, responses) -> list[str]:
        """Offer what it can, except to sign in if told so."""
        session.host_name = hostname
        return [each for each in responses if self.offers_auth or "AUTH" not in each]

    async def handle_RCPT(self, server, session, envelope, address, options) -> str:
        """Take a recipient, unless told not to."""
        if address in self.refused:
            return self.refused[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope) -> str:
        """Take a mail, or give the next answer."""
        self.offered += 1
        answer = self.answers.pop(0) if self.answers else "250 taken"
        if answer.startswith("250"):
            self.mails.append(envelope.original_content)
            self.to.append(list(envelope.rcpt_tos))
            self.encrypted.append(session.ssl is not None)
        if answer == "drop":
            server.transport.abort()
        return answer

    async def handle_QUIT(self, server, session, envelope) -> str:
        """Say goodbye as told."""
        if not self.goodbye:
            server.transport.abort()
        return self.goodbye


@dataclass
class Server:
    """A running mail server."""

    desk: Desk
    port: int
    ca_file: str

    def smtp(self, **changed: Any) -> Smtp:
        """Return the transport of its one user, with some arguments changed."""
        given = {"user": USER, "password": PASSWORD, "ca_file": self.ca_file, "timeout": 5}
        return Smtp(HOST, self.port, **{**given, **changed})


def read(data: bytes) -> EmailMessage:
    """Return a mail from its bytes."""
    return BytesParser(policy=SMTP).parsebytes(data)


def body(message: EmailMessage, kind: str) -> str:
    """Return the text ("plain") or "html" part of a mail."""
    part = message.get_body((kind,))
    assert part is not None
    return part.get_content().replace("\r\n", "\n")


def free_port() -> int:
    """Return a port that nothing listens on; aiosmtpd cannot choose one."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return listener.getsockname()[1]


@contextmanager
def serving(
    folder: Path, *, tls: str = "starttls", auth: bool = True, names: tuple[str, ...] = (HOST,)
) -> Iterator[Server]:
    """Run a mail server; an authority of its own signed its certificate, for these names."""
    logging.getLogger("mail.log").setLevel(logging.CRITICAL)
    authority = trustme.CA()
    ca_file = folder / "authority.pem"
    authority.cert_pem.write_to_path(ca_file)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*names).configure_cert(context)
    desk, port = Desk(), free_port()
    options: dict[str, Any] = {}
    if tls == "starttls":
        options = {"tls_context": context, "require_starttls": True}
    elif tls == "tls":
        options = {"ssl_context": context}
    if auth:
        options |= {"authenticator": desk.authenticate, "auth_required": True}
    else:
        options |= {"auth_exclude_mechanism": ("LOGIN", "PLAIN")}
    if tls != "starttls":
        options |= {"auth_require_tls": False}
    controller = Controller(desk, hostname=HOST, port=port, **options)
    controller.start()
    try:
        yield Server(desk, port, str(ca_file))
    finally:
        controller.stop()
