"""What the tests of models share: a local Bedrock for one test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from .converse import Behaviour, ConverseServer, echo


@pytest.fixture
def serve() -> Iterator[Callable[..., ConverseServer]]:
    """Starts a local Bedrock that answers as it is told."""
    with ExitStack() as stack:

        def start(behaviour: Behaviour = echo) -> ConverseServer:
            return stack.enter_context(ConverseServer(behaviour))

        yield start
