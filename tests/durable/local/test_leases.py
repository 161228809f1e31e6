"""Who holds a run: leases, closing and reopening, and work that nobody here can do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perdure.durable import (
    AsyncContext,
    Context,
    ExecutionFailedError,
    HandlerNotFoundError,
    LocalEngine,
    durable_execution,
)

from ...waiting import until

TIMEOUT = 30.0


class Gate:
    """Bodies that have begun, and what lets them end."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.open = threading.Event()

    def body(self, name: str) -> str:
        self.begun.append(name)
        assert self.open.wait(TIMEOUT)
        return name


_gate = Gate()


@durable_execution(name="gated")
def gated(event: Any, context: Context) -> list[str]:
    return [context.step("first", _gate.body, "first"), context.step("last", _gate.body, "last")]


@durable_execution(name="gated.async")
async def gated_async(event: Any, context: AsyncContext) -> list[str]:
    first = await context.step("first", _gate.body, "first")
    return [first, await context.step("last", _gate.body, "last")]


@durable_execution(name="gated.branches")
def branches(event: Any, context: Context) -> list[str]:
    return list(context.map("all", ["a", "b"], lambda c, name: c.step(name, _gate.body, name)))


@durable_execution(name="wide.async")
async def wide(event: int, context: AsyncContext) -> int:
    await context.sleep(0.02)
    return await context.step("double", lambda: event * 2)


@pytest.fixture(autouse=True)
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate()
    monkeypatch.setitem(globals(), "_gate", gate)
    yield gate
    gate.open.set()


def close_in_thread(engine: LocalEngine) -> threading.Thread:
    thread = threading.Thread(target=engine.close, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("handler", [gated, gated_async], ids=["sync", "async"])
def test_closing_waits_for_the_body_in_flight_and_reopening_goes_on(
    tmp_path: Path, gate: Gate, handler: Any
) -> None:
    engine = LocalEngine(tmp_path / "journal.db", [handler])
    engine.serve()
    engine.start(handler, None, "run")
    until(lambda: gate.begun)
    closing = close_in_thread(engine)
    until(lambda: engine._worker.closing)
    assert closing.is_alive()
    gate.open.set()
    closing.join(TIMEOUT)
    assert not closing.is_alive()
    assert gate.begun == ["first"], "a step was begun while the engine closed"
    with LocalEngine(tmp_path / "journal.db", [handler]) as again:
        assert again.get("run").result(timeout=TIMEOUT) == ["first", "last"]
    assert gate.begun == ["first", "last"]


def test_closing_waits_for_the_bodies_of_branches(tmp_path: Path, gate: Gate) -> None:
    engine = LocalEngine(tmp_path / "journal.db", [branches])
    engine.serve()
    engine.start(branches, None, "run")
    until(lambda: len(gate.begun) == 2)
    closing = close_in_thread(engine)
    until(lambda: engine._worker.closing)
    gate.open.set()
    closing.join(TIMEOUT)
    assert not closing.is_alive()
    with LocalEngine(tmp_path / "journal.db", [branches]) as again:
        assert again.get("run").result(timeout=TIMEOUT) == ["a", "b"]
    assert sorted(gate.begun) == ["a", "b"]


def test_a_closed_engine_holds_nothing(tmp_path: Path, gate: Gate) -> None:
    gate.open.set()
    with LocalEngine(tmp_path / "journal.db", [gated]) as engine:
        for n in range(10):
            engine.start(gated, n)
    with LocalEngine(tmp_path / "journal.db") as again:
        assert not any(info.active for info in again.list())
    assert sorted(each.name for each in tmp_path.iterdir()) == ["journal.db"]


def test_thousands_of_async_runs_go_side_by_side(tmp_path: Path) -> None:
    with LocalEngine(tmp_path / "journal.db", [wide]) as engine:
        runs = engine.start_many(wide, [(n, None) for n in range(2000)])
        assert [run.result(timeout=TIMEOUT) for run in runs] == [n * 2 for n in range(2000)]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_sync_runs_wait_for_a_thread_and_all_end(tmp_path: Path, gate: Gate, threads: int) -> None:
    gate.open.set()
    with LocalEngine(tmp_path / "journal.db", [branches], threads=threads) as engine:
        runs = engine.start_many(branches, [(n, None) for n in range(20)])
        assert [run.result(timeout=TIMEOUT) for run in runs] == [["a", "b"]] * 20


def test_a_run_whose_handler_nobody_has_says_so_and_is_kept(tmp_path: Path, gate: Gate) -> None:
    gate.open.set()
    with LocalEngine(tmp_path / "journal.db", [gated_async]) as engine:
        run = engine.start("gated", None, "run")
        with pytest.raises(HandlerNotFoundError, match=r"'gated' is not .*gated\.async.*is kept"):
            run.result(timeout=TIMEOUT)
        assert run.status == "RUNNING"
        engine.register(gated)
        engine.serve()
        engine._worker.poke()
        assert run.result(timeout=TIMEOUT) == ["first", "last"]


def test_a_handler_registered_later_takes_up_what_waits_for_it(tmp_path: Path, gate: Gate) -> None:
    gate.open.set()
    with LocalEngine(tmp_path / "journal.db", [gated_async]) as engine:
        run = engine.start("gated", None, "run")
        engine.wait_idle(TIMEOUT)
        engine.register(gated)
        assert run.result(timeout=TIMEOUT) == ["first", "last"]


def test_a_run_of_a_dead_process_whose_handler_nobody_has_says_so(
    processes: Any, nursery: Any, place: Any
) -> None:
    pipelines = Path(__file__).with_name("pipelines.py")
    worker = nursery.worker(place, pipelines, start=["held", None, "run"])
    processes.until(lambda: place.names("hold"), "the body that holds")
    worker.kill()
    with place.engine() as engine, pytest.raises(HandlerNotFoundError, match="'held' is not"):
        engine.get("run").result(timeout=TIMEOUT)


def test_whoever_only_looks_sees_the_end_of_a_run_served_later(
    processes: Any, nursery: Any, place: Any
) -> None:
    pipelines = Path(__file__).with_name("pipelines.py")
    worker = nursery.worker(place, pipelines)
    results: list[Any] = []
    with place.engine() as engine:
        run = engine.start("asks", None, "run")
        (wait,) = processes.until(run.waiting_for, "the callback")
        processes.until(lambda: not run.info().active, "the suspension")
        worker.close()
        waiting = threading.Thread(target=lambda: results.append(run.result(timeout=TIMEOUT)))
        waiting.start()
        with place.engine() as other:
            nursery.worker(place, pipelines)
            other.complete_callback(wait.callback_id, "late")
        waiting.join(TIMEOUT)
    assert results == ["late"]


def test_a_run_that_passes_its_timeout_ends(tmp_path: Path) -> None:
    @durable_execution(name="short", timeout=0.2)
    def short(event: Any, context: Context) -> None:
        context.sleep(60)

    with LocalEngine(tmp_path / "journal.db", [short]) as engine:
        run = engine.start(short)
        with pytest.raises(Exception, match="timed out"):
            run.result(timeout=TIMEOUT)
        assert run.status == "TIMED_OUT"


def test_a_failed_run_says_what_failed(tmp_path: Path) -> None:
    @durable_execution(name="fails")
    def fails(event: Any, context: Context) -> None:
        context.step("bad", lambda: 1 / 0)

    with LocalEngine(tmp_path / "journal.db", [fails]) as engine:
        run = engine.start(fails)
        with pytest.raises(ExecutionFailedError, match="division by zero") as caught:
            run.result(timeout=TIMEOUT)
        assert caught.value.error_type == "ZeroDivisionError"
