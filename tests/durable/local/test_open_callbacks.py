"""The open callbacks of a journal: found among all runs, and right through all that befalls one."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perdure.durable import (
    AsyncContext,
    CallbackClosedError,
    CallbackError,
    CallbackNotFoundError,
    Context,
    Duration,
    ExecutionNotFoundError,
    LocalEngine,
    OpenCallback,
    OperationStatus,
    durable_execution,
)
from perdure.durable.events import Event, EventKind
from perdure.durable.local import rows
from perdure.durable.names import ROOT, operation_id
from perdure.durable.testing import Crashed, Runner

DAY = Duration.from_days(1)
broken: set[str] = set()


@durable_execution(name="asks", timeout=Duration.from_days(20))
def asks(event: Any, context: Context) -> Any:
    """Ask for one thing after another, each with its own limits."""
    answers = []
    for name, limits in (event or {"answer": {}}).items():
        try:
            answers.append(context.callback(name, **limits).result())
        except CallbackError as error:
            answers.append(error.error_type)
    return answers


@durable_execution(name="strict", timeout=Duration.from_days(20))
def strict(event: Any, context: Context) -> Any:
    """Fail with a callback that fails, or with a step that does."""
    extra = context.callback("extra", timeout=Duration.from_days(9))
    value = context.callback("answer", timeout=DAY).result()

    def work() -> str:
        if context.execution_id in broken:
            raise RuntimeError("broken")
        return "done"

    return [value, context.step("work", work), extra.result()]


@durable_execution(name="held", hold_on_failure=True)
def held(event: Any, context: Context) -> None:
    context.step("fail", lambda: 1 / 0)


@durable_execution(name="nested")
def nested(event: Any, context: Context) -> Any:
    def scope(inner: Context) -> Any:
        request = inner.step("request", lambda: {"title": "Publish?"})
        answer = inner.callback("decision", timeout=DAY)
        inner.step("notify", lambda: None)
        return [request, answer.result()]

    context.step("before", lambda: "b")
    named = context.child("approval", scope)
    return [named, context.wait(DAY, name="go")]


HANDLERS = [asks, strict, held, nested]


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    broken.clear()
    with Runner(tmp_path / "journal.db", HANDLERS) as runner:
        yield runner


def names(engine: LocalEngine, **options: Any) -> list[str]:
    return [f"{each.execution_id}:{each.name}" for each in engine.open_callbacks(**options)]


def only(engine: LocalEngine) -> OpenCallback:
    (found,) = engine.open_callbacks()
    return found


def layout(path: Path) -> int:
    with closing(sqlite3.connect(path)) as journal:
        return int(journal.execute("PRAGMA user_version").fetchone()[0])


def test_an_open_callback_is_told_with_all_an_inbox_shows(runner: Runner) -> None:
    run = runner.start(nested, {}, "r")
    runner.settle()
    found = only(runner.engine)
    operations = run.operations()
    opened = operations["approval/decision"]
    (wait,) = run.waiting_for()
    assert (found.execution_id, found.handler, found.name) == ("r", "nested", "decision")
    assert (found.operation_id, found.parent) == (opened.id, operations["approval"].id)
    assert (found.callback_id, found.due) == (wait.callback_id, wait.due)
    assert (found.subtype, found.source) == ("Callback", run.info().source)
    assert found.created == runner.clock.moment()
    assert runner.engine.count_callbacks() == 1


def test_named_waits_are_among_them(runner: Runner) -> None:
    run = runner.start(nested, {}, "r")
    runner.settle()
    runner.engine.complete_callback(only(runner.engine).callback_id, "yes")
    runner.settle()
    found = only(runner.engine)
    assert (found.name, found.subtype, found.parent) == ("go", "WaitForEvent", None)
    runner.engine.complete_callback(found.callback_id)
    runner.settle()
    assert run.result(timeout=5) == [[{"title": "Publish?"}, "yes"], True]
    assert runner.engine.open_callbacks() == []


def test_they_come_newest_first_and_page_by_page(runner: Runner) -> None:
    for number in range(7):
        runner.start(asks, None, f"r{number}")
        runner.settle()
        runner.clock.advance(60)
    engine = runner.engine
    newest = [f"r{number}:answer" for number in reversed(range(7))]
    assert names(engine) == newest
    page = engine.open_callbacks(limit=3)
    engine.complete_callback(page[-1].callback_id, 1)
    assert names(engine, after=page[-1].cursor, limit=3) == newest[3:6]
    assert names(engine, after=engine.open_callbacks()[-1].cursor) == []
    assert engine.count_callbacks() == 6


def test_they_may_be_those_of_one_run(runner: Runner) -> None:
    for id in ("a", "b"):
        runner.start(strict, None, id)
    runner.settle()
    assert sorted(names(runner.engine, execution="b")) == ["b:answer", "b:extra"]
    with pytest.raises(ExecutionNotFoundError):
        runner.engine.open_callbacks(execution="c")


def test_one_that_is_past_its_time_is_left_out_before_anybody_ends_it(tmp_path: Path) -> None:
    with Runner(tmp_path / "journal.db", HANDLERS) as runner:
        runner.start(asks, {"short": {"timeout": 60}}, "r")
        runner.settle()
        clock = runner.clock
    clock.advance(60)
    with closing(LocalEngine(tmp_path / "journal.db", clock=clock)) as engine:
        assert (engine.open_callbacks(), engine.count_callbacks()) == ([], 0)


def test_heartbeats_move_the_time_it_is_due(runner: Runner) -> None:
    runner.start(asks, {"alive": {"timeout": 100, "heartbeat": 60}}, "r")
    runner.settle()
    begin = runner.clock.now()
    for at, due in ((30, 90), (80, 100)):
        runner.clock.set(begin + at * 1000)
        runner.engine.heartbeat_callback(only(runner.engine).callback_id)
        left = only(runner.engine).due
        assert left is not None
        assert round(left.timestamp() * 1000) == begin + due * 1000
    runner.run_until_idle()
    assert names(runner.engine) == []


def test_a_run_that_ends_takes_its_open_callbacks_along(runner: Runner) -> None:
    ends: dict[str, Callable[[str], Any]] = {
        "cancelled": runner.engine.cancel,
        "failed": lambda id: runner.engine.send(id, "answer", 1),
        "timed-out": lambda id: runner.clock.advance(Duration.from_days(20)),
    }
    broken.update(ends)
    for id, end in ends.items():
        runner.start(strict, None, id)
        runner.settle()
        assert len(names(runner.engine, execution=id)) == 2
        end(id)
        runner.settle()
        assert runner.engine.info(id).status != "RUNNING"
        assert names(runner.engine) == []
    runner.engine.delete("cancelled")
    assert runner.engine.count_callbacks() == 0


def test_a_resume_brings_back_what_is_open_again(runner: Runner) -> None:
    broken.add("r")
    run = runner.start(strict, None, "r")
    runner.settle()
    runner.engine.send("r", "answer", "yes")
    runner.settle()
    assert (run.status, names(runner.engine)) == ("FAILED", [])
    broken.clear()
    runner.engine.resume("r")
    runner.settle()
    assert names(runner.engine) == ["r:extra"]
    runner.engine.send("r", "extra", 2)
    runner.settle()
    assert run.result(timeout=5) == ["yes", "done", 2]


def test_a_callback_that_a_resume_reopens_may_be_answered_now(runner: Runner) -> None:
    run = runner.start(strict, None, "r")
    runner.settle()
    runner.clock.advance(DAY)
    runner.settle()
    assert (run.status, names(runner.engine)) == ("FAILED", [])
    runner.engine.resume("r")
    runner.settle()
    assert sorted(names(runner.engine)) == ["r:answer", "r:extra"]
    due = next(each.due for each in runner.engine.open_callbacks() if each.name == "answer")
    assert due is not None
    assert (due - runner.clock.moment()).total_seconds() == 86_400
    for name in ("answer", "extra"):
        runner.engine.send("r", name, name)
        runner.settle()
    assert run.result(timeout=5) == ["answer", "done", "extra"]


def test_what_holds_a_failed_run_open_is_nobodys_to_answer(runner: Runner) -> None:
    run = runner.start(held, None, "r")
    runner.settle()
    assert [wait.kind for wait in run.waiting_for()] == ["callback"]
    assert (runner.engine.open_callbacks(), runner.engine.count_callbacks()) == ([], 0)
    runner.engine.resume("r")
    runner.settle()
    assert runner.engine.count_callbacks() == 0


def test_the_operations_of_one_scope_are_read_without_the_others(runner: Runner) -> None:
    run = runner.start(nested, {}, "r")
    runner.settle()
    scope = only(runner.engine).parent
    inside = {each.name: each for each in runner.engine.children("r", scope)}
    whole = {path: each for path, each in run.operations().items() if each.parent == scope}
    assert sorted(inside) == ["decision", "notify", "request"]
    for name, each in inside.items():
        other = whole[f"approval/{name}"]
        assert (each.status, each.payload, each.due) == (other.status, other.payload, other.due)
    assert inside["decision"].callback_id == only(runner.engine).callback_id
    assert [each.name for each in runner.engine.children("r", None)] == ["before", "approval"]
    assert runner.engine.children("r", inside["request"].id) == []
    with pytest.raises(ExecutionNotFoundError):
        runner.engine.children("none", None)


def test_a_callback_is_looked_up_by_its_id_open_and_closed(runner: Runner) -> None:
    runner.start(asks, None, "r")
    runner.settle()
    id = only(runner.engine).callback_id
    info, operation = runner.engine.callback(id)
    assert (info.id, info.status) == ("r", "RUNNING")
    assert (operation.status, operation.callback_id) == (OperationStatus.STARTED, id)
    runner.engine.complete_callback(id, {"kind": "approved"})
    runner.settle()
    info, operation = runner.engine.callback(id)
    assert info.status == "SUCCEEDED"
    assert (operation.closed, operation.payload) == (True, '{"kind": "approved"}')
    runner.engine.delete("r")
    for unknown in (id, "nonsense", "é"):
        with pytest.raises(CallbackNotFoundError):
            runner.engine.callback(unknown)


@pytest.mark.parametrize("version", [1, 2])
def test_a_journal_of_an_older_layout_is_brought_up_with_what_is_open_in_it(
    tmp_path: Path, version: int
) -> None:
    path = tmp_path / "journal.db"
    with Runner(path, HANDLERS) as runner:
        for id in ("a", "b", "gone"):
            runner.start(strict, None, id)
        runner.start(asks, {"alive": {"heartbeat": DAY}, "other": {}}, "beats")
        runner.settle()
        runner.clock.advance(3_600)
        runner.engine.heartbeat_callback(runner.engine.open_callbacks()[0].callback_id)
        runner.engine.send("a", "extra", 1)
        runner.engine.cancel("gone")
        runner.settle()
        before = {each.callback_id: each for each in runner.engine.open_callbacks()}
        clock = runner.clock
    with closing(sqlite3.connect(path)) as journal:
        journal.execute("DROP TABLE open_callbacks")
        if version == 1:
            for name in ("events_chain", "chains_before", "chains_text"):
                journal.execute(f"DROP INDEX {name}")
            journal.execute("DROP TABLE chains")
            journal.execute("ALTER TABLE events DROP COLUMN chain")
        journal.execute(f"PRAGMA user_version = {version}")
    with closing(LocalEngine(path, clock=clock)) as engine:
        after = {each.callback_id: each for each in engine.open_callbacks()}
        assert sorted(after) == sorted(before)
        for id, each in after.items():
            assert (each.created, each.due) == (before[id].created, before[id].due)
    assert layout(path) == 3


def test_an_id_seen_open_is_closed_for_good_once_it_was_answered(runner: Runner) -> None:
    runner.start(asks, {"one": {}, "two": {}}, "r")
    runner.settle()
    first = only(runner.engine)
    runner.engine.fail_callback(first.callback_id, "no")
    runner.settle()
    assert only(runner.engine).name == "two"
    for verb in (runner.engine.complete_callback, runner.engine.fail_callback):
        with pytest.raises(CallbackClosedError):
            verb(first.callback_id)


VERBS = ("complete", "fail", "heartbeat", "cancel", "resume", "delete")
OTHERS = ("start", "advance", "restart", "crash")
ACTS = st.lists(
    st.tuples(st.sampled_from(VERBS + OTHERS), st.integers(0, 5)), min_size=3, max_size=14
)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(acts=ACTS)
def test_the_listing_is_what_the_events_say_whatever_happens(
    tmp_path_factory: pytest.TempPathFactory, acts: list[tuple[str, int]]
) -> None:
    path = tmp_path_factory.mktemp("acts") / "journal.db"
    broken.clear()
    with Runner(path, HANDLERS) as runner:
        for number in range(2):
            _start(runner, number)
        for act, number in acts:
            try:
                _act(runner, act, number)
            except Crashed:
                assert runner.engine.killed
            if runner.engine.killed:
                runner.restart()
                runner.settle()
            _check(runner)


def _start(runner: Runner, number: int) -> None:
    limits = {"alive": {"heartbeat": 40_000, "timeout": 100_000}, "free": {}}
    runner.start(strict if number % 2 else asks, None if number % 2 else limits, f"r{number}")
    runner.settle()


def _act(runner: Runner, act: str, number: int) -> None:
    engine = runner.engine
    opened = engine.open_callbacks()
    ended = [each.id for each in engine.list() if each.status != "RUNNING"]
    failed = [each.id for each in engine.list(status="FAILED")]
    chosen = opened[number % len(opened)] if opened else None
    if act == "start":
        _start(runner, number)
    elif act == "advance":
        runner.clock.advance(20_000 * (number + 1))
    elif act == "restart":
        runner.restart()
    elif act == "crash":
        runner.crash_after(number)
        broken.symmetric_difference_update({f"r{number}"})
    elif act == "resume" and failed:
        engine.resume(failed[number % len(failed)])
    elif act == "delete" and ended:
        engine.delete(ended[number % len(ended)])
    elif chosen is not None:
        _answer(engine, act, chosen)
    runner.settle()


def _answer(engine: LocalEngine, act: str, chosen: OpenCallback) -> None:
    if act == "complete":
        engine.complete_callback(chosen.callback_id, 1)
    elif act == "fail":
        engine.fail_callback(chosen.callback_id, "no")
    elif act == "heartbeat":
        engine.heartbeat_callback(chosen.callback_id)
    elif act == "cancel":
        engine.cancel(chosen.execution_id)


def _check(runner: Runner) -> None:
    engine = runner.engine
    now = runner.clock.moment()
    told = {
        wait.callback_id: wait.due
        for info in engine.list()
        for wait in engine.waiting_for(info.id)
        if wait.callback_id is not None and (wait.due is None or wait.due > now)
    }
    assert {each.callback_id: each.due for each in engine.open_callbacks()} == told
    assert engine.count_callbacks() == len(told)


@durable_execution(name="inbox")
async def inbox(event: Any, context: AsyncContext) -> Any:
    return await (await context.callback("answer", timeout=DAY)).result()


@pytest.mark.full
@pytest.mark.timeout(900)
def test_ten_thousand_are_listed_at_once_beside_a_million_that_are_closed(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with LocalEngine(path, [inbox]) as engine:
        done = engine.start(inbox, id="done")
        while not (found := engine.open_callbacks()):
            engine.wait_idle()
        engine.complete_callback(found[0].callback_id, 1)
        done.result(timeout=60)
        with closing(sqlite3.connect(path)) as journal, journal:
            for run in range(10_000):
                rows.insert(journal, 1_000_000 + run, 0, _closed(100))
        for first in range(0, 10_000, 1_000):
            engine.start_many(inbox, [(n, f"r{n}") for n in range(first, first + 1_000)])
            engine.wait_idle()
        assert engine.count_callbacks() == 10_000
        for ask in (engine.open_callbacks, engine.count_callbacks):
            took = []
            for _ in range(5):
                begin = time.perf_counter()
                ask()
                took.append(time.perf_counter() - begin)
            assert min(took) < 0.02


def _closed(count: int) -> list[Event]:
    events = []
    for number in range(count):
        id = operation_id(ROOT, "answer", number)
        for kind in (EventKind.CALLBACK_STARTED, EventKind.CALLBACK_SUCCEEDED):
            events.append(Event(kind, 1, id, None, "answer", "Callback"))
    return events
