"""A Lambda function out of a file: each invocation is a process of its own that imports it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ..durable.aws.stage import CREDENTIALS, PATIENCE, Call, ProcessDied
from ..durable.aws.worlds import AwsWorld

SANDBOX = Path(__file__).with_name("sandbox.py")


def in_sandboxes(world: AwsWorld, file: Path, attribute: str) -> Call:
    """Return the function that is a handler of a file."""
    own = {"AWS_ENDPOINT_URL_LAMBDA": world.runner.url, "PYTHONDONTWRITEBYTECODE": "1"}

    def invoke(name: str, event: Any) -> Any:
        done = subprocess.run(
            [sys.executable, str(SANDBOX), f"{file}:{attribute}"],
            input=json.dumps(event).encode(),
            env=os.environ | CREDENTIALS | own,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        if done.returncode:
            raise ProcessDied(f"status {done.returncode}: {done.stderr.decode()}")
        return json.loads(done.stdout)

    return invoke
