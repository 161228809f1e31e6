"""Amazon S3 on this machine: moto's server, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from typing import Any

from ...waiting import until
from .stage import PATIENCE, free_port

NAME = "large-values"
_OPEN = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Bucket:
    """One bucket, at `url`."""

    def __init__(self) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(command, stdout=quiet, stderr=quiet)
        until(self._answers, "moto's server to answer", 60)

    def empty(self) -> None:
        """Make the bucket anew."""
        self._ask("POST", "/moto-api/reset")
        self._ask("PUT", f"/{NAME}")

    def remove(self) -> None:
        """Have no bucket any more."""
        self._ask("POST", "/moto-api/reset")

    def objects(self) -> list[str]:
        """Return the keys of all objects."""
        client = self.client()
        return [each["Key"] for each in client.list_objects_v2(Bucket=NAME).get("Contents", ())]

    def put(self, key: str, content: bytes) -> None:
        """Replace an object."""
        self.client().put_object(Bucket=NAME, Key=key, Body=content)

    def delete(self, key: str) -> None:
        """Remove an object."""
        self.client().delete_object(Bucket=NAME, Key=key)

    def client(self) -> Any:
        """Return a client of its own."""
        import boto3

        return boto3.client("s3", endpoint_url=self.url)

    def stop(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.wait(PATIENCE)

    def _answers(self) -> bool:
        assert self._process.poll() is None
        try:
            self.empty()
        except OSError:
            return False
        return True

    def _ask(self, method: str, path: str) -> Any:
        request = urllib.request.Request(self.url + path, b"", method=method)
        with _OPEN.open(request, timeout=PATIENCE) as answer:
            text = answer.read()
        return json.loads(text) if text.startswith(b"{") else text
