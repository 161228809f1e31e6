"""Follows a run while this process runs it, until it ends, only waits, or the user stops it.

The journal is the only source: it is looked at eight times a second, less often where one look
takes long, so that showing a run never costs it more than a small part of the time.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from perdure.durable.errors import ExecutionError, ExecutionNotFoundError, SerializationError

from .costs import is_call
from .live import View
from .stopping import Stop
from .tree import Moment, Row, is_shown, news, rows_of
from .words import ending

if TYPE_CHECKING:
    from collections.abc import Iterable

    from perdure.durable import Execution, ExecutionInfo, LocalEngine
    from perdure.durable.operations import Operation

    from .place import Runs

TICK = 0.125
_SHARE = 8
"""A look may take one part in so many of the time."""
_SAID = 60
"""Characters shown of what a model streams."""


class Left(StrEnum):
    """Why a run is no longer followed."""

    ENDED = "ended"
    SUSPENDED = "suspended"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Before:
    """What there was of a run before the command began.

    Attributes:
        began: when that was, in milliseconds.
        info: the run, if it was there.
        recorded: its operations that were closed.
    """

    began: int
    info: ExecutionInfo | None
    recorded: frozenset[str]


def before(engine: Runs, id: str | None) -> Before:
    """Look at a run before anything of it is invoked here."""
    began = round(time.time() * 1000)
    try:
        if id is None:
            return Before(began, None, frozenset())
        operations = engine.operations(id).values()
        closed = (each.id for each in operations if each.closed and is_shown(each))
        return Before(began, engine.info(id), frozenset(closed))
    except ExecutionNotFoundError:
        return Before(began, None, frozenset())


def follow(
    engine: LocalEngine,
    execution: Execution,
    view: View,
    stop: Stop,
    *,
    was: Before,
    wait: float,
) -> Left:
    """Show a run until it is to be left: it waits for nothing that comes within `wait` seconds."""
    pause = 0.0
    while True:
        _let_run(execution, pause, stop)
        started = time.monotonic()
        info = execution.info()
        view.update(_rows(execution, was, active=info.active or _is_soon(info.wakes, 0)))
        pause = max(TICK, _SHARE * (time.monotonic() - started))
        if info.status != "RUNNING":
            return Left.ENDED
        if stop.signal:
            return Left.STOPPED
        if _rests(engine, info, wait):
            return Left.SUSPENDED


def _let_run(execution: Execution, seconds: float, stop: Stop) -> None:
    """Let some time pass; return at once when the run ends or the user stops it."""
    deadline = time.monotonic() + seconds
    while not stop.signal:
        left = deadline - time.monotonic()
        try:
            execution.result(timeout=max(0.0, min(left, TICK)))
        except TimeoutError:
            if left > 0:
                continue
        except (ExecutionError, SerializationError):
            pass  # what it came to is read from the journal
        return


def _rows(execution: Execution, was: Before, *, active: bool) -> list[Row]:
    operations = execution.operations()
    said = _said(execution.id, operations.values()) if active else {}
    at = Moment(round(time.time() * 1000), was.began, was.recorded, active, said)
    return news(rows_of(operations, at))


def _said(execution_id: str, operations: Iterable[Operation]) -> dict[str, str]:
    """Return the last of what each model call streams in this process, by id."""
    begun = [each.id for each in operations if is_call(each) and each.status == "STARTED"]
    if not begun:
        return {}
    from perdure.agents.streams import tail

    return {id: ending(tail(execution_id, id), _SAID) for id in begun}


def _rests(engine: LocalEngine, info: ExecutionInfo, wait: float) -> bool:
    if info.active or _is_soon(info.wakes, wait):
        return False
    invokes = any(each.kind == "invoke" for each in engine.get(info.id).waiting_for())
    return not (invokes and _others_go_on(engine, info, wait))


def _others_go_on(engine: LocalEngine, info: ExecutionInfo, wait: float) -> bool:
    """Return whether a run that this one may have invoked is running, or soon will."""
    later = (each for each in engine.list(status="RUNNING") if each.created >= info.created)
    return any(
        each.active or _is_soon(each.wakes, wait)
        for each in later
        if each.id != info.id and each.handler in engine.handlers
    )


def _is_soon(wakes: datetime | None, wait: float) -> bool:
    return wakes is not None and (wakes - datetime.now(UTC)).total_seconds() <= wait
