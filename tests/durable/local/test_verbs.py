"""What people and programs do to runs from outside: start, list, cancel, delete, send, complete."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import botocore.session
import pytest

from perdure.durable import (
    AsyncContext,
    CallbackClosedError,
    CallbackError,
    CallbackNotFoundError,
    CallbackTimeoutError,
    Context,
    ExecutionCancelledError,
    ExecutionConflictError,
    ExecutionNotFoundError,
    InvokeError,
    LocalEngine,
    OperationError,
    PayloadTooLargeError,
    SerializationError,
    UsageError,
    durable_execution,
)

from ...waiting import until

TIMEOUT = 30.0
LARGE = 20_000

_open = threading.Event()
_begun: list[str] = []


def gated(name: str) -> str:
    _begun.append(name)
    assert _open.wait(TIMEOUT)
    return name


def quick(name: str) -> str:
    _begun.append(name)
    return name


@durable_execution(name="echo")
def echo(event: Any, context: Context) -> Any:
    return context.step("echo", lambda: event)


@durable_execution(name="echo.too")
def echo_too(event: Any, context: Context) -> Any:
    return event


@durable_execution(name="asks")
def asks(event: Any, context: Context) -> Any:
    return context.callback("answer").result()


@durable_execution(name="waits")
def waits(event: Any, context: Context) -> Any:
    return context.wait(3600, name="go")


@durable_execution(name="three")
def three(event: Any, context: Context) -> Any:
    return list(context.map("review", range(3), lambda c, _: c.wait(3600, name="approval")))


@durable_execution(name="flies")
def flies(event: Any, context: Context) -> list[str]:
    return [context.step("first", gated, "first"), context.step("second", quick, "second")]


@durable_execution(name="flies.async")
async def flies_async(event: Any, context: AsyncContext) -> list[str]:
    first = await context.step("first", gated, "first")
    return [first, await context.step("second", quick, "second")]


@durable_execution(name="between")
def between(event: str, context: Context) -> str:
    context.step("first", quick, "first")
    gated("between")
    return context.step("second", quick, "second", semantics=event)  # type: ignore[arg-type]


@durable_execution(name="between.async")
async def between_async(event: Any, context: AsyncContext) -> str:
    await context.step("first", quick, "first")
    await asyncio.to_thread(gated, "between")
    return await context.step("second", quick, "second", semantics=event)


@durable_execution(name="calls")
def calls(event: Any, context: Context) -> Any:
    return context.invoke("call", event["handler"], event["payload"])


@durable_execution(name="calls.async")
async def calls_async(event: Any, context: AsyncContext) -> Any:
    return await context.invoke("call", event["handler"], event["payload"])


@durable_execution(name="calls.deep")
def calls_deep(event: int, context: Context) -> int:
    if event == 0:
        return 0
    return 1 + context.invoke("deeper", "calls.deep", event - 1)


@durable_execution(name="breaks")
def breaks(event: Any, context: Context) -> None:
    raise LookupError("broken")


HANDLERS = [
    echo,
    echo_too,
    asks,
    waits,
    three,
    flies,
    flies_async,
    between,
    between_async,
    calls,
    calls_async,
    calls_deep,
    breaks,
]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LocalEngine]:
    _open.clear()
    _begun.clear()
    with LocalEngine(tmp_path / "journal.db", HANDLERS) as engine:
        yield engine
        _open.set()


def open_waits(run: Any, count: int = 1) -> list[Any]:
    until(lambda: len(run.waiting_for()) == count and not run.info().active)
    found: list[Any] = run.waiting_for()
    return found


def blobs(engine: LocalEngine) -> int:
    with closing(sqlite3.connect(engine.path)) as db:
        count: int = db.execute("SELECT count(*) FROM blobs").fetchone()[0]
    return count


def test_the_same_id_and_input_is_the_same_run(engine: LocalEngine) -> None:
    first = engine.start(echo, {"a": 1, "b": 2}, "run")
    assert first.result(timeout=TIMEOUT) == {"a": 1, "b": 2}
    again = engine.start(echo, {"b": 2, "a": 1}, "run")
    assert again.result(timeout=TIMEOUT) == {"a": 1, "b": 2}
    assert len(engine.list()) == 1


def test_the_same_id_with_another_input_is_refused(engine: LocalEngine) -> None:
    engine.start(echo, 1, "run")
    with pytest.raises(ExecutionConflictError, match="'run' exists with another input"):
        engine.start(echo, 2, "run")


def test_the_same_id_with_another_handler_is_refused(engine: LocalEngine) -> None:
    engine.start(echo, 1, "run")
    with pytest.raises(ExecutionConflictError, match=r"runs 'echo', not 'echo\.too'"):
        engine.start(echo_too, 1, "run")


def test_of_many_started_together_none_is_if_one_is_refused(engine: LocalEngine) -> None:
    engine.start(echo, 1, "run")
    with pytest.raises(ExecutionConflictError):
        engine.start_many(echo, [(5, "new"), (2, "run")])
    assert [info.id for info in engine.list()] == ["run"]
    assert engine.start(echo, 5, "new").result(timeout=TIMEOUT) == 5


def test_many_started_at_once_from_threads_are_one_run_per_id(engine: LocalEngine) -> None:
    def start() -> None:
        ready.wait(TIMEOUT)
        for n in range(10):
            results.append(engine.start(echo, n, f"run-{n}").result(timeout=TIMEOUT))

    ready = threading.Barrier(8)
    results: list[int] = []
    threads = [threading.Thread(target=start, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    assert sorted(results) == sorted(n for n in range(10) for _ in range(8))
    assert len(engine.list()) == 10


@pytest.mark.parametrize("id", ["", "a b", "x" * 65, "ä", "a/b", "a\n"])
def test_an_id_that_aws_would_refuse_is_refused(engine: LocalEngine, id: str) -> None:
    with pytest.raises(UsageError, match="1 to 64 letters"):
        engine.start(echo, 1, id)


def test_an_input_that_cannot_be_kept_is_refused(engine: LocalEngine) -> None:
    with pytest.raises(SerializationError, match="the input"):
        engine.start(echo, object(), "run")
    assert engine.list() == []


def test_a_listing_is_newest_first_and_filtered(engine: LocalEngine) -> None:
    engine.start(echo, 1, "a").result(timeout=TIMEOUT)
    engine.start(waits, None, "b")
    with pytest.raises(Exception, match="broken"):
        engine.start(breaks, None, "c").result(timeout=TIMEOUT)
    open_waits(engine.get("b"))
    assert [info.id for info in engine.list()] == ["c", "b", "a"]
    assert [info.id for info in engine.list(limit=2)] == ["c", "b"]
    assert [info.id for info in engine.list(status="RUNNING")] == ["b"]
    assert [info.id for info in engine.list(status="FAILED")] == ["c"]
    assert [info.id for info in engine.list(handler="echo")] == ["a"]
    assert engine.list(handler="echo", status="FAILED") == []
    with pytest.raises(UsageError, match="status is one of RUNNING"):
        engine.list(status="running")
    info = engine.info("b")
    assert (info.status, info.active, info.ended) == ("RUNNING", False, None)
    assert info.wakes is not None


def test_an_unknown_run_is_not_found(engine: LocalEngine) -> None:
    for verb in (engine.get, engine.cancel, engine.delete, engine.resume, engine.history):
        with pytest.raises(ExecutionNotFoundError, match="no execution 'nobody'"):
            verb("nobody")
    with pytest.raises(ExecutionNotFoundError, match="no execution 'nobody'"):
        engine.send("nobody", "go")


def test_a_history_has_the_shape_of_aws(engine: LocalEngine) -> None:
    model = botocore.session.get_session().get_service_model("lambda").shape_for("Event")
    runs = [
        engine.start(calls, {"handler": "echo", "payload": 1}, "a"),
        engine.start(calls, {"handler": "breaks", "payload": 1}, "b"),
        engine.start(asks, None, "c"),
        engine.start(three, None, "d"),
        engine.start(waits, None, "e"),
    ]
    engine.complete_callback(open_waits(runs[2])[0].callback_id, 1)
    for wait in open_waits(runs[3], 3):
        engine.fail_callback(wait.callback_id, "no", "Refused")
    open_waits(runs[4])
    runs[4].cancel()
    kinds = set()
    for run in runs:
        until(lambda: run.status != "RUNNING")  # noqa: B023
        history = run.history()
        assert [event["EventId"] for event in history] == list(range(1, len(history) + 1))
        assert history[0]["EventType"] == "ExecutionStarted"
        for event in history:
            _check_shape(event, model, event["EventType"])
            kinds.add(event["EventType"])
            assert event["EventType"] in model.members["EventType"].enum
    assert {"ChainedInvokeSucceeded", "ChainedInvokeFailed", "CallbackFailed"} <= kinds
    assert {"ExecutionFailed", "ExecutionStopped", "InvocationCompleted"} <= kinds


def _check_shape(value: Any, shape: Any, where: str) -> None:
    if shape.type_name == "structure":
        unknown = set(value) - set(shape.members)
        assert not unknown, f"{where} has {unknown}"
        missing = set(shape.required_members) - set(value)
        assert not missing, f"{where} lacks {missing}"
        for key, inner in value.items():
            _check_shape(inner, shape.members[key], f"{where}.{key}")
    elif shape.type_name == "timestamp":
        assert value.tzinfo is not None, where


def test_a_callback_is_completed_once(engine: LocalEngine) -> None:
    run = engine.start(asks)
    (wait,) = open_waits(run)
    assert (wait.kind, wait.path) == ("callback", "answer")
    engine.complete_callback(wait.callback_id, {"ok": True})
    assert run.result(timeout=TIMEOUT) == {"ok": True}
    for again in (engine.complete_callback, engine.fail_callback, engine.heartbeat_callback):
        with pytest.raises(CallbackClosedError, match="already completed"):
            again(wait.callback_id)


def test_of_many_that_complete_a_callback_one_does(engine: LocalEngine) -> None:
    run = engine.start(asks)
    (wait,) = open_waits(run)
    ready = threading.Barrier(8)
    accepted: list[int] = []

    def complete(n: int) -> None:
        ready.wait(TIMEOUT)
        try:
            engine.complete_callback(wait.callback_id, n)
        except CallbackClosedError:
            return
        accepted.append(n)

    threads = [threading.Thread(target=complete, args=(n,), daemon=True) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    assert accepted == [run.result(timeout=TIMEOUT)]


def test_a_failed_callback_raises_in_the_handler(engine: LocalEngine) -> None:
    @durable_execution(name="catches")
    def catches(event: Any, context: Context) -> list[str | None]:
        try:
            return context.callback("answer").result()  # type: ignore[no-any-return]
        except CallbackError as error:
            return [error.error_type, error.error.message]

    run = engine.start(catches)
    (wait,) = open_waits(run)
    engine.fail_callback(wait.callback_id, "not today", "Refused")
    assert run.result(timeout=TIMEOUT) == ["Refused", "not today"]


def test_a_heartbeat_keeps_a_callback_open_and_a_missed_one_ends_it(engine: LocalEngine) -> None:
    @durable_execution(name="beats")
    def beats(event: Any, context: Context) -> str:
        try:
            return str(context.callback("answer", heartbeat=0.4).result())
        except CallbackTimeoutError as error:
            return error.error.message

    begin = time.monotonic()
    run = engine.start(beats)
    (wait,) = open_waits(run)
    while time.monotonic() < begin + 0.8:
        engine.heartbeat_callback(wait.callback_id)
        time.sleep(0.05)
    assert run.status == "RUNNING"
    assert "missed its heartbeat" in run.result(timeout=TIMEOUT)
    with pytest.raises(CallbackClosedError):
        engine.complete_callback(wait.callback_id, 1)


@pytest.mark.parametrize("id", ["", "garbage", "MTIz", "OTk5OTkueA==", "ä", "MS5ub3BlLW5vcGU="])
def test_an_id_that_is_none_of_a_callback_is_not_found(engine: LocalEngine, id: str) -> None:
    engine.start(echo, 1).result(timeout=TIMEOUT)
    with pytest.raises(CallbackNotFoundError):
        engine.complete_callback(id, 1)


def test_the_id_of_a_step_is_no_callback(engine: LocalEngine) -> None:
    from perdure.durable.local.callback_ids import callback_id

    run = engine.start(echo, 1)
    run.result(timeout=TIMEOUT)
    (operation,) = run.operations().values()
    with pytest.raises(CallbackNotFoundError, match="no such callback"):
        engine.complete_callback(callback_id(1, operation.id), 1)


def test_a_payload_over_the_limit_or_not_json_is_refused(tmp_path: Path) -> None:
    from perdure.durable import Limits

    with LocalEngine(tmp_path / "journal.db", [asks], limits=Limits(payload=1000)) as engine:
        run = engine.start(asks)
        (wait,) = open_waits(run)
        with pytest.raises(PayloadTooLargeError, match="1,000"):
            engine.complete_callback(wait.callback_id, "x" * 2000)
        with pytest.raises(UsageError, match="plain JSON"):
            engine.complete_callback(wait.callback_id, {1, 2})
        with pytest.raises(UsageError, match="plain JSON"):
            engine.send(run.id, "answer", float("nan"))
        engine.complete_callback(wait.callback_id, "fine")
        assert run.result(timeout=TIMEOUT) == "fine"


def test_a_named_wait_is_sent_to(engine: LocalEngine) -> None:
    runs = [engine.start(waits, n) for n in range(2)]
    for run in runs:
        open_waits(run)
    engine.send(runs[0].id, "go", {"by": "me"})
    engine.send(runs[1].id, "go")
    assert [run.result(timeout=TIMEOUT) for run in runs] == [{"by": "me"}, True]
    with pytest.raises(CallbackClosedError):
        engine.send(runs[0].id, "go", 1)


def test_what_is_sent_to_no_open_wait_is_refused_with_those_there_are(engine: LocalEngine) -> None:
    run = engine.start(waits)
    open_waits(run)
    with pytest.raises(CallbackNotFoundError, match="no open wait named 'stop'; open: go"):
        engine.send(run.id, "stop")
    with pytest.raises(UsageError, match="null"):
        engine.send(run.id, "go", None)


def test_one_of_several_waits_of_a_name_is_sent_to_by_its_path(engine: LocalEngine) -> None:
    run = engine.start(three)
    open_waits(run, 3)
    with pytest.raises(CallbackNotFoundError, match=r"3 open waits .*review\[0\]/approval"):
        engine.send(run.id, "approval", 1)
    for n in (2, 0):
        engine.send(run.id, f"review[{n}]/approval", n)
    open_waits(run, 1)
    with pytest.raises(CallbackClosedError, match="already completed"):
        engine.send(run.id, "review[2]/approval", 5)
    engine.send(run.id, "approval", 1)
    assert run.result(timeout=TIMEOUT) == [0, 1, 2]


@pytest.mark.parametrize("handler", [flies, flies_async], ids=["sync", "async"])
def test_a_body_in_flight_may_record_after_a_cancel_and_nothing_new_begins(
    engine: LocalEngine, handler: Any
) -> None:
    run = engine.start(handler)
    until(lambda: _begun)
    run.cancel("enough")
    with pytest.raises(ExecutionCancelledError, match="enough"):
        run.result(timeout=TIMEOUT)
    _open.set()
    until(lambda: not run.info().active)
    assert _begun == ["first"]
    assert run.operations()["first"].status == "SUCCEEDED"
    assert "second" not in run.operations()
    assert run.status == "CANCELLED"
    with pytest.raises(ExecutionConflictError, match="has ended"):
        run.cancel()


@pytest.mark.parametrize(
    "handler",
    [between, between_async],
    ids=["sync", "async"],
)
@pytest.mark.parametrize("semantics", ["at_least_once", "at_most_once"])
def test_no_body_begins_after_a_cancel(engine: LocalEngine, handler: Any, semantics: str) -> None:
    run = engine.start(handler, semantics)
    until(lambda: "between" in _begun)
    (invocation,) = engine._worker.active.values()
    run.cancel()
    if handler.is_async:  # its loop hears of it a turn later
        until(lambda: invocation.stopped)
    _open.set()
    until(lambda: not run.info().active)
    assert _begun == ["first", "between"]
    assert "second" not in run.operations()


def test_a_cancelled_run_takes_no_callback_and_no_event(engine: LocalEngine) -> None:
    asking, waiting = engine.start(asks), engine.start(waits)
    (callback,), _ = open_waits(asking), open_waits(waiting)
    asking.cancel()
    waiting.cancel()
    with pytest.raises(CallbackClosedError, match="CANCELLED"):
        engine.complete_callback(callback.callback_id, 1)
    with pytest.raises(CallbackClosedError, match="CANCELLED"):
        engine.send(waiting.id, "go")
    assert asking.waiting_for() == []
    with pytest.raises(ExecutionConflictError, match="only a failed one"):
        engine.resume(asking.id)


def test_a_run_is_deleted_with_what_only_it_keeps(engine: LocalEngine) -> None:
    shared, own = "s" * LARGE, "o" * LARGE
    first = engine.start(echo, [shared], "first")
    second = engine.start(echo, [shared], "second")
    third = engine.start(echo, [own], "third")
    for run in (first, second, third):
        run.result(timeout=TIMEOUT)
    assert blobs(engine) == 2, "equal payloads are stored once"
    engine.delete("third")
    assert blobs(engine) == 1
    engine.delete("first")
    assert second.result(timeout=TIMEOUT) == [shared]
    engine.delete("second")
    assert blobs(engine) == 0
    assert engine.list() == []
    assert engine.start(echo, [own], "third").result(timeout=TIMEOUT) == [own]


def test_a_running_run_is_not_deleted(engine: LocalEngine) -> None:
    run = engine.start(flies, None, "run")
    until(lambda: _begun)
    with pytest.raises(ExecutionConflictError, match="is running"):
        engine.delete("run")
    run.cancel()
    with pytest.raises(ExecutionConflictError, match="is running"):
        engine.delete("run")  # its body still is in flight
    _open.set()
    until(lambda: not run.info().active)
    engine.delete("run")


def test_a_callback_of_a_deleted_run_is_not_found(engine: LocalEngine) -> None:
    run = engine.start(asks)
    (wait,) = open_waits(run)
    run.cancel()
    engine.delete(run.id)
    engine.start(asks, "another")
    with pytest.raises(CallbackNotFoundError, match="deleted"):
        engine.complete_callback(wait.callback_id, 1)


@pytest.mark.parametrize("caller", ["calls", "calls.async"])
def test_a_handler_invokes_another(engine: LocalEngine, caller: str) -> None:
    run = engine.start(caller, {"handler": "echo", "payload": {"x": [1]}})
    assert run.result(timeout=TIMEOUT) == {"x": [1]}
    assert len(engine.list(handler="echo")) == 1


@pytest.mark.parametrize("caller", ["calls", "calls.async"])
def test_the_failure_of_an_invoked_handler_is_the_callers(engine: LocalEngine, caller: str) -> None:
    run = engine.start(caller, {"handler": "breaks", "payload": 1})
    with pytest.raises(Exception, match="broken") as caught:
        run.result(timeout=TIMEOUT)
    assert caught.value.error_type == "LookupError"  # type: ignore[attr-defined]


def test_invokes_go_deep(engine: LocalEngine) -> None:
    assert engine.start(calls_deep, 12).result(timeout=TIMEOUT) == 12
    assert len(engine.list()) == 13


def test_an_invoked_run_that_is_cancelled_tells_its_caller(engine: LocalEngine) -> None:
    @durable_execution(name="catches.invoke")
    def catches(event: Any, context: Context) -> str:
        try:
            return str(context.invoke("call", "waits", None))
        except InvokeError as error:
            return f"stopped: {error.error.message}"

    run = engine.start(catches)
    (inner,) = until(lambda: engine.list(handler="waits"))
    open_waits(engine.get(inner.id))
    engine.cancel(inner.id, "no more")
    assert run.result(timeout=TIMEOUT) == "stopped: no more"


def test_a_callback_is_completed_while_a_sibling_works(engine: LocalEngine) -> None:
    @durable_execution(name="siblings")
    def siblings(event: Any, context: Context) -> list[str]:
        def ask(inside: Context) -> str:
            answer = inside.callback("answer").result()
            return inside.step("after", quick, str(answer))

        return list(context.parallel("both", [ask, lambda c: c.step("long", gated, "long")]))

    run = engine.start(siblings)
    until(lambda: _begun == ["long"])
    (wait,) = until(run.waiting_for)
    engine.complete_callback(wait.callback_id, "now")
    # The answer is worked on while the other branch's body still runs.
    until(lambda: "now" in _begun, patience=5)
    _open.set()
    assert run.result(timeout=TIMEOUT) == ["now", "long"]


def test_a_failed_wait_for_callback_raises_in_the_handler(engine: LocalEngine) -> None:
    ids: list[str] = []

    @durable_execution(name="submits")
    def submits(event: Any, context: Context) -> str:
        try:
            return str(context.wait_for_callback("approval", ids.append))
        except OperationError as error:
            return error.error.message

    run = engine.start(submits)
    open_waits(run)
    engine.fail_callback(ids[0], "refused")
    assert "refused" in run.result(timeout=TIMEOUT)
