"""What AWS's local runner leaves out of its history, taken off what a requirement expects of it.

The service's API model has all of it, and the embedded engine is judged on all of it. Each omission
is shown by a minimal case in `test_waivers.py`, which fails on the day the runner leaves out less.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from .judge import CRASHES
from .requirements import Requirement

LEFT_OUT = {
    ("InvocationCompleted", "InvocationCompletedDetails"): None,
    ("StepSucceeded", "StepSucceededDetails"): ("RetryDetails",),
    ("CallbackStarted", "CallbackStartedDetails"): ("Timeout", "HeartbeatTimeout"),
}
"""By type of event and key: the keys inside it that are not there, or None if it is not there."""


def under_the_runner(requirement: Requirement) -> Requirement:
    """Return the requirement without what the runner never tells.

    It records nothing of an invocation whose process died, so the events after that one have lower
    numbers.
    """
    events = [_waived(event) for event in requirement.history]
    if requirement.id in CRASHES:
        died = next(at for at, event in enumerate(events) if _is_completion(event))
        events = events[:died] + list(_renumbered(events[died + 1 :]))
    return replace(requirement, history=events)


def _is_completion(event: dict[str, Any]) -> bool:
    return bool(event["EventType"] == "InvocationCompleted")


def _renumbered(events: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    return ({**event, "EventId": event["EventId"] - 1} for event in events)


def _waived(event: dict[str, Any]) -> dict[str, Any]:
    kept = {}
    for key, value in event.items():
        inside = LEFT_OUT.get((event["EventType"], key), ())
        if inside is None:
            continue
        if isinstance(value, dict):
            value = {name: each for name, each in value.items() if name not in inside}
        kept[key] = value
    return kept
