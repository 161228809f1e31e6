"""Handlers of the wait suite."""

from perdure.durable import Context, Duration

from .registry import requirement


@requirement("2-1")
def wait(event: None, context: Context) -> None:
    context.sleep(2)


@requirement("2-2")
def named_wait(event: None, context: Context) -> None:
    context.sleep(2, name="custom_wait_name")


@requirement("2-3")
def two_waits(event: None, context: Context) -> dict[str, int]:
    context.sleep(2, name="wait-1")
    context.sleep(2, name="wait-2")
    return {"completedWaits": 2}


@requirement("2-4")
def a_minute(event: None, context: Context) -> None:
    context.sleep(Duration.from_minutes(1))


@requirement("2-5")
def an_hour(event: None, context: Context) -> None:
    context.sleep(Duration.from_hours(1))
