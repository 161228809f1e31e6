"""What the tests of approvals share: an office with a fixed key, on a clock that stands."""

from __future__ import annotations

import pytest

from perdure.approvals.keys import Keys
from perdure.approvals.office import Office
from perdure.durable.testing import ManualClock

KEY = "a-key-for-tests-of-at-least-32-bytes"
BASE_URL = "https://approvals.example.org"


@pytest.fixture
def clock() -> ManualClock:
    """2026-01-01 00:00 UTC, until it is moved."""
    return ManualClock()


@pytest.fixture
def office(clock: ManualClock) -> Office:
    """The office of the pages at approvals.example.org."""
    return Office(Keys(KEY), BASE_URL, clock)
