"""Signed tokens: what a link or a button carries, so that a receiver needs no state.

A token names a callback, who may decide it and until when. It is signed, not encrypted: nothing
secret is in it. Each purpose has a salt of its own, so a link's token is no button's. Its text is
malleable in the last character; what identifies a vote is the claim `seed`.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from .keys import Keys
from .requests import ACTIONS, Action

if TYPE_CHECKING:
    from itsdangerous import URLSafeSerializer

Purpose = Literal["link", "slack", "modal", "login", "session", "form"]
PREFIX = "v1~"
"""Before a token in a path: a compressed payload starts with a dot."""
MOST = 4096
_LETTERS = {"approve": "a", "reject": "r", "edit": "e", "respond": "s"}
_ACTIONS: dict[str, Action] = {_LETTERS[action]: action for action in ACTIONS}


class BadToken(Exception):
    """Forged, damaged, of another purpose, or signed with a key that is gone. Says nothing more."""


@dataclass(frozen=True, slots=True)
class Person:
    """An approver as a token knows them.

    Attributes:
        approver: the name in the policy.
        identities: by which a channel recognises the person or group; with a channel that looked
            somebody up, the identity found.
    """

    approver: str
    identities: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says.

    Attributes:
        callback: the callback to complete.
        execution, operation: where the request stands in the journal.
        who: who may decide with it.
        requester: identities that may not.
        allowed: what may be decided.
        digest: of the subject.
        deadline: seconds since the epoch.
        seed: 96 random bits in hex, the same for all copies of one message.
    """

    callback: str
    execution: str
    operation: str
    who: tuple[Person, ...]
    requester: tuple[str, ...]
    allowed: tuple[Action, ...]
    digest: str
    deadline: int
    seed: str


def new_seed() -> str:
    """Return 96 random bits in hex."""
    return secrets.token_hex(12)


def seal(keys: Keys, purpose: Purpose, claims: Claims) -> str:
    """Return the signed text of claims."""
    return sign(
        keys,
        purpose,
        {
            "c": claims.callback,
            "x": claims.execution,
            "o": claims.operation,
            "w": [_packed(each) for each in claims.who],
            "b": list(claims.requester),
            "d": "".join(_LETTERS[action] for action in claims.allowed),
            "h": claims.digest,
            "e": claims.deadline,
            "j": claims.seed,
        },
    )


def unseal(keys: Keys, purpose: Purpose, token: str) -> Claims:
    """Return the claims of a token; that its deadline may have passed is for the caller.

    Raises:
        BadToken: it is not one of ours, for this purpose.
    """
    found = verify(keys, purpose, token)
    try:
        return Claims(
            callback=_text(found["c"]),
            execution=_text(found["x"]),
            operation=_text(found["o"]),
            who=tuple(_unpacked(each) for each in found["w"]),
            requester=tuple(_text(each) for each in found["b"]),
            allowed=tuple(_ACTIONS[letter] for letter in found["d"]),
            digest=_text(found["h"]),
            deadline=int(found["e"]),
            seed=_text(found["j"]),
        )
    except (KeyError, TypeError, ValueError, IndexError):
        raise BadToken from None


def sign(keys: Keys, purpose: Purpose, claims: dict[str, Any]) -> str:
    """Return plain claims as signed text."""
    text = _serializer(keys, purpose).dumps(claims)
    return text if isinstance(text, str) else text.decode()


def verify(keys: Keys, purpose: Purpose, token: str) -> dict[str, Any]:
    """Return the plain claims of a signed text.

    Raises:
        BadToken: it is not one of ours, for this purpose.
    """
    if len(token) > MOST:
        raise BadToken
    try:
        found = _serializer(keys, purpose).loads(token)
    except Exception:  # whatever the presented text did: its error would show it
        raise BadToken from None
    if not isinstance(found, dict):
        raise BadToken
    return found


def _serializer(keys: Keys, purpose: Purpose) -> URLSafeSerializer:
    from itsdangerous import URLSafeSerializer

    return URLSafeSerializer(
        keys.reveal(),
        salt=f"perdure.approvals.{purpose}.v1",
        signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
    )


def _packed(person: Person) -> Any:
    if person.identities == (person.approver,):
        return person.approver
    return [person.approver, *person.identities]


def _unpacked(packed: Any) -> Person:
    if isinstance(packed, str):
        return Person(packed, (packed,))
    first, *rest = packed
    return Person(_text(first), tuple(_text(each) for each in rest))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("a claim of another type")
    return value
