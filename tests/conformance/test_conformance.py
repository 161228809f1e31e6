"""AWS's requirements for durable operations, judged on both engines.

On the embedded engine without waivers; under AWS's local runner without what that never tells, as
`waivers.py` has it.
"""

from pathlib import Path

import pytest

from ..durable.aws.worlds import AwsWorld
from . import (  # noqa: F401 - they fill HANDLERS
    child_handlers,
    embedded,
    map_handlers,
    step_handlers,
    under_runner,
    wait_for_callback_handlers,
    wait_handlers,
)
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


CASES = [_case(id) for id in _in_order(set(HANDLERS))]


@needs_files
@pytest.mark.parametrize("id", CASES)
def test_requirement(id: str, tmp_path: Path) -> None:
    problems = embedded.judge(load(id), HANDLERS[id], tmp_path / "journal.db")

    assert not problems, "\n".join([f"requirement {id}:", *problems])


@pytest.fixture(scope="module")
def found_under_the_runner() -> dict[str, list[str]]:
    """What was found by requirement; the first test that asks has all of them run side by side."""
    return {}


@needs_files
@pytest.mark.parametrize("id", CASES)
def test_requirement_under_the_runner_of_aws(
    id: str,
    request: pytest.FixtureRequest,
    aws: AwsWorld,
    found_under_the_runner: dict[str, list[str]],
) -> None:
    if id not in found_under_the_runner:
        asked = [load(each) for each in _asked(request)]
        found_under_the_runner |= under_runner.judge_side_by_side(aws, asked, HANDLERS)

    problems = found_under_the_runner[id]
    assert not problems, "\n".join([f"requirement {id}:", *problems])


def _asked(request: pytest.FixtureRequest) -> list[str]:
    """Return the ids for which this test is to be run in this session."""
    name = request.node.originalname
    items = [item for item in request.session.items if getattr(item, "originalname", "") == name]
    return [item.callspec.params["id"] for item in items]


@needs_files
def test_every_requirement_on_file_is_judged() -> None:
    assert _in_order(ids_on_file()) == _in_order(set(HANDLERS))
