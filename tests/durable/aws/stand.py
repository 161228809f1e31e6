"""A stand-in for an AWS account, for the tests of other floors: functions, and who operates them.

AWS's local runner keeps the executions, this process is the sandbox of each function, and `Front`
is the address at which an operator's boto3 finds Lambda.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from perdure.durable import Handler, LambdaEngine
from perdure.durable.aws import service

from .front import Front
from .stage import CREDENTIALS, LocalRunner, find_runner, here, serving

_numbers = itertools.count(1)


class Stand:
    """Deploys handlers.

    Attributes:
        front: what an operator's calls come to.
        environment: by which an operator's process finds it.
    """

    def __init__(self, front: Front, handlers: dict[str, Handler[Any]]) -> None:
        self.front = front
        self.environment = CREDENTIALS | {"AWS_ENDPOINT_URL_LAMBDA": front.url}
        self._handlers = handlers

    def deploy(self, handler: Handler[Any], name: str | None = None) -> str:
        """Make a handler a function; return its name."""
        name = name or f"function-{next(_numbers)}"
        self._handlers[name] = handler
        return name

    def engine(self, handler: Handler[Any], **options: Any) -> LambdaEngine:
        """Make a handler a function; return the engine of its operator."""
        name = self.deploy(handler)
        return LambdaEngine(f"{name}:live", endpoint_url=self.front.url, **options)


@contextmanager
def account(log: Path) -> Iterator[Stand]:
    """Have an account for a while."""
    command = find_runner()
    if command is None:
        pytest.skip("dex-local-runner is not installed (aws-durable-execution-sdk-python-testing)")
    runner = LocalRunner(command, log, [])
    settings = CREDENTIALS | {"AWS_ENDPOINT_URL_LAMBDA": runner.url}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    service.forget_client()
    handlers: dict[str, Handler[Any]] = {}
    try:
        with serving(here(handlers)) as function:
            front = Front(runner, function.url)
            try:
                yield Stand(front, handlers)
            finally:
                front.close()
    finally:
        service.forget_client()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        runner.stop()
