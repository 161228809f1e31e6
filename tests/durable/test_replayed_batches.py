"""Batches that are recorded without their results: what was decided is obeyed at each replay."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perdure.durable import BatchError, Completion, Limits
from perdure.durable.testing import Runner, check_replay

Make = Callable[..., Any]
NESTINGS = pytest.mark.parametrize("nesting", ["nested", "flat"])
LARGE = 300_000


@pytest.fixture
def small(tmp_path: Path) -> Any:
    """An engine that keeps no large result of a scope, as AWS does not."""
    with Runner(tmp_path / "small.db", limits=Limits(replay_children=256 * 1024)) as runner:
        yield runner


@NESTINGS
def test_a_branch_that_lost_its_race_does_not_win_at_replay(
    small: Runner, make: Make, nesting: str
) -> None:
    late: list[str] = []

    async def slow(context: Any) -> Any:
        await context.wait(60, "slow")
        return await context.step("late", lambda: late.append("ran") or "slow")

    async def fast(context: Any) -> Any:
        return await context.step("fast", lambda: "f") * LARGE

    async def races(event: Any, context: Any) -> Any:
        rule = Completion(min_successful=1)
        branches = {"slow": slow, "fast": fast}
        won = await context.parallel(
            "race", branches, max_concurrency=1, completion=rule, nesting=nesting
        )
        await context.sleep(120)
        return [each[0] for each in won], won.reason, won.total_count

    run = small.start(make(races))
    small.run_until_idle()

    assert run.result(timeout=5) == (["f"], "MIN_SUCCESSFUL_REACHED", 2)
    assert late == []
    check_replay(run)


@NESTINGS
def test_a_batch_that_failed_fails_alike_at_replay(small: Runner, make: Make, nesting: str) -> None:
    def work(item: int) -> str:
        if item == 1:
            raise ValueError("one")
        return str(item)

    async def branch(context: Any, item: int) -> Any:
        return await context.step("work", work, item) * LARGE

    async def fails(event: Any, context: Any) -> Any:
        try:
            await context.map("all", range(4), branch, max_concurrency=1, nesting=nesting)
        except BatchError as error:
            found = [error.error.message, error.result.total_count, error.result.reason]
            await context.sleep(120)
            return found

    run = small.start(make(fails))
    small.run_until_idle()

    assert run.result(timeout=5) == [
        "1 of 2 started branches failed; the first, 'all[1]': one",
        2,
        "FAILURE_TOLERANCE_EXCEEDED",
    ]
    check_replay(run)
