"""Behind a Lambda function URL: the same request has the same answer as behind a web server."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from typing import Any
from urllib.parse import urlencode

import pytest

from perdure.approvals.http import Request, Response
from perdure.approvals.lambda_url import lambda_handler_for, request_of
from perdure.approvals.receiver import Receiver
from perdure.approvals.sessions import login_token

from .ways import ALICE, BARE, FOREIGN, PERSON, SCRIPT, Asks

LIKE_FOR_LIKE = (
    "content-type",
    "content-length",
    "content-security-policy",
    "cache-control",
    "referrer-policy",
    "x-robots-tag",
    "x-content-type-options",
    "location",
    "allow",
)


def event(
    method: str,
    path: str,
    headers: dict[str, str] | None = None,
    body: bytes | None = None,
    query: str = "",
) -> dict[str, Any]:
    """An event as a function URL makes it: payload format 2.0, a form body in base64."""
    sent: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": headers or {},
        "requestContext": {"http": {"method": method, "path": path, "sourceIp": "192.0.2.1"}},
        "isBase64Encoded": body is not None,
    }
    return sent if body is None else sent | {"body": base64.b64encode(body).decode()}


@pytest.mark.parametrize("headers", [PERSON, SCRIPT, FOREIGN, BARE])
@pytest.mark.parametrize("decision", ["approve", "banana", None])
def test_a_form_in_base64_is_answered_as_through_starlette(
    asks: Asks, headers: dict[str, str], decision: str | None, same_nonce: None
) -> None:
    here, there = asks(), asks()
    form = {"comment": "füße & more"} | ({"decision": decision} if decision else {})
    body = urlencode(form).encode()
    headers = {"host": "approvals.example.org"} | headers
    lambda_answer = lambda_handler_for(here.receiver)(
        event("POST", here.box.links[ALICE], headers, body), None
    )
    web_answer = through_starlette(there.receiver, "POST", there.box.links[ALICE], headers, body)
    alike(lambda_answer, web_answer, here, there)
    assert here.standing.is_open is there.standing.is_open


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
@pytest.mark.parametrize("path", ["", "/nowhere", "/%2e%2e/x", "/a/v1~x/review"])
def test_looking_is_answered_as_through_starlette(
    asks: Asks, method: str, path: str, same_nonce: None
) -> None:
    it = asks()
    path = path or it.box.links[ALICE]
    headers = {"host": "approvals.example.org"}
    lambda_answer = lambda_handler_for(it.receiver)(event(method, path, headers), None)
    alike(lambda_answer, through_starlette(it.receiver, method, path, headers), it, it)


def test_cookies_come_and_go_in_their_own_lists(asks: Asks) -> None:
    it = asks(user="user:alice")
    handler = lambda_handler_for(it.receiver)
    path = f"/login/{login_token(it.office, 'user:alice')}"
    signed_in = handler(event("POST", path, PERSON, b""), None)
    assert signed_in["statusCode"] == 303
    assert "set-cookie" not in signed_in["headers"]
    [cookie] = signed_in["cookies"]
    inbox = event("GET", "/inbox", {}) | {"cookies": ["other=1", cookie.partition(";")[0]]}
    assert handler(inbox, None)["statusCode"] == 200
    json.dumps(signed_in)


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"requestContext": {}},
        {"headers": None, "requestContext": {"http": {"method": "GET"}}, "rawPath": "/"},
        {"isBase64Encoded": True, "body": "=", "requestContext": {"http": {"method": "POST"}}},
        {"isBase64Encoded": True, "body": "é", "requestContext": {"http": {"method": "POST"}}},
    ],
)
def test_an_event_that_is_none_is_answered_and_raises_nothing(
    asks: Asks, broken: dict[str, Any]
) -> None:
    assert lambda_handler_for(asks().receiver)(broken, None)["statusCode"] in (404, 405)


def test_a_body_that_was_not_encoded_is_taken_as_it_is() -> None:
    plain = event("POST", "/", {"Content-Type": "x"}) | {"body": "a=ü"}
    assert request_of(plain) == Request("POST", "/", "", {"content-type": "x"}, "a=ü".encode())


def test_it_needs_no_web_framework() -> None:
    code = (
        "import sys, perdure.approvals.lambda_url;"
        "heavy = {'starlette', 'uvicorn', 'jinja2', 'slack_sdk', 'boto3', 'langchain_core'};"
        "print(heavy & set(sys.modules) or 'none')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "none"


@pytest.fixture
def same_nonce(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages differ in their nonce alone; here they do not."""
    for module in ("reviewing", "receiver"):
        monkeypatch.setattr(f"perdure.approvals.{module}.new_nonce", lambda: "nonce")


def through_starlette(
    receiver: Receiver, method: str, path: str, headers: dict[str, str], body: bytes = b""
) -> Response:
    from starlette.testclient import TestClient

    from perdure.console.web import app_of

    client = TestClient(app_of(receiver, "https://approvals.example.org"))
    base = "https://approvals.example.org"
    answer = client.request(
        method, base + path, headers=headers, content=body, follow_redirects=False
    )
    return Response(answer.status_code, dict(answer.headers), answer.content)


def alike(one: dict[str, Any], other: Response, here: Any, there: Any) -> None:
    """Compare two answers; each is about its own request, which is the same but for its ids."""
    names = {there.run.id: here.run.id, there.box.links[ALICE]: here.box.links[ALICE]}
    body = other.body.decode()
    for its, mine in names.items():
        body = body.replace(its, mine)
    handlers = [f"asks-{id(each.box)}" for each in (there, here)]
    body = body.replace(*handlers)
    assert one["statusCode"] == other.status
    assert one["body"] == body
    length = {"content-length": str(len(other.body))}
    mine = one["headers"] | length
    for name in LIKE_FOR_LIKE:
        assert mine.get(name) == other.headers.get(name), name
