"""Where a vote is checked and cast, whoever brings it: a link, a session, Slack, the terminal.

Completion is asked for once in each call and never again: when the answer is lost, or it was too
late, the journal is read, and the nonce of the recorded vote tells whose it is. What a person is
told follows from what is recorded, never from what was meant.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from perdure.durable.codec import Codec
from perdure.durable.errors import SerializationError, UsageError

from .callbacks import Ballot, Callbacks, OpenWait, Standing
from .decisions import VALUE_BYTES, Decision, vote
from .errors import ApprovalError, Unavailable
from .office import Office
from .outcomes import Outcome
from .people import IdentityKind, Principal, kind_of
from .requests import Action, ApprovalRequest, canonical
from .tokens import Claims, Person

__all__ = ["Outcome", "answer", "cast", "claims_of", "outlook"]
COMMENT = 10_000
"""The most characters of a comment."""
_log = logging.getLogger("perdure.approvals")


def cast(
    office: Office,
    callbacks: Callbacks,
    claims: Claims,
    *,
    action: Action,
    by: Principal,
    approver: str,
    channel: str,
    comment: str | None = None,
    value: Any = None,
    confirm: str | None = None,
) -> Outcome:
    """Check a vote, record it if it may be, and return what became of it.

    Args:
        claims: of the token that was presented, or of `claims_of`.
        by: who acts, as far as the channel proves it.
        approver: the name of the approver whose vote it is.
        value: the edited subject, or the answer.
        confirm: the word that was typed, where the request asks for one.
    """
    attempt = _Attempt(
        office, callbacks, claims, action, by, approver, channel, comment, value, confirm
    )
    outcome = attempt.outcome()
    if outcome.kind == "refused":
        _log.warning("a vote by %s is refused", by.identity)
    return outcome


def claims_of(standing: Standing, principal_identities: Sequence[str]) -> Claims | None:
    """Return what a person with these identities may present without a token; None: not decide."""
    mine, request = set(principal_identities), standing.request
    member = next((a for a in request.policy.everyone if mine & set(a.identities)), None)
    ballot = standing.ballot_of(member.name) if member is not None else None
    if member is None or ballot is None or mine & set(request.policy.requested_by):
        return None
    return Claims(
        callback=ballot.callback,
        execution=request.execution,
        operation=request.operation,
        who=(Person(member.name, member.identities),),
        requester=request.policy.requested_by,
        allowed=request.allowed,
        digest=request.digest,
        deadline=int(request.deadline.timestamp()),
        seed=hashlib.sha256(f"signed in {ballot.callback}".encode()).hexdigest()[:24],
    )


def outlook(
    office: Office, standing: Standing, claims: Claims, by: Principal, approver: str
) -> Outcome | None:
    """Return what keeps a vote from counting, for whoever only looks; None while it would count."""
    ballot = standing.ballot(claims.callback)
    if ballot is None or not _is_about(standing.request, claims):
        return Outcome("unknown")
    if _is_late(office, claims):
        return _closed(standing, ballot, None)
    against = _against(standing, ballot, claims, by, approver)
    return against or (None if ballot.open else _closed(standing, ballot, None))


def answer(callbacks: Callbacks, entry: OpenWait, value: Any) -> Outcome:
    """Send an answer to a named wait, which anyone may give who reaches the journal."""
    if value is None:
        return Outcome("invalid", errors={"value": "an answer; null would read as a time-out"})
    try:
        size = len(canonical(value).encode())
    except UsageError:
        return Outcome("invalid", errors={"value": "plain JSON"})
    if size > VALUE_BYTES:
        return Outcome("invalid", errors={"value": _too_large(size)})
    try:
        done = callbacks.complete(entry.callback, json.dumps(value))
    except Unavailable:
        return Outcome("unavailable")
    return Outcome("recorded" if done == "recorded" else "already")


@dataclass(frozen=True)
class _Attempt:
    """One call of `cast`."""

    office: Office
    callbacks: Callbacks
    claims: Claims
    action: Action
    by: Principal
    approver: str
    channel: str
    comment: str | None
    value: Any
    confirm: str | None

    def outcome(self) -> Outcome:
        """Check the vote in order, and complete the callback if nothing is against it."""
        try:
            standing = self.callbacks.lookup(self.claims.execution, self.claims.operation)
        except Unavailable:
            return Outcome("unavailable")
        if not isinstance(standing, Standing):
            return Outcome("unknown")
        ballot, request = standing.ballot(self.claims.callback), standing.request
        if ballot is None or not _is_about(request, self.claims):
            return Outcome("unknown")
        made = self._made(request)
        if _is_late(self.office, self.claims):
            return _closed(standing, ballot, made)
        if self.action not in self.claims.allowed or self.action not in request.allowed:
            return Outcome("invalid", errors={"": f"{self.action!r} is not among the choices"})
        against = _against(standing, ballot, self.claims, self.by, self.approver)
        if against is not None:
            return against
        if not ballot.open:
            return _closed(standing, ballot, made)
        errors = self._errors(request, made)
        if errors or made is None:
            return Outcome("invalid", errors=errors)
        return self._complete(request, made)

    def _made(self, request: ApprovalRequest) -> Decision | None:
        """Return the vote, or None if its value is no plain data."""
        try:
            return vote(
                request,
                self.action,
                digest=request.digest,
                by=self.by,
                approver=self.approver,
                at=datetime.fromtimestamp(self.office.now, UTC),
                channel=self.channel,
                seed=self.claims.seed,
                comment=self.comment,
                value=self.value,
            )
        except UsageError:
            return None

    def _errors(self, request: ApprovalRequest, made: Decision | None) -> dict[str, str]:
        """Return what is wrong with what was filled in, by field."""
        if made is None:
            return {"value": "plain JSON data"}
        if len(self.comment or "") > COMMENT:
            return {"comment": f"at most {COMMENT:,} characters, not {len(self.comment or ''):,}"}
        if self.action in ("edit", "respond"):
            from .forms import check

            found = check(request, self.action, self.value)
            if found:
                return found
        elif self.value is not None:
            return {"value": f"nothing: {self.action!r} takes no value"}
        if request.confirm and self.action in ("approve", "edit"):
            typed = (self.confirm or "").strip()
            if typed != request.confirm:
                return {"confirm": f"type {request.confirm} to confirm"}
        return _unkept(made)

    def _complete(self, request: ApprovalRequest, made: Decision) -> Outcome:
        quorum = request.policy.is_quorum
        done: Literal["recorded", "closed", "unknown"] = "unknown"
        try:
            done = self.callbacks.complete(self.claims.callback, json.dumps(made.kept()))
            if done == "recorded":
                return Outcome("recorded", made, quorum=quorum)
            standing = self.callbacks.lookup(self.claims.execution, self.claims.operation)
        except Unavailable:
            standing = self._looked_up() if done == "unknown" else None
        ballot = standing.ballot(self.claims.callback) if isinstance(standing, Standing) else None
        if ballot is None or not isinstance(standing, Standing):
            return Outcome("unavailable")
        if ballot.vote is not None and ballot.vote.nonce == made.nonce and done == "unknown":
            return Outcome("recorded", ballot.vote, quorum=quorum)
        due = request.deadline.timestamp()
        if ballot.open and (done == "unknown" or self.office.now < due):
            return Outcome("unavailable")
        return _closed(standing, ballot, made)

    def _looked_up(self) -> Standing | OpenWait | None:
        try:
            return self.callbacks.lookup(self.claims.execution, self.claims.operation)
        except Unavailable:
            return None


def _against(
    standing: Standing, ballot: Ballot, claims: Claims, by: Principal, approver: str
) -> Outcome | None:
    """Return why this person may not vote, or None."""
    policy = standing.request.policy
    person = next((each for each in claims.who if each.approver == approver), None)
    member = policy.find(approver)
    if person is None or member is None or ballot.approver not in (None, approver):
        return _refused(_only(standing.request))
    mine = {by.identity, *person.identities, *member.identities}
    if mine & {*claims.requester, *policy.requested_by}:
        return _refused("whoever asked may not decide")
    if not _is_one_of(by, person, member.identities):
        return _refused(_only(standing.request))
    return _voted_elsewhere(standing, ballot, {by.identity, *member.identities})


def _refused(why: str) -> Outcome:
    return Outcome("refused", errors={"": why})


def _is_about(request: ApprovalRequest, claims: Claims) -> bool:
    """Whether a token was made for this request: a journal made anew may count its runs as before.

    Its ids are the same then, and so is the subject, if the same is asked again.
    """
    return (request.digest, int(request.deadline.timestamp())) == (claims.digest, claims.deadline)


def _is_late(office: Office, claims: Claims) -> bool:
    """Whether the deadline claim has passed; it is in whole seconds, rounded down."""
    return office.now >= claims.deadline + 1


def _closed(standing: Standing, ballot: Ballot, made: Decision | None) -> Outcome:
    """Return what to tell of a ballot that takes no vote any more."""
    request, quorum = standing.request, standing.request.policy.is_quorum
    if ballot.vote is not None:
        same = made is not None and ballot.vote.nonce == made.nonce
        return Outcome("again" if same else "already", ballot.vote, quorum=quorum)
    if ballot.ended == "foreign":
        why = "it was closed by other means, without a decision"
        return Outcome("withdrawn", errors={"": why}, quorum=quorum)
    if ballot.ended == "withdrawn":
        return Outcome("withdrawn", standing.decision, quorum=quorum)
    return Outcome("expired", standing.decision, quorum=quorum, closed=request.deadline)


def _is_one_of(by: Principal, person: Person, identities: Sequence[str]) -> bool:
    """Whether somebody who acts is the person named, or may be of the group that is."""
    if kind_of(person.approver) is IdentityKind.SLACK_GROUP:
        return by.identity.startswith("slack:")
    return by.identity in person.identities or by.identity in identities


def _voted_elsewhere(standing: Standing, ballot: Ballot, mine: set[str]) -> Outcome | None:
    """Return the vote that somebody who stands in two approvers' places already gave."""
    others = (each.vote for each in standing.ballots if each.callback != ballot.callback)
    before = next((each for each in others if each is not None and each.by.identity in mine), None)
    return None if before is None else Outcome("already", before, quorum=True)


def _only(request: ApprovalRequest) -> str:
    names = ", ".join(each.name for each in request.policy.everyone)
    return f"only {names} may decide here"


def _unkept(made: Decision) -> dict[str, str]:
    """Return why a vote would not come back from the journal as it went in, if so."""
    kept = made.kept()
    where = "value" if made.value is not None else "comment"
    size = len(canonical(made.value).encode())
    if size > VALUE_BYTES:
        return {where: _too_large(size)}
    try:
        Codec().encode([[kept]], where="the vote")  # as deep as a quorum's decision holds it
        if Decision.read(kept) == made:
            return {}
    except (ApprovalError, SerializationError, ValueError, RecursionError):
        pass
    return {where: "something that can be kept: it is nested too deeply, or its text is damaged"}


def _too_large(size: int) -> str:
    return f"at most {VALUE_BYTES:,} bytes, not {size:,}"
