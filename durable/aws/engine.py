"""The runs of one Lambda function, from outside: the verbs of `LocalEngine` over AWS's API.

The service keeps the runs and invokes the function; nothing is kept here. A run is known by its
name (the id of other engines) or its ARN. Its history is the source of all that is told of it.
"""

from __future__ import annotations

import builtins
import json
import os
import time
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..addressing import addressed
from ..clock import SystemClock
from ..codec import Codec
from ..errors import (
    ExecutionConflictError,
    ExecutionNotFoundError,
    PayloadTooLargeError,
    UsageError,
)
from ..handler import Handler
from ..hold import held_by
from ..limits import Limits
from ..local.engine import run_id
from ..local.execution import ExecutionInfo, ExecutionStatus, Wait
from ..local.history import HistoryEvent
from ..local.verbs import NOTHING, plain_text
from ..operations import ErrorObject, Operation, OperationStatus, OperationType, SubType
from .api import LambdaApi, StartedBefore, Wire
from .executions import STATUSES, LambdaExecution, Reading, info_of, status_of, statuses_of
from .history import by_path, make_whole, operations_of
from .offload import Store
from .waiting import let_stop, result_of
from .wire import wire_error

_READERS = 8
"""Histories that are read at once; more would only be refused more often."""


class LambdaEngine:
    """The runs of a Lambda function with a DurableConfig.

    Args:
        function: its name or ARN; a version or alias may follow after a colon.
        qualifier: the version or alias that runs are started on, if it is not in `function`.
            Without one they are started on `$LATEST`, which changes under them when it is deployed.
        client: boto3's client `lambda`, used as it is. Its hidden retries should be off where
            callbacks are completed: a second completion is told that the callback is closed.
        region: else that of the environment or profile.
        endpoint_url: of the API, if it is not AWS's.
        fresh: seconds for which what was read of a run is told again without asking.

    Raises:
        UsageError: from any call, when AWS refuses who calls; nothing is asked before.
    """

    def __init__(
        self,
        function: str,
        *,
        qualifier: str | None = None,
        client: Any = None,
        region: str | None = None,
        endpoint_url: str | None = None,
        fresh: float = 0.0,
    ) -> None:
        if not function:
            raise UsageError("name the Lambda function whose runs are meant")
        self.api = LambdaApi(
            function, qualifier=qualifier, client=client, region=region, endpoint_url=endpoint_url
        )
        self.clock = SystemClock()
        self.home = None
        self.limits = Limits.aws()
        self._fresh = fresh
        self._store = Store.of(os.environ)
        self._arns: dict[str, str] = {}
        self._codecs: dict[str, Codec] = {}
        self._read: dict[str, tuple[float, Reading]] = {}

    def close(self) -> None:
        """Forget what was read."""
        self._read.clear()

    def start(
        self, handler: Handler[Any] | str | None = None, event: Any = None, id: str | None = None
    ) -> LambdaExecution:
        """Start a run of the function, and return its handle.

        Args:
            handler: the function's, whose classes input and result may have; it runs there alone.
            event: the input; what the journal can keep.
            id: 1 to 64 letters, digits, `-` or `_`; made up if not given. The same id with the same
                input returns the run that exists, as long as AWS keeps it.

        Raises:
            ExecutionConflictError: the id exists with another input.
            SerializationError: the input cannot be kept.
        """
        if self.api.qualifier is None:
            warnings.warn(
                f"{self.api.function!r} is started on $LATEST, which changes under its runs when "
                "it is deployed; name a version or alias: "
                f"LambdaEngine({self.api.function + ':live'!r})",
                stacklevel=2,
            )
        codec = handler.codec if isinstance(handler, Handler) else Codec(None)
        payload = codec.encode(event, where="the input")
        name = run_id(id)
        try:
            arn = self.api.start(name, payload)
        except StartedBefore:
            arn = self._same(name, payload)
        arn = arn or self._arn(name)
        self._arns[name] = arn
        self._codecs[arn] = codec
        return LambdaExecution(self, name, arn)

    def get(self, id: str) -> LambdaExecution:
        """Return the handle of a run, by its name or ARN.

        Raises:
            ExecutionNotFoundError: there is none.
        """
        arn = self._arn(id)
        name = id if arn != id else self._told(arn)["DurableExecutionName"]
        return LambdaExecution(self, name, arn)

    def status(self, id: str) -> ExecutionStatus:
        """Return the state of a run; one that is paused is RUNNING."""
        return status_of(self.api.execution(self._arn(id), data=False))

    def info(self, id: str) -> ExecutionInfo:
        """Return what a listing tells of one run."""
        return self._reading(id).info()

    def list(
        self, *, status: str | None = None, handler: str | None = None, limit: int = 100
    ) -> builtins.list[ExecutionInfo]:
        """Return the newest runs, newest first; of those that go on, the history is read.

        Args:
            handler: the name of the function; there is no other.

        Raises:
            UsageError: an unknown status.
        """
        if status is not None and status not in ExecutionStatus.__members__:
            known = ", ".join(ExecutionStatus.__members__)
            raise UsageError(f"status is one of {known}, not {status!r}")
        if handler is not None and handler != self.api.name:
            return []
        rows = self._rows(statuses_of(status) if status else [], limit)
        with ThreadPoolExecutor(_READERS) as readers:
            infos = list(readers.map(self._listed, rows))
        return [info for info in infos if info is not None]

    def history(self, id: str) -> builtins.list[HistoryEvent]:
        """Return a run's events as `GetDurableExecutionHistory` gives them."""
        return list(self._reading(id).events)

    def operations(self, id: str) -> dict[str, Operation]:
        """Return the state of a run's operations, by the path that addresses each."""
        return dict(self._reading(id).operations)

    def steps(self, id: str, kind: str) -> builtins.list[Operation]:
        """Return the steps of one kind of a run."""
        return [each for each in self._reading(id).operations.values() if each.subtype == kind]

    def children(self, id: str, parent: str | None) -> builtins.list[Operation]:
        """Return the state of the operations directly under one of a run."""
        return [each for each in self._reading(id).operations.values() if each.parent == parent]

    def operation(self, id: str, operation: str) -> Operation | None:
        """Return the state of one operation of a run by its id, or None."""
        found = self._reading(id).operations.values()
        return next((each for each in found if each.id == operation), None)

    def texts(self, id: str, last: str) -> builtins.list[str]:
        """Return the texts of a chain, named by its last link; [] if not kept.

        They are kept where `PERDURE_S3_BUCKET` is set, for the function and here.
        """
        if self._store is None:
            return []
        return self._store.texts(self._key(id), last)

    def note(self, id: str, operation: str) -> str | None:
        """Return what a gate noted with the last start of an operation, if that is kept."""
        return None if self._store is None else self._store.note(self._key(id), operation)

    def waiting_for(self, id: str) -> builtins.list[Wait]:
        """Return what a run waits for."""
        return self._reading(id).waits()

    def send(self, id: str, name: str, payload: Any = NOTHING) -> None:
        """Send an event to the open wait of this name, or path, of a run.

        Args:
            payload: plain JSON, not null; nothing gives the handler True.

        Raises:
            CallbackNotFoundError: no open wait answers to it, or several do; lists the open ones.
            CallbackClosedError: it was already completed, or the run has ended.
        """
        text = None if payload is NOTHING else self._text(plain_text(payload))
        found = self._anew(id)
        callback = _addressed(found, name)
        if callback.subtype == SubType.FAILURE:
            self._release(callback, ())
        elif text == "null" and callback.subtype == SubType.EVENT:
            raise UsageError(
                f"null cannot be sent to the wait {name!r}: it would read as a time-out; send "
                "nothing (the handler gets True) or a value"
            )
        else:
            self.complete_callback(callback.callback_id or "", payload=text)

    def complete_callback(
        self, callback_id: str, result: Any = None, *, payload: str | None = None
    ) -> None:
        """Complete a callback with a result (plain JSON), or with `payload` as it stands.

        Raises:
            CallbackNotFoundError: the service knows no such callback.
            CallbackClosedError: it was completed, failed or timed out before.
            ServiceError: it was not completed, or it is not known whether it was.
        """
        text = payload if payload is not None or result is None else plain_text(result)
        self.api.complete(callback_id, None if text is None else self._text(text))
        self._read.clear()

    def fail_callback(
        self, callback_id: str, message: str = "", error_type: str | None = None
    ) -> None:
        """Complete a callback as failed; raises as `complete_callback` does."""
        self.api.fail(callback_id, wire_error(ErrorObject(message, error_type)))
        self._read.clear()

    def heartbeat_callback(self, callback_id: str) -> None:
        """Keep a callback alive for another interval; raises as `complete_callback` does."""
        self.api.beat(callback_id)

    def cancel(self, id: str, reason: str = "cancelled") -> None:
        """End a run; a step in flight may still record its result.

        Returns when the service says that the run has ended, or after ten seconds: until it does,
        a callback may still be completed.

        Raises:
            ExecutionConflictError: it has ended.
        """
        arn = self._arn(id)
        status = status_of(self._told(arn))
        if status is not ExecutionStatus.RUNNING:
            raise ExecutionConflictError(
                f"the execution {id!r} has ended ({status}); there is nothing to cancel"
            )
        self.api.stop(arn, wire_error(ErrorObject(reason, "Cancelled")))
        let_stop(self.api, arn)
        self._read.pop(arn, None)

    stop = cancel

    def resume(self, id: str, reopen: Sequence[str] = ()) -> LambdaExecution:
        """Have a run go on that holds its failure (`hold_on_failure`), or that is paused.

        Args:
            reopen: names or paths of further failed operations to try again.

        Raises:
            ExecutionConflictError: the run is not held. A failed run is final on AWS.
        """
        found = self._anew(id)
        status, execution = status_of(found.told), self.get(id)
        if status in (ExecutionStatus.FAILED, ExecutionStatus.TIMED_OUT):
            raise ExecutionConflictError(
                f"the execution {id!r} is {status}, which is final on AWS; start it anew under "
                "another id. With @durable_execution(hold_on_failure=True) the next one that fails "
                "is kept open, to be resumed"
            )
        if status is not ExecutionStatus.RUNNING:
            raise ExecutionConflictError(
                f"the execution {id!r} is {status}; only a failed one is resumed"
            )
        held = held_by({each.id: each for each in found.operations.values()})
        if held is not None:
            self._release(held, reopen)
        elif reopen:
            raise ExecutionConflictError(f"the execution {id!r} is running; nothing is reopened")
        if found.told["Status"] != "RUNNING":
            self.api.unpause(execution.arn)
        return execution

    def delete(self, id: str) -> None:
        """Remove an ended run, as far as this boto3 knows how to.

        Raises:
            ExecutionConflictError: it is running.
        """
        arn = self._arn(id)
        self.api.delete(arn)
        self._read.pop(arn, None)
        self._arns.pop(id, None)

    def wait_for(self, id: str, timeout: float | None = None) -> Any:
        """Wait for a run to end and return its result; see `LambdaExecution.result`."""
        arn = self._arn(id)
        return result_of(self.api, arn, timeout, self._codecs.get(arn, Codec(None)))

    def _same(self, name: str, payload: str) -> str:
        """Return the ARN of the run of this name, if it has this input."""
        arn = self._arn(name)
        kept = self.api.execution(arn).get("InputPayload") or "null"
        if json.loads(kept) != json.loads(payload):
            raise ExecutionConflictError(
                f"the execution {name!r} exists with another input; give this one another id"
            )
        return arn

    def _arn(self, id: str) -> str:
        if "/" in id:
            return id
        if id not in self._arns:
            named = (run for run in self.api.executions(name=id) if _is(run, id))
            found = next(named, None)
            if found is None:
                where = f"the runs of {self.api.function!r}"
                raise ExecutionNotFoundError(f"no execution {id!r} among {where}")
            self._arns[id] = found["DurableExecutionArn"]
        return self._arns[id]

    def _key(self, id: str) -> str:
        return self._arn(id).rpartition("/")[2]

    def _told(self, arn: str) -> Wire:
        return self.api.execution(arn, data=False)

    def _anew(self, id: str) -> Reading:
        self._read.pop(self._arn(id), None)
        return self._reading(id)

    def _reading(self, id: str) -> Reading:
        return self._looked(self._arn(id))

    def _looked(self, arn: str, told: Wire | None = None) -> Reading:
        known = self._read.get(arn)
        if known is not None and time.monotonic() - known[0] <= self._fresh:
            return known[1]
        told = told or self._told(arn)
        events = list(self.api.events(arn))
        operations = operations_of(events)
        make_whole(operations.values())
        for each in operations.values():
            if each.type is OperationType.STEP and each.status is OperationStatus.STARTED:
                each.note = self.note(arn, each.id)  # what is under way is known by it alone
        reading = Reading(told, events, by_path(operations))
        if self._fresh:
            self._read[arn] = (time.monotonic(), reading)
        return reading

    def _rows(self, statuses: Sequence[str], limit: int) -> builtins.list[Wire]:
        rows: builtins.list[Wire] = []
        for run in self.api.executions(statuses=statuses, page=min(1000, max(100, limit))):
            # AWS's local runner gives the runs of all statuses.
            if run["Status"] in (statuses or STATUSES):
                rows.append(run)
                self._arns.setdefault(run["DurableExecutionName"], run["DurableExecutionArn"])
            if len(rows) == limit:
                break
        return rows

    def _listed(self, run: Wire) -> ExecutionInfo | None:
        if status_of(run) is not ExecutionStatus.RUNNING:
            return info_of(run)
        try:
            return self._looked(run["DurableExecutionArn"], run).info()
        except ExecutionNotFoundError:  # deleted since
            return None

    def _release(self, held: Operation, reopen: Iterable[str]) -> None:
        names = list(reopen)
        text = json.dumps({"reopen": names}) if names else "null"
        self.complete_callback(held.callback_id or "", payload=text)

    def _text(self, text: str) -> str:
        size, limit = len(text.encode()), self.limits.payload
        if size > limit:
            raise PayloadTooLargeError(
                f"the payload is {size:,} bytes; this engine takes at most {limit:,}"
            )
        return text


def _is(run: Wire, name: str) -> bool:
    return bool(run["DurableExecutionName"] == name and run["Status"] != "DELETING")


def _addressed(found: Reading, name: str) -> Operation:
    operations = {each.id: each for each in found.operations.values()}
    told = found.told
    return addressed(told["DurableExecutionName"], status_of(told).value, operations, name)
