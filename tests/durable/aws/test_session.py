"""What an invocation does with the service's rarer answers, which a server of the test gives."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote

import pytest

from perdure.durable import (
    Context,
    ErrorObject,
    SystemClock,
    UsageError,
    durable_execution,
)
from perdure.durable.aws import service, session
from perdure.durable.aws.service import LambdaService, ServiceError
from perdure.durable.aws.session import AwsSession
from perdure.durable.events import Event, EventKind
from perdure.durable.session import Pending

from .stage import CREDENTIALS, HttpServer
from .worlds import AwsWorld, Outcome

ARN = "arn:aws:lambda:us-west-2:123456789012:function:f:1/durable-execution/name/run-1"
Answer = tuple[int, dict[str, str], Any]


class Service:
    """A durable API that answers as it is told to; by default it takes everything."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.answer: Callable[[int, list[Any]], Answer] = lambda number, updates: taken(number)
        self.pages: dict[str, Any] = {}
        self.failed: list[tuple[str, Any]] = []
        self.refusal: Answer | None = None
        self._server = HttpServer(self._route)
        self.url = self._server.url

    def close(self) -> None:
        self._server.close()

    def _route(self, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if "/state?" in path:
            marker = path.partition("Marker=")[2].partition("&")[0]
            return 200, {}, json.dumps(self.pages[marker]).encode()
        call = json.loads(body)
        if path.endswith("/fail"):
            self.failed.append((unquote(path.split("/")[-2]), call))
            status, headers, answer = self.refusal or (200, {}, {})
            return status, headers, json.dumps(answer).encode()
        self.calls.append(call)
        status, headers, answer = self.answer(len(self.calls), call["Updates"])
        return status, headers, json.dumps(answer).encode()


def taken(number: int, *operations: Any, **state: Any) -> Answer:
    """Return the answer to the call of this number: its updates were taken."""
    told = {"Operations": list(operations), **state}
    return 200, {}, {"CheckpointToken": f"token-{number}", "NewExecutionState": told}


def refused(status: int, code: str, message: str) -> Answer:
    """Return an answer that refuses a call."""
    return status, {"x-amzn-ErrorType": code}, {"Message": message, "Type": "User"}


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    stub = Service()
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", stub.url)
    # This client is the test's; the one that other tests count calls on is put back.
    monkeypatch.setattr(service, "_cached", None)
    yield stub
    stub.close()


@pytest.fixture
def lone(api: Service) -> LambdaService:
    """The API over a client that does not try again by itself."""
    import boto3
    from botocore.config import Config

    config = Config(retries={"total_max_attempts": 1}, connect_timeout=2)
    return LambdaService(boto3.client("lambda", config=config))


def invocation(*operations: Any, marker: str = "") -> dict[str, Any]:
    """Return the event of an invocation with this state."""
    execution = {
        "Id": "run-1",
        "Type": "EXECUTION",
        "Status": "STARTED",
        "StartTimestamp": 1,
        "ExecutionDetails": {"InputPayload": "null"},
    }
    return {
        "DurableExecutionArn": ARN,
        "CheckpointToken": "token-0",
        "InitialExecutionState": {"Operations": [execution, *operations], "NextMarker": marker},
    }


def opened(lone: LambdaService) -> AwsSession:
    return AwsSession.open(lone, SystemClock(), invocation())


def step_ended(number: int, payload: str = "1") -> Event:
    id = f"scope-{number}"
    return Event(EventKind.STEP_SUCCEEDED, 2, id, None, "s", "Step", 1, 1, payload)


def with_callback(lone: LambdaService) -> AwsSession:
    """Return a session whose run has a callback of the id `CB+1=`."""
    callback = {
        "Id": "scope-1",
        "Type": "CALLBACK",
        "Status": "STARTED",
        "StartTimestamp": 1,
        "CallbackDetails": {"CallbackId": "CB+1="},
    }
    return AwsSession.open(lone, SystemClock(), invocation(callback))


# -- events that are none ---------------------------------------------------------------------


@durable_execution(name="two-steps")
def two_steps(event: Any, context: Context) -> Any:
    return [context.step("one", lambda: 1), context.step("two", lambda: 2)]


@pytest.mark.parametrize("event", [{"document_id": "d1"}, None, "text", []])
def test_what_is_no_durable_invocation_is_refused_with_the_cure(event: Any) -> None:
    with pytest.raises(UsageError, match="not a durable invocation") as caught:
        two_steps(event, None)

    assert "handler.run(event) or configure DurableConfig" in str(caught.value)


def test_boto3_is_loaded_by_the_first_invocation_and_not_before() -> None:
    code = "import sys, perdure.durable.aws; print('boto3' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)

    assert done.stdout.strip() == b"False"


# -- tokens and refusals ----------------------------------------------------------------------


def test_each_call_uses_the_token_of_the_answer_before(api: Service) -> None:
    assert two_steps(invocation(), None) == {"Status": "SUCCEEDED", "Result": "[1, 2]"}

    assert [call["CheckpointToken"] for call in api.calls] == ["token-0", "token-1"]


def test_without_a_token_nothing_more_is_run_or_written_and_the_run_is_pending(
    api: Service,
) -> None:
    ran = []

    @durable_execution(name="paused")
    def paused(event: Any, context: Context) -> Any:
        context.step("one", lambda: ran.append(1))
        context.step("two", lambda: ran.append(2))

    api.answer = lambda number, updates: (200, {}, {"NewExecutionState": {}})

    assert paused(invocation(), None) == {"Status": "PENDING"}
    assert ran == [1]
    assert len(api.calls) == 1


def test_branches_of_a_paused_run_write_nothing_more(api: Service) -> None:
    first = threading.Event()

    @durable_execution(name="paused-branches")
    def paused(event: Any, context: Context) -> Any:
        branches = {
            "fast": lambda c: c.step("fast", lambda: 1, semantics="at_most_once"),
            "slow": lambda c: c.step("slow", first.wait, 5),
        }
        return list(context.parallel("both", branches))

    def answer(number: int, updates: list[Any]) -> Answer:
        first.set()
        return 200, {}, {"NewExecutionState": {}}

    api.answer = answer

    assert paused(invocation(), None) == {"Status": "PENDING"}
    assert len(api.calls) == 1


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (400, "InvalidParameterValueException", "Invalid checkpoint token"),
        (400, "InvalidParameterValueException", "Invalid Checkpoint Token: used up"),
        (400, "400", "Invalid checkpoint token"),
        (429, "TooManyRequestsException", "Rate exceeded"),
        (500, "ServiceException", "sorry"),
        (503, "Whatever", "sorry"),
    ],
)
def test_what_may_pass_has_lambda_invoke_again(
    api: Service, lone: LambdaService, status: int, code: str, message: str
) -> None:
    api.answer = lambda number, updates: refused(status, code, message)

    with pytest.raises(ServiceError) as caught:
        lone.checkpoint(ARN, "token-0", [])

    assert caught.value.transient
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (400, "InvalidParameterValueException", "Invalid parent operation id."),
        (403, "AccessDeniedException", "not authorized"),
        (404, "ResourceNotFoundException", "no such execution"),
        (502, "KMSAccessDeniedException", "the key is not yours"),
    ],
)
def test_what_would_fail_again_fails_the_execution(
    api: Service, lone: LambdaService, status: int, code: str, message: str
) -> None:
    api.answer = lambda number, updates: refused(status, code, message)

    with pytest.raises(ServiceError) as caught:
        lone.checkpoint(ARN, "token-0", [])

    assert not caught.value.transient


