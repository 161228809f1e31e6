"""`run` and `resume` on AWS: start a run of a function or release it, show it, say what it came to.

The service runs it: to stop following, or to lose the connection, changes nothing for the run.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from perdure.durable.errors import JournalError, UsageError

from . import report
from .account import account_of
from .drive import Before, before
from .live import Silent, View, view_on
from .running import DONE, FAILED, Following
from .screen import say
from .stopping import Stop
from .tree import Moment, news, rows_of

if TYPE_CHECKING:
    from perdure.durable import ExecutionInfo, LambdaEngine
    from perdure.durable.aws import LambdaExecution

_LEAST = 1.0
_SHARE = 4
"""The time between two looks is at least this, and so many times as long as a look took."""
_MISSES = 5
"""So many looks in a row may find nothing out."""


def run(target: str | None, event: Any, id: str | None, how: Following) -> int:
    """Start a run, or find the one of this id, and follow it; return the exit code."""
    if target is not None:
        raise UsageError(
            f"on AWS the function runs the code that it was deployed with; leave out {target!r}"
        )
    engine = how.place.remote(_LEAST / 2)
    was = before(engine, id)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        execution = engine.start(None, event, id)
    for warning in told:
        say(how.console(), f"warning: {warning.message}", "yellow")
    return _follow(engine, execution, was, how)


def resume(id: str, reopen: Sequence[str], file: str | None, how: Following) -> int:
    """Have a run go on that holds its failure, and follow it; return the exit code."""
    if file is not None:
        raise UsageError("on AWS the function runs the code that it was deployed with, not a file")
    engine = how.place.remote(_LEAST / 2)
    was = before(engine, id)
    return _follow(engine, engine.resume(id, reopen), was, how)


def _follow(engine: LambdaEngine, execution: LambdaExecution, was: Before, how: Following) -> int:
    console, stop = how.console(), Stop()
    if not how.json:
        report.begin(console, execution.id, engine.api.name, was)
    stop.install()
    view = Silent() if how.json else view_on(console)
    try:
        _look_on(execution, view, stop, was, how.wait)
    finally:
        view.close()
    if stop.signal:
        say(console, "no longer followed; AWS goes on with it. See how it stands with", "yellow")
        say(console, f"  {how.place.command('show', execution.id)}", "bold")
        return stop.exit_code
    engine.close()
    account = account_of(engine, execution.arn)
    if how.json:
        print(json.dumps(account.outcome()))
    else:
        report.leave(console, account, was, how.place, None)
    return DONE if account.failure is None else FAILED


def _look_on(execution: LambdaExecution, view: View, stop: Stop, was: Before, wait: float) -> None:
    """Show a run until it ends, waits for nothing that comes within `wait` seconds, or is left."""
    missed = 0
    while True:
        started = time.monotonic()
        try:
            info = execution.info()
            at = Moment(round(time.time() * 1000), was.began, was.recorded, info.active)
            view.update(news(rows_of(execution.operations(), at)))
            if info.status != "RUNNING" or _rests(info, wait):
                return
            missed = 0
        except JournalError:  # the service asks for patience, or the network is gone for a moment
            missed += 1
            if missed == _MISSES:
                raise
        if stop.signal:
            return
        pause = max(_LEAST, _SHARE * (time.monotonic() - started))
        until = time.monotonic() + pause
        while time.monotonic() < until and not stop.signal:
            time.sleep(0.05)


def _rests(info: ExecutionInfo, wait: float) -> bool:
    if info.active:
        return False
    return info.wakes is None or (info.wakes - datetime.now(UTC)).total_seconds() > wait
