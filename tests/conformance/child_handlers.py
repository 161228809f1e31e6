"""Handlers of the child suite."""

from typing import Any

from perdure.durable import ChildError, Context

from .dying import die_once
from .registry import requirement
from .step_handlers import UpperCase, every_second, fail, flaky


def one_step(value: Any) -> Any:
    """Return a child's function with one step that returns the value."""
    return lambda child: child.step("echo", lambda: value)


@requirement("3-1")
def child(event: str, context: Context) -> str:
    return context.child("child", one_step(event))


@requirement("3-2")
def named_child(event: dict[str, str], context: Context) -> str:
    return context.child(event["name"], one_step(event["value"]))


@requirement("3-3")
def two_steps_inside(event: str, context: Context) -> str:
    def body(child: Context) -> str:
        first = child.step("first", lambda: event)
        return child.step("second", lambda: first)

    return context.child("child", body)


@requirement("3-4")
def failure_inside(event: None, context: Context) -> None:
    context.child("child", lambda child: child.step("fail", fail))


@requirement("3-5")
def failure_inside_caught(event: str, context: Context) -> str:
    try:
        context.child("child", lambda child: child.step("fail", fail))
    except ChildError:
        recovered = event
    return context.step("recover", lambda: recovered)


@requirement("3-6")
def child_in_child(event: str, context: Context) -> str:
    def outer(child: Context) -> str:
        value = child.step("outer_step", lambda: event)
        return child.child("inner", one_step(value))

    return context.child("outer", outer)


@requirement("3-7")
def retry_inside(event: str, context: Context) -> str:
    def body(child: Context) -> str:
        return child.step("flaky", flaky, 1, event, retry=every_second(2))

    return context.child("child", body)


@requirement("3-8")
def retries_exhausted_inside(event: None, context: Context) -> None:
    context.child("child", lambda child: child.step("fail", fail, retry=every_second(2)))


@requirement("3-9")
def child_then_wait(event: str, context: Context) -> str:
    result = context.child("child", one_step(event))
    context.sleep(1)
    return result


@requirement("3-10")
def step_and_wait_inside(event: str, context: Context) -> str:
    def body(child: Context) -> str:
        result = child.step("echo", lambda: event)
        child.sleep(1)
        return result

    return context.child("child", body)


@requirement("3-11")
def large_child(event: str, context: Context) -> int:
    copies = 300 * 1024 // len(event)

    def body(child: Context) -> str:
        child.logger.replay = True
        child.logger.info(event)
        return child.step("small", lambda: event) * copies

    large = context.child("child", body)
    context.sleep(1)
    if large != event * copies:
        raise AssertionError("the child's result was not rebuilt")
    return len(large)


@requirement("3-12")
def crash_inside(event: str, context: Context) -> str:
    def body() -> str:
        die_once()
        return event

    return context.child("child", lambda child: child.step("crash", body))


@requirement("3-13")
def wait_inside_step_after(event: str, context: Context) -> str:
    def body(child: Context) -> str:
        child.sleep(1)
        return event

    result = context.child("child", body)
    return context.step("after", lambda: result)


@requirement("3-14")
def child_serdes(event: str, context: Context) -> str:
    return context.child("child", one_step(event), serdes=UpperCase())


@requirement("3-15")
def body_raises(event: None, context: Context) -> None:
    context.child("child", lambda child: fail())


@requirement("3-16")
def null_child(event: None, context: Context) -> None:
    return context.child("child", lambda child: None)


@requirement("3-17")
def child_that_only_logs(event: str, context: Context) -> str:
    def body(child: Context) -> str:
        child.logger.replay = True
        child.logger.info(event)
        return event

    result = context.child("child", body)
    context.sleep(1)
    return result


@requirement("3-18")
def step_and_wait_inside_and_after(event: str, context: Context) -> str:
    def body(child: Context) -> str:
        result = child.step("inner", lambda: event)
        child.sleep(1)
        return result

    inner = context.child("child", body)
    outer = context.step("outer", lambda: inner)
    context.sleep(1)
    return outer
