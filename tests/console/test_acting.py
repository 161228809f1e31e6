"""`perdure send`, `cancel`, `delete`."""

from __future__ import annotations

import json
from typing import Any

import pytest


@pytest.fixture
def asked(perdure: Any) -> Any:
    perdure("run", "flow.py:asks", "--id", "r1")
    return perdure


def test_send_records_the_event_and_says_who_goes_on(asked: Any) -> None:
    said = asked("send", "r1", "approval", '{"by": "me"}').stdout
    assert "perdure resume r1" in said
    assert "perdure serve flow.py" in said
    operation = asked.operations("r1")["approval"]
    assert json.loads(operation.payload) == {"by": "me"}


def test_send_without_an_event_gives_true(asked: Any) -> None:
    asked("send", "r1", "approval")
    assert asked("resume", "r1").stdout.splitlines()[-1] == '{"answer": true}'


def test_an_event_may_come_from_a_file(asked: Any) -> None:
    asked.write("event.json", "[1, 2]")
    asked("send", "r1", "approval", "@event.json")
    assert asked("resume", "r1").stdout.splitlines()[-1] == '{"answer": [1, 2]}'


def test_send_refuses_what_nobody_waits_for(asked: Any) -> None:
    assert "open: approval" in asked("send", "r1", "aproval", code=2).stderr
    assert "not JSON" in asked("send", "r1", "approval", "yes", code=2).stderr
    assert "'\"yes\"'" in asked("send", "r1", "approval", "yes", code=2).stderr
    assert "null cannot be sent" in asked("send", "r1", "approval", "null", code=2).stderr
    asked("send", "r1", "approval")
    assert "already completed" in asked("send", "r1", "approval", code=2).stderr


def test_a_cancelled_run_is_over(asked: Any) -> None:
    assert "cancelled r1" in asked("cancel", "r1", "--reason", "a mistake").stdout
    assert "has ended" in asked("cancel", "r1", code=2).stderr
    assert "has ended" in asked("send", "r1", "approval", code=2).stderr
    assert "CANCELLED" in asked("resume", "r1", code=2).stderr
    again = asked("run", "flow.py:asks", "--id", "r1", code=1)
    assert "cancelled: Cancelled: a mistake" in again.stdout


def test_only_an_ended_run_is_deleted(asked: Any) -> None:
    assert "cancel it before" in asked("delete", "r1", code=2).stderr
    asked("cancel", "r1")
    asked("delete", "r1")
    assert "no execution" in asked("show", "r1", code=2).stderr
