"""The house that each test has for itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .house import House, house_in


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A house whose server is not up."""
    with house_in(tmp_path) as house:
        yield house


@pytest.fixture
def up(house: House) -> House:
    """The house, with its server up."""
    house.serve()
    return house
