"""When a map or parallel is decided, and what it comes to.

`Plan` is the decision without I/O: which branch to start next, when to stop, and why. The reasons
and counts are AWS's words, recorded in the summary that stands for the batch at replay.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar, overload

from .errors import UsageError
from .operations import ErrorObject

T = TypeVar("T")


class Reason(StrEnum):
    """Why a batch ended."""

    ALL_COMPLETED = "ALL_COMPLETED"
    MIN_SUCCESSFUL_REACHED = "MIN_SUCCESSFUL_REACHED"
    FAILURE_TOLERANCE_EXCEEDED = "FAILURE_TOLERANCE_EXCEEDED"


@dataclass(frozen=True, slots=True)
class Completion:
    """The rule by which a map or parallel is complete.

    Attributes:
        min_successful: enough is enough: the batch ends when so many branches succeeded.
        max_failures: so many failures are tolerated; one more ends the batch with `BatchError`.
        max_failure_ratio: the same as a share (0 to 1) of all items.

    With none of them, all branches must succeed. With `min_successful` alone, failures are
    tolerated as long as it can still be reached.

    Raises:
        UsageError: a value that cannot be meant.
    """

    min_successful: int | None = None
    max_failures: int | None = None
    max_failure_ratio: float | None = None

    def __post_init__(self) -> None:
        """Check each field."""
        for name, least in (("min_successful", 1), ("max_failures", 0)):
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise UsageError(
                    f"completion: {name} is a whole number from {least}, not {value!r}"
                )
        ratio = self.max_failure_ratio
        if ratio is not None:
            number = isinstance(ratio, (int, float)) and not isinstance(ratio, bool)
            if not number or not math.isfinite(ratio) or not 0 <= ratio <= 1:
                raise UsageError(f"completion: max_failure_ratio is from 0 to 1, not {ratio!r}")

    def decide(self, total: int, succeeded: int, failed: int) -> Reason | None:
        """Return why the batch is over, or None while it goes on."""
        if self.min_successful is not None and succeeded >= self.min_successful:
            return Reason.MIN_SUCCESSFUL_REACHED
        if self._exceeded(total, failed):
            return Reason.FAILURE_TOLERANCE_EXCEEDED
        if succeeded + failed == total:
            return Reason.ALL_COMPLETED
        return None

    def _exceeded(self, total: int, failed: int) -> bool:
        if self.max_failures is not None and failed > self.max_failures:
            return True
        if self.max_failure_ratio is not None and failed > self.max_failure_ratio * total:
            return True
        if self.min_successful is not None:
            return total - failed < min(self.min_successful, total)
        return self.max_failures is None and self.max_failure_ratio is None and failed > 0


ALL = Completion()


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """What became of one branch that was started.

    `status` is SUCCEEDED, FAILED, or STARTED for one that was dropped when the batch was decided.
    """

    index: int
    name: str
    status: str
    result: T | None = None
    error: ErrorObject | None = None


class BatchResult(Sequence[T]):
    """The results of the branches that succeeded, in item order.

    Attributes:
        reason: why the batch ended: the value of a `Reason`.
        outcomes: what became of each branch that was started, in item order.
    """

    __slots__ = ("_results", "outcomes", "reason")

    def __init__(self, reason: Reason, outcomes: Sequence[Outcome[T]]) -> None:
        self.reason = reason.value
        self.outcomes = tuple(outcomes)
        self._results: list[T] = [
            outcome.result  # type: ignore[misc]
            for outcome in self.outcomes
            if outcome.status == "SUCCEEDED"
        ]

    @property
    def failures(self) -> list[Outcome[T]]:
        """The branches that failed, with their errors."""
        return [outcome for outcome in self.outcomes if outcome.status == "FAILED"]

    @property
    def status(self) -> str:
        """FAILED if any branch failed, else SUCCEEDED."""
        return "FAILED" if self.failures else "SUCCEEDED"

    @property
    def success_count(self) -> int:
        """How many branches succeeded."""
        return len(self._results)

    @property
    def failure_count(self) -> int:
        """How many branches failed."""
        return len(self.failures)

    @property
    def started_count(self) -> int:
        """How many branches were started and dropped before they ended."""
        return self.total_count - self.success_count - self.failure_count

    @property
    def total_count(self) -> int:
        """How many branches were started at all."""
        return len(self.outcomes)

    @overload
    def __getitem__(self, key: int | str) -> T: ...
    @overload
    def __getitem__(self, key: slice) -> list[T]: ...
    def __getitem__(self, key: int | str | slice) -> T | list[T]:
        if not isinstance(key, str):
            return self._results[key]
        for outcome in self.outcomes:
            if outcome.name == key and outcome.status == "SUCCEEDED":
                return outcome.result  # type: ignore[return-value]
        raise KeyError(key)

    def __iter__(self) -> Iterator[T]:
        return iter(self._results)

    def __len__(self) -> int:
        return len(self._results)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, BatchResult):
            return self.reason == other.reason and self.outcomes == other.outcomes
        if isinstance(other, list):
            return self._results == other
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"BatchResult({self._results!r}, reason={self.reason}, failed={self.failure_count})"


class Plan:
    """Which branch of a batch starts next, and when the batch is decided.

    A branch that waits does not count against `max_concurrency`.
    """

    def __init__(self, total: int, max_concurrency: int | None, completion: Completion) -> None:
        self.total = total
        self.outcomes: dict[int, tuple[str, str | ErrorObject]] = {}
        self.started: set[int] = set()
        self.running = 0
        self.reason = completion.decide(total, 0, 0) if total == 0 else None
        self._completion = completion
        self._limit = max_concurrency or total
        self._order: Sequence[int] = range(total)
        self._next = 0
        self._succeeded = 0

    def next(self) -> int | None:
        """Return the index of the branch to start now, or None."""
        waits = self.running >= self._limit or self._next >= len(self._order)
        if self.reason is not None or waits:
            return None
        index = self._order[self._next]
        self._next += 1
        self.started.add(index)
        self.running += 1
        return index

    def parked(self) -> None:
        """Note that a running branch waits."""
        self.running -= 1

    def unparked(self) -> None:
        """Note that a waiting branch runs again."""
        self.running += 1

    def ended(self, index: int, outcome: str | ErrorObject) -> None:
        """Note the end of a running branch: its encoded result, or its error."""
        self.running -= 1
        if self.reason is not None:
            return
        failed = isinstance(outcome, ErrorObject)
        self.outcomes[index] = ("FAILED" if failed else "SUCCEEDED", outcome)
        self._succeeded += not failed
        self.reason = self._decide()

    def _decide(self) -> Reason | None:
        failed = len(self.outcomes) - self._succeeded
        return self._completion.decide(self.total, self._succeeded, failed)


class DecidedPlan(Plan):
    """The plan of a batch that is recorded without its results: what ended then ends again.

    What was dropped is not started, whatever came for it since.
    """

    def __init__(self, total: int, max_concurrency: int | None, summary: Summary) -> None:
        super().__init__(total, max_concurrency, ALL)
        self.started = {index for index, *_ in summary.items}
        self._order = [index for index, _, status, _ in summary.items if status != "STARTED"]
        self._decided = summary.reason
        self.reason = self._decide()

    def _decide(self) -> Reason | None:
        return self._decided if len(self.outcomes) == len(self._order) else None


def summarize(kind: str, plan: Plan, names: Sequence[str], *, items: bool) -> str:
    """Return the record that stands for a decided batch; without `items`, only its decision."""
    assert plan.reason is not None
    succeeded = sum(status == "SUCCEEDED" for status, _ in plan.outcomes.values())
    record: dict[str, Any] = {
        "type": kind,
        "totalCount": len(plan.started),
        "completionReason": plan.reason.value,
        "status": "SUCCEEDED" if succeeded == len(plan.outcomes) else "FAILED",
        "successCount": succeeded,
        "failureCount": len(plan.outcomes) - succeeded,
        "startedCount": len(plan.started) - len(plan.outcomes),
        "items": [_item(index, plan, names[index], items) for index in sorted(plan.started)],
    }
    return json.dumps(record, ensure_ascii=False)


def _item(index: int, plan: Plan, name: str, full: bool) -> list[Any]:
    status, outcome = plan.outcomes.get(index, ("STARTED", None))
    item: list[Any] = [index, name, status]
    if full and isinstance(outcome, ErrorObject):
        item.append([outcome.message, outcome.type, outcome.data, list(outcome.trace)])
    elif full and outcome is not None:
        item.append(outcome)
    return item


@dataclass(frozen=True, slots=True)
class Summary:
    """A decided batch as it is read back: per branch its status and encoded outcome, if kept."""

    reason: Reason
    items: list[tuple[int, str, str, str | ErrorObject | None]]


def read_summary(payload: str) -> Summary:
    """Return what `summarize` wrote.

    Raises:
        ValueError: it is not such a record.
    """
    record = json.loads(payload)
    if not isinstance(record, Mapping) or "items" not in record:
        raise ValueError("not the summary of a map or parallel")
    items = []
    for index, name, status, *rest in record["items"]:
        outcome = rest[0] if rest else None
        if isinstance(outcome, list):
            message, type_, data, trace = outcome
            outcome = ErrorObject(message, type_, data, tuple(trace))
        items.append((index, name, status, outcome))
    return Summary(Reason(record["completionReason"]), items)
