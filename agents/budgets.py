"""Budgets of a run: reserved before a call is sent, settled after, whatever happens in between.

A budget is known by its name; what was spent of it is read from the journal at each invocation, so
it holds across branches, suspensions, crashes and resumes. Until a call has an answer it counts
with its worst case: an input estimate and the largest output it may give.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Literal

from perdure.durable.errors import UsageError
from perdure.durable.names import check_name
from perdure.durable.operations import Operation, OperationStatus
from perdure.durable.run import Run

from .lines import KIND, Line, lines_of, open_line

LIMITS = ("usd", "tokens", "calls")


@dataclass(frozen=True, slots=True)
class Budget:
    """What the calls of a run that name it may cost together.

    Attributes:
        usd: US dollars; a model without a price is refused under such a limit.
        tokens: input and output together.
        calls: requests that may have been billed.
        name: budgets of one name are one budget; "perdure send ID NAME" answers its question.
        on_exceeded: "raise" fails the call that would break it; "ask" waits, once for all branches,
            for somebody to send new limits (`{"usd": 5}`), true (no limit) or false (refuse).

    Raises:
        UsageError: no limit, or one that cannot be meant.
    """

    usd: float | Decimal | None = None
    tokens: int | None = None
    calls: int | None = None
    name: str = "budget"
    on_exceeded: Literal["raise", "ask"] = "raise"

    def __post_init__(self) -> None:
        """Check each field."""
        check_name(self.name, "budget")
        if self.on_exceeded not in ("raise", "ask"):
            raise UsageError(
                f"budget {self.name!r}: on_exceeded is 'raise' or 'ask', not {self.on_exceeded!r}"
            )
        if all(getattr(self, each) is None for each in LIMITS):
            raise UsageError(f"budget {self.name!r} has no limit; give usd=, tokens= or calls=")
        for each in LIMITS:
            _check_limit(self.name, each, getattr(self, each))

    def left(self, spent: Spend) -> Mapping[str, Decimal]:
        """Return what is left of each limit."""
        limits = {each: getattr(self, each) for each in LIMITS}
        return {
            each: Decimal(str(limit)) - Decimal(getattr(spent, each))
            for each, limit in limits.items()
            if limit is not None
        }


@dataclass(frozen=True, slots=True)
class Spend:
    """Dollars, tokens and calls."""

    usd: Decimal = Decimal(0)
    tokens: int = 0
    calls: int = 0

    def __add__(self, other: Spend) -> Spend:
        return Spend(self.usd + other.usd, self.tokens + other.tokens, self.calls + other.calls)

    def __sub__(self, other: Spend) -> Spend:
        return Spend(self.usd - other.usd, self.tokens - other.tokens, self.calls - other.calls)


def budgets_of(budget: Budget | Sequence[Budget] | None) -> tuple[Budget, ...]:
    """Return the budgets that `budget=` means."""
    given = [] if budget is None else budget
    found = tuple(given) if isinstance(given, Sequence) else (given,)
    for each in found:
        if not isinstance(each, Budget):
            raise UsageError(f"budget is a Budget or several, not {type(each).__name__}")
    return found


def spend_of(line: Line) -> Spend:
    """Return what a line of the ledger counts against its budgets: the upper bound if unsure."""
    if line.billed is False:
        return Spend()
    return Spend(line.usd or Decimal(0), line.tokens, 1)


class Purse:
    """What a run has spent and reserved, by budget; one for each invocation.

    Threads of the run share it: a look and a reservation are one act.
    """

    def __init__(self, operations: Iterable[Operation]) -> None:
        self.guard = threading.RLock()
        self._lines: dict[str, list[Line]] = {}
        self._sums: dict[str, Spend] = {}
        self._reserved: dict[str, Line] = {}
        for operation in list(operations):
            if operation.subtype == KIND:
                self.settle(operation)
                if operation.status is OperationStatus.STARTED:
                    self._reserved[operation.id] = open_line(operation)

    @classmethod
    def of(cls, run: Run) -> Purse:
        """Return the purse of a run."""
        found = run.state.get("purse")
        if found is None:
            found = run.state.setdefault("purse", cls(run.journal.operations.values()))
        purse: Purse = found
        return purse

    def reserve(self, operation: Operation, line: Line) -> None:
        """Count a call that is about to be sent with its worst case."""
        self._reserved[operation.id] = line

    def settle(self, operation: Operation) -> None:
        """Count what is recorded of a call, in place of what was reserved for it."""
        self.replace(operation, lines_of(operation))

    def replace(self, operation: Operation, lines: list[Line]) -> None:
        """Count these lines of a call, in place of what was counted or reserved for it."""
        with self.guard:
            self._reserved.pop(operation.id, None)
            for line in self._lines.get(operation.id, ()):
                for name in line.budgets:
                    self._sums[name] -= spend_of(line)
            for line in lines:
                for name in line.budgets:
                    self._sums[name] = self._sums.get(name, Spend()) + spend_of(line)
            self._lines[operation.id] = lines

    def spent(self, budget: str) -> Spend:
        """Return what counts against a budget: answers, uncertain calls, and calls in flight."""
        total = self._sums.get(budget, Spend())
        for line in self._reserved.values():
            if budget in line.budgets:
                total += spend_of(line)
        return total


def broken_by(budget: Budget, spent: Spend, more: Line) -> str | None:
    """Return in words which limit a call would break in the worst case, or None."""
    for each, left in budget.left(spent).items():
        worst = Decimal(getattr(spend_of(more), each))
        if worst > left:
            limit, used = getattr(budget, each), getattr(spent, each)
            return (
                f"the budget {budget.name!r} allows {_amount(each, limit)}; {_amount(each, used)} "
                f"are spent or reserved, and this call may take {_amount(each, worst)}"
            )
    return None


def raised(budget: Budget, answer: Any) -> Budget | bool | None:
    """Return the budget after an answer: with new limits, True for none, False for a refusal.

    None says that the answer is none of these.
    """
    if isinstance(answer, bool):
        return answer
    if not isinstance(answer, Mapping) or not answer or any(key not in LIMITS for key in answer):
        return None
    try:
        return replace(budget, **answer)
    except UsageError:
        return None


def parsed_answer(payload: str | None) -> Any:
    """Return what was sent to a budget's question; nothing means True."""
    return True if payload is None else json.loads(payload)


def _check_limit(name: str, which: str, limit: Any) -> None:
    if limit is None:
        return
    whole = which != "usd"
    number = isinstance(limit, int) if whole else isinstance(limit, int | float | Decimal)
    if isinstance(limit, bool) or not number or not math.isfinite(limit) or limit < 0:
        kind = "a whole number" if whole else "a number"
        raise UsageError(f"budget {name!r}: {which} is {kind} of at least 0, not {limit!r}")


def _amount(which: str, value: Any) -> str:
    return f"${Decimal(str(value)):.6f}" if which == "usd" else f"{value:,} {which}"
