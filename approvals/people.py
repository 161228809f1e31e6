"""Who may decide, and who did: approvers as they are named, principals as they are proven.

An identity is a text: `alice@example.org`, `slack:T1:U2`, `slack-group:T1:S3` (the team may be left
out of a group: it is then the team of the bot), or `user:alice`, a person signed in on the machine.
"""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from enum import StrEnum
from typing import Any, Literal
from unicodedata import normalize

from pydantic import BaseModel, ConfigDict

from perdure.durable.errors import UsageError

_SHAPES = {
    "slack": re.compile(r"slack:[A-Z0-9]{2,32}:[A-Z0-9]{2,32}"),
    "slack_group": re.compile(r"slack-group:(?:[A-Z0-9]{2,32}:)?[A-Z0-9]{2,32}"),
    "user": re.compile(r"user:[\x21-\x7e]{1,128}"),
    "email": re.compile(r"[^@\s:,<>\"]{1,64}@[^@\s:,<>\"]{1,190}"),
}
_EXAMPLES = "alice@example.org, slack:T1:U2, slack-group:T1:S3 or user:alice"


class IdentityKind(StrEnum):
    """The kinds of identity."""

    EMAIL = "email"
    SLACK = "slack"
    SLACK_GROUP = "slack_group"
    USER = "user"


class Kept(BaseModel):
    """Plain data that is kept in the journal or comes from outside: exact, and never changed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Approver(Kept):
    """One person, by one or more identities, or one group.

    Attributes:
        identities: the first of them is the name by which the approver is known.
    """

    identities: tuple[str, ...]

    @property
    def name(self) -> str:
        """The identity by which the approver is known."""
        return self.identities[0]

    @property
    def is_group(self) -> bool:
        """Whether many people stand behind it."""
        return kind_of(self.name) is IdentityKind.SLACK_GROUP

    def of(self, kind: IdentityKind) -> str | None:
        """Return the first identity of a kind."""
        return next((each for each in self.identities if kind_of(each) is kind), None)


class Principal(Kept):
    """Somebody who acted, as far as the channel proves it.

    Attributes:
        identity: as of an approver; "policy" for what nobody decided.
        display: how the channel calls them, for the reader.
        assurance: what proves it: Slack's signature, possession of a link, a session of the local
            server, the account on the machine, or the request's own policy.
    """

    identity: str
    assurance: Literal["slack", "link", "session", "cli", "policy"]
    display: str | None = None

    @property
    def shown(self) -> str:
        """The name to show."""
        return self.display or self.identity


POLICY = Principal(identity="policy", assurance="policy")


def kind_of(identity: str) -> IdentityKind:
    """Return the kind of an identity.

    Raises:
        UsageError: it has none of the shapes.
    """
    for kind, shape in _SHAPES.items():
        if shape.fullmatch(identity):
            return IdentityKind(kind)
    raise UsageError(f"an approver is {_EXAMPLES}, not {identity!r}")


def identity_of(text: Any) -> str:
    """Return an identity in its one spelling: see `_address` for those of mail.

    Raises:
        UsageError: it is not one.
    """
    if not isinstance(text, str):
        raise UsageError(f"an approver is a text such as {_EXAMPLES}, not {text!r}")
    bare = text.strip()
    if not bare.isprintable():
        raise UsageError(f"an approver is {_EXAMPLES}, not {text!r}")
    spelled = _address(bare) if kind_of(bare) is IdentityKind.EMAIL else bare
    kind_of(spelled)  # a domain that resolves to none, or to something else, is refused
    return spelled


def _address(text: str) -> str:
    """Return an address of mail in small letters, its domain as it is written to a mail server.

    Else one mailbox could be spelled as two people: who asks, and who decides.
    """
    local, _, domain = normalize("NFC", text.lower()).rpartition("@")
    with suppress(UnicodeError):  # no name of a host: it stays, and is that of nobody
        domain = domain.rstrip(".").encode("idna").decode("idna")
    return f"{local}@{domain}"


def approvers_of(given: Any, what: str = "approvers") -> tuple[Approver, ...]:
    """Return approvers as a caller names them: texts; a tuple of texts is one person's identities.

    Raises:
        UsageError: there are none, one is malformed, or a person is named twice.
    """
    listed: Iterable[Any] = [given] if isinstance(given, str | Approver) else given
    if not isinstance(listed, Iterable) or isinstance(listed, set | frozenset):
        # A set has another order in each process, and callbacks are told apart by order.
        raise UsageError(f"{what} is a list such as ['alice@example.org'], not {given!r}")
    found = tuple(_approver(each) for each in listed)
    if not found:
        raise UsageError(f"{what} is empty: name who may decide, for example {_EXAMPLES}")
    seen: set[str] = set()
    for identity in (each for approver in found for each in approver.identities):
        if identity in seen:
            raise UsageError(f"{what} names {identity!r} twice; each person counts once")
        seen.add(identity)
    return found


def identities_of(given: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the identities of one person, as given for `requested_by`."""
    if given is None:
        return ()
    if not isinstance(given, str | tuple | list) or not given:
        raise UsageError(f"requested_by is an identity, a list of them, or None, not {given!r}")
    found = tuple(identity_of(each) for each in ([given] if isinstance(given, str) else given))
    for each in found:
        if kind_of(each) is IdentityKind.SLACK_GROUP:  # it would keep none of its members out
            raise UsageError(f"requested_by is one person, not the group {each!r}; name who asked")
    return found


def account() -> str:
    """Return the identity of the account that this process runs under, like `user:alice`.

    It is asked of the system, not of the environment.
    """
    try:
        name = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # an account without a name, as in some containers
        name = f"uid-{os.geteuid()}"
    return f"user:{name}"


def _approver(given: Any) -> Approver:
    if isinstance(given, Approver):
        return _approver(given.identities)
    if isinstance(given, tuple | list):
        if not given:
            raise UsageError("an approver with no identity; name one")
        identities = tuple(identity_of(each) for each in given)
        if len(given) > 1 and any(kind_of(i) is IdentityKind.SLACK_GROUP for i in identities):
            raise UsageError(f"a group stands alone, it is no identity of a person: {given!r}")
        return Approver(identities=identities)
    return Approver(identities=(identity_of(given),))
