"""What became of a request, told from its error without the library that raised it."""

from __future__ import annotations

import socket
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from langchain_core import exceptions as langchain
from langchain_core.language_models import FakeListChatModel
from langchain_core.runnables import RunnableLambda
from pydantic import TypeAdapter

from perdure.agents.errors import (
    Fate,
    InvalidRequest,
    RequestError,
    RequestsForbidden,
    UnreadableAnswer,
)
from perdure.agents.fates import fate_of, hidden_retries, is_context_overflow

REQUEST = httpx.Request("POST", "http://model.test/v1")


def a_kind(name: str, *bases: type[BaseException], **fields: Any) -> type[BaseException]:
    """Return an error class of this name, as some library has it."""
    return type(name, bases or (Exception,), fields)


def caused(error: BaseException, cause: BaseException) -> BaseException:
    """Return the error as `raise error from cause` leaves it."""
    error.__cause__ = cause
    return error


def with_status(status: int, name: str = "APIStatusError", **fields: Any) -> BaseException:
    return a_kind(name, status_code=status, **fields)("no")


def test_an_error_of_ours_knows_its_fate() -> None:
    assert fate_of(InvalidRequest("no")) is Fate.FINAL
    assert fate_of(UnreadableAnswer("cut")) is Fate.UNCERTAIN
    assert fate_of(RequestsForbidden("no")) is Fate.FINAL


def test_a_bare_wrapper_of_ours_says_what_its_cause_says() -> None:
    assert fate_of(caused(RequestError("no"), ConnectionRefusedError())) is Fate.NEVER_SENT
    assert fate_of(caused(UnreadableAnswer("cut"), ConnectionRefusedError())) is Fate.UNCERTAIN
    assert fate_of(RequestError("no")) is Fate.UNCERTAIN


def test_a_strangers_cause_is_not_looked_at() -> None:
    assert fate_of(caused(RuntimeError("no"), ConnectionRefusedError())) is Fate.UNCERTAIN


@pytest.mark.parametrize(
    ("error", "fate"),
    [
        (ConnectionRefusedError(), Fate.NEVER_SENT),
        (socket.gaierror(), Fate.NEVER_SENT),
        (TimeoutError(), Fate.UNCERTAIN),
        (ConnectionResetError(), Fate.UNCERTAIN),
        (BrokenPipeError(), Fate.UNCERTAIN),
        (ModuleNotFoundError(), Fate.FINAL),
        (TypeError(), Fate.FINAL),
        (AttributeError(), Fate.FINAL),
        (KeyError("usage"), Fate.UNCERTAIN),
        (ValueError("no output"), Fate.UNCERTAIN),
        (RuntimeError(), Fate.UNCERTAIN),
        (KeyboardInterrupt(), Fate.UNCERTAIN),
    ],
    ids=lambda each: type(each).__name__,
)
def test_pythons_own_errors_have_a_fate(error: BaseException, fate: Fate) -> None:
    assert fate_of(error) is fate


def test_a_value_pydantic_refuses_is_final() -> None:
    with pytest.raises(ValueError, match="valid integer") as caught:
        TypeAdapter(int).validate_python("three")

    assert fate_of(caught.value) is Fate.FINAL


@pytest.mark.parametrize(
    ("status", "fate"),
    [
        (400, Fate.FINAL),
        (401, Fate.FINAL),
        (403, Fate.FINAL),
        (404, Fate.FINAL),
        (422, Fate.FINAL),
        (408, Fate.UNCERTAIN),
        (409, Fate.UNCERTAIN),
        (424, Fate.UNCERTAIN),
        (425, Fate.UNCERTAIN),
        (500, Fate.UNCERTAIN),
        (502, Fate.UNCERTAIN),
        (504, Fate.UNCERTAIN),
        (429, Fate.REFUSED),
        (503, Fate.REFUSED),
        (529, Fate.REFUSED),
        (200, Fate.UNCERTAIN),
    ],
)
def test_a_status_says_what_became_of_a_request(status: int, fate: Fate) -> None:
    response = httpx.Response(status, request=REQUEST)

    assert fate_of(with_status(status)) is fate
    assert fate_of(httpx.HTTPStatusError("no", request=REQUEST, response=response)) is fate


def test_a_quota_that_is_used_up_is_not_asked_again() -> None:
    used_up = with_status(429, "RateLimitError", code="insufficient_quota")

    assert fate_of(used_up) is Fate.FINAL


@pytest.mark.parametrize(
    ("kind", "fate"),
    [
        (httpx.ConnectError, Fate.NEVER_SENT),
        (httpx.ConnectTimeout, Fate.NEVER_SENT),
        (httpx.PoolTimeout, Fate.NEVER_SENT),
        (httpx.ReadTimeout, Fate.UNCERTAIN),
        (httpx.ReadError, Fate.UNCERTAIN),
        (httpx.RemoteProtocolError, Fate.UNCERTAIN),
        (httpx.UnsupportedProtocol, Fate.FINAL),
    ],
)
def test_an_error_of_httpx_means_the_same_inside_a_provider_sdks(
    kind: type[httpx.TransportError], fate: Fate
) -> None:
    error = kind("no")

    assert fate_of(error) is fate
    assert fate_of(caused(a_kind("APIConnectionError")(), error)) is fate
    assert fate_of(caused(langchain.ModelConnectionError(), error)) is fate


def test_a_connection_error_without_a_cause_was_not_sent_and_a_timeout_may_have_been() -> None:
    unconnected = a_kind("APIConnectionError")

    assert fate_of(unconnected()) is Fate.NEVER_SENT
    assert fate_of(a_kind("APITimeoutError", unconnected)()) is Fate.UNCERTAIN


