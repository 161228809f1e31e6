"""AWS's endpoint as an operator's boto3 sees it: Lambda's Invoke before the local runner's routes.

The runner keeps and invokes executions, and starts them by a route of its own. Here a start comes
as Lambda takes it: `Invoke` with an execution's name, which is one execution's alone.
"""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from .stage import PATIENCE, LocalRunner, post

Refusal = tuple[int, str]
_ASKED = "2015-03-31"
_PASSED_ON = ("content-type", "x-amzn-errortype")


class Front:
    """A server at `url`.

    Attributes:
        calls: the method and path of each request.
        bodies: what was sent last with each.
        refuse: told of each; an answer in place of the real one, or None.
        lose: told of each; whether the answer is lost once the runner has done what was asked.
    """

    def __init__(self, runner: LocalRunner, function: str) -> None:
        self._runner, self._function = runner, function
        self._started: dict[tuple[str, str], tuple[bytes, str]] = {}
        self._lock = threading.Lock()
        self.calls: list[str] = []
        self.bodies: dict[str, bytes] = {}
        self.refuse: Callable[[str], Refusal | None] = lambda call: None
        self.lose: Callable[[str], bool] = lambda call: False
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()

    def answer(
        self, method: str, path: str, headers: Any, body: bytes
    ) -> tuple[int, dict[str, str], bytes] | None:
        """Return the answer to a request, or None for one that is lost on its way."""
        call = f"{method} {path}"
        self.calls.append(call)
        self.bodies[call] = body
        refusal = self.refuse(call)
        if refusal is not None:
            return _refused(*refusal)
        parts = [unquote(part) for part in urlsplit(path).path.split("/")]
        if parts[1:2] == [_ASKED] and parts[2] == "functions" and parts[4:] == ["invocations"]:
            done = self._invoke(parts[3], path, headers, body)
        else:
            done = self._pass_on(method, path, body)
        return None if self.lose(call) else done

    def _invoke(
        self, function: str, path: str, headers: Any, body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        assert headers["X-Amz-Invocation-Type"] == "Event"
        name = headers["X-Amz-Durable-Execution-Name"]
        function, _, alias = function.partition(":")
        [qualifier] = parse_qs(urlsplit(path).query).get("Qualifier") or [alias]
        if function.startswith("missing"):
            return _refused(404, "ResourceNotFoundException")
        with self._lock:
            known = self._started.get((function, name))
            if known is not None and known[0] != body:
                return _refused(409, "DurableExecutionAlreadyStartedException")
            if known is None:
                known = self._started[function, name] = (
                    body,
                    self._start(function, qualifier, name, body.decode()),
                )
        return 202, {"X-Amz-Durable-Execution-Arn": known[1]}, b""

    def _start(self, function: str, qualifier: str, name: str, payload: str) -> str:
        request = {
            "AccountId": "123456789012",
            "FunctionName": function,
            "FunctionQualifier": qualifier,
            "ExecutionName": name,
            "ExecutionTimeoutSeconds": 120,
            "ExecutionRetentionPeriodDays": 1,
            "Input": payload,
            "LambdaEndpoint": self._function,
        }
        answer = post(f"{self._runner.url}/start-durable-execution", request)
        return str(answer["ExecutionArn"])

    def _pass_on(self, method: str, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        request = urllib.request.Request(
            self._runner.url + path,
            body or None,
            {"Content-Type": "application/json"},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.status, _kept(answer.headers), answer.read()
        except urllib.error.HTTPError as error:
            return error.code, _kept(error.headers), error.read()


def _handler(front: Front) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            done = front.answer(self.command, self.path, self.headers, body)
            if done is None:
                self.close_connection = True
                return
            status, headers, answer = done
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = do_DELETE = _any

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


def _kept(headers: Any) -> dict[str, str]:
    return {name: headers[name] for name in _PASSED_ON if headers.get(name)}


def _refused(status: int, code: str) -> tuple[int, dict[str, str], bytes]:
    body = json.dumps({"message": f"refused: {code}"}).encode()
    return status, {"x-amzn-ErrorType": code}, body
