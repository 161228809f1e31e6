"""The channel Slack: posts a request where its approvers are, follows it up, and closes it.

One message in a channel serves all approvers, and its buttons carry who they are; without a channel
each gets a message of their own. A receipt holds ids alone. What Slack will refuse again and again
is a final `ChannelError` that says the cure.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from perdure.durable.errors import UsageError

from ..channels import Channel, Notice, Receipt
from ..errors import ChannelError
from ..people import Approver, IdentityKind
from ..tokens import Person
from . import blocks
from .api import ask, client_of, token_of
from .directory import Directory, slack_identity, user_of

if TYPE_CHECKING:
    from slack_sdk import WebClient

EVENT = "perdure_approval"
"""The type of the metadata by which a message is found again."""
MOST = 20
VALUE = 2000
_APART = 300
"""Seconds by which this machine's clock may be ahead of Slack's."""
_GROUP = "put them in a user group and name it as slack-group:TEAM:ID"
_log = logging.getLogger("perdure.approvals.slack")


class Slack(Channel):
    """Asks in Slack.

    Args:
        channel: the id of a channel, where one message asks all approvers; None sends each a
            direct message, which a quorum needs.
        token: of the bot; else `SLACK_BOT_TOKEN`. Scopes: `chat:write`; `users:read.email` for
            approvers named by address; `usergroups:read` for groups.
        base_url: of the Web API, if it is not Slack's.
        team: of the bot, if asking for it is to be saved.
        history: look for a message that an interrupted attempt left before posting again; needs
            `channels:history` (`im:history` and `im:write` for direct messages).
    """

    name = "slack"

    def __init__(
        self,
        channel: str | None = None,
        *,
        token: str | None = None,
        base_url: str | None = None,
        team: str | None = None,
        history: bool = False,
    ) -> None:
        if channel is not None and (not isinstance(channel, str) or not channel.strip()):
            raise UsageError(f"Slack takes the id of a channel, like 'C0123', not {channel!r}")
        self.channel = channel
        self.personal = channel is None
        self._token = token
        self._base_url = base_url
        self._team = team
        self._history = history

    def __repr__(self) -> str:
        return f"Slack({self.channel!r})" if self.channel else "Slack()"

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> Slack:
        """Return the channel that `spec` describes; its token comes from the environment."""
        return cls(
            spec.get("to"),
            base_url=spec.get("base_url"),
            team=spec.get("team"),
            history=bool(spec.get("history", False)),
        )

    def spec(self) -> dict[str, Any]:
        """Return what builds this channel again, without its token."""
        return {
            "channel": self.name,
            "to": self.channel,
            "base_url": self._base_url,
            "team": self._team,
            "history": self._history,
        }

    def reaches(self, approver: Approver) -> bool:
        """Return whether Slack may know this approver; a group only hears of it in a channel."""
        if approver.is_group:
            return not self.personal
        return any(approver.of(kind) for kind in (IdentityKind.SLACK, IdentityKind.EMAIL))

    def send(self, notice: Notice) -> Receipt:
        """Post the request."""
        self._check(notice)
        client = self._client()
        directory = Directory(client, self._team)
        people = _known(directory, notice)
        requester = directory.also(notice.request.policy.requested_by)
        called = [user_of(slack_identity(each)) for each in people]
        message = blocks.asked(
            notice.request,
            token=_button_token(notice, people, requester),
            page=notice.link(_proven(people), requester) if self.personal else notice.page,
            mentions=() if self.personal else called,
        )
        posted = ask(
            client.chat_postMessage,
            channel=self.channel or called[0],
            **message._asdict(),
            metadata={"event_type": EVENT, "event_payload": _mark(notice)},
            unfurl_links=False,
            unfurl_media=False,
        )
        names = tuple(each.approver for each in people)
        ref = {"channel": posted["channel"], "ts": posted["ts"], "called": called}
        return Receipt(channel=self.name, to=names, ref=ref, at=_now(notice))

    def update(self, receipt: Receipt, notice: Notice) -> None:
        """Remind in the message's thread, or replace the message by what became of it."""
        client, ref = self._client(), receipt.ref
        if notice.kind == "reminder":
            called = () if self.personal else ref.get("called", ())
            message = blocks.reminded(notice.request, notice.number, called)
            ask(
                client.chat_postMessage,
                channel=ref["channel"],
                thread_ts=ref["ts"],
                **message._asdict(),
            )
            return
        if notice.decision is None:
            raise ValueError("a notice that closes a request holds a decision")
        message = blocks.decided(notice.request, notice.decision, blocks.new_mark())
        ask(client.chat_update, channel=ref["channel"], ts=ref["ts"], **message._asdict())

    def find(self, notice: Notice, since: datetime) -> Receipt | None:
        """Return the message that an interrupted attempt left; None without `history`."""
        if not self._history:
            return None
        client = self._client()
        people = _known(Directory(client, self._team), notice)
        called = [user_of(slack_identity(each)) for each in people]
        try:
            place = self.channel or ask(client.conversations_open, users=called[0])["channel"]["id"]
            found = _ours(client, str(place), notice, since)
        except ChannelError as error:
            if not error.final:
                raise
            # A second copy of a message is noise: both carry the same callback.
            _log.warning("a message that may have been sent was not looked for: %s", error)
            return None
        if found is None:
            return None
        names = tuple(each.approver for each in people)
        ref = {"channel": place, "ts": found, "called": called}
        return Receipt(channel=self.name, to=names, ref=ref, at=_now(notice))

    def _check(self, notice: Notice) -> None:
        if self.personal:
            return
        if notice.request.policy.is_quorum:
            raise ChannelError(
                f"a message in the channel {self.channel} cannot carry the votes of "
                f"{notice.request.policy.required} approvers; use Slack() without a channel, which "
                "tells each in a direct message",
                final=True,
            )
        if len(notice.to) > MOST:
            raise ChannelError(
                f"{len(notice.to)} approvers for one message in Slack, which carries {MOST}; "
                f"{_GROUP}",
                final=True,
            )

    def _client(self) -> WebClient:
        return client_of(token_of(self._token), self._base_url)


