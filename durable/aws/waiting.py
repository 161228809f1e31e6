"""Waiting for a run on AWS to end: it is looked at, at first often, then every few seconds."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any, NoReturn

from ..codec import Codec
from ..errors import (
    ExecutionCancelledError,
    ExecutionError,
    ExecutionFailedError,
    ExecutionTimedOutError,
)
from ..local.execution import ExecutionStatus
from ..offloaded import text_of
from .api import LambdaApi, Wire
from .executions import status_of
from .wire import error_of

_SOONEST, _LATEST = 0.2, 5.0
"""Seconds between two looks: the first pause, and the longest."""
_PATIENCE = 10.0
_ENDS: dict[ExecutionStatus, type[ExecutionError]] = {
    ExecutionStatus.FAILED: ExecutionFailedError,
    ExecutionStatus.CANCELLED: ExecutionCancelledError,
    ExecutionStatus.TIMED_OUT: ExecutionTimedOutError,
}


def result_of(api: LambdaApi, arn: str, timeout: float | None, codec: Codec) -> Any:
    """Wait for a run to end and return its result; see `LambdaExecution.result`."""
    told = _ended(api, arn, timeout)
    if status_of(told) is not ExecutionStatus.SUCCEEDED:
        _raise_ended(told)
    where = f"the result of {told['DurableExecutionName']!r}"
    return codec.decode(text_of(told.get("Result") or "null"), where=where)


def let_stop(api: LambdaApi, arn: str) -> None:
    """Wait until a run that was told to stop has ended; not for long, if a body is in flight."""
    with suppress(TimeoutError):
        _ended(api, arn, _PATIENCE)


def _ended(api: LambdaApi, arn: str, timeout: float | None) -> Wire:
    deadline = None if timeout is None else time.monotonic() + timeout
    pause = _SOONEST
    while status_of(told := api.execution(arn)) is ExecutionStatus.RUNNING:
        left = pause if deadline is None else deadline - time.monotonic()
        if left <= 0:
            name = told["DurableExecutionName"]
            raise TimeoutError(f"the run {name!r} has not ended after {timeout:g} s; it goes on")
        time.sleep(min(pause, left))
        pause = min(1.5 * pause, _LATEST)
    return told


def _raise_ended(told: Wire) -> NoReturn:
    status, error = status_of(told), error_of(told.get("Error"))
    what = f"{error.type}: {error.message}" if error and error.type else error and error.message
    ended = f"the run {told['DurableExecutionName']!r} {status.lower().replace('_', ' ')}"
    raise _ENDS[status](f"{ended}: {what}" if what else ended, error)
