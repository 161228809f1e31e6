"""perdure on AWS Lambda durable functions: the decorated handler is the Lambda handler.

The journal is kept by the service; this package speaks its API. The same handler runs here and on
the embedded engine, unchanged.
"""

from typing import TYPE_CHECKING, Any

from .invocation import handle

if TYPE_CHECKING:
    from .engine import LambdaEngine
    from .executions import LambdaExecution

__all__ = ["LambdaEngine", "LambdaExecution", "handle"]


def __getattr__(name: str) -> Any:
    # An invocation has no use for them, and its cold start none for their modules.
    if name == "LambdaEngine":
        from .engine import LambdaEngine

        return LambdaEngine
    if name == "LambdaExecution":
        from .executions import LambdaExecution

        return LambdaExecution
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
