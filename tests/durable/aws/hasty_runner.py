"""AWS's local runner, without its five seconds before a failed invocation is repeated."""

import sys

from aws_durable_execution_sdk_python_testing.cli import main
from aws_durable_execution_sdk_python_testing.executor import Executor

if __name__ == "__main__":
    Executor.RETRY_BACKOFF_SECONDS = 0
    sys.exit(main())
