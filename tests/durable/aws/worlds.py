"""One face for both engines: start a handler, complete what it waits for, see what it came to.

On the embedded engine the clock is moved by hand; AWS's local runner takes the time that passes.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any, Protocol

from perdure.durable import ExecutionFailedError, Handler
from perdure.durable.hold import FAILED, held_by
from perdure.durable.operations import Operation
from perdure.durable.testing import Runner

from ...waiting import until
from .stage import Function, LocalRunner


@dataclass(frozen=True)
class Outcome:
    """What a run came to: its result, or the type and message of the error."""

    value: Any = None
    error: tuple[str | None, str] | None = None


class Execution(Protocol):
    def send(self, name: str, payload: Any = None) -> None:
        """Complete the open callback or named wait of this name."""

    def outcome(self) -> Outcome:
        """Wait for the end, and return what it came to."""

    def history(self) -> list[dict[str, Any]]:
        """Return the events, in order, in AWS's shape."""

    def held(self) -> str:
        """Wait until a failure is held that was not asked for before; return its message."""

    def ends(self) -> bool:
        """Wait until the run ends, or is held anew; return whether it has ended."""

    def resume(self, *names: str) -> None:
        """Have the held run go on, with these opened again, too."""

    def give_up(self) -> None:
        """Let the held run fail."""

    def wait_for(self, name: str, times: int) -> None:
        """Wait until a callback of this name was opened so many times."""


class World(Protocol):
    name: str

    def start(self, handler: Handler[Any], event: Any = None) -> Execution:
        """Start a handler."""

    def register(self, handler: Handler[Any]) -> None:
        """Have a handler found by its name."""


class LocalWorld:
    name = "local"

    def __init__(self, runner: Runner) -> None:
        self.runner = runner

    def register(self, handler: Handler[Any]) -> None:
        self.runner.engine.register(handler)

    def start(self, handler: Handler[Any], event: Any = None) -> LocalExecution:
        return LocalExecution(self.runner, self.runner.start(handler, event))


class LocalExecution:
    def __init__(self, runner: Runner, run: Any) -> None:
        self._runner = runner
        self._run = run

    def send(self, name: str, payload: Any = None) -> None:
        self._runner.settle()
        self._runner.engine.send(self._run.id, name, payload)

    def outcome(self) -> Outcome:
        self._runner.run_until_idle()
        try:
            return Outcome(self._run.result(timeout=5))
        except ExecutionFailedError as error:
            assert error.error is not None
            return Outcome(error=(error.error_type, error.error.message))

    def history(self) -> list[dict[str, Any]]:
        return list(self._run.history())

    def held(self) -> str:
        self._runner.run_until_idle()
        assert self._run.status == "RUNNING"
        held = held_by(self._run.operations())
        assert held is not None
        assert held.error is not None
        return held.error.message

    def ends(self) -> bool:
        self._runner.run_until_idle()
        return bool(self._run.status != "RUNNING")

    def resume(self, *names: str) -> None:
        self._runner.engine.resume(self._run.id, names)

    def operations(self) -> dict[str, Operation]:
        """Return what is recorded of the run."""
        return dict(self._run.operations())

    def give_up(self) -> None:
        (held,) = self._run.waiting_for()
        self._runner.engine.fail_callback(str(held.callback_id), "give up")

    def wait_for(self, name: str, times: int) -> None:
        self._runner.settle()


class Counted:
    """A client of the API whose calls are counted."""

    def __init__(self, client: Any, calls: Counter[str]) -> None:
        self._client = client
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)

        def counted(**arguments: Any) -> Any:
            self._calls[name.title().replace("_", "")] += 1
            return call(**arguments)

        return counted


