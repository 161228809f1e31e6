"""A stage is an engine with handlers on it. Both engines are spoken to by the same verbs.

What a run left is compared operation by operation: path, id, type, subtype, status, attempts,
payload and error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Self

from perdure.durable import ExecutionFailedError, Handler, LambdaEngine, Limits, LocalEngine
from perdure.durable.operations import Operation, SubType

from ..durable.aws.stage import PATIENCE
from ..durable.aws.worlds import AwsWorld
from ..waiting import until

LASTS = 60
"""Seconds within which a run must end."""


class Stage(Protocol):
    name: str

    def start(self, handler: Handler[Any], event: Any = None) -> Run:
        """Start a handler."""

    def register(self, handler: Handler[Any]) -> None:
        """Have a handler found by its name."""


class LocalStage:
    """The embedded engine, with the limits of AWS."""

    name = "local"

    def __init__(self, journal: Path) -> None:
        self.engine = LocalEngine(journal, limits=Limits.aws())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.engine.close()

    def register(self, handler: Handler[Any]) -> None:
        self.engine.register(handler)

    def start(self, handler: Handler[Any], event: Any = None) -> Run:
        self.register(handler)
        return Run(self.engine, self.engine.start(handler, event))


class LambdaStage:
    """AWS's local runner, which invokes handlers of this process over HTTP."""

    name = "lambda"

    def __init__(self, world: AwsWorld, url: str) -> None:
        self.world = world
        self._url = url

    def register(self, handler: Handler[Any]) -> None:
        self.world.register(handler)

    def start(self, handler: Handler[Any], event: Any = None) -> Run:
        self.register(handler)
        engine = LambdaEngine(f"{handler.name}:live", endpoint_url=self._url)
        return Run(engine, engine.start(handler, event))


class Run:
    """A run on either engine, with what the world outside does to it."""

    def __init__(self, engine: Any, execution: Any) -> None:
        self.engine = engine
        self.execution = execution

    def send(self, name: str, *payload: Any) -> None:
        """Send to the wait of this name once it is open."""
        self._open(name)
        self.engine.send(self.execution.id, name, *payload)

    def fail(self, name: str, message: str, kind: str | None = None) -> None:
        """Fail the callback of this name once it is open."""
        self.engine.fail_callback(self._open(name), message, kind)

    def beat(self, name: str) -> None:
        """Keep the callback of this name alive."""
        self.engine.heartbeat_callback(self._open(name))

    def resume(self, *names: str) -> None:
        """Resume the run once it holds its failure."""
        self._open("perdure:failed")
        self.engine.resume(self.execution.id, names)

    def fared(self) -> Fared:
        """Wait for the end of the run, and return what it came to."""
        value, error = None, None
        try:
            value = self.execution.result(timeout=LASTS)
        except ExecutionFailedError as failure:
            assert failure.error is not None
            error = (failure.error_type, failure.error.message)
        events = Counter(
            (each["EventType"], each["Id"], each.get("ParentId"), each.get("SubType"))
            for each in self.execution.history()
            if not each["EventType"].startswith(("Execution", "Invocation"))
        )
        return Fared(value, error, shapes_of(self.execution.operations()), events)

    def _open(self, name: str) -> str:
        def found() -> str | None:
            waits = self.execution.waiting_for()
            ids = [each.callback_id for each in waits if each.path.rpartition("/")[2] == name]
            return ids[0] if ids else None

        return str(until(found, f"the wait {name!r} to be open", PATIENCE))


@dataclass(frozen=True)
class Fared:
    """What a run came to, and what it left.

    Attributes:
        value: its result.
        error: or the type and message of its error.
        operations: what has to be alike of each, by path.
        events: how often its history has each, by type, id, parent and subtype.
    """

    value: Any
    error: tuple[str | None, str] | None
    operations: dict[str, dict[str, Any]]
    events: Counter[tuple[str, str, str | None, str | None]]

    def statuses(self) -> dict[str, str]:
        """Return the status of each operation, by path."""
        return {path: str(shape["status"]) for path, shape in self.operations.items()}


def shapes_of(operations: dict[str, Operation]) -> dict[str, dict[str, Any]]:
    """Return of each operation, by path, what has to be alike on both engines."""
    return {path: _shape(operation) for path, operation in sorted(operations.items())}


def _shape(operation: Operation) -> dict[str, Any]:
    error, payload = operation.error, operation.payload
    if error is not None and error.type in ("Callback.Timeout", "Callback.Heartbeat"):
        error = replace(error, message=OWN_WORDS)
    if operation.subtype == SubType.FAILURE:
        error, payload = None, None
    return {
        "id": operation.id,
        "type": str(operation.type),
        "subtype": operation.subtype,
        "status": str(operation.status),
        "attempt": operation.attempt,
        "payload": payload,
        "error": error and (error.type, error.message),
    }


OWN_WORDS = "in the engine's own words"
"""The message of what timed out: it is the service's on AWS. What is kept with a held failure that
was resumed is an engine's own, too."""
ALL = ("id", "type", "subtype", "status", "attempt", "payload", "error")
Act = Callable[[Run], None]


def differences(one: Fared, other: Fared, alike: Sequence[str] = ALL) -> list[str]:
    """Return in words what two runs did not have in common; `alike` is what operations should."""
    found = []
    if one.value != other.value:
        found.append(f"result: {one.value!r} and {other.value!r}")
    if one.error != other.error:
        found.append(f"error: {one.error!r} and {other.error!r}")
    for path in sorted(one.operations.keys() | other.operations.keys()):
        mine, its = one.operations.get(path), other.operations.get(path)
        if mine is None or its is None:
            found.append(f"{path}: {mine} and {its}")
            continue
        differing = {key: (mine[key], its[key]) for key in alike if mine[key] != its[key]}
        found += [f"{path}: {differing}"] if differing else []
    if any(event[3] == SubType.FAILURE for event in one.events):
        return found  # what is held and resumed is kept as further operations on AWS
    for event in sorted(one.events.keys() | other.events.keys(), key=str):
        if one.events[event] != other.events[event]:
            found.append(f"{event}: {one.events[event]} and {other.events[event]} times")
    return found
