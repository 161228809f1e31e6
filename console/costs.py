"""What model calls cost, in words: for a row, a table, and the line at the end. No I/O.

Dollars that nobody can know are told as "at most"; a call without a price is "unpriced", never $0;
a price that a stand-in gives itself is "simulated". `perdure.agents` is loaded when there is a call
to tell of.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import ROUND_HALF_UP, ROUND_UP, Decimal
from typing import TYPE_CHECKING, Any

from perdure.durable.operations import Operation, SubType

from .words import cut, first_line, safe

if TYPE_CHECKING:
    from perdure.agents.ledgers import Ledger, Totals
    from perdure.agents.lines import Line

CALL = "ModelCall"
"""The subtype of a model call."""
UNSURE = ("uncertain", "in_doubt")
OFFLINE = "offline stand-in: extracts sentences, does not reason; prices are simulated"
_SIMULATED = "simulated"
_WHY = 80


def is_call(operation: Operation) -> bool:
    """Return whether an operation is a model call."""
    return operation.subtype == CALL


def dollars(usd: Decimal, *, up: bool = False) -> str:
    """Return dollars with as many digits as say something; `up` for what is said to be at most."""
    if usd == 0:
        return "$0"
    places = 2 if usd >= 1 else max(4, 1 - usd.adjusted())
    rounding = ROUND_UP if up else ROUND_HALF_UP
    return f"${usd.quantize(Decimal(1).scaleb(-places), rounding):,f}"


def cost_words(totals: Totals) -> str:
    """Return what was answered cost: dollars, `unpriced`, or both; empty if nothing was."""
    if not totals.calls:
        return ""
    if totals.unpriced == totals.calls:
        return "unpriced"
    rest = f" + {totals.unpriced:,} unpriced" if totals.unpriced else ""
    return dollars(totals.usd) + rest


def cost_cell(ledger: Ledger) -> str:
    """Return what a run's answered calls cost, and whether that is simulated."""
    sources = sources_of(ledger)
    simulated = ""
    if _SIMULATED in sources:
        simulated = " (simulated)" if len(sources) == 1 else " (partly simulated)"
    return cost_words(ledger.totals) + simulated


def whole_cell(ledger: Ledger) -> str:
    """Return what a run's calls cost, those that may have been billed with their most."""
    unsure = [line for _, lines in _unsure(_lines(ledger)) for line in lines]
    return " + ".join(each for each in (cost_cell(ledger), bound(unsure) if unsure else "") if each)


def sources_of(ledger: Ledger) -> list[str]:
    """Return whose prices the answered calls have."""
    priced = (
        each for each in _lines(ledger) if each.outcome == "answered" and each.usd is not None
    )
    return sorted({each.source for each in priced})


def totals_line(ledger: Ledger) -> str:
    """Return the sums over calls in one line; empty if there is no call."""
    if not ledger.entries:
        return ""
    totals = ledger.totals
    words = [f"{totals.calls:,} call{'' if totals.calls == 1 else 's'}"]
    if totals.calls:
        words += [f"{totals.input_tokens:,} tokens in", f"{totals.output_tokens:,} out"]
        words.append(cost_words(totals) + _priced_by(sources_of(ledger)))
    parts = [", ".join(words)]
    unsure = _unsure(_lines(ledger))
    parts += [f"{what} {len(found):,}, {bound(found)}" for what, found in unsure]
    parts += [f"in flight {totals.in_flight:,}"] if totals.in_flight else []
    parts += [f"not billed {totals.free:,}"] if totals.free else []
    return "; ".join([*parts, *_saved(ledger)])


def unsure_words(lines: Iterable[Line]) -> str:
    """Return what attempts without an answer may have cost: `in doubt: at most $0.06`."""
    said = []
    for what, found in _unsure(lines):
        many = f" x{len(found)}" if len(found) > 1 else ""
        said.append(f"{what}{many}: {bound(found)}")
    return "; ".join(said)


def tokens_words(line: Line) -> str:
    """Return an answer's tokens: `1,234 → 56 tokens`."""
    usage = line.usage
    return f"{usage.input:,} → {usage.output:,} tokens" if usage else "tokens not told"


def price_words(line: Line) -> str:
    """Return what an answer cost, or that it has no price."""
    return "unpriced" if line.usd is None else dollars(line.usd)


def outcomes(lines: Sequence[Line]) -> str:
    """Return what became of each attempt, equal ones counted: `in doubt x2, answered`."""
    counted: list[tuple[str, int]] = []
    for line in lines:
        word = line.outcome.value.replace("_", " ")
        last, many = counted[-1] if counted else ("", 0)
        counted[-1:] = [(word, many + 1)] if word == last else [*counted[-1:], (word, 1)]
    return ", ".join(word if many == 1 else f"{word} x{many}" for word, many in counted)


