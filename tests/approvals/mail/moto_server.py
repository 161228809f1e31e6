"""Amazon SES on this machine: moto's server, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from perdure.approvals.mail import Ses

from .smtp_server import HOST, free_port

REGION = "eu-west-1"
_OPEN = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass
class Moto:
    """A running server."""

    url: str

    def ses(self, **options: Any) -> Ses:
        """Return the transport that talks to it."""
        return Ses(REGION, self.url, **options)

    def raw_mails(self) -> list[dict[str, Any]]:
        """Return what was sent as MIME: `source`, `destinations`, `raw_data`."""
        data = json.loads(self._ask("/moto-api/data.json"))
        return data.get("ses", {}).get("RawMessage", [])

    def reset(self) -> None:
        """Forget everything."""
        self._ask("/moto-api/reset", b"")

    def _ask(self, path: str, data: bytes | None = None) -> bytes:
        with _OPEN.open(self.url + path, data, timeout=10) as answer:
            return answer.read()


@contextmanager
def serving() -> Iterator[Moto]:
    """Run the server until the end of the block."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    moto = Moto(f"http://{HOST}:{port}")
    try:
        _wait_for(moto, process)
        yield moto
    finally:
        process.terminate()
        process.wait(10)


def _wait_for(moto: Moto, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        try:
            moto.reset()
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError("moto's server did not come up")
