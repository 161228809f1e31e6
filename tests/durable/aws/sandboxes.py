"""Lambda's sandboxes: processes that serve invocations one after the other until they are killed.

Run as a script this file is a process that has imported the handlers and forks a sandbox for each
line it is sent. Imported, it is the other end: it gives an invocation to an idle sandbox, or to a
new one.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from perdure.durable.aws import client  # noqa: F401 - before the fork, not in each sandbox


class SandboxDied(Exception):
    """The process of an invocation ended before it answered."""


class Sandbox:
    """One process, and the line to it."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line.makefile("rwb")
        line.close()
        self.pid = int(self._line.readline())
        self.killed = False

    def kill(self) -> None:
        """Send SIGKILL."""
        self.killed = True
        os.kill(self.pid, signal.SIGKILL)

    def invoke(self, name: str, event: Any) -> Any:
        """Have it handle an event; return its answer.

        Raises:
            SandboxDied: it ended before it answered.
        """
        try:
            self._line.write(json.dumps([name, event]).encode() + b"\n")
            self._line.flush()
            answer = self._line.readline()
        except OSError:
            answer = b""
        if not answer.endswith(b"\n"):
            raise SandboxDied(f"process {self.pid} was killed")
        return json.loads(answer)


class Sandboxes:
    """The sandboxes of a function; `place` is a folder for the address they call."""

    def __init__(self, place: Path, handlers: Path, settings: dict[str, str]) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        address = str(place / "sandboxes")
        self._listener.bind(address)
        self._listener.listen()
        self._listener.settimeout(30)
        self._idle: list[Sandbox] = []
        self._lock = threading.Lock()
        self._forker = subprocess.Popen(
            [sys.executable, __file__, address, str(handlers)],
            env=os.environ | settings,
            stdin=subprocess.PIPE,
        )

    def close(self) -> None:
        """End all of them."""
        self._forker.communicate()
        self._listener.close()

    def call(self, name: str, event: Any, begun: Callable[[Sandbox], None]) -> Any:
        """Serve an invocation; `begun` is told in which sandbox, before it begins.

        Raises:
            SandboxDied: the sandbox was killed.
        """
        sandbox = self._free()
        begun(sandbox)
        answer = sandbox.invoke(name, event)
        with self._lock:
            if not sandbox.killed:
                self._idle.append(sandbox)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["output"]

    def _free(self) -> Sandbox:
        with self._lock:
            while self._idle:
                sandbox = self._idle.pop()
                if not sandbox.killed:
                    return sandbox
            assert self._forker.stdin is not None
            self._forker.stdin.write(b"\n")
            self._forker.stdin.flush()
            line, _ = self._listener.accept()
            line.settimeout(None)
            return Sandbox(line)


def _serve(address: str, handlers: Any) -> None:
    line = socket.socket(socket.AF_UNIX)
    line.connect(address)
    stream = line.makefile("rwb")
    stream.write(f"{os.getpid()}\n".encode())
    stream.flush()
    for request in stream:
        name, event = json.loads(request)
        try:
            answer = {"output": handlers[name](event, object())}
        except BaseException as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        stream.write(json.dumps(answer).encode() + b"\n")
        stream.flush()


def _fork_as_told(address: str, file: str) -> None:
    sys.path.insert(0, str(Path(file).parent))
    handlers = __import__(Path(file).stem).HANDLERS
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for _ in sys.stdin:
        if os.fork() == 0:
            _serve(address, handlers)
            os._exit(0)


if __name__ == "__main__":
    _fork_as_told(*sys.argv[1:])
