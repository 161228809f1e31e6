"""Whatever the core offers comes to the same on both engines: result, error, each operation."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from perdure.durable import Handler

from ..durable.both import durable
from .programs import PROGRAMS, Program, callee
from .stages import Fared, Stage, differences

SIDE_BY_SIDE = 12
CASES = [(name, kind) for name, program in PROGRAMS.items() for kind in program.kinds]
Results = dict[tuple[str, str], Any]


def _handler(name: str, kind: str) -> Handler[Any]:
    program, full = PROGRAMS[name], f"{name}-{kind}"
    hold = program.hold_on_failure
    handler: Handler[Any] = durable(kind, program.body, name=full, hold_on_failure=hold)
    return handler


def _fared(stage: Stage, handler: Handler[Any], program: Program) -> Fared:
    run = stage.start(handler, program.event)
    if program.act is not None:
        program.act(run)
    fared = run.fared()
    for path, shape in fared.operations.items():
        if path.rpartition("/")[2] in program.own:
            shape["payload"] = "its own"
    return fared


def _found(stages: list[Stage], case: tuple[str, str]) -> Any:
    try:
        handler = _handler(*case)
        return [_fared(stage, handler, PROGRAMS[case[0]]) for stage in stages]
    except BaseException as error:
        error.add_note(str(case))
        return error


@pytest.fixture(scope="module")
def results() -> Results:
    """What each program came to on both engines; the first test that asks has all of them run."""
    return {}


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_a_program_fares_alike_on_both_engines(
    name: str, kind: str, request: pytest.FixtureRequest, stages: list[Stage], results: Results
) -> None:
    if (name, kind) not in results:
        for stage in stages:
            stage.register(callee)
        asked = _asked(request)
        with ThreadPoolExecutor(SIDE_BY_SIDE) as threads:
            found = threads.map(lambda case: _found(stages, case), asked)
            results |= dict(zip(asked, found, strict=True))

    found = results[name, kind]
    if isinstance(found, BaseException):
        raise found
    local, on_lambda = found
    program = PROGRAMS[name]
    kind, words = local.error or (None, "")
    assert (local.value, kind) == (program.gives, program.raises and program.raises[0])
    assert words.startswith(program.raises[1] if program.raises else "")
    assert not differences(local, on_lambda), "\n".join(differences(local, on_lambda))


def _asked(request: pytest.FixtureRequest) -> list[tuple[str, str]]:
    """Return the programs for which this test is to be run in this session."""
    name = request.node.originalname
    items = [item for item in request.session.items if getattr(item, "originalname", "") == name]
    return [(item.callspec.params["name"], item.callspec.params["kind"]) for item in items]
