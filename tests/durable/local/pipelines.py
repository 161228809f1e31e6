"""The handlers that worker processes run; see `processes.py` for the lines they leave."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from typing import Any

from perdure.durable import AsyncContext, Context, current_step, durable_execution

processes = sys.modules.get("processes") or sys.modules["perdure_tests_local_processes"]
note, exists = processes.note, processes.exists

AGAIN = {"max_attempts": 4, "initial_delay": 0.01, "backoff_rate": 1}
INTERRUPTED = {"max_attempts": 1000, "initial_delay": 0.01, "backoff_rate": 1}


def work(value: int) -> int:
    note()
    time.sleep(0.002)
    return value * 2


async def work_async(value: int) -> int:
    note()
    await asyncio.sleep(0.002)
    return value * 2


def flaky(value: int) -> int:
    note()
    time.sleep(0.001)
    if current_step().attempt < 3:
        raise ConnectionError(f"attempt {current_step().attempt}")
    return value + 100


def submit(_: str) -> None:
    note()


def wait_for_file(name: str) -> str:
    note()
    while not exists(name):
        time.sleep(0.002)
    return "held"


async def wait_for_file_async(name: str) -> str:
    note()
    while not exists(name):
        await asyncio.sleep(0.002)
    return "held"


@durable_execution(name="everything.sync")
def everything(event: dict[str, int], context: Context) -> dict[str, Any]:
    n = event["n"]
    first = context.step("first", work, n)

    def branch(inside: Context, item: int, index: int) -> int:
        doubled = inside.step("double", work, item)
        inside.sleep(0.005)
        if index == 1:
            doubled += inside.step("flaky", flaky, item, retry=AGAIN)
        if index == 2:
            doubled += inside.wait_for_callback("ask", submit, timeout=60)
        return doubled + sum(
            inside.map("inner", [1, 2], lambda c, i: c.step("add", work, i + item))
        )

    nested = context.map("nested", [n + i for i in range(4)], branch, max_concurrency=3)
    flat = context.map("flat", range(3), lambda c, i: c.step("square", work, i * n), nesting="flat")
    context.sleep(0.01)
    retried = context.step("retried", flaky, n, retry=AGAIN)
    approval = context.wait_for_callback("approval", submit, timeout=60)
    go = context.wait(60, name="go")
    once = context.step("once", work, n, semantics="at_most_once", retry=INTERRUPTED)
    child = context.child("child", lambda c: c.step("in child", work, 7) + c.step("more", work, 8))
    invoked = context.invoke("other", "small", {"n": n})
    return {
        "first": first,
        "nested": list(nested),
        "flat": list(flat),
        "retried": retried,
        "approval": approval,
        "go": go,
        "once": once,
        "child": child,
        "invoked": invoked,
        "last": context.step("last", work, first),
    }


@durable_execution(name="everything.async")
async def everything_async(event: dict[str, int], context: AsyncContext) -> dict[str, Any]:
    n = event["n"]
    first = await context.step("first", work_async, n)

    async def branch(inside: AsyncContext, item: int, index: int) -> int:
        doubled: int = await inside.step("double", work_async, item)
        await inside.sleep(0.005)
        if index == 1:
            doubled += await inside.step("flaky", flaky, item, retry=AGAIN)
        if index == 2:
            doubled += await inside.wait_for_callback("ask", submit, timeout=60)

        async def inner(c: AsyncContext, i: int) -> int:
            return await c.step("add", work_async, i + item)

        return doubled + sum(await inside.map("inner", [1, 2], inner))

    async def square(c: AsyncContext, i: int) -> int:
        return await c.step("square", work, i * n)

    nested = await context.map("nested", [n + i for i in range(4)], branch, max_concurrency=3)
    flat = await context.map("flat", range(3), square, nesting="flat")
    together = await asyncio.gather(
        context.step("left", work_async, n),
        context.step("right", flaky, n, retry=AGAIN),
        context.sleep(0.01, name="nap"),
    )
    approval = await context.wait_for_callback("approval", submit, timeout=60)
    go = await context.wait(60, name="go")
    once = await context.step("once", work_async, n, semantics="at_most_once", retry=INTERRUPTED)
    invoked = await context.invoke("other", "small", {"n": n})
    return {
        "first": first,
        "nested": list(nested),
        "flat": list(flat),
        "together": together,
        "approval": approval,
        "go": go,
        "once": once,
        "invoked": invoked,
        "last": await context.step("last", work, first),
    }


@durable_execution(name="small")
def small(event: dict[str, int], context: Context) -> int:
    return context.step("small", work, event["n"])


@durable_execution(name="stages")
def stages(event: dict[str, int], context: Context) -> list[int]:
    results = []
    for number in range(4):
        results.append(context.step(f"stage-{number}", work, event["n"] + number))
        context.sleep(0.01)
    return results


@durable_execution(name="stages.async")
async def stages_async(event: dict[str, int], context: AsyncContext) -> list[int]:
    results = []
    for number in range(4):
        results.append(await context.step(f"stage-{number}", work_async, event["n"] + number))
        await context.sleep(0.01)
    return results


@durable_execution(name="held")
def held(event: dict[str, int], context: Context) -> list[Any]:
    return [
        context.step("before", work, 1),
        context.step("hold", wait_for_file, "open"),
        context.step("after", work, 2),
    ]


@durable_execution(name="held.async")
async def held_async(event: dict[str, int], context: AsyncContext) -> list[Any]:
    return [
        await context.step("before", work_async, 1),
        await context.step("hold", wait_for_file_async, "open"),
        await context.step("after", work_async, 2),
    ]


@durable_execution(name="asks")
def asks(event: dict[str, int], context: Context) -> Any:
    return context.wait_for_callback("approval", submit)


def deadly(delay: float) -> str:
    note()
    if exists("mended"):
        return "alive"
    time.sleep(delay)
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"


@durable_execution(name="deadly")
def deadly_sync(event: dict[str, float], context: Context) -> list[Any]:
    before = context.step("before", work, 1)
    return [before, context.step("deadly", deadly, event["delay"])]


@durable_execution(name="deadly.async")
async def deadly_async(event: dict[str, float], context: AsyncContext) -> list[Any]:
    before = await context.step("before", work, 1)
    return [before, await context.step("deadly", deadly, event["delay"])]


HANDLERS = [
    everything,
    everything_async,
    small,
    stages,
    stages_async,
    held,
    held_async,
    asks,
    deadly_sync,
    deadly_async,
]
