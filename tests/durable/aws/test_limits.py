"""Limits on AWS: settings, checked before anything is sent, and told in words that help."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from perdure.durable import (
    Completion,
    Context,
    Limits,
    OperationError,
    UsageError,
    durable_execution,
)
from perdure.durable.aws.outgoing import LIMITS

from .worlds import AwsWorld, Outcome

Make = Callable[..., Any]


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets limits as a function's environment does."""
    return lambda **settings: monkeypatch.setenv(LIMITS, json.dumps(settings))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"paylod": 1}', "'paylod' is no limit; there are payload, replay_children"),
        ('{"payload": "1"}', "payload is a whole number from 1, not '1'"),
        ('{"payload": 0}', "payload is a whole number from 1, not 0"),
        ('{"payload": true}', "payload is a whole number from 1, not True"),
        ('{"payload": null}', "payload is a whole number from 1, not None"),
        ('{"invoke_timeout": 1}', "invoke_timeout is true or false, not 1"),
        ("[]", "is a JSON object, not list"),
        ("{", "is not JSON"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_named(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        Limits.aws().with_settings(text, LIMITS)

    assert words in str(caught.value)
    assert LIMITS in str(caught.value)


def test_settings_replace_what_they_name_and_nothing_else() -> None:
    limits = Limits.aws().with_settings('{"payload": 5, "operations": null}', LIMITS)

    assert (limits.payload, limits.operations) == (5, None)
    assert limits.stored == Limits.aws().stored


def test_a_wrong_setting_fails_the_run_before_its_handler_is_called(
    aws: AwsWorld, limits: Callable[..., None]
) -> None:
    ran: list[int] = []

    @durable_execution(name="misset")
    def handler(event: Any, context: Context) -> None:
        ran.append(1)

    limits(paylod=1)
    error = aws.start(handler).outcome().error

    assert error is not None
    assert error[0] == "perdure.UsageError"
    assert "'paylod' is no limit" in error[1]
    assert not ran


def test_a_result_over_the_limit_is_that_steps_failure(aws: AwsWorld, make: Make) -> None:
    ran: list[int] = []

    def large() -> str:
        ran.append(1)
        return "x" * 300_000

    async def body(event: Any, context: Any) -> Any:
        try:
            return await context.step("large", large, retry={"max_attempts": 3})
        except OperationError as error:
            return [error.error_type, "262,144" in error.error.message]

    run = aws.start(make(body, name="large-step"))

    assert run.outcome() == Outcome(["perdure.PayloadTooLargeError", True])
    assert ran == [1]


def test_a_run_may_have_a_larger_result_than_a_step(
    aws: AwsWorld, make: Make, limits: Callable[..., None]
) -> None:
    async def body(event: Any, context: Any) -> Any:
        return "x" * event

    handler = make(body, name="large-result")
    assert aws.start(handler, 400_000).outcome() == Outcome("x" * 400_000)

    limits(execution=300_000)
    error = aws.start(handler, 400_000).outcome().error
    assert error is not None
    assert error[0] == "perdure.PayloadTooLargeError"


def test_a_payload_for_another_function_is_held_to_the_limit_of_an_operation(
    aws: AwsWorld, make: Make
) -> None:
    async def body(event: Any, context: Any) -> Any:
        return await context.invoke("ask", "callee", "x" * 300_000)

    error = aws.start(make(body, name="large-payload")).outcome().error

    assert error is not None
    assert error[0] == "perdure.PayloadTooLargeError"
    assert "the payload of chainedinvoke 'ask'" in error[1]


def test_an_invoke_with_a_timeout_is_refused_with_the_ways_out(aws: AwsWorld, make: Make) -> None:
    async def body(event: Any, context: Any) -> Any:
        return await context.invoke("ask", "callee", 1, timeout=60)

    error = aws.start(make(body, name="timed-invoke")).outcome().error

    assert error is not None
    assert error[0] == "perdure.UsageError"
    assert "ExecutionTimeout" in error[1]
    assert "race it with context.sleep" in error[1]


def test_an_invoke_is_raced_with_a_timer_instead(aws: AwsWorld, make: Make) -> None:
    @durable_execution(name="callee")
    def callee(event: Any, context: Context) -> Any:
        context.sleep(20)

    async def ask(context: Any) -> Any:
        return await context.invoke("ask", "callee", 1)

    async def timer(context: Any) -> Any:
        await context.sleep(1)
        return "too late"

    async def body(event: Any, context: Any) -> Any:
        first = Completion(min_successful=1)
        branches = {"ask": ask, "timer": timer}
        return list(await context.parallel("race", branches, completion=first))

    aws.register(callee)

    assert aws.start(make(body, name="raced-invoke")).outcome() == Outcome(["too late"])


@pytest.mark.parametrize("caught", [False, True])
def test_a_run_at_its_limit_of_operations_fails_and_is_not_invoked_again(
    aws: AwsWorld, make: Make, limits: Callable[..., None], caught: bool
) -> None:
    ran: list[int] = []

    async def body(event: Any, context: Any) -> Any:
        for n in range(30):
            try:
                await context.step(f"step-{n}", ran.append, n)
            except Exception:
                if not caught:
                    raise

    limits(operations=20)
    run = aws.start(make(body, name="many"))
    error = run.outcome().error

    assert error is not None
    assert error[0] == "perdure.OperationLimitError"
    assert "more than the 20 operations" in error[1]
    assert ran == list(range(20))
    assert run.invocations() == 1


def test_operations_of_earlier_invocations_count(
    aws: AwsWorld, make: Make, limits: Callable[..., None]
) -> None:
    ran: list[int] = []

    async def body(event: Any, context: Any) -> Any:
        for n in range(10):
            await context.step(f"step-{n}", ran.append, n)
            await context.sleep(1) if n == 4 else None

    limits(operations=8)
    error = aws.start(make(body, name="slow-many")).outcome().error

    assert error is not None
    assert error[0] == "perdure.OperationLimitError"
    assert ran == list(range(7))


def test_a_run_at_its_limit_is_still_held_where_that_is_asked_for(
    aws: AwsWorld, make: Make, limits: Callable[..., None]
) -> None:
    ran: list[int] = []

    async def body(event: Any, context: Any) -> Any:
        for n in range(30):
            await context.step(f"step-{n}", ran.append, n)
        return len(ran)

    limits(operations=20)
    run = aws.start(make(body, name="held-many", hold_on_failure=True))
    assert "more than the 20 operations" in run.held()
    limits(operations=40)
    run.resume()

    assert run.outcome() == Outcome(30)


def test_nine_tenths_of_a_limit_are_warned_of_once(
    aws: AwsWorld, make: Make, limits: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    async def body(event: Any, context: Any) -> Any:
        for n in range(19):
            await context.step(f"step-{n}", lambda: "x" * 100)
        await context.sleep(1)

    limits(operations=20, stored=1_000)
    with caplog.at_level(logging.WARNING, "perdure"):
        assert aws.start(make(body, name="nearly-many")).outcome() == Outcome(None)

    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert "of the 1,000 bytes of payloads that it may have" in told[0]
    assert "has 18 of the 20 operations that it may have" in told[1]


def test_calls_are_cut_as_the_limits_say(
    aws: AwsWorld, make: Make, limits: Callable[..., None]
) -> None:
    async def branch(context: Any, item: int) -> int:
        return int(await context.step("one", lambda: item))

    async def body(event: Any, context: Any) -> Any:
        return sum(await context.map("many", range(20), branch))

    limits(updates=2)
    run = aws.start(make(body, name="small-calls"))

    assert run.outcome() == Outcome(190)
    # 21 scopes and 20 steps, each a start and an end.
    assert aws.calls["CheckpointDurableExecution"] >= 41


def test_an_error_is_cut_to_its_limit_and_the_same_at_each_replay(
    aws: AwsWorld, make: Make, limits: Callable[..., None]
) -> None:
    seen: list[str] = []

    def broken() -> None:
        raise ValueError("no " * 5_000)

    async def body(event: Any, context: Any) -> Any:
        try:
            await context.step("broken", broken)
        except OperationError as error:
            seen.append(error.error.message)
            await context.sleep(1)

    limits(error=2_000)

    assert aws.start(make(body, name="small-errors")).outcome() == Outcome(None)
    assert len(seen) == 2
    assert seen[0] == seen[1]
    assert 500 < len(seen[0]) <= 1_000
