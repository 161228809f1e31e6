"""The channel of one's own that the README shows, as it stands there."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from perdure.approvals import Channel, await_approval
from perdure.approvals.audit import audit
from perdure.durable import durable_execution

from .ways import ALICE, BOB, Asks, post

README = Path(__file__).parents[2] / "README.md"


class Hook:
    """A server that keeps what is posted to it, and refuses what it is told to."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.status = 200
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                hook.told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(hook.status)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    hook = Hook()
    thread = threading.Thread(target=hook.server.serve_forever, args=(0.02,))
    thread.start()
    yield hook
    hook.server.shutdown()
    thread.join()
    hook.server.server_close()


@pytest.fixture
def webhook(hook: Hook) -> Channel:
    """The class of the README, on that server."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    [code] = [each for each in blocks if "class Webhook" in each]
    names: dict[str, Any] = {}
    exec(code, names)
    channel: Channel = names["Webhook"](hook.url)
    return channel


def test_it_tells_each_approver_and_what_became_of_it(
    asks: Asks, hook: Hook, webhook: Channel
) -> None:
    asked = asks(via=[webhook], title="Release it?")
    assert {each["to"] for each in hook.told} == {ALICE, BOB}
    assert {each["title"] for each in hook.told} == {"Release it?"}
    link = next(each["link"] for each in hook.told if each["to"] == BOB)
    assert post(asked.receiver, urlsplit(link).path, decision="approve").status == 200
    assert asked.result()["kind"] == "approved"
    assert [each.get("now") for each in hook.told] == [None, None, "approved", "approved"]


def test_what_it_could_not_deliver_is_tried_again(asks: Asks, hook: Hook, webhook: Channel) -> None:
    hook.status = 503
    run = asks.runner.start(asking(webhook))
    asks.runner.settle()
    refused = len(hook.told)
    hook.status = 200
    due = asks.runner.engine.next_timer()
    assert due is not None
    asks.runner.clock.set(due)
    asks.runner.settle()
    assert len(hook.told) > refused
    [record] = audit(asks.runner.engine, run.id)
    assert [each.error for each in record.told if each.channel] == [None]


def asking(channel: Channel) -> Any:
    """A handler that asks alice through a channel."""

    @durable_execution(name="asks-by-webhook")
    def handler(event: Any, context: Any) -> str:
        kind: str = await_approval(context, "it", approvers=ALICE, via=[channel]).kind
        return kind

    return handler
