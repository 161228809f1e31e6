"""Steps: run once, tried again, at most once; and what their bodies know."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from perdure.durable import (
    AsyncContext,
    Context,
    Duration,
    OperationError,
    RetryPolicy,
    StepError,
    StepInterrupted,
    Suspended,
    UsageError,
    current_step,
    durable_execution,
)
from perdure.durable.testing import Runner, check_replay

from .both import gather

Make = Callable[..., Any]
tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")


def flaky(times: int, error: type[Exception] = ConnectionError) -> Callable[[], int]:
    """Return a body that fails so many times and then returns the number of its attempt."""
    attempts: list[int] = []

    def body() -> int:
        attempts.append(1)
        if len(attempts) <= times:
            raise error(f"attempt {len(attempts)}")
        return len(attempts)

    return body


def test_a_step_is_run_once_over_all_invocations(runner: Runner, make: Make) -> None:
    ran: list[str] = []

    async def pipeline(event: Any, context: Any) -> str:
        await context.step("count", ran.append, "ran")
        await context.sleep(60)
        await context.sleep(60)
        return "done"

    run = runner.start(make(pipeline))
    runner.run_until_idle()
    assert (run.result(timeout=5), ran) == ("done", ["ran"])


def test_arguments_are_handed_to_the_body(make: Make, outcome: Any) -> None:
    async def pipeline(event: Any, context: Any) -> Any:
        return await context.step("add", lambda a, b, c=0: a + b + c, 1, 2, c=3)

    assert outcome(make(pipeline)) == 6


def test_the_body_may_be_async(make: Make, outcome: Any) -> None:
    async def body(value: int) -> int:
        await asyncio.sleep(0)
        return value + 1

    async def pipeline(event: Any, context: Any) -> Any:
        return await context.step("add", body, 1)

    assert outcome(make(pipeline)) == 2


def test_the_body_may_be_sync(make: Make, outcome: Any) -> None:
    async def pipeline(event: Any, context: Any) -> Any:
        return await context.step("add", lambda: 2)

    assert outcome(make(pipeline)) == 2


def test_a_name_claimed_twice_in_turn_is_two_steps(make: Make, outcome: Any) -> None:
    async def pipeline(event: Any, context: Any) -> Any:
        return [await context.step("same", lambda i=i: i) for i in range(3)]

    assert outcome(make(pipeline)) == [0, 1, 2]


@dataclass
class Point:
    x: int
    tags: tuple[str, ...]


def test_the_handler_gets_the_same_copy_first_as_at_replay(runner: Runner, make: Make) -> None:
    kept: list[Any] = []
    point = Point(1, ("a",))

    async def pipeline(event: Any, context: Any) -> Any:
        value = await context.step("point", lambda: point)
        kept.append(value)
        await context.sleep(60)
        return value

    run = runner.start(make(pipeline))
    runner.run_until_idle()
    assert run.result(timeout=5) == point
    assert kept == [point, point]
    assert all(value is not point for value in kept)


def test_gathered_steps_run_side_by_side(runner: Runner) -> None:
    arrived: list[int] = []

    async def meet(number: int) -> int:
        arrived.append(number)
        while len(arrived) < 3:
            await asyncio.sleep(0)
        return number

    @durable_execution
    async def pipeline(event: Any, context: AsyncContext) -> Any:
        return await asyncio.gather(*(context.step(f"s{n}", meet, n) for n in range(3)))

    run = runner.start(pipeline)
    runner.settle()
    assert run.result(timeout=5) == [0, 1, 2]


def test_a_step_without_retry_is_tried_once(runner: Runner, make: Make) -> None:
    body = flaky(1)

    async def pipeline(event: Any, context: Any) -> Any:
        try:
            await context.step("flaky", body)
        except StepError as error:
            return [error.name, error.error_type, error.error.message]

    run = runner.start(make(pipeline))
    runner.settle()
    assert run.result(timeout=5) == ["flaky", "ConnectionError", "attempt 1"]
    assert body() == 2


def test_the_error_is_the_same_at_replay(runner: Runner, make: Make) -> None:
    seen: list[Any] = []

    async def pipeline(event: Any, context: Any) -> None:
        try:
            await context.step("flaky", flaky(1))
        except StepError as error:
            seen.append((type(error), str(error), error.error, error.operation_id))
        await context.sleep(60)

    runner.start(make(pipeline))
    runner.run_until_idle()
    assert len(seen) == 2
    assert seen[0] == seen[1]


def test_the_traceback_of_a_failure_is_kept(runner: Runner, make: Make) -> None:
    async def pipeline(event: Any, context: Any) -> Any:
        try:
            await context.step("flaky", flaky(1))
        except StepError as error:
            return "".join(error.error.trace)

    run = runner.start(make(pipeline))
    runner.settle()
    assert "test_steps.py" in run.result(timeout=5)


def test_retries_wait_longer_each_time_up_to_a_bound(runner: Runner, make: Make) -> None:
    policy = RetryPolicy(
        max_attempts=5, initial_delay=10, backoff_rate=3, max_delay=60, jitter="none"
    )
    times: list[int] = []

    def body() -> int:
        times.append(runner.clock.now() // 1000)
        if len(times) < 5:
            raise ConnectionError
        return len(times)

    async def pipeline(event: Any, context: Any) -> Any:
        return await context.step("flaky", body, retry=policy)

    run = runner.start(make(pipeline))
    runner.run_until_idle()
    assert run.result(timeout=5) == 5
    assert [b - a for a, b in zip(times, times[1:], strict=False)] == [10, 30, 60, 60]


def test_a_dict_is_a_retry_policy(make: Make, outcome: Any) -> None:
    async def pipeline(event: Any, context: Any) -> Any:
        return await context.step("flaky", body, retry={"max_attempts": 3, "backoff_rate": 2})

    body = flaky(2)
    assert outcome(make(pipeline)) == 3


def test_a_step_fails_when_its_attempts_are_used_up(runner: Runner, make: Make) -> None:
    body = flaky(10)

    async def pipeline(event: Any, context: Any) -> Any:
        try:
            await context.step("flaky", body, retry={"max_attempts": 3})
        except StepError as error:
            return error.error.message

    run = runner.start(make(pipeline))
    runner.run_until_idle()
    assert run.result(timeout=5) == "attempt 3"


@pytest.mark.parametrize(
    "retry_on", [ConnectionError, (ConnectionError, KeyError), lambda e: "attempt" in str(e)]
)
def test_only_what_is_meant_to_be_retried_is(make: Make, outcome: Any, retry_on: Any) -> None:
    retry = {"max_attempts": 3, "initial_delay": 0, "retry_on": retry_on}
    body, other = flaky(1), flaky(1, lambda text: ValueError("another"))  # type: ignore[arg-type]

    async def pipeline(event: Any, context: Any) -> Any:
        first = await context.step("flaky", body, retry=retry)
        try:
            await context.step("other", other, retry=retry)
        except StepError as error:
            return [first, error.error_type]

    assert outcome(make(pipeline)) == [2, "ValueError"]


def test_a_retry_without_delay_is_made_at_once(runner: Runner, make: Make) -> None:
    async def pipeline(event: Any, context: Any) -> Any:
        return await context.step("flaky", body, retry={"max_attempts": 3, "initial_delay": 0})

    body, start = flaky(2), runner.clock.now()
    run = runner.start(make(pipeline))
    runner.settle()
    assert run.result(timeout=5) == 3
    assert runner.clock.now() == start


def test_a_filter_that_raises_fails_the_step_for_good(runner: Runner, make: Make) -> None:
    def wrong(error: BaseException) -> bool:
        raise KeyError("no such code")

    async def pipeline(event: Any, context: Any) -> Any:
        try:
            await context.step("flaky", flaky(1), retry={"retry_on": wrong})
        except StepError as error:
            return error.error.message

    run = runner.start(make(pipeline))
    runner.settle()
    assert "attempt 1" in run.result(timeout=5)
    assert run.operations()["flaky"].closed


def test_an_at_most_once_step_is_never_silently_run_again(tmp_path: Path, make: Make) -> None:
    ran: list[int] = []
    runner = Runner(tmp_path / "journal.db")

    def die() -> None:
        ran.append(1)
        runner.crash_after(0)

    async def pays(event: Any, context: Any) -> Any:
        try:
            await context.step("pay", die, semantics="at_most_once")
        except StepInterrupted as error:
            return [error.name, "unknown" in error.error.message]

    handler = make(pays)
    with runner:
        runner.engine.register(handler)
        runner._handlers.append(handler)
        run = runner.start(handler, None, "run")
        runner.settle()
        runner.restart()
        runner.run_until_idle()
        assert runner.engine.get("run").result(timeout=5) == ["pay", True]
        check_replay(runner.engine.get("run"))
    assert (run.id, ran) == ("run", [1])


def test_an_interruption_counts_as_an_attempt(tmp_path: Path, make: Make) -> None:
    attempts: list[int] = []
    runner = Runner(tmp_path / "journal.db")

    def die_once() -> str:
        attempts.append(current_step().attempt)
        if len(attempts) == 1:
            runner.crash_after(0)
        return "paid"

    async def pays(event: Any, context: Any) -> Any:
        retry = {"max_attempts": 2, "retry_on": StepInterrupted}
        return await context.step("pay", die_once, semantics="at_most_once", retry=retry)

    handler = make(pays)
    with runner:
        runner._handlers.append(handler)
        runner.start(handler, None, "run")
        runner.settle()
        runner.restart()
        runner.run_until_idle()
        assert runner.engine.get("run").result(timeout=5) == "paid"
    assert attempts == [1, 2]


def test_an_at_least_once_step_is_run_again_after_a_crash(tmp_path: Path, make: Make) -> None:
    attempts: list[int] = []
    runner = Runner(tmp_path / "journal.db")

    def die_once() -> str:
        attempts.append(current_step().attempt)
        if len(attempts) == 1:
            runner.crash_after(0)
        return "done"

    async def works(event: Any, context: Any) -> Any:
        await context.sleep(1)
        return await context.step("work", die_once)

    handler = make(works)
    with runner:
        runner._handlers.append(handler)
        runner.start(handler, None, "run")
        runner.run_until_idle()
        runner.restart()
        runner.run_until_idle()
        assert runner.engine.get("run").result(timeout=5) == "done"
    assert attempts == [1, 1]


def test_the_idempotency_key_is_the_same_over_retries_and_no_others(
    runner: Runner, make: Make
) -> None:
    keys: list[tuple[str, int, str]] = []

    def body() -> None:
        step = current_step()
        keys.append((step.name, step.attempt, step.idempotency_key))
        if step.attempt < 3:
            raise ConnectionError

    async def pipeline(event: Any, context: Any) -> None:
        await context.step("a", body, retry={"max_attempts": 3})
        await context.step("b", body, retry={"max_attempts": 3})

    handler = make(pipeline)
    for _ in range(2):
        runner.start(handler)
        runner.run_until_idle()
    assert [attempt for _, attempt, _ in keys] == [1, 2, 3] * 4
    assert len({key for _, _, key in keys}) == 4
    assert len({(name, key) for name, _, key in keys}) == 4


def test_the_body_of_an_async_step_knows_its_step(make: Make, outcome: Any) -> None:
    async def body() -> list[Any]:
        await asyncio.sleep(0)
        return [current_step().name, current_step().attempt]

    async def pipeline(event: Any, context: Any) -> Any:
        return [await context.step("a", body), context.execution_id != ""]

    assert outcome(make(pipeline)) == [["a", 1], True]


def test_what_a_body_logs_names_its_run_and_step(
    runner: Runner, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    async def pipeline(event: Any, context: Any) -> None:
        await context.step("speak", lambda: current_step().logger.warning("spoken"))

    run = runner.start(make(pipeline), id="r-1")
    runner.run_until_idle()
    run.result()
    (record,) = [each for each in caplog.records if each.message == "spoken"]
    assert vars(record).items() >= {"execution_id": "r-1", "step": "speak"}.items()


def test_outside_a_step_there_is_no_current_step(runner: Runner, make: Make) -> None:
    async def pipeline(event: Any, context: Any) -> Any:
        await context.step("a", lambda: 1)
        try:
            current_step()
        except UsageError as error:
            return str(error)

    run = runner.start(make(pipeline))
    runner.settle()
    assert "body of a step" in run.result(timeout=5)


@pytest.mark.parametrize("is_async", [True, False])
def test_context_variables_reach_the_body(make: Make, outcome: Any, is_async: bool) -> None:
    async def abody() -> str:
        return tenant.get()

    async def pipeline(event: Any, context: Any) -> Any:
        tenant.set("acme")
        return await context.step("a", abody if is_async else tenant.get)

    assert outcome(make(pipeline)) == "acme"


def test_context_variables_reach_branches(make: Make, outcome: Any) -> None:
    async def pipeline(event: Any, context: Any) -> Any:
        async def branch(inner: Any, item: int) -> str:
            return str(await inner.step("a", tenant.get))

        tenant.set("acme")
        return list(await context.map("all", range(5), branch))

    assert outcome(make(pipeline)) == ["acme"] * 5


def test_a_context_variable_set_in_a_body_stays_there(make: Make, outcome: Any) -> None:
    async def pipeline(event: Any, context: Any) -> Any:
        async def body() -> None:
            tenant.set("inside")

        await context.step("a", body)
        return tenant.get()

    assert outcome(make(pipeline)) == "nobody"


def test_the_time_is_recorded_once(runner: Runner, make: Make) -> None:
    seen: list[Any] = []

    async def pipeline(event: Any, context: Any) -> None:
        seen.append(await context.now())
        await context.sleep(3600)
        seen.append(await context.now())

    start = runner.clock.moment()
    runner.start(make(pipeline))
    runner.run_until_idle()
    assert seen == [start, start, start + timedelta(hours=1)]


def test_uuid_and_random_are_the_same_at_replay_and_differ_between_runs(
    runner: Runner, make: Make
) -> None:
    seen: list[Any] = []

    async def pipeline(event: Any, context: Any) -> None:
        seen.append([context.uuid(), context.random(), context.uuid()])
        await context.sleep(60)

    handler = make(pipeline)
    for _ in range(2):
        run = runner.start(handler)
        runner.run_until_idle()
    assert seen[0] == seen[1]
    assert seen[2] == seen[3]
    assert seen[0] != seen[2]
    assert seen[0][0] != seen[0][2]
    assert [each.type.value for each in run.operations().values()] == ["WAIT"]


def test_each_branch_has_its_own_uuids(make: Make, outcome: Any) -> None:
    async def pipeline(event: Any, context: Any) -> Any:
        async def branch(inner: Any, item: int) -> str:
            return str(inner.uuid())

        return list(await context.map("all", range(5), branch))

    assert len(set(outcome(make(pipeline)))) == 5


def test_the_logger_says_each_thing_once(
    runner: Runner, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    async def pipeline(event: Any, context: Any) -> None:
        context.logger.info("begin")
        await context.step("a", lambda: 1)
        context.logger.info("between")
        await context.sleep(60)
        context.logger.info("end")

    with caplog.at_level(logging.INFO, "perdure"):
        run = runner.start(make(pipeline))
        runner.run_until_idle()
    said = [record for record in caplog.records if record.name == "perdure"]
    assert [record.getMessage() for record in said] == ["begin", "between", "end"]
    assert {record.execution_id for record in said} == {run.id}  # type: ignore[attr-defined]


def test_the_logger_shows_replays_when_asked(
    runner: Runner, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    async def pipeline(event: Any, context: Any) -> None:
        context.logger.replay = True
        context.logger.info("begin")
        await context.sleep(60)

    with caplog.at_level(logging.INFO, "perdure"):
        runner.start(make(pipeline))
        runner.run_until_idle()
    assert [record.getMessage() for record in caplog.records].count("begin") == 2


class Versions:
    """The same handler before and after a change that is guarded by `patched`."""

    def __init__(self, make: Make) -> None:
        async def old(event: Any, context: Any) -> Any:
            first = await context.step("first", lambda: "old")
            await context.sleep(60, "nap")
            return [first, await context.step("last", lambda: "last")]

        async def new(event: Any, context: Any) -> Any:
            first = await context.step("first", lambda: "old")
            added = None
            if await context.patched("check"):
                added = await context.step("check", lambda: "checked")
            await context.sleep(60, "nap")
            return [first, added, await context.step("last", lambda: "last")]

        self.old = make(old, name="pipeline")
        self.new = make(new, name="pipeline")


def test_a_run_that_was_past_the_change_keeps_to_the_old_side(tmp_path: Path, make: Make) -> None:
    versions = Versions(make)
    with Runner(tmp_path / "j.db", [versions.old]) as runner:
        run = runner.start(versions.old)
        runner.settle()
    with Runner(tmp_path / "j.db", [versions.new], clock=runner.clock) as second:
        second.run_until_idle()
        again = second.engine.get(run.id)
        assert again.result(timeout=5) == ["old", None, "last"]
        check_replay(again)


def test_a_new_run_takes_the_new_side(tmp_path: Path, make: Make) -> None:
    versions = Versions(make)
    with Runner(tmp_path / "j.db", [versions.new]) as runner:
        run = runner.start(versions.new)
        runner.run_until_idle()
        assert run.result(timeout=5) == ["old", "checked", "last"]
        check_replay(run)


def test_a_run_that_had_not_reached_the_change_takes_the_new_side(
    tmp_path: Path, make: Make
) -> None:
    async def old(event: Any, context: Any) -> Any:
        await context.sleep(60, "nap")
        return await context.step("last", lambda: "old")

    async def new(event: Any, context: Any) -> Any:
        await context.sleep(60, "nap")
        change = await context.patched("better")
        return await context.step("last", lambda: "new" if change else "old")

    first, second = make(old, name="p"), make(new, name="p")
    with Runner(tmp_path / "j.db", [first]) as runner:
        run = runner.start(first)
        runner.settle()
    with Runner(tmp_path / "j.db", [second], clock=runner.clock) as later:
        later.run_until_idle()
        assert later.engine.get(run.id).result(timeout=5) == "new"


def test_patched_answers_the_same_however_often_it_is_asked(make: Make, outcome: Any) -> None:
    async def pipeline(event: Any, context: Any) -> Any:
        first = await context.patched("a")
        await context.step("s", lambda: 1)
        second = await context.patched("a")
        await context.sleep(60)
        return [first, second, await context.patched("a")]

    assert outcome(make(pipeline)) == [True, True, True]


def test_the_marker_may_be_taken_out_again(tmp_path: Path, make: Make) -> None:
    versions = Versions(make)

    async def cleaned(event: Any, context: Any) -> Any:
        first = await context.step("first", lambda: "old")
        added = await context.step("check", lambda: "checked")
        await context.sleep(60, "nap")
        return [first, added, await context.step("last", lambda: "last")]

    last = make(cleaned, name="pipeline")
    with Runner(tmp_path / "j.db", [versions.new]) as runner:
        run = runner.start(versions.new)
        runner.settle()
    with Runner(tmp_path / "j.db", [last], clock=runner.clock) as second:
        second.run_until_idle()
        assert second.engine.get(run.id).result(timeout=5) == ["old", "checked", "last"]


@pytest.mark.parametrize("by_name", [True, False])
def test_another_handler_is_invoked_and_its_result_comes_back(
    runner: Runner, make: Make, by_name: bool
) -> None:
    async def double(event: Any, context: Any) -> Any:
        await context.sleep(60)
        return await context.step("double", lambda: event * 2)

    other = make(double)

    async def pipeline(event: Any, context: Any) -> Any:
        return await context.invoke("call", "double" if by_name else other, 21)

    runner.engine.register(other)
    run = runner.start(make(pipeline))
    runner.run_until_idle()
    assert run.result(timeout=5) == 42
    check_replay(run)


def test_the_failure_of_an_invoked_handler_is_an_invoke_error(runner: Runner, make: Make) -> None:
    async def fails(event: Any, context: Any) -> None:
        raise LookupError("nothing there")

    async def pipeline(event: Any, context: Any) -> Any:
        try:
            await context.invoke("call", "fails")
        except OperationError as error:
            return [type(error).__name__, error.error_type, error.error.message]

    runner.engine.register(make(fails))
    run = runner.start(make(pipeline))
    runner.run_until_idle()
    assert run.result(timeout=5) == ["InvokeError", "LookupError", "nothing there"]


def test_an_invoke_that_takes_too_long_is_an_invoke_error(runner: Runner, make: Make) -> None:
    async def slow(event: Any, context: Any) -> None:
        await context.sleep(3600)

    async def pipeline(event: Any, context: Any) -> Any:
        try:
            await context.invoke("call", "slow", timeout=60)
        except OperationError as error:
            return type(error).__name__

    runner.engine.register(make(slow))
    run = runner.start(make(pipeline))
    runner.run_until_idle()
    assert run.result(timeout=5) == "InvokeError"


def test_run_returns_the_result(tmp_path: Path, make: Make) -> None:
    async def adds(event: Any, context: Any) -> Any:
        return await context.step("add", lambda: event["a"] + 1)

    assert make(adds).run({"a": 1}, journal=tmp_path / "journal.db") == 2


def test_run_raises_suspended_when_only_longer_waits_are_left(tmp_path: Path, make: Make) -> None:
    async def waits(event: Any, context: Any) -> Any:
        return await context.wait(Duration.from_days(7), "await_approval")

    with pytest.raises(Suspended, match="'await_approval'") as caught:
        make(waits).run(None, wait=1, journal=tmp_path / "journal.db")
    assert any("await_approval" in line for line in caught.value.waiting_for)
    assert caught.value.execution.id


def test_a_handler_is_named_by_its_module_and_function() -> None:
    @durable_execution
    def some_handler(event: Any, context: Context) -> None: ...

    assert some_handler.name.endswith(
        "test_steps.test_a_handler_is_named_by_its_module_and_function.some_handler"
    )


def test_a_handler_may_call_another_as_part_of_itself(make: Make, outcome: Any, kind: str) -> None:
    async def inner(event: Any, context: Any) -> Any:
        return await context.step("inner", lambda: event + 1)

    if kind == "async":
        part = make(inner)

        @durable_execution
        async def whole(event: Any, context: AsyncContext) -> Any:
            return await part(1, context)
    else:

        @durable_execution
        def plain(event: Any, context: Context) -> Any:
            return context.step("inner", lambda: event + 1)

        @durable_execution
        def whole(event: Any, context: Context) -> Any:
            return plain(1, context)

    assert outcome(whole) == 2


def test_gather_keeps_the_order_of_its_calls(make: Make, outcome: Any) -> None:
    async def pipeline(event: Any, context: Any) -> Any:
        return await gather(context, *(context.step(f"s{n}", lambda n=n: n) for n in range(5)))

    assert outcome(make(pipeline)) == [0, 1, 2, 3, 4]
