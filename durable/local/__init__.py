"""The embedded engine: durable execution on one SQLite file."""

from .callbacks import OpenCallback
from .engine import LocalEngine
from .execution import Execution, ExecutionInfo, ExecutionStatus, Wait

__all__ = ["Execution", "ExecutionInfo", "ExecutionStatus", "LocalEngine", "OpenCallback", "Wait"]
