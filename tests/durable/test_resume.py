"""A failed run that goes on: what ended it is tried again, and nothing else."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perdure.durable import (
    AsyncContext,
    BatchError,
    Completion,
    ExecutionConflictError,
    ExecutionFailedError,
    OperationError,
    UsageError,
    durable_execution,
)
from perdure.durable.testing import Runner, check_replay

from .work import Work

Make = Callable[..., Any]


def failed(runner: Runner, handler: Any, event: Any = None) -> Any:
    """Run a handler that fails, and return its run."""
    run = runner.start(handler, event)
    runner.run_until_idle()
    assert run.status == "FAILED"
    return run


def resumed(runner: Runner, run: Any, *reopen: str) -> Any:
    """Resume a run, let it come to its end, and return its result."""
    runner.engine.resume(run.id, reopen)
    runner.run_until_idle()
    assert run.status != "RUNNING", "the resumed run hangs"
    return run.result(timeout=5)


def test_the_failed_step_runs_again_and_those_before_it_do_not(runner: Runner, make: Make) -> None:
    work = Work("second")

    async def pipeline(event: Any, context: Any) -> list[str]:
        return [await context.step(name, work.do, name) for name in ("first", "second", "third")]

    run = failed(runner, make(pipeline))
    work.mend()
    assert resumed(runner, run) == ["first", "second", "third"]
    assert work.runs == {"second": 1, "third": 1}
    check_replay(run)


def test_a_failure_the_handler_caught_stays_as_recorded(runner: Runner, make: Make) -> None:
    work = Work("optional", "needed")

    async def pipeline(event: Any, context: Any) -> list[str]:
        try:
            first = await context.step("optional", work.do, "optional")
        except OperationError as error:
            first = f"without: {error.error.message}"
        return [first, await context.step("needed", work.do, "needed")]

    run = failed(runner, make(pipeline))
    work.mend()
    assert resumed(runner, run) == ["without: optional is down", "needed"]
    assert work.runs == {"needed": 1}


def test_a_caught_failure_is_tried_again_when_it_is_named(runner: Runner, make: Make) -> None:
    work = Work("optional", "needed")

    async def pipeline(event: Any, context: Any) -> list[str]:
        try:
            first = await context.step("optional", work.do, "optional")
        except OperationError:
            first = "without"
        return [first, await context.step("needed", work.do, "needed")]

    run = failed(runner, make(pipeline))
    work.mend()
    assert resumed(runner, run, "optional") == ["optional", "needed"]
    assert work.runs == {"optional": 1, "needed": 1}


def test_reopening_a_name_that_did_not_fail_is_refused(runner: Runner, make: Make) -> None:
    work = Work("second")

    async def pipeline(event: Any, context: Any) -> list[str]:
        return [await context.step(name, work.do, name) for name in ("first", "second")]

    run = failed(runner, make(pipeline))
    with pytest.raises(UsageError, match="no failed operation is named 'first'"):
        runner.engine.resume(run.id, ["first"])
    assert run.status == "FAILED"


def test_an_error_of_the_handlers_own_reopens_nothing(runner: Runner, make: Make) -> None:
    work = Work("optional")
    broken = [True]

    async def pipeline(event: Any, context: Any) -> str:
        try:
            await context.step("optional", work.do, "optional")
        except OperationError:
            pass
        if broken:
            raise ValueError("a bug of mine")
        return "done"

    run = failed(runner, make(pipeline))
    broken.clear()
    work.mend()
    assert resumed(runner, run) == "done"
    assert work.runs == {}


def test_the_failed_step_is_found_through_cause(runner: Runner, make: Make) -> None:
    work = Work("inner")

    async def pipeline(event: Any, context: Any) -> str:
        try:
            return str(await context.step("inner", work.do, "inner"))
        except OperationError as error:
            try:
                raise LookupError("nothing found") from error
            except LookupError as second:
                raise RuntimeError("the pipeline failed") from second

    run = failed(runner, make(pipeline))
    work.mend()
    assert resumed(runner, run) == "inner"
    assert work.runs == {"inner": 1}


def test_a_failed_step_inside_a_child_reopens_the_child_and_not_its_siblings(
    runner: Runner, make: Make
) -> None:
    work = Work("b")

    async def pipeline(event: Any, context: Any) -> list[str]:
        async def child(inner: Any) -> list[str]:
            return [await inner.step(name, work.do, name) for name in ("a", "b", "c")]

        before = await context.step("before", work.do, "before")
        return [before, *await context.child("inner", child)]

    run = failed(runner, make(pipeline))
    work.mend()
    assert resumed(runner, run) == ["before", "a", "b", "c"]
    assert work.runs == {"b": 1, "c": 1}
    check_replay(run)


def test_a_step_has_all_its_attempts_again(runner: Runner, make: Make) -> None:
    work = Work("flaky")

    async def pipeline(event: Any, context: Any) -> str:
        return str(await context.step("flaky", work.do, "flaky", retry={"max_attempts": 3}))

    run = failed(runner, make(pipeline))
    assert work.runs == {"flaky": 3}
    runner.engine.resume(run.id)
    runner.run_until_idle()
    assert work.runs == {"flaky": 6}
    work.mend()
    assert resumed(runner, run) == "flaky"


def test_a_timed_out_callback_is_opened_again(runner: Runner, make: Make) -> None:
    async def pipeline(event: Any, context: Any) -> Any:
        opened = await context.callback("answer", timeout=60)
        return await opened.result()

    run = failed(runner, make(pipeline))
    runner.engine.resume(run.id)
    runner.settle()
    [wait] = run.waiting_for()
    runner.engine.complete_callback(str(wait.callback_id), "at last")
    runner.settle()
    assert run.result(timeout=5) == "at last"


def test_a_failed_invoke_is_made_again(runner: Runner, make: Make) -> None:
    work = Work("other")

    async def other(event: Any, context: Any) -> str:
        return str(await context.step("other", work.do, "other"))

    async def pipeline(event: Any, context: Any) -> Any:
        return await context.invoke("call", "other", 1)

    runner.engine.register(make(other))
    run = failed(runner, make(pipeline))
    work.mend()
    assert resumed(runner, run) == "other"


def test_an_expired_condition_is_polled_again(runner: Runner, make: Make) -> None:
    ready: list[int] = []

    async def pipeline(event: Any, context: Any) -> Any:
        return await context.wait_for_condition(
            "ready", lambda state: len(ready), every=10, timeout=30
        )

    run = failed(runner, make(pipeline))
    ready.append(1)
    assert resumed(runner, run) == 1


NESTINGS = pytest.mark.parametrize("nesting", ["nested", "flat"])


@NESTINGS
def test_a_map_with_two_failed_branches_runs_those_two_again(
    runner: Runner, make: Make, nesting: Any
) -> None:
    work = Work("1", "3")

    async def pipeline(event: Any, context: Any) -> list[str]:
        async def branch(inner: Any, item: str) -> str:
            return str(await inner.step("work", work.do, item))

        return list(
            await context.map(
                "all",
                ["0", "1", "2", "3"],
                branch,
                nesting=nesting,
                max_concurrency=1,
                completion=Completion(max_failures=1),
            )
        )

    run = failed(runner, make(pipeline))
    work.mend()
    assert resumed(runner, run) == ["0", "1", "2", "3"]
    assert work.runs == {"1": 1, "3": 1}
    check_replay(run)


@NESTINGS
def test_branches_not_started_before_the_failure_run_after_resume(
    runner: Runner, make: Make, nesting: Any
) -> None:
    work = Work("1")

    async def pipeline(event: Any, context: Any) -> list[str]:
        async def branch(inner: Any, item: str) -> str:
            return str(await inner.step("work", work.do, item))

        items = ["0", "1", "2", "3"]
        return list(await context.map("all", items, branch, nesting=nesting, max_concurrency=1))

    run = failed(runner, make(pipeline))
    assert work.runs == {"0": 1, "1": 1}
    work.mend()
    assert resumed(runner, run) == ["0", "1", "2", "3"]
    assert work.runs == {"1": 1, "2": 1, "3": 1}


@NESTINGS
def test_a_failed_step_in_a_child_in_a_map_runs_alone(
    runner: Runner, make: Make, nesting: Any
) -> None:
    work = Work("1-b")

    async def pipeline(event: Any, context: Any) -> Any:
        async def branch(inner: Any, item: int) -> list[str]:
            async def child(deep: Any) -> list[str]:
                return [
                    await deep.step(name, work.do, f"{item}-{name}") for name in ("a", "b", "c")
                ]

            return list(await inner.child("child", child))

        return list(await context.map("all", [0, 1, 2], branch, nesting=nesting, max_concurrency=1))

    run = failed(runner, make(pipeline))
    done = Counter(work.runs)
    work.mend()
    everything = [[f"{item}-{name}" for name in "abc"] for item in range(3)]
    assert resumed(runner, run) == everything
    assert work.runs["1-b"] == 1
    assert not set(work.runs) & (set(done) - {"1-b"})


@NESTINGS
def test_a_branch_that_failed_and_was_tolerated_stays_as_recorded(
    runner: Runner, make: Make, nesting: Any
) -> None:
    work = Work("1", "after")

    async def pipeline(event: Any, context: Any) -> Any:
        async def branch(inner: Any, item: str) -> str:
            return str(await inner.step("work", work.do, item))

        result = await context.map(
            "all", ["0", "1", "2"], branch, nesting=nesting, completion=Completion(max_failures=1)
        )
        return [list(result), await context.step("after", work.do, "after")]

    run = failed(runner, make(pipeline))
    work.mend()
    assert resumed(runner, run) == [["0", "2"], "after"]
    assert work.runs == {"after": 1}


@NESTINGS
def test_a_batch_error_the_handler_caught_stays_as_recorded(
    runner: Runner, make: Make, nesting: Any
) -> None:
    work = Work("0", "after")

    async def pipeline(event: Any, context: Any) -> Any:
        async def branch(inner: Any, item: str) -> str:
            return str(await inner.step("work", work.do, item))

        try:
            await context.map("all", ["0"], branch, nesting=nesting)
        except BatchError as error:
            first = error.result.failures[0].name
        return [first, await context.step("after", work.do, "after")]

    run = failed(runner, make(pipeline))
    work.mend()
    assert resumed(runner, run) == ["all[0]", "after"]
    assert work.runs == {"after": 1}


@NESTINGS
def test_a_branch_that_raised_an_error_of_its_own_runs_again_over_its_recorded_steps(
    runner: Runner, make: Make, nesting: Any
) -> None:
    work = Work()
    broken = [True]

    async def pipeline(event: Any, context: Any) -> Any:
        async def branch(inner: Any, item: int) -> str:
            value = await inner.step("work", work.do, str(item))
            if broken and item == 1:
                raise ValueError("a bug in the branch")
            return str(value)

        return list(await context.map("all", [0, 1], branch, nesting=nesting, max_concurrency=1))

    run = failed(runner, make(pipeline))
    broken.clear()
    work.mend()
    assert resumed(runner, run) == ["0", "1"]
    assert work.runs == {}


def test_a_failed_step_in_nested_maps_is_the_only_one_to_run_again(
    runner: Runner, make: Make
) -> None:
    work = Work("1-1")

    async def pipeline(event: Any, context: Any) -> Any:
        async def outer(inner: Any, row: int) -> Any:
            async def cell(deep: Any, column: int) -> str:
                return str(await deep.step("work", work.do, f"{row}-{column}"))

            return list(await inner.map("row", range(2), cell, max_concurrency=1))

        return list(await context.map("rows", range(2), outer, max_concurrency=1))

    run = failed(runner, make(pipeline))
    work.mend()
    assert resumed(runner, run) == [["0-0", "0-1"], ["1-0", "1-1"]]
    assert work.runs == {"1-1": 1}


def test_the_failed_branch_of_a_dict_runs_again(runner: Runner, make: Make) -> None:
    work = Work("right")

    async def pipeline(event: Any, context: Any) -> Any:
        async def left(inner: Any) -> str:
            return str(await inner.step("work", work.do, "left"))

        async def right(inner: Any) -> str:
            return str(await inner.step("work", work.do, "right"))

        branches = {"left": left, "right": right}
        return list(await context.parallel("both", branches, max_concurrency=1))

    run = failed(runner, make(pipeline))
    work.mend()
    assert resumed(runner, run) == ["left", "right"]
    assert work.runs == {"right": 1}


def test_a_code_fix_after_a_failure_runs_nothing_recorded_again(tmp_path: Path, make: Make) -> None:
    work = Work()

    async def broken(event: Any, context: Any) -> Any:
        text = await context.step("extract", work.do, "extract")
        return text.no_such_method()

    async def mended(event: Any, context: Any) -> Any:
        text = await context.step("extract", work.do, "extract")
        return [text, await context.step("summarize", work.do, "summarize")]

    path = tmp_path / "code.db"
    with Runner(path) as runner:
        run = failed(runner, make(broken, name="pipeline"), "input")
    with Runner(path, [make(mended, name="pipeline")], clock=runner.clock) as second:
        again = second.engine.get(run.id)
        assert resumed(second, again) == ["extract", "summarize"]
        check_replay(again)
    assert work.runs == {"extract": 1, "summarize": 1}


def test_a_fixed_step_body_is_the_only_thing_that_runs(tmp_path: Path, make: Make) -> None:
    work = Work("summarize")

    def handler(body: Callable[[str], str]) -> Any:
        async def pipeline(event: Any, context: Any) -> Any:
            text = await context.step("extract", work.do, "extract")
            return [text, await context.step("summarize", body, "summarize")]

        return make(pipeline)

    path = tmp_path / "code.db"
    with Runner(path) as runner:
        run = failed(runner, handler(work.do))
    with Runner(path, [handler(str.upper)], clock=runner.clock) as second:
        again = second.engine.get(run.id)
        assert resumed(second, again) == ["extract", "SUMMARIZE"]
    assert work.runs == {"extract": 1, "summarize": 1}


def test_a_step_after_the_failed_one_may_be_gone_from_the_mended_code(
    tmp_path: Path, make: Make
) -> None:
    work = Work("flaky", "last")

    async def broken(event: Any, context: Any) -> Any:
        try:
            await context.step("flaky", work.do, "flaky")
        except OperationError:
            await context.step("fallback", work.do, "fallback")
        return await context.step("last", work.do, "last")

    path = tmp_path / "code.db"
    with Runner(path) as runner:
        run = failed(runner, make(broken))
    work.mend()
    with Runner(path, [make(broken)], clock=runner.clock) as second:
        again = second.engine.get(run.id)
        assert resumed(second, again, "flaky") == "last"
    assert work.runs == {"flaky": 1, "last": 1}


def test_a_non_determinism_error_is_mended_by_restoring_the_name(
    tmp_path: Path, make: Make
) -> None:
    work = Work()

    def handler(name: str) -> Any:
        async def pipeline(event: Any, context: Any) -> Any:
            await context.step(name, work.do, name)
            await context.sleep(60, "nap")
            return await context.step("last", work.do, "last")

        return make(pipeline)

    path = tmp_path / "code.db"
    with Runner(path) as runner:
        run = runner.start(handler("extract"), None)
        runner.settle()
    with Runner(path, [handler("extraction")], clock=runner.clock) as second:
        second.run_until_idle()
        with pytest.raises(ExecutionFailedError, match="'extraction'.*'extract'"):
            second.engine.get(run.id).result(timeout=5)
    with Runner(path, [handler("extract")], clock=runner.clock) as third:
        assert resumed(third, third.engine.get(run.id)) == "last"
    assert work.runs == {"extract": 1, "last": 1}


def test_a_run_is_resumed_as_often_as_it_fails(runner: Runner, make: Make) -> None:
    work = Work("a", "b")

    async def pipeline(event: Any, context: Any) -> list[str]:
        return [await context.step(name, work.do, name) for name in ("a", "b")]

    run = failed(runner, make(pipeline))
    work.broken.remove("a")
    runner.engine.resume(run.id)
    runner.settle()
    with pytest.raises(ExecutionFailedError, match="b is down"):
        run.result(timeout=5)
    work.broken.remove("b")
    assert resumed(runner, run) == ["a", "b"]
    assert work.runs == {"a": 2, "b": 2}
    check_replay(run)


def test_the_failed_attempts_stay_in_the_history(runner: Runner, make: Make) -> None:
    work = Work("a")

    async def pipeline(event: Any, context: Any) -> str:
        return str(await context.step("a", work.do, "a"))

    run = failed(runner, make(pipeline))
    before = run.history()
    work.mend()
    resumed(runner, run)
    assert run.history()[: len(before)] == before


def test_resuming_a_succeeded_run_is_refused(runner: Runner, make: Make) -> None:
    async def fine(event: Any, context: Any) -> str:
        return "fine"

    run = runner.start(make(fine))
    runner.settle()
    with pytest.raises(ExecutionConflictError, match="SUCCEEDED; only a failed one is resumed"):
        runner.engine.resume(run.id)


def test_resuming_a_cancelled_run_is_refused(runner: Runner, make: Make) -> None:
    async def waits(event: Any, context: Any) -> None:
        await context.sleep(60)

    run = runner.start(make(waits))
    runner.settle()
    run.cancel()
    with pytest.raises(ExecutionConflictError, match="CANCELLED"):
        runner.engine.resume(run.id)


def test_a_step_cut_off_by_a_failing_sibling_is_there_after_resume(runner: Runner) -> None:
    work = Work("bad")

    async def slow() -> str:
        for _ in range(20):
            await asyncio.sleep(0)
        return work.do("slow")

    @durable_execution(name="gathers")
    async def gathers(event: Any, context: AsyncContext) -> Any:
        return await asyncio.gather(context.step("slow", slow), context.step("bad", work.do, "bad"))

    run = failed(runner, gathers)
    work.broken.clear()
    assert resumed(runner, run) == ["slow", "bad"]
    assert work.runs == {"slow": 1, "bad": 2}