class AwsWorld:
    """AWS's local runner, invoking handlers in this process over HTTP."""

    name = "aws"

    def __init__(
        self, runner: LocalRunner, function: Function, handlers: dict[str, Handler[Any]], api: Any
    ) -> None:
        self.runner = runner
        self.function = function
        self.handlers = handlers
        self.api = api
        self.calls: Counter[str] = Counter()

    def register(self, handler: Handler[Any]) -> None:
        self.handlers[handler.name] = handler

    def start(self, handler: Handler[Any], event: Any = None) -> AwsExecution:
        self.register(handler)
        return self.start_named(handler.name, event)

    def start_named(self, name: str, event: Any, endpoint: str | None = None) -> AwsExecution:
        arn = self.runner.start(name, json.dumps(event), endpoint or self.function.url)
        return AwsExecution(self, arn)


class AwsExecution:
    def __init__(self, world: AwsWorld, arn: str) -> None:
        self._world = world
        self.arn = arn
        self._holds = 0

    def send(self, name: str, payload: Any = None) -> None:
        id = until(lambda: self.callback_id(name), f"the callback {name!r} to be open")
        result = b"" if payload is None else json.dumps(payload).encode()
        self._world.api.send_durable_execution_callback_success(CallbackId=id, Result=result)

    def callback_id(self, name: str) -> str | None:
        opened = self._opened(name)
        return opened[-1] if opened else None

    def outcome(self) -> Outcome:
        found = until(self.ended, "the execution to end")
        if found["Status"] == "SUCCEEDED":
            return Outcome(json.loads(found["Result"]))
        error = found["Error"]
        assert found["Status"] == "FAILED", found
        return Outcome(error=(error.get("ErrorType"), error["ErrorMessage"]))

    def history(self) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = []
        marker: str | None = ""
        while marker is not None:
            page = self._world.api.get_durable_execution_history(
                DurableExecutionArn=self.arn,
                IncludeExecutionData=True,
                MaxItems=1000,
                **({"Marker": marker} if marker else {}),
            )
            events += page["Events"]
            marker = page.get("NextMarker") or None
        return events

    def held(self) -> str:
        self._holds += 1
        until(lambda: len(self._opened(FAILED)) >= self._holds, "the failure to be held")
        failures = [
            event["StepFailedDetails"]["Error"]["Payload"]["ErrorMessage"]
            for event in self.history()
            if event["EventType"] == "StepFailed" and event.get("Name") == FAILED
        ]
        return str(failures[-1])

    def ends(self) -> bool:
        until(lambda: self.ended() or len(self._opened(FAILED)) > self._holds, "the end, or a hold")
        self._holds = len(self._opened(FAILED))
        return self.ended() is not None

    def resume(self, *names: str) -> None:
        result = json.dumps({"reopen": names}).encode() if names else b""
        id = self._opened(FAILED)[-1]
        self._world.api.send_durable_execution_callback_success(CallbackId=id, Result=result)

    def give_up(self) -> None:
        self._world.api.send_durable_execution_callback_failure(
            CallbackId=self._opened(FAILED)[-1], Error={"ErrorMessage": "give up"}
        )

    def wait_for(self, name: str, times: int) -> None:
        until(lambda: len(self._opened(name)) >= times, f"{name!r} to be open")

    def _opened(self, name: str) -> list[str]:
        return [
            str(event["CallbackStartedDetails"]["CallbackId"])
            for event in self.history()
            if event["EventType"] == "CallbackStarted" and event.get("Name") == name
        ]

    def invocations(self) -> int:
        """Return how often the handler was invoked."""
        return sum(event["EventType"] == "InvocationCompleted" for event in self.history())

    def ended(self) -> dict[str, Any] | None:
        """Return what the service tells of the run, if it has ended."""
        found = self._world.api.get_durable_execution(
            DurableExecutionArn=self.arn, IncludeExecutionData=True
        )
        return None if found["Status"] == "RUNNING" else dict(found)


def events_of(execution: Execution) -> list[tuple[str, str]]:
    """Return type and name of each event of an operation, in order."""
    others = ("InvocationCompleted", "Execution")
    return [
        (event["EventType"], event.get("Name", ""))
        for event in execution.history()
        if not event["EventType"].startswith(others)
    ]
