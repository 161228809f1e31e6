"""Shows a run while it runs: a tree that is redrawn on a terminal, else a line for each change."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from rich.cells import cell_len
from rich.console import Console
from rich.live import Live
from rich.text import Text

from .screen import GAP, columns, is_live, say
from .tree import OPEN, Row, State, fit
from .words import cut, ending, length

_SIGNS = {
    State.DONE: ("✓", "green"),
    State.REPLAYED: ("✓", "dim"),
    State.WAITING: ("○", "yellow"),
    State.RETRYING: ("↻", "yellow"),
    State.FAILED: ("✗", "red"),
    State.INTERRUPTED: ("!", "yellow"),
    State.TIMED_OUT: ("○", "dim"),
    State.CANCELLED: ("-", "dim"),
    State.STOPPED: ("-", "dim"),
}
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_DIM = frozenset({State.REPLAYED, State.TIMED_OUT, State.CANCELLED, State.STOPPED})
_RIGHT = frozenset({2})
_MANY = 20
"""Replayed operations that are each worth a line of plain output."""
_NOTE = 100
"""Characters of a note in plain output; the end of a failed run has the whole error."""
_STATE, _TIME = 9, 7
"""Characters of a state, and of a time."""
_LEAST = 10
"""Characters shown of what is streamed, however narrow the terminal is."""


class View(Protocol):
    """Where a run is shown while it runs."""

    def update(self, rows: Sequence[Row]) -> None:
        """Show these rows, which are all there are."""

    def close(self) -> None:
        """Leave what was shown last."""


class Silent:
    """Shows nothing."""

    def update(self, rows: Sequence[Row]) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Do nothing."""


def view_on(console: Console) -> View:
    """Return the way to show a run that suits this console."""
    return LiveTree(console) if is_live(console) else Lines(console)


class LiveTree:
    """The tree, redrawn in place; what bodies print appears above it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, vertical_overflow="crop")
        self._live.start()

    def update(self, rows: Sequence[Row]) -> None:
        """Redraw the tree."""
        shown = fit(rows, max(3, self._console.height - 2))
        lines = tree_lines(_trimmed(shown, self._console.width), time.monotonic())
        self._live.update(Text("\n", no_wrap=True, overflow="ellipsis").join(lines), refresh=True)

    def close(self) -> None:
        """Leave the tree on the screen, and give the cursor back."""
        self._live.stop()


class Lines:
    """One line for each change, as it is seen."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._seen: dict[str, tuple[State, int]] = {}
        self._width = 20

    def update(self, rows: Sequence[Row]) -> None:
        """Print what changed since the last time, in the order in which it happened."""
        changed = [row for row in rows if self._seen.get(row.path) != (row.state, row.attempt)]
        replayed = sum(row.state is State.REPLAYED for row in changed)
        for row in sorted(changed, key=_order):
            self._seen[row.path] = (row.state, row.attempt)
            if row.state is not State.REPLAYED or replayed <= _MANY:
                self._print(row)
        if replayed > _MANY:
            say(self._console, f"  {replayed:,} operations replayed")

    def close(self) -> None:
        """Do nothing: each line stands."""

    def _print(self, row: Row) -> None:
        self._width = max(self._width, len(row.path))
        took = length(row.seconds) if row.seconds is not None and row.state not in OPEN else ""
        line = (
            f"  {row.path:<{self._width}}  {row.state.value:<9}  {took:>8}  {cut(row.note, _NOTE)}"
        )
        say(self._console, line.rstrip())


def _order(row: Row) -> tuple[int, int]:
    """Order by time; of what happened at once, a scope begins first and ends last."""
    return row.changed, row.depth if row.state in OPEN else -row.depth


def _trimmed(rows: Sequence[Row], width: int) -> list[Row]:
    """Cut what is streamed at its start, so that its end is what a line has room for."""
    labels = max((_indent(row) + 2 + cell_len(row.label) for row in rows), default=0)
    room = max(_LEAST, width - labels - _STATE - _TIME - 3 * GAP)
    return [replace(row, said=ending(row.said, room)) if row.said else row for row in rows]


def tree_lines(rows: Sequence[Row], at: float = 0.0) -> list[Text]:
    """Return the lines of a tree; `at` turns the spinners."""
    return columns([_cells(row, at) for row in rows], _RIGHT)


def _cells(row: Row, at: float) -> list[Text]:
    sign, style = _SIGNS.get(row.state, (_SPINNER[int(at * 8) % len(_SPINNER)], "cyan"))
    indent = " " * _indent(row)
    if not row.path:
        return [Text(f"{indent}{row.label}", "dim")]
    rest = "dim" if row.state in _DIM else ""
    return [
        Text.assemble(indent, (sign, style), " ", (row.label, rest)),
        Text(f"{row.state.value:<{_STATE}}", style),
        Text(f"{_took(row):>{_TIME}}", "dim"),
        Text(row.said or row.note, "red" if row.state is State.FAILED else "dim"),
    ]


def _indent(row: Row) -> int:
    return 2 * (row.depth + 1)


def _took(row: Row) -> str:
    if row.seconds is None:
        return ""
    # What still runs is told in tenths, so that the last digit does not dance.
    return f"{row.seconds:.1f} s" if row.state in OPEN and row.seconds < 1 else length(row.seconds)
