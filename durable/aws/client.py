"""The calls of an invocation without boto3's models: signed and sent by botocore's own parts.

Loading boto3 and making its client costs a cold start several hundred milliseconds; the signer and
the HTTP session of botocore are a third of that. `SignedClient` has those methods of boto3's client
that an invocation calls, with their arguments, answers and errors (times are milliseconds here).
A call is sent up to three times; a checkpoint carries a client token, by which the service knows
it again.
"""

from __future__ import annotations

import json
import os
import random
import socket
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from botocore import __version__ as botocore_version  # type: ignore[import-untyped]
from botocore.auth import SigV4Auth  # type: ignore[import-untyped]
from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped]
from botocore.exceptions import (  # type: ignore[import-untyped]
    ClientError,
    ConnectionError,
    HTTPClientError,
    ParamValidationError,
)
from botocore.httpsession import URLLib3Session  # type: ignore[import-untyped]
from botocore.utils import get_environ_proxies, parse_timestamp  # type: ignore[import-untyped]

from .refusals import may_pass
from .target import Target

CONNECT_TIMEOUT = 5
READ_TIMEOUT = 50
PAUSES = (0.2, 0.8)
"""Seconds before the second and the third time a call is sent, at most."""
_TIMES = {"StartTimestamp", "EndTimestamp", "NextAttemptTimestamp", "ScheduledEndTimestamp"}
_FAILED = (ClientError, ConnectionError, HTTPClientError, json.JSONDecodeError)


class SignedClient:
    """The client of a Lambda sandbox."""

    def __init__(self, target: Target, user_agent: str) -> None:
        self._url = target.url()
        self._auth = SigV4Auth(target.credentials, "lambda", target.region)
        self._agent = f"{user_agent} botocore/{botocore_version}"
        self._http = URLLib3Session(
            verify=os.environ.get("AWS_CA_BUNDLE") or True,
            proxies=get_environ_proxies(self._url),
            timeout=(CONNECT_TIMEOUT, READ_TIMEOUT),
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        )

    def checkpoint_durable_execution(
        self, *, DurableExecutionArn: str, CheckpointToken: str, Updates: list[Any]
    ) -> dict[str, Any]:
        """Write updates, all or none, and return what changed."""
        body = {
            "CheckpointToken": CheckpointToken,
            "Updates": Updates,
            "ClientToken": str(uuid4()),
        }
        path = f"durable-executions/{_quoted(DurableExecutionArn)}/checkpoint"
        answer = self._call("CheckpointDurableExecution", path, body)
        _in_milliseconds((answer.get("NewExecutionState") or {}).get("Operations"))
        return answer

    def get_durable_execution_state(
        self, *, DurableExecutionArn: str, **query: str | int
    ) -> dict[str, Any]:
        """Return a page of the operations."""
        path = f"durable-executions/{_quoted(DurableExecutionArn)}/state"
        answer = self._call("GetDurableExecutionState", path, query=query)
        _in_milliseconds(answer.get("Operations"))
        return answer

    def send_durable_execution_callback_failure(
        self, *, CallbackId: str, Error: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Fail a callback."""
        path = f"durable-execution-callbacks/{_quoted(CallbackId)}/fail"
        return self._call("SendDurableExecutionCallbackFailure", path, Error)

    def _call(
        self, name: str, path: str, body: Any = None, query: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        data = None if query is not None else _encoded(body)
        method = "POST" if query is None else "GET"
        url = f"{self._url}/2025-12-01/{path}"
        for pause in PAUSES:
            try:
                return self._send(name, AWSRequest(method, url, self._headers(data), data, query))
            except _FAILED as error:
                if not may_pass(error):
                    raise
            time.sleep(pause * random.uniform(0.5, 1))
        return self._send(name, AWSRequest(method, url, self._headers(data), data, query))

    def _send(self, name: str, request: Any) -> dict[str, Any]:
        self._auth.add_auth(request)
        answer = self._http.send(request.prepare())
        if answer.status_code >= 300:
            raise ClientError(_refusal(answer), name)
        return dict(json.loads(answer.content or b"{}"))

    def _headers(self, data: bytes | None) -> dict[str, str]:
        headers = {"User-Agent": self._agent}
        if data is not None:
            headers["Content-Type"] = "application/json"
        trace = os.environ.get("_X_AMZN_TRACE_ID")
        if trace and "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
            # By it Lambda sees that functions invoke each other in a circle.
            headers["X-Amzn-Trace-Id"] = quote(trace, safe="-=;:+&[]{}\"',")
        return headers


def _quoted(label: str) -> str:
    return quote(label, safe="-._~")


def _encoded(body: Any) -> bytes:
    try:
        return json.dumps(body, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        raise ParamValidationError(report=str(error)) from None


def _in_milliseconds(operations: list[dict[str, Any]] | None) -> None:
    """Put the times of operations, seconds in answers, into the milliseconds of events."""
    for operation in operations or ():
        details = operation.get("StepDetails"), operation.get("WaitDetails")
        for part in (operation, *(each for each in details if each)):
            for name in _TIMES & part.keys():
                part[name] = _milliseconds(part[name])


def _milliseconds(moment: float | str | None) -> int | None:
    if moment is None:
        return None
    seconds = moment if isinstance(moment, int | float) else parse_timestamp(moment).timestamp()
    return round(seconds * 1000)


def _refusal(answer: Any) -> dict[str, Any]:
    """Return an answer that refuses a call in the shape in which botocore's errors carry it."""
    try:
        said = json.loads(answer.content)
    except ValueError:
        said = None
    body = said if isinstance(said, dict) else {}
    code = answer.headers.get("x-amzn-errortype") or body.get("code") or body.get("__type")
    code = str(code or answer.status_code).partition(":")[0].rpartition("#")[2]
    message = body.get("message") or body.get("Message") or ""
    return {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": answer.status_code},
    }
