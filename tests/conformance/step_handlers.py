"""Handlers of the step suite."""

from typing import Any

from perdure.durable import Context, RetryPolicy, StepError, current_step

from .dying import die_once
from .registry import requirement


class TransientError(Exception):
    pass


class PermanentError(Exception):
    pass


class UpperCase:
    """Keeps a string in capitals."""

    def dumps(self, value: str) -> str:
        return value.upper()

    def loads(self, text: str) -> str:
        return text


def greet(name: str) -> str:
    return f"Hello, {name}!"


def fail() -> None:
    raise ValueError("this step always fails")


def flaky(failures: int, result: Any = "Operation succeeded") -> Any:
    """Fail the first attempts of a step, then return."""
    attempt = current_step().attempt
    if attempt <= failures:
        raise TransientError(f"attempt {attempt} fails")
    return result


def every_second(attempts: int, **options: Any) -> RetryPolicy:
    return RetryPolicy(
        max_attempts=attempts, initial_delay=1, backoff_rate=1, jitter="none", **options
    )


@requirement("1-1")
def one_step(event: str, context: Context) -> str:
    return context.step("greet", greet, event)


@requirement("1-2")
def named_step(event: str, context: Context) -> str:
    return context.step("custom_step_name", greet, event)


@requirement("1-3")
def dependent_steps(event: None, context: Context) -> str:
    first = context.step("one", lambda: "first")
    return context.step("two", lambda: f"{first}_second")


@requirement("1-4")
def nested_object(event: dict[str, Any], context: Context) -> dict[str, Any]:
    def build() -> dict[str, Any]:
        tags = event["tags"]
        return {"user": {"name": event["name"], "tags": tags}, "count": len(tags)}

    return context.step("build", build)


@requirement("1-5")
def null_result(event: None, context: Context) -> None:
    return context.step("nothing", lambda: None)


@requirement("1-6")
def step_serdes(event: str, context: Context) -> str:
    return context.step("echo", lambda: event, serdes=UpperCase())


@requirement("1-7")
def step_logger(event: str, context: Context) -> str:
    def greet_aloud() -> str:
        logger = current_step().logger
        logger.info(f"Greeting step started for: {event}")
        greeting = greet(event)
        logger.info(f"Greeting step completed with: {greeting}")
        return greeting

    return context.step("greet", greet_aloud)


@requirement("1-8")
def step_then_wait(event: None, context: Context) -> str:
    result = context.step("compute", lambda: "computed")
    context.sleep(2)
    return result


@requirement("1-9")
def replay_skips_a_step(event: None, context: Context) -> str:
    def body() -> str:
        current_step().logger.info("step executed")
        return "cached_value"

    result = context.step("compute", body)
    context.sleep(1)
    return result


@requirement("1-10")
def replay_raises_again(event: None, context: Context) -> str | None:
    caught = None
    try:
        context.step("fail", fail)
    except StepError as error:
        caught = error.error_type
    context.sleep(1)
    return caught


@requirement("1-11")
def retried_once(event: None, context: Context) -> str:
    return context.step("flaky", flaky, 1, retry=every_second(3))


@requirement("1-12")
def retries_exhausted(event: None, context: Context) -> None:
    context.step("fail", fail, retry=every_second(4))


@requirement("1-13")
def default_retry(event: None, context: Context) -> str:
    return context.step("flaky", flaky, 2, retry=RetryPolicy())


@requirement("1-14")
def backoff(event: None, context: Context) -> str:
    policy = RetryPolicy(max_attempts=5, initial_delay=2, backoff_rate=3, jitter="none")
    return context.step("flaky", flaky, 2, retry=policy)


@requirement("1-15")
def retry_by_type(event: None, context: Context) -> str:
    return context.step("flaky", flaky, 1, retry=every_second(3, retry_on=(TransientError,)))


@requirement("1-16")
def no_retry_by_type(event: None, context: Context) -> str:
    return context.step("flaky", flaky, 1, retry=every_second(3, retry_on=(PermanentError,)))


@requirement("1-17")
def interrupted(event: str, context: Context) -> None:
    def body() -> None:
        current_step().logger.info(event)
        die_once()

    context.step("at_most_once_flaky_step", body, semantics="at_most_once")


@requirement("1-18")
def interrupted_and_retried(event: str, context: Context) -> str:
    def body() -> str:
        current_step().logger.info(event)
        die_once()
        return "succeeded on second attempt"

    return context.step("flaky", body, semantics="at_most_once", retry=every_second(2))


@requirement("1-19")
def permanent_failure(event: None, context: Context) -> None:
    context.step("fail", fail)


@requirement("1-20")
def failure_caught(event: None, context: Context) -> str:
    try:
        return context.step("fail", fail)
    except StepError:
        fallback = "fallback_result"
    return context.step("fall_back", lambda: fallback)