@pytest.mark.parametrize(
    ("kind", "fate"),
    [
        (langchain.ModelRateLimitError, Fate.REFUSED),
        (langchain.ModelTimeoutError, Fate.UNCERTAIN),
        (langchain.ModelConnectionError, Fate.UNCERTAIN),
        (langchain.ModelAPIError, Fate.UNCERTAIN),
        (langchain.ModelAuthenticationError, Fate.FINAL),
        (langchain.ModelPermissionDeniedError, Fate.FINAL),
        (langchain.ModelInvalidRequestError, Fate.FINAL),
        (langchain.ModelNotFoundError, Fate.FINAL),
        (langchain.ContextOverflowError, Fate.FINAL),
        (langchain.ModelError, Fate.UNCERTAIN),
    ],
)
def test_langchains_errors_and_what_descends_from_them_have_a_fate(
    kind: type[Exception], fate: Fate
) -> None:
    assert fate_of(kind()) is fate
    assert fate_of(a_kind("SomeProvidersError", kind)()) is fate


def test_a_refusal_of_the_model_is_final() -> None:
    assert fate_of(a_kind("ModelRefusalError")()) is Fate.FINAL


def client_error(code: str, status: int | None = None, name: str = "ClientError") -> BaseException:
    metadata = {} if status is None else {"HTTPStatusCode": status}
    told = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": metadata}
    return a_kind(name, response=told)()


@pytest.mark.parametrize(
    ("code", "status", "fate"),
    [
        ("ThrottlingException", None, Fate.REFUSED),
        ("com.amazon#TooManyRequestsException", 400, Fate.REFUSED),
        ("modelTimeoutException", None, Fate.UNCERTAIN),
        ("ExpiredTokenException", 403, Fate.FINAL),
        ("SomethingNew", 418, Fate.FINAL),
        ("SomethingNew", 500, Fate.UNCERTAIN),
        ("SomethingNew", None, Fate.UNCERTAIN),
        ("503", None, Fate.REFUSED),
    ],
)
def test_the_code_of_an_aws_error_decides_and_else_its_status(
    code: str, status: int | None, fate: Fate
) -> None:
    assert fate_of(client_error(code, status)) is fate


def test_whatever_breaks_a_stream_may_have_been_billed() -> None:
    client = a_kind("ClientError")
    error = a_kind("EventStreamError", client, response={"Error": {"Code": "validationException"}})

    assert fate_of(error()) is Fate.UNCERTAIN


def test_botocores_errors_are_told_by_name() -> None:
    from botocore import exceptions as botocore

    url = {"endpoint_url": "http://x", "error": "no"}
    assert fate_of(botocore.ConnectTimeoutError(**url)) is Fate.NEVER_SENT
    assert fate_of(botocore.EndpointConnectionError(**url)) is Fate.NEVER_SENT
    assert fate_of(botocore.SSLError(**url)) is Fate.NEVER_SENT
    assert fate_of(botocore.ProxyConnectionError(proxy_url="http://x", **url)) is Fate.NEVER_SENT
    assert fate_of(botocore.ReadTimeoutError(**url)) is Fate.UNCERTAIN
    assert fate_of(botocore.ConnectionClosedError(**url)) is Fate.UNCERTAIN
    assert fate_of(botocore.ResponseStreamingError(error="no")) is Fate.UNCERTAIN
    assert fate_of(botocore.NoCredentialsError()) is Fate.FINAL
    assert fate_of(botocore.NoRegionError()) is Fate.FINAL
    assert fate_of(botocore.ProfileNotFound(profile="x")) is Fate.FINAL
    assert fate_of(botocore.ParamValidationError(report="no")) is Fate.FINAL


def test_a_prompt_too_long_is_known_from_every_provider() -> None:
    assert is_context_overflow(a_kind("TheirOverflow", langchain.ContextOverflowError)())
    assert is_context_overflow(with_status(400, code="context_length_exceeded"))
    too_long = a_kind("BadRequestError", status_code=400)("prompt is too long: 9 tokens > 8")
    assert is_context_overflow(too_long)
    assert not is_context_overflow(a_kind("X", status_code=500)("prompt is too long"))
    assert not is_context_overflow(ValueError("prompt is too long"))


def with_client(**retries: Any) -> Any:
    config = SimpleNamespace(retries=retries)
    return SimpleNamespace(client=SimpleNamespace(meta=SimpleNamespace(config=config)))


def test_hidden_retries_are_read_from_a_boto3_client() -> None:
    assert hidden_retries(with_client(total_max_attempts=1, mode="standard")) == 0
    assert hidden_retries(with_client(total_max_attempts=4, mode="standard")) == 3
    assert hidden_retries(with_client(mode="standard")) == 2
    assert hidden_retries(with_client(mode="legacy")) == 4


def test_hidden_retries_are_read_from_a_models_settings() -> None:
    assert hidden_retries(SimpleNamespace(max_retries=0)) == 0
    assert hidden_retries(SimpleNamespace(max_retries=2)) == 2
    told = SimpleNamespace(max_retries=None, root_client=SimpleNamespace(max_retries=2))
    assert hidden_retries(told) == 2


def test_hidden_retries_that_cannot_be_told_are_unknown() -> None:
    model = FakeListChatModel(responses=["hi"])

    assert hidden_retries(model) is None
    assert hidden_retries(model.with_retry()) is None
    assert hidden_retries(RunnableLambda(len)) is None


def test_telling_a_fate_loads_no_library() -> None:
    heavy = "boto3 botocore langchain_core pydantic httpx"
    script = (
        "import sys; from perdure.agents.fates import fate_of; fate_of(ValueError());"
        f"print([name for name in {heavy.split()} if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert run.stdout.strip() == "[]"
