"""One handler body for both worlds, over the calls that floors above the core make."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from perdure.durable import durable_execution
from perdure.durable.gated import drive
from perdure.durable.testing import Runner, check_replay


def durable(kind: str, body: Callable[[Any, Any], Any], name: str = "handler") -> Any:
    """Return the handler of this kind, "sync" or "async", whose body this is.

    The body is `async def` and awaits durable calls by `value_of` only.
    """
    if kind == "async":

        async def awaited(event: Any, context: Any) -> Any:
            return await body(event, context)

        return durable_execution(name=name)(awaited)

    def plain(event: Any, context: Any) -> Any:
        return drive(context, body(event, context))

    return durable_execution(name=name)(plain)


def finished(runner: Runner, handler: Any) -> Any:
    """Run a handler until nothing is due; return the handle."""
    run = runner.start(handler)
    runner.run_until_idle()
    return run


def outcome(runner: Runner, handler: Any) -> Any:
    """Run a handler to its end and replay it; return its result."""
    run = finished(runner, handler)
    result = run.result(timeout=0)
    check_replay(run)
    return result
