"""Kills the process of an invocation at a point of its plan, and keeps the books.

Each call of the durable API goes by `Killing`, which notes in the side file what the service has
taken, before the caller hears of it: what begins after that line began again.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from .kill_pipeline import CALLEE, append
from .sandboxes import Sandbox, Sandboxes

ENDS = ("SUCCEED", "FAIL", "RETRY")


@dataclass(frozen=True)
class Point:
    """Where a process is killed.

    Attributes:
        when: after so many seconds of an invocation; or at so many calls of the API since the last
            kill, before the service has it, or before its answer is heard.
    """

    when: Literal["time", "call", "answer"]
    at: float


@dataclass
class Plan:
    """The points of one execution, in order, and the sandbox that it is in."""

    points: list[Point]
    calls: int = 0
    total: int = 0
    sandbox: Sandbox | None = None
    kills: list[Point] = field(default_factory=list)


def points(chance: random.Random, count: int, calls: int, seconds: float) -> list[Point]:
    """Draw points of an execution that takes so many calls, and invocations of so many seconds."""
    drawn = []
    for _ in range(count):
        when: Any = chance.choice(["time", "call", "answer"])
        most = calls // count
        at = chance.uniform(0, seconds) if when == "time" else chance.randint(1, max(1, most))
        drawn.append(Point(when, at))
    return drawn


class Killing:
    """The API's address for sandboxes, and the plans by ARN.

    Attributes:
        killed: the processes that were.
        strays: draws a point for each execution that another one has invoked.
    """

    def __init__(self, target: str) -> None:
        self._target = urlsplit(target).netloc
        self._lock = threading.Lock()
        self.plans: dict[str, Plan] = {}
        self.arns: set[str] = set()
        self.killed: set[int] = set()
        self.strays: random.Random | None = None
        self._ends: Counter[tuple[str, str]] = Counter()
        killing = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                killing._pass(self)

            do_GET = do_POST

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 64

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        """Let nothing through any more."""
        self._server.shutdown()
        self._server.server_close()

    def invoke(self, sandboxes: Sandboxes, name: str, event: Any) -> Any:
        """Serve an invocation, and kill its process if its time comes."""
        arn = event["DurableExecutionArn"]
        is_new = arn not in self.plans
        plan = self._plan(arn)
        if is_new and name == CALLEE and self.strays is not None:
            plan.points = points(self.strays, 1, 2, 0.05)
        timer: threading.Timer | None = None

        def begun(sandbox: Sandbox) -> None:
            nonlocal timer
            with self._lock:
                plan.sandbox = sandbox
                point = plan.points[0] if plan.points else None
            if point is not None and point.when == "time":
                timer = threading.Timer(point.at, self._strike, (plan, point, sandbox))
                timer.start()

        try:
            return sandboxes.call(name, event, begun)
        finally:
            with self._lock:
                plan.sandbox = None
            if timer is not None:
                timer.cancel()

    def _plan(self, arn: str) -> Plan:
        with self._lock:
            self.arns.add(arn)
            return self.plans.setdefault(arn, Plan([]))

    def _strike(self, plan: Plan, point: Point, sandbox: Sandbox | None) -> None:
        with self._lock:
            if sandbox is None or plan.sandbox is not sandbox or plan.points[:1] != [point]:
                return
            plan.points.pop(0)
            plan.kills.append(point)
            plan.calls = 0
            self.killed.add(sandbox.pid)
            sandbox.kill()

    def _pass(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        arn = unquote(request.path.split("/")[3])
        plan = self._plan(arn)
        with self._lock:
            plan.calls += 1
            plan.total += 1
            point = plan.points[0] if plan.points else None
            if point is not None and (point.when == "time" or plan.calls < point.at):
                point = None
            sandbox = plan.sandbox
        if point is not None and point.when == "call":
            self._strike(plan, point, sandbox)
            return
        status, content = self._forward(request, body)
        if status == 200 and body:
            self._note(arn, json.loads(body))
        if point is not None:
            self._strike(plan, point, sandbox)
            return
        try:
            request.send_response(status)
            request.send_header("Content-Type", "application/json")
            request.send_header("Content-Length", str(len(content)))
            request.end_headers()
            request.wfile.write(content)
        except OSError:  # killed meanwhile
            request.close_connection = True

    def _forward(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self._target, timeout=30)
        headers = {k: v for k, v in request.headers.items() if k.lower() != "host"}
        connection.request(request.command, request.path, body or None, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, content

    def _note(self, arn: str, call: Any) -> None:
        """Note the attempts that the service now has an end of."""
        with self._lock:
            for update in call.get("Updates", ()):
                if update["Type"] == "STEP" and update["Action"] in ENDS:
                    self._ends[arn, update["Id"]] += 1
                    attempt = str(self._ends[arn, update["Id"]])
                    append("ENDED", arn, update["Id"], attempt, str(os.getpid()))
