"""`ledger`: what the model calls of the newest runs cost, or those of one run, call by call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from .account import STYLES, brief_ledger, status_of
from .costs import (
    CALL,
    OFFLINE,
    bound,
    cost_cell,
    cost_words,
    dollars,
    line_note,
    outcomes,
    price_words,
    totals_line,
    used_offline,
)
from .place import Place
from .screen import say, say_json, say_table, stdout
from .words import length, safe

if TYPE_CHECKING:
    from perdure.agents.ledgers import Entry, Ledger, Totals
    from perdure.durable import ExecutionInfo

NONE = "no model calls"
_RUNS = (
    *("ID", "HANDLER", "STATUS", "CALLS", "IN", "OUT"),
    *("COST", "UNCERTAIN", "IN DOUBT", "SAVED", ""),
)
_CALLS = ("CALL", "MODEL", "ATTEMPTS", "IN", "OUT", "COST", "TIME", "")
_MODELS = ("MODEL", "CALLS", "IN", "OUT", "COST")
Costed = tuple["ExecutionInfo", "Ledger"]


def runs(place: Place, limit: int, as_json: bool) -> None:
    """Show the totals of the newest runs, and their sum."""
    engine = place.open()
    try:
        costed = [(run, brief_ledger(engine, run)) for run in engine.list(limit=limit)]
    finally:
        engine.close()
    whole = _sum(costed)
    if as_json:
        listed = [_run_json(*each) for each in costed]
        say_json({"runs": listed, "totals": whole.totals.as_json(), "prices": whole.sources})
    elif not costed:
        say(stdout(), f"no runs in {place.name}", "dim")
    else:
        right = frozenset(range(3, 10))
        say_table([_head(_RUNS), *(_run_row(*each) for each in costed)], right)
        say(stdout())
        say(stdout(), totals_line(whole) or NONE)


def one(place: Place, id: str, as_json: bool) -> None:
    """Show each model call of a run, the sums by model, and the whole."""
    from perdure.agents.ledgers import ledger

    engine = place.open()
    try:
        execution = engine.get(id)
        found, offline = ledger(execution), used_offline(execution.steps(CALL))
    finally:
        engine.close()
    console = stdout()
    if as_json:
        say_json({"id": id, **found.as_json()})
    elif not found.entries:
        say(console, NONE, "dim")
    else:
        say_table([_head(_CALLS), *map(_call_row, found.entries)], frozenset({3, 4, 5, 6}))
        say(console)
        rows = [_model_row(model, each) for model, each in found.by_model.items()]
        say_table([_head(_MODELS), *rows], frozenset({1, 2, 3, 4}))
        say(console)
        say(console, totals_line(found))
        if offline:
            say(console, OFFLINE, "dim")


def _sum(costed: Sequence[Costed]) -> Ledger:
    from perdure.agents.ledgers import Ledger, Totals

    entries = tuple(entry for _, each in costed for entry in each.entries)
    return Ledger(entries, sum((each.totals for _, each in costed), Totals()))


def _run_json(run: ExecutionInfo, ledger: Ledger) -> Mapping[str, Any]:
    facts = {"id": run.id, "handler": run.handler, "status": run.status.value, "active": run.active}
    return facts | ledger.totals.as_json() | {"prices": ledger.sources}


def _run_row(run: ExecutionInfo, ledger: Ledger) -> list[Text]:
    status, totals = status_of(run), ledger.totals
    flying = f"in flight {totals.in_flight:,}" if totals.in_flight else ""
    cells = [f"{totals.calls:,}", *_tokens(totals), cost_cell(ledger), *_unsure(ledger)]
    cells += [_saved(totals), flying]
    return [
        Text(run.id),
        Text(safe(run.handler)),
        Text(status, STYLES[status]),
        *map(Text, cells if ledger.entries else [""] * 7),
        *([] if ledger.entries else [Text(NONE, "dim")]),
    ]


def _unsure(ledger: Ledger) -> list[str]:
    lines = [line for each in ledger.entries for line in each.lines]
    cells = []
    for outcome in ("uncertain", "in_doubt"):
        found = [line for line in lines if line.outcome == outcome]
        cells.append(f"{len(found):,}, {bound(found)}" if found else "")
    return cells


def _saved(totals: Totals) -> str:
    if not totals.saved_calls:
        return ""
    return dollars(totals.saved_usd) if totals.saved_usd else f"{totals.saved_calls:,} unpriced"


def _call_row(entry: Entry) -> list[Text]:
    if not entry.lines:
        return [Text(safe(entry.path))]
    last = entry.lines[-1]
    answered = last.outcome == "answered"
    usage = last.usage if answered else None
    prompt = f"prompt {entry.template}" if entry.template else ""
    note = "; ".join(each for each in (line_note(entry.lines), prompt) if each)
    return [
        Text(safe(entry.path)),
        Text(safe(entry.model)),
        Text(outcomes(entry.lines), "" if answered else "yellow"),
        Text(f"{usage.input:,}" if usage else ""),
        Text(f"{usage.output:,}" if usage else ""),
        Text(price_words(last) if answered else ""),
        Text(length(last.seconds) if last.seconds is not None else ""),
        Text(note, "dim"),
    ]


def _model_row(model: str, totals: Totals) -> list[Text]:
    cells = [f"{totals.calls:,}", *_tokens(totals), cost_words(totals)]
    return [Text(safe(model)), *map(Text, cells)]


def _tokens(totals: Totals) -> list[str]:
    return [f"{totals.input_tokens:,}", f"{totals.output_tokens:,}"] if totals.calls else ["", ""]


def _head(titles: Sequence[str]) -> list[Text]:
    return [Text(title, "dim") for title in titles]
