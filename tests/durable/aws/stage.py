"""AWS's own local runner in a process of its own, and the Lambda function that it invokes.

`LocalRunner` is the service (`dex-local-runner`, from PyPI), spoken to over HTTP alone. `Function`
stands where Lambda is: one route that takes an invocation's event and answers with the handler's
output, or says that the handler raised or its process died.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from perdure.durable import Handler

from ...waiting import until

PATIENCE = 30.0
"""Seconds after which a condition that should come is given up."""
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "none",
    "AWS_SECRET_ACCESS_KEY": "none",
    "AWS_DEFAULT_REGION": "us-west-2",
    "AWS_REGION": "us-west-2",
}
SETTINGS = {"DurableConfig": {"ExecutionTimeout": 60, "RetentionPeriodInDays": 1}}


def find_runner() -> str | None:
    """Return the path of dex-local-runner, beside this Python or on the path."""
    beside = Path(sys.executable).with_name("dex-local-runner")
    return str(beside) if beside.exists() else shutil.which("dex-local-runner")


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class LocalRunner:
    """AWS's local runner: the durable API at `url`."""

    def __init__(self, command: str | list[str], log: Path, functions: list[str]) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = log
        program = [command] if isinstance(command, str) else command
        configs = json.dumps(dict.fromkeys(functions, SETTINGS))
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [
                    *(*program, "start-server", "--host", "127.0.0.1", "--port", str(self.port)),
                    *("--function-configs", configs, "--log-level", "WARNING"),
                ],
                env=os.environ | CREDENTIALS,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        until(self._healthy, f"the local runner to answer; its output is in {log}")

    def start(self, name: str, payload: str, endpoint: str) -> str:
        """Start an execution of a function, and return its ARN."""
        body = {
            "AccountId": "123456789012",
            "FunctionName": name,
            "FunctionQualifier": "$LATEST",
            "ExecutionName": "test",
            "ExecutionTimeoutSeconds": 120,
            "ExecutionRetentionPeriodDays": 1,
            "Input": payload,
            "LambdaEndpoint": endpoint,
        }
        answer = post(f"{self.url}/start-durable-execution", body)
        return str(answer["ExecutionArn"])

    def send_others_to(self, endpoint: str) -> None:
        """Invoke functions at this endpoint, unless their execution names its own."""
        url = f"{self.url}/lambda-endpoint"
        post(url, {"EndpointUrl": endpoint}, method="PUT")

    def stop(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.wait(timeout=PATIENCE)

    def _healthy(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def post(url: str, body: Any, method: str = "POST") -> Any:
    """Send JSON and return the JSON that comes back."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers, method=method)
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return json.load(answer)


Route = Callable[[str, bytes], tuple[int, dict[str, str], bytes]]
Call = Callable[[str, Any], Any]


class HttpServer:
    """A server on a free port; `route(path, body)` returns status, headers and body."""

    def __init__(self, route: Route) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, headers, answer = route(self.path, body)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_PUT = do_POST

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()


class Function(HttpServer):
    """Lambda, as the runner sees it: `call(name, event)` is the function of that name."""

    def __init__(self, call: Call) -> None:
        super().__init__(self._invoke)
        self.events: list[Any] = []
        self.failures: list[str] = []
        self._call = call

    def _invoke(self, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        parts = [unquote(part) for part in urlsplit(path).path.split("/")]
        if parts[1:3] != ["2015-03-31", "functions"] or parts[4:] != ["invocations"]:
            return 404, {"x-amzn-ErrorType": "ResourceNotFoundException"}, b"{}"
        event = json.loads(body)
        self.events.append(event)
        try:
            output = json.dumps(self._call(parts[3].partition(":")[0], event))
        except BaseException as error:
            self.failures.append(f"{type(error).__name__}: {error}")
            words = {"errorType": type(error).__name__, "errorMessage": str(error)}
            return 200, {"X-Amz-Function-Error": "Unhandled"}, json.dumps(words).encode()
        return 200, {}, output.encode()


def here(handlers: dict[str, Handler[Any]]) -> Call:
    """Return the function that calls handlers in this process."""
    return lambda name, event: handlers[name](event, object())


class ProcessDied(Exception):
    """The process of an invocation ended before it answered."""


def in_processes(module: Path, settings: dict[str, str]) -> Call:
    """Return the function whose handlers are in a file, each invocation in a process of its own."""

    def call(name: str, event: Any) -> Any:
        done = subprocess.run(
            [sys.executable, str(module), name],
            input=json.dumps(event).encode(),
            env=os.environ | CREDENTIALS | settings,
            stdout=subprocess.PIPE,
            check=False,
            timeout=PATIENCE,
        )
        if done.returncode:
            raise ProcessDied(f"Runtime exited with status {done.returncode}")
        return json.loads(done.stdout)

    return call


@contextmanager
def serving(call: Call) -> Iterator[Function]:
    """Serve a function for a while."""
    function = Function(call)
    try:
        yield function
    finally:
        function.close()
