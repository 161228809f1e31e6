"""The translation between the journal's words and those of the Lambda API."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from perdure.durable.aws.wire import (
    MAX_ERROR,
    MAX_OUTPUT,
    error_of,
    execution_update,
    operation_of,
    output,
    updates_of,
    whole_seconds,
    wire_error,
)
from perdure.durable.events import OUTCOME, Event, EventKind
from perdure.durable.operations import ErrorObject, Operation, OperationStatus, OperationType
from perdure.durable.session import Failed, Pending, Succeeded

K, S, T = EventKind, OperationStatus, OperationType
START, END = 1_795_467_318_795, 1_795_467_318_811


def moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=milliseconds)


def wire(type: str, status: str, **fields: Any) -> dict[str, Any]:
    return {"Id": "op-1", "Type": type, "Status": status, "StartTimestamp": START, **fields}


@pytest.mark.parametrize("time", [int, moment], ids=["event", "boto3"])
def test_a_step_reads_alike_from_an_event_and_from_boto3(time: Any) -> None:
    told = {
        "Id": "op-1",
        "ParentId": "op-0",
        "Name": "greet",
        "Type": "STEP",
        "SubType": "Step",
        "Status": "SUCCEEDED",
        "StartTimestamp": time(START),
        "EndTimestamp": time(END),
        "StepDetails": {"Attempt": 2, "Result": '"Hello"'},
    }

    assert operation_of(told) == Operation(
        "op-1", T.STEP, S.SUCCEEDED, "op-0", "greet", "Step", START, END, 2, '"Hello"'
    )


def test_a_delayed_retry_is_due_at_its_next_attempt_and_a_ready_one_is_not() -> None:
    details = {"Attempt": 1, "NextAttemptTimestamp": END, "Error": {"ErrorMessage": "no"}}

    pending = operation_of(wire("STEP", "PENDING", StepDetails=details))
    ready = operation_of(wire("STEP", "READY", StepDetails=details))

    assert (pending.status, pending.due, pending.attempt) == (S.PENDING, END, 1)
    assert (ready.status, ready.due, ready.error) == (S.READY, None, ErrorObject("no"))


def test_a_wait_is_due_at_its_scheduled_end_until_it_has_ended() -> None:
    details = {"ScheduledEndTimestamp": END}

    assert operation_of(wire("WAIT", "STARTED", WaitDetails=details)).due == END
    assert operation_of(wire("WAIT", "SUCCEEDED", WaitDetails=details)).due is None


def test_a_callback_brings_its_id_and_no_due_time() -> None:
    details = {"CallbackId": "eyJ=", "Result": "plain text"}

    found = operation_of(wire("CALLBACK", "SUCCEEDED", CallbackDetails=details))

    assert (found.callback_id, found.payload, found.due) == ("eyJ=", "plain text", None)


def test_a_scope_says_whether_its_children_are_replayed() -> None:
    found = operation_of(wire("CONTEXT", "SUCCEEDED", ContextDetails={"ReplayChildren": True}))

    assert found.replay_children
    assert found.payload is None


def test_the_execution_carries_the_input() -> None:
    details = {"InputPayload": '{"a": 1}'}

    assert (
        operation_of(wire("EXECUTION", "STARTED", ExecutionDetails=details)).payload == '{"a": 1}'
    )


@pytest.mark.parametrize("type", sorted(T))
def test_details_may_be_missing(type: str) -> None:
    assert operation_of(wire(type, "STARTED")).payload is None


def event(kind: EventKind, **fields: Any) -> Event:
    return Event(kind, END, "op-1", "op-0", "greet", "Step", **fields)


COMMON = {"Id": "op-1", "ParentId": "op-0", "Name": "greet", "SubType": "Step"}


def test_an_event_that_is_start_and_end_becomes_both_updates() -> None:
    ended = event(K.STEP_SUCCEEDED, started=START, payload='"Hi"', attempt=1, digest="d")

    assert updates_of(ended) == [
        {**COMMON, "Type": "STEP", "Action": "START"},
        {**COMMON, "Type": "STEP", "Action": "SUCCEED", "Payload": '"Hi"'},
    ]


def test_an_end_whose_start_is_on_record_becomes_one_update() -> None:
    error = ErrorObject("no", "ValueError", None, ("line 1", "line 2"))

    assert updates_of(event(K.STEP_FAILED, error=error, attempt=1)) == [
        {
            **COMMON,
            "Type": "STEP",
            "Action": "FAIL",
            "Error": {
                "ErrorMessage": "no",
                "ErrorType": "ValueError",
                "StackTrace": ["line 1", "line 2"],
            },
        }
    ]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (event(K.CONTEXT_STARTED), {"Type": "CONTEXT", "Action": "START"}),
        (
            event(K.CONTEXT_SUCCEEDED, replay_children=True),
            {
                "Type": "CONTEXT",
                "Action": "SUCCEED",
                "ContextOptions": {"ReplayChildren": True},
            },
        ),
        (
            event(K.STEP_RETRIED, payload="3", delay=0.2),
            {
                "Type": "STEP",
                "Action": "RETRY",
                "Payload": "3",
                "StepOptions": {"NextAttemptDelaySeconds": 1},
            },
        ),
        (
            event(K.WAIT_STARTED, delay=2.5),
            {"Type": "WAIT", "Action": "START", "WaitOptions": {"WaitSeconds": 3}},
        ),
        (event(K.CALLBACK_STARTED), {"Type": "CALLBACK", "Action": "START"}),
        (
            event(K.CALLBACK_STARTED, timeout=604_800, heartbeat=0.5),
            {
                "Type": "CALLBACK",
                "Action": "START",
                "CallbackOptions": {"TimeoutSeconds": 604_800, "HeartbeatTimeoutSeconds": 1},
            },
        ),
        (
            event(K.INVOKE_STARTED, payload="{}", function="other", timeout=5),
            {
                "Type": "CHAINED_INVOKE",
                "Action": "START",
                "Payload": "{}",
                "ChainedInvokeOptions": {"FunctionName": "other"},
            },
        ),
    ],
    ids=lambda value: value.kind.value if isinstance(value, Event) else "",
)
def test_each_event_of_a_run_has_its_update(told: Event, expected: dict[str, Any]) -> None:
    assert updates_of(told) == [COMMON | expected]


@pytest.mark.parametrize("kind", sorted(set(K) - OUTCOME.keys()))
def test_what_aws_has_no_word_for_is_never_sent(kind: EventKind) -> None:
    assert updates_of(Event(kind, END, "op-1")) == []


@pytest.mark.parametrize(
    "kind",
    [K.WAIT_SUCCEEDED, K.CALLBACK_SUCCEEDED, K.CALLBACK_TIMED_OUT, K.INVOKE_FAILED],
)
def test_what_others_did_is_never_sent(kind: EventKind) -> None:
    assert updates_of(event(kind)) == []


def test_an_unnamed_operation_at_the_top_has_neither_name_nor_parent() -> None:
    update = updates_of(Event(K.WAIT_STARTED, END, "op-1", subtype="Wait", delay=1))[0]

    assert update.keys() == {"Id", "Type", "SubType", "Action", "WaitOptions"}


def test_a_subtype_is_made_to_fit() -> None:
    told = Event(K.STEP_STARTED, END, "op-1", subtype="my layer's kind of übergroße operation")

    assert re.fullmatch(r"[A-Za-z0-9_-]{1,32}", updates_of(told)[0]["SubType"])


@pytest.mark.parametrize(
    ("seconds", "whole"), [(None, 1), (0, 1), (0.001, 1), (1, 1), (1.2, 2), (1e12, 31_622_400)]
)
def test_seconds_are_rounded_up_from_one_to_366_days(seconds: float | None, whole: int) -> None:
    assert whole_seconds(seconds) == whole


def test_updates_are_what_botocore_takes() -> None:
    import botocore.session
    from botocore.validate import ParamValidator

    model = botocore.session.get_session().get_service_model("lambda")
    shape = model.shape_for("OperationUpdate")
    told = [
        event(kind, started=START, payload="1", delay=1, timeout=9, heartbeat=3, function="f")
        for kind in OUTCOME
    ]
    for update in [update for each in told for update in updates_of(each)]:
        assert not ParamValidator().validate(update, shape).has_errors(), update


def test_an_error_reads_back_as_it_was_sent() -> None:
    error = ErrorObject("no", "app.Refused", "perdure:op-1", ("line 1", "line 2"))

    assert error_of(wire_error(error)) == error
    assert error_of(None) is None
    assert error_of({}) == ErrorObject("")


@pytest.mark.parametrize("letter", ["x", "ü", "🙂", '"'])
def test_an_error_is_cut_to_what_the_service_takes(letter: str) -> None:
    error = ErrorObject(letter * 200_000, "T" * 50, None, tuple(letter * 100 for _ in range(900)))

    told = wire_error(error)

    assert MAX_ERROR * 0.9 < len(json.dumps(told)) <= MAX_ERROR
    assert told["ErrorMessage"].startswith(letter)
    assert told["ErrorType"] == "T" * 50


def test_the_last_lines_of_a_traceback_are_the_ones_kept() -> None:
    trace = tuple(f"line {n} " + "x" * 200 for n in range(1000))

    told = wire_error(ErrorObject("no", "E", None, trace))

    assert told["ErrorMessage"] == "no"
    assert told["StackTrace"] == list(trace[-len(told["StackTrace"]) :])
    assert len(told["StackTrace"]) > 100


def test_each_ending_has_its_output() -> None:
    assert output(Succeeded('{"a": 1}')) == {"Status": "SUCCEEDED", "Result": '{"a": 1}'}
    assert output(Succeeded('{"a": 1}'), concluded=True) == {"Status": "SUCCEEDED", "Result": ""}
    assert output(Pending()) == {"Status": "PENDING"}
    assert output(Failed(ErrorObject("no", "E"))) == {
        "Status": "FAILED",
        "Error": {"ErrorMessage": "no", "ErrorType": "E"},
    }


def test_a_result_too_large_for_an_output_is_checkpointed() -> None:
    fits = Succeeded("x" * (MAX_OUTPUT - 100))
    large = Succeeded("x" * MAX_OUTPUT)

    assert execution_update(fits, END) is None
    assert execution_update(Failed(ErrorObject("x" * MAX_OUTPUT)), END) is None
    assert execution_update(large, END) == {
        "Id": f"execution-result-{END}",
        "Type": "EXECUTION",
        "Action": "SUCCEED",
        "Payload": large.payload,
    }
