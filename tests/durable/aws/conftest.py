"""AWS's local runner, one for all tests of a session, and the two engines that each handler must
fare alike on. Other folders import these fixtures from here.
"""

from __future__ import annotations

import atexit
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from perdure.durable import Handler
from perdure.durable.aws import service
from perdure.durable.testing import Runner

from .stage import CREDENTIALS, LocalRunner, find_runner, here, serving
from .worlds import AwsWorld, Counted, LocalWorld, World

CALLEES = ["callee"]
"""The functions that others may invoke; the runner must know them when it starts."""


@cache
def _one_runner(command: str, log: Path) -> LocalRunner:
    runner = LocalRunner(command, log, CALLEES)
    atexit.register(runner.stop)
    return runner


@pytest.fixture(scope="session")
def local_runner(tmp_path_factory: pytest.TempPathFactory) -> LocalRunner:
    command = find_runner()
    if command is None:
        pytest.skip("dex-local-runner is not installed (aws-durable-execution-sdk-python-testing)")
    return _one_runner(command, tmp_path_factory.getbasetemp() / "local-runner.log")


@pytest.fixture(scope="session")
def aws_session(local_runner: LocalRunner) -> Iterator[AwsWorld]:
    """This process as a function that the runner invokes over HTTP."""
    import boto3

    handlers: dict[str, Handler[Any]] = {}
    session = boto3.Session(
        aws_access_key_id="none", aws_secret_access_key="none", region_name="us-west-2"
    )
    api = session.client("lambda", endpoint_url=local_runner.url)
    with serving(here(handlers)) as function:
        yield AwsWorld(local_runner, function, handlers, api)


@pytest.fixture
def aws(aws_session: AwsWorld, monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsWorld]:
    """The same as a Lambda sandbox: its environment, and the client made from it, counted."""
    runner = aws_session.runner
    for name, value in (CREDENTIALS | {"AWS_ENDPOINT_URL_LAMBDA": runner.url}).items():
        monkeypatch.setenv(name, value)
    service.forget_client()
    service.use_client(Counted(service.client(), aws_session.calls))
    runner.send_others_to(aws_session.function.url)
    aws_session.calls.clear()
    aws_session.function.events.clear()
    aws_session.function.failures.clear()
    yield aws_session
    service.forget_client()


@pytest.fixture(params=["local", "aws"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """Each engine in turn."""
    if request.param == "aws":
        yield request.getfixturevalue("aws")
        return
    with Runner(tmp_path / "journal.db") as runner:
        yield LocalWorld(runner)
