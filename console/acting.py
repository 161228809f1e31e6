"""`send`, `cancel`, `delete`: what a person does to a run without running it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from rich.text import Text

from perdure.durable.errors import UsageError

from .asked import title_of
from .place import Place, near, office_of
from .screen import columns, say, stdout
from .words import safe


def read_json(text: str, what: str) -> Any:
    """Return the JSON a user gave: as text, `@file`, or `@-` for standard input.

    Raises:
        UsageError: it is not JSON, or the file cannot be read.
    """
    file = text[1:] if text.startswith("@") else None
    given = text if file is None else read_file(file, what)
    try:
        return json.loads(given, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        hint = _hint(given) if file is None else ""
        raise UsageError(f"{what} is not JSON: {error}{hint}") from None


def read_file(name: str, what: str) -> str:
    """Return the text of a file, or of standard input for `-`.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        return sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{what} cannot be read from {name}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{what} cannot be read from {name}: it is not UTF-8 text") from None


def send(place: Place, id: str, name: str, payload: str | None) -> None:
    """Send an event to what a run waits for, and say who goes on with it."""
    value = None if payload is None else read_json(payload, "the payload")
    engine = place.open()
    try:
        if payload is None:
            engine.send(id, name)
        else:
            engine.send(id, name, value)
        source = engine.info(id).source
    finally:
        engine.close()
    say(stdout(), f"sent to {name!r} of {id}")
    say_who_goes_on(place, id, source)


def say_who_goes_on(place: Place, id: str, source: str | None) -> None:
    """Say which processes go on with a run that was sent what it waits for."""
    console = stdout()
    if place.function is not None:
        say(console, "AWS goes on with it; see how it stands with")
        say(console, f"  {place.command('show', id)}", "bold")
        return
    say(console, "a process that serves it goes on at once, else")
    ways = [(place.command("resume", id), "goes on with it")]
    if source is not None:
        ways.append((place.command("serve", near(source)), "goes on with all that is due"))
    for line in columns([[Text(f"  {c}", "bold"), Text(why, "dim")] for c, why in ways]):
        say(console, line)


def cancel(place: Place, id: str, reason: str) -> None:
    """End a run; whoever it asked is told that their answer is not wanted any more."""
    from perdure.approvals.people import Principal, account
    from perdure.approvals.withdrawing import cancel as cancel_run

    engine = place.open()
    try:
        by = Principal(identity=account(), assurance="cli")
        office = office_of(engine) if place.function is not None else None
        withdrawn = cancel_run(engine, id, reason, by=by, office=office)
    finally:
        engine.close()
    console = stdout()
    say(console, f"cancelled {id}: {reason}")
    for record in withdrawn.requests:
        say(console, f"withdrawn: approval {title_of(record)!r}")
    for receipt in withdrawn.told:
        say(console, safe(f"  told {', '.join(receipt.to)} by {receipt.channel}"))
    for line in withdrawn.untold:
        say(console, safe(f"  could not be told: {line}"), "yellow")


def delete(place: Place, id: str) -> None:
    """Remove an ended run."""
    engine = place.open()
    try:
        engine.delete(id)
    finally:
        engine.close()
    say(stdout(), f"deleted {id}")


def _hint(text: str) -> str:
    bare = text.strip()
    if bare and bare[0] not in "{[\"'":
        return f"; a text needs its quotes: '{json.dumps(bare)}'"
    return ""


def _no_constant(name: str) -> None:
    raise ValueError(f"it has no {name}")
