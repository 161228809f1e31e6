"""The handlers by requirement id: `@requirement("1-1")` makes a function durable and lists it.

Each gets an explicit name, so that a child process that imports these modules under another
package name serves the same handlers.
"""

from collections.abc import Callable
from typing import Any

from perdure.durable import durable_execution

HANDLERS: dict[str, Any] = {}


def requirement(id: str) -> Callable[[Callable[..., Any]], Any]:
    def register(fn: Callable[..., Any]) -> Any:
        if id in HANDLERS:
            raise ValueError(f"two handlers for requirement {id}")
        HANDLERS[id] = durable_execution(name=f"conformance-{id}")(fn)
        return HANDLERS[id]

    return register
