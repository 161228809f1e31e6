"""AWS's requirements for durable operations, judged on the embedded engine without waivers."""

from pathlib import Path

import pytest

from . import (  # noqa: F401 - they fill HANDLERS
    child_handlers,
    map_handlers,
    step_handlers,
    wait_for_callback_handlers,
    wait_handlers,
)
from .judge import judge
from .registry import HANDLERS
from .requirements import FOLDER, ids_on_file, load

ANSWERED_OTHERWISE: dict[str, str] = {}
"""Requirements that perdure deliberately answers otherwise, each with its reason."""

needs_files = pytest.mark.skipif(
    not FOLDER.is_dir(),
    reason=f"the requirement files are not at {FOLDER}; set PERDURE_CONFORMANCE to their folder",
)


def _in_order(ids: set[str]) -> list[str]:
    return sorted(ids, key=lambda id: [int(part) for part in id.split("-")])


def _case(id: str) -> object:
    reason = ANSWERED_OTHERWISE.get(id)
    marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
    return pytest.param(id, id=id, marks=marks)


@needs_files
@pytest.mark.parametrize("id", [_case(id) for id in _in_order(set(HANDLERS))])
def test_requirement(id: str, tmp_path: Path) -> None:
    problems = judge(load(id), HANDLERS[id], tmp_path / "journal.db")

    assert not problems, "\n".join([f"requirement {id}:", *problems])


@needs_files
def test_every_requirement_on_file_is_judged() -> None:
    assert _in_order(ids_on_file()) == _in_order(set(HANDLERS))
