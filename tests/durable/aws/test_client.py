"""The two ways to call the durable API, held against each other: botocore's signer, and boto3."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from perdure.durable import Context, Duration, ErrorObject, UsageError, durable_execution
from perdure.durable.aws import service
from perdure.durable.aws.service import LambdaService, Making, ServiceError
from perdure.durable.aws.target import target_of

from .stage import CREDENTIALS
from .worlds import AwsWorld, Counted, Outcome

ARN = "arn:aws:lambda:us-west-2:123456789012:function:f:$LATEST/durable-execution/name/run-1"
TOKEN = "to/ken+0="
CALLBACK = "CB+/1="
OVER = ErrorObject("over", "Over")
KEYS = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "hush", "AWS_SESSION_TOKEN": "se/s+n"}
UPDATES = [
    {"Id": "s-1", "Type": "STEP", "Action": "START", "Name": "first"},
    {"Id": "s-1", "Type": "STEP", "Action": "SUCCEED", "Name": "first", "Payload": '"größer"'},
]
Answer = tuple[int, dict[str, str], Any]


class Request:
    """What came over the wire."""

    def __init__(self, handler: BaseHTTPRequestHandler) -> None:
        self.method = handler.command
        self.target = handler.path
        self.headers = {name.lower(): value for name, value in handler.headers.items()}
        self.body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        self.connection = handler.client_address

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Api:
    """A durable API that notes each request, and answers as it is told to."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.answers: list[Answer | None] = []
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1

            def do_POST(self) -> None:
                api.requests.append(Request(self))
                answer = api.answers.pop(0) if api.answers else taken()
                if answer is None:
                    self.close_connection = True
                    return
                status, headers, body = answer
                text = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                for name, value in (headers | {"Content-Length": str(len(text))}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def taken(*operations: Any) -> Answer:
    """Return the answer to a checkpoint that was taken, or to a question for the state."""
    state = {"Operations": list(operations)}
    return 200, {}, {"CheckpointToken": "next", "NewExecutionState": state} | state


def refused(status: int, code: str | None, message: str) -> Answer:
    """Return an answer that refuses a call; with no code, as AWS's local runner does."""
    return status, {"x-amzn-ErrorType": f"{code}:http://x"} if code else {}, {"message": message}


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    api = Api()
    for name, value in (CREDENTIALS | KEYS | {"AWS_ENDPOINT_URL_LAMBDA": api.url}).items():
        monkeypatch.setenv(name, value)
    yield api
    api.close()


@pytest.fixture(params=["signed", "boto3"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each client in turn."""
    monkeypatch.setenv(service.CHOICE, request.param)
    return str(request.param)


@pytest.fixture
def calls(api: Api, kind: str) -> LambdaService:
    return LambdaService(Making())


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


def call_all(calls: LambdaService) -> None:
    """Make each of the three calls once."""
    calls.checkpoint(ARN, TOKEN, UPDATES)
    calls.pages(ARN, TOKEN, "mar/k+er=")
    calls.fail_callback(CALLBACK, OVER)


# -- requests ---------------------------------------------------------------------------------


def signature_of(request: Request, host: str) -> str:
    """Return the signature that botocore gives to what came over the wire."""
    words = dict(
        word.strip(",").split("=", 1) for word in request.headers["authorization"].split(" ")[1:]
    )
    signed = {name: request.headers[name] for name in words["SignedHeaders"].split(";")}
    again = AWSRequest(request.method, host + request.target, signed, request.body or None)
    again.context["timestamp"] = request.headers["x-amz-date"]
    auth = SigV4Auth(Credentials(*KEYS.values()), "lambda", "us-west-2")
    signature: str = auth.signature(
        auth.string_to_sign(again, auth.canonical_request(again)), again
    )
    assert words["Signature"] == signature
    assert words["Credential"].startswith("AKID/")
    assert {"host", "x-amz-date", "x-amz-security-token"} <= signed.keys()
    return signature


def test_each_call_is_signed_over_what_is_sent(api: Api, calls: LambdaService) -> None:
    call_all(calls)

    assert len(api.requests) == 3
    assert len({signature_of(request, api.url) for request in api.requests}) == 3


def test_both_clients_ask_the_same(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, list[Any]] = {}
    for kind in ("signed", "boto3"):
        monkeypatch.setenv(service.CHOICE, kind)
        call_all(LambdaService(Making()))
        asked[kind] = [
            (
                request.method,
                urlsplit(request.target).path,
                parse_qs(urlsplit(request.target).query),
                request.headers.get("content-type"),
                {**(request.json if request.body else {}), "ClientToken": None},
            )
            for request in api.requests
        ]
        api.requests.clear()

    assert asked["signed"] == asked["boto3"]
    assert unquote(asked["signed"][0][1]) == f"/2025-12-01/durable-executions/{ARN}/checkpoint"
    assert asked["signed"][0][4]["Updates"] == UPDATES


def test_calls_go_over_one_connection(api: Api, calls: LambdaService) -> None:
    for _ in range(3):
        call_all(calls)

    assert len({request.connection for request in api.requests}) == 1


def test_lambda_is_told_by_whom_the_calls_are_made(
    api: Api, calls: LambdaService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "f")
    monkeypatch.setenv("_X_AMZN_TRACE_ID", "Root=1-2;Sampled=0")

    calls.checkpoint(ARN, TOKEN, [])

    assert api.requests[0].headers["x-amzn-trace-id"] == "Root=1-2;Sampled=0"
    assert "perdure/" in api.requests[0].headers["user-agent"]


# -- answers ----------------------------------------------------------------------------------


def test_the_times_of_an_answer_are_seconds(api: Api, calls: LambdaService) -> None:
    base = {"Status": "PENDING", "StartTimestamp": 1.5, "EndTimestamp": 1700000000}
    step = base | {
        "Id": "s",
        "Type": "STEP",
        "StepDetails": {"NextAttemptTimestamp": 1700000000.25},
    }
    timer = {"ScheduledEndTimestamp": "2023-11-14T22:13:20Z"}
    wait = base | {"Id": "w", "Type": "WAIT", "Status": "STARTED", "WaitDetails": timer}
    api.answers = [taken(step, wait), taken(step)]

    answer = calls.checkpoint(ARN, TOKEN, [])
    (read,) = calls.pages(ARN, TOKEN, "m1")

    first, second = answer.operations
    assert (first.started, first.ended, first.due) == (1500, 1700000000000, 1700000000250)
    assert second.due == 1700000000000
    assert read == first
    assert answer.token == "next"


def test_an_answer_without_a_token_has_none(api: Api, calls: LambdaService) -> None:
    api.answers = [(200, {}, {"NewExecutionState": {}})]

    assert calls.checkpoint(ARN, TOKEN, []).token is None


# -- calls that are sent again ----------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [None, refused(500, "ServiceException", "sorry"), refused(429, "TooManyRequestsException", "")],
    ids=["connection lost", "500", "429"],
)
@pytest.mark.usefixtures("impatient")
def test_a_checkpoint_that_may_have_been_taken_is_sent_again_under_its_own_token(
    api: Api, calls: LambdaService, fault: Answer | None
) -> None:
    api.answers = [fault, fault]

    assert calls.checkpoint(ARN, TOKEN, UPDATES).token == "next"
    assert calls.checkpoint(ARN, "next", UPDATES).token == "next"

    tokens = [request.json["ClientToken"] for request in api.requests]
    assert len(tokens) == 4
    assert tokens[0] == tokens[1] == tokens[2] != tokens[3]
    assert len({signature_of(request, api.url) for request in api.requests}) >= 2


@pytest.mark.usefixtures("impatient")
def test_a_call_is_sent_three_times_at_most(api: Api, calls: LambdaService) -> None:
    api.answers = [refused(503, None, "sorry")] * 9

    with pytest.raises(ServiceError) as caught:
        calls.checkpoint(ARN, TOKEN, UPDATES)

    assert caught.value.transient
    assert len(api.requests) == 3


def test_an_answer_that_was_cut_is_asked_for_again(
    api: Api, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.answers = [(200, {}, b'{"Checkpoint')]

    assert LambdaService(Making()).checkpoint(ARN, TOKEN, UPDATES).token == "next"
    assert len({request.json["ClientToken"] for request in api.requests}) == 1


# -- refusals ---------------------------------------------------------------------------------

PASSING = [
    (400, "InvalidParameterValueException", "Invalid checkpoint token"),
    (400, "InvalidParameterValueException", "Invalid Checkpoint Token: used up"),
    (400, None, "Invalid checkpoint token"),
    (429, "TooManyRequestsException", "Rate exceeded"),
    (429, None, ""),
    (500, None, "sorry"),
]
FINAL = [
    (400, "InvalidParameterValueException", "Invalid parent operation id."),
    (400, None, "Invalid parent operation id."),
    (403, "AccessDeniedException", "not authorized"),
    (404, "ResourceNotFoundException", "no such execution"),
    (502, "KMSAccessDeniedException", "the key is not yours"),
    (502, "KMSNotFoundException", "Invalid checkpoint token"),
]


@pytest.mark.parametrize(
    ("refusal", "transient"),
    [(refusal, True) for refusal in PASSING] + [(refusal, False) for refusal in FINAL],
    ids=lambda value: f"{value[0]} {value[1]}" if isinstance(value, tuple) else None,
)
@pytest.mark.usefixtures("impatient")
def test_refusals_are_classed_alike(
    api: Api, calls: LambdaService, refusal: tuple[int, str | None, str], transient: bool
) -> None:
    api.answers = [refused(*refusal)] * 3

    with pytest.raises(ServiceError) as caught:
        calls.checkpoint(ARN, TOKEN, UPDATES)

    assert caught.value.transient is transient
    assert refusal[2] in str(caught.value)
    assert (refusal[1] or str(refusal[0])) in str(caught.value)


@pytest.mark.parametrize("refusal", FINAL + PASSING[:3])
def test_what_would_be_refused_again_is_not_sent_again(
    api: Api, monkeypatch: pytest.MonkeyPatch, refusal: tuple[int, str | None, str]
) -> None:
    monkeypatch.setenv(service.CHOICE, "signed")
    api.answers = [refused(*refusal)]

    with pytest.raises(ServiceError):
        LambdaService(Making()).checkpoint(ARN, TOKEN, UPDATES)

    assert len(api.requests) == 1


def test_a_code_may_stand_in_the_body(api: Api, calls: LambdaService) -> None:
    body = {"__type": "com.amazonaws#ResourceNotFoundException", "Message": "gone"}
    api.answers = [(404, {}, body)]

    with pytest.raises(ServiceError, match=r"\(ResourceNotFoundException\).*gone") as caught:
        calls.checkpoint(ARN, TOKEN, [])

    assert not caught.value.transient


def test_a_refusal_that_is_not_json_is_still_one(api: Api, calls: LambdaService) -> None:
    api.answers = [(403, {}, b"<html>no</html>")]

    with pytest.raises(ServiceError) as caught:
        calls.checkpoint(ARN, TOKEN, [])

    assert not caught.value.transient


def test_what_is_no_json_is_refused_before_it_is_sent(api: Api, calls: LambdaService) -> None:
    with pytest.raises(ServiceError) as caught:
        calls.checkpoint(ARN, TOKEN, [{"Id": object()}])

    assert not caught.value.transient
    assert api.requests == []


@pytest.mark.usefixtures("impatient")
def test_no_secret_is_in_the_text_of_an_error(api: Api, calls: LambdaService) -> None:
    api.close()
    failing: list[Callable[[], Any]] = [
        lambda: calls.checkpoint(ARN, TOKEN, UPDATES),
        lambda: calls.pages(ARN, TOKEN, "mark"),
        lambda: calls.fail_callback(CALLBACK, OVER),
    ]
    for call in failing:
        with pytest.raises(ServiceError) as caught:
            call()

        assert caught.value.transient
        words = unquote(str(caught.value))
        assert not [each for each in (*KEYS.values(), TOKEN, CALLBACK) if each in words]


# -- callbacks --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "refusal",
    [
        refused(400, "CallbackTimeoutException", "closed"),
        refused(404, "ResourceNotFoundException", "unknown"),
        refused(404, None, "Callback CB+/1= not found"),
    ],
    ids=["closed", "unknown", "local runner"],
)
def test_a_closed_callback_is_not_failed_again(
    api: Api, calls: LambdaService, refusal: Answer
) -> None:
    api.answers = [refusal]

    assert calls.fail_callback(CALLBACK, OVER) is False


def test_a_callback_is_failed_with_the_error_as_it_is(api: Api, calls: LambdaService) -> None:
    api.answers = [(200, {}, b"")]

    assert calls.fail_callback(CALLBACK, OVER) is True
    assert api.requests[0].json == {"ErrorMessage": "over", "ErrorType": "Over"}


# -- where the calls go -----------------------------------------------------------------------

SANDBOX = KEYS | {"AWS_REGION": "us-west-2"}


@pytest.mark.parametrize(
    ("region", "settings"),
    [
        ("us-west-2", {}),
        ("eu-central-1", {}),
        ("cn-north-1", {}),
        ("us-gov-west-1", {}),
        ("us-gov-west-1", {"AWS_USE_FIPS_ENDPOINT": "true"}),
        ("us-east-1", {"AWS_USE_DUALSTACK_ENDPOINT": "true"}),
        ("us-east-1", {"AWS_ENDPOINT_URL": "https://all.example.org"}),
        (
            "us-east-1",
            {
                "AWS_ENDPOINT_URL": "https://all.example.org",
                "AWS_ENDPOINT_URL_LAMBDA": "http://l:1",
            },
        ),
    ],
)
def test_a_region_is_called_where_boto3_calls_it(
    monkeypatch: pytest.MonkeyPatch, region: str, settings: dict[str, str]
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    found = target_of(SANDBOX | {"AWS_REGION": region} | settings)

    assert found is not None
    theirs = boto3.Session(*KEYS.values(), region_name=region).client("lambda")
    assert found.url() == theirs.meta.endpoint_url


@pytest.mark.parametrize(
    "change",
    [
        {"AWS_ACCESS_KEY_ID": ""},
        {"AWS_SECRET_ACCESS_KEY": ""},
        {"AWS_REGION": ""},
        {"AWS_PROFILE": "other"},
        {"AWS_CONFIG_FILE": "/somewhere"},
        {"AWS_CREDENTIAL_EXPIRATION": "2030-01-01T00:00:00Z"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_the_environment_does_not_say_alone_is_left_to_boto3(change: dict[str, str]) -> None:
    assert target_of(SANDBOX) is not None
    assert target_of(SANDBOX | change) is None


def test_no_key_is_shown() -> None:
    assert not [key for key in KEYS.values() if key in repr(target_of(SANDBOX))]


def test_a_client_that_there_is_not_is_refused(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(service.CHOICE, "curl")

    with pytest.raises(UsageError, match="PERDURE_AWS_CLIENT is 'curl'; it may be 'signed'"):
        service.Making().get()
    with pytest.raises(ServiceError) as caught:
        LambdaService(Making()).checkpoint(ARN, TOKEN, [])
    assert not caught.value.transient


# -- whole runs -------------------------------------------------------------------------------

COLD = """
import json, sys
from perdure.durable import Context, Duration, durable_execution

@durable_execution(name="cold")
def cold(event, context):
    early = context.step("first", lambda: [name for name in HEAVY if name in sys.modules])
    context.step("second", lambda: 2)
    return [early, [name for name in HEAVY if name in sys.modules]]

HEAVY = ["boto3", "botocore.session", "asyncio", "langchain_core", "rich", "sqlite3"]
print(json.dumps(cold(json.loads(sys.argv[1]), None)))
"""


def test_a_cold_start_loads_no_boto3_and_no_event_loop(api: Api) -> None:
    execution = {"Id": "run-1", "Type": "EXECUTION", "Status": "STARTED", "StartTimestamp": 1}
    event = {
        "DurableExecutionArn": ARN,
        "CheckpointToken": TOKEN,
        "InitialExecutionState": {"Operations": [execution], "NextMarker": ""},
    }
    command = [sys.executable, "-c", COLD, json.dumps(event)]
    output = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)

    assert output == {"Status": "SUCCEEDED", "Result": "[[], []]"}


@pytest.fixture
def chosen(aws: AwsWorld, kind: str) -> Iterator[AwsWorld]:
    """The local runner, called by each client in turn."""
    before = service.client()
    service.use_client(Counted(Making().get(), aws.calls))
    yield aws
    service.use_client(before)


@durable_execution(name="client-whole")
def whole(event: Any, context: Context) -> Any:
    first = context.step("first", lambda: {"größe": "ü"})
    squares = context.map("squares", range(5), lambda c, n: c.step("square", lambda: n * n))
    context.sleep(Duration.from_seconds(1), "pause")
    said = context.wait(Duration.from_hours(1), "said")
    return [first, list(squares), said]


def test_a_run_goes_through_from_start_to_end(chosen: AwsWorld) -> None:
    run = chosen.start(whole)
    run.send("said", "yes")

    assert run.outcome() == Outcome([{"größe": "ü"}, [0, 1, 4, 9, 16], "yes"])
    assert chosen.function.failures == []
    assert chosen.calls["CheckpointDurableExecution"] >= 4


def test_a_long_state_is_read_by_pages(chosen: AwsWorld) -> None:
    @durable_execution(name="client-pages")
    def pages(event: Any, context: Context) -> int:
        for number in range(30):
            context.step(f"step-{number}", lambda: "x" * 200_000)
        context.sleep(1, "pause")
        return 30

    run = chosen.start(pages)

    assert run.outcome() == Outcome(30)
    assert chosen.calls["GetDurableExecutionState"] >= 1
