"""The history folded: what the embedded engine tells in AWS's shape comes to its own operations."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given

from perdure.durable import OperationStatus
from perdure.durable.aws.history import by_path, is_active, operations_of, status_after
from perdure.durable.host import Host
from perdure.durable.testing import Runner

from .. import programs
from ..test_properties import SAMPLE, Trial, host, rolls, runner  # noqa: F401

AT = datetime(2026, 1, 1, tzinfo=UTC)


def event(kind: str, details: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    named = {"EventType": kind, "EventTimestamp": AT, "Id": "op", "Name": "it"}
    return named | more | {f"{kind}Details": details or {}}


def shape(operations: Any) -> Any:
    names = ("type", "subtype", "status", "parent", "payload", "error", "attempt", "due")
    return {path: [getattr(each, name) for name in names] for path, each in operations.items()}


@SAMPLE
@given(program=programs.programs(), dice=rolls)
def test_whatever_a_handler_does_its_history_tells_it(
    runner: Runner,  # noqa: F811
    host: Host,  # noqa: F811
    program: Any,
    dice: Any,
) -> None:
    trial = Trial(runner, host, "sync", program)
    while True:
        run = trial.run
        assert shape(by_path(operations_of(run.history()))) == shape(run.operations())
        if not trial.waits:
            break
        trial.settle_one(dice)
    assert status_after(run.history()[-1]) == run.status


def test_a_condition_that_is_polled_again_is_pending_and_keeps_its_state() -> None:
    polled = {
        "Result": {"Payload": "2", "Truncated": False},
        "RetryDetails": {"CurrentAttempt": 1, "NextAttemptDelaySeconds": 30},
    }
    (operation,) = operations_of(
        [event("StepStarted", SubType="WaitForCondition"), event("StepSucceeded", polled)]
    ).values()

    assert operation.status is OperationStatus.PENDING
    assert (operation.attempt, operation.payload) == (1, "2")
    assert operation.due == round(AT.timestamp() * 1000) + 30_000


def test_the_last_failure_has_no_delay_or_a_delay_of_nothing() -> None:
    for retry in ({"CurrentAttempt": 3}, {"CurrentAttempt": 3, "NextAttemptDelaySeconds": 0}):
        failed = {"Error": {"Payload": {"ErrorMessage": "no"}}, "RetryDetails": retry}
        (operation,) = operations_of([event("StepStarted"), event("StepFailed", failed)]).values()
        assert (operation.status, operation.attempt) == ("FAILED", 3)


def test_attempts_are_counted_where_the_service_does_not() -> None:
    events = [
        event("StepStarted"),
        event("StepFailed", {"RetryDetails": {"NextAttemptDelaySeconds": 1, "CurrentAttempt": 1}}),
        event("StepStarted"),
        event("StepSucceeded", {"Result": {"Payload": "1"}}),
    ]
    (operation,) = operations_of(events).values()

    assert (operation.status, operation.attempt) == ("SUCCEEDED", 2)


def test_what_the_service_cut_off_is_not_taken_for_the_whole() -> None:
    cut = {"Result": {"Payload": '{"a": "b', "Truncated": True}}
    (operation,) = operations_of([event("StepStarted"), event("StepSucceeded", cut)]).values()

    assert (operation.status, operation.payload) == ("SUCCEEDED", None)


def test_a_callback_has_its_id_and_its_time() -> None:
    started = {"CallbackId": "Q0I=", "Timeout": 60, "HeartbeatTimeout": 5}
    (operation,) = operations_of([event("CallbackStarted", started)]).values()

    # Heartbeats are not told, so when the next one is due is not known.
    assert operation.callback_id == "Q0I="
    assert operation.due == round(AT.timestamp() * 1000) + 60_000


@pytest.mark.parametrize("kind", ["ExecutionPaused", "SomethingNew", "InvocationCompleted"])
def test_what_is_about_the_run_or_not_known_is_passed_over(kind: str) -> None:
    assert operations_of([event(kind)]) == {}


def test_whether_a_run_is_invoked_and_what_it_came_to_is_read_from_its_last_event() -> None:
    assert is_active([event("ExecutionStarted")])
    assert not is_active([event("StepSucceeded"), event("InvocationCompleted")])
    assert is_active([event("InvocationCompleted"), event("CallbackSucceeded")])
    assert not is_active([event("InvocationCompleted"), event("ExecutionFailed")])
    assert status_after(event("ExecutionStopped")) == "STOPPED"
    assert status_after(event("StepStarted")) == "RUNNING"
