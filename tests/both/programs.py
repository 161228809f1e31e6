"""Handlers that have to fare alike on both engines, and what the world outside does to each.

Each body is written once, with `await`, and is run as a sync and as an async handler.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from pydantic import BaseModel

from perdure.durable import (
    BatchError,
    CallbackError,
    Completion,
    ConditionTimeoutError,
    Context,
    OperationError,
    RetryPolicy,
    current_step,
    durable_execution,
)

from ..durable.both import gather
from .stages import Act

AGAIN = RetryPolicy(max_attempts=3, initial_delay=1, backoff_rate=1, jitter="none")


@dataclass(frozen=True)
class Program:
    """A body, its event, and what is done to its runs.

    Attributes:
        gives: the result.
        raises: or else the error's type, and how its message begins.
        own: names of operations whose payload is a run's own, such as the time.
    """

    body: Any
    event: Any = None
    act: Act | None = None
    gives: Any = None
    raises: tuple[str, str] | None = None
    own: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ("sync", "async")
    hold_on_failure: bool = False


PROGRAMS: dict[str, Program] = {}


def program(**about: Any) -> Any:
    def register(body: Any) -> Any:
        PROGRAMS[body.__name__] = Program(body, **about)
        return body

    return register


class Invoice(BaseModel):
    number: int
    total: Decimal


@dataclass
class Line:
    text: str
    when: datetime


VALUES = [
    Invoice(number=7, total=Decimal("1.50")),
    Line("x", datetime(2026, 3, 1, tzinfo=UTC)),
    (1, {"a", "b"}, b"\x00"),
]


def double(value: int) -> int:
    return value * 2


def flaky(failures: int) -> str:
    attempt = current_step().attempt
    if attempt <= failures:
        raise TimeoutError(f"attempt {attempt}")
    return f"done at attempt {attempt}"


def fail(text: str = "broken") -> None:
    raise LookupError(text)


def odd_fails(value: int) -> int:
    return fail(f"{value} is odd") or 0 if value % 2 else value


@program(event={"n": 3}, gives={"first": 6, "second": [6, "grüße ☃", None, 1.5]})
async def steps(event: Any, context: Any) -> Any:
    first = await context.step("first", double, event["n"])
    second = await context.step("second", lambda: [first, "grüße ☃", None, 1.5])
    return {"first": first, "second": second}


@program(gives=[0, 2, 4])
async def a_name_twice(event: Any, context: Any) -> Any:
    return [await context.step("again", double, n) for n in range(3)]


@program(gives=8)
async def at_most_once(event: Any, context: Any) -> Any:
    return await context.step("pay", double, 4, semantics="at_most_once")


@program(gives=VALUES)
async def values(event: Any, context: Any) -> Any:
    kept = [await context.step(f"value-{n}", VALUES.__getitem__, n) for n in range(3)]
    await context.sleep(1)
    return kept


@program(gives="done at attempt 3")
async def retried(event: Any, context: Any) -> Any:
    return await context.step("flaky", flaky, 2, retry=AGAIN)


@program(gives=["TimeoutError", "attempt 3"])
async def retried_in_vain(event: Any, context: Any) -> Any:
    try:
        await context.step("flaky", flaky, 9, retry=AGAIN)
    except OperationError as error:
        return [error.error_type, error.error.message]


@program(raises=("LookupError", "broken"))
async def fails(event: Any, context: Any) -> Any:
    await context.step("before", double, 1)
    await context.step("fail", fail)


@program(raises=("KeyError", "'no such thing'"))
async def raises(event: Any, context: Any) -> Any:
    await context.step("before", double, 1)
    raise KeyError("no such thing")


@program(raises=("perdure.SerializationError", "step 'open'"))
async def unkept(event: Any, context: Any) -> Any:
    await context.step("open", lambda: open)


@program(gives="slept")
async def sleeps(event: Any, context: Any) -> Any:
    await context.sleep(1)
    await context.step("between", double, 1)
    await context.sleep(1, name="again")
    return "slept"


@program(act=lambda run: run.send("approval", {"yes": True}), gives={"yes": True})
async def a_named_wait_that_is_sent_to(event: Any, context: Any) -> Any:
    return await context.wait(50, name="approval")


@program(act=lambda run: run.send("go"), gives=True)
async def a_named_wait_without_payload(event: Any, context: Any) -> Any:
    return await context.wait(50, name="go")


@program()
async def a_named_wait_whose_time_is_up(event: Any, context: Any) -> Any:
    return await context.wait(1, name="approval")


@program(act=lambda run: run.send("answer", 42), gives=42)
async def callback(event: Any, context: Any) -> Any:
    opened = await context.callback("answer", timeout=50)
    assert opened.id
    return await opened.result()


@program(act=lambda run: run.fail("answer", "refused", "Refusal"), gives=["Refusal", "refused"])
async def callback_failed(event: Any, context: Any) -> Any:
    try:
        await context.wait_for_callback("answer", lambda id: None, timeout=50)
    except CallbackError as error:
        return [error.error_type, error.error.message]


@program(gives="Callback.Timeout")
async def callback_timed_out(event: Any, context: Any) -> Any:
    try:
        await context.wait_for_callback("answer", lambda id: None, timeout=1)
    except CallbackError as error:
        return error.error_type


@program(act=lambda run: run.beat("answer"), gives="Callback.Heartbeat")
async def callback_missed_a_heartbeat(event: Any, context: Any) -> Any:
    try:
        await (await context.callback("answer", heartbeat=2)).result()
    except CallbackError as error:
        return error.error_type


@program(gives=3)
async def condition(event: Any, context: Any) -> Any:
    return await context.wait_for_condition("count", lambda n: n + 1, 0, lambda n: n == 3, every=1)


@program(gives="perdure.ConditionTimeout")
async def condition_never_met(event: Any, context: Any) -> Any:
    try:
        await context.wait_for_condition(
            "count", lambda n: n + 1, 0, lambda n: False, every=1, timeout=2
        )
    except ConditionTimeoutError as error:
        return error.error_type


@program(gives=[[2, 10], 4])
async def children(event: Any, context: Any) -> Any:
    async def inner(child: Any) -> Any:
        return await child.step("deepest", double, 5)

    async def outer(child: Any) -> Any:
        await child.sleep(1)
        return [await child.step("in", double, 1), await child.child("inner", inner)]

    return [await context.child("outer", outer), await context.step("in", double, 2)]


@program(gives=["LookupError", "broken"])
async def a_child_that_fails(event: Any, context: Any) -> Any:
    async def broken(child: Any) -> Any:
        await child.step("before", double, 1)
        await child.step("fail", fail)

    try:
        await context.child("broken", broken)
    except OperationError as error:
        return [error.error_type, error.error.message]


@program(event=[1, 2, 3], gives=[4, 8, 12])
async def nested_map(event: Any, context: Any) -> Any:
    async def one(branch: Any, item: int, index: int) -> Any:
        doubled = await branch.step("double", double, item)
        if index == 1:
            await branch.sleep(1)
        return await branch.step("again", double, doubled)

    return list(await context.map("items", event, one, 2))


@program(event=[1, 2, 3], gives=[4, 8, 12])
async def flat_map(event: Any, context: Any) -> Any:
    async def one(branch: Any, item: int) -> Any:
        doubled = await branch.step("double", double, item)
        await branch.sleep(1)
        return await branch.step("again", double, doubled)

    return list(await context.map("items", event, one, nesting="flat"))


@program(gives=[[0, 2], [20, 22]])
async def maps_in_maps(event: Any, context: Any) -> Any:
    async def cell(branch: Any, item: int) -> Any:
        return await branch.step("cell", double, item)

    async def row(branch: Any, item: int) -> Any:
        return list(await branch.map("row", [item, item + 1], cell))

    return list(await context.map("rows", [0, 10], row))


@program(gives=[[0, 2], ["1 is odd", "3 is odd"], "ALL_COMPLETED"])
async def a_map_that_tolerates(event: Any, context: Any) -> Any:
    async def one(branch: Any, item: int) -> Any:
        return await branch.step("odd", odd_fails, item)

    tolerant = Completion(max_failures=2)
    result = await context.map("items", range(4), one, completion=tolerant)
    return [list(result), [each.error.message for each in result.failures], result.reason]


@program(gives=["FAILURE_TOLERANCE_EXCEEDED", 1, 1, 2])
async def a_map_that_fails_fast(event: Any, context: Any) -> Any:
    async def one(branch: Any, item: int) -> Any:
        return await branch.step("odd", odd_fails, item)

    try:
        await context.map("items", range(4), one, 1)
    except BatchError as error:
        result = error.result
    await context.sleep(1)
    return [result.reason, result.success_count, result.failure_count, result.total_count]


@program(gives=[])
async def a_map_of_nothing(event: Any, context: Any) -> Any:
    return list(await context.map("items", [], lambda branch, item: item))


@program(act=lambda run: run.send("first", "a"), gives=["MIN_SUCCESSFUL_REACHED", 1])
async def a_race(event: Any, context: Any) -> Any:
    async def first(branch: Any) -> Any:
        return await branch.wait(50, name="first")

    async def second(branch: Any) -> Any:
        return await branch.wait(50, name="second")

    winner = Completion(min_successful=1)
    result = await context.parallel("race", {"a": first, "b": second}, completion=winner)
    return [result.reason, result.success_count]


@program(gives=[2, "done at attempt 2"])
async def branches(event: Any, context: Any) -> Any:
    async def left(branch: Any) -> Any:
        await branch.sleep(1)
        return await branch.step("left", double, 1)

    async def right(branch: Any) -> Any:
        return await branch.step("right", flaky, 1, retry=AGAIN)

    return list(await context.parallel("both", [left, right]))


@program(gives=[2, None, "done at attempt 2"], kinds=("async",))
async def side_by_side(event: Any, context: Any) -> Any:
    return await gather(
        context,
        context.step("one", double, 1),
        context.sleep(1, name="nap"),
        context.step("two", flaky, 1, retry=AGAIN),
    )


@program(event={"n": 4}, gives=8)
async def invokes(event: Any, context: Any) -> Any:
    return await context.invoke("other", "callee", event)


@program(event={"n": "not a number"}, gives="TypeError")
async def invokes_what_fails(event: Any, context: Any) -> Any:
    try:
        await context.invoke("other", "callee", event)
    except OperationError as error:
        return error.error_type


@program(gives=[True, True, 2])
async def patched(event: Any, context: Any) -> Any:
    new = await context.patched("by-post")
    await context.sleep(1)
    return [new, await context.patched("by-post"), await context.step("after", double, 1)]


@program(own=("now",), gives=[2, True, True])
async def what_is_a_runs_own(event: Any, context: Any) -> Any:
    before = [context.uuid(), context.random()]
    now = await context.now()
    await context.sleep(1)
    kept = await context.step("kept", lambda: len(before))
    return [kept, isinstance(now, datetime), before[0] != context.uuid()]


@program(gives=300 * 1024)
async def a_large_child(event: Any, context: Any) -> Any:
    async def large(child: Any) -> Any:
        return await child.step("small", lambda: "x") * (300 * 1024)

    text = await context.child("large", large)
    await context.sleep(1)
    return len(text)


@program(act=lambda run: run.resume(), gives="mended", hold_on_failure=True)
async def held(event: Any, context: Any) -> Any:
    await context.step("before", double, 1)
    return await context.step("mended", flaky_once_a_run)


class Shout:
    """Keeps a text in capitals."""

    def dumps(self, value: str) -> str:
        return value.upper()

    def loads(self, text: str) -> str:
        return text


@program(gives=["A", "B", ["C"]])
async def serializers(event: Any, context: Any) -> Any:
    async def inner(child: Any) -> Any:
        return await child.step("b", lambda: "b", serdes=Shout())

    async def item(branch: Any, text: str) -> Any:
        return await branch.step("c", lambda: text)

    step = await context.step("a", lambda: "a", serdes=Shout())
    child = await context.child("inner", inner, serdes=Shout())
    items = list(await context.map("items", ["c"], item, item_serdes=Shout()))
    await context.sleep(1)
    return [step, child, items]


@program(gives=["slept", "done at attempt 2", 2])
async def parts_of_a_second(event: Any, context: Any) -> Any:
    await context.sleep(0.2)
    quick = RetryPolicy(max_attempts=2, initial_delay=0.1, jitter="none")
    retried = await context.step("retried", flaky, 1, retry=quick)
    polled = await context.wait_for_condition(
        "polled", lambda n: n + 1, 0, lambda n: n == 2, every=0.3
    )
    await context.wait(0.4, name="event")
    return ["slept", retried, polled]


@program(raises=("perdure.UsageError", ""))
async def a_sleep_longer_than_a_year(event: Any, context: Any) -> Any:
    await context.sleep(400 * 86_400)


@program(gives=["perdure.PayloadTooLargeError", "small"])
async def a_step_result_that_is_too_large(event: Any, context: Any) -> Any:
    try:
        await context.step("large", lambda: "x" * (2 * 1024 * 1024))
    except OperationError as error:
        return [error.error_type, await context.step("small", lambda: "small")]


@program(gives="é" * 1_000_000)
async def a_large_result(event: Any, context: Any) -> Any:
    await context.sleep(1)
    return "é" * 1_000_000


@program(raises=("LookupError", "grüße ☃"))
async def an_error_in_many_words(event: Any, context: Any) -> Any:
    await context.step("fail", fail, "grüße ☃ " * 300)


@program(raises=("tests.both.programs.Own", "because"))
async def an_error_of_ones_own(event: Any, context: Any) -> Any:
    try:
        await context.step("fail", fail)
    except OperationError as error:
        raise Own("because") from error


class Own(Exception):
    """An error of a handler's own."""


