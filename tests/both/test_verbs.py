"""The operator's verbs mean the same on both engines, and refuse the same with the same errors."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.durable import (
    CallbackClosedError,
    CallbackNotFoundError,
    Context,
    ExecutionCancelledError,
    ExecutionConflictError,
    ExecutionFailedError,
    ExecutionNotFoundError,
    PayloadTooLargeError,
    UsageError,
    durable_execution,
)

from ..waiting import until
from .stages import Run, Stage

CLOSED = (CallbackClosedError, CallbackNotFoundError)
"""Of a callback by its id: AWS's local runner does not know one any more that is closed."""


@durable_execution(name="asks-twice")
def asks_twice(event: Any, context: Context) -> Any:
    first = context.wait(50, name="first")
    return [first, context.wait_for_callback("second", lambda id: None, timeout=50)]


@durable_execution(name="waits-for-much")
def waits_for_much(event: Any, context: Context) -> Any:
    branches = {
        "event": lambda c: c.wait(50, name="go"),
        "callback": lambda c: c.wait_for_callback("answer", lambda id: None, timeout=50),
        "timer": lambda c: c.sleep(50, name="nap"),
        "retry": lambda c: c.step("broken", broken, retry={"max_attempts": 9}),
    }
    return list(context.parallel("all", branches))


def broken() -> None:
    raise ConnectionError("not now")


@durable_execution(name="broken")
def breaks(event: Any, context: Context) -> Any:
    return context.step("broken", broken)


@durable_execution(name="gives-back")
def gives_back(event: Any, context: Context) -> Any:
    return context.step("event", lambda: event)


def waiting(stage: Stage) -> Run:
    run = stage.start(asks_twice)
    until(lambda: run.execution.waiting_for(), "the run to wait")
    return run


def test_a_run_is_found_by_its_id(stage: Stage) -> None:
    run = stage.start(gives_back, {"a": 1})
    assert run.execution.result(timeout=30) == {"a": 1}

    found = run.engine.get(run.execution.id)
    assert (found.id, found.status, found.result()) == (run.execution.id, "SUCCEEDED", {"a": 1})


def test_a_run_that_is_not_there_is_not_found(stage: Stage) -> None:
    run = stage.start(gives_back)

    for verb in ("get", "info", "history", "operations", "waiting_for", "cancel", "resume"):
        with pytest.raises(ExecutionNotFoundError, match="nobody"):
            getattr(run.engine, verb)("nobody")


def test_the_same_id_is_the_same_run_or_a_conflict(stage: Stage) -> None:
    engine = stage.start(gives_back).engine
    id = f"once-{stage.name}"
    first = engine.start(gives_back, {"n": 1}, id)
    assert engine.start(gives_back, {"n": 1}, id).id == first.id == id

    with pytest.raises(ExecutionConflictError, match="another input"):
        engine.start(gives_back, {"n": 2}, id)
    with pytest.raises(UsageError):
        engine.start(gives_back, None, "not an id")


def test_a_listing_tells_of_runs_by_status(stage: Stage) -> None:
    run = waiting(stage)
    engine, id = run.engine, run.execution.id

    assert id in [each.id for each in engine.list(status="RUNNING")]
    assert id not in [each.id for each in engine.list(status="SUCCEEDED")]
    info = engine.info(id)
    assert (info.id, info.status, info.ended) == (id, "RUNNING", None)
    with pytest.raises(UsageError, match="status is one of"):
        engine.list(status="SLEEPING")


def test_what_a_run_waits_for_is_told_alike(stages: list[Stage]) -> None:
    told = []
    for stage in stages:
        run = stage.start(waits_for_much)
        until(lambda: len(run.execution.waiting_for()) == 4, "all four waits")  # noqa: B023
        waits = run.execution.waiting_for()
        told.append(sorted((each.path, each.kind, bool(each.callback_id)) for each in waits))

    assert told[0] == told[1]


def test_a_send_to_no_open_wait_is_refused_and_tells_of_those_there_are(stage: Stage) -> None:
    run = waiting(stage)
    send, id = run.engine.send, run.execution.id

    with pytest.raises(CallbackNotFoundError, match="first"):
        send(id, "second", 1)
    with pytest.raises(UsageError, match="null"):
        send(id, "first", None)
    send(id, "first", "yes")
    run.send("second", "no")
    assert run.execution.result(timeout=30) == ["yes", "no"]
    with pytest.raises(CallbackClosedError):
        send(id, "first", "again")


def test_a_callback_is_completed_once(stage: Stage) -> None:
    run = waiting(stage)
    run.send("first", 1)
    [wait] = until(
        lambda: [each for each in run.execution.waiting_for() if each.kind == "callback"],
        "the callback to be open",
    )
    callback = str(wait.callback_id)
    run.engine.heartbeat_callback(callback)
    run.engine.complete_callback(callback, {"n": 2})

    assert run.execution.result(timeout=30) == [1, {"n": 2}]
    for again in (run.engine.complete_callback, run.engine.heartbeat_callback):
        with pytest.raises(CLOSED):
            again(callback)
    with pytest.raises(CLOSED):
        run.engine.fail_callback(callback, "late")
    with pytest.raises(CallbackNotFoundError):
        run.engine.complete_callback("bm9uZQ==")


def test_a_payload_over_the_limit_is_refused(stage: Stage) -> None:
    run = waiting(stage)

    with pytest.raises(PayloadTooLargeError):
        run.engine.send(run.execution.id, "first", "x" * 2_000_000)


def test_a_run_that_goes_on_is_waited_for_no_longer_than_asked(stage: Stage) -> None:
    with pytest.raises(TimeoutError, match="has not ended after 0.1 s; it goes on"):
        waiting(stage).execution.result(timeout=0.1)


def test_a_failed_run_raises_alike(stages: list[Stage]) -> None:
    told = []
    for stage in stages:
        run = stage.start(breaks)
        with pytest.raises(ExecutionFailedError) as caught:
            run.execution.result(timeout=30)
        text = str(caught.value).replace(run.execution.id, "RUN")
        told.append(
            (text, caught.value.error_type, caught.value.error and caught.value.error.message)
        )

    assert told[0] == told[1]


def test_a_cancelled_run_is_over(stage: Stage) -> None:
    run = waiting(stage)
    engine, id = run.engine, run.execution.id

    engine.cancel(id, "not needed")

    # AWS's local runner has words of its own for why an execution was stopped.
    why = "not needed" if stage.name == "local" else "stopped by user"
    with pytest.raises(ExecutionCancelledError, match=why):
        run.execution.result(timeout=30)
    assert engine.get(id).status == "CANCELLED"
    assert engine.waiting_for(id) == []
    with pytest.raises(ExecutionConflictError, match="nothing to cancel"):
        engine.cancel(id)
    with pytest.raises(CallbackClosedError):
        engine.send(id, "first", 1)


def test_only_a_failed_run_is_resumed(stage: Stage) -> None:
    done = stage.start(gives_back, 1)
    done.execution.result(timeout=30)

    with pytest.raises(ExecutionConflictError, match="SUCCEEDED; only a failed one is resumed"):
        done.engine.resume(done.execution.id)
