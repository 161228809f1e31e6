"""Fixtures that need real processes: workers that can be killed, and a file their bodies write to.

The helpers are loaded by path: with `--import-mode=importlib` a test cannot import its neighbours.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


def _load(name: str) -> Any:
    key = f"perdure_tests_local_{name}"
    if key not in sys.modules:
        spec = importlib.util.spec_from_file_location(key, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[key] = module
        spec.loader.exec_module(module)
    return sys.modules[key]


@pytest.fixture(scope="session")
def processes() -> Any:
    """Return the helpers of `processes.py`."""
    return _load("processes")


@pytest.fixture(scope="module")
def nursery(processes: Any) -> Iterator[Any]:
    """Lend a process that forks workers; all of them are gone when the module is done."""
    with processes.Nursery() as nursery:
        yield nursery


@pytest.fixture
def place(processes: Any, tmp_path: Path) -> Any:
    """Return a folder with a journal to be and the file that bodies write lines to."""
    return processes.Place(tmp_path)
