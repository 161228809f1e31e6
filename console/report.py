"""What a command says about a run when it begins to follow it, and when it leaves it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from .account import Account, wait_words
from .asked import in_time, pending, record_words, title_of, without
from .costs import OFFLINE, question_of, totals_line, used_offline
from .drive import Before
from .place import Place, near
from .screen import columns, say
from .traces import recorded_lines
from .tree import Row, State, is_shown
from .ways import base_url, commands_of, page_of
from .words import length, one_error, safe, shown

if TYPE_CHECKING:
    from perdure.approvals.audit import AuditRecord
    from perdure.durable import Wait

_RESUMABLE = ("FAILED", "TIMED_OUT")
_MOST = 10
"""Of what a run waits for, as many are named."""


def begin(console: Console, id: str, handler: str, was: Before) -> None:
    """Say which run this is."""
    many = len(was.recorded)
    goes_on = f", goes on with {many:,} recorded" if was.info is not None else ""
    operations = f" operation{'' if many == 1 else 's'}" if goes_on else ""
    line = Text.assemble("run ", (id, "bold"), f"  {handler}", (goes_on + operations, "dim"))
    say(console, line)


def leave(
    console: Console, account: Account, was: Before, place: Place, target: str | None
) -> None:
    """Say what the run came to and cost, and how to go on if it did not come to an end."""
    costs(console, account)
    if account.info.status == "SUCCEEDED":
        _done(console, account, was)
    elif account.failure is not None:
        ended_badly(console, account, place)
    else:
        suspended(console, account, place, target)


def costs(console: Console, account: Account, *, blank: bool = False) -> None:
    """Say what the run's model calls cost, if it made any; after a blank line, if asked for."""
    line = totals_line(account.ledger)
    if not line:
        return
    if blank:
        say(console)
    say(console, line)
    if used_offline(account.operations.values()):
        say(console, OFFLINE, "dim")


def ended_before(console: Console, account: Account, place: Place) -> None:
    """Say that the run had ended before, and what it came to."""
    say(console, "this run had ended before: nothing ran again", "dim")
    costs(console, account)
    if account.info.status == "SUCCEEDED":
        say(console, f"done in {length(account.seconds())}", "green")
        say(console, shown(account.result))
    else:
        ended_badly(console, account, place)


def suspended(
    console: Console, account: Account, place: Place, target: str | None, *, seen: bool = False
) -> None:
    """Say what the run waits for, and how to continue.

    Args:
        seen: what is to be decided on was shown before.
    """
    asked = pending(account.approvals)
    waits = without(account.waits, in_time(account.approvals))
    say(console, "suspended; it waits for", "yellow")
    for record in asked[:_MOST]:
        say(console, f"  approval {title_of(record)!r}: {record_words(record)}")
    for wait in waits[:_MOST]:
        say(console, f"  {wait_words(wait)}")
    more = max(0, len(asked) - _MOST) + max(0, len(waits) - _MOST)
    if more:
        say(console, f"  … and {more:,} more")
    if asked:
        say(console, "decide with")
        _commands(console, _ways_to_decide(asked, place, seen=seen))
    ways = _ways_on(account, place, target)
    if ways:
        say(console, "continue with")
        _commands(console, ways)


def ended_badly(console: Console, account: Account, place: Place) -> None:
    """Say how the run ended without a result, and how to go on."""
    failure = account.failure
    said = "" if failure is None else one_error(failure.type, failure.message)
    where = f" at {failure.path}" if failure is not None and failure.path else ""
    if failure is not None and failure.attempts > 1:
        where += f", after {failure.attempts} attempts"
    held = account.info.status == "RUNNING"
    say(console, f"{'failed' if held else account.status}{where}: {said}", "red")
    if failure is not None:
        for line in recorded_lines(failure.trace):
            say(console, f"  {line}", "dim")
    if held or (account.info.status in _RESUMABLE and place.function is None):
        say(console, "what is recorded stays; mend the cause, then")
        _commands(console, [(place.command("resume", account.info.id), "goes on from there")])


