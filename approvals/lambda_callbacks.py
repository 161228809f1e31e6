"""AWS as decisions see it: callbacks are completed, and requests read, over the durable API.

A completion is sent once and never by itself again: a second one would be told that the callback is
closed, by the first. How a request stands is read from the run's history, from its newest event
back to where the request begins. Nothing is kept, and nothing that is logged names a callback.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Literal

from perdure.durable.aws.api import LambdaApi
from perdure.durable.aws.history import by_path, operations_of, status_after
from perdure.durable.errors import (
    CallbackClosedError,
    CallbackNotFoundError,
    ExecutionNotFoundError,
    PerdureError,
)
from perdure.durable.offloaded import text_of
from perdure.durable.operations import Operation, OperationType, SubType

from .callbacks import OpenWait, Page, Standing
from .errors import Unavailable
from .journal import standing_of
from .requests import REQUEST

_log = logging.getLogger("perdure.approvals")
_PAGE = 200
"""Events that are read at once from the end of a history: an approval stands near it."""
_READERS = 8
Wire = Mapping[str, Any]


class LambdaCallbacks:
    """`Callbacks` over the durable API of AWS Lambda.

    Args:
        api: how it is asked; the inbox is that of its function. A boto3 client that was given to it
            has to have its hidden retries off.
    """

    def __init__(self, api: LambdaApi) -> None:
        self._api = api

    def complete(self, callback: str, payload: str) -> Literal["recorded", "closed"]:
        """Complete a callback with JSON text, once; "closed" if that was too late, or no callback.

        Raises:
            Unavailable: the service could not be asked, or its answer was lost.
        """
        with _available():
            try:
                self._api.complete(callback, payload)
            except (CallbackClosedError, CallbackNotFoundError):
                return "closed"
        return "recorded"

    def lookup(self, execution: str, operation: str) -> Standing | OpenWait | None:
        """Return how a request or an open wait stands; None for a closed wait, or no such thing.

        Args:
            execution: the ARN of the run.

        Raises:
            Unavailable: the service could not be asked.
        """
        with _available():
            try:
                events = self._back_to(execution, operation)
            except ExecutionNotFoundError:
                return None
            run = _Run(execution, _function_of(execution), events)
            waits = (each for each in run.waits() if each.operation == operation)
            return run.standing(operation) or next(waits, None)

    def inbox(self, after: int | None = None, limit: int = 50) -> Page:
        """Return what is open in the runs of the function, the newest run first.

        The history of each running run is read, so this takes a while where there are many. Runs
        are never cut in two; the count is of this page alone.

        Args:
            after: the `next` of the page before.

        Raises:
            Unavailable: the service could not be asked.
        """
        entries: list[Standing | OpenWait] = []
        cursor: int | None = None
        with _available():
            for started, found in self._open(after):
                if cursor is not None and len(entries) >= limit and started != cursor:
                    return Page(tuple(entries), len(entries), cursor)
                entries += found
                cursor = started
        return Page(tuple(entries), len(entries), None)

    def _back_to(self, arn: str, operation: str) -> list[Wire]:
        """Return the events of a run from the start of a scope on; all, if it is none."""
        events: list[Wire] = []
        for event in self._api.events(arn, newest_first=True, page=_PAGE):
            events.append(event)
            if event["EventType"] == "ContextStarted" and event.get("Id") == operation:
                break
        return events[::-1]

    def _open(self, after: int | None) -> Iterator[tuple[int, list[Standing | OpenWait]]]:
        """Yield what is open in each run, and when the run was started, in milliseconds."""
        wanted = (
            run
            for run in self._api.executions(statuses=["RUNNING"])
            if run["Status"] == "RUNNING" and (after is None or _started(run) < after)
        )
        with ThreadPoolExecutor(_READERS) as readers:
            while some := list(islice(wanted, _READERS)):
                yield from readers.map(self._open_in, some)

    def _open_in(self, listed: Wire) -> tuple[int, list[Standing | OpenWait]]:
        arn = listed["DurableExecutionArn"]
        try:
            events = list(self._api.events(arn))
        except ExecutionNotFoundError:  # deleted since
            return _started(listed), []
        run = _Run(arn, _function_of(listed.get("FunctionArn") or arn), events)
        return _started(listed), [*run.standings(), *run.waits()]


class _Run:
    """What a run's events tell of those it waits for."""

    def __init__(self, arn: str, handler: str, events: Sequence[Wire]) -> None:
        self._arn, self._handler = arn, handler
        status = status_after(events[-1]) if events else "RUNNING"
        self._status = "CANCELLED" if status == "STOPPED" else status
        self._operations = operations_of(events)
        self._asking = {
            each.parent for each in self._operations.values() if each.subtype == REQUEST
        }

    def standing(self, scope: str) -> Standing | None:
        """Return how the request in a scope stands; None if there is none."""
        inside = [each for each in self._operations.values() if each.parent == scope]
        outer = self._operations.get(scope)
        for each in inside if outer is None else [*inside, outer]:
            if each.payload is not None and each.subtype in (REQUEST, SubType.CHILD):
                each.payload = text_of(each.payload)
        return standing_of(inside, outer, self._status, self._handler)

    def standings(self) -> list[Standing]:
        """Return the open requests, the newest first."""
        found = (self.standing(scope) for scope in self._asking if scope is not None)
        return _newest_first(each for each in found if each is not None and each.is_open)

    def waits(self) -> list[OpenWait]:
        """Return the open named waits, but those of approvals."""
        if self._status != "RUNNING":
            return []
        found = by_path(self._operations).items()
        return [self._wait(path, each) for path, each in found if self._is_wait(each)]

    def _is_wait(self, each: Operation) -> bool:
        is_event = each.type is OperationType.CALLBACK and each.subtype == SubType.EVENT
        return is_event and not each.closed and each.parent not in self._asking

    def _wait(self, path: str, each: Operation) -> OpenWait:
        due = None if each.due is None else _moment(each.due)
        callback, created = each.callback_id or "", _moment(each.started)
        return OpenWait(self._arn, each.id, callback, path, self._handler, created, due)


def _newest_first(standings: Iterable[Standing]) -> list[Standing]:
    return sorted(standings, key=lambda each: each.request.asked, reverse=True)


def _function_of(arn: str) -> str:
    """Return the name of the function in its own ARN, or in that of a run."""
    return arn.partition(":function:")[2].partition(":")[0]


def _started(run: Wire) -> int:
    return int(run["StartTimestamp"].timestamp() * 1000)


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


@contextmanager
def _available() -> Iterator[None]:
    """Have a service that cannot be asked say so in one way, and in the log why."""
    try:
        yield
    except PerdureError as error:
        _log.error("AWS could not be asked: %s", error)
        raise Unavailable("AWS could not be asked") from error
