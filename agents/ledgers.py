"""The ledger: what the model calls of a run cost, read from its journal and nothing else.

Each attempt of each call is one line. What was answered is exact; an attempt that may have run, and
one that was started and has no end, count with an upper bound and are told apart. What is recorded
is counted once, however often it is replayed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from perdure.durable.operations import Operation, OperationStatus

from .lines import KIND, Line, Outcome, lines_of, open_line, with_outcome
from .reply import Usage

if TYPE_CHECKING:
    from perdure.durable import AsyncContext, Context, Execution
    from perdure.durable.aws import LambdaExecution

_NOTHING = Usage()


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over calls; dollars are exact decimals.

    Attributes:
        calls: answers that were recorded.
        usd: what they cost, those without a price aside, which `unpriced` counts.
        uncertain: attempts that may have run, without an answer; `uncertain_usd` at most.
        in_doubt: attempts whose process died; `in_doubt_usd` at most.
        in_flight: attempts that are being made now.
        free: attempts that were never sent, or refused, or over a budget.
        saved_calls: answers taken from the journal where a plain retry would have paid again;
            `saved_usd` likewise.
        hidden_retries: further attempts that a model's own client reports.
        unmatched: calls of a `durable_model` that stood in no journal though others were expected.
    """

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    usd: Decimal = Decimal(0)
    unpriced: int = 0
    uncertain: int = 0
    uncertain_usd: Decimal = Decimal(0)
    in_doubt: int = 0
    in_doubt_usd: Decimal = Decimal(0)
    in_flight: int = 0
    free: int = 0
    saved_calls: int = 0
    saved_usd: Decimal = Decimal(0)
    hidden_retries: int = 0
    unmatched: int = 0

    def __add__(self, other: Totals) -> Totals:
        sums = {each.name: getattr(self, each.name) + getattr(other, each.name) for each in _FIELDS}
        return Totals(**sums)

    @property
    def tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens

    @property
    def attempts(self) -> int:
        """Attempts that may have reached a provider."""
        return self.calls + self.uncertain + self.in_doubt + self.in_flight

    def as_json(self) -> dict[str, Any]:
        """Return the sums as JSON, dollars as numbers; null where no call has a price."""
        values = {each.name: getattr(self, each.name) for each in _FIELDS}
        if self.unpriced and self.unpriced == self.calls:
            values["usd"] = None
        return {
            key: float(value) if isinstance(value, Decimal) else value
            for key, value in values.items()
        }


_FIELDS = fields(Totals)


@dataclass(frozen=True, slots=True)
class Entry:
    """One call: where it stands in the run, its attempts, and their sum."""

    path: str
    lines: tuple[Line, ...]
    totals: Totals
    template: str | None = None

    @property
    def model(self) -> str:
        """The model of the last attempt."""
        return self.lines[-1].model if self.lines else ""


@dataclass(frozen=True, slots=True)
class Ledger:
    """The model calls of a run: one by one, and summed by run, step and model."""

    entries: tuple[Entry, ...] = ()
    totals: Totals = field(default_factory=Totals)

    @property
    def by_step(self) -> dict[str, Totals]:
        """The sums of each call, by its path."""
        return {each.path: each.totals for each in self.entries}

    @property
    def by_model(self) -> dict[str, Totals]:
        """The sums of each model."""
        sums: dict[str, Totals] = {}
        for entry in self.entries:
            sums[entry.model] = sums.get(entry.model, Totals()) + entry.totals
        return sums

    @property
    def sources(self) -> list[str]:
        """Whose prices were used."""
        found = (line.source for each in self.entries for line in each.lines)
        return sorted({each for each in found if each})

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON."""
        return {
            "totals": self.totals.as_json(),
            "by_model": {model: each.as_json() for model, each in self.by_model.items()},
            "calls": [
                {
                    "path": each.path,
                    "model": each.model,
                    "template": each.template,
                    **each.totals.as_json(),
                    "attempts": [_line_json(line) for line in each.lines],
                }
                for each in self.entries
            ],
            "prices": self.sources,
        }


def ledger(run: Execution | LambdaExecution | Context | AsyncContext) -> Ledger:
    """Return the ledger of a run, whatever its state.

    Given the context of a handler, it is that of the run so far: keep what you make of it in a
    step.
    """
    from perdure.durable import AsyncContext, Context

    if isinstance(run, Context | AsyncContext):
        return _so_far(run)
    return ledger_of(run.operations(), active=run.info().active, replays=run.replays(KIND))


def _so_far(context: Context | AsyncContext) -> Ledger:
    from perdure.durable.gated import run_of
    from perdure.durable.local.paths import paths_of

    operations = dict(run_of(context).journal.operations)
    paths = paths_of(operations)
    return ledger_of({paths[id]: each for id, each in operations.items()}, active=True)


def ledger_of(
    operations: Mapping[str, Operation], *, active: bool, replays: Mapping[str, int] | None = None
) -> Ledger:
    """Return the ledger of a run's operations, by path.

    Args:
        active: a process runs the run now, so that what has no end is in flight, not in doubt.
        replays: how often each call was found recorded, by the id of its operation.
    """
    entries = [
        _entry(path, each, active, (replays or {}).get(each.id, 0))
        for path, each in operations.items()
        if each.subtype == KIND
    ]
    return Ledger(tuple(entries), sum((each.totals for each in entries), Totals()))


def _entry(path: str, operation: Operation, active: bool, replays: int) -> Entry:
    lines = lines_of(operation)
    if operation.status is OperationStatus.STARTED:
        line = open_line(operation)
        lines.append(line if active else with_outcome(line, Outcome.IN_DOUBT, "its process ended"))
    totals = sum(map(_totals, lines), Totals())
    totals += Totals(hidden_retries=sum(line.hidden_retries for line in lines))
    if operation.status is OperationStatus.SUCCEEDED:
        usd = lines[-1].usd or Decimal(0)
        totals += Totals(saved_calls=replays, saved_usd=usd * replays)
    note = json.loads(operation.note) if operation.note else {}
    totals += Totals(unmatched=int(note.get("unmatched", False)))
    template = note.get("template")
    told = f"{template['name']}@{template['version'][:12]}" if template else None
    return Entry(path, tuple(lines), totals, told)


def _totals(line: Line) -> Totals:
    usd = line.usd or Decimal(0)
    match line.outcome:
        case Outcome.ANSWERED:
            usage = line.usage or _NOTHING
            return Totals(
                1,
                usage.input,
                usage.output,
                usage.cache_read,
                usage.cache_write,
                usd,
                unpriced=int(line.usd is None),
            )
        case Outcome.UNCERTAIN:
            return Totals(uncertain=1, uncertain_usd=usd)
        case Outcome.IN_DOUBT:
            return Totals(in_doubt=1, in_doubt_usd=usd)
        case Outcome.IN_FLIGHT:
            return Totals(in_flight=1)
        case _:
            return Totals(free=1)


def _line_json(line: Line) -> dict[str, Any]:
    usage = line.usage
    return {
        "outcome": line.outcome.value,
        "model": line.model,
        "input_tokens": usage.input if usage else None,
        "output_tokens": usage.output if usage else None,
        "usd": None if line.usd is None else float(line.usd),
        "price": line.source or None,
        "why": line.why or None,
        "request_id": line.request_id,
        "seconds": line.seconds,
    }
