"""One handler body for both worlds: written with `await`, run as a sync and as an async handler."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from perdure.durable import Context, durable_execution

Body = Callable[[Any, Any], Coroutine[Any, Any, Any]]
_AWAITED = ("step", "wait", "sleep", "wait_for_callback", "wait_for_condition")
_AWAITED += ("invoke", "now", "patched")


def durable(kind: str, body: Body, **options: Any) -> Any:
    """Return the handler of this kind, "sync" or "async", whose body this is."""
    options.setdefault("name", body.__name__)
    if kind == "async":
        return durable_execution(**options)(body)

    def handler(event: Any, context: Context) -> Any:
        return finished(body(event, Awaited(context)))

    return durable_execution(**options)(handler)


def finished(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that never really awaits, and return what it returns."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("a body for both worlds awaits durable calls only")


class Awaited:
    """A sync context with the face of an async one."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._context, name)
        if name not in _AWAITED:
            return value

        async def call(*args: Any, **kwargs: Any) -> Any:
            return value(*args, **kwargs)

        return call

    async def callback(self, *args: Any, **kwargs: Any) -> Any:
        opened = self._context.callback(*args, **kwargs)

        class Opened:
            id = opened.id

            async def result(self) -> Any:
                return opened.result()

        return Opened()

    async def child(self, name: str, fn: Any, **kwargs: Any) -> Any:
        return self._context.child(name, _plain(fn), **kwargs)

    async def map(self, name: str, items: Any, fn: Any, *args: Any, **kwargs: Any) -> Any:
        return self._context.map(name, items, _plain(fn), *args, **kwargs)

    async def parallel(self, name: str, branches: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(branches, Mapping):
            plain: Any = {key: _plain(fn) for key, fn in branches.items()}
        else:
            plain = [_plain(fn) for fn in branches]
        return self._context.parallel(name, plain, *args, **kwargs)

    async def gather(self, *calls: Any) -> list[Any]:
        return [await call for call in calls]


def inner(context: Any) -> Any:
    """Return the context itself, as floors above are given it."""
    return context._context if isinstance(context, Awaited) else context


def _plain(fn: Any) -> Any:
    if not callable(fn):
        return fn

    @functools.wraps(fn)
    def plain(context: Context, *args: Any) -> Any:
        return finished(fn(Awaited(context), *args))

    return plain


async def gather(context: Any, *calls: Any) -> list[Any]:
    """Await calls side by side where that can be, else in turn."""
    if isinstance(context, Awaited):
        return await context.gather(*calls)
    return list(await asyncio.gather(*calls))
