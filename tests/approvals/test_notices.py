"""Telling people: once each, again as the channel asks, and never at the cost of the decision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from perdure.approvals import ChannelError, Receipt
from perdure.approvals.requests import NOTICE
from perdure.durable.operations import OperationStatus
from perdure.durable.testing import ManualClock

from .recorder import Recorder
from .scene import ALICE, BOB, CAROL, DAY, Scene

THREE = [ALICE, BOB, CAROL]


class Troubles:
    """What a channel meets, each thing as often as it says."""

    def __init__(self) -> None:
        self.coming: list[tuple[str, Exception]] = []

    def add(self, what: str, error: Exception, times: int = 1) -> None:
        self.coming += [(what, error)] * times

    def __call__(self, what: str, notice: Any) -> None:
        for number, (when, error) in enumerate(self.coming):
            if when == what:
                del self.coming[number]
                raise error


@pytest.fixture
def troubles(recorder: Recorder) -> Troubles:
    recorder.trouble = troubles = Troubles()
    return troubles


@pytest.fixture
def other(recorder: Recorder) -> Recorder:
    """Another channel, on which nothing goes wrong unless a test says so."""
    return Recorder(recorder.path, "other")


def failures(run: Any) -> dict[str, str]:
    """The messages that could not be sent, and why, as the journal has it."""
    return {
        step.name: step.error.message
        for step in run.steps(NOTICE)
        if step.status is OperationStatus.FAILED
    }


def test_three_are_told_once_each_over_many_replays(scene: Scene) -> None:
    it = scene.ask(approvers=THREE, required=3)
    assert scene.recorder.told("send") == THREE
    for approver in THREE:
        it.vote(approver)
        it = scene.restarted(it)
    assert it.result()[0] == "approved"
    assert scene.recorder.told("send") == THREE
    assert scene.recorder.told("update") == THREE
    assert scene.recorder.lines("find") == []


def test_one_message_serves_all_where_a_channel_is_not_personal(scene: Scene) -> None:
    scene.recorder.personal = False
    it = scene.ask(approvers=THREE)
    assert [each["to"] for each in scene.recorder.lines("send")] == [THREE]
    it.vote(BOB)
    assert it.result()[0] == "approved"
    assert [each["to"] for each in scene.recorder.lines("update")] == [THREE]


def test_nobody_is_told_through_a_channel_that_does_not_reach_them(
    scene: Scene, other: Recorder
) -> None:
    other.reaches = lambda approver: approver.name == BOB  # type: ignore[method-assign]
    scene.ask(approvers=[*THREE, "user:dave"], via=["web", scene.recorder, other])
    assert (scene.recorder.told("send"), other.told("send")) == (THREE, [BOB])


def test_a_hundred_approvers_are_told(scene: Scene) -> None:
    people = [f"a{number:02}@example.org" for number in range(100)]
    it = scene.ask(approvers=people)
    assert scene.recorder.told("send") == people
    it.vote(people[99])
    assert it.result()[0] == "approved"


class TestAgain:
    def test_a_channel_is_asked_again_after_as_long_as_it_says(
        self, scene: Scene, troubles: Troubles, clock: ManualClock
    ) -> None:
        troubles.add("send", ChannelError("slow down", retry_after=40))
        it = scene.ask(approvers=[ALICE])
        assert scene.recorder.lines() == []
        [wait] = [each for each in it.run.waiting_for() if each.kind == "retry"]
        assert (wait.due - clock.moment()).total_seconds() == 40
        scene.passes(39)
        assert scene.recorder.lines() == []
        scene.passes(1)
        assert [each["attempt"] for each in scene.recorder.lines("send")] == [2]

    def test_while_one_waits_the_others_are_told_and_may_decide(
        self, scene: Scene, troubles: Troubles, other: Recorder
    ) -> None:
        troubles.add("send", ChannelError("slow down", retry_after=40))
        it = scene.ask(approvers=[ALICE], via=[scene.recorder, other])
        assert other.told("send") == [ALICE]
        it.vote(ALICE)
        scene.passes(41)
        assert it.result()[0] == "approved"
        assert scene.recorder.lines() == [], "nobody is asked what is decided"
        assert other.told("update") == [ALICE]

    def test_an_attempt_that_failed_may_have_delivered_and_is_looked_for(
        self, scene: Scene, troubles: Troubles
    ) -> None:
        scene.recorder.finds = True
        troubles.add("send done", ConnectionError("the answer was lost"))
        it = scene.ask(approvers=[ALICE])
        scene.passes(10)
        assert [each["what"] for each in scene.recorder.lines()] == ["send", "find"]
        it.vote(ALICE)
        assert it.result()[0] == "approved"
        assert scene.recorder.told("update") == [ALICE]

    def test_a_message_that_is_sent_twice_carries_the_same_vote(
        self, scene: Scene, troubles: Troubles
    ) -> None:
        troubles.add("send done", ConnectionError("the answer was lost"))
        scene.ask(approvers=[ALICE, BOB])
        scene.passes(10)
        seeds = {(each["to"][0], each["seed"]) for each in scene.recorder.lines("send")}
        assert scene.recorder.told("send") in ([ALICE, ALICE, BOB], [ALICE, BOB, BOB])
        assert len(seeds) == 2

    def test_where_looking_is_not_allowed_it_is_sent_again(
        self, scene: Scene, troubles: Troubles
    ) -> None:
        troubles.add("send done", ConnectionError("the answer was lost"))
        troubles.add("find", ChannelError("no such permission", final=True))
        scene.ask(approvers=[ALICE])
        scene.passes(10)
        assert scene.recorder.told("send") == [ALICE, ALICE]

    def test_no_attempt_is_made_after_the_deadline(self, scene: Scene, troubles: Troubles) -> None:
        troubles.add("send", ChannelError("slow down", retry_after=1800), times=6)
        it = scene.ask(approvers=[ALICE], timeout=600)
        assert "slow down" in it.error().message
        assert len(troubles.coming) == 5


class TestFailure:
    def test_what_cannot_help_is_not_tried_again(
        self, scene: Scene, troubles: Troubles, other: Recorder
    ) -> None:
        troubles.add("send", ChannelError("no such channel", final=True), times=9)
        it = scene.ask(approvers=[ALICE], via=[scene.recorder, other])
        assert len(troubles.coming) == 8
        assert failures(it.run) == {"notify-recorder-1": "no such channel"}
        it.vote(ALICE)
        assert it.result()[0] == "approved"
        assert other.told("update") == [ALICE]

    def test_the_inbox_is_enough_where_somebody_looks_at_it(
        self, scene: Scene, troubles: Troubles
    ) -> None:
        troubles.add("send", ChannelError("no such channel", final=True))
        it = scene.ask(approvers=[ALICE, "user:bob"], via=["web", scene.recorder])
        it.vote("user:bob")
        assert it.result()[0] == "approved"

    def test_a_failing_update_never_fails_the_run(self, scene: Scene, troubles: Troubles) -> None:
        troubles.add("update", RuntimeError("gone"), times=99)
        it = scene.ask(approvers=[ALICE], remind=[DAY])
        scene.passes(2 * DAY)
        it.vote(ALICE)
        scene.passes(60)
        assert it.result() == ["approved", True, "the text"]
        assert failures(it.run) == {"remind-1-recorder-1": "gone", "close-recorder-1": "gone"}

    @pytest.mark.parametrize(
        "answer",
        [
            lambda notice: None,
            lambda notice: {"channel": "recorder"},
            lambda notice: Receipt(channel="x", to=(ALICE,), ref={}, at=notice.request.asked),
            lambda notice: Receipt(channel="recorder", to=(BOB,), ref={}, at=notice.request.asked),
        ],
    )
    def test_a_channel_of_ones_own_that_answers_wrong_is_told_so(
        self, scene: Scene, answer: Callable[[Any], Any]
    ) -> None:
        scene.recorder.send = answer  # type: ignore[method-assign]
        error = scene.ask(approvers=[ALICE]).error()
        assert error.type == "perdure.ApprovalError"
        assert "the channel 'recorder' " in error.message

    def test_an_escalation_that_reaches_nobody_leaves_the_others_to_decide(
        self, scene: Scene, other: Recorder
    ) -> None:
        from perdure.approvals import Escalation

        other.trouble = troubles = Troubles()
        troubles.add("send", ChannelError("no such channel", final=True))
        it = scene.ask(escalate=Escalation(DAY, [CAROL], via=other))
        scene.passes(2 * DAY)
        assert failures(it.run) == {"escalate-1-other-1": "no such channel"}
        it.vote(ALICE)
        assert it.result()[0] == "approved"


class TestResume:
    def test_where_nobody_could_be_told_the_run_fails_and_a_resume_sends_again(
        self, scene: Scene, troubles: Troubles
    ) -> None:
        troubles.add("send", ChannelError("wrong password", final=True))
        it = scene.ask(approvers=[ALICE])
        error = it.error()
        assert error.type == "perdure.ApprovalError"
        assert error.message == (
            "nobody could be told of 'approval': notify-recorder-1: wrong password. Mend the cause "
            "and resume the run"
        )
        scene.runner.engine.resume(it.run.id)
        it.settle()
        assert scene.recorder.told("send") == [ALICE]
        it.vote(ALICE)
        assert it.result()[0] == "approved"

    def test_all_channels_are_asked_again(
        self, scene: Scene, troubles: Troubles, other: Recorder
    ) -> None:
        other.trouble = troubles
        troubles.add("send", ChannelError("no network", final=True), times=4)
        it = scene.ask(via=[scene.recorder, other])
        message = it.error().message
        for step in ("notify-recorder-1", "notify-recorder-2", "notify-other-1", "notify-other-2"):
            assert f"{step}: no network" in message
        scene.runner.engine.resume(it.run.id)
        it.settle()
        assert scene.recorder.told("send") == other.told("send") == [ALICE, BOB]
        it.vote(BOB)
        assert it.result()[0] == "approved"

    def test_what_fails_for_good_after_many_attempts_may_be_resumed_too(
        self, scene: Scene, troubles: Troubles
    ) -> None:
        troubles.add("send", ConnectionError("no network"), times=6)
        it = scene.ask(approvers=[ALICE])
        scene.passes(600)
        assert "no network" in it.error().message
        scene.runner.engine.resume(it.run.id)
        it.settle()
        assert scene.recorder.told("send") == [ALICE]

    def test_a_resume_after_the_deadline_asks_nobody(
        self, scene: Scene, troubles: Troubles
    ) -> None:
        troubles.add("send", ChannelError("wrong password", final=True))
        it = scene.ask(approvers=[ALICE])
        it.error()
        scene.passes(4 * DAY)
        scene.runner.engine.resume(it.run.id)
        scene.passes(60)
        assert it.result()[0] == "expired"
        assert scene.recorder.lines() == []


def test_channels_may_change_in_the_code_while_people_decide(scene: Scene, other: Recorder) -> None:
    channels = [scene.recorder, other]
    it = scene.ask(via=channels)
    channels.pop()
    it.vote(ALICE)
    assert it.result()[0] == "approved"
    assert scene.recorder.told("update") == [ALICE, BOB]
    assert other.told("update") == []
