"""Steps of floors above: gated starts, notes and texts with them, and what a failure carries."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perdure.durable import ExecutionFailedError, LocalEngine, StepError, durable_execution
from perdure.durable.gated import Claim, annex, apart, run_of, value_of
from perdure.durable.gates import Hold, Link, Pass, Refuse, Verdict, chain
from perdure.durable.operations import ErrorObject, Operation
from perdure.durable.testing import Runner, check_replay

from .both import inner


class Scripted:
    """A gate that opens as it is told, and tries a failed attempt once more after a minute."""

    def __init__(self, openings: list[Any]) -> None:
        self.openings = openings
        self.carried: list[str | None] = []
        self.returns = 0

    def open(self, operation: Operation) -> Pass | Hold | Refuse:
        self.carried.append(operation.carried)
        opening = self.openings.pop(0)
        return opening(operation) if callable(opening) else opening

    def failed(self, operation: Operation, error: BaseException) -> Verdict:
        count = operation.attempt + 1
        kept = ErrorObject(str(error), "Kept", f'{{"attempts": {count}}}')
        return Verdict(kept, 60 if count == 1 else None)

    def interrupted(self, operation: Operation) -> Verdict | Hold:
        return self.failed(operation, RuntimeError("interrupted"))

    def returned(self, operation: Operation) -> None:
        self.returns += 1


async def gated(context: Any, gate: Scripted, body: Callable[[], Any], name: str = "paid") -> Any:
    return await value_of(Claim(inner(context), "Paid", name).run(gate, body))


def test_a_note_and_its_texts_are_recorded_with_the_start(
    make: Callable[..., Any], runner: Runner
) -> None:
    gate = Scripted([Pass("a note", chain(["one", "two"]))])

    async def handler(event: Any, context: Any) -> Any:
        return await gated(context, gate, lambda: 7)

    run = runner.start(make(handler))
    runner.run_until_idle()
    assert run.result() == 7
    (operation,) = run.operations().values()
    assert (operation.note, operation.subtype) == ("a note", "Paid")
    assert run.texts(chain(["one", "two"])[-1].hash.hex()) == ["one", "two"]
    assert run.texts(chain(["two"])[-1].hash.hex()) == []
    assert gate.returns == 1
    check_replay(run)


def test_chains_that_begin_alike_share_what_they_share(
    make: Callable[..., Any], runner: Runner
) -> None:
    long = [f"text {number}" for number in range(20)]

    async def handler(event: Any, context: Any) -> Any:
        for count in range(1, 21):
            gate = Scripted([Pass(None, chain(long[:count]))])
            await gated(context, gate, lambda: None, f"step-{count}")

    made = make(handler)
    runs = [runner.start(made, id=f"run-{number}") for number in range(2)]
    runner.run_until_idle()
    assert _count(runner, "chains") == 20
    runner.engine.delete(runs[0].id)
    assert _count(runner, "chains") == 20
    assert runs[1].texts(chain(long)[-1].hash.hex()) == long
    runner.engine.delete(runs[1].id)
    assert (_count(runner, "chains"), _count(runner, "blobs")) == (0, 0)


def test_a_refused_start_runs_nothing_and_fails_the_same_at_replay(
    make: Callable[..., Any], runner: Runner
) -> None:
    ran: list[int] = []
    refuse = Refuse(ValueError("too dear"), "why")
    gate = Scripted([refuse, refuse])

    async def handler(event: Any, context: Any) -> Any:
        try:
            await gated(context, gate, lambda: ran.append(1))
        except StepError as error:
            return str(error)

    run = runner.start(make(handler))
    runner.run_until_idle()
    assert run.result() == "'paid': Kept: too dear"
    assert ran == []
    check_replay(run)


def test_what_a_failure_carries_reaches_the_next_attempt_and_outlives_a_resume(
    make: Callable[..., Any], runner: Runner
) -> None:
    gate = Scripted([Pass("1"), Pass("2"), Pass("3")])
    outcomes: list[Any] = [ValueError("a"), ValueError("b"), "done"]

    def body() -> Any:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def handler(event: Any, context: Any) -> Any:
        return await gated(context, gate, body)

    run = runner.start(make(handler))
    runner.run_until_idle()
    with pytest.raises(ExecutionFailedError, match="Kept: b"):
        run.result()
    runner.engine.resume(run.id)
    runner.run_until_idle()
    assert run.result() == "done"
    assert gate.carried == [None, '{"attempts": 1}', '{"attempts": 2}']


def test_a_held_start_waits_for_another_operation(make: Callable[..., Any], runner: Runner) -> None:
    async def handler(event: Any, context: Any) -> Any:
        run = run_of(inner(context))

        def held(operation: Operation) -> Any:
            event = run.shared_event("permits", "permit", 0, None)
            return Pass() if event.closed else Hold(event)

        return await gated(context, Scripted([held] * 3), lambda: "went on")

    run = runner.start(make(handler))
    runner.run_until_idle()
    assert [wait.path for wait in run.waiting_for()] == ["permit"]
    runner.engine.send(run.id, "permit")
    runner.run_until_idle()
    assert run.result() == "went on"


def test_claims_beside_an_operation_are_never_mistaken_for_later_ones(
    make: Callable[..., Any], runner: Runner
) -> None:
    async def handler(event: Any, context: Any) -> Any:
        results = []
        for number in range(2):
            claim = Claim(inner(context), "Paid", "same")
            results.append(await value_of(claim.run(Scripted([Pass()]), lambda n=number: n)))
            beside = annex(inner(context), claim.operation)
            inside = Claim(beside, "Paid", "same")
            results.append(
                await value_of(inside.run(Scripted([Pass()]), lambda n=number: f"beside {n}"))
            )
        return results

    run = runner.start(make(handler))
    runner.run_until_idle()
    assert run.result() == [0, "beside 0", 1, "beside 1"]
    assert list(run.operations()) == ["same", "same/same", "same#2", "same#2/same"]
    check_replay(run)


def test_claims_apart_come_in_any_order(make: Callable[..., Any], runner: Runner) -> None:
    order = ["a", "b"]

    async def handler(event: Any, context: Any) -> Any:
        scope = apart(inner(context), "model")
        found = {}
        for name in order:
            claim = Claim(scope, "Paid", name, shared=True)
            found[name] = await value_of(claim.run(Scripted([Pass()]), lambda n=name: n * 2))
        return sorted(found.items())

    run = runner.start(make(handler))
    runner.run_until_idle()
    order.reverse()
    check_replay(run)


def test_a_journal_of_the_first_layout_is_brought_up_and_goes_on(tmp_path: Path) -> None:
    @durable_execution
    def handler(event: Any, context: Any) -> Any:
        first = context.step("first", lambda: "kept")
        return [first, context.wait(86_400, name="go")]

    path = tmp_path / "journal.db"
    with LocalEngine(path, handlers=[handler]) as engine:
        run = engine.start(handler, id="old")
        engine.wait_idle()
    with sqlite3.connect(path) as journal:
        for name in ("events_chain", "chains_before", "chains_text"):
            journal.execute(f"DROP INDEX {name}")
        journal.execute("DROP TABLE chains")
        journal.execute("DROP TABLE open_callbacks")
        journal.execute("ALTER TABLE events DROP COLUMN chain")
        journal.execute("PRAGMA user_version = 1")
    journal.close()
    with LocalEngine(path, handlers=[handler]) as engine:
        engine.send("old", "go", 1)
        assert engine.get(run.id).result(timeout=60) == ["kept", 1]


def test_a_chain_is_known_by_all_of_its_texts() -> None:
    links = chain(["a", "b"])
    assert links[0] == chain(["a"])[0]
    assert links[1].hash != chain(["b"])[0].hash
    assert isinstance(links[1], Link)
    assert links[1].before == links[0].hash


def _count(runner: Runner, table: str) -> int:
    with sqlite3.connect(runner.engine.path) as journal:
        return int(journal.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
