"""Maps and parallels: side by side, decided by a rule, and the same at each replay."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perdure.durable import (
    AsyncContext,
    BatchError,
    Completion,
    Context,
    durable_execution,
)
from perdure.durable.testing import Runner, check_replay

Make = Callable[..., Any]
NESTINGS = pytest.mark.parametrize("nesting", ["nested", "flat"])


def fails(item: Any) -> None:
    raise ConnectionError(f"{item} is down")


async def tries(inner: Any, item: str) -> str:
    """A branch that fails for items that begin with an x."""
    return str(await inner.step("work", fails if item.startswith("x") else str, item))


@NESTINGS
def test_results_stand_in_item_order(make: Make, outcome: Any, nesting: Any) -> None:
    async def maps(event: Any, context: Any) -> Any:
        async def branch(inner: Any, item: int) -> int:
            await inner.sleep(10 - item, "nap")
            return int(await inner.step("work", lambda: item * item))

        return list(await context.map("all", range(5), branch, nesting=nesting))

    assert outcome(make(maps)) == [0, 1, 4, 9, 16]


def test_a_branch_may_take_its_index(make: Make, outcome: Any) -> None:
    async def maps(event: Any, context: Any) -> Any:
        async def branch(inner: Any, item: str, index: int) -> str:
            return f"{index}{item}"

        return list(await context.map("all", ["a", "b"], branch))

    assert outcome(make(maps)) == ["0a", "1b"]


def test_an_empty_map_is_an_empty_result(make: Make, outcome: Any) -> None:
    async def maps(event: Any, context: Any) -> Any:
        result = await context.map("all", [], tries)
        return [list(result), result.reason]

    assert outcome(make(maps)) == [[], "ALL_COMPLETED"]


@NESTINGS
def test_a_list_of_functions_runs_in_parallel(make: Make, outcome: Any, nesting: Any) -> None:
    async def both(event: Any, context: Any) -> Any:
        async def left(inner: Any) -> Any:
            return await inner.step("s", lambda: "left")

        async def right(inner: Any) -> Any:
            return await inner.step("s", lambda: "right")

        return list(await context.parallel("both", [left, right], nesting=nesting))

    assert outcome(make(both)) == ["left", "right"]


@NESTINGS
def test_a_dict_of_functions_is_read_by_key(runner: Runner, make: Make, nesting: Any) -> None:
    async def both(event: Any, context: Any) -> Any:
        async def branch(inner: Any) -> Any:
            return await inner.step("s", lambda: "left")

        async def other(inner: Any) -> Any:
            return await inner.step("s", lambda: "right")

        result = await context.parallel("both", {"a": branch, "b": other}, nesting=nesting)
        await context.sleep(60)
        return [result["b"], result["a"], [each.name for each in result.outcomes]]

    run = runner.start(make(both))
    runner.run_until_idle()
    assert run.result(timeout=5) == ["right", "left", ["a", "b"]]
    check_replay(run)


def test_the_branches_of_a_dict_are_known_by_key_and_not_by_place(
    tmp_path: Path, make: Make
) -> None:
    def handler(*keys: str) -> Any:
        async def both(event: Any, context: Any) -> Any:
            def branch(key: str) -> Any:
                async def run(inner: Any) -> Any:
                    value = await inner.step("s", lambda: key)
                    await inner.sleep(60, "nap")
                    return value

                return run

            result = await context.parallel("both", {key: branch(key) for key in keys})
            return [result[key] for key in sorted(keys)]

        return make(both)

    with Runner(tmp_path / "j.db", [handler("a", "b")]) as runner:
        run = runner.start("both")
        runner.settle()
    with Runner(tmp_path / "j.db", [handler("b", "a")], clock=runner.clock) as second:
        second.run_until_idle()
        assert second.engine.get(run.id).result(timeout=5) == ["a", "b"]


def test_items_may_have_names(runner: Runner, make: Make) -> None:
    async def maps(event: Any, context: Any) -> Any:
        result = await context.map(
            "all",
            ["x-ray", "yoke"],
            tries,
            item_name=lambda item: f"item {item}",
            completion=Completion(max_failures=1),
        )
        return [result["item yoke"], result.failures[0].name]

    run = runner.start(make(maps))
    runner.settle()
    assert run.result(timeout=5) == ["yoke", "item x-ray"]


@NESTINGS
def test_a_result_is_the_same_at_replay(runner: Runner, make: Make, nesting: Any) -> None:
    seen: list[Any] = []

    async def maps(event: Any, context: Any) -> None:
        result = await context.map(
            "all", ["a", "x", "b"], tries, nesting=nesting, completion=Completion(max_failures=1)
        )
        seen.append(result)
        await context.sleep(60)

    runner.start(make(maps))
    runner.run_until_idle()
    first, again = seen
    assert list(first) == list(again) == ["a", "b"]
    assert first == again
    assert first.failures[0].error == again.failures[0].error


@NESTINGS
def test_a_batch_error_is_the_same_at_replay(runner: Runner, make: Make, nesting: Any) -> None:
    seen: list[Any] = []

    async def maps(event: Any, context: Any) -> None:
        try:
            await context.map("all", ["a", "x"], tries, nesting=nesting, max_concurrency=1)
        except BatchError as error:
            seen.append((str(error), error.error_type, error.result.reason, list(error.result)))
        await context.sleep(60)

    run = runner.start(make(maps))
    runner.run_until_idle()
    run.result(timeout=5)
    assert seen[0] == seen[1]
    assert "x is down" in seen[0][0]
    assert seen[0][2:] == ("FAILURE_TOLERANCE_EXCEEDED", ["a"])


async def counted(event: Any, context: Any) -> Any:
    """Map over the event's items by the event's rule; return what it came to."""
    result: Any
    try:
        result = await context.map(
            "all",
            event["items"],
            tries,
            max_concurrency=1,
            completion=event.get("rule") and Completion(**event["rule"]),
        )
        raised = False
    except BatchError as error:
        result, raised = error.result, True
    return [raised, result.reason, result.success_count, result.failure_count]


ALL = "ALL_COMPLETED"
ENOUGH = "MIN_SUCCESSFUL_REACHED"
TOO_MANY = "FAILURE_TOLERANCE_EXCEEDED"


@pytest.mark.parametrize(
    ("items", "rule", "expected"),
    [
        ("a b c", None, [False, ALL, 3, 0]),
        ("a x c", None, [True, TOO_MANY, 1, 1]),
        ("a b c", {"min_successful": 2}, [False, ENOUGH, 2, 0]),
        ("x a b", {"min_successful": 2}, [False, ENOUGH, 2, 1]),
        ("x y1 x2 a", {"min_successful": 3}, [True, TOO_MANY, 1, 2]),
        ("x b x2 d", {"max_failures": 2}, [False, ALL, 2, 2]),
        ("x x1 x2 d", {"max_failures": 1}, [True, TOO_MANY, 0, 2]),
        ("x b c d", {"max_failures": 0}, [True, TOO_MANY, 0, 1]),
        ("x b x2 d", {"max_failure_ratio": 0.5}, [False, ALL, 2, 2]),
        ("x b x2 d", {"max_failure_ratio": 0.25}, [True, TOO_MANY, 1, 2]),
        ("a x b x2", {"min_successful": 2, "max_failures": 0}, [True, TOO_MANY, 1, 1]),
    ],
)
def test_a_batch_is_decided_by_its_rule(
    runner: Runner, make: Make, items: str, rule: Any, expected: Any
) -> None:
    run = runner.start(make(counted), {"items": items.split(), "rule": rule})
    runner.settle()
    assert run.result(timeout=5) == expected
    check_replay(run)


def test_no_branch_starts_once_the_outcome_is_decided(runner: Runner, make: Make) -> None:
    ran: list[str] = []

    async def maps(event: Any, context: Any) -> Any:
        async def branch(inner: Any, item: str) -> Any:
            ran.append(item)
            return await tries(inner, item)

        try:
            await context.map("all", ["a", "x", "b", "c"], branch, max_concurrency=1)
        except BatchError as error:
            return error.result.total_count

    run = runner.start(make(maps))
    runner.settle()
    assert run.result(timeout=5) == 2
    assert ran == ["a", "x"]


@NESTINGS
def test_branches_that_only_wait_are_dropped_when_one_fails(
    runner: Runner, make: Make, nesting: Any
) -> None:
    async def maps(event: Any, context: Any) -> Any:
        async def branch(inner: Any, item: str) -> Any:
            if item == "waits":
                await inner.wait(3600, "approval")
            return await tries(inner, item)

        try:
            await context.map("all", ["waits", "x"], branch, nesting=nesting)
        except BatchError as error:
            return [error.result.started_count, error.result.failure_count]

    start = runner.clock.now()
    run = runner.start(make(maps))
    runner.settle()
    assert run.result(timeout=5) == [1, 1]
    assert runner.clock.now() == start
    check_replay(run)


@NESTINGS
def test_a_dropped_branch_stays_dropped_after_its_wait_is_over(
    runner: Runner, make: Make, nesting: Any
) -> None:
    ran: list[str] = []

    async def maps(event: Any, context: Any) -> Any:
        async def branch(inner: Any, item: int) -> Any:
            await inner.sleep(item * 10, "nap")
            await inner.step("work", ran.append, str(item))
            return item

        result = await context.map(
            "all", [3, 1, 2], branch, nesting=nesting, completion=Completion(min_successful=1)
        )
        await context.sleep(3600)
        return list(result)

    run = runner.start(make(maps))
    runner.run_until_idle()
    assert run.result(timeout=5) == [1]
    assert ran == ["1"]
    check_replay(run)


@NESTINGS
def test_an_at_most_once_body_in_flight_is_recorded_before_the_batch_closes(
    runner: Runner, make: Make, nesting: Any
) -> None:
    paying, go_on = threading.Event(), threading.Event()

    def pay() -> str:
        paying.set()
        assert go_on.wait(10)
        return "paid"

    def fail() -> None:
        assert paying.wait(10)
        threading.Timer(0.05, go_on.set).start()
        raise ConnectionError

    async def maps(event: Any, context: Any) -> Any:
        async def branch(inner: Any, item: str) -> Any:
            if item == "pays":
                await inner.step("pay", pay, semantics="at_most_once")
                return await inner.step("never", lambda: 1)
            return await inner.step("fail", fail)

        try:
            await context.map("all", ["pays", "fails"], branch, nesting=nesting)
        except BatchError as error:
            return [error.result.started_count, error.result.failure_count]

    run = runner.start(make(maps))
    runner.settle()
    assert run.result(timeout=10) == [1, 1]
    operations = {each.name: each for each in run.operations().values()}
    assert operations["pay"].payload == '"paid"'
    assert "never" not in operations
    ended = [event.get("Name") for event in run.history() if "Succeeded" in event["EventType"]]
    assert ended.index("pay") < ended.index("all")
    check_replay(run)


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_no_more_branches_run_at_once_than_allowed(runner: Runner, make: Make, limit: int) -> None:
    lock = threading.Lock()
    inside: list[int] = []
    most: list[int] = []

    def work(item: int) -> int:
        with lock:
            inside.append(item)
            most.append(len(inside))
        threading.Event().wait(0.002)
        with lock:
            inside.remove(item)
        return item

    async def maps(event: Any, context: Any) -> Any:
        async def branch(inner: Any, item: int) -> Any:
            return await inner.step("work", work, item)

        return list(await context.map("all", range(8), branch, max_concurrency=limit))

    run = runner.start(make(maps))
    runner.settle()
    assert run.result(timeout=5) == list(range(8))
    assert max(most) <= limit


@NESTINGS
def test_a_branch_that_waits_does_not_hold_the_others(
    runner: Runner, make: Make, nesting: Any
) -> None:
    ran: list[int] = []

    async def maps(event: Any, context: Any) -> Any:
        async def branch(inner: Any, item: int) -> Any:
            if item == 0:
                await inner.wait(3600, "approval")
            await inner.step("work", ran.append, item)
            return item

        return list(await context.map("all", range(4), branch, max_concurrency=1, nesting=nesting))

    run = runner.start(make(maps))
    runner.settle()
    assert ran == [1, 2, 3]
    assert [wait.path for wait in run.waiting_for()] == ["all[0]/approval"]
    runner.engine.send(run.id, "approval")
    runner.settle()
    assert run.result(timeout=5) == [0, 1, 2, 3]
    assert ran == [1, 2, 3, 0]


def test_a_branch_that_backs_off_does_not_hold_the_others(runner: Runner, make: Make) -> None:
    ran: list[int] = []

    def work(item: int) -> int:
        ran.append(item)
        if item == 0 and ran.count(0) == 1:
            raise ConnectionError
        return item

    async def maps(event: Any, context: Any) -> Any:
        async def branch(inner: Any, item: int) -> Any:
            return await inner.step("work", work, item, retry={"max_attempts": 2})

        return list(await context.map("all", range(3), branch, max_concurrency=1))

    run = runner.start(make(maps))
    runner.settle()
    assert ran == [0, 1, 2]
    runner.run_until_idle()
    assert run.result(timeout=5) == [0, 1, 2]
    assert ran == [0, 1, 2, 0]


def test_a_run_with_only_waiting_branches_is_suspended(runner: Runner, make: Make) -> None:
    async def maps(event: Any, context: Any) -> Any:
        async def branch(inner: Any, item: int) -> Any:
            return await inner.wait(60, "approval")

        return list(await context.map("all", range(3), branch))

    run = runner.start(make(maps))
    runner.settle()
    assert not run.info().active
    assert len(run.waiting_for()) == 3


def test_a_nested_branch_costs_an_operation_of_its_own(runner: Runner, make: Make) -> None:
    assert _operations(runner, make, "nested") == Counter({"Map": 1, "MapIteration": 5, "Step": 5})


def test_a_flat_branch_costs_no_operation(runner: Runner, make: Make) -> None:
    assert _operations(runner, make, "flat") == Counter({"Map": 1, "Step": 5})


def _operations(runner: Runner, make: Make, nesting: str) -> Counter[str]:
    async def maps(event: Any, context: Any) -> Any:
        return list(await context.map("all", list("abcde"), tries, nesting=nesting))

    run = runner.start(make(maps))
    runner.settle()
    assert run.result(timeout=5) == list("abcde")
    return Counter(str(each.subtype) for each in run.operations().values())


@pytest.mark.parametrize("threads", [1, 2, 5])
@NESTINGS
def test_nested_maps_do_not_deadlock_whatever_the_size_of_the_pool(
    tmp_path: Path, make: Make, threads: int, nesting: Any
) -> None:
    async def maps(event: Any, context: Any) -> Any:
        async def row(inner: Any, y: int) -> Any:
            async def column(deep: Any, x: int) -> Any:
                async def depth(deepest: Any, z: int) -> Any:
                    return await deepest.step("cell", lambda: 100 * y + 10 * x + z)

                return list(await deep.map("depth", range(3), depth, nesting=nesting))

            return list(await inner.map("columns", range(3), column, nesting=nesting))

        return list(await context.map("rows", range(3), row, nesting=nesting))

    with Runner(tmp_path / "j.db", threads=threads) as runner:
        run = runner.start(make(maps))
        runner.settle()
        expected = [[[100 * y + 10 * x + z for z in range(3)] for x in range(3)] for y in range(3)]
        assert run.result(timeout=10) == expected
        check_replay(run)


def test_async_bodies_in_sync_branches_do_not_deadlock_a_pool_of_one(tmp_path: Path) -> None:
    async def body(item: int) -> int:
        return item

    @durable_execution
    def maps(event: Any, context: Context) -> Any:
        def branch(inner: Context, item: int) -> Any:
            return inner.step("work", body, item)

        return list(context.map("all", range(5), branch))

    with Runner(tmp_path / "j.db", threads=1) as runner:
        run = runner.start(maps)
        runner.settle()
        assert run.result(timeout=10) == [0, 1, 2, 3, 4]


def test_sync_bodies_in_async_branches_do_not_deadlock_a_pool_of_one(tmp_path: Path) -> None:
    @durable_execution
    async def maps(event: Any, context: AsyncContext) -> Any:
        async def branch(inner: AsyncContext, item: int) -> Any:
            return await inner.step("work", lambda: item)

        return list(await context.map("all", range(5), branch))

    with Runner(tmp_path / "j.db", threads=1) as runner:
        run = runner.start(maps)
        runner.settle()
        assert run.result(timeout=10) == [0, 1, 2, 3, 4]


def test_waits_in_nested_maps_wake_only_what_they_belong_to(runner: Runner, make: Make) -> None:
    ran: Counter[str] = Counter()

    async def maps(event: Any, context: Any) -> Any:
        async def row(inner: Any, y: int) -> Any:
            async def cell(deep: Any, x: int) -> Any:
                await deep.step("before", ran.update, [f"before {y}{x}"])
                await deep.sleep(10 + 10 * (2 * y + x), "nap")
                await deep.step("after", ran.update, [f"after {y}{x}"])
                return 10 * y + x

            return list(await inner.map("cells", range(2), cell))

        return list(await context.map("rows", range(2), row))

    run = runner.start(make(maps))
    runner.run_until_idle()
    assert run.result(timeout=5) == [[0, 1], [10, 11]]
    assert set(ran.values()) == {1}
    assert len(ran) == 8
    check_replay(run)


def test_a_finished_child_is_not_entered_again(runner: Runner, make: Make) -> None:
    entered: list[int] = []

    async def parent(event: Any, context: Any) -> Any:
        async def child(inner: Any) -> Any:
            entered.append(1)
            return await inner.step("work", lambda: "made")

        value = await context.child("inner", child)
        await context.sleep(60)
        return value

    run = runner.start(make(parent))
    runner.run_until_idle()
    assert run.result(timeout=5) == "made"
    assert entered == [1]


def test_names_in_a_child_do_not_meet_those_outside(make: Make, outcome: Any) -> None:
    async def parent(event: Any, context: Any) -> Any:
        async def child(inner: Any) -> Any:
            return await inner.step("same", lambda: "inside")

        return [await context.step("same", lambda: "outside"), await context.child("same2", child)]

    assert outcome(make(parent)) == ["outside", "inside"]


def test_a_child_that_raises_is_a_child_error(make: Make, outcome: Any) -> None:
    async def parent(event: Any, context: Any) -> Any:
        async def child(inner: Any) -> None:
            raise LookupError("nothing inside")

        try:
            await context.child("inner", child)
        except Exception as error:
            return [type(error).__name__, error.error_type, error.error.message]  # type: ignore[attr-defined]

    assert outcome(make(parent)) == ["ChildError", "LookupError", "nothing inside"]


@pytest.mark.parametrize("nesting", ["nested", "flat"])
def test_a_retry_in_a_branch_that_was_dropped_wakes_nobody(
    make: Callable[..., Any], runner: Runner, nesting: str
) -> None:
    def failing() -> None:
        raise ValueError("not yet")

    async def handler(event: Any, context: Any) -> Any:
        async def retried(scope: Any) -> Any:
            retry = {"max_attempts": 9, "initial_delay": 10, "jitter": "none"}
            return await scope.step("fails", failing, retry=retry)

        async def slept(scope: Any) -> str:
            await scope.sleep(1)
            return "slept"

        first = await context.parallel(
            "race",
            {"retried": retried, "slept": slept},
            completion=Completion(min_successful=1),
            nesting=nesting,
        )
        await context.sleep(1000)
        return first[0]

    run = runner.start(make(handler))
    runner.run_until_idle(timeout=10, most=50)
    assert run.result() == "slept"
    assert sum(e["EventType"] == "InvocationCompleted" for e in run.history()) <= 4
