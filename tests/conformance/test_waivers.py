"""Each thing that AWS's local runner leaves out of its history, shown by the least that does.

The functions here speak to the runner by its API alone, nothing of perdure between. A case that
fails says that the runner has learned to tell; its waiver is then to go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..durable.aws.stage import serving
from ..durable.aws.worlds import AwsWorld
from .requirements import Requirement
from .waivers import under_the_runner

Update = dict[str, Any]
DONE = {"Status": "SUCCEEDED", "Result": "null"}


def history(aws: AwsWorld, call: Callable[[Any], Any]) -> list[dict[str, Any]]:
    """Return the events of an execution whose invocations are this call's."""
    with serving(lambda name, event: call(event)) as function:
        run = aws.start_named("raw", None, function.url)
        run.outcome()
        return run.history()


def writing(aws: AwsWorld, *updates: Update) -> Callable[[Any], Any]:
    """Return a function that writes these updates, and is done."""

    def call(event: Any) -> Any:
        arn, token = event["DurableExecutionArn"], event["CheckpointToken"]
        aws.api.checkpoint_durable_execution(
            DurableExecutionArn=arn, CheckpointToken=token, Updates=updates
        )
        return DONE

    return call


def only(events: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    [event] = [event for event in events if event["EventType"] == kind]
    return event


def test_an_invocation_is_told_without_details(aws: AwsWorld) -> None:
    completed = only(history(aws, lambda event: DONE), "InvocationCompleted")

    assert "InvocationCompletedDetails" not in completed


def test_a_step_that_succeeded_is_told_without_its_attempts(aws: AwsWorld) -> None:
    step = {"Id": "step", "Type": "STEP", "Name": "step", "SubType": "Step"}
    call = writing(aws, step | {"Action": "START"}, step | {"Action": "SUCCEED", "Payload": "1"})

    details = only(history(aws, call), "StepSucceeded")["StepSucceededDetails"]
    assert details == {"Result": {"Payload": "1", "Truncated": False}}


def test_a_callback_is_told_without_its_timeouts(aws: AwsWorld) -> None:
    times = {"TimeoutSeconds": 50, "HeartbeatTimeoutSeconds": 40}
    callback = {"Id": "callback", "Type": "CALLBACK", "Name": "callback", "SubType": "Callback"}
    call = writing(aws, callback | {"Action": "START", "CallbackOptions": times})

    details = only(history(aws, call), "CallbackStarted")["CallbackStartedDetails"]
    assert list(details) == ["CallbackId"]


def test_nothing_is_told_of_an_invocation_that_failed(aws: AwsWorld) -> None:
    invoked = 0

    def call(event: Any) -> Any:
        nonlocal invoked
        invoked += 1
        if invoked == 1:
            raise RuntimeError("the process died")
        return DONE

    told = [event["EventType"] for event in history(aws, call)]
    assert told == ["ExecutionStarted", "InvocationCompleted", "ExecutionSucceeded"]
    assert invoked == 2


def test_all_else_stays_expected() -> None:
    step = {"EventType": "StepSucceeded", "EventId": 2, "StepSucceededDetails": {"Result": {}}}
    attempts = {"RetryDetails": {"CurrentAttempt": 1}}
    retried = step | {"StepSucceededDetails": {"Result": {}} | attempts}
    failed = {"EventType": "StepFailed", "EventId": 3, "StepFailedDetails": attempts}
    ended = {"EventType": "InvocationCompleted", "EventId": 4, "EventTimestamp": "*"}
    history = [retried, failed, ended | {"InvocationCompletedDetails": {}}]

    judged = under_the_runner(Requirement("1-1", None, history, None, [], []))
    assert judged.history == [step, failed, ended]


def test_an_invocation_whose_process_died_is_not_expected_and_does_not_count() -> None:
    kinds = ["StepStarted", "InvocationCompleted", "StepFailed", "InvocationCompleted"]
    history = [{"EventType": kind, "EventId": at} for at, kind in enumerate(kinds, 2)]

    judged = under_the_runner(Requirement("1-17", None, history, None, [], []))
    assert [(each["EventType"], each["EventId"]) for each in judged.history] == [
        ("StepStarted", 2),
        ("StepFailed", 3),
        ("InvocationCompleted", 4),
    ]
