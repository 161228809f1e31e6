"""Handlers whose processes are killed.

A step's body appends a line as it begins: run, key, attempt, process and name.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

from perdure.durable import AsyncContext, Context, current_step, durable_execution

SIDE = "PERDURE_TEST_SIDE"
AGAIN = {"max_attempts": 3, "initial_delay": 1, "backoff_rate": 1}
INTERRUPTED = {"max_attempts": 100, "initial_delay": 1, "backoff_rate": 1}
CALLEE = "small"


def note() -> None:
    step = current_step()
    words = [step.execution_id, step.idempotency_key, str(step.attempt), str(os.getpid())]
    append("BEGAN", *words, step.name)


def append(*words: str) -> None:
    """Append one line to the side file, whole or not at all."""
    file = os.open(os.environ[SIDE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, (" ".join(words) + "\n").encode())
    finally:
        os.close(file)


def work(value: int) -> int:
    note()
    time.sleep(0.01)
    return value * 2


async def work_async(value: int) -> int:
    note()
    await asyncio.sleep(0.01)
    return value * 2


def slow(value: int) -> int:
    note()
    time.sleep(0.3)
    return value + 1


def flaky(value: int) -> int:
    note()
    time.sleep(0.01)
    if current_step().attempt < 3:
        raise ConnectionError(f"attempt {current_step().attempt}")
    return value + 100


def submit(_: str) -> None:
    note()


def poll(state: int) -> int:
    note()
    return state + 1


@durable_execution(name="everything-sync")
def everything(n: int, context: Context) -> Any:
    first = context.step("first", work, n)

    def branch(inside: Context, item: int, index: int) -> int:
        doubled = inside.step("double", work, item)
        if index == 0:
            inside.sleep(1)
        if index == 1:
            doubled += inside.step("flaky", flaky, item, retry=AGAIN)
        if index == 2:
            doubled += inside.wait_for_callback("ask", submit, timeout=100)
        inner = inside.map("inner", [1, 2], lambda c, i: c.step("add", work, i + item))
        return doubled + sum(inner)

    nested = context.map("nested", [n, n + 1, n + 2], branch)
    flat = context.map("flat", range(3), lambda c, i: c.step("square", work, i), nesting="flat")
    once = context.step("once", slow, n, semantics="at_most_once", retry=INTERRUPTED)
    waits = context.parallel(
        "waits",
        {
            "go": lambda c: c.wait(100, name="go"),
            "approval": lambda c: c.wait_for_callback("approval", submit, timeout=100),
            "other": lambda c: c.invoke("other", CALLEE, n),
            "polled": lambda c: c.wait_for_condition("polled", poll, 0, lambda s: s > 1, every=1),
        },
    )
    paid = context.step("paid", work, 5, semantics="at_most_once", retry=INTERRUPTED)
    child = context.child("child", lambda c: c.step("in", slow, 7) + c.step("more", work, 8))
    last = context.step("last", work, first)
    return [first, list(nested), list(flat), once, list(waits), paid, child, last]


@durable_execution(name="everything-async")
async def everything_async(n: int, context: AsyncContext) -> Any:
    first = await context.step("first", work_async, n)

    async def add(c: AsyncContext, value: int) -> int:
        return await c.step("add", work_async, value)

    async def square(c: AsyncContext, value: int) -> int:
        return await c.step("square", work, value)

    async def branch(inside: AsyncContext, item: int, index: int) -> int:
        doubled: int = await inside.step("double", work_async, item)
        if index == 0:
            await inside.sleep(1)
        if index == 1:
            doubled += await inside.step("flaky", flaky, item, retry=AGAIN)
        if index == 2:
            doubled += await inside.wait_for_callback("ask", submit, timeout=100)
        return doubled + sum(await inside.map("inner", [item + 1, item + 2], add))

    async def both(c: AsyncContext) -> int:
        return await c.step("in", slow, 7) + await c.step("more", work_async, 8)

    nested = await context.map("nested", [n, n + 1, n + 2], branch)
    flat = await context.map("flat", range(3), square, nesting="flat")
    once = await context.step("once", slow, n, semantics="at_most_once", retry=INTERRUPTED)
    waits = await asyncio.gather(
        context.wait(100, name="go"),
        context.wait_for_callback("approval", submit, timeout=100),
        context.invoke("other", CALLEE, n),
        context.wait_for_condition("polled", poll, 0, lambda s: s > 1, every=1),
    )
    paid = await context.step("paid", work, 5, semantics="at_most_once", retry=INTERRUPTED)
    child = await context.child("child", both)
    last = await context.step("last", work_async, first)
    return [first, list(nested), list(flat), once, list(waits), paid, child, last]


@durable_execution(name=CALLEE)
def small(n: int, context: Context) -> int:
    return context.step("small", work, n)


AT_MOST_ONCE = ("once", "paid")
HANDLERS = {each.name: each for each in (everything, everything_async, small)}