def call_note(operation: Operation, note: str, *, interrupted: bool) -> str:
    """Return the note of a call's row: tokens and dollars, then `note`, then what is not known."""
    from perdure.agents.lines import lines_of, open_line

    lines = lines_of(operation)
    answer = lines[-1] if lines and lines[-1].outcome == "answered" else None
    said = f"{tokens_words(answer)}, {price_words(answer)}" if answer else ""
    words = ", ".join(each for each in (said, note) if each)
    unsure = unsure_words(lines)
    if interrupted:
        unsure = "in doubt: " + bound([open_line(operation)])
    return "; ".join(each for each in (words, unsure) if each)


def line_note(lines: Sequence[Line]) -> str:
    """Return what is to be said of a call beside its figures."""
    last = lines[-1]
    words = [unsure_words(lines)]
    if last.outcome == "answered" and last.usd is None and last.source != "unpriced":
        words.append(last.source)
    if last.outcome not in ("answered", "in_doubt"):
        words.append(cut(first_line(last.why), _WHY))
    if last.hidden_retries:
        words.append(f"{last.hidden_retries} further attempts by its own client")
    return "; ".join(safe(each) for each in words if each)


def bound(lines: Sequence[Line]) -> str:
    """Return the most that attempts without an answer may have cost."""
    priced = [line.usd for line in lines if line.usd is not None]
    unpriced = "unpriced" if len(priced) < len(lines) else ""
    known = f"at most {dollars(sum(priced, Decimal(0)), up=True)}" if priced else ""
    return " + ".join(each for each in (known, unpriced) if each)


def cost_json(totals: Totals) -> dict[str, Any]:
    """Return what a listing tells of a run's cost; `usd` is null where no call has a price."""
    known = totals.unpriced < totals.calls or not totals.calls
    return {
        "calls": totals.calls,
        "usd": float(totals.usd) if known else None,
        "unpriced": totals.unpriced,
        "uncertain": totals.uncertain,
        "in_doubt": totals.in_doubt,
    }


def used_offline(operations: Iterable[Operation]) -> bool:
    """Return whether a call was made of the offline stand-in."""
    return any(is_call(each) and note_of(each).get("provider") == "offline" for each in operations)


def note_of(operation: Operation) -> dict[str, Any]:
    """Return what was noted when a call was started."""
    found: dict[str, Any] = json.loads(operation.note) if operation.note else {}
    return found


def question_of(path: str, operations: Mapping[str, Operation]) -> str | None:
    """Return what an open event asks: `budget`, `in-doubt`, or None for one of the handler's."""
    from perdure.durable.names import child_scope, scope_of

    asked = operations.get(path)
    if asked is None or asked.subtype != SubType.EVENT:
        return None
    if scope_of(asked.id) == child_scope(f"budget:{asked.name}"):
        return "budget"
    if asked.name == "in-doubt":
        calls = (each for each in operations.values() if is_call(each))
        if any(scope_of(asked.id) == child_scope(each.id) for each in calls):
            return "in-doubt"
    return None


def _lines(ledger: Ledger) -> Iterator[Line]:
    return (line for each in ledger.entries for line in each.lines)


def _unsure(lines: Iterable[Line]) -> list[tuple[str, list[Line]]]:
    """Return the attempts that may have been billed, by what became of them."""
    kinds: dict[str, list[Line]] = {each: [] for each in UNSURE}
    for line in lines:
        if line.outcome in kinds:
            kinds[line.outcome].append(line)
    return [(kind.replace("_", " "), found) for kind, found in kinds.items() if found]


def _saved(ledger: Ledger) -> list[str]:
    saved = [each for each in ledger.entries if each.totals.saved_calls]
    unpriced = sum(each.totals.saved_calls for each in saved if each.lines[-1].usd is None)
    priced = sum(each.totals.saved_calls for each in saved) - unpriced
    usd = [dollars(ledger.totals.saved_usd)] if priced else []
    calls = [f"{unpriced:,} unpriced call{'' if unpriced == 1 else 's'}"] if unpriced else []
    return [f"saved by replay {' + '.join([*usd, *calls])}"] if saved else []


def _priced_by(sources: Sequence[str]) -> str:
    if not sources:
        return ""
    if list(sources) == [_SIMULATED]:
        return " (simulated price)"
    return f" (prices: {safe(', '.join(sources))})"
