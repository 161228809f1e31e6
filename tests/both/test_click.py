"""An approval asked for by a handler is decided by one HTTP click, whichever engine waits for it.

The receiver is the same and stateless; only what completes callbacks is the engine's own.
"""

from __future__ import annotations

import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from perdure.approvals import await_approval
from perdure.approvals.http import Request
from perdure.approvals.journal import LocalCallbacks
from perdure.approvals.lambda_callbacks import LambdaCallbacks
from perdure.approvals.office import Office
from perdure.approvals.receiver import Receiver
from perdure.durable import LocalEngine, durable_execution

from ..approvals.ways import ALICE, BOB, PERSON, Postbox
from ..waiting import until
from .stages import Fared, Run, Stage, differences

KEY = "a-key-for-tests-of-at-least-32-bytes"
BASE = "https://approvals.example.org"


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERDURE_APPROVAL_KEYS", KEY)
    monkeypatch.setenv("PERDURE_BASE_URL", BASE)


@contextmanager
def receiving(run: Run) -> Iterator[str]:
    """Serve the receiver of a run's engine over HTTP; give its address."""
    engine = run.engine
    callbacks: Any = (
        LocalCallbacks(engine) if isinstance(engine, LocalEngine) else LambdaCallbacks(engine.api)
    )
    receiver = Receiver(Office.at(None), callbacks)

    class Front(BaseHTTPRequestHandler):
        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path, _, query = self.path.partition("?")
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = receiver.handle(Request(self.command, path, query, headers, body))
            self.send_response(answer.status)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        do_GET = do_POST = _any

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Front)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def click(url: str, decision: str) -> int:
    """Press a button as a browser does; the links in messages name another host."""
    body = urllib.parse.urlencode({"decision": decision}).encode()
    request = urllib.request.Request(url, body, PERSON)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return int(answer.status)


def decided(stage: Stage, decision: str) -> Fared:
    box = Postbox()

    @durable_execution(name="asks-on-both")
    def asks(event: Any, context: Any) -> Any:
        text = context.step("draft", lambda: "the text")
        found = await_approval(
            context, text, "release", approvers=[ALICE, BOB], via=[box], timeout=60
        )
        return [found.kind, found.by.identity, context.step("after", lambda: found.approved)]

    run = stage.start(asks)
    until(lambda: len(box.links) == 2, "the links to be sent")
    with receiving(run) as url:
        with urllib.request.urlopen(url + box.links[ALICE], timeout=30) as page:
            assert b"the text" in page.read()
        assert run.execution.status == "RUNNING", "a look has decided"
        assert click(url + box.links[ALICE], decision) == 200
        found = run.fared()
    assert [each.kind for each in box.closed] == [found.value[0]] * 2
    return found


@pytest.mark.parametrize(("decision", "kind"), [("approve", "approved"), ("reject", "rejected")])
def test_one_click_decides_a_run_of_either_engine(
    stages: list[Stage], decision: str, kind: str
) -> None:
    local, on_lambda = (decided(stage, decision) for stage in stages)

    assert local.value == [kind, ALICE, kind == "approved"]
    assert not differences(local, on_lambda, ("id", "type", "subtype", "status", "attempt"))