def test_a_service_out_of_reach_has_lambda_invoke_again(api: Service, lone: LambdaService) -> None:
    api.close()

    with pytest.raises(ServiceError) as caught:
        lone.checkpoint(ARN, "token-0", [])

    assert caught.value.transient


def test_a_request_that_botocore_refuses_fails_the_execution(lone: LambdaService) -> None:
    with pytest.raises(ServiceError) as caught:
        lone.checkpoint(ARN, "token-0", [{"Id": 1}])

    assert not caught.value.transient


def test_a_passing_refusal_is_raised_whatever_the_handler_does_with_it(api: Service) -> None:
    @durable_execution(name="swallows")
    def swallows(event: Any, context: Context) -> Any:
        try:
            context.step("one", lambda: 1)
        except Exception:
            return "swallowed"

    api.answer = lambda number, updates: refused(400, "X", "Invalid checkpoint token")

    with pytest.raises(ServiceError):
        swallows(invocation(), None)


def test_a_final_refusal_is_the_runs_failure(api: Service) -> None:
    api.answer = lambda number, updates: refused(400, "X", "Invalid parent operation id.")

    answer = two_steps(invocation(), None)

    assert answer["Status"] == "FAILED"
    assert answer["Error"]["ErrorType"] == "perdure.ServiceError"
    assert "Invalid parent operation id." in answer["Error"]["ErrorMessage"]
    assert len(api.calls) == 1


