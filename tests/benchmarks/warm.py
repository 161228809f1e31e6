"""A warm sandbox's overhead, measured in its own process: `python warm.py MODULE ROUNDS STEPS`.

Each round times a bare exchange with the API beside the same number of steps in a row; the figures
go out as JSON. The API is at `AWS_ENDPOINT_URL_LAMBDA`, and is that of `lambda_stub`.
"""

import json
import os
import socket
import sys
import time
import urllib.request
from collections.abc import Callable
from importlib import import_module
from itertools import count
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

API = os.environ["AWS_ENDPOINT_URL_LAMBDA"]
ITEMS = 900
_ids = count(1)


def main(module: str, rounds: int, steps: int) -> dict[str, Any]:
    """Return seconds a step and seconds an exchange by round, and the calls of each shape."""
    handlers = import_module(module)
    invoke(handlers.sequential, {"steps": 50})
    calls()
    exchanges, each = [], []
    for _ in range(rounds):
        exchanges.append(exchange(steps))
        calls()
        each.append(timed(lambda: invoke(handlers.sequential, {"steps": steps})) / steps)
        made = {"sequential": calls()}
    for nesting in ("nested", "flat"):
        took = timed(lambda n=nesting: invoke(handlers.branches, {"items": ITEMS, "nesting": n}))
        made[nesting] = calls() | {"seconds": took}
    return {"exchange": exchanges, "step": each, "calls": made}


def invoke(handler: Callable[[Any, Any], Any], event: Any) -> None:
    """Have a handler handle the first invocation of a new execution."""
    id = f"run-{next(_ids)}"
    execution = {
        "Id": id,
        "Type": "EXECUTION",
        "Status": "STARTED",
        "StartTimestamp": round(time.time() * 1000),
        "ExecutionDetails": {"InputPayload": json.dumps(event)},
    }
    name = "arn:aws:lambda:us-west-2:123456789012:function:f:1/durable-execution/bench"
    invocation = {
        "DurableExecutionArn": f"{name}/{id}",
        "CheckpointToken": "token0",
        "InitialExecutionState": {"Operations": [execution], "NextMarker": ""},
    }
    context = SimpleNamespace(aws_request_id="request-1", invoked_function_arn=None)
    output = handler(invocation, context)
    assert output["Status"] == "SUCCEEDED", output


def exchange(number: int) -> float:
    """Return the seconds that the API itself takes for a step's checkpoint, over a bare socket."""
    step = {"Id": "ab" * 16, "Type": "STEP", "SubType": "Step", "Name": "step-1"}
    updates = [
        step | {"Action": "START"},
        step | {"Action": "SUCCEED", "Payload": '{"a": "small"}'},
    ]
    body = json.dumps({"CheckpointToken": "token0", "Updates": updates}).encode()
    head = f"POST /checkpoint HTTP/1.1\r\nHost: api\r\nContent-Length: {len(body)}\r\n\r\n"
    request = head.encode() + body
    address = urlsplit(API)
    with socket.create_connection((address.hostname or "", address.port or 80)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return timed(lambda: [_exchange(connection, request) for _ in range(number)]) / number


def _exchange(connection: socket.socket, request: bytes) -> None:
    connection.sendall(request)
    answer = connection.recv(65536)
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(65536)
    head, _, body = answer.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65536)


def timed(work: Callable[[], Any]) -> float:
    """Return the seconds that work takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def calls() -> dict[str, Any]:
    """Return how many checkpoints, with how many updates, the API took since last asked."""
    with urllib.request.urlopen(f"{API}/calls") as answer:
        return dict(json.load(answer))


if __name__ == "__main__":
    json.dump(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])), sys.stdout)
