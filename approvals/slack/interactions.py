"""What a click or a form in Slack does: find who acts, cast the vote, then mend the message.

The person is the team and user that Slack names, listed in the button's token or a member, now, of
a group listed there; if that cannot be found out, the answer is no. The vote is recorded before
Slack is asked or told anything that could fail.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from pydantic import BaseModel, Field

from .. import forms, voting
from ..callbacks import Callbacks, Standing
from ..errors import ChannelError, Unavailable
from ..office import Office
from ..people import IdentityKind, Principal, kind_of
from ..requests import Action
from ..text import visible
from ..tokens import PREFIX, BadToken, Claims, Person, Purpose, seal, unseal
from . import blocks, modals
from .api import ask, client_of, token_of
from .directory import is_member
from .replies import HOSTS, Patience, Reply

_DIRECT: tuple[Action, ...] = ("approve", "reject")
_SETTLED = ("recorded", "again", "already", "expired", "withdrawn")
_FOREIGN = "This button is no longer valid: the key that signed it is gone, or it was changed."
_STRANGER = "You are not among those who may decide this."
_UNSURE = "Whether you are in the group that may decide could not be found out; try again."
_UNREADABLE = "How this request stands could not be read; nothing is recorded. Try again."
_log = logging.getLogger("perdure.approvals.slack")


class User(BaseModel):
    """Who acted, as Slack names them."""

    id: str
    team_id: str = ""
    name: str = ""
    username: str = ""

    @property
    def identity(self) -> str:
        """The identity of the user: of their own team, wherever they clicked."""
        return f"slack:{self.team_id}:{self.id}"

    @property
    def principal(self) -> Principal:
        """The user as decisions know them."""
        display = " ".join(visible(self.name or self.username).split())[:80] or None
        return Principal(identity=self.identity, assurance="slack", display=display)


class Pressed(BaseModel):
    """A button that was pressed."""

    action_id: str
    value: str = ""
    confirm: Any = None


class Click(BaseModel):
    """A payload of the type `block_actions`."""

    user: User
    actions: list[Pressed] = Field(min_length=1)
    response_url: str | None = None
    trigger_id: str = ""


class State(BaseModel):
    """What was filled into a modal."""

    values: dict[str, dict[str, Any]]


class Modal(BaseModel):
    """A modal that was sent off."""

    callback_id: str
    private_metadata: str
    state: State


class Submission(BaseModel):
    """A payload of the type `view_submission`."""

    user: User
    view: Modal


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who may decide, for which approver, with which token."""

    claims: Claims
    person: Person
    by: Principal


class Refused(Exception):
    """Somebody may not do this; the text says why."""