# -- calls ------------------------------------------------------------------------------------


def test_a_call_carries_at_most_250_updates(api: Service, lone: LambdaService) -> None:
    held = opened(lone)

    held.wait(held.enqueue([step_ended(n) for n in range(200)], None))

    assert [len(call["Updates"]) for call in api.calls] == [250, 150]


def test_a_call_carries_at_most_750_kib_but_always_one_update(
    api: Service, lone: LambdaService
) -> None:
    held = opened(lone)
    sizes = [300_000, 300_000, 300_000, 900_000, 10]

    held.wait(held.enqueue([step_ended(n, '"' + "x" * s + '"') for n, s in enumerate(sizes)], None))

    assert [len(call["Updates"]) for call in api.calls] == [5, 2, 1, 2]
    assert sum(len(call["Updates"]) for call in api.calls) == 2 * len(sizes)


def test_no_events_are_a_question_and_the_end_of_a_pass_is_none(
    api: Service, lone: LambdaService
) -> None:
    held = opened(lone)

    held.wait(held.enqueue([], None))
    held.end([], Pending())

    assert [call["Updates"] for call in api.calls] == [[]]


def test_the_state_is_read_to_its_last_page(api: Service, lone: LambdaService) -> None:
    step = {"Type": "STEP", "Status": "SUCCEEDED", "StartTimestamp": 1, "StepDetails": {}}
    api.pages = {
        "m1": {"Operations": [step | {"Id": "op-1"}], "NextMarker": "m2"},
        "m2": {"Operations": [step | {"Id": "op-2"}]},
        "m3": {"Operations": [step | {"Id": "op-3"}]},
    }

    held = AwsSession.open(lone, SystemClock(), invocation(marker="m1"))
    assert list(held.operations) == ["op-1", "op-2"]

    api.answer = lambda number, updates: taken(number, NextMarker="m3")
    assert [state.id for state in lone.checkpoint(ARN, "token-0", []).operations] == ["op-3"]


def test_two_runs_have_two_seeds_and_a_run_has_one(lone: LambdaService) -> None:
    first, again = opened(lone), opened(lone)
    other = AwsSession(lone, SystemClock(), ARN.replace("run-1", "run-2"), "t", [])

    assert first.seed == again.seed != other.seed
    assert (first.execution_id, other.execution_id) == ("run-1", "run-2")


# -- what answers tell ------------------------------------------------------------------------


