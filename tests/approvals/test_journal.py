"""The inbox and the look-up over a real journal: each request once, what is open, no more."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perdure.approvals import Unavailable, await_approval
from perdure.approvals.callbacks import OpenWait, Standing
from perdure.approvals.journal import LocalCallbacks
from perdure.approvals.office import Office
from perdure.durable import Duration, LocalEngine, durable_execution
from perdure.durable.testing import ManualClock, Runner

from .ways import ALICE, BOB, CAROL, Asks, run_of


@durable_execution(name="maps")
def maps(event: Any, context: Any) -> Any:
    def one(inner: Any, item: str) -> Any:
        return inner.wait(Duration.from_hours(1), name="go")

    return list(context.map("each", ["a", "b"], one))


@durable_execution(name="quorums")
def quorums(event: Any, context: Any) -> Any:
    everyone = ["user:alice", "user:bob", "user:carol"]
    return await_approval(context, event, approvers=everyone, required=2).kind


def test_a_quorum_is_one_entry_on_whatever_page(runner: Runner) -> None:
    runner.engine.start_many(quorums, [(n, f"q{n}") for n in range(10)])
    runner.settle()
    callbacks = LocalCallbacks(runner.engine)
    for limit in (1, 2, 3, 7, 50):
        found: list[Any] = []
        page = callbacks.inbox(limit=limit)
        found += page.entries
        while page.next is not None:
            page = callbacks.inbox(page.next, limit)
            assert len(page.entries) <= limit
            found += page.entries
        assert sorted(map(run_of, found)) == sorted(f"q{n}" for n in range(10))
    assert callbacks.inbox().count == 10


def test_a_quorum_stays_one_entry_while_its_votes_come_in(asks: Asks) -> None:
    it = asks(approvers=[ALICE, BOB, CAROL], required=3)
    for approver in (CAROL, BOB):
        it.press("approve", approver)
        [entry] = it.callbacks.inbox().entries
        assert isinstance(entry, Standing)
    assert [(each.approver, each.open) for each in entry.ballots] == [
        (ALICE, True),
        (BOB, False),
        (CAROL, False),
    ]


def test_a_named_wait_is_addressed_by_its_path(runner: Runner) -> None:
    run = runner.start(maps)
    runner.settle()
    callbacks = LocalCallbacks(runner.engine)
    entries = [each for each in callbacks.inbox().entries if isinstance(each, OpenWait)]
    assert sorted(each.path for each in entries) == ["each[0]/go", "each[1]/go"]
    for each in entries:
        assert callbacks.lookup(run.id, each.operation) == each
        runner.engine.send(run.id, each.path, each.path)
        assert callbacks.lookup(run.id, each.operation) is None
    assert sorted(run.result(timeout=5)) == ["each[0]/go", "each[1]/go"]


def test_what_is_over_is_not_in_the_inbox(asks: Asks, clock: ManualClock) -> None:
    decided, cancelled, expired = asks(), asks(), asks()
    decided.press("approve")
    cancelled.run.cancel()
    clock.advance(3601)
    page = expired.callbacks.inbox()
    assert (page.entries, page.count, page.next) == ((), 0, None)
    ends = [each.standing.ballots[0].ended for each in (cancelled, expired)]
    expired.result()
    assert ends[0] == "withdrawn"
    assert expired.standing.ballots[0].ended == "timed out"
    assert not expired.standing.is_open


def test_what_is_not_there_is_none(runner: Runner, asks: Asks) -> None:
    it = asks()
    for run, operation in (("no", "no"), (it.run.id, "no"), (it.run.id, ""), ("", "")):
        assert it.callbacks.lookup(run, operation) is None
    for callback in ("", "no", "é", "MS5ubw=="):
        assert it.callbacks.complete(callback, "true") == "closed"


def test_a_decision_is_known_once_the_handler_went_on_with_it(asks: Asks, runner: Runner) -> None:
    it = asks()
    assert it.standing.decision is None
    it.press("approve")
    kept = it.result()
    assert it.standing.decision is not None
    assert it.standing.decision.kept() == kept
    assert it.standing.status == "SUCCEEDED"


def test_a_journal_that_cannot_be_written_or_read_is_unavailable(
    asks: Asks, runner: Runner, tmp_path: Path
) -> None:
    it = asks()
    [ballot] = it.standing.ballots
    runner.crash_after(0)
    with pytest.raises(Unavailable):
        it.callbacks.complete(ballot.callback, "true")
    assert it.standing.is_open
    runner.restart()
    damaged = LocalEngine(tmp_path / "other.db")
    callbacks = LocalCallbacks(damaged)
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("DROP TABLE executions")
    for ask in (lambda: callbacks.lookup("x", "y"), callbacks.inbox):
        with pytest.raises(Unavailable):
            ask()
    damaged.close()


@pytest.mark.full
@pytest.mark.timeout(900)
def test_a_page_of_the_inbox_of_ten_thousand_runs_is_quick(runner: Runner, office: Office) -> None:
    runner.engine.start_many(quorums, [(n, f"q{n}") for n in range(10_000)])
    runner.settle(800)
    callbacks = LocalCallbacks(runner.engine)
    took = []
    cursor = None
    for _ in range(10):
        begun = time.perf_counter()
        page = callbacks.inbox(cursor)
        took.append(time.perf_counter() - begun)
        cursor = page.next
        assert len(page.entries) == 50
    print(f"pages of 50 among 10,000 runs: {[f'{each * 1000:.0f} ms' for each in took]}")
    assert sorted(took)[5] < 0.3


class Meanwhile:
    """An engine in which something happens right before one of the reads of a look-up."""

    def __init__(self, engine: LocalEngine, reads: int, happen: Callable[[], Any]) -> None:
        self._engine = engine
        self._left = reads
        self._happen = happen

    def __getattr__(self, name: str) -> Any:
        self._left -= 1
        if self._left == 0:
            self._happen()
        return getattr(self._engine, name)


@pytest.mark.parametrize("reads", [1, 2, 3])
def test_a_decision_during_a_look_is_seen_or_still_open_and_never_a_withdrawal(
    asks: Asks, reads: int
) -> None:
    it = asks()
    request = it.standing.request

    def decide() -> None:
        it.press("approve")
        it.result()

    engine: Any = Meanwhile(it.runner.engine, reads, decide)
    standing = LocalCallbacks(engine).lookup(request.execution, request.operation)
    assert isinstance(standing, Standing)
    [ballot] = standing.ballots
    assert ballot.ended is None
    assert ballot.open or ballot.vote is not None
