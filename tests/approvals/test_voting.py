"""Votes over a real journal: what is checked, in which order, and what a person is told."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest
from pydantic import BaseModel

from perdure.approvals import Unavailable
from perdure.approvals.callbacks import Callbacks
from perdure.approvals.journal import LocalCallbacks
from perdure.approvals.office import Office
from perdure.approvals.people import Principal
from perdure.approvals.tokens import Person
from perdure.approvals.voting import Outcome, answer, cast, claims_of
from perdure.durable import Duration, durable_execution
from perdure.durable.testing import ManualClock, Runner

from .ways import ALICE, BOB, CAROL, Asked, Asks, Postbox


class Refund(BaseModel):
    amount: int
    to: str


def vote(it: Asked, action: Any = "approve", approver: str = ALICE, **more: Any) -> Outcome:
    """Vote as an approver does by their own link."""
    given = {
        "by": Principal(identity=approver, assurance="link"),
        "approver": approver,
        "channel": "email",
    } | more
    callbacks = given.pop("callbacks", it.callbacks)
    claims = given.pop("claims", None) or it.claims(approver)
    return cast(it.office, callbacks, claims, action=action, **given)


class Counting:
    """The engine, as `Callbacks`, which counts what is asked for, and may lose an answer."""

    def __init__(self, engine: Callbacks, lose: str = "") -> None:
        self._engine = engine
        self._lose = lose
        self.asked = 0

    def complete(self, callback: str, payload: str) -> Any:
        self.asked += 1
        if self._lose == "request":
            raise Unavailable("not reached")
        done = self._engine.complete(callback, payload)
        if self._lose:
            raise Unavailable("the answer was lost")
        return done

    def lookup(self, execution: str, operation: str) -> Any:
        if self._lose == "all" and self.asked:
            raise Unavailable("not reached")
        return self._engine.lookup(execution, operation)

    def inbox(self, after: int | None = None, limit: int = 50) -> Any:
        return self._engine.inbox(after, limit)


def test_a_vote_is_recorded_and_the_run_gets_exactly_it(asks: Asks) -> None:
    it = asks()
    outcome = vote(it, comment="go")
    assert outcome.kind == "recorded"
    assert outcome.text == f"Recorded: approved by {ALICE}, 1 Jan 2026, 00:00 UTC (+00:00)"
    assert outcome.decision is not None
    assert it.result() == outcome.decision.kept()


def test_the_same_vote_again_changes_nothing_and_is_told_so(asks: Asks) -> None:
    it = asks()
    first = vote(it)
    again = vote(it)
    assert again.kind == "again"
    assert again.decision == first.decision
    assert "recorded before" in again.text


def test_another_vote_is_told_what_was_recorded_and_by_whom(asks: Asks) -> None:
    it = asks()
    vote(it)
    late = vote(it, "reject", BOB)
    assert late.kind == "already"
    assert late.text.startswith(f"Already approved by {ALICE}, 1 Jan 2026, 00:00 UTC")
    assert vote(it, "reject").kind == "already"


def test_one_completion_goes_out_and_a_lost_answer_is_found_in_the_journal(asks: Asks) -> None:
    it = asks()
    lossy = Counting(it.callbacks, lose="answer")
    outcome = vote(it, callbacks=lossy)
    assert (outcome.kind, lossy.asked) == ("recorded", 1)
    assert it.result()["kind"] == "approved"


def test_an_engine_that_was_not_reached_is_told_as_not_recorded(asks: Asks) -> None:
    it = asks()
    lossy = Counting(it.callbacks, lose="request")
    outcome = vote(it, callbacks=lossy)
    assert (outcome.kind, lossy.asked) == ("unavailable", 1)
    assert outcome.text == "Not recorded, as far as is known; please try again"
    assert it.votes() == []
    assert vote(it).kind == "recorded"


def test_after_a_lost_answer_and_no_journal_nothing_is_claimed(asks: Asks) -> None:
    it = asks()
    outcome = vote(it, callbacks=Counting(it.callbacks, lose="all"))
    assert outcome.kind == "unavailable"
    assert vote(it).kind == "again"


def test_who_asked_may_not_decide_by_any_of_their_identities(asks: Asks) -> None:
    alice = (ALICE, "slack:T1:U1")
    it = asks(approvers=[alice, BOB], requested_by="slack:T1:U1")
    claims = replace(it.claims(BOB), who=(Person(ALICE, alice),))
    outcome = vote(it, claims=claims)
    assert outcome.kind == "refused"
    assert "whoever asked may not decide" in outcome.text
    by = Principal(identity="slack:T1:U1", assurance="slack")
    other = vote(it, approver=BOB, by=by)
    assert other.kind == "refused"
    assert it.votes() == []


def test_a_refusal_is_logged_with_the_identity_alone(
    asks: Asks, caplog: pytest.LogCaptureFixture
) -> None:
    it = asks()
    mallory = Principal(identity="mallory@example.org", display="canary", assurance="link")
    with caplog.at_level(logging.DEBUG, "perdure.approvals"):
        vote(it, by=mallory, comment="canary")
    assert "mallory@example.org" in caplog.text
    assert "canary" not in caplog.text
    assert it.token() not in caplog.text


def test_a_stranger_is_refused_even_with_an_approvers_claims(asks: Asks) -> None:
    it = asks()
    mallory = Principal(identity="mallory@example.org", assurance="link")
    assert vote(it, by=mallory).kind == "refused"
    assert vote(it, approver=CAROL, claims=it.claims()).kind == "refused"
    assert it.votes() == []


def test_claims_of_nobody_in_the_policy_are_refused(asks: Asks) -> None:
    """A signed token is not enough: the request itself says who may decide."""
    it = asks()
    claims = replace(it.claims(), who=(Person(CAROL, (CAROL,)),))
    assert vote(it, approver=CAROL, claims=claims).kind == "refused"


def test_a_group_is_decided_for_by_a_member_whom_slack_names(asks: Asks) -> None:
    group = "slack-group:T1:S1"
    it = asks(approvers=[group], via=[Postbox("slack")])
    by = Principal(identity="slack:T1:U7", display="carol", assurance="slack")
    claims = claims_of(it.standing, [group])
    assert claims is not None
    mail = Principal(identity=ALICE, assurance="link")
    assert vote(it, approver=group, by=mail, claims=claims).kind == "refused"
    outcome = vote(it, approver=group, by=by, claims=claims, channel="slack")
    assert outcome.text.startswith("Recorded: approved by carol (slack:T1:U7), ")


def test_what_is_not_allowed_is_not_recorded(asks: Asks) -> None:
    it = asks()
    for action in ("edit", "respond"):
        outcome = vote(it, action, value="x")
        assert outcome.kind == "invalid"
        assert outcome.text == f"Not recorded: {action!r} is not among the choices"
    assert vote(it, value="x").errors == {"value": "nothing: 'approve' takes no value"}
    assert it.votes() == []


def test_an_edit_that_breaks_the_form_is_refused_and_the_request_stays_open(asks: Asks) -> None:
    it = asks({"amount": 5, "to": "a"}, allow=["approve", "reject", "edit"], form=Refund)
    bad = vote(it, "edit", value={"amount": "many", "to": "a"})
    assert bad.kind == "invalid"
    assert "amount" in bad.errors
    assert it.standing.is_open
    good = vote(it, "edit", value={"amount": 3, "to": "a"})
    assert good.text.startswith("Recorded: approved with changes by ")
    assert it.result()["value"] == {"amount": 3, "to": "a"}


def test_a_dangerous_yes_needs_its_word_and_a_no_does_not(asks: Asks) -> None:
    it = asks(confirm="DELETE")
    assert vote(it).errors == {"confirm": "type DELETE to confirm"}
    assert vote(it, confirm="delete").kind == "invalid"
    assert vote(it, confirm=" DELETE ").kind == "recorded"
    assert vote(asks(confirm="DELETE"), "reject").kind == "recorded"


@pytest.mark.parametrize(
    "value",
    ["x" * 200_001, float("nan"), "\ud800", [[[[]]]] * 100_000, {1, 2}],
    ids=["too large", "not a number", "half a character", "too large a list", "a set"],
)
def test_a_value_that_cannot_be_kept_is_refused_before_it_counts(asks: Asks, value: Any) -> None:
    it = asks(allow=["respond"])
    assert vote(it, "respond", value=value).kind == "invalid"
    assert it.standing.is_open


def test_a_value_nested_too_deeply_to_be_read_again_is_refused(asks: Asks) -> None:
    it = asks(allow=["respond"])
    deep: Any = []
    for _ in range(150):
        deep = [deep]
    assert vote(it, "respond", value=deep).kind == "invalid"
    for _ in range(60):
        deep = deep[0]
    outcome = vote(it, "respond", value=deep)
    assert outcome.kind in ("recorded", "invalid")
    if outcome.kind == "recorded":
        assert it.result()["value"] == deep


def test_a_comment_too_long_or_damaged_is_refused(asks: Asks) -> None:
    it = asks()
    assert "comment" in vote(it, comment="x" * 10_001).errors
    assert "comment" in vote(it, comment="\ud800").errors
    assert vote(it, comment="x" * 10_000).kind == "recorded"


def test_after_the_deadline_nothing_is_recorded_and_the_time_is_told(
    asks: Asks, clock: ManualClock
) -> None:
    it = asks()
    clock.advance(Duration.from_seconds(3601))
    outcome = vote(it)
    assert outcome.kind == "expired"
    assert (
        outcome.text
        == "Time was up at 1 Jan 2026, 01:00 UTC (+00:00); nothing was recorded for you"
    )
    assert it.result()["kind"] == "expired"
    assert it.votes() == []
    assert vote(it).kind == "expired"


def test_what_was_decided_in_time_is_told_after_the_deadline_too(
    asks: Asks, clock: ManualClock
) -> None:
    it = asks()
    vote(it)
    clock.advance(Duration.from_days(2))
    assert vote(it).kind == "again"
    assert vote(it, "reject", BOB).kind == "already"


def test_a_cancelled_run_asks_nobody_any_more(asks: Asks, runner: Runner) -> None:
    it = asks()
    it.run.cancel()
    outcome = vote(it)
    assert outcome.kind == "withdrawn"
    assert (
        outcome.text == "This is not asked any more: it was withdrawn; nothing was recorded for you"
    )
    assert it.votes() == []


def test_a_callback_completed_by_other_means_is_no_decision(asks: Asks, runner: Runner) -> None:
    it = asks()
    [ballot] = it.standing.ballots
    runner.engine.complete_callback(ballot.callback, "approved")
    outcome = vote(it)
    assert outcome.kind == "withdrawn"
    assert "closed by other means, without a decision" in outcome.text
    assert it.standing.decision is None


def test_a_deleted_run_is_unknown(asks: Asks, runner: Runner) -> None:
    it = asks()
    claims = it.claims()
    it.run.cancel()
    runner.engine.delete(it.run.id)
    assert vote(it, claims=claims).kind == "unknown"


def test_claims_about_another_subject_are_unknown(asks: Asks) -> None:
    it, other = asks("one"), asks("two")
    assert vote(it, claims=replace(it.claims(), digest="0" * 64)).kind == "unknown"
    mixed = replace(it.claims(), callback=other.claims().callback)
    assert vote(it, claims=mixed).kind == "unknown"
    assert it.votes() == other.votes() == []


class TestQuorum:
    """Two of three have to say yes."""

    def test_a_voter_is_told_of_a_vote_and_never_of_an_approval(self, asks: Asks) -> None:
        it = asks(approvers=[ALICE, BOB, CAROL], required=2)
        outcome = vote(it)
        assert outcome.text == "Your vote is recorded: yes, 1 Jan 2026, 00:00 UTC (+00:00)"
        assert "approved" not in outcome.text.lower()
        assert "approved" not in vote(it).text.lower()

    def test_the_second_yes_decides_and_the_third_is_told_so(
        self, asks: Asks, runner: Runner
    ) -> None:
        it = asks(approvers=[ALICE, BOB, CAROL], required=2)
        vote(it)
        vote(it, approver=BOB)
        assert [each["approver"] for each in it.result()["votes"]] == [ALICE, BOB]
        third = vote(it, "reject", CAROL)
        assert third.kind == "withdrawn"
        assert third.text.startswith(f"Already approved by {ALICE} and {BOB}, ")
        assert "was not recorded" in third.text

    def test_a_reject_ends_it_at_once(self, asks: Asks, runner: Runner) -> None:
        it = asks(approvers=[ALICE, BOB, CAROL], required=2)
        vote(it)
        vote(it, "reject", BOB)
        assert it.result()["kind"] == "rejected"
        assert vote(it, approver=CAROL).text.startswith(f"Already rejected by {BOB}, ")

    def test_nobody_votes_with_the_ballot_of_another(self, asks: Asks) -> None:
        it = asks(approvers=[ALICE, BOB, CAROL], required=2)
        stolen = replace(it.claims(ALICE), callback=it.claims(BOB).callback)
        assert vote(it, claims=stolen).kind == "refused"

    def test_one_person_votes_once_whatever_the_channel(self, asks: Asks) -> None:
        it = asks(
            approvers=[(ALICE, "slack:T1:U1"), "slack-group:T1:S1"],
            required=2,
            via=[Postbox("slack")],
        )
        by = Principal(identity="slack:T1:U1", assurance="slack")
        claims = claims_of(it.standing, ["slack-group:T1:S1"])
        assert vote(it, by=by, approver="slack-group:T1:S1", claims=claims).kind == "recorded"
        mine = claims_of(it.standing, [ALICE])
        second = vote(it, claims=mine)
        assert second.kind == "already"
        assert "only the first vote of a person counts" in second.text
        assert len(it.votes()) == 1


class TestClaims:
    """What somebody who is signed in may present."""

    def test_an_approver_has_claims_and_anyone_else_has_none(self, asks: Asks) -> None:
        it = asks(approvers=["user:alice", (BOB, "user:bob")])
        alice = claims_of(it.standing, ["user:alice"])
        bob = claims_of(it.standing, ["user:bob"])
        assert alice is not None
        assert bob is not None
        assert bob.who[0].approver == BOB
        assert claims_of(it.standing, ["user:carol"]) is None
        assert claims_of(it.standing, []) is None

    def test_who_asked_has_none(self, asks: Asks) -> None:
        it = asks(approvers=["user:alice", BOB], requested_by="user:alice")
        assert claims_of(it.standing, ["user:alice"]) is None

    def test_a_vote_by_session_is_the_same_vote_the_second_time(self, asks: Asks) -> None:
        it = asks(approvers=["user:alice"])
        by = Principal(identity="user:alice", assurance="session")
        for kind in ("recorded", "again"):
            claims = claims_of(it.standing, ["user:alice"])
            assert vote(it, by=by, approver="user:alice", claims=claims).kind == kind


@durable_execution(name="waits")
def waits(event: Any, context: Any) -> Any:
    return context.wait(Duration.from_hours(1), name="go")


class TestNamedWaits:
    """A wait of the handler's own, which has no approvers."""

    def test_an_answer_reaches_the_handler_once(self, runner: Runner, office: Office) -> None:
        run = runner.start(waits)
        runner.settle()
        callbacks = LocalCallbacks(runner.engine)
        [entry] = callbacks.inbox().entries
        assert answer(callbacks, entry, None).kind == "invalid"
        assert answer(callbacks, entry, float("inf")).kind == "invalid"
        assert answer(callbacks, entry, {"ok": True}).text == (
            "Recorded: the run goes on with this answer"
        )
        assert answer(callbacks, entry, False).text == (
            "This was answered before, or its time was up; your answer was not recorded"
        )
        assert run.result(timeout=5) == {"ok": True}
