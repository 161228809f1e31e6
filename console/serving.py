"""`serve`: stays up, runs whatever falls due, and prints a line when a run begins, waits or ends.

Beside the runs it has the pages on which people decide.

It learns of a run from the invocation itself, which its copy of the handler tells of, and of what
came of it from the journal; while nothing runs here it sleeps. A run that ends without an
invocation (cancelled, or past its timeout, while it waited) has no line.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from rich.text import Text

from perdure.durable.errors import ExecutionNotFoundError

from .account import account_of, waits_words
from .asked import asked_in
from .costs import whole_cell
from .loader import Loaded, load
from .logs import show_logs
from .place import Place
from .reception import Address, check_installed, pages
from .screen import say, stdout
from .stopping import Stop
from .words import length, one_error

if TYPE_CHECKING:
    from perdure.durable import ExecutionInfo, Handler, LocalEngine

LOOK = 0.05
"""Seconds between two looks at runs that are invoked here."""


@dataclass(frozen=True, slots=True)
class Invoked:
    """A handler of ours was called for this run."""

    id: str


def serve(targets: list[str], place: Place, address: Address) -> int:
    """Serve the handlers of these files, and pages, until the user stops it; return the exit code.

    Raises:
        UsageError: a file cannot be loaded, or the pages cannot be served.
    """
    check_installed(address)
    found = (handler for target in targets for handler in _handlers(*load(target)))
    handlers = {id(handler): handler for handler in found}.values()
    told: SimpleQueue[Invoked | None] = SimpleQueue()
    stop = Stop(wake=lambda: told.put(None))
    console = stdout()
    show_logs()
    engine = place.local(create=True)
    try:
        engine.register(*(_telling(handler, told.put) for handler in handlers))
        stop.install()
        with pages(engine, place, address, console):
            names = ", ".join(engine.handlers)
            say(console, f"serving {names} on {place.journal}; Ctrl-C stops")
            engine.serve()
            _Watch(engine, told, stop).run()
        say(console, "stopping: steps in flight end and are recorded; Ctrl-C again leaves at once")
    finally:
        engine.close()
    say(console, "stopped; nothing is lost: what is open goes on when it is served again")
    return stop.exit_code


class _Watch:
    """Prints what becomes of the runs that are invoked here."""

    def __init__(self, engine: LocalEngine, told: SimpleQueue[Invoked | None], stop: Stop) -> None:
        self._engine = engine
        self._told = told
        self._stop = stop
        self._console = stdout()
        self._running: set[str] = set()
        self._known: set[str] = set()

    def run(self) -> None:
        """Watch until the user stops it; sleep while nothing runs."""
        while not self._stop.signal:
            try:
                note = self._told.get(timeout=LOOK if self._running else None)
            except Empty:
                note = None
            if note is not None and note.id not in self._running:
                self._each(self._begin, note.id)
            for id in list(self._running):
                self._each(self._look, id)

    def _each(self, do: Callable[[str], None], id: str) -> None:
        try:
            do(id)
        except ExecutionNotFoundError:  # ended, and deleted by somebody since
            self._running.discard(id)

    def _was_invoked(self, id: str) -> bool:
        events = self._engine.history(id)
        return any(event["EventType"] == "InvocationCompleted" for event in events)

    def _begin(self, id: str) -> None:
        info = self._engine.info(id)
        self._running.add(id)
        again = id in self._known or self._was_invoked(id)
        self._line(id, "goes on" if again else "begun", info.handler if not again else "")

    def _look(self, id: str) -> None:
        info = self._engine.info(id)
        if info.active and info.status == "RUNNING":
            return
        self._running.discard(id)
        self._known.add(id)
        if info.status == "RUNNING":
            self._waits(info)
        else:
            self._known.discard(id)
            self._end(info)

    def _waits(self, info: ExecutionInfo) -> None:
        waits = self._engine.get(info.id).waiting_for()
        approvals = asked_in(self._engine.operations(info.id))
        if waits:
            self._line(info.id, "waits", f"for {waits_words(waits, approvals)}", "yellow")

    def _end(self, info: ExecutionInfo) -> None:
        account = account_of(self._engine, info.id)
        if account.failure is None:
            cost = whole_cell(account.ledger)
            took = f"in {length(account.seconds())}" + (f", {cost}" if cost else "")
            self._line(info.id, "done", took, "green")
        else:
            why = one_error(account.failure.type, account.failure.message)
            self._line(info.id, account.status, why, "red")

    def _line(self, id: str, word: str, rest: str, style: str = "") -> None:
        now = f"{datetime.now():%H:%M:%S}"
        line = Text.assemble((now, "dim"), f"  {id:<22}  ", (f"{word:<9}", style), rest)
        line.rstrip()
        say(self._console, line)


def _handlers(loaded: Loaded, name: str) -> list[Handler[Any]]:
    if name or not loaded.handlers:
        return [loaded.pick(name)]
    return list(loaded.handlers.values())


def _telling(handler: Handler[Any], tell: Callable[[Invoked], None]) -> Handler[Any]:
    """Return a copy of a handler that tells of each of its invocations."""
    original = handler.fn

    @wraps(original)
    def told(event: Any, context: Any) -> Any:
        tell(Invoked(context.execution_id))
        return original(event, context)

    @wraps(original)
    async def told_async(event: Any, context: Any) -> Any:
        tell(Invoked(context.execution_id))
        return await original(event, context)

    copied = copy.copy(handler)
    copied.fn = told_async if handler.is_async else told
    return copied
