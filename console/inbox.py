"""`inbox`, `list --pending`: what waits for a person in all runs of a journal, newest first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.text import Text

from .asked import approvers_words, asked_in, both_times, pending, row_json, title_of
from .place import Place, callbacks_of
from .screen import say, say_json, say_table, stdout
from .ways import base_url, commands_of
from .words import safe

if TYPE_CHECKING:
    from perdure.approvals.audit import AuditRecord
    from perdure.approvals.callbacks import OpenWait

    from .place import Runs


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that waits for a person.

    Attributes:
        deadline: None if it waits for as long as it takes.
        command: what to type.
        json: the same as data.
    """

    title: str
    run: str
    approvers: str
    deadline: datetime | None
    fingerprint: str
    command: str
    json: dict[str, Any]


def inbox(place: Place, limit: int, as_json: bool) -> None:
    """List what waits for a person."""
    engine = place.open()
    try:
        lines, count = _lines(engine, place, limit)
    finally:
        engine.close()
    if as_json:
        say_json([each.json for each in lines])
        return
    if not lines:
        say(stdout(), f"nothing waits for a person in {place.name}", "dim")
        return
    say_table([[Text(title, "dim") for title in _TITLES], *map(_row, lines)])
    if count > len(lines):
        say(stdout(), f"{len(lines)} of {count:,} are shown; --limit shows more", "dim")
    page = base_url(place)
    if page:
        say(stdout(), f"on a page: {page}/inbox (sign in with `{place.command('login')}`)", "dim")


_TITLES = ("TITLE", "RUN", "APPROVERS", "DEADLINE", "FINGERPRINT", "TYPE")


def _row(line: Line) -> list[Text]:
    return [
        Text(line.title),
        Text(line.run),
        Text(line.approvers),
        Text("none" if line.deadline is None else both_times(line.deadline)),
        Text(line.fingerprint),
        Text(line.command, "bold"),
    ]


def _lines(engine: Runs, place: Place, limit: int) -> tuple[list[Line], int]:
    from perdure.approvals.callbacks import OpenWait

    page = callbacks_of(engine).inbox(limit=limit)
    asked = _Asked(engine)
    lines: list[Line] = []
    for each in page.entries:
        if isinstance(each, OpenWait):
            lines.append(_wait(each, place))
        else:
            lines += asked.line(each.request.execution, each.request.id, place)
    return lines, page.count


class _Asked:
    """The approvals of the runs on a page; each run is read once."""

    def __init__(self, engine: Runs) -> None:
        self._engine = engine
        self._runs: dict[str, list[AuditRecord]] = {}

    def line(self, run: str, request: str, place: Place) -> Iterator[Line]:
        if run not in self._runs:
            info = self._engine.info(run)
            found = asked_in(self._engine.operations(run), info.handler, info.status.value)
            self._runs[run] = pending(found)
        for record in self._runs[run]:
            if record.request.id == request:
                yield _approval(record, self._runs[run], place)


def _approval(record: AuditRecord, asked: Iterable[AuditRecord], place: Place) -> Line:
    request = record.request
    ways = commands_of(record, place, asked)
    command = ways[0][0] if ways else place.command("show", request.run)
    return Line(
        title_of(record),
        request.run,
        approvers_words(record, 3),
        request.deadline,
        request.fingerprint,
        command,
        row_json(record, command),
    )


def _wait(wait: OpenWait, place: Place) -> Line:
    from perdure.approvals.requests import run_name

    run = run_name(wait.execution)
    command = place.command("approve", run, wait.path)
    due = None if wait.due is None else wait.due.astimezone(UTC).isoformat(timespec="seconds")
    as_json = {
        "kind": "wait",
        "run": run,
        "handler": wait.handler,
        "path": wait.path,
        "title": wait.path,
        "approvers": None,
        "asked": wait.created.astimezone(UTC).isoformat(timespec="seconds"),
        "deadline": due,
        "fingerprint": None,
        "command": command,
    }
    return Line(safe(wait.path), run, "", wait.due, "", command, as_json)
