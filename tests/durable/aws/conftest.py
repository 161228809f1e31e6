"""AWS's local runner for the session, and the two engines that each handler must fare alike on."""

from __future__ import annotations

import os
from collections.abc import Iterator
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


@pytest.fixture(scope="session")
def local_runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRunner]:
    command = find_runner()
    if command is None:
        pytest.skip("dex-local-runner is not installed (aws-durable-execution-sdk-python-testing)")
    log = tmp_path_factory.mktemp("aws") / "local-runner.log"
    runner = LocalRunner(command, log, CALLEES)
    yield runner
    runner.stop()


@pytest.fixture(scope="session")
def aws_session(local_runner: LocalRunner) -> Iterator[AwsWorld]:
    """This process as a Lambda sandbox: the environment, the client made from it, the handlers."""
    settings = CREDENTIALS | {"AWS_ENDPOINT_URL_LAMBDA": local_runner.url}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    service.forget_client()
    handlers: dict[str, Handler[Any]] = {}
    with serving(here(handlers)) as function:
        import boto3

        local_runner.send_others_to(function.url)
        world = AwsWorld(local_runner, function, handlers, boto3.client("lambda"))
        service.use_client(Counted(service.client(), world.calls))
        yield world
    service.forget_client()
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


@pytest.fixture
def aws(aws_session: AwsWorld) -> AwsWorld:
    aws_session.calls.clear()
    aws_session.function.events.clear()
    aws_session.function.failures.clear()
    return aws_session


@pytest.fixture(params=["local", "aws"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """Each engine in turn."""
    if request.param == "aws":
        yield request.getfixturevalue("aws")
        return
    with Runner(tmp_path / "journal.db") as runner:
        yield LocalWorld(runner)
