"""Clicks that come over a socket instead of HTTP."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from queue import Queue
from typing import Any

import pytest

from perdure.approvals.errors import ChannelError
from perdure.approvals.journal import LocalCallbacks
from perdure.approvals.slack.socket import listen

from .clicks import click, sent_off, user
from .fake_slack import APP_TOKEN, refused

server = pytest.importorskip("websockets.sync.server")
ALICE = "slack:T1:UALICE"


class Wire:
    """Slack's end of a socket: sends envelopes, and keeps what is answered."""

    def __init__(self) -> None:
        self._out: Queue[Any] = Queue()
        self._back: Queue[Any] = Queue()

    def send(self, payload: Any, kind: str = "interactive") -> Any:
        """Send an envelope; return the answer to it."""
        envelope = {"type": kind, "envelope_id": "e1", "payload": payload}
        self._out.put({**envelope, "accepts_response_payload": True})
        answer = self._back.get(timeout=10)
        assert answer["envelope_id"] == "e1"
        return answer.get("payload")

    def serve(self, connection: Any) -> None:
        connection.send(json.dumps({"type": "hello", "num_connections": 1}))
        while (envelope := self._out.get()) is not None:
            connection.send(json.dumps(envelope))
            self._back.put(json.loads(connection.recv(timeout=10)))

    def end(self) -> None:
        self._out.put(None)


@pytest.fixture
def wire(slack, office, runner) -> Iterator[Wire]:
    wire = Wire()
    with server.serve(wire.serve, "127.0.0.1", 0) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        slack.socket = f"ws://127.0.0.1:{running.socket.getsockname()[1]}/"
        callbacks = LocalCallbacks(runner.engine)
        hosts = [slack.host]
        with listen(office, callbacks, APP_TOKEN, base_url=slack.base_url, response_hosts=hosts):
            yield wire
            wire.end()
        running.shutdown()
        thread.join()


def test_a_click_over_the_socket_decides(ask, wire, slack, channel, runner, caplog):
    run = ask(approvers=[ALICE], via=[channel])
    with caplog.at_level(logging.DEBUG):
        assert wire.send(click(slack, slack.posts[0], "approve", user("UALICE"))) is None
    runner.settle()
    assert run.result(timeout=5)["approved"] is True
    assert APP_TOKEN not in caplog.text
    assert "perdure.approve" not in caplog.text


def test_a_form_over_the_socket_gets_its_answer(ask, wire, slack, channel):
    run = ask(approvers=[ALICE], via=[channel])
    wire.send(click(slack, slack.posts[0], "comment", user("UALICE")))
    answer = wire.send(sent_off(slack.views[0], user("UALICE"), {}))
    assert answer["response_action"] == "errors"
    assert run.info().status == "RUNNING"


def test_what_is_no_payload_is_acknowledged_and_does_nothing(ask, wire, channel):
    run = ask(approvers=[ALICE], via=[channel])
    assert wire.send({"type": "block_actions"}) is None
    assert wire.send({"type": "event_callback"}, "events_api") is None
    assert run.info().status == "RUNNING"


def test_a_socket_that_cannot_be_opened_says_why(slack, office, runner, monkeypatch):
    callbacks = LocalCallbacks(runner.engine)
    monkeypatch.delenv("SLACK_APP_TOKEN", raising=False)
    with pytest.raises(ChannelError, match="SLACK_APP_TOKEN"), listen(office, callbacks):
        pass
    slack.trouble("apps.connections.open", refused("missing_scope"))
    with (
        pytest.raises(ChannelError, match="missing_scope") as caught,
        listen(office, callbacks, APP_TOKEN, base_url=slack.base_url),
    ):
        pass
    assert APP_TOKEN not in str(caught.value)
