"""`run` and `resume`: invoke a run in this process, show it, and say what it came to."""

from __future__ import annotations

import json
import secrets
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from perdure.durable.errors import UsageError

from . import report
from .account import Account, account_of
from .drive import Before, Left, before, follow
from .live import Silent, View, view_on
from .loader import Loaded, load, load_source
from .logs import show_logs
from .place import Place
from .screen import say, stderr, stdout
from .stopping import Stop
from .tree import Row

if TYPE_CHECKING:
    from perdure.durable import Execution, ExecutionInfo, LocalEngine

DONE, FAILED = 0, 1
_TOOK_UP = (
    "letting steps of other runs, which this process took up meanwhile, end and be recorded; "
    "Ctrl-C leaves at once"
)


@dataclass(frozen=True, slots=True)
class Following:
    """How a command follows a run; `wait` in seconds, `json` for one object and nothing else."""

    place: Place
    wait: float
    json: bool

    def console(self) -> Console:
        """Return where it talks to the user."""
        return stderr() if self.json else stdout()


def run(target: str, event: Any, id: str | None, how: Following) -> int:
    """Start a run, or go on with it, and follow it; return the exit code."""
    with _quiet_stdout(how):
        loaded, name = load(target)
        handler = loaded.pick(name)
        engine = how.place.local(create=True)
        try:
            id = id or _new_id()
            was = before(engine, id)
            if was.info is not None:
                engine.start(handler.name, event, id)  # runs nothing; raises if it is another run
                if was.info.status != "RUNNING":
                    return _ended_before(account_of(engine, id), how)
            _register(engine, loaded)
            begin = partial(engine.start, handler, event, id)
            _greet(id, handler.name, was, how)
            return _follow(engine, begin, was, how, target)
        finally:
            _close(engine, how)


def resume(id: str, reopen: list[str], file: str | None, how: Following) -> int:
    """Go on with a failed or interrupted run and follow it; return the exit code."""
    with _quiet_stdout(how):
        engine = how.place.local()
        try:
            info = engine.info(id)
            if info.status in ("SUCCEEDED", "CANCELLED"):
                engine.resume(id, reopen)  # raises: it says what can be resumed
            loaded = _load_again(info, file)
            execution = engine.resume(id, reopen)
            was = before(engine, id)
            _register(engine, loaded)
            _greet(id, info.handler, was, how)
            return _follow(engine, lambda: _served(engine, execution), was, how, loaded.where)
        finally:
            _close(engine, how)


def _follow(
    engine: LocalEngine,
    begin: Callable[[], Execution],
    was: Before,
    how: Following,
    target: str,
) -> int:
    console, stop = how.console(), Stop()
    show_logs()
    stop.install()
    execution = begin()
    view = _Last(Silent() if how.json else view_on(console))
    try:
        left = follow(engine, execution, view, stop, was=was, wait=how.wait)
    finally:
        view.close()
    if left is Left.STOPPED:
        return _stop(engine, execution.id, view.rows, stop, how)
    stop.leave_next()
    account = account_of(engine, execution.id)
    if how.json:
        _print_json(account)
    else:
        report.leave(console, account, was, how.place, target)
    return _exit_code(account)


def _stop(engine: LocalEngine, id: str, rows: Sequence[Row], stop: Stop, how: Following) -> int:
    console = how.console()
    report.stopping(console, id, rows, how.place)
    engine.close()  # a second Ctrl-C leaves from here
    flying = {row.path for row in report.in_flight(rows)}
    looking = how.place.local()
    try:
        operations = looking.operations(id)
    finally:
        looking.close()
    recorded = [path for path in flying if path in operations and operations[path].closed]
    if recorded:
        say(console, f"recorded: {', '.join(sorted(recorded))}", "dim")
    return stop.exit_code


def _close(engine: LocalEngine, how: Following) -> None:
    """Close the engine; where that takes long, say what it waits for."""
    note = threading.Timer(1.0, say, (how.console(), _TOOK_UP, "dim"))
    note.daemon = True
    note.start()
    try:
        engine.close()
    finally:
        note.cancel()


def _ended_before(account: Account, how: Following) -> int:
    if how.json:
        _print_json(account)
    else:
        _greet(account.info.id, account.info.handler, Before(0, None, frozenset()), how)
        report.ended_before(how.console(), account, how.place)
    return _exit_code(account)


def _exit_code(account: Account) -> int:
    return DONE if account.failure is None else FAILED


def _new_id() -> str:
    return f"{round(time.time()):x}-{secrets.token_hex(3)}"


def _greet(id: str, handler: str, was: Before, how: Following) -> None:
    if not how.json:
        report.begin(how.console(), id, handler, was)


def _served(engine: LocalEngine, execution: Execution) -> Execution:
    engine.serve()
    return execution


def _register(engine: LocalEngine, loaded: Loaded) -> None:
    engine.register(*loaded.handlers.values())


def _load_again(info: ExecutionInfo, file: str | None) -> Loaded:
    if file is not None:
        loaded = load(file)[0]
    elif info.source is None or not Path(info.source).is_file():
        where = f"was {info.source}, which is gone" if info.source else "is not recorded"
        raise UsageError(
            f"the file of the handler {info.handler!r} {where}; name it with --file FILE"
        )
    else:
        loaded = load_source(info.source, info.handler)
    if all(handler.name != info.handler for handler in loaded.handlers.values()):
        names = ", ".join(handler.name for handler in loaded.handlers.values()) or "none"
        raise UsageError(
            f"{loaded.where} has no handler {info.handler!r}, which the run {info.id!r} needs "
            f"(it has {names}); restore its name, or name another file with --file FILE"
        )
    return loaded


def _print_json(account: Account) -> None:
    print(json.dumps(account.outcome()), file=sys.__stdout__)


def _quiet_stdout(how: Following) -> ExitStack:
    """Keep standard output for the JSON: what bodies print goes to standard error."""
    stack = ExitStack()
    if how.json:
        stack.enter_context(redirect_stdout(sys.stderr))
    return stack


class _Last:
    """A view that remembers the rows it showed last."""

    def __init__(self, view: View) -> None:
        self._view = view
        self.rows: Sequence[Row] = ()

    def update(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        self._view.update(rows)

    def close(self) -> None:
        self._view.close()
