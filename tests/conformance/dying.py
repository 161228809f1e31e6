"""A process that dies inside a step: what its handlers call, what it runs, and who starts it.

The first process of a crash case serves the handler until the step's body stands in `die_once`.
There it waits for the word; it is given when the step's START is seen in the journal, so the crash
comes after what the requirement wants recorded, whatever the machine's speed. Then the process ends
with `os._exit`, as a Lambda runtime does.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from perdure.durable import ExecutionNotFoundError, Limits, LocalEngine
from perdure.durable.testing import ManualClock

MUST_DIE = "PERDURE_CONFORMANCE_MUST_DIE"
EXIT_CODE = 86
PATIENCE = 30  # seconds of real time


def die_once() -> None:
    """End this process, if it was started to die, as soon as it is told to; else go on."""
    if MUST_DIE in os.environ:
        sys.stdin.read()
        os._exit(EXIT_CODE)


def run_until_killed(id: str, journal: Path, execution: str, event: Any) -> list[str]:
    """Start a run in a process of its own and let it die inside its step; return what it logged."""
    child = subprocess.Popen(
        [sys.executable, "-m", f"{Path(__file__).parent.name}.doomed", id, journal, execution],
        cwd=Path(__file__).parent.parent,
        env={**os.environ, MUST_DIE: json.dumps(event)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        _wait_for_a_started_step(journal, execution, child)
        logged, _ = child.communicate(timeout=PATIENCE)  # closes its stdin: the word
    finally:
        child.kill()
        child.wait()
    if child.returncode != EXIT_CODE:
        raise AssertionError(f"the process ended with {child.returncode} instead of dying")
    return [json.loads(line) for line in logged.splitlines()]


def _wait_for_a_started_step(journal: Path, execution: str, child: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + PATIENCE
    with LocalEngine(journal, clock=ManualClock(), limits=Limits.aws()) as watcher:
        while child.poll() is None and time.monotonic() < deadline:
            try:
                events = watcher.history(execution)
            except ExecutionNotFoundError:
                events = []
            if any(event["EventType"] == "StepStarted" for event in events):
                return
            time.sleep(0.01)
    if child.poll() is None:
        raise AssertionError(f"no StepStarted in the journal after {PATIENCE} s")
    raise AssertionError(f"the process ended with {child.returncode} before its step was started")
