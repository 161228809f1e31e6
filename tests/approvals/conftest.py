"""What the tests of approvals share: an office with a fixed key, on a clock that stands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure.approvals.keys import Keys
from perdure.approvals.office import Office
from perdure.durable.testing import ManualClock, Runner

from .recorder import Recorder
from .scene import Scene
from .ways import Asks

KEY = "a-key-for-tests-of-at-least-32-bytes"
BASE_URL = "https://approvals.example.org"


@pytest.fixture
def clock() -> ManualClock:
    """2026-01-01 00:00 UTC, until it is moved."""
    return ManualClock()


@pytest.fixture
def office(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> Office:
    """The office of the pages at approvals.example.org, of handlers as well as receivers."""
    monkeypatch.setenv("PERDURE_APPROVAL_KEYS", KEY)
    monkeypatch.setenv("PERDURE_BASE_URL", BASE_URL)
    return Office(Keys(KEY), BASE_URL, clock)


@pytest.fixture
def runner(tmp_path: Path, clock: ManualClock) -> Iterator[Runner]:
    """A real engine on that clock."""
    with Runner(tmp_path / "journal.db", clock=clock) as runner:
        yield runner


@pytest.fixture
def asks(runner: Runner, office: Office) -> Asks:
    """Makes runs that ask, and brings them to their open request."""
    return Asks(runner, office)


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    """The world a handler lives in."""
    return str(request.param)


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    """A channel that writes down what it is asked to do."""
    return Recorder(tmp_path / "recorder.jsonl")


@pytest.fixture
def scene(runner: Runner, office: Office, kind: str, recorder: Recorder) -> Scene:
    """Makes runs that ask, in both worlds."""
    return Scene(runner, office, kind, recorder)
