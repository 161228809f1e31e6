"""A way to the local runner on which calls come to harm: refused, or cut off before or after."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Fault:
    """What happens to a call instead of its answer.

    Attributes:
        status: of the answer in its place; None if the connection is cut.
        taken: whether the service took the call nevertheless.
        final: whether the run fails of it; else it comes to its result.
    """

    name: str
    status: int | None = None
    code: str = ""
    message: str = "sorry"
    taken: bool = False
    final: bool = False

    def __str__(self) -> str:
        return self.name


_TOKEN = "Invalid checkpoint token"
FAULTS = [
    *(
        Fault(code, 502, code, "the key cannot be used", final=True)
        for code in (
            "KMSAccessDeniedException",
            "KMSDisabledException",
            "KMSInvalidStateException",
            "KMSNotFoundException",
        )
    ),
    Fault("denied", 403, "AccessDeniedException", "not authorized", final=True),
    Fault("unknown", 404, "ResourceNotFoundException", "no such execution", final=True),
    Fault("refused", 400, "InvalidParameterValueException", "Invalid parent.", final=True),
    Fault("token", 400, "InvalidParameterValueException", _TOKEN),
    Fault("token-1.7", 400, "InvalidParameterValueException", "Invalid Checkpoint Token: used"),
    Fault("too-many", 429, "TooManyRequestsException", "Rate exceeded"),
    Fault("service", 500, "ServiceException"),
    Fault("unavailable", 503, "ServiceUnavailableException"),
    Fault("bad-gateway", 502, "BadGateway"),
    Fault("cut-before"),
    Fault("cut-after", taken=True),
    Fault("lost-answer", 500, "ServiceException", taken=True),
]


class Road:
    """A proxy before the runner; its n-th calls, counted from 1, meet the fault."""

    def __init__(self, target: str) -> None:
        self._target = urlsplit(target).netloc
        self._lock = threading.Lock()
        self.clear(None, ())

        class Handler(BaseHTTPRequestHandler):
            road: Any = self

            def do_POST(self) -> None:
                self.road._pass(self)

            do_GET = do_POST

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def clear(self, fault: Fault | None, harmed: Iterable[int]) -> None:
        """Count anew, and harm these calls."""
        self.calls = 0
        self.reads: list[int] = []
        self.harm = 0
        self.ended: set[str] = set()
        self._fault = fault
        self._harmed = set(harmed)

    def close(self) -> None:
        """Let nothing through any more."""
        self._server.shutdown()
        self._server.server_close()

    def _pass(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        with self._lock:
            self.calls += 1
            self.reads += [self.calls] if request.command == "GET" else []
            fault = self._fault if self.calls in self._harmed else None
            self.harm += fault is not None
        if fault is None:
            self._answer(request, *self._forward(request, body))
            return
        if fault.taken:
            self._forward(request, body)
        if fault.status is None:
            request.close_connection = True
            request.connection.shutdown(socket.SHUT_RDWR)
            return
        words = json.dumps({"Message": fault.message, "Type": "Service"}).encode()
        self._answer(request, fault.status, {"x-amzn-ErrorType": fault.code}, words)

    def _forward(
        self, request: BaseHTTPRequestHandler, body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self._target, timeout=30)
        headers = {k: v for k, v in request.headers.items() if k.lower() != "host"}
        connection.request(request.command, request.path, body or None, headers)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status == 200 and body:
            self._note(json.loads(body))
        kept = {"x-amzn-ErrorType": answer.headers.get("x-amzn-ErrorType", "")}
        return answer.status, kept, content

    def _note(self, call: Any) -> None:
        for update in call.get("Updates", ()):
            if update["Type"] == "STEP" and update["Action"] in ("SUCCEED", "FAIL"):
                self.ended.add(update["Name"])

    @staticmethod
    def _answer(
        request: BaseHTTPRequestHandler, status: int, headers: dict[str, str], content: bytes
    ) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)
