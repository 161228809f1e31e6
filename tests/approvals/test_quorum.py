"""Several have to agree: what ends it, who counts, and what becomes of votes that come too late."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perdure.approvals import Decision, Escalation
from perdure.approvals.people import Principal
from perdure.durable import CallbackClosedError
from perdure.durable.testing import ManualClock

from .scene import ALICE, BOB, CAROL, DAVE, DAY, Asked, Scene

THREE = [ALICE, BOB, CAROL]


def tally(decision: Decision) -> Any:
    return [decision.kind, decision.approved, [[v.approver, v.kind] for v in decision.votes]]


def ask(scene: Scene, **terms: Any) -> Asked:
    given = {"approvers": THREE, "required": 2, "then": tally} | terms
    return scene.ask(**given)


def test_each_approver_has_a_callback_of_their_own_that_all_close_at_once(scene: Scene) -> None:
    it = ask(scene)
    assert list(it.callbacks) == ["vote-1", "vote-2", "vote-3"]
    assert [each.approver for each in it.standing.ballots] == THREE
    dues = {wait.due for wait in it.run.waiting_for()}
    assert dues == {it.request.deadline}
    assert scene.recorder.told("send") == THREE


def test_it_is_approved_with_the_votes_of_enough(scene: Scene, clock: ManualClock) -> None:
    it = ask(scene, then=lambda decision: [decision.kept(), decision.subject])
    it.vote(CAROL, comment="fine")
    it.settle()
    assert it.run.status == "RUNNING"
    clock.advance(60)
    it.vote(ALICE)
    kept, subject = it.result()
    found = Decision.read(kept)
    assert (found.kind, found.approved, subject) == ("approved", True, "the text")
    assert [(each.approver, each.comment) for each in found.votes] == [
        (ALICE, None),
        (CAROL, "fine"),
    ]
    assert (found.by.identity, found.at) == (ALICE, clock.moment())


def test_the_third_is_not_asked_any_more(scene: Scene) -> None:
    it = ask(scene)
    it.vote(ALICE)
    it.vote(BOB)
    it.settle()
    assert it.vote(CAROL, "reject").kind in ("withdrawn", "already")
    with pytest.raises(CallbackClosedError):
        it.complete(it.made(CAROL, "reject"), "vote-3")
    assert it.result() == ["approved", True, [[ALICE, "approved"], [BOB, "approved"]]]


def test_one_reject_is_a_veto_and_ends_it_at_once(scene: Scene) -> None:
    it = ask(scene)
    it.vote(ALICE)
    it.vote(BOB, "reject")
    assert it.result() == ["rejected", False, [[ALICE, "approved"], [BOB, "rejected"]]]
    with pytest.raises(CallbackClosedError):
        it.complete(it.made(CAROL), "vote-3")


def test_without_a_veto_a_reject_is_one_vote(scene: Scene) -> None:
    it = ask(scene, veto=False)
    it.vote(ALICE, "reject")
    it.settle()
    it.vote(CAROL)
    it.settle()
    assert it.run.status == "RUNNING"
    it.vote(BOB)
    votes = [[ALICE, "rejected"], [BOB, "approved"], [CAROL, "approved"]]
    assert it.result() == ["approved", True, votes]


def test_a_late_reject_does_not_turn_enough_yes_into_a_no(scene: Scene) -> None:
    it = ask(scene, veto=False)
    it.vote(ALICE)
    it.settle()
    it.vote(CAROL, "reject")
    it.settle()
    it.vote(BOB)
    assert it.result()[:2] == ["approved", True]


def test_without_a_veto_it_is_lost_when_too_few_are_left(scene: Scene) -> None:
    it = ask(scene, veto=False)
    it.vote(ALICE, "reject")
    it.settle()
    it.vote(CAROL, "reject")
    assert it.result() == ["rejected", False, [[ALICE, "rejected"], [CAROL, "rejected"]]]


def test_who_asked_is_not_among_those_who_are_left(scene: Scene) -> None:
    it = ask(scene, veto=False, requested_by=CAROL)
    assert scene.recorder.told("send") == [ALICE, BOB]
    it.vote(ALICE, "reject")
    assert it.result() == ["rejected", False, [[ALICE, "rejected"]]]


@pytest.mark.parametrize("on_timeout", ["reject", "approve"])
def test_one_yes_of_two_is_none_when_time_is_up(
    scene: Scene, clock: ManualClock, on_timeout: str
) -> None:
    it = ask(scene, on_timeout=on_timeout)
    it.vote(BOB)
    clock.advance(3 * DAY + 1)
    assert it.result() == ["expired", on_timeout == "approve", [[BOB, "approved"]]]


def test_a_callback_that_somebody_failed_ends_it_unless_others_do(
    scene: Scene, clock: ManualClock
) -> None:
    it = ask(scene, then=lambda decision: [decision.kind, decision.at.isoformat()])
    clock.advance(60)
    scene.runner.engine.fail_callback(it.callbacks["vote-2"], "left the company")
    assert it.result() == ["withdrawn", "2026-01-01T00:01:00+00:00"]


def test_approvers_that_change_in_the_code_do_not_touch_what_is_asked(scene: Scene) -> None:
    approvers = list(THREE)
    it = ask(scene, approvers=approvers)
    approvers[:] = [DAVE, ALICE]
    it.vote(BOB)
    it = scene.restarted(it)
    it.vote(CAROL)
    assert it.result() == ["approved", True, [[BOB, "approved"], [CAROL, "approved"]]]
    assert scene.recorder.told("send") == THREE


class TestByHand:
    def test_a_vote_counts_for_the_approver_whose_callback_it_is(self, scene: Scene) -> None:
        it = ask(scene)
        it.complete(it.made(ALICE), "vote-1")
        it.complete(it.made(ALICE), "vote-2")
        assert "'alice@example.org' does not vote for 'bob@example.org'" in it.error().message

    def test_one_person_is_not_two_approvers(self, scene: Scene) -> None:
        it = ask(scene)
        dave = Principal(identity=DAVE, assurance="link")
        it.complete(it.made(ALICE, by=dave), "vote-1")
        it.complete(it.made(BOB, by=dave), "vote-2")
        assert "a person counts once" in it.error().message

    @pytest.mark.parametrize("value", ["approved", True, {"kind": "approved"}], ids=repr)
    def test_what_is_no_decision_ends_it_and_is_no_vote(self, scene: Scene, value: Any) -> None:
        it = ask(scene)
        it.complete(value, "vote-1")
        it.settle()
        if it.run.status == "RUNNING":
            it.vote(BOB)
        assert it.error().type == "perdure.ApprovalError"

    def test_the_others_are_withdrawn_also_then(self, scene: Scene) -> None:
        it = ask(scene)
        it.complete("approved", "vote-1")
        it.settle()
        with pytest.raises(CallbackClosedError):
            it.complete(it.made(BOB), "vote-2")


class TestEscalation:
    def test_an_added_approver_is_one_of_the_quorum(self, scene: Scene, clock: ManualClock) -> None:
        it = ask(scene, escalate=Escalation(DAY, [DAVE]))
        assert scene.recorder.told("send") == THREE
        it.vote(ALICE)
        clock.advance(DAY + 1)
        it.settle()
        assert scene.recorder.told("send") == [*THREE, DAVE]
        it.vote(DAVE)
        assert it.result() == ["approved", True, [[ALICE, "approved"], [DAVE, "approved"]]]
        assert scene.recorder.told("update", "closed") == [*THREE, DAVE]

    def test_it_is_decided_before_without_them(self, scene: Scene, clock: ManualClock) -> None:
        it = ask(scene, escalate=Escalation(DAY, [DAVE]))
        it.vote(ALICE)
        it.vote(CAROL)
        assert it.result()[:2] == ["approved", True]
        clock.advance(2 * DAY)
        it.settle()
        assert scene.recorder.told("send") == THREE
        with pytest.raises(CallbackClosedError):
            it.complete(it.made(DAVE), "vote-4")

    def test_who_voted_is_not_reminded(self, scene: Scene, clock: ManualClock) -> None:
        it = ask(scene, remind=[DAY])
        it.vote(BOB)
        it.settle()
        clock.advance(DAY + 1)
        it.settle()
        assert scene.recorder.told("update", "reminder") == [ALICE, CAROL]
        it.vote(ALICE)
        assert it.result()[0] == "approved"


ACTIONS = st.sampled_from(["approve", "reject", "junk", "fail", ""])


@pytest.mark.parametrize("ladder", [False, True])
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(
    acts=st.permutations([0, 1, 2]),
    votes=st.lists(ACTIONS, min_size=3, max_size=3),
    required=st.integers(2, 3),
    veto=st.booleans(),
)
def test_whatever_votes_come_in_whatever_order_it_is_approved_by_enough_and_only_then(
    scene: Scene, ladder: bool, acts: list[int], votes: list[str], required: int, veto: bool
) -> None:
    more: Any = {"remind": [DAY], "escalate": Escalation(2 * DAY, [DAVE])} if ladder else {}
    it = ask(scene, required=required, veto=veto, **more)
    counted: list[str] = []
    for place in acts:
        approver, act = THREE[place], votes[place]
        if it.run.status != "RUNNING" or not act:
            continue
        callback = it.callbacks[f"vote-{place + 1}"]
        value: Any = it.made(approver, act) if act in ("approve", "reject") else "junk"
        try:
            if act == "fail":
                scene.runner.engine.fail_callback(callback, "gone")
            else:
                scene.runner.engine.complete_callback(callback, payload=json.dumps(value))
            counted.append(act)
        except CallbackClosedError:
            pass
        it.settle()
        scene.runner.clock.advance(DAY / 2)
        it.settle()
    scene.runner.clock.advance(4 * DAY)
    it.settle()
    if "junk" in counted:
        assert it.run.status == "FAILED"
        return
    kind, approved, found = it.result()
    enough = counted.count("approve") >= required
    assert approved == enough
    assert (kind == "approved") == enough
    assert [each for _, each in found].count("approved") == counted.count("approve")
    if veto and "reject" in counted:
        assert kind == "rejected"
