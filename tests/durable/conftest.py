"""What the tests of the core share: handlers in both worlds, and an engine on a manual clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from perdure.durable.testing import Runner

from .both import durable


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    """The world a handler lives in."""
    return str(request.param)


@pytest.fixture
def make(kind: str) -> Callable[..., Any]:
    """Makes a durable handler of a body written with `await`, for the world under test."""
    return lambda body, **options: durable(kind, body, **options)


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    with Runner(tmp_path / "journal.db") as runner:
        yield runner


@pytest.fixture
def outcome(runner: Runner) -> Callable[..., Any]:
    """Runs a handler to its end, time and all, and returns the result."""

    def run(handler: Any, event: Any = None) -> Any:
        execution = runner.start(handler, event)
        runner.run_until_idle()
        return execution.result(timeout=5)

    return run