class Interactions:
    """The core of what comes in from Slack, whether by HTTP or by a socket."""

    def __init__(
        self,
        office: Office,
        callbacks: Callbacks,
        *,
        token: str | None = None,
        base_url: str | None = None,
        response_hosts: Sequence[str] = HOSTS,
    ) -> None:
        self._office = office
        self._callbacks = callbacks
        self._token = token
        self._base_url = base_url
        self._hosts = tuple(response_hosts)

    def act(self, payload: dict[str, Any]) -> dict[str, Any] | None:
        """Do what a payload asks, and return what to answer as JSON; None for nothing.

        Raises:
            ValueError: it has not the shape of its type.
        """
        match payload.get("type"):
            case "block_actions":
                self._click(Click.model_validate(payload))
            case "view_submission":
                return self._submit(Submission.model_validate(payload))
        return None

    def _click(self, click: Click) -> None:
        pressed = next((e for e in click.actions if e.action_id.startswith(blocks.VERB)), None)
        verb = pressed.action_id.removeprefix(blocks.VERB) if pressed else ""
        if pressed is None or verb not in (*_DIRECT, *modals.VERBS):
            return
        patience = Patience()
        reply = Reply(click.response_url, self._hosts, patience)
        try:
            visitor = self._visitor("slack", pressed.value, click.user, patience)
            if verb in modals.VERBS:
                self._open(visitor, verb, click, reply, patience)
                return
        except Refused as refused:
            reply.privately(str(refused))
            return
        word = self._word(visitor.claims) if pressed.confirm else None
        self._tell(visitor, self._cast(visitor, cast("Action", verb), confirm=word), reply)

    def _visitor(self, purpose: Purpose, token: str, user: User, patience: Patience) -> Visitor:
        try:
            claims = unseal(self._office.keys, purpose, token)
        except BadToken:
            raise Refused(_FOREIGN) from None
        person = _listed(claims, user.identity) or self._in_group(claims, user, patience)
        if person is None:
            _log.warning("refused a decision: %s is not among its approvers", user.identity)
            raise Refused(_STRANGER)
        return Visitor(claims, person, user.principal)

    def _in_group(self, claims: Claims, user: User, patience: Patience) -> Person | None:
        """Return the listed group that somebody is in now."""
        for person in claims.who:
            for group in _groups(person):
                try:
                    if is_member(lambda: self._client(patience), group, user.team_id, user.id):
                        return person
                except ChannelError as error:
                    _log.warning("refused a decision by %s: %s", user.identity, error)
                    raise Refused(_UNSURE) from None
        return None

    def _word(self, claims: Claims) -> str | None:
        """Return the word that Slack's own dialog stands for: it was shown and confirmed."""
        try:
            standing = self._callbacks.lookup(claims.execution, claims.operation)
        except Unavailable:
            return None
        return standing.request.confirm if isinstance(standing, Standing) else None

    def _cast(self, visitor: Visitor, action: Action, **more: Any) -> voting.Outcome:
        return voting.cast(
            self._office,
            self._callbacks,
            visitor.claims,
            action=action,
            by=visitor.by,
            approver=visitor.person.approver,
            channel="slack",
            **more,
        )

    def _tell(self, visitor: Visitor, outcome: voting.Outcome, reply: Reply) -> None:
        """Say what became of a vote, and mend the copy of the message that was clicked."""
        if outcome.kind not in ("recorded", "again"):
            reply.privately(blocks.escaped(f"{outcome.text}."))
        if outcome.kind in _SETTLED:
            reply.replace(self._after(visitor.claims, outcome))

    def _after(self, claims: Claims, outcome: voting.Outcome) -> blocks.Message:
        """Return what the message says from now on: the decision if there is one, or the vote."""
        try:
            standing = self._callbacks.lookup(claims.execution, claims.operation)
        except Unavailable:
            standing = None
        if not isinstance(standing, Standing):
            return blocks.bare(f"{outcome.text}.")
        whole = not standing.request.policy.is_quorum
        decision = standing.decision or (outcome.decision if whole else None)
        if decision is not None:
            return blocks.decided(standing.request, decision, blocks.new_mark())
        return blocks.closed(standing.request, f"{outcome.text}.", blocks.new_mark())

    def _open(
        self, visitor: Visitor, verb: modals.Verb, click: Click, reply: Reply, patience: Patience
    ) -> None:
        """Open the form, or show the way to the page that has it."""
        standing = self._standing(visitor.claims)
        against = voting.outlook(
            self._office, standing, visitor.claims, visitor.by, visitor.person.approver
        )
        if against is not None:
            self._tell(visitor, against, reply)
            return
        token = seal(self._office.keys, "modal", visitor.claims)
        try:
            view = modals.view(standing.request, verb, modals.packed(token, click.response_url))
            ask(self._client(patience).views_open, trigger_id=click.trigger_id, view=view)
        except (ChannelError, modals.TooLarge):
            link = blocks.linked(self._page(visitor), "Decide on the page")
            reply.privately(f"Slack could not open the form. {link} instead.")

    def _submit(self, submission: Submission) -> dict[str, Any] | None:
        view, patience = submission.view, Patience()
        verb = view.callback_id.removeprefix(blocks.VERB)
        if verb not in modals.VERBS or not view.callback_id.startswith(blocks.VERB):
            return None
        token, address = modals.unpacked(view.private_metadata)
        try:
            visitor = self._visitor("modal", token, submission.user, patience)
            standing = self._standing(visitor.claims)
        except Refused as refused:
            return modals.said(str(refused))
        given = modals.filled(view.state.values)
        return self._decide(visitor, standing, verb, given, address, patience)

    def _decide(
        self,
        visitor: Visitor,
        standing: Standing,
        verb: str,
        given: dict[str, str],
        address: str | None,
        patience: Patience,
    ) -> dict[str, Any] | None:
        inputs = list(given)
        comment, confirm = given.pop(modals.COMMENT, ""), given.pop(modals.CONFIRM, None)
        action = cast("Action", given.pop(modals.DECISION, "") if verb == "comment" else verb)
        if action not in (*_DIRECT, "edit", "respond"):
            return modals.marked({modals.DECISION: "Choose one."}, inputs)
        value, errors = None, dict[str, str]()
        if action not in _DIRECT:
            value, errors = forms.value_of(standing.request, action, given)
        if errors:
            return modals.marked(errors, inputs)
        outcome = self._cast(visitor, action, comment=comment, value=value, confirm=confirm)
        if outcome.kind == "invalid":
            return modals.marked(outcome.errors, inputs)
        if outcome.kind in _SETTLED:
            reply = Reply(address, self._hosts, patience)
            reply.replace(self._after(visitor.claims, outcome))
        if outcome.kind in ("recorded", "again"):
            return None
        return modals.said(blocks.escaped(f"{outcome.text}."))

    def _standing(self, claims: Claims) -> Standing:
        try:
            found = self._callbacks.lookup(claims.execution, claims.operation)
        except Unavailable:
            raise Refused(_UNREADABLE) from None
        if not isinstance(found, Standing):
            raise Refused("This request is not known here.")
        return found

    def _page(self, visitor: Visitor) -> str:
        """Return the page: by a link of their own for a person, by signing in for a group."""
        claims, base = visitor.claims, self._office.base_url
        if _groups(visitor.person):
            return f"{base}/inbox/{claims.execution}/{claims.operation}"
        proven = Person(visitor.person.approver, (visitor.by.identity,))
        own = seal(self._office.keys, "link", replace(claims, who=(proven,)))
        return f"{base}/a/{PREFIX}{own}/review"

    def _client(self, patience: Patience) -> Any:
        return client_of(token_of(self._token), self._base_url, patience.seconds)


def _listed(claims: Claims, identity: str) -> Person | None:
    """Return the approver with exactly this identity."""
    return next((each for each in claims.who if identity in each.identities), None)


def _groups(person: Person) -> list[str]:
    """Return the groups of a token's person that name their team."""
    return [
        each
        for each in person.identities
        if kind_of(each) is IdentityKind.SLACK_GROUP and each.count(":") == 2
    ]
