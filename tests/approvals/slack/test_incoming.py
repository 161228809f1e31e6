"""What comes in from Slack over HTTP: only what is signed is read, and nothing of it is a 500."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import urlencode

import pytest

from perdure.approvals import SlackIn
from perdure.approvals.http import Request
from perdure.approvals.journal import LocalCallbacks
from perdure.durable import UsageError

from .clicks import SECRET, body_of, click, signed, user

ALICE = "slack:T1:UALICE"


@pytest.fixture
def asked(ask, slack, channel) -> Any:
    """A run that asks alice."""
    return ask(approvers=[ALICE], via=[channel])


@pytest.fixture
def body(asked, slack) -> bytes:
    """The body of alice's click on Approve."""
    return body_of(click(slack, slack.posts[0], "approve", user("UALICE")))


def test_a_signed_click_is_answered_within_a_second(receiver, body, asked, office, runner):
    began = time.monotonic()
    response = receiver.handle(signed(body, office.now))
    assert response.status == 200
    assert response.body == b""
    assert time.monotonic() - began < 1
    runner.settle()
    assert asked.result(timeout=5)["approved"] is True


@pytest.mark.parametrize("off", [-300, 0, 300])
def test_a_timestamp_within_five_minutes_is_accepted(receiver, body, asked, office, off):
    assert receiver.handle(signed(body, office.now + off)).status == 200


@pytest.mark.parametrize("off", [-301, 301, 10**9])
def test_a_timestamp_farther_off_is_refused(receiver, body, asked, office, off):
    assert receiver.handle(signed(body, office.now + off)).status == 401
    assert asked.info().status == "RUNNING"


@pytest.mark.parametrize(
    "headers",
    [
        {"x_slack_request_timestamp": "abc"},
        {"x_slack_request_timestamp": ""},
        {"x_slack_request_timestamp": "1e9"},
        {"x_slack_request_timestamp": "9" * 5000},
        {"x_slack_signature": "v0=é"},
        {"x_slack_signature": ""},
        {"x_slack_signature": "v0=" + "0" * 64},
    ],
)
def test_a_wrong_signature_is_401_whatever_is_wrong(receiver, body, asked, office, headers):
    assert receiver.handle(signed(body, office.now, **headers)).status == 401
    assert asked.info().status == "RUNNING"


def test_a_signature_in_capital_letters_is_refused(receiver, body, office):
    made = signed(body, office.now)
    headers = {**made.headers, "x-slack-signature": made.headers["x-slack-signature"].upper()}
    assert receiver.handle(made._replace(headers=headers)).status == 401


@pytest.mark.parametrize("missing", ["x-slack-signature", "x-slack-request-timestamp"])
def test_a_request_without_a_signature_is_refused(receiver, body, office, missing):
    made = signed(body, office.now)
    headers = {name: value for name, value in made.headers.items() if name != missing}
    assert receiver.handle(made._replace(headers=headers)).status == 401
    assert receiver.handle(Request("POST", made.path, "", {}, body)).status == 401


def test_the_signature_of_another_secret_or_body_is_refused(receiver, body, office):
    assert receiver.handle(signed(body, office.now, secret="another")).status == 401
    assert receiver.handle(signed(body, office.now)._replace(body=body + b"&a=b")).status == 401
    assert receiver.handle(signed(body, office.now)._replace(body=b"\xff")).status == 401


PAYLOAD = urlencode({"payload": json.dumps({"type": "block_actions"})}).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"payload",
        b"payload=",
        b"payload=%ff",
        b"payload=not+json",
        b"payload=[]",
        b"payload=null",
        b"payload=" + b"[" * 100_000,
        b"a=b",
        PAYLOAD + b"&" + PAYLOAD,
        PAYLOAD + b"&token=x",
        PAYLOAD,
        body_of({"type": "block_actions", "user": {"id": "U1", "team_id": "T1"}, "actions": []}),
        body_of({"type": "block_actions", "user": "U1", "actions": [{"action_id": "x"}]}),
        body_of({"type": "view_submission", "user": {"id": "U1", "team_id": "T1"}, "view": {}}),
    ],
)
def test_what_is_signed_but_no_payload_is_400(receiver, office, body):
    assert receiver.handle(signed(body, office.now)).status == 400


@pytest.mark.parametrize(
    "payload",
    [
        {"type": "block_suggestion"},
        {"type": 7},
        {},
        {
            "type": "block_actions",
            "user": {"id": "U1", "team_id": "T1"},
            "actions": [{"action_id": "another.button", "value": "x"}],
        },
        {
            "type": "view_submission",
            "user": {"id": "U1", "team_id": "T1"},
            "view": {"callback_id": "other", "private_metadata": "", "state": {"values": {}}},
        },
    ],
)
def test_what_is_not_for_us_is_acknowledged(receiver, office, payload):
    assert receiver.handle(signed(body_of(payload), office.now)).status == 200


def test_the_button_that_opens_the_page_is_acknowledged(press, asked, slack):
    assert press("open", "UALICE").status == 200
    assert asked.info().status == "RUNNING"
    assert slack.private == []


def test_the_same_request_again_changes_nothing(receiver, body, asked, office, runner, slack):
    request = signed(body, office.now)
    assert receiver.handle(request).status == 200
    runner.settle()
    before = runner.engine.history(asked.id)
    assert receiver.handle(request).status == 200
    runner.settle()
    assert runner.engine.history(asked.id) == before
    assert asked.result(timeout=5)["approved"] is True
    assert slack.private == []


def test_only_a_post_is_read(receiver, body, asked, office):
    for method in ("GET", "HEAD", "PUT"):
        response = receiver.handle(signed(body, office.now)._replace(method=method))
        assert response.status == 405
        assert response.headers["Allow"] == "POST"
    assert asked.info().status == "RUNNING"


def test_a_body_beyond_all_messages_is_refused(receiver, office):
    assert receiver.handle(signed(b"payload=" + b"x" * 1_000_000, office.now)).status == 413


def test_a_receiver_without_a_secret_says_what_to_set(runner, office, monkeypatch):
    monkeypatch.delenv("SLACK_SIGNING_SECRET", raising=False)
    with pytest.raises(UsageError, match="SLACK_SIGNING_SECRET"):
        SlackIn(office, LocalCallbacks(runner.engine))
    monkeypatch.setenv("SLACK_SIGNING_SECRET", SECRET)
    assert SECRET not in repr(SlackIn(office, LocalCallbacks(runner.engine)))
