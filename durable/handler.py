"""The decorator that makes a function `(event, context)` a durable handler."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, overload

from .codec import Codec
from .duration import MAX_SECONDS, DurationLike, seconds_of
from .errors import UsageError
from .names import check_name

if TYPE_CHECKING:
    from .local import Execution

R = TypeVar("R")


class Handler(Generic[R]):
    """A durable handler: a function of an event and a context, and how its runs are kept.

    Attributes:
        name: how another process finds it; `<module or file stem>.<function>` by default.
        fn: the decorated function.
        is_async: whether it is `async def`.
        timeout: how long a run may take in all, seconds.
        hold_on_failure: keep a failing run open on the callback `perdure:failed`.
        source: the file it was defined in, if any.
    """

    def __init__(
        self, fn: Callable[..., Any], name: str | None, timeout: DurationLike, hold_on_failure: bool
    ) -> None:
        _check_function(fn)
        self.fn = fn
        self.is_async = inspect.iscoroutinefunction(fn)
        self.source = _source(fn)
        self.name = check_name(name or _default_name(fn, self.source), "handler")
        self.timeout = seconds_of(timeout, f"the timeout of {self.name!r}")
        self.hold_on_failure = hold_on_failure
        self.codec = Codec(fn.__module__)
        self.__doc__ = fn.__doc__
        self.__name__ = fn.__name__
        self.__module__ = fn.__module__
        self.__wrapped__ = fn

    def __repr__(self) -> str:
        return f"<durable handler {self.name!r}>"

    def __call__(self, event: Any, context: Any) -> Any:
        """Handle one event: on AWS Lambda, or as part of another handler.

        Raises:
            UsageError: called with neither a durable context nor an event of Lambda's.
        """
        if _is_durable(context):
            return self.fn(event, context)
        from .aws import handle

        return handle(self, event, context)

    def run(
        self,
        event: Any,
        wait: DurationLike = 60,
        *,
        id: str | None = None,
        journal: str | Path = ".perdure/journal.db",
    ) -> R:
        """Run this handler on the embedded engine and return its result.

        Args:
            wait: seconds to wait for what the run itself waits for, before it is left to itself.
            id: the run's id; the same id and input go on where they were.
            journal: the journal file.

        Raises:
            Suspended: only longer waits are left; carries the handle and what it waits for.
            ExecutionFailedError: the handler raised.
        """
        from .local import LocalEngine

        with LocalEngine(journal, handlers=[self]) as engine:
            execution: Execution = engine.start(self, event, id=id)
            return cast("R", execution.settle(seconds_of(wait, "wait")))


@overload
def durable_execution(fn: Callable[..., R], /) -> Handler[R]: ...
@overload
def durable_execution(
    *,
    name: str | None = None,
    timeout: DurationLike = MAX_SECONDS,
    hold_on_failure: bool = False,
) -> Callable[[Callable[..., R]], Handler[R]]: ...
def durable_execution(
    fn: Callable[..., R] | None = None,
    /,
    *,
    name: str | None = None,
    timeout: DurationLike = MAX_SECONDS,
    hold_on_failure: bool = False,
) -> Handler[R] | Callable[[Callable[..., R]], Handler[R]]:
    """Make a function `(event, context)`, sync or async, a durable handler.

    Args:
        name: how other processes find it; by default `<module or file stem>.<function>`.
        timeout: how long a run may take, waits included; at most 366 days.
        hold_on_failure: keep a failing run open on the callback `perdure:failed`, so that it can
            be resumed where a failed execution is final.

    Raises:
        UsageError: it is not a function that can be a handler.
    """
    if fn is not None:
        return Handler(fn, name, timeout, hold_on_failure)
    return lambda function: Handler(function, name, timeout, hold_on_failure)


def _check_function(fn: Any) -> None:
    if not inspect.isfunction(fn):
        raise UsageError(f"durable_execution decorates a function, not {type(fn).__name__}")
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise UsageError(
            f"the handler {fn.__name__!r} is a generator; a durable handler returns its result"
        )
    try:
        inspect.signature(fn).bind(None, None)
    except TypeError:
        raise UsageError(f"the handler {fn.__name__!r} must take (event, context)") from None


def _is_durable(context: Any) -> bool:
    from .context import Context

    # Whose context is async has its module loaded; others' cold starts are spared asyncio.
    loaded = sys.modules.get(f"{__package__}.async_context")
    return isinstance(context, Context | getattr(loaded, "AsyncContext", Context))


def _source(fn: Callable[..., Any]) -> str | None:
    path = Path(fn.__code__.co_filename)
    return str(path.resolve()) if path.is_file() else None


def _default_name(fn: Callable[..., Any], source: str | None) -> str:
    module = fn.__module__
    if module == "__main__" and source is not None:
        module = Path(source).stem
    return f"{module}.{fn.__qualname__}".replace(".<locals>", "")
