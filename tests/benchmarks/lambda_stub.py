"""A durable API that takes everything, in a process of its own: `python lambda_stub.py LATENCY`.

It prints its port, answers each checkpoint, after so many seconds, with the operations that it
changed, and tells at `/calls` how many checkpoints there were since it was last asked.
"""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any

_STATUS = {"START": "STARTED", "SUCCEED": "SUCCEEDED", "FAIL": "FAILED", "RETRY": "PENDING"}
_DETAILS = {"STEP": "StepDetails", "CONTEXT": "ContextDetails"}
_tokens = count(1)
_calls: list[int] = []
_LATENCY = float(sys.argv[1])


class Api(BaseHTTPRequestHandler):
    """One connection, kept open."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_POST(self) -> None:
        """Take a checkpoint."""
        call = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        updates = call.get("Updates", [])
        _calls.append(len(updates))
        time.sleep(_LATENCY)
        changed = {update["Id"]: _operation(update) for update in updates}
        state = {"Operations": list(changed.values())}
        self._answer({"CheckpointToken": f"token{next(_tokens)}", "NewExecutionState": state})

    def do_GET(self) -> None:
        """Tell how many checkpoints there were, and begin anew."""
        told = {"calls": len(_calls), "updates": sum(_calls)}
        _calls.clear()
        self._answer(told)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _answer(self, answer: Any) -> None:
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()


def _operation(update: dict[str, Any]) -> dict[str, Any]:
    kept = ("Id", "ParentId", "Name", "Type", "SubType")
    operation = {key: update[key] for key in kept if key in update}
    operation |= {"Status": _STATUS[update["Action"]], "StartTimestamp": time.time()}
    details = {"Result": update["Payload"]} if "Payload" in update else {}
    return operation | {_DETAILS[update["Type"]]: details}


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    print(server.server_port, flush=True)
    server.serve_forever()
