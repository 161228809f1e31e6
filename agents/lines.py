"""The ledger's lines: one for each attempt of a model call, as the journal carries them.

The last attempt's end carries the lines of those before it: an answer in its record (`attempts`),
a failure in its error's `data`. An attempt without an end is known by the note of its start.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from typing import Any

from perdure.durable.offloaded import text_of
from perdure.durable.operations import Operation, OperationStatus

from .reply import Usage, cost_of, usage_of

KIND = "ModelCall"


class Outcome(StrEnum):
    """What became of one attempt of a call."""

    ANSWERED = "answered"
    NEVER_SENT = "never_sent"
    REFUSED = "refused"
    UNCERTAIN = "uncertain"
    FINAL = "final"
    IN_DOUBT = "in_doubt"
    OVER_BUDGET = "over_budget"
    IN_FLIGHT = "in_flight"


_BILLED = {
    Outcome.ANSWERED: True,
    Outcome.UNCERTAIN: None,
    Outcome.IN_DOUBT: None,
    Outcome.IN_FLIGHT: None,
}


@dataclass(frozen=True, slots=True)
class Line:
    """One attempt: what became of it and what it cost, an upper bound where that is not known.

    Attributes:
        usage: tokens; where nothing was answered, the most it may have taken.
        usd: dollars, likewise; None if the model has no price.
        why: the error, if one.
        hidden_retries: further requests that the model's own client says it sent, unpriced.
    """

    outcome: Outcome
    model: str
    usage: Usage | None = None
    usd: Decimal | None = None
    source: str = ""
    why: str = ""
    request_id: str | None = None
    seconds: float | None = None
    hidden_retries: int = 0
    budgets: tuple[str, ...] = ()

    @property
    def billed(self) -> bool | None:
        """Whether it is billed: None where nobody here can know."""
        return _BILLED.get(self.outcome, False)

    @property
    def tokens(self) -> int:
        """Input and output together; an upper bound where the answer is not known."""
        return self.usage.total if self.usage is not None else 0

    def kept(self) -> dict[str, Any]:
        """Return the line as the journal carries it."""
        record: dict[str, Any] = {"outcome": self.outcome.value, "model": self.model}
        if self.usage is not None and self.billed is not False:
            record["usage"] = {"input": self.usage.input, "output": self.usage.output}
            usd = None if self.usd is None else f"{self.usd:f}"
            record["cost"] = {"usd": usd, "source": self.source}
        record |= {"why": self.why} if self.why else {}
        record |= {"hidden_retries": self.hidden_retries} if self.hidden_retries else {}
        return record | ({"budgets": list(self.budgets)} if self.budgets else {})


def lines_of(operation: Operation) -> list[Line]:
    """Return the lines of the ended attempts of a call, the first one first."""
    if operation.status is OperationStatus.SUCCEEDED:
        record = json.loads(text_of(operation.payload or "{}"))
        return [*map(_read, record.get("attempts", ())), answered_line(record)]
    return carried_lines(operation)


def carried_lines(operation: Operation) -> list[Line]:
    """Return the lines that the last failure of a call carries."""
    carried = json.loads(operation.carried) if operation.carried else {}
    return [_read(each) for each in carried.get("attempts", ())]


def answered_line(record: Mapping[str, Any]) -> Line:
    """Return the line of a recorded answer."""
    cost = cost_of(record)
    return Line(
        Outcome.ANSWERED,
        record.get("model", "unknown"),  # of a history that leaves out what is large
        usage_of(record),
        cost.usd,
        cost.source,
        request_id=record.get("request_id"),
        seconds=record.get("seconds"),
        hidden_retries=record.get("hidden_retries", 0),
        budgets=tuple(record.get("budgets", ())),
    )


def open_line(operation: Operation) -> Line:
    """Return the line of a started attempt without an end, from the note of its start."""
    note = json.loads(operation.note) if operation.note else {}
    return _read({"model": "unknown", **note, "outcome": Outcome.IN_FLIGHT})


def with_outcome(line: Line, outcome: Outcome, why: str) -> Line:
    """Return a line that came to an end."""
    return replace(line, outcome=outcome, why=why)


def _read(kept: Mapping[str, Any]) -> Line:
    cost = cost_of(kept)
    return Line(
        Outcome(kept["outcome"]),
        kept["model"],
        usage_of(kept),
        cost.usd,
        cost.source,
        kept.get("why", ""),
        hidden_retries=kept.get("hidden_retries", 0),
        budgets=tuple(kept.get("budgets", ())),
    )
