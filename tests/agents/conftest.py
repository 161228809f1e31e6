"""What the tests of models share: handlers of both kinds, an engine, a local Bedrock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from perdure.durable.testing import Runner

from .both import durable
from .converse import Behaviour, ConverseServer, echo


@pytest.fixture
def serve() -> Iterator[Callable[..., ConverseServer]]:
    """Starts a local Bedrock that answers as it is told."""
    with ExitStack() as stack:

        def start(behaviour: Behaviour = echo) -> ConverseServer:
            return stack.enter_context(ConverseServer(behaviour))

        yield start


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    """The world a handler lives in."""
    return str(request.param)


@pytest.fixture
def make(kind: str) -> Callable[..., Any]:
    """Makes a handler of a body for the world under test."""
    return lambda body: durable(kind, body)


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    with Runner(tmp_path / "journal.db") as runner:
        yield runner
