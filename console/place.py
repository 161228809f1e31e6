"""Where a command finds runs, a journal or a Lambda function; the commands a person types next."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from perdure.durable.errors import UsageError

if TYPE_CHECKING:
    from perdure.approvals.callbacks import Callbacks
    from perdure.approvals.office import Office
    from perdure.durable import LambdaEngine, LocalEngine

    Runs = LocalEngine | LambdaEngine

VARIABLE = "PERDURE_JOURNAL"
DEFAULT = ".perdure/journal.db"
ENGINE, FUNCTION = "PERDURE_ENGINE", "PERDURE_FUNCTION"
_FRESH = 60.0
"""Seconds for which a command takes what it read of a run on AWS as it is."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a command finds runs.

    Attributes:
        journal: the file of the embedded engine.
        function: the Lambda function whose runs are meant instead.
    """

    journal: str = DEFAULT
    function: str | None = None

    @property
    def name(self) -> str:
        """What to call it."""
        return self.journal if self.function is None else f"the function {self.function}"

    def open(self) -> Runs:
        """Open the engine, to look at runs and act on them.

        Raises:
            UsageError: there is no journal.
            JournalError: the file cannot be used.
        """
        if self.function is None:
            return self.local()
        return self.remote(_FRESH)

    def remote(self, fresh: float) -> LambdaEngine:
        """Open the engine of the function; see `LambdaEngine`."""
        from perdure.durable import LambdaEngine

        return LambdaEngine(self.function or "", fresh=fresh)

    def local(self, *, create: bool = False) -> LocalEngine:
        """Open the journal, serving nothing yet.

        Raises:
            UsageError: there is none, and `create` is False; or runs on AWS are meant.
            JournalError: the file cannot be used.
        """
        from perdure.durable import LocalEngine

        if self.function is not None:
            raise UsageError("this command is for a journal; leave out --engine aws")
        if not create and not Path(self.journal).exists():
            raise UsageError(
                f"there is no journal {Path(self.journal).absolute()}; `perdure run` makes one, "
                f"--journal or {VARIABLE} names another"
            )
        return LocalEngine(self.journal)

    def command(self, *words: str) -> str:
        """Return a command line that works here, to be typed from here."""
        return shlex.join(["perdure", *words, *self._options()])

    def _options(self) -> list[str]:
        if self.function is None:
            usual = os.environ.get(VARIABLE) or DEFAULT
            return [] if self.journal == usual else ["--journal", self.journal]
        if (os.environ.get(ENGINE), os.environ.get(FUNCTION)) == ("aws", self.function):
            return []
        return ["--engine", "aws", "--function", self.function]


def place_of(journal: str, engine: str, function: str | None) -> Place:
    """Return the place that a command line names.

    Raises:
        UsageError: there is no such engine, or no function is named.
    """
    if engine == "local":
        return Place(journal)
    if engine != "aws":
        raise UsageError(f"--engine is local or aws, not {engine!r}")
    if not function:
        raise UsageError(
            f"--engine aws needs --function NAME or {FUNCTION}: the Lambda function whose runs are "
            "meant, with the alias to start them on, like flow:live"
        )
    return Place(journal, function)


def callbacks_of(engine: Runs) -> Callbacks:
    """Return an engine as decisions need it."""
    from perdure.durable import LocalEngine

    if isinstance(engine, LocalEngine):
        from perdure.approvals.journal import LocalCallbacks

        return LocalCallbacks(engine)
    from perdure.approvals.lambda_callbacks import LambdaCallbacks

    return LambdaCallbacks(engine.api)


def office_of(engine: Runs) -> Office:
    """Return where a person at a terminal decides.

    Nothing is signed there, so for runs on AWS it needs none of the receiver's keys.
    """
    from perdure.approvals.office import DEFAULT as NOWHERE
    from perdure.approvals.office import VARIABLE as BASE_URL
    from perdure.approvals.office import Office, checked_url

    if engine.home is not None:
        return Office.at(engine.home, engine.clock)
    from secrets import token_urlsafe

    from perdure.approvals.keys import Keys

    url = checked_url(os.environ.get(BASE_URL) or NOWHERE)
    return Office(Keys(token_urlsafe(48)), url, engine.clock)


def near(path: str) -> str:
    """Return a path as short as it can be typed from here."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return path
