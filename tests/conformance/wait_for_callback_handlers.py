"""Handlers of the wait_for_callback suite."""

from typing import Any

from perdure.durable import CallbackError, Context

from .registry import requirement
from .step_handlers import every_second


def submit(callback_id: str) -> None:
    """Hand the id to nobody: the runner reads it from the history."""


def refuse(callback_id: str) -> None:
    raise ConnectionError("nobody takes the id")


@requirement("7-1")
def callback(event: str, context: Context) -> Any:
    return context.wait_for_callback(event, submit)


@requirement("7-2")
def named(event: None, context: Context) -> Any:
    return context.wait_for_callback("approval", submit)


@requirement("7-3")
def unnamed(event: None, context: Context) -> Any:
    return context.wait_for_callback("any", lambda callback_id: None)


@requirement("7-4")
def failure(event: str, context: Context) -> Any:
    return context.wait_for_callback(event, submit)


@requirement("7-5")
def timeout(event: str, context: Context) -> Any:
    return context.wait_for_callback(event, submit, timeout=3)


@requirement("7-6")
def failure_caught(event: str, context: Context) -> Any:
    try:
        return context.wait_for_callback(event, submit)
    except CallbackError as error:
        if error.error_type != "RejectedError":
            raise
        return "recovered"


@requirement("7-7")
def submitter_fails(event: str, context: Context) -> Any:
    return context.wait_for_callback(event, refuse, retry=every_second(2))


@requirement("7-8")
def inside_a_child(event: str, context: Context) -> Any:
    return context.child("wrapper", lambda child: child.wait_for_callback(event, submit))


@requirement("7-9")
def two_in_a_row(event: None, context: Context) -> Any:
    context.wait_for_callback("first", submit)
    return context.wait_for_callback("second", submit)


@requirement("7-10")
def after_wait_and_step(event: str, context: Context) -> Any:
    context.sleep(1)
    context.step("fixed", lambda: {"fixed": "data"})
    return context.wait_for_callback(event, submit)


@requirement("7-11")
def structured(event: str, context: Context) -> str:
    return context.wait_for_callback(event, submit)["status"]


@requirement("7-12")
def heartbeat_missed(event: str, context: Context) -> Any:
    return context.wait_for_callback(event, submit, heartbeat=5)


@requirement("7-13")
def heartbeat_sent(event: str, context: Context) -> Any:
    return context.wait_for_callback(event, submit, heartbeat=10)


@requirement("7-14")
def timeout_caught(event: str, context: Context) -> Any:
    try:
        return context.wait_for_callback(event, submit, timeout=3)
    except CallbackError as error:
        if error.error_type != "Callback.Timeout":
            raise
        return "timed-out-handled"


@requirement("7-15")
def empty_success(event: str, context: Context) -> Any:
    return context.wait_for_callback(event, submit)