@program(raises=("ExceptionGroup", "several"))
async def a_group_of_errors(event: Any, context: Any) -> Any:
    raise ExceptionGroup("several", [KeyError("one"), ValueError("two")])


@program(raises=("perdure.SerializationError", ""))
async def a_result_that_cannot_be_kept(event: Any, context: Any) -> Any:
    return open


@program(raises=("perdure.UsageError", ""))
async def a_name_that_is_none(event: Any, context: Any) -> Any:
    await context.step("grüße", double, 1)


@program(raises=("perdure.NonDeterminismError", ""), kinds=("async",))
async def a_name_for_two_tasks(event: Any, context: Any) -> Any:
    async def task() -> Any:
        return await context.step("same", double, 1)

    return await gather(context, asyncio.create_task(task()), asyncio.create_task(task()))


@program(gives=["ALL_COMPLETED", 3])
async def at_most_once_in_branches(event: Any, context: Any) -> Any:
    async def one(branch: Any, item: int) -> Any:
        return await branch.step("pay", double, item, semantics="at_most_once", retry=AGAIN)

    result = await context.map("items", range(3), one, completion=Completion(max_failures=1))
    return [result.reason, result.success_count]


@program(gives=["FAILURE_TOLERANCE_EXCEEDED", 0, 1])
async def branches_that_are_dropped(event: Any, context: Any) -> Any:
    async def waits(branch: Any) -> Any:
        return await branch.wait(50, name="never")

    async def breaks(branch: Any) -> Any:
        await branch.sleep(1)
        await branch.step("fail", fail)

    try:
        await context.parallel("both", {"waits": waits, "breaks": breaks})
    except BatchError as error:
        result = error.result
    await context.step("after", double, 1)
    return [result.reason, result.success_count, result.failure_count]


@program(event=None, gives=None)
async def nothing(event: Any, context: Any) -> Any:
    assert event is None


RUNS: set[str] = set()


def flaky_once_a_run() -> str:
    run = current_step().execution_id
    if run not in RUNS:
        RUNS.add(run)
        raise ConnectionError("not yet")
    return "mended"


@durable_execution(name="callee")
def callee(event: dict[str, int], context: Context) -> int:
    return context.step("twice", double, event["n"] + 0)
