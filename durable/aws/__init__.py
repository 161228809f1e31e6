"""perdure on AWS Lambda durable functions: the decorated handler is the Lambda handler.

The journal is kept by the service; this package speaks its API. The same handler runs here and on
the embedded engine, unchanged.
"""

from typing import TYPE_CHECKING

from ..lazy import lazily
from .invocation import handle

if TYPE_CHECKING:
    from .engine import LambdaEngine
    from .executions import LambdaExecution

__all__ = ["LambdaEngine", "LambdaExecution", "handle"]


# An invocation has no use for them, and its cold start none for their modules.
__getattr__ = lazily(__name__, {"engine": "LambdaEngine", "executions": "LambdaExecution"})
