"""Where the console writes: a terminal with colour, or plain lines without an escape code.

Whether it is a terminal is asked of the stream alone: a pipe gets plain text whatever the
environment says. Texts are handed over as rich `Text`, so no markup in a name is ever read.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.text import Text

GAP = 2


def stdout() -> Console:
    """Return the console on standard output."""
    return _console(stderr=False)


def stderr() -> Console:
    """Return the console on standard error."""
    return _console(stderr=True)


def is_live(console: Console) -> bool:
    """Return whether lines that were written can be written again."""
    return console.is_terminal and not console.is_dumb_terminal


def say(console: Console, text: Text | str = "", style: str = "") -> None:
    """Print a text as it is, unwrapped."""
    said = text if isinstance(text, Text) else Text(text, style)
    console.print(said, soft_wrap=True)


def columns(rows: Sequence[Sequence[Text]], right: frozenset[int] = frozenset()) -> list[Text]:
    """Return one line for each row, its cells aligned; the columns in `right`, to the right."""
    count = max((len(row) for row in rows), default=0)
    widths = [max(row[n].cell_len for row in rows if n < len(row)) for n in range(count)]
    return [_line(row, widths, right) for row in rows]


def say_lines(console: Console, lines: Sequence[Text]) -> None:
    """Print lines, cut at the edge of a terminal."""
    for line in lines:
        if is_live(console) and "\n" not in line.plain:
            console.print(line, no_wrap=True, overflow="ellipsis", crop=True)
        else:
            say(console, line)


def say_table(rows: Sequence[Sequence[Text]], right: frozenset[int] = frozenset()) -> None:
    """Print rows in columns on standard output."""
    say_lines(stdout(), columns(rows, right))


def say_json(value: Any) -> None:
    """Print a value as JSON on standard output, moments in ISO 8601."""
    print(json.dumps(value, indent=2, default=_iso))


def _iso(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds")
    raise TypeError(f"{type(value).__name__} is not JSON")


def _line(row: Sequence[Text], widths: Sequence[int], right: frozenset[int]) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    gap = 0
    for number, cell in enumerate(row):
        room = widths[number] - cell.cell_len
        before, after = (room, 0) if number in right else (0, room)
        if cell.cell_len:
            line.append(" " * (gap + before)).append_text(cell)
            gap = after
        else:
            gap += room
        gap += GAP if widths[number] else 0
    return line


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    terminal = stream.isatty()
    return _Console(
        stderr=stderr,
        force_terminal=terminal,
        color_system="auto" if terminal else None,
        markup=False,
        emoji=False,
        highlight=False,
    )


class _Console(Console):
    """A console whose reader may leave: `perdure list | head -1` is no failed run."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError
