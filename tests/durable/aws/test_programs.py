"""Programs that hypothesis draws come to the same on AWS as on the embedded engine."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from perdure.durable import RetryPolicy

from .. import programs
from ..programs import BOOK, Case, Op, async_program, expected_runs, sync_program
from .worlds import AwsWorld

SOON = RetryPolicy(max_attempts=5, initial_delay=1, backoff_rate=1, jitter="none")
KINDS = pytest.mark.parametrize("handler", [sync_program, async_program], ids=["sync", "async"])
QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


def hastened(ops: list[Op]) -> list[Op]:
    """Return a program with its waits as short as AWS has them."""
    return [_hastened(op) for op in ops]


def _hastened(op: Op) -> Op:
    kind, name, *rest = op
    match kind:
        case "sleep" | "wait" | "nap":
            return (kind, name, 1)
        case "child" | "failing child" | "gather" | "map":
            return (kind, name, hastened(rest[0]), *rest[1:])
        case "parallel":
            return (kind, name, [hastened(body) for body in rest[0]], *rest[1:])
    return op


def check(aws: AwsWorld, handler: Any, program: list[Op]) -> None:
    """Run a program, and see that each of its bodies ran as often as it says."""
    case = BOOK["aws"] = Case(hastened(program))
    before, programs.QUICK = programs.QUICK, SOON
    try:
        outcome = aws.start(handler, "aws").outcome()
    finally:
        programs.QUICK = before

    assert outcome.error is None
    assert case.misplaced == []
    assert case.runs == expected_runs(case.program)


@KINDS
@settings(max_examples=2, derandomize=True, deadline=None, suppress_health_check=QUIET)
@given(program=programs.programs(least=4))
def test_a_program_runs_as_it_says(aws: AwsWorld, handler: Any, program: list[Op]) -> None:
    check(aws, handler, program)


@pytest.mark.full
@KINDS
@settings(max_examples=40, deadline=None, suppress_health_check=QUIET)
@given(program=programs.programs())
def test_many_programs_run_as_they_say(aws: AwsWorld, handler: Any, program: list[Op]) -> None:
    check(aws, handler, program)
