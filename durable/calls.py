"""What the calls of sync and async contexts share: their arguments, checked."""

from __future__ import annotations

import inspect
import random as _random
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from .codec import Serdes
from .errors import UsageError
from .journal import Scope
from .retry import ONCE, RetryPolicy, policy_of
from .run import Semantics, StepSpec

Retry = RetryPolicy | Mapping[str, Any] | None
ONE_ATTEMPT = StepSpec(ONCE)


def step_spec(
    name: str,
    fn: object,
    retry: Retry,
    semantics: Semantics,
    returns: Any,
    serdes: Serdes | None,
) -> StepSpec:
    """Return how a step is run and kept, its arguments checked.

    Raises:
        UsageError: naming the argument that cannot be meant.
    """
    plain = retry is None and semantics == "at_least_once" and returns is None and serdes is None
    if plain and callable(fn):
        return ONE_ATTEMPT
    if not callable(fn):
        raise UsageError(
            f"step {name!r} needs a function, not {type(fn).__name__}; did you call it already?"
        )
    if semantics not in ("at_least_once", "at_most_once"):
        raise UsageError(
            f"step {name!r}: semantics is 'at_least_once' or 'at_most_once', not {semantics!r}"
        )
    return StepSpec(policy_of(retry), semantics == "at_most_once", returns, serdes)


def refuse_awaitable(value: Any, what: str) -> None:
    """Refuse an async function where a sync handler needs a plain one.

    Raises:
        UsageError: the value is a coroutine.
    """
    if inspect.isawaitable(value):
        if inspect.iscoroutine(value):
            value.close()
        raise UsageError(f"{what} is async; make the handler `async def` to use it")


def seeded(scope: Scope, what: str, owner: object) -> _random.Random:
    """Return the generator for the next derived value of a scope."""
    return _random.Random(f"{scope.journal.seed}\0{scope.digest}\0{scope.derive(what, owner)}")


def bound(
    name: str, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Callable[[], Any]:
    """Return the body of a step, which refuses to run over loop variables that have moved on."""
    body = partial(fn, *args, **kwargs) if args or kwargs else fn
    if getattr(fn, "__name__", "") != "<lambda>" or not getattr(fn, "__closure__", None):
        return body
    seen = _contents(fn)

    def checked() -> Any:
        if any(now is not then for now, then in zip(_contents(fn), seen, strict=True)):
            raise UsageError(
                f"step {name!r}: a variable of its lambda changed between the call and the start "
                "of the step, as in a loop over gather; bind it (`lambda x=x: …`) or pass it as an "
                "argument of step"
            )
        return body()

    return checked


def _contents(fn: Any) -> list[Any]:
    contents = []
    for cell in fn.__closure__:
        try:
            contents.append(cell.cell_contents)
        except ValueError:
            contents.append(None)
    return contents
