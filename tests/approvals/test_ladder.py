"""Reminders and escalations: each once, when it is due, and none after the decision."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.approvals import Escalation
from perdure.durable import Duration, LocalEngine
from perdure.durable.testing import ManualClock

from .recorder import Recorder
from .scene import ALICE, BOB, CAROL, DAVE, DAY, Asked, Scene

START = 1_767_225_600


def ask(scene: Scene, **terms: Any) -> Asked:
    given = {"remind": [DAY, 2 * DAY], "escalate": Escalation(1.5 * DAY, [CAROL])} | terms
    return scene.ask(**given)


def when(scene: Scene, what: str, kind: str) -> list[tuple[str, float]]:
    """Who was told, and after how many days."""
    return sorted(
        (name, (line["now"] - START) / DAY)
        for line in scene.recorder.lines(what, kind)
        for name in line["to"]
    )


def test_each_rung_is_climbed_once_and_when_it_is_due(scene: Scene) -> None:
    it = ask(scene)
    scene.runner.run_until_idle()
    assert when(scene, "send", "request") == [(ALICE, 0), (BOB, 0), (CAROL, 1.5)]
    assert when(scene, "update", "reminder") == [
        (ALICE, 1),
        (ALICE, 2),
        (BOB, 1),
        (BOB, 2),
        (CAROL, 2),
    ]
    assert [each["number"] for each in scene.recorder.lines("update", "reminder")].count(2) == 3
    assert when(scene, "update", "closed") == [(ALICE, 3), (BOB, 3), (CAROL, 3)]
    assert it.result() == ["expired", False, "the text"]


def test_nobody_is_reminded_of_what_is_decided(scene: Scene, clock: ManualClock) -> None:
    it = ask(scene)
    it.vote(BOB)
    assert it.result()[0] == "approved"
    clock.advance(10 * DAY)
    scene.runner.run_until_idle()
    assert scene.recorder.lines(kind="reminder") == []
    assert scene.recorder.told("send") == [ALICE, BOB]


def test_a_decision_between_two_rungs_ends_the_ladder(scene: Scene, clock: ManualClock) -> None:
    it = ask(scene)
    clock.advance(DAY + 1)
    it.settle()
    it.vote(ALICE)
    assert it.result()[0] == "approved"
    scene.runner.run_until_idle()
    assert len(scene.recorder.lines("update", "reminder")) == 2
    assert scene.recorder.told("update", "closed") == [ALICE, BOB]


def test_who_is_asked_later_may_decide_and_is_told_the_outcome(scene: Scene) -> None:
    it = ask(scene)
    scene.passes(1.75 * DAY)
    it.vote(CAROL)
    assert it.result()[0] == "approved"
    assert scene.recorder.told("update", "closed") == [ALICE, BOB, CAROL]


def test_an_escalation_takes_channels_of_its_own(scene: Scene, clock: ManualClock) -> None:
    pager = Recorder(scene.recorder.path, "pager")
    it = ask(scene, escalate=Escalation(DAY, [CAROL], via=[pager]), remind=())
    clock.advance(DAY + 1)
    it.settle()
    assert (pager.told("send"), scene.recorder.told("send")) == ([CAROL], [ALICE, BOB])
    it.vote(CAROL)
    assert it.result()[0] == "approved"
    assert pager.told("update", "closed") == [CAROL]


def test_two_escalations_are_told_apart(scene: Scene) -> None:
    it = ask(scene, escalate=[Escalation(2 * DAY, [DAVE]), Escalation(DAY, [CAROL])], remind=())
    scene.runner.run_until_idle()
    assert when(scene, "send", "request")[2:] == [(CAROL, 1), (DAVE, 2)]
    assert scene.recorder.told("update", "closed") == [ALICE, BOB, CAROL, DAVE]
    assert it.result()[0] == "expired"


def test_a_rung_takes_one_invocation_and_the_time_between_none(scene: Scene) -> None:
    runs = [0]

    def subject() -> str:
        runs[0] += 1
        return "the text"

    it = ask(scene, subject=subject, remind=[DAY, 2 * DAY], escalate=())
    assert runs == [1]
    scene.runner.run_until_idle()
    assert it.run.status == "SUCCEEDED"
    assert runs == [1 + 2 + 1]


@pytest.mark.parametrize("days", [1.6, 3.0, 5.0, 30.0])
def test_a_server_that_was_down_for_days_decides_right_and_catches_up(
    scene: Scene, clock: ManualClock, days: float
) -> None:
    it = ask(scene)
    clock.advance(Duration.from_days(days))
    it.settle()
    if days < 3:
        assert it.run.status == "RUNNING"
        it.vote(CAROL)
        scene.runner.run_until_idle()
        assert it.result() == ["approved", True, "the text"]
    else:
        scene.runner.run_until_idle()
        assert it.result() == ["expired", False, "the text"]
    assert all(count == 1 for count in counts(scene, "send").values())


def test_a_vote_while_the_server_was_down_counts_however_late_it_is_heard(
    scene: Scene, clock: ManualClock
) -> None:
    it = ask(scene)
    clock.advance(DAY / 2)
    it.settle()
    scene.runner.engine.close()
    with LocalEngine(scene.runner.engine.path, clock=clock) as other:
        elsewhere = Asked(scene.runner, scene.office, other.get(it.run.id))
        elsewhere.engine = other
        assert elsewhere.vote(BOB).kind == "recorded"
    clock.advance(30 * DAY)
    assert scene.restarted(it).result() == ["approved", True, "the text"]


def test_a_timeout_of_nearly_a_year_may_be_reminded_of(scene: Scene) -> None:
    it = scene.ask(timeout=365.9 * DAY, remind=[60])
    scene.runner.run_until_idle()
    assert it.result()[0] == "expired"


def counts(scene: Scene, what: str) -> dict[str, int]:
    told = scene.recorder.told(what)
    return {name: told.count(name) for name in told}


def test_a_ladder_replays_from_what_is_recorded(scene: Scene) -> None:
    it = ask(scene)
    scene.passes(1.75 * DAY)
    before = it.names()
    it = scene.restarted(it)
    assert it.names() == before
    it.vote(CAROL)
    assert it.result()[0] == "approved"
    assert counts(scene, "send") == {ALICE: 1, BOB: 1, CAROL: 1}
