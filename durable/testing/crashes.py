"""Kills an engine at every write of a run, and checks that the run comes to the same end."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import ExecutionError, PerdureError
from ..handler import Handler
from ..local import Execution
from .runner import Runner

Drive = Callable[[Runner, Execution], None]


def check_crashes(
    handler: Handler[Any], event: Any = None, *, drive: Drive | None = None, most: int = 10_000
) -> int:
    """Run a handler once undisturbed, then once for each of its writes, killed right before it.

    Args:
        handler: the handler to run.
        event: its input.
        drive: what the outside does: called with the runner and the handle to bring the run to its
            end, `runner.run_until_idle()` by default. It may be called again after the restart.
        most: the largest number of crash points tried.

    Returns:
        The number of crash points.

    Raises:
        AssertionError: a crash changed the outcome, or an operation was recorded twice.
    """
    drive = drive or _run_until_idle
    with tempfile.TemporaryDirectory() as folder:
        expected = _undisturbed(Path(folder, "undisturbed.db"), handler, event, drive)
        for point in range(most):
            outcome = _killed(Path(folder, f"{point}.db"), handler, event, drive, point)
            if outcome is None:
                return point
            told = f"killed before write {point + 1}: {outcome!r}, not {expected!r}"
            assert outcome == expected, told
    return most


def _run_until_idle(runner: Runner, run: Execution) -> None:
    runner.run_until_idle()


def _undisturbed(path: Path, handler: Handler[Any], event: Any, drive: Drive) -> Any:
    with Runner(path, [handler]) as runner:
        run = runner.start(handler, event, "run")
        drive(runner, run)
        return _outcome(run)


def _killed(path: Path, handler: Handler[Any], event: Any, drive: Drive, point: int) -> Any:
    with Runner(path, [handler]) as runner:
        runner.crash_after(point)
        died = False
        try:
            drive(runner, runner.start(handler, event, "run"))
            died = runner.engine.killed
        except PerdureError:
            died = True
        if not died:
            return None
        runner.restart()
        run = runner.start(handler, event, "run")
        drive(runner, run)
        _check_recorded_once(run)
        return _outcome(run)


def _outcome(run: Execution) -> Any:
    try:
        return ("SUCCEEDED", run.result(timeout=60))
    except ExecutionError as error:
        return (run.status.value, error.error_type, error.error and error.error.message)


def _check_recorded_once(run: Execution) -> None:
    ends = Counter(
        event["Id"]
        for event in run.history()
        if event["EventType"].endswith(("Succeeded", "TimedOut", "Failed"))
        and "Id" in event
        and "NextAttemptDelaySeconds" not in _retry(event)
    )
    twice = [id for id, count in ends.items() if count > 1]
    assert not twice, f"recorded more than once: {twice}"


def _retry(event: dict[str, Any]) -> dict[str, Any]:
    details: dict[str, Any] = event[f"{event['EventType']}Details"]
    retry: dict[str, Any] = details.get("RetryDetails", {})
    return retry
