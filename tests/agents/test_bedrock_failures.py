"""One call is one request, whatever becomes of it; and what became of it is told."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from perdure.agents.errors import Fate, UnreadableAnswer
from perdure.agents.fates import fate_of, hidden_retries, is_context_overflow

from .converse import (
    ERRORS,
    Answer,
    Broken,
    ConverseServer,
    Cut,
    Drop,
    Refusal,
    Reply,
    Silence,
    bedrock,
    session,
)

IMPATIENT = 0.2
"""Seconds a client waits for an answer that does not come."""
FATES = {
    "ThrottlingException": Fate.REFUSED,
    "ModelNotReadyException": Fate.REFUSED,
    "ServiceUnavailableException": Fate.REFUSED,
    "InternalServerException": Fate.UNCERTAIN,
    "ModelErrorException": Fate.UNCERTAIN,
    "ModelTimeoutException": Fate.UNCERTAIN,
    "ValidationException": Fate.FINAL,
    "AccessDeniedException": Fate.FINAL,
    "ResourceNotFoundException": Fate.FINAL,
    "ServiceQuotaExceededException": Fate.FINAL,
    "ConflictException": Fate.FINAL,
}
Serve = Callable[..., ConverseServer]


def fail(model: Any, *, stream: bool = False) -> Exception:
    """Return what a call raises; everything that came before it is read and dropped."""
    try:
        list(model.stream("hello")) if stream else model.invoke("hello")
    except Exception as error:
        return error
    raise AssertionError("the call was to fail, and did not")


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    gate = threading.Event()
    yield gate
    gate.set()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("code", ERRORS)
def test_an_error_of_the_service_is_one_request_and_has_its_fate(
    serve: Serve, code: str, stream: bool
) -> None:
    server = serve(lambda *_: ERRORS[code])

    error = fail(bedrock(server.url), stream=stream)

    assert fate_of(error) is FATES[code]
    assert server.count == 1
    assert not server.billed


def test_an_answer_slower_than_the_clients_patience_is_asked_for_once(
    serve: Serve, gate: threading.Event
) -> None:
    server = serve(lambda *_: Answer("too late", gate=gate))

    error = fail(bedrock(server.url, read_timeout=IMPATIENT))

    assert type(error).__name__ == "ReadTimeoutError"
    assert fate_of(error) is Fate.UNCERTAIN
    assert server.count == 1
    assert list(server.billed) == ["req-000001"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("drop", [Drop(), Drop(unread=True)], ids=["read", "unread"])
def test_a_dropped_connection_is_not_tried_again_unseen(
    serve: Serve, drop: Reply, stream: bool
) -> None:
    server = serve([drop])

    error = fail(bedrock(server.url), stream=stream)

    assert fate_of(error) is Fate.UNCERTAIN
    assert server.count == 1


@pytest.mark.parametrize("honest", [True, False], ids=["cut JSON", "cut body"])
def test_a_cut_answer_was_billed_most_likely_and_is_not_asked_for_again(
    serve: Serve, honest: bool
) -> None:
    server = serve([Cut(Answer("An answer long enough to be cut in its middle."), honest=honest)])

    error = fail(bedrock(server.url))

    assert fate_of(error) is Fate.UNCERTAIN
    assert list(server.billed) == ["req-000001"]
    assert server.count == 1


def test_a_silent_server_is_left_after_the_read_timeout(
    serve: Serve, gate: threading.Event
) -> None:
    server = serve([Silence(gate)])

    error = fail(bedrock(server.url, read_timeout=IMPATIENT), stream=True)

    assert fate_of(error) is Fate.UNCERTAIN
    assert server.count == 1


def test_a_truncated_answer_is_unreadable_and_names_its_request(serve: Serve) -> None:
    server = serve([Cut(Answer("An answer long enough to be cut off in its middle."))])

    with pytest.raises(UnreadableAnswer, match=r"req-000001 with no output \(found: nothing\)"):
        bedrock(server.url).invoke("hello")


@pytest.mark.parametrize("lacks", ["output", "usage"])
def test_an_answer_without_output_or_usage_is_no_answer(serve: Serve, lacks: str) -> None:
    server = serve([Answer("hi", without=(lacks,))])

    with pytest.raises(UnreadableAnswer, match=f"no {lacks}"):
        bedrock(server.url).invoke("hello")


@pytest.mark.parametrize(
    "broken",
    [
        Broken(Answer("half of this"), keep=2),
        Broken(Answer("half of this"), keep=2, clean=True),
        Broken(Answer("half of this"), keep=4, clean=True),
        Broken(Answer("half of this"), keep=2, code="modelStreamErrorException"),
        Broken(Answer("half of this"), keep=2, code="throttlingException"),
        Answer("no usage at its end", without=("metadata",)),
    ],
    ids=["cut in a frame", "ends early", "ends unstopped", "model error", "throttled", "no usage"],
)
def test_a_stream_that_breaks_may_have_been_billed_and_is_not_asked_for_again(
    serve: Serve, broken: Reply
) -> None:
    server = serve([broken])

    error = fail(bedrock(server.url), stream=True)

    assert fate_of(error) is Fate.UNCERTAIN
    assert server.count == 1


def test_what_came_before_a_stream_broke_was_given(serve: Serve) -> None:
    server = serve([Broken(Answer("half of this"), keep=2, code="modelStreamErrorException")])
    chunks = bedrock(server.url).stream("hello")

    assert next(chunks).text == "half o"
    with pytest.raises(Exception, match="it broke"):
        next(chunks)


def test_a_port_where_nobody_listens_was_never_asked() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        error = fail(bedrock(url))

    assert fate_of(error) is Fate.NEVER_SENT


def test_no_credentials_cost_nothing_and_are_not_tried_again(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    server = serve()

    error = fail(bedrock(server.url, session=None, region="us-east-1"))

    assert type(error).__name__ == "NoCredentialsError"
    assert fate_of(error) is Fate.FINAL
    assert server.count == 0


def test_a_parameter_boto3_refuses_is_not_sent(serve: Serve) -> None:
    server = serve()

    error = fail(bedrock(server.url, extra={"serviceTeer": {"type": "flex"}}))

    assert fate_of(error) is Fate.FINAL
    assert "serviceTeer" in str(error)
    assert server.count == 0


@pytest.mark.parametrize(
    ("message", "overflow"),
    [
        ("Input is too long for requested model.", True),
        ("prompt is too long: 215000 tokens > 200000 maximum", True),
        ("The model returned the following errors: too many input tokens", True),
        ("Malformed input request: #/messages: required key not found", False),
    ],
)
def test_a_prompt_too_long_is_told_from_other_invalid_requests(
    serve: Serve, message: str, overflow: bool
) -> None:
    server = serve([Refusal(400, "ValidationException", message)])

    error = fail(bedrock(server.url))

    assert is_context_overflow(error) is overflow
    assert fate_of(error) is Fate.FINAL


def test_throttling_by_tokens_is_no_overflow(serve: Serve) -> None:
    server = serve([Refusal(429, "ThrottlingException", "Too many input tokens, please wait")])

    assert not is_context_overflow(fail(bedrock(server.url)))


def test_a_client_that_was_handed_in_keeps_its_retries_and_is_found_out(serve: Serve) -> None:
    server = serve(lambda *_: ERRORS["InternalServerException"])
    client = session().client("bedrock-runtime", endpoint_url=server.url)
    model = bedrock(server.url, client=client)

    fail(model)

    assert hidden_retries(model) == server.count - 1 == 2


def test_the_models_own_client_has_no_hidden_retries(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "7")
    server = serve(lambda *_: ERRORS["ThrottlingException"])
    model = bedrock(server.url)

    fail(model)

    assert server.count == 1
    assert hidden_retries(model) == 0
    assert hidden_retries(model.bind(stop=["x"])) == 0


def test_retries_and_fallbacks_around_a_model_are_counted(serve: Serve) -> None:
    server = serve(lambda *_: ERRORS["InternalServerException"])
    model = bedrock(server.url)

    fail(model.with_retry(stop_after_attempt=2, wait_exponential_jitter=False))

    assert server.count == 2
    assert hidden_retries(model.with_retry(stop_after_attempt=4)) == 3
    assert hidden_retries(model.with_fallbacks([model, model])) == 2
