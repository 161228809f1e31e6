"""Addresses of mail as they stand in headers and envelopes: plain ASCII, nothing to inject."""

from __future__ import annotations

import re
from dataclasses import dataclass

from perdure.durable.errors import UsageError

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_ADDRESS = re.compile(rf"{_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})*")
_NAMED = re.compile(r"\s*(?P<name>.*?)\s*<(?P<address>[^<>]+)>\s*")


@dataclass(frozen=True, slots=True)
class Mailbox:
    """An address, and the name shown beside it."""

    name: str
    address: str

    @property
    def domain(self) -> str:
        """What stands behind the @."""
        return self.address.rpartition("@")[2]

    def __str__(self) -> str:
        return f"{self.name} <{self.address}>" if self.name else self.address


def sendable(address: str) -> str | None:
    """Return an address in ASCII, its domain in IDNA; None if mail servers would not take it."""
    local, _, domain = address.strip().rpartition("@")
    try:
        plain = f"{local}@{domain.encode('idna').decode()}"
    except UnicodeError:
        return None
    return plain if _ADDRESS.fullmatch(plain) and len(plain) <= 254 else None


def mailbox(text: str, what: str) -> Mailbox:
    """Return what is written as `alice@example.org` or `Alice <alice@example.org>`.

    Raises:
        UsageError: it is neither.
    """
    named = _NAMED.fullmatch(text)
    name, bare = (named["name"].strip('"'), named["address"]) if named else ("", text)
    address = sendable(bare)
    if address is None or not name.isprintable() or "=?" in name:
        raise UsageError(
            f"{what} is an address such as 'Approvals <approvals@example.org>', not {text!r}"
        )
    return Mailbox(name, address)