def test_what_comes_with_the_last_answer_is_not_slept_through(api: Service) -> None:
    @durable_execution(name="sleeper")
    def sleeper(event: Any, context: Context) -> Any:
        context.sleep(1)
        return "awake"

    def answer(number: int, updates: list[Any]) -> Answer:
        ended = {
            "Id": updates[0]["Id"],
            "Type": "WAIT",
            "Status": "SUCCEEDED",
            "StartTimestamp": 1,
        }
        return taken(number, ended)

    api.answer = answer

    assert sleeper(invocation(), None) == {"Status": "SUCCEEDED", "Result": '"awake"'}
    assert len(api.calls) == 1


def test_a_retry_is_not_started_before_the_service_calls_it_ready(
    api: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "SOONEST", 1)
    ran = []

    @durable_execution(name="retried")
    def retried(event: Any, context: Context) -> Any:
        return context.step("flaky", lambda: ran.append(1), retry={"max_attempts": 3})

    def pending(id: str, status: str) -> dict[str, Any]:
        details = {"Attempt": 1, "NextAttemptTimestamp": 1, "Error": {"ErrorMessage": "no"}}
        kind = {"Type": "STEP", "SubType": "Step", "Name": "flaky", "StartTimestamp": 1}
        return {"Id": id, "Status": status, "StepDetails": details, **kind}

    started: list[str] = []
    api.answer = lambda number, updates: started.append(updates[0]["Id"]) or taken(number)
    retried(invocation(), None)
    id = started[0]
    api.calls.clear()
    ran.clear()
    api.answer = lambda number, updates: taken(
        number, pending(id, "PENDING" if number < 3 else "READY")
    )

    # By this machine's clock the delay is over; by the service's it is not.
    assert retried(invocation(pending(id, "PENDING")), None)["Status"] == "SUCCEEDED"
    assert [len(call["Updates"]) for call in api.calls] == [0, 0, 0, 2]
    assert ran == [1]


def test_a_result_over_the_size_of_an_output_is_checkpointed(
    aws: AwsWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERDURE_LIMITS", '{"execution": 20000000}')

    @durable_execution(name="huge")
    def huge(event: Any, context: Context) -> Any:
        return "x" * 6_500_000

    run = aws.start(huge)

    assert run.outcome() == Outcome("x" * 6_500_000)
    assert aws.calls["CheckpointDurableExecution"] == 1


# -- callbacks that are withdrawn -------------------------------------------------------------


OVER = ErrorObject("over", "Over")


def test_a_callback_of_the_run_is_failed_at_the_service(api: Service, lone: LambdaService) -> None:
    assert with_callback(lone).fail_callback("CB+1=", OVER) is True

    ((id, error),) = api.failed
    assert id == "CB+1="
    assert (error["ErrorMessage"], error["ErrorType"]) == ("over", "Over")


@pytest.mark.parametrize(
    "refusal",
    [
        refused(400, "CallbackTimeoutException", "has expired or was already closed"),
        refused(404, "ResourceNotFoundException", "no such callback"),
        (404, {}, {"message": "Callback CB+1= not found"}),
    ],
    ids=["closed", "unknown", "local runner"],
)
def test_a_callback_that_is_closed_is_not_failed_again(
    api: Service, lone: LambdaService, refusal: Answer
) -> None:
    api.refusal = refusal

    assert with_callback(lone).fail_callback("CB+1=", OVER) is False


def test_a_callback_of_another_run_is_left_alone(api: Service, lone: LambdaService) -> None:
    assert with_callback(lone).fail_callback("CB2", OVER) is False
    assert api.failed == []


@pytest.mark.parametrize(("status", "transient"), [(429, True), (500, True), (403, False)])
def test_a_service_that_refuses_to_fail_a_callback_is_told_of_without_the_id(
    api: Service, lone: LambdaService, status: int, transient: bool
) -> None:
    api.refusal = refused(status, "Refused", "not callback CB+1=")

    with pytest.raises(ServiceError, match="the callback was not failed: Refused") as caught:
        with_callback(lone).fail_callback("CB+1=", OVER)

    assert caught.value.transient is transient
    assert "CB+1=" not in str(caught.value)
