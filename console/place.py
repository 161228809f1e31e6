"""The journal a command works on, and the commands a person types next."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from perdure.durable.errors import UsageError

if TYPE_CHECKING:
    from perdure.durable import LocalEngine

VARIABLE = "PERDURE_JOURNAL"
DEFAULT = ".perdure/journal.db"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a command finds its journal."""

    journal: str

    def open(self, *, create: bool = False) -> LocalEngine:
        """Open the journal, serving nothing yet.

        Raises:
            UsageError: there is none, and `create` is False.
            JournalError: the file cannot be used.
        """
        from perdure.durable import LocalEngine

        if not create and not Path(self.journal).exists():
            raise UsageError(
                f"there is no journal {Path(self.journal).absolute()}; `perdure run` makes one, "
                f"--journal or {VARIABLE} names another"
            )
        return LocalEngine(self.journal)

    def command(self, *words: str) -> str:
        """Return a command line that works on this journal, to be typed from here."""
        usual = os.environ.get(VARIABLE) or DEFAULT
        journal = [] if self.journal == usual else ["--journal", self.journal]
        return shlex.join(["perdure", *words, *journal])


def near(path: str) -> str:
    """Return a path as short as it can be typed from here."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return path
