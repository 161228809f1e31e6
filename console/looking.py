"""`list`, `show`, `history`: what is in a journal, as tables or as JSON. They change nothing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from perdure.durable.errors import UsageError

from . import report
from .account import (
    STYLES,
    Account,
    account_of,
    brief_ledger,
    seconds_of,
    status_of,
    summary,
    waits_words,
)
from .asked import (
    REQUEST,
    asked_in,
    decision_words,
    pending,
    record_words,
    subject_lines,
    title_of,
)
from .costs import cost_json, whole_cell
from .live import tree_lines
from .place import Place
from .screen import say, say_json, say_lines, say_table, stdout
from .tree import Moment, rows_of
from .words import cut, first_line, length, moment, one_error, safe, shown

if TYPE_CHECKING:
    from perdure.agents.ledgers import Ledger
    from perdure.approvals.audit import AuditRecord
    from perdure.durable import ExecutionInfo, Wait

    from .place import Runs

STATUSES = ("running", "waiting", "succeeded", "failed", "cancelled", "timed_out")
_ALL = 1_000_000


def list_runs(place: Place, status: str | None, limit: int, as_json: bool) -> None:
    """List the newest runs."""
    engine = place.open()
    try:
        runs = _select(engine, status, limit)
        listed = [
            (run, _waits(engine, run), _approvals(engine, run), _cost(engine, place, run))
            for run in runs
        ]
    finally:
        engine.close()
    if as_json:
        say_json([summary(run, waits) | _cost_json(cost) for run, waits, _, cost in listed])
    elif listed:
        say_table([_HEAD, *(_list_row(*each) for each in listed)])
        if any(cost is None for _, _, _, cost in listed):
            told = f"what ended runs cost: {place.command('ledger')}"
            say(stdout(), told, "dim")
    else:
        say(stdout(), f"no {f'{status} ' if status else ''}runs in {place.name}", "dim")


def show(place: Place, id: str, as_json: bool) -> None:
    """Show one run: its operations, what it came to, and how to go on."""
    engine = place.open()
    try:
        account = account_of(engine, id)
    finally:
        engine.close()
    if as_json:
        say_json(account.details())
    else:
        _show(stdout(), account, place)


def history(place: Place, id: str, as_json: bool) -> None:
    """List a run's events, in the shape of AWS's durable functions."""
    engine = place.open()
    try:
        events = engine.get(id).history()
    finally:
        engine.close()
    if as_json:
        say_json(events)
    else:
        head = ["", "TIME", "EVENT", "NAME", ""]
        rows = [[Text(cell, "dim") for cell in head], *map(_history_row, events)]
        say_table(rows, right=frozenset({0}))


def _select(engine: Runs, status: str | None, limit: int) -> Sequence[ExecutionInfo]:
    if status is None:
        return engine.list(limit=limit)
    word = status.lower().replace(" ", "_").replace("-", "_")
    if word not in STATUSES:
        raise UsageError(f"--status is one of {', '.join(STATUSES)}, not {status!r}")
    if word not in ("running", "waiting"):
        return engine.list(status=word.upper(), limit=limit)
    found = engine.list(status="RUNNING", limit=_ALL)
    return [run for run in found if status_of(run) == word][:limit]


def _waits(engine: Runs, run: ExecutionInfo) -> list[Wait]:
    return engine.get(run.id).waiting_for() if status_of(run) == "waiting" else []


def _approvals(engine: Runs, run: ExecutionInfo) -> list[AuditRecord]:
    """Return the approvals of a run that waits; most have none, which one look tells."""
    if status_of(run) != "waiting" or not engine.steps(run.id, REQUEST):
        return []
    return asked_in(engine.operations(run.id), run.handler, run.status.value)


def _cost(engine: Runs, place: Place, run: ExecutionInfo) -> Ledger | None:
    """Return what a run cost; None for one that has ended on AWS, whose history is not read."""
    if place.function is None or run.status == "RUNNING":
        return brief_ledger(engine, run)
    return None


def _cost_json(cost: Ledger | None) -> dict[str, Any]:
    return {} if cost is None else cost_json(cost.totals)


_TITLES = ("ID", "HANDLER", "STATUS", "CREATED", "DURATION", "COST", "WAITS FOR")
_HEAD = [Text(title, "dim") for title in _TITLES]


def _list_row(
    run: ExecutionInfo, waits: Sequence[Wait], approvals: Sequence[AuditRecord], cost: Ledger | None
) -> list[Text]:
    status = status_of(run)
    return [
        Text(run.id),
        Text(safe(run.handler)),
        Text(status, STYLES[status]),
        Text(moment(run.created), "dim"),
        Text(length(seconds_of(run))),
        Text("" if cost is None else whole_cell(cost)),
        Text(waits_words(waits, approvals) or _idle(run, status), "dim"),
    ]


def _idle(run: ExecutionInfo, status: str) -> str:
    return "to be resumed" if status == "waiting" and run.source is not None else ""


def _show(console: Console, account: Account, place: Place) -> None:
    info = account.info
    facts = {
        "run": Text(info.id, "bold"),
        "handler": Text(safe(info.handler)),
        **({} if place.function else {"file": Text(safe(info.source or "not recorded"))}),
        "status": Text(account.status, STYLES[account.status]),
        "created": Text(moment(info.created)),
        "duration": Text(length(account.seconds())),
        "input": Text(shown(account.input, 66).replace("\n", "\n" + " " * 10)),
    }
    say_table([[Text(name, "dim"), value] for name, value in facts.items()])
    now, over = round(time.time() * 1000), info.status != "RUNNING"
    rows = rows_of(account.operations, Moment(now, active=info.active, over=over))
    if rows:
        say(console)
        say_lines(console, tree_lines(rows))
    report.costs(console, account, blank=True)
    say(console)
    _say_approvals(console, account)
    match info.status:
        case "SUCCEEDED":
            say(console, shown(account.result))
        case _ if account.failure is not None:
            report.ended_badly(console, account, place)
        case "RUNNING" if place.function is not None and (info.active or not account.waits):
            say(console, "AWS runs it")
        case "RUNNING" if info.active:
            say(console, "a process runs it; if that was killed, go on with")
            say(console, f"  {place.command('resume', info.id)}", "bold")
        case "RUNNING" if account.waits:
            report.suspended(console, account, place, None, seen=True)
        case _:
            say(console, "nothing runs it; go on with")
            say(console, f"  {place.command('resume', info.id)}", "bold")


def _say_approvals(console: Console, account: Account) -> None:
    """Say how each approval stands, and of the open ones what is to be decided on."""
    asked = pending(account.approvals)
    suspended = account.status == "waiting" and account.waits
    for record in account.approvals:
        if record not in asked or not suspended:  # what a suspended run waits for is told below
            say(console, f"approval {title_of(record)!r}: {record_words(record)}")
        for vote in record.votes if record.request.policy.is_quorum else ():
            say(console, f"  {decision_words(vote)}", "dim")
    for record in asked:
        say(console, f"approval {title_of(record)!r} asks to decide on")
        for line in subject_lines(record):
            say(console, f"  {line}".rstrip())
        say(console)


def _history_row(event: dict[str, Any]) -> list[Text]:
    kind = event["EventType"]
    details = event.get(f"{kind}Details", {})
    error = details.get("Error", {}).get("Payload", {})
    said = one_error(error.get("ErrorType"), error.get("ErrorMessage", "")) if error else ""
    kept = details.get("Result", details.get("Input", {})).get("Payload", "")
    return [
        Text(str(event["EventId"]), "dim"),
        Text(f"{event['EventTimestamp'].astimezone():%H:%M:%S.%f}"[:-3], "dim"),
        Text(kind, "red" if error else ""),
        Text(safe(event.get("Name", "") if kind != "ExecutionStarted" else "")),
        Text(cut(said or first_line(kept), 120), "red" if error else "dim"),
    ]