def stopping(console: Console, id: str, rows: Sequence[Row], place: Place) -> None:
    """Say that nothing is lost, what is being waited for, and how to go on."""
    say(console, "stopped; nothing is lost: what is recorded is not run again", "yellow")
    flying = in_flight(rows)
    if flying:
        names = ", ".join(row.path for row in flying[:5])
        many = f" and {len(flying) - 5} more" if len(flying) > 5 else ""
        say(console, f"letting {names}{many} end and be recorded; Ctrl-C again leaves at once")
    say(console, "go on with")
    _commands(console, [(place.command("resume", id), "")])


def in_flight(rows: Sequence[Row]) -> list[Row]:
    """Return the rows whose bodies run: what runs and has nothing running inside."""
    running = [row for row in rows if row.state is State.RUNNING]
    insides = (*running[1:], None)
    return [
        row
        for row, after in zip(running, insides, strict=True)
        if after is None or after.depth <= row.depth
    ]


def _done(console: Console, account: Account, was: Before) -> None:
    steps = [each for each in account.operations.values() if each.closed and is_shown(each)]
    ran = sum(each.id not in was.recorded for each in steps)
    replayed = f", {len(steps) - ran:,} replayed" if len(steps) > ran else ""
    took = account.seconds() - max(0.0, was.began / 1000 - account.info.created.timestamp())
    counts = f"  {ran:,} operation{'' if ran == 1 else 's'} run{replayed}"
    say(console, Text.assemble((f"done in {length(took)}", "green"), (counts, "dim")))
    say(console, shown(account.result))


def _ways_to_decide(
    asked: Sequence[AuditRecord], place: Place, *, seen: bool
) -> list[tuple[str, str]]:
    """Return the pages and commands that decide what is asked."""
    show = (place.command("show", asked[0].request.run), "shows what is to be decided on")
    ways = [] if seen else [show]
    for record in asked[:_MOST]:
        mine = commands_of(record, place, asked)
        if mine and (page := page_of(record, place)):
            ways.append((page, f"the page; sign in with `{place.command('login')}`"))
        ways += mine or [(_elsewhere(record), "not for the account you are on this machine")]
    return ways


def _elsewhere(record: AuditRecord) -> str:
    """Say where others decide an approval."""
    channels = sorted({safe(each.channel) for each in record.told if each.channel})
    return f"a message by {' and '.join(channels)}" if channels else "their own account"


def _ways_on(account: Account, place: Place, target: str | None) -> list[tuple[str, str]]:
    id, ways = account.info.id, []
    waits = without(account.waits, in_time(account.approvals))
    asked = [wait for wait in waits if wait.kind in ("event", "callback")]
    for wait in asked[:5]:
        ways += _answers(account, place, wait)
    if place.function is not None:
        return ways  # AWS goes on with it by itself
    decided = bool(pending(account.approvals))
    due = "decided" if decided else "answered" if asked else "due"
    ways.append((place.command("resume", id), f"goes on, once it is {due}"))
    file = target or (account.info.source and near(account.info.source))
    if file:
        page = ", with a page to decide on" if decided and base_url(place) is None else ""
        up = f"stays up, and runs whatever falls due{page}"
        ways.append((place.command("serve", file), up))
    return ways


def _answers(account: Account, place: Place, wait: Wait) -> list[tuple[str, str]]:
    """Return the ways to answer what a run waits for: its own question, or that of a model call."""

    def send(*payload: str) -> str:
        return place.command("send", account.info.id, wait.path, *payload)

    match question_of(wait.path, account.operations):
        case "budget":
            lifted = "sets new limits (usd, tokens, calls); true lifts them, false refuses the call"
            return [(send('{"usd": 5}'), lifted)]
        case "in-doubt":
            again = "sends the call again, which may pay for it twice"
            return [(send('"retry"'), again), (send('"fail"'), "lets the call fail")]
        case _:
            return [(send() + " [JSON]", f"answers {wait.path!r}")]


def _commands(console: Console, ways: Sequence[tuple[str, str]]) -> None:
    rows = [[Text(f"  {command}", "bold"), Text(why, "dim")] for command, why in ways]
    for line in columns(rows):
        say(console, line)
