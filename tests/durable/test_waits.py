"""Waits, callbacks, conditions: a suspended run, and all that wakes it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from perdure.durable import (
    AsyncContext,
    CallbackClosedError,
    CallbackError,
    CallbackNotFoundError,
    CallbackTimeoutError,
    ConditionTimeoutError,
    Duration,
    OperationError,
    RetryPolicy,
    UsageError,
    durable_execution,
)
from perdure.durable.async_waits import AsyncWaits
from perdure.durable.testing import Runner, check_replay

from .both import durable

Make = Callable[..., Any]


def waiting(runner: Runner, handler: Any, event: Any = None) -> Any:
    """Start a run, bring it to its first suspension, and return it."""
    run = runner.start(handler, event)
    runner.settle()
    assert run.status == "RUNNING"
    return run


def result(runner: Runner, run: Any) -> Any:
    """Let a run come to its end, time and all."""
    runner.run_until_idle()
    return run.result(timeout=5)


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [
        (5, 5),
        (0.25, 0.25),
        (timedelta(minutes=2), 120),
        (Duration.from_seconds(5), 5),
        (Duration.from_minutes(1.5), 90),
        (Duration.from_hours(2), 7_200),
        (Duration.from_days(7), 604_800),
    ],
)
def test_a_sleep_takes_as_long_as_it_says(
    runner: Runner, make: Make, duration: Any, seconds: float
) -> None:
    async def sleeps(event: Any, context: Any) -> str:
        await context.sleep(duration)
        return "awake"

    start = runner.clock.now()
    run = waiting(runner, make(sleeps))
    assert result(runner, run) == "awake"
    assert runner.clock.now() - start == seconds * 1000


def test_a_sleep_is_not_over_a_moment_before_its_time(runner: Runner, make: Make) -> None:
    async def sleeps(event: Any, context: Any) -> str:
        await context.sleep(60)
        return "awake"

    run = waiting(runner, make(sleeps))
    runner.clock.advance(59.999)
    runner.settle()
    assert run.status == "RUNNING"
    runner.clock.advance(0.001)
    runner.settle()
    assert run.result(timeout=5) == "awake"


def test_a_year_of_waits_passes_in_a_moment(runner: Runner, make: Make) -> None:
    async def waits(event: Any, context: Any) -> int:
        for week in range(52):
            await context.sleep(Duration.from_days(7), f"week {week}")
        return 52

    began = time.monotonic()
    run = waiting(runner, make(waits))
    assert result(runner, run) == 52
    assert time.monotonic() - began < 10
    check_replay(run)


def test_sleeps_side_by_side_take_as_long_as_the_longest(runner: Runner) -> None:
    @durable_execution
    async def sleeps(event: Any, context: AsyncContext) -> None:
        await asyncio.gather(*(context.sleep(n, f"nap {n}") for n in (10, 30, 20)))

    start = runner.clock.now()
    run = waiting(runner, sleeps)
    result(runner, run)
    assert runner.clock.now() - start == 30_000


async def approval(event: Any, context: Any) -> Any:
    """Wait a week for an approval."""
    return [await context.wait(Duration.from_days(7), "approval")]


@pytest.mark.parametrize("payload", [{"approved": True}, "yes", 0, False, "", [], {}])
def test_a_named_wait_returns_what_was_sent(runner: Runner, make: Make, payload: Any) -> None:
    run = waiting(runner, make(approval))
    runner.engine.send(run.id, "approval", payload)
    runner.settle()
    assert run.result(timeout=5) == [payload]
    check_replay(run)


def test_a_named_wait_returns_true_if_nothing_came_with_the_event(
    runner: Runner, make: Make
) -> None:
    run = waiting(runner, make(approval))
    runner.engine.send(run.id, "approval")
    runner.settle()
    assert run.result(timeout=5) == [True]


def test_a_named_wait_returns_none_when_time_is_up(runner: Runner, make: Make) -> None:
    run = waiting(runner, make(approval))
    assert result(runner, run) == [None]
    check_replay(run)


def test_null_cannot_be_sent(runner: Runner, make: Make) -> None:
    run = waiting(runner, make(approval))
    with pytest.raises(UsageError, match="null cannot be sent to the wait 'approval'"):
        runner.engine.send(run.id, "approval", None)
    assert run.status == "RUNNING"


def test_a_failed_named_wait_raises(runner: Runner, make: Make) -> None:
    async def waits(event: Any, context: Any) -> Any:
        try:
            await context.wait(60, "approval")
        except CallbackError as error:
            return [error.name, error.error.message, error.error_type]

    run = waiting(runner, make(waits))
    [wait] = run.waiting_for()
    runner.engine.fail_callback(str(wait.callback_id), "nobody is there", "Gone")
    runner.settle()
    assert run.result(timeout=5) == ["approval", "nobody is there", "Gone"]


def test_the_founding_documents_wait_runs_verbatim(runner: Runner) -> None:
    @durable_execution
    def handler(event: Any, context: Any) -> Any:
        approval = context.wait(duration=Duration.from_days(7), name="await_approval")
        return {"approved": approval}

    run = waiting(runner, handler)
    runner.engine.send(run.id, "await_approval", "by hand")
    runner.settle()
    assert run.result(timeout=5) == {"approved": "by hand"}


def test_sending_to_an_unknown_name_lists_the_open_ones(runner: Runner) -> None:
    @durable_execution
    async def waits(event: Any, context: AsyncContext) -> None:
        await asyncio.gather(context.wait(60, "manager"), context.wait(60, "lawyer"))

    run = waiting(runner, waits)
    with pytest.raises(CallbackNotFoundError, match="'boss'; open: lawyer, manager"):
        runner.engine.send(run.id, "boss")


def test_sending_twice_says_it_is_already_completed(runner: Runner, make: Make) -> None:
    async def waits(event: Any, context: Any) -> None:
        await context.wait(60, "first")
        await context.wait(60, "second")

    run = waiting(runner, make(waits))
    runner.engine.send(run.id, "first")
    with pytest.raises(CallbackClosedError, match="'first'.*already completed"):
        runner.engine.send(run.id, "first")
    runner.settle()
    with pytest.raises(CallbackClosedError, match="'first'.*already completed; open: second"):
        runner.engine.send(run.id, "first")


def test_sending_to_a_run_that_has_ended_says_so(runner: Runner, make: Make) -> None:
    run = waiting(runner, make(approval))
    runner.engine.send(run.id, "approval")
    runner.settle()
    with pytest.raises(CallbackClosedError, match="SUCCEEDED"):
        runner.engine.send(run.id, "approval")


@pytest.mark.parametrize("nesting", ["nested", "flat"])
def test_one_of_several_waits_of_a_name_is_addressed_by_path(
    runner: Runner, make: Make, nesting: Any
) -> None:
    async def reviews(event: Any, context: Any) -> Any:
        async def review(inner: Any, item: str) -> Any:
            return await inner.wait(60, "approval")

        return list(await context.map("review", ["a", "b"], review, nesting=nesting))

    run = waiting(runner, make(reviews))
    with pytest.raises(CallbackNotFoundError, match=r"2 open .*review\[0\]/approval"):
        runner.engine.send(run.id, "approval", "lost?")
    runner.engine.send(run.id, "review[1]/approval", "b is fine")
    runner.settle()
    runner.engine.send(run.id, "approval", "a is fine")
    runner.settle()
    assert run.result(timeout=5) == ["a is fine", "b is fine"]


def test_what_is_sent_is_plain_json(runner: Runner, make: Make) -> None:
    run = waiting(runner, make(approval))
    with pytest.raises(UsageError, match="plain JSON"):
        runner.engine.send(run.id, "approval", {1, 2})


def test_a_send_just_before_the_time_is_up_counts(runner: Runner, make: Make) -> None:
    run = waiting(runner, make(approval))
    runner.clock.advance(Duration.from_days(7).seconds - 1)
    runner.engine.send(run.id, "approval", "in time")
    runner.clock.advance(60)
    runner.settle()
    assert run.result(timeout=5) == ["in time"]


async def asks(event: Any, context: Any) -> Any:
    """Open a callback and return what came of it."""
    opened = await context.callback("answer", **event)
    try:
        return ["ok", await opened.result()]
    except CallbackError as error:
        return [type(error).__name__, error.error.message]


def callback_id(run: Any) -> str:
    [wait] = run.waiting_for()
    return str(wait.callback_id)


@pytest.mark.parametrize("value", [{"a": [1]}, None, "text"])
def test_a_callback_returns_what_it_was_completed_with(
    runner: Runner, make: Make, value: Any
) -> None:
    run = waiting(runner, make(asks), {})
    runner.engine.complete_callback(callback_id(run), value)
    runner.settle()
    assert run.result(timeout=5) == ["ok", value]
    check_replay(run)


def test_a_callback_that_is_failed_raises(runner: Runner, make: Make) -> None:
    run = waiting(runner, make(asks), {})
    runner.engine.fail_callback(callback_id(run), "refused")
    runner.settle()
    assert run.result(timeout=5) == ["CallbackError", "refused"]


def test_a_callback_times_out(runner: Runner, make: Make) -> None:
    start = runner.clock.now()
    run = waiting(runner, make(asks), {"timeout": 60})
    assert result(runner, run)[0] == "CallbackTimeoutError"
    assert runner.clock.now() - start == 60_000


def test_a_callback_without_a_heartbeat_in_time_is_timed_out(runner: Runner, make: Make) -> None:
    start = runner.clock.now()
    run = waiting(runner, make(asks), {"timeout": 600, "heartbeat": 30})
    assert result(runner, run)[0] == "CallbackTimeoutError"
    assert runner.clock.now() - start == 30_000


def test_heartbeats_keep_a_callback_open_until_its_timeout(runner: Runner, make: Make) -> None:
    start = runner.clock.now()
    run = waiting(runner, make(asks), {"timeout": 100, "heartbeat": 30})
    for _ in range(4):
        runner.clock.advance(20)
        runner.engine.heartbeat_callback(callback_id(run))
        runner.settle()
    assert run.status == "RUNNING"
    assert result(runner, run)[0] == "CallbackTimeoutError"
    assert runner.clock.now() - start == 100_000


@pytest.mark.parametrize("verb", ["complete_callback", "fail_callback", "heartbeat_callback"])
def test_a_closed_callback_says_it_is_already_completed(
    runner: Runner, make: Make, verb: str
) -> None:
    run = waiting(runner, make(asks), {})
    id = callback_id(run)
    runner.engine.complete_callback(id, 1)
    with pytest.raises(CallbackClosedError, match="'answer'.*already completed"):
        getattr(runner.engine, verb)(id)


def test_an_id_that_is_no_callbacks_is_refused(runner: Runner) -> None:
    with pytest.raises(CallbackNotFoundError):
        runner.engine.complete_callback("nonsense", 1)


def test_a_callback_may_be_awaited_in_a_branch_of_its_creator(runner: Runner, make: Make) -> None:
    async def opens(event: Any, context: Any) -> Any:
        opened = await context.callback("answer")

        async def branch(inner: Any) -> Any:
            return [await inner.step("s", lambda: 1), await opened.result()]

        return list(await context.parallel("both", [branch]))

    run = waiting(runner, make(opens))
    runner.engine.complete_callback(callback_id(run), "there")
    runner.settle()
    assert run.result(timeout=5) == [[1, "there"]]
    check_replay(run)


def test_a_callback_is_open_before_its_id_is_known(runner: Runner, make: Make) -> None:
    async def answers(event: Any, context: Any) -> Any:
        opened = await context.callback("answer")
        await context.step("answer it", runner.engine.complete_callback, opened.id, "at once")
        return await opened.result()

    run = runner.start(make(answers))
    runner.settle()
    assert run.result(timeout=5) == "at once"


def test_wait_for_callback_hands_out_its_id_once(runner: Runner, make: Make) -> None:
    ids: list[str] = []

    async def submits(event: Any, context: Any) -> Any:
        return await context.wait_for_callback("review", ids.append)

    run = waiting(runner, make(submits))
    runner.engine.complete_callback(ids[0], {"ok": 1})
    runner.settle()
    assert run.result(timeout=5) == {"ok": 1}
    assert len(ids) == 1
    check_replay(run)


def test_wait_for_callback_tries_to_submit_again(runner: Runner, make: Make) -> None:
    ids: list[str] = []

    def submit(id: str) -> None:
        ids.append(id)
        if len(ids) < 3:
            raise ConnectionError

    async def submits(event: Any, context: Any) -> Any:
        return await context.wait_for_callback("review", submit, retry={"max_attempts": 3})

    run = waiting(runner, make(submits))
    runner.run_until_idle()
    assert len(ids) == 3
    assert len(set(ids)) == 1
    runner.engine.complete_callback(ids[0])
    runner.settle()
    assert run.result(timeout=5) is None


def test_wait_for_callback_fails_when_its_time_is_up(runner: Runner, make: Make) -> None:
    async def submits(event: Any, context: Any) -> Any:
        try:
            await context.wait_for_callback("review", lambda id: None, timeout=60)
        except OperationError as error:
            return [type(error).__name__, error.name]

    run = waiting(runner, make(submits))
    assert result(runner, run) == ["CallbackTimeoutError", "review"]


def test_a_callback_timeout_is_a_callback_error() -> None:
    assert issubclass(CallbackTimeoutError, CallbackError)


def test_a_condition_is_polled_every_so_often(runner: Runner, make: Make) -> None:
    times: list[int] = []

    def check(state: int) -> int:
        times.append(runner.clock.now() // 1000)
        return state + 1

    async def polls(event: Any, context: Any) -> Any:
        return await context.wait_for_condition(
            "ready", check, initial=0, until=lambda state: state == 4, every=15
        )

    run = waiting(runner, make(polls))
    assert result(runner, run) == 4
    assert [b - a for a, b in zip(times, times[1:], strict=False)] == [15, 15, 15]
    check_replay(run)


def test_a_condition_that_is_met_at_once_does_not_wait(runner: Runner, make: Make) -> None:
    async def polls(event: Any, context: Any) -> Any:
        return await context.wait_for_condition("ready", lambda state: "yes", every=15)

    run = runner.start(make(polls))
    runner.settle()
    assert run.result(timeout=5) == "yes"


def test_a_condition_may_back_off(runner: Runner, make: Make) -> None:
    times: list[int] = []
    pace = RetryPolicy(max_attempts=10, initial_delay=2, backoff_rate=2, max_delay=8, jitter="none")

    def check(state: int) -> int:
        times.append(runner.clock.now() // 1000)
        return state + 1

    async def polls(event: Any, context: Any) -> Any:
        return await context.wait_for_condition(
            "ready", check, 0, lambda state: state == 5, backoff=pace
        )

    run = waiting(runner, make(polls))
    assert result(runner, run) == 5
    assert [b - a for a, b in zip(times, times[1:], strict=False)] == [2, 4, 8, 8]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"every": 10, "timeout": 35}, "not met within 35 s"),
        ({"backoff": {"max_attempts": 3}}, "not met after 3 polls"),
    ],
)
def test_a_condition_gives_up(runner: Runner, make: Make, options: Any, words: str) -> None:
    async def polls(event: Any, context: Any) -> Any:
        try:
            await context.wait_for_condition("ready", lambda state: False, **options)
        except ConditionTimeoutError as error:
            return [error.name, error.error.message]

    run = waiting(runner, make(polls))
    assert result(runner, run) == ["ready", words]
    check_replay(run)


def test_the_timeout_of_a_condition_counts_from_the_first_poll(runner: Runner, make: Make) -> None:
    polls: list[int] = []

    async def pipeline(event: Any, context: Any) -> Any:
        try:
            await context.wait_for_condition("ready", polls.append, every=10, timeout=35)
        except ConditionTimeoutError:
            return len(polls)

    run = waiting(runner, make(pipeline))
    assert result(runner, run) == 4


def test_a_check_that_raises_fails_the_condition(runner: Runner, make: Make) -> None:
    def check(state: Any) -> None:
        raise LookupError("no such job")

    async def polls(event: Any, context: Any) -> Any:
        try:
            await context.wait_for_condition("ready", check, every=10)
        except OperationError as error:
            return [type(error).__name__, error.error.message]

    run = runner.start(make(polls))
    runner.settle()
    assert run.result(timeout=5) == ["StepError", "no such job"]


def test_an_async_check_is_awaited(runner: Runner, make: Make) -> None:
    async def check(state: int) -> int:
        await asyncio.sleep(0)
        return state + 1

    async def polls(event: Any, context: Any) -> Any:
        return await context.wait_for_condition(
            "ready", check, initial=0, until=lambda state: state == 2, every=10
        )

    run = waiting(runner, make(polls))
    assert result(runner, run) == 2


def test_a_state_that_cannot_be_kept_is_refused_by_name(runner: Runner, make: Make) -> None:
    import threading

    async def polls(event: Any, context: Any) -> Any:
        try:
            await context.wait_for_condition(
                "ready", lambda state: threading.Lock(), until=lambda state: False, every=10
            )
        except OperationError as error:
            return error.error.message

    run = runner.start(make(polls))
    runner.settle()
    text = run.result(timeout=5)
    assert "'ready'" in text
    assert "lock" in text


def test_a_timer_that_rings_while_its_run_suspends_is_not_lost(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = AsyncWaits._finish

    def ring_now(run: AsyncWaits, why: str) -> None:
        finish(run, why)
        if why == "suspended":
            runner.clock.advance(20)
            run.refresh()

    monkeypatch.setattr(AsyncWaits, "_finish", ring_now)

    async def handler(event: Any, context: Any) -> str:
        await context.sleep(10)
        return "woken"

    run = runner.start(durable("async", handler))
    runner.run_until_idle(timeout=10)
    assert run.result(timeout=5) == "woken"
