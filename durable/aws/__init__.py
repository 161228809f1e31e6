"""perdure on AWS Lambda durable functions: the decorated handler is the Lambda handler.

The journal is kept by the service; this package speaks its API. The same handler runs here and on
the embedded engine, unchanged.
"""

from .invocation import handle

__all__ = ["handle"]
