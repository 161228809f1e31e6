"""Who people are in Slack: found by address when a request is posted, groups when one is clicked.

Whoever cannot be looked up is not let in: only "there is no such user" is an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import ChannelError
from ..people import Approver, IdentityKind, kind_of
from ..tokens import Person
from .api import SlackRefusal, ask

if TYPE_CHECKING:
    from slack_sdk import WebClient


class Directory:
    """The people of the workspace that a bot token belongs to."""

    def __init__(self, client: WebClient, team: str | None = None) -> None:
        self._client = client
        self._team = team

    @property
    def team(self) -> str:
        """The team of the bot."""
        if self._team is None:
            self._team = str(ask(self._client.auth_test)["team_id"])
        return self._team

    def people(self, approvers: Iterable[Approver]) -> tuple[Person, ...]:
        """Return those approvers whom Slack knows, each with the identity found."""
        found = ((each, self._identity(each)) for each in approvers)
        return tuple(
            Person(each.name, tuple(dict.fromkeys((*each.identities, identity))))
            for each, identity in found
            if identity is not None
        )

    def also(self, identities: Sequence[str]) -> tuple[str, ...]:
        """Return the identities of one person, and the one in Slack that belongs to an address."""
        addresses = (each for each in identities if kind_of(each) is IdentityKind.EMAIL)
        found = (self._by_address(each) for each in addresses)
        return tuple(dict.fromkeys((*identities, *(each for each in found if each))))

    def _identity(self, approver: Approver) -> str | None:
        if approver.is_group:
            return self._whole(approver.name)
        address = approver.of(IdentityKind.EMAIL)
        known = approver.of(IdentityKind.SLACK)
        return known or (self._by_address(address) if address else None)

    def _whole(self, group: str) -> str:
        """Return the identity of a group with its team."""
        return group if group.count(":") == 2 else f"slack-group:{self.team}:{group.split(':')[1]}"

    def _by_address(self, address: str) -> str | None:
        try:
            user = ask(self._client.users_lookupByEmail, email=address)["user"]
        except SlackRefusal as refusal:
            if refusal.code == "users_not_found":
                return None
            raise
        if user.get("deleted") or user.get("is_bot"):
            return None
        return f"slack:{user.get('team_id') or self.team}:{user['id']}"


def slack_identity(person: Person) -> str:
    """Return the identity by which Slack knows a person or a group of a token."""
    kinds = (IdentityKind.SLACK, IdentityKind.SLACK_GROUP)
    whole = (each for each in person.identities if kind_of(each) in kinds and each.count(":") == 2)
    return next(whole)


def user_of(identity: str) -> str:
    """Return the user or group id within an identity."""
    return identity.rsplit(":", 1)[1]


def is_member(client_for: Callable[[], WebClient], group: str, team: str, user: str) -> bool:
    """Return whether a user of a team is in a group now.

    Raises:
        ChannelError: it could not be asked.
    """
    _, owner, identifier = group.split(":")
    if team != owner:
        return False
    users: Any = ask(client_for().usergroups_users_list, usergroup=identifier).get("users")
    if not isinstance(users, list):
        raise ChannelError("Slack named no members of a group")
    return user in users