def _known(directory: Directory, notice: Notice) -> tuple[Person, ...]:
    people = directory.people(notice.to)
    if not people:
        names = ", ".join(each.name for each in notice.to)
        raise ChannelError(
            f"Slack knows nobody of {names} in the bot's workspace; name them as slack:TEAM:USER, "
            "or reach them by email",
            final=True,
        )
    return people


def _proven(people: Sequence[Person]) -> list[Person]:
    """Return people as those whom Slack delivers to: a link in a message proves no address."""
    return [Person(each.approver, (slack_identity(each),)) for each in people]


def _button_token(notice: Notice, people: Sequence[Person], requester: Sequence[str]) -> str:
    token = notice.token("slack", people, requester)
    if len(token) > VALUE:
        raise ChannelError(
            f"{len(people)} approvers make the buttons' value {len(token)} characters long, and "
            f"Slack takes {VALUE}; {_GROUP}",
            final=True,
        )
    return token


def _ours(client: WebClient, place: str, notice: Notice, since: datetime) -> str | None:
    """Return the timestamp of the bot's message about a request, in one place."""
    bot = ask(client.auth_test).get("bot_id")
    answer = ask(
        client.conversations_history,
        channel=place,
        oldest=f"{since.timestamp() - _APART:.6f}",
        include_all_metadata=True,
        limit=200,
    )
    for each in answer.get("messages", ()):
        marked = each.get("metadata") or {}
        if marked.get("event_type") != EVENT or marked.get("event_payload") != _mark(notice):
            continue
        if bot is not None and each.get("bot_id") == bot:
            return str(each["ts"])
    return None


def _mark(notice: Notice) -> dict[str, str]:
    """Return what tells this message from others about the request, as to added approvers."""
    names = json.dumps([each.name for each in notice.to])
    return {"request": notice.request.id, "to": hashlib.sha256(names.encode()).hexdigest()[:8]}


def _now(notice: Notice) -> datetime:
    return datetime.fromtimestamp(notice.office.now, UTC)
