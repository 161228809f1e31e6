"""The outside world of a requirement: who completes, fails or heartbeats its callbacks."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Event = Mapping[str, Any]
ENDS = ("CallbackSucceeded", "CallbackFailed", "CallbackTimedOut")


@dataclass(frozen=True, slots=True)
class Planned:
    """An action for one callback, due at a time of the manual clock (in ms), or of the day."""

    due: int
    callback: str
    action: Mapping[str, Any]


class Engine(Protocol):
    """What completes callbacks, the same on both engines."""

    def complete_callback(self, callback_id: str, *, payload: str | None = None) -> None: ...

    def fail_callback(self, callback_id: str, message: str, error_type: str | None) -> None: ...

    def heartbeat_callback(self, callback_id: str) -> None: ...


class OutsideWorld:
    """Gives each open callback the first unused action of its name, after the action's delay.

    A heartbeat leaves the callback open, so that it takes another action after it.
    """

    def __init__(self, actions: Sequence[Mapping[str, Any]]) -> None:
        self._unused = list(actions)
        self._planned: list[Planned] = []

    def act(self, engine: Engine, events: Sequence[Event], now: int) -> bool:
        """Plan for callbacks that are new, do what is due; say whether anything was done."""
        self._plan(events, now)
        due = [planned for planned in self._planned if planned.due <= now]
        self._planned = [planned for planned in self._planned if planned.due > now]
        for planned in due:
            _perform(engine, planned)
        return bool(due)

    def _plan(self, events: Sequence[Event], now: int) -> None:
        served = {planned.callback for planned in self._planned}
        for callback, name in _open_callbacks(events):
            if callback in served:
                continue
            for action in self._unused:
                if _named(action["CallbackName"], name):
                    self._unused.remove(action)
                    due = now + int(action.get("Delay", 0) * 1000)
                    self._planned.append(Planned(due, callback, action))
                    break


def _open_callbacks(events: Sequence[Event]) -> list[tuple[str, str | None]]:
    """Return id and name of each; inside a wait-for-callback the parent's name counts."""
    ended = {event["Id"] for event in events if event["EventType"] in ENDS}
    parents = {
        event["Id"]: event.get("Name")
        for event in events
        if event["EventType"] == "ContextStarted" and event["SubType"] == "WaitForCallback"
    }
    return [
        (
            event["CallbackStartedDetails"]["CallbackId"],
            parents.get(event.get("ParentId"), event.get("Name")),
        )
        for event in events
        if event["EventType"] == "CallbackStarted" and event["Id"] not in ended
    ]


def _named(pattern: str, name: str | None) -> bool:
    if pattern == "*":
        return True
    if pattern.startswith("/") and pattern.endswith("/"):
        return name is not None and re.search(pattern[1:-1], name) is not None
    return pattern == name


def _perform(engine: Engine, planned: Planned) -> None:
    payload = planned.action.get("Payload")
    match planned.action["Operation"]:
        case "heartbeat":
            engine.heartbeat_callback(planned.callback)
        case "failure":
            message, kind = payload["ErrorMessage"], payload["ErrorType"]
            engine.fail_callback(planned.callback, message, kind)
        case "success" if "Payload" in planned.action:
            engine.complete_callback(planned.callback, payload=json.dumps(payload))
        case "success":
            engine.complete_callback(planned.callback)
        case other:
            raise NotImplementedError(f"the runner does not know the operation {other!r}")
