"""Many answer one callback at once, by one engine or by several on one file: one of them does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from perdure.durable import (
    AsyncContext,
    CallbackClosedError,
    CallbackError,
    Context,
    ExecutionCancelledError,
    ExecutionConflictError,
    LocalEngine,
    durable_execution,
)

TIMEOUT = 60.0
THREADS = 50
RACES = pytest.mark.parametrize(
    "rounds", [10, pytest.param(200, marks=[pytest.mark.full, pytest.mark.timeout(1_200)])]
)


@durable_execution(name="decided")
def decided(event: Any, context: Context) -> Any:
    try:
        return context.callback("decision").result()
    except CallbackError as error:
        return f"failed by {error.error.message}"


@durable_execution(name="decided.async")
async def decided_async(event: Any, context: AsyncContext) -> Any:
    opened = await context.callback("decision")
    try:
        return await opened.result()
    except CallbackError as error:
        return f"failed by {error.error.message}"


@pytest.fixture(params=[1, 2], ids=["one engine", "two engines"])
def engines(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[LocalEngine]]:
    path = tmp_path / "journal.db"
    made = [LocalEngine(path, handlers=[decided, decided_async]) for _ in range(request.param)]
    for engine in made:
        engine.serve()
    yield made
    for engine in made:
        engine.close()


def opened(engine: LocalEngine, handler: Any, id: str) -> tuple[Any, str]:
    """Start a run and wait until its callback is open; return the run and the callback's id."""
    run = engine.start(handler, id=id)
    while not (found := engine.open_callbacks(execution=id)):
        engine.wait_idle(TIMEOUT)
    return run, found[0].callback_id


def race(verbs: list[Callable[[int], None]]) -> tuple[list[int], list[BaseException]]:
    """Call all at the same time; return which of them succeeded, and what the others raised."""
    ready = threading.Barrier(len(verbs))
    accepted: list[int] = []
    refused: list[BaseException] = []

    def call(number: int) -> None:
        ready.wait(TIMEOUT)
        try:
            verbs[number](number)
        except BaseException as error:
            refused.append(error)
        else:
            accepted.append(number)

    threads = [threading.Thread(target=call, args=(n,), daemon=True) for n in range(len(verbs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
        assert not thread.is_alive()
    return accepted, refused


def answers(engine: LocalEngine, id: str, number: int) -> Callable[[int], None]:
    if number % 3:
        return lambda n: engine.complete_callback(id, f"answered by {n}")
    return lambda n: engine.fail_callback(id, str(n), "Rejected")


def completes(engine: LocalEngine, id: str) -> Callable[[int], None]:
    return lambda number: engine.complete_callback(id, number)


def cancels(engine: LocalEngine, id: str) -> Callable[[int], None]:
    return lambda number: engine.cancel(id)


@RACES
def test_of_fifty_answers_at_once_one_counts_and_all_others_are_told_so(
    engines: list[LocalEngine], rounds: int
) -> None:
    for number in range(rounds):
        handler = decided_async if number % 2 else decided
        run, id = opened(engines[0], handler, f"run-{number}")
        verbs = [answers(engines[n % len(engines)], id, n) for n in range(THREADS)]
        accepted, refused = race(verbs)
        assert len(accepted) == 1
        assert {type(error) for error in refused} == {CallbackClosedError}
        words = "answered" if accepted[0] % 3 else "failed"
        assert run.result(timeout=TIMEOUT) == f"{words} by {accepted[0]}"
        ends = [event for event in run.history() if event["EventType"].startswith("Callback")]
        assert len(ends) == 2
    assert engines[0].count_callbacks() == 0


@RACES
def test_an_answer_and_a_cancel_at_once_end_a_run_one_way(
    engines: list[LocalEngine], rounds: int
) -> None:
    for number in range(rounds):
        run, id = opened(engines[0], decided, f"run-{number}")
        accepted, refused = race([completes(engines[0], id), cancels(engines[-1], run.id)])
        assert accepted
        if 1 in accepted:
            with pytest.raises(ExecutionCancelledError):
                run.result(timeout=TIMEOUT)
        else:
            assert run.result(timeout=TIMEOUT) == 0
            assert {type(error) for error in refused} == {ExecutionConflictError}
        if 0 not in accepted:
            assert {type(error) for error in refused} == {CallbackClosedError}
