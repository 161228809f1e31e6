"""Many at once: one decision is recorded, and everybody is told the truth about it."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from perdure.approvals import Unavailable
from perdure.approvals.callbacks import Callbacks
from perdure.approvals.http import Response
from perdure.approvals.receiver import Receiver
from perdure.durable.testing import ManualClock

from .ways import ALICE, BOB, CAROL, Asks, post, words

WORDS = {"approve": "approved", "reject": "rejected"}


@pytest.mark.parametrize("seed", range(5))
def test_of_fifty_presses_at_once_one_counts(asks: Asks, seed: int) -> None:
    fifty_at_once(asks, seed)


@pytest.mark.full
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("seed", range(200))
def test_of_fifty_presses_at_once_one_counts_however_often(asks: Asks, seed: int) -> None:
    fifty_at_once(asks, 1000 + seed)


def fifty_at_once(asks: Asks, seed: int) -> None:
    """Press approve and reject on three links from 50 threads, and compare what each is told."""
    dice = random.Random(seed)
    it = asks(approvers=[ALICE, BOB, CAROL])
    presses = [(dice.choice(list(WORDS)), dice.choice([ALICE, BOB, CAROL])) for _ in range(50)]
    answers = at_once([lambda press=press: it.press(*press) for press in presses])
    [recorded] = it.votes()
    told_truly(presses, answers, recorded)
    assert it.result() == recorded.kept()
    # Those who come back later are told the same.
    told_truly(presses, [it.press(*press) for press in presses], recorded, before=True)


def told_truly(
    presses: Sequence[tuple[str, str]],
    answers: Sequence[Response],
    recorded: Any,
    *,
    before: bool = False,
) -> None:
    first = 0
    for (decision, approver), answer in zip(presses, answers, strict=True):
        text = words(answer)
        mine = approver == recorded.approver and WORDS[decision] == recorded.kind
        assert answer.status == 200
        assert f"{recorded.kind} by {recorded.approver}, " in text
        if not mine:
            assert f"Already {recorded.kind} by {recorded.approver}, " in text
        elif f"Recorded: {recorded.kind} by " in text:
            first += 1
        else:
            assert f"This was recorded before: {recorded.kind} by " in text
    assert first == (0 if before else 1)


@pytest.mark.parametrize("seed", range(50))
def test_a_press_at_the_deadline_is_recorded_or_too_late(
    asks: Asks, clock: ManualClock, seed: int
) -> None:
    at_the_deadline(asks, clock, seed)


@pytest.mark.full
@pytest.mark.timeout(3000)
def test_a_press_at_the_deadline_a_thousand_times(asks: Asks, clock: ManualClock) -> None:
    ends = [at_the_deadline(asks, clock, 10_000 + seed) for seed in range(1000)]
    assert {"approved", "expired"} <= set(ends)


def at_the_deadline(asks: Asks, clock: ManualClock, seed: int) -> str:
    """Press while the clock jumps about the deadline; page, journal and run have to agree."""
    dice = random.Random(seed)
    it = asks(timeout=60)
    deadline = round(it.standing.request.deadline.timestamp() * 1000)
    moves = sorted(deadline + dice.choice([-2, -1, 0, 0, 0, 1, 2, 999, 1000]) for _ in range(3))
    clock.set(deadline - 5)

    def tick() -> None:
        for move in moves:
            clock.set(move)

    answer, _ = at_once([lambda: it.press("approve"), tick])
    clock.set(deadline + 1001)
    kind = str(it.result()["kind"])
    text = words(answer)
    if kind == "approved":
        assert answer.status == 200
        assert "Recorded: approved by" in text
        assert [each.kind for each in it.votes()] == ["approved"]
    else:
        assert kind == "expired"
        assert answer.status == 410
        assert "Time was up" in text
        assert it.votes() == []
    assert (kind == "approved") == ("Already approved" in words(it.press("reject", BOB)))
    return kind


@pytest.mark.parametrize("seed", range(10))
def test_a_press_while_the_run_is_cancelled_is_recorded_or_withdrawn(asks: Asks, seed: int) -> None:
    it = asks()
    answer, _ = at_once([lambda: it.press("approve"), it.run.cancel])
    votes = it.votes()
    if votes:
        assert "Recorded: approved by" in words(answer)
    else:
        assert answer.status == 410
        assert "withdrawn" in words(answer)


@pytest.mark.parametrize("seed", range(5))
def test_in_a_quorum_each_ballot_takes_one_vote(asks: Asks, seed: int) -> None:
    dice = random.Random(seed)
    it = asks(approvers=[ALICE, BOB, CAROL], required=3, veto=False)
    presses = [(dice.choice(list(WORDS)), dice.choice([ALICE, BOB, CAROL])) for _ in range(50)]
    answers = at_once([lambda press=press: it.press(*press) for press in presses])
    recorded = {each.approver: each.kind for each in it.votes()}
    for approver, kind in recorded.items():
        mine = [
            words(answer)
            for (decision, who), answer in zip(presses, answers, strict=True)
            if who == approver and WORDS[decision] == kind
        ]
        assert sum("Your vote is recorded:" in each for each in mine) == 1
    claimed = sum("Your vote is recorded:" in words(answer) for answer in answers)
    assert claimed == len(recorded)
    assert it.result()["kind"] in ("approved", "rejected")


class Cut:
    """A connection to the engine that breaks after the engine has recorded."""

    def __init__(self, engine: Callbacks) -> None:
        self._engine = engine
        self.lookup, self.inbox = engine.lookup, engine.inbox
        self.sent = 0

    def complete(self, callback: str, payload: str) -> Any:
        self.sent += 1
        self._engine.complete(callback, payload)
        raise Unavailable("cut")


def test_a_connection_cut_after_the_completion_is_no_second_one(asks: Asks) -> None:
    it = asks()
    cut = Cut(it.callbacks)
    receiver = Receiver(it.office, cut)
    link = it.box.links[ALICE]
    assert "Recorded: approved by" in words(post(receiver, link, decision="approve"))
    assert cut.sent == 1
    assert "recorded before: approved by" in words(post(receiver, link, decision="approve"))
    other = post(receiver, it.box.links[BOB], decision="reject")
    assert f"Already approved by {ALICE}" in words(other)
    assert cut.sent == 1
    assert it.result()["kind"] == "approved"


def at_once(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Make calls from as many threads, let go together."""
    gate = threading.Barrier(len(calls))

    def go(call: Callable[[], Any]) -> Any:
        gate.wait(30)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(go, calls))
