"""Runs a handler on the embedded engine and judges what it left: history, outcome, log records."""

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from perdure.durable import Limits
from perdure.durable.testing import Runner

from .callbacks import OutsideWorld
from .dying import run_until_killed
from .matcher import compare, compare_history, compare_logs
from .requirements import Requirement

CRASHES = frozenset({"1-17", "1-18", "3-12"})
EXECUTION = "conformance"
HORIZON = 120  # seconds on the manual clock within which a run must end


def judge(requirement: Requirement, handler: Any, journal: Path) -> list[str]:
    """Run the handler for the requirement; return all that is not as required."""
    messages: list[str] = []
    if requirement.id in CRASHES:
        messages += run_until_killed(requirement.id, journal, EXECUTION, requirement.event)
    with (
        captured_logs(messages),
        Runner(journal, handlers=[handler], limits=Limits.aws()) as runner,
    ):
        if requirement.id in CRASHES:
            run = runner.engine.get(EXECUTION)
        else:
            run = runner.start(handler, requirement.event, id=EXECUTION)
        _drive(requirement, runner, run)
        events = run.history()
        problems = [
            *compare_history(requirement.history, events, requirement.bound),
            *_compare_outcome(requirement, run, events),
            *compare_logs(requirement.logs, messages, requirement.bound),
        ]
    return problems and [*problems, *_found(events)]


def message(record: logging.LogRecord) -> str:
    """Return a record's text; an error is marked as in the plain log lines of Lambda."""
    text = record.getMessage()
    return f"[ERROR] {text}" if record.levelno >= logging.ERROR else text


@contextmanager
def captured_logs(messages: list[str]) -> Iterator[None]:
    """Collect the messages logged under `perdure`, from INFO."""

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(message(record))

    logger, collector = logging.getLogger("perdure"), Collector()
    level = logger.level
    logger.addHandler(collector)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(collector)
        logger.setLevel(level)


def _drive(requirement: Requirement, runner: Runner, run: Any) -> None:
    """Let the run go on, second by second, until it has ended.

    A requirement without an expected result is over when its events are there.
    """
    world = OutsideWorld(requirement.actions)
    for _ in range(HORIZON):
        runner.settle()
        while world.act(runner.engine, run.history(), runner.clock.now()):
            runner.settle()
        if run.status != "RUNNING":
            return
        if requirement.result is None:
            bound = dict(requirement.bound)
            if not compare_history(requirement.history, run.history(), bound):
                return
        runner.clock.advance(1)


def _compare_outcome(
    requirement: Requirement, run: Any, events: Sequence[dict[str, Any]]
) -> list[str]:
    if requirement.result is None:
        return []
    status = requirement.result["ExecutionStatus"]
    problems = [] if run.status == status else [f"status: expected {status}, found {run.status}"]
    if status == "SUCCEEDED" and "Result" in requirement.result and not problems:
        expected = requirement.result["Result"]
        recorded = events[-1]["ExecutionSucceededDetails"]["Result"]["Payload"]
        problems += compare(expected, json.loads(recorded), {}, "recorded result")
        problems += compare(expected, run.result(timeout=0), {}, "result")
    return problems


def _found(events: Sequence[dict[str, Any]]) -> list[str]:
    """Return the whole history as lines, to read beside the problems."""
    lines = []
    for event in events:
        told = {key: value for key, value in event.items() if key != "EventTimestamp"}
        lines.append(f"    {str(told)[:300]}")
    return ["the history:", *lines]
