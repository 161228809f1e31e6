"""What Slack sends when somebody clicks or sends a form off: signed, as it stands in its manual."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

from slack_sdk.signature import SignatureVerifier

from perdure.approvals.http import Request

from .fake_slack import TEAM, FakeSlack

SECRET = "a-signing-secret-of-the-app"
PATH = "/slack/interactivity"


def signed(body: bytes, at: float, *, secret: str = SECRET, **headers: str) -> Request:
    """Return a request with a body, signed at a time; headers replace what is there."""
    stamp = str(int(at))
    made = {
        "content-type": "application/x-www-form-urlencoded",
        "x-slack-request-timestamp": stamp,
        "x-slack-signature": SignatureVerifier(secret).generate_signature(
            timestamp=stamp, body=body
        ),
    }
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return Request("POST", PATH, "", {**made, **given}, body)


def body_of(payload: Any) -> bytes:
    return urlencode({"payload": json.dumps(payload)}).encode()


def user(id: str, team: str = TEAM, name: str = "") -> dict[str, str]:
    return {"id": id, "username": name or id.lower(), "name": name or id.lower(), "team_id": team}


def buttons(message: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the buttons of a message by what they do."""
    return {
        each["action_id"].removeprefix("perdure."): each
        for block in message["blocks"]
        if block["type"] == "actions"
        for each in block["elements"]
    }


def click(
    slack: FakeSlack, message: dict[str, Any], verb: str, who: dict[str, str]
) -> dict[str, Any]:
    """Return the payload of a click on a button of a message as it stands."""
    button = buttons(message)[verb]
    return {
        "type": "block_actions",
        "user": who,
        "team": {"id": TEAM, "domain": "example"},
        "enterprise": None,
        "is_enterprise_install": False,
        "api_app_id": "A1",
        "container": {
            "type": "message",
            "message_ts": message["ts"],
            "channel_id": message["channel"],
        },
        "channel": {"id": message["channel"], "name": "approvals"},
        "message": message,
        "response_url": slack.response_url(message["channel"], message["ts"]),
        "trigger_id": "1.2.3",
        "state": {"values": {}},
        "actions": [{**button, "block_id": "b", "action_ts": "1767225600.0"}],
    }


def sent_off(view: dict[str, Any], who: dict[str, str], filled: dict[str, Any]) -> dict[str, Any]:
    """Return the payload of a form that was sent off; what is not given is empty."""
    values: dict[str, Any] = {}
    for block in view["blocks"]:
        if block["type"] == "input":
            given = filled.get(block["block_id"])
            values[block["block_id"]] = {"value": _state(block["element"], given)}
    return {
        "type": "view_submission",
        "team": {"id": TEAM},
        "user": who,
        "view": {**view, "id": "V1", "hash": "1.a", "state": {"values": values}},
        "response_urls": [],
    }


def _state(element: dict[str, Any], given: Any) -> dict[str, Any]:
    kind = element["type"]
    if kind in ("radio_buttons", "static_select"):
        option = next((each for each in element["options"] if each["value"] == given), None)
        return {"type": kind, "selected_option": option}
    if kind == "datepicker":
        return {"type": kind, "selected_date": given}
    return {"type": kind, "value": given}
