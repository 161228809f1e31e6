"""Whether the tasks of a run await anything but durable calls.

asyncio keeps what a task awaits in `_fut_waiter`; it is read, never touched. What asyncio's own
`gather`, `TaskGroup` and `wait` await is followed to the tasks behind it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from enum import Enum, auto
from typing import Any


class ClaimFuture(asyncio.Future[Any]):
    """Awaited by a durable call that cannot go on by itself."""


class WrittenFuture(asyncio.Future[Any]):
    """Awaited while something is written; shared, so cancelling one waiter leaves it be."""

    def cancel(self, msg: Any = None) -> bool:
        """Refuse: the write goes on, and the cancelled task hears of it right after."""
        return False


class Stillness(Enum):
    """What the tasks of a run are doing."""

    RUNNING = auto()
    """At least one is about to run."""
    STRANGE = auto()
    """At least one awaits something that is not a durable call."""
    STILL = auto()
    """Each awaits a durable call, or a task that does."""


def stillness(tasks: set[asyncio.Task[Any]]) -> Stillness:
    """Return what these tasks, all those of one run, are doing."""
    strange = False
    for task in tasks:
        if task.done():
            continue
        waiter = getattr(task, "_fut_waiter", None)
        if waiter is None or waiter.done():
            return Stillness.RUNNING
        if not _is_durable(waiter, task, tasks):
            strange = True
    return Stillness.STRANGE if strange else Stillness.STILL


def _is_durable(waiter: Any, task: asyncio.Task[Any], tasks: set[asyncio.Task[Any]]) -> bool:
    if isinstance(waiter, ClaimFuture | WrittenFuture) or waiter in tasks:
        return True
    children = getattr(waiter, "_children", None)
    if children is not None:
        return all(_settled(child, task, tasks) for child in children)
    return _in_asyncio(task, tasks)


def _settled(child: Any, task: asyncio.Task[Any], tasks: set[asyncio.Task[Any]]) -> bool:
    return child.done() or _is_durable(child, task, tasks)


def _in_asyncio(task: asyncio.Task[Any], tasks: set[asyncio.Task[Any]]) -> bool:
    """Return whether a task stands in `TaskGroup.__aexit__` or `asyncio.wait`."""
    coroutine: Any = task.get_coro()
    while (inner := getattr(coroutine, "cr_await", None)) is not None and hasattr(inner, "cr_code"):
        coroutine = inner
    frame = getattr(coroutine, "cr_frame", None)
    if frame is None or frame.f_globals.get("__name__") not in _WAITERS:
        return False
    names = frame.f_locals
    if names.get("timeout_handle") is not None:
        return False
    group = names.get("self")
    waited: Iterable[Any] | None = getattr(group, "_tasks", None)
    if waited is None:
        waited = names.get("fs")
    return waited is not None and all(_settled(each, task, tasks) for each in set(waited))


_WAITERS = ("asyncio.taskgroups", "asyncio.tasks")
