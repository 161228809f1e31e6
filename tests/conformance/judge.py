"""Judges what a handler left on either engine: its history, its outcome, its log records."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from .matcher import compare, compare_history, compare_logs
from .requirements import Requirement

CRASHES = frozenset({"1-17", "1-18", "3-12"})
"""Requirements whose process dies once inside a step."""
Event = Mapping[str, Any]


class Run(Protocol):
    """The handle on a run, as both engines give it."""

    @property
    def status(self) -> str:
        """The state of the run."""

    def result(self, timeout: float | None = None) -> Any:
        """Return the result of a run that has ended."""

    def history(self) -> list[dict[str, Any]]:
        """Return its events."""


def findings(requirement: Requirement, run: Run, messages: Sequence[str]) -> list[str]:
    """Return all about an ended run that is not as required, and the history to read beside it."""
    events = run.history()
    problems = [
        *compare_history(requirement.history, events, requirement.bound),
        *_compare_outcome(requirement, run, events),
        *compare_logs(requirement.logs, messages, requirement.bound),
    ]
    return problems and [*problems, *_found(events)]


def is_over(requirement: Requirement, run: Run) -> bool:
    """Return whether the run is to be judged now.

    A requirement without an expected result is over when its events are there.
    """
    if run.status != "RUNNING":
        return True
    if requirement.result is not None:
        return False
    return not compare_history(requirement.history, run.history(), dict(requirement.bound))


def message(record: logging.LogRecord) -> str:
    """Return a record's text; an error is marked as in the plain log lines of Lambda."""
    text = record.getMessage()
    return f"[ERROR] {text}" if record.levelno >= logging.ERROR else text


@contextmanager
def captured_logs() -> Iterator[list[logging.LogRecord]]:
    """Collect what is logged under `perdure`, from INFO."""
    records: list[logging.LogRecord] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    logger, collector = logging.getLogger("perdure"), Collector()
    level = logger.level
    logger.addHandler(collector)
    logger.setLevel(logging.INFO)
    try:
        yield records
    finally:
        logger.removeHandler(collector)
        logger.setLevel(level)


def _compare_outcome(requirement: Requirement, run: Run, events: Sequence[Event]) -> list[str]:
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


def _found(events: Sequence[Event]) -> list[str]:
    """Return the whole history as lines, to read beside the problems."""
    lines = []
    for event in events:
        told = {key: value for key, value in event.items() if key != "EventTimestamp"}
        lines.append(f"    {str(told)[:300]}")
    return ["the history:", *lines]
