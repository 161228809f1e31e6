"""Both engines on the time that passes: the embedded one, and AWS's local runner over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ..durable.aws.conftest import aws, aws_session, local_runner  # noqa: F401
from ..durable.aws.front import Front
from ..durable.aws.worlds import AwsWorld
from .stages import LambdaStage, LocalStage, Stage


@pytest.fixture
def local_stage(tmp_path: Path) -> Iterator[Stage]:
    with LocalStage(tmp_path / "journal.db") as stage:
        yield stage


@pytest.fixture
def lambda_stage(aws: AwsWorld) -> Iterator[Stage]:  # noqa: F811
    front = Front(aws.runner, aws.function.url)
    yield LambdaStage(aws, front.url)
    front.close()


@pytest.fixture
def stages(local_stage: Stage, lambda_stage: Stage) -> list[Stage]:
    return [local_stage, lambda_stage]


@pytest.fixture(params=["local", "lambda"])
def stage(request: pytest.FixtureRequest) -> Stage:
    """Each engine in turn."""
    found: Stage = request.getfixturevalue(f"{request.param}_stage")
    return found
