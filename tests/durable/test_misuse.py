"""What people do wrong: each is either right after all, or an error that names it and the cure."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from perdure.durable import (
    AsyncContext,
    Completion,
    Context,
    Duration,
    ExecutionFailedError,
    Limits,
    OperationError,
    UsageError,
    durable_execution,
)
from perdure.durable.testing import Runner, check_replay

Make = Callable[..., Any]


def failure(runner: Runner, handler: Any, event: Any = None) -> ExecutionFailedError:
    """Run a handler that must fail, and return the error of its run."""
    run = runner.start(handler, event)
    runner.run_until_idle()
    with pytest.raises(ExecutionFailedError) as caught:
        run.result(timeout=5)
    return caught.value


def says(error: BaseException, *words: str) -> None:
    """Check that an error holds all these words."""
    for word in words:
        assert word in str(error), f"{word!r} is not in: {error}"


def test_a_bare_except_around_a_wait_fails_and_says_where(runner: Runner) -> None:
    @durable_execution
    def swallows(event: Any, context: Context) -> str:
        try:
            context.sleep(60)
        except:  # noqa: E722
            pass
        return "done"

    says(failure(runner, swallows), "swallowed", "test_misuse.py:", "catch Exception, or re-raise")


def test_a_suspension_turned_into_another_error_fails_and_says_where(runner: Runner) -> None:
    @durable_execution
    def converts(event: Any, context: Context) -> None:
        try:
            context.sleep(60)
        except BaseException:
            raise ValueError("mine") from None

    says(failure(runner, converts), "swallowed", "test_misuse.py:")


def test_a_swallowed_suspension_in_a_child_never_ends_the_child(runner: Runner) -> None:
    @durable_execution
    def parent(event: Any, context: Context) -> None:
        def child(inner: Context) -> None:
            try:
                inner.sleep(60)
            except BaseException:
                raise ValueError("mine") from None

        try:
            context.child("inner", child)
        except OperationError:
            pass

    error = failure(runner, parent)
    says(error, "swallowed")
    assert not runner.engine.operations(runner.engine.list()[0].id)["inner"].closed


@pytest.mark.parametrize("nesting", ["nested", "flat"])
def test_a_swallowed_suspension_in_a_branch_is_no_outcome_of_it(
    runner: Runner, nesting: Any
) -> None:
    @durable_execution
    def maps(event: Any, context: Context) -> None:
        def branch(inner: Context, item: int) -> None:
            try:
                inner.sleep(60)
            except BaseException:
                raise ValueError("mine") from None

        context.map("all", [1, 2], branch, nesting=nesting, completion=Completion(max_failures=2))

    says(failure(runner, maps), "swallowed", "test_misuse.py:")


def test_the_next_call_after_a_swallowed_suspension_does_not_go_on(runner: Runner) -> None:
    ran: list[str] = []

    @durable_execution
    def goes_on(event: Any, context: Context) -> None:
        try:
            context.sleep(60)
        except:  # noqa: E722
            pass
        context.step("after", ran.append, "after")

    says(failure(runner, goes_on), "swallowed")
    assert ran == []


def test_a_claim_made_while_unwinding_records_nothing(runner: Runner) -> None:
    ran: list[str] = []

    @durable_execution
    def cleans_up(event: Any, context: Context) -> str:
        try:
            context.sleep(60)
        finally:
            context.step("clean up", ran.append, "cleaned")
        return "done"

    run = runner.start(cleans_up)
    runner.settle()
    assert ran == []
    assert "clean up" not in run.operations()
    runner.run_until_idle()
    assert (run.result(timeout=5), ran) == ("done", ["cleaned"])


def test_an_async_handler_that_catches_cancelled_error_is_suspended_all_the_same(
    runner: Runner,
) -> None:
    @durable_execution
    async def catches(event: Any, context: AsyncContext) -> str:
        try:
            await context.sleep(60, "nap")
        except asyncio.CancelledError:
            return "cancelled"
        return "slept"

    run = runner.start(catches)
    runner.run_until_idle()
    assert run.result(timeout=5) == "slept"


def test_a_handler_that_asks_again_whenever_it_is_cancelled_does_not_stop_the_engine(
    runner: Runner,
) -> None:
    @durable_execution
    async def insists(event: Any, context: AsyncContext) -> str:
        while True:
            try:
                await context.sleep(60, "nap")
            except asyncio.CancelledError:
                continue
            return "slept"

    run = runner.start(insists)
    runner.run_until_idle()
    assert run.result(timeout=5) == "slept"


def test_a_claim_made_while_an_async_handler_is_closed_records_nothing(runner: Runner) -> None:
    ran: list[str] = []

    @durable_execution
    async def cleans_up(event: Any, context: AsyncContext) -> str:
        try:
            await context.sleep(60)
        finally:
            await context.step("clean up", ran.append, "cleaned")
        return "done"

    run = runner.start(cleans_up)
    runner.settle()
    assert ran == []
    runner.run_until_idle()
    assert (run.result(timeout=5), ran) == ("done", ["cleaned"])


@pytest.mark.parametrize("call", ["step", "sleep", "child", "map"])
def test_a_thread_of_ones_own_cannot_use_the_context(runner: Runner, call: str) -> None:
    @durable_execution
    def threads(event: Any, context: Context) -> list[str]:
        calls: dict[str, Callable[[], Any]] = {
            "step": lambda: context.step("inside", lambda: 1),
            "sleep": lambda: context.sleep(5, "inside"),
            "child": lambda: context.child("inside", lambda inner: 1),
            "map": lambda: context.map("inside", [1], lambda inner, item: item),
        }
        caught: list[str] = []

        def work() -> None:
            try:
                calls[call]()
            except UsageError as error:
                caught.append(str(error))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return caught

    run = runner.start(threads)
    runner.settle()
    [text] = run.result(timeout=5)
    for word in ("'inside'", "thread", "context.map", "test_misuse.py:"):
        assert word in text
    assert run.operations() == {}


def test_a_thread_cannot_use_an_async_context(runner: Runner) -> None:
    @durable_execution
    async def threads(event: Any, context: AsyncContext) -> str:
        def work() -> str:
            try:
                context.step("inside", lambda: 1)
            except UsageError as error:
                return str(error)
            return "went through"

        return await asyncio.to_thread(work)

    run = runner.start(threads)
    runner.settle()
    text = run.result(timeout=5)
    for word in ("'inside'", "thread", "context.map", "test_misuse.py:"):
        assert word in text


def test_one_name_claimed_by_two_tasks_is_refused_at_the_first_pass(runner: Runner) -> None:
    @durable_execution
    async def shares(event: Any, context: AsyncContext) -> Any:
        async def task(value: int) -> Any:
            return await context.step("fetch", lambda: value)

        return await asyncio.gather(task(1), task(2))

    says(failure(runner, shares), "'fetch'", "its own name", "map", "test_misuse.py:")


def test_uuid_and_random_from_two_tasks_are_refused_at_the_first_pass(runner: Runner) -> None:
    @durable_execution
    async def shares(event: Any, context: AsyncContext) -> Any:
        async def task(name: str) -> Any:
            await context.step(name, lambda: 1)
            return str(context.uuid())

        return await asyncio.gather(task("a"), task("b"))

    says(failure(runner, shares), "uuid", "second task", "map", "test_misuse.py:")


def test_a_task_cancelled_with_its_step_in_flight_leaves_the_step_recorded(runner: Runner) -> None:
    started, go_on = threading.Event(), threading.Event()

    def slow() -> str:
        started.set()
        assert go_on.wait(10)
        return "kept"

    @durable_execution
    async def cancels(event: Any, context: AsyncContext) -> str:
        task = asyncio.ensure_future(context.step("slow", slow))
        while not started.is_set():
            await asyncio.sleep(0)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            go_on.set()
        await context.sleep(5)
        return "done"

    run = runner.start(cancels)
    runner.run_until_idle()
    assert run.result(timeout=5) == "done"
    assert run.operations()["slow"].payload == '"kept"'


def test_a_step_in_flight_is_recorded_though_a_sibling_failed_the_run(runner: Runner) -> None:
    go_on = threading.Event()
    ran: list[str] = []

    def slow() -> str:
        assert go_on.wait(10)
        ran.append("slow")
        return "kept"

    @durable_execution(name="gathers")
    async def gathers(event: Any, context: AsyncContext) -> Any:
        async def fails() -> None:
            await asyncio.sleep(0.01)
            threading.Timer(0.05, go_on.set).start()
            raise ValueError("mine")

        return await asyncio.gather(context.step("slow", slow, semantics="at_most_once"), fails())

    run = runner.start(gathers)
    runner.settle()
    with pytest.raises(ExecutionFailedError, match="mine"):
        run.result(timeout=5)
    assert (ran, run.operations()["slow"].payload) == (["slow"], '"kept"')


@pytest.mark.parametrize("call", ["step", "sleep", "child", "map", "now", "patched"])
def test_a_durable_call_inside_a_step_is_refused(runner: Runner, call: str) -> None:
    @durable_execution
    def nests(event: Any, context: Context) -> Any:
        calls: dict[str, Callable[[], Any]] = {
            "step": lambda: context.step("inner", lambda: 1),
            "sleep": lambda: context.sleep(5, "inner"),
            "child": lambda: context.child("inner", lambda inner: 1),
            "map": lambda: context.map("inner", [1], lambda inner, item: item),
            "now": lambda: str(context.now()),
            "patched": lambda: context.patched("inner"),
        }
        return context.step("outer", calls[call])

    says(failure(runner, nests), "inside the body of step 'outer'", "context.child")


@pytest.mark.parametrize("call", ["uuid", "random"])
def test_a_value_derived_inside_a_step_is_refused(
    runner: Runner, kind: str, call: str, make: Make
) -> None:
    async def derives(event: Any, context: Any) -> Any:
        return await context.step("outer", lambda: str(getattr(context, call)()))

    says(failure(runner, make(derives)), "inside the body of step 'outer'")


@pytest.mark.parametrize("sync_body", [True, False])
def test_a_durable_call_inside_a_step_of_an_async_handler_is_refused(
    runner: Runner, sync_body: bool
) -> None:
    @durable_execution
    async def nests(event: Any, context: AsyncContext) -> Any:
        def body() -> Any:
            return context.step("inner", lambda: 1)

        async def abody() -> Any:
            return await context.step("inner", lambda: 1)

        return await context.step("outer", body if sync_body else abody)

    says(failure(runner, nests), "'inner'", "step 'outer'", "context.child")


def test_a_handler_called_directly_says_how_to_run_it(make: Make) -> None:
    async def direct(event: Any, context: Any) -> None: ...

    with pytest.raises(UsageError) as caught:
        make(direct)({"a": 1}, None)
    says(caught.value, "'direct'", "handler.run(event)")


def test_a_function_that_is_not_a_handler_is_refused(runner: Runner) -> None:
    def plain(event: Any, context: Context) -> None: ...

    with pytest.raises(UsageError, match="@durable_execution"):
        runner.engine.register(plain)  # type: ignore[arg-type]


def test_a_handler_that_takes_no_context_is_refused() -> None:
    with pytest.raises(UsageError, match=r"'lonely' must take \(event, context\)"):

        @durable_execution
        def lonely(event: Any) -> None: ...


def test_a_generator_is_no_handler() -> None:
    with pytest.raises(UsageError, match="'numbers' is a generator"):

        @durable_execution
        def numbers(event: Any, context: Context) -> Iterator[int]:
            yield 1


def test_an_async_generator_is_no_handler() -> None:
    with pytest.raises(UsageError, match="'numbers' is a generator"):

        @durable_execution
        async def numbers(event: Any, context: AsyncContext) -> Any:
            yield 1


def test_a_returned_generator_is_refused_by_type(runner: Runner, make: Make) -> None:
    async def returns_one(event: Any, context: Any) -> Any:
        return (number for number in range(3))

    says(failure(runner, make(returns_one)), "generator", "returns_one")


def test_a_generator_as_a_steps_result_is_refused_by_type(runner: Runner, make: Make) -> None:
    async def steps(event: Any, context: Any) -> Any:
        return await context.step("numbers", lambda: (number for number in range(3)))

    says(failure(runner, make(steps)), "'numbers'", "generator")


def test_a_call_left_without_await_is_named(runner: Runner) -> None:
    @durable_execution
    async def forgets(event: Any, context: AsyncContext) -> str:
        context.step("forgotten", lambda: 1)  # type: ignore[unused-coroutine]
        return "done"

    says(failure(runner, forgets), "'forgotten'", "never awaited")


@pytest.mark.parametrize("call", ["wait", "child", "map"])
@pytest.mark.filterwarnings("error")
def test_a_call_left_without_await_leaves_no_warning_besides(runner: Runner, call: str) -> None:
    @durable_execution
    async def forgets(event: Any, context: AsyncContext) -> str:
        match call:
            case "wait":
                context.wait(5, "forgotten")  # type: ignore[unused-coroutine]
            case "child":
                context.child("forgotten", lambda inner: inner.sleep(5))  # type: ignore[unused-coroutine]
            case _:
                context.map("forgotten", [1], lambda inner, item: inner.sleep(5))  # type: ignore[unused-coroutine]
        return "done"

    says(failure(runner, forgets), "'forgotten'", "never awaited")


def test_a_call_left_without_await_in_a_child_fails_the_child(runner: Runner) -> None:
    @durable_execution
    async def forgets(event: Any, context: AsyncContext) -> str:
        async def child(inner: AsyncContext) -> str:
            inner.step("forgotten", lambda: 1)  # type: ignore[unused-coroutine]
            return "done"

        return await context.child("inner", child)

    says(failure(runner, forgets), "'forgotten'", "never awaited")


def test_lambdas_over_a_loop_variable_are_refused_in_parallel(runner: Runner) -> None:
    @durable_execution
    def loops(event: Any, context: Context) -> Any:
        branches = []
        for item in range(3):
            branches.append(lambda inner: inner.step("s", lambda: item))  # noqa: B023
        return list(context.parallel("all", branches))

    says(failure(runner, loops), "'all'", "last value of the loop", "x=x", "map")


def test_lambdas_over_a_loop_variable_are_refused_in_gather(runner: Runner) -> None:
    @durable_execution
    async def loops(event: Any, context: AsyncContext) -> Any:
        calls = []
        for item in range(3):
            calls.append(context.step(f"s{item}", lambda: item))  # noqa: B023
        return await asyncio.gather(*calls)

    says(failure(runner, loops), "'s0'", "loop over gather", "x=x")


def test_bound_lambdas_in_a_loop_are_right(runner: Runner) -> None:
    @durable_execution
    async def loops(event: Any, context: AsyncContext) -> Any:
        calls = [context.step(f"s{item}", lambda item=item: item) for item in range(3)]
        return await asyncio.gather(*calls)

    run = runner.start(loops)
    runner.settle()
    assert run.result(timeout=5) == [0, 1, 2]


def test_a_lambda_in_a_map_over_an_outer_variable_is_right(
    runner: Runner, make: Make, outcome: Any
) -> None:
    async def loops(event: Any, context: Any) -> Any:
        results = []
        for factor in (1, 10):

            async def times(inner: Any, item: int, factor: int = factor) -> int:
                return await inner.step("times", lambda: item * factor)

            results.append(list(await context.map(f"by {factor}", [1, 2], times)))
        return results

    assert outcome(make(loops)) == [[1, 2], [10, 20]]


@pytest.mark.parametrize("where", ["handler", "step", "task"])
def test_sys_exit_fails_the_run_and_not_the_engine(
    runner: Runner, make: Make, kind: str, where: str
) -> None:
    async def leaves(event: Any, context: Any) -> None:
        if where == "step":
            await context.step("leaves", lambda: sys.exit(3))
        elif where == "task" and kind == "async":

            async def task() -> None:
                sys.exit(3)

            await asyncio.gather(task())
        sys.exit(3)

    async def stays(event: Any, context: Any) -> str:
        return str(await context.step("stays", lambda: "here"))

    says(failure(runner, make(leaves)), "SystemExit")
    run = runner.start(make(stays))
    runner.settle()
    assert run.result(timeout=5) == "here"


def test_an_async_branch_of_a_sync_handler_is_refused(runner: Runner) -> None:
    @durable_execution
    def mixes(event: Any, context: Context) -> Any:
        async def branch(inner: Context, item: int) -> int:
            return item

        return list(context.map("all", [1], branch))

    says(failure(runner, mixes), "async", "all[0]")


def test_an_async_child_of_a_sync_handler_is_refused(runner: Runner) -> None:
    @durable_execution
    def mixes(event: Any, context: Context) -> Any:
        async def child(inner: Context) -> int:
            return 1

        return context.child("inner", child)

    says(failure(runner, mixes), "'inner'", "async def")


BAD_NAMES = {
    "null": (None, "is a str, not NoneType"),
    "empty": ("", "1 to 256 characters"),
    "too long": ("x" * 257, "1 to 256 characters, not 257"),
    "not ASCII": ("prüfen", "printable ASCII"),
    "not printable": ("a\nb", "printable ASCII"),
    "reserved": ("perdure:failed", "reserved"),
}


@pytest.mark.parametrize("case", BAD_NAMES)
@pytest.mark.parametrize("call", ["step", "child", "map", "parallel", "callback", "invoke"])
def test_a_name_that_cannot_be_is_refused(runner: Runner, make: Make, call: str, case: str) -> None:
    name, words = BAD_NAMES[case]

    async def names(event: Any, context: Any) -> None:
        async def branch(inner: Any, *item: Any) -> None: ...

        arguments: dict[str, tuple[Any, ...]] = {
            "step": (lambda: 1,),
            "child": (branch,),
            "map": ([1], branch),
            "parallel": ([branch],),
            "callback": (),
            "invoke": ("other",),
        }
        await getattr(context, call)(name, *arguments[call])

    says(failure(runner, make(names)), words)


@pytest.mark.parametrize("name", ["x" * 256, "a", "with spaces & signs!", "~"])
def test_a_name_of_the_allowed_kind_is_kept(runner: Runner, make: Make, name: str) -> None:
    async def names(event: Any, context: Any) -> None:
        await context.step(name, lambda: 1)

    run = runner.start(make(names))
    runner.settle()
    assert [each.name for each in run.operations().values()] == [name]


BAD_RETRIES = {
    "an unknown key": ({"max_attempt": 3}, "max_attempt", "max_attempts"),
    "a negative delay": ({"initial_delay": -1}, "initial_delay", "not negative"),
    "a negative rate": ({"backoff_rate": -2}, "backoff_rate", "not negative"),
    "no attempt": ({"max_attempts": 0}, "max_attempts", "at least 1"),
    "half an attempt": ({"max_attempts": 1.5}, "max_attempts", "whole number"),
    "a word": ({"max_delay": "long"}, "max_delay", "number"),
    "a nan": ({"max_delay": float("nan")}, "max_delay", "number"),
    "a bad jitter": ({"jitter": "some"}, "jitter", "'full' or 'none'"),
    "a bad filter": ({"retry_on": "ValueError"}, "retry_on", "exception class"),
    "a number": (3, "dict or a RetryPolicy", "int"),
}


@pytest.mark.parametrize("case", BAD_RETRIES)
def test_a_retry_that_cannot_be_meant_is_refused_at_the_call(
    runner: Runner, make: Make, case: str
) -> None:
    retry, *words = BAD_RETRIES[case]
    ran: list[int] = []

    async def retries(event: Any, context: Any) -> None:
        await context.step("try", ran.append, 1, retry=retry)

    says(failure(runner, make(retries)), *words)
    assert ran == []


BAD_DURATIONS = {
    "zero": (0, "longer than zero"),
    "negative": (-5, "longer than zero"),
    "a negative timedelta": (timedelta(seconds=-1), "longer than zero"),
    "too short": (0.0001, "longer than zero"),
    "too long": (timedelta(days=367), "at most 366 days"),
    "a word": ("a week", "number of seconds, not str"),
    "nothing": (None, "NoneType"),
    "infinite": (float("inf"), "longer than zero"),
    "a bool": (True, "not bool"),
}


@pytest.mark.parametrize("case", BAD_DURATIONS)
@pytest.mark.parametrize("call", ["sleep", "wait"])
def test_a_duration_that_cannot_be_meant_is_refused(
    runner: Runner, make: Make, call: str, case: str
) -> None:
    value, words = BAD_DURATIONS[case]

    async def waits(event: Any, context: Any) -> None:
        await getattr(context, call)(value, name="nap")

    says(failure(runner, make(waits)), words, "'nap'")


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_a_duration_of_no_length_cannot_be_made(seconds: float) -> None:
    with pytest.raises(UsageError, match="longer than zero"):
        Duration.from_days(seconds)


@pytest.mark.parametrize("call", ["step", "child", "map", "parallel", "wait_for_condition"])
def test_what_is_not_callable_is_refused_by_name(runner: Runner, make: Make, call: str) -> None:
    async def calls(event: Any, context: Any) -> None:
        arguments: dict[str, tuple[Any, ...]] = {
            "step": (42,),
            "child": (42,),
            "map": ([1], 42),
            "parallel": ([42],),
            "wait_for_condition": (42, None, bool, 5),
        }
        await getattr(context, call)("the-one", *arguments[call])

    says(failure(runner, make(calls)), "the-one", "function")


BAD_BATCHES = {
    "no concurrency": ({"max_concurrency": 0}, "max_concurrency"),
    "half a concurrency": ({"max_concurrency": 1.5}, "max_concurrency"),
    "a bad nesting": ({"nesting": "deep"}, "'nested' or 'flat'"),
    "a dict as completion": ({"completion": {"min_successful": 1}}, "Completion"),
}


@pytest.mark.parametrize("case", BAD_BATCHES)
@pytest.mark.parametrize("call", ["map", "parallel"])
def test_a_batch_that_cannot_be_meant_is_refused(
    runner: Runner, make: Make, call: str, case: str
) -> None:
    options, words = BAD_BATCHES[case]

    async def batches(event: Any, context: Any) -> None:
        async def branch(inner: Any, *item: Any) -> None: ...

        if call == "map":
            await context.map("all", [1], branch, **options)
        else:
            await context.parallel("all", [branch], **options)

    says(failure(runner, make(batches)), words, "'all'")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"min_successful": 0}, "min_successful"),
        ({"max_failures": -1}, "max_failures"),
        ({"max_failure_ratio": 1.5}, "max_failure_ratio"),
        ({"min_successful": True}, "min_successful"),
    ],
)
def test_a_completion_that_cannot_be_meant_is_refused(options: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Completion(**options)


def test_more_successes_than_there_are_branches_means_all(
    runner: Runner, make: Make, outcome: Any
) -> None:
    async def batches(event: Any, context: Any) -> Any:
        async def branch(inner: Any, item: int) -> int:
            return item

        return list(
            await context.map("all", [1, 2], branch, completion=Completion(min_successful=3))
        )

    assert outcome(make(batches)) == [1, 2]


@pytest.mark.parametrize("items", ["text", {"a": 1}, 5])
def test_a_map_over_what_is_no_list_is_refused(runner: Runner, make: Make, items: Any) -> None:
    async def maps(event: Any, context: Any) -> None:
        async def branch(inner: Any, item: Any) -> None: ...

        await context.map("all", items, branch)

    says(failure(runner, make(maps)), "'all'", "list of items", type(items).__name__)


def test_a_condition_without_a_pace_is_refused(runner: Runner, make: Make) -> None:
    async def polls(event: Any, context: Any) -> None:
        await context.wait_for_condition("ready", lambda state: True)

    says(failure(runner, make(polls)), "'ready'", "every=", "backoff=")


def test_unknown_semantics_are_refused(runner: Runner, make: Make) -> None:
    async def steps(event: Any, context: Any) -> None:
        await context.step("pay", lambda: 1, semantics="exactly_once")

    says(failure(runner, make(steps)), "'pay'", "at_most_once", "exactly_once")


def test_an_unserialisable_result_is_refused_at_its_step_and_never_retried(
    runner: Runner, make: Make
) -> None:
    ran: list[int] = []

    def lock() -> Any:
        ran.append(1)
        return threading.Lock()

    async def keeps(event: Any, context: Any) -> None:
        await context.step("lock", lock, retry={"max_attempts": 5})

    says(failure(runner, make(keeps)), "'lock'", "_thread.lock")
    assert ran == [1]


def test_a_run_that_failed_over_an_unserialisable_result_is_resumed(
    runner: Runner, make: Make
) -> None:
    values: list[Any] = [threading.Lock(), "kept"]
    ran: list[int] = []

    async def keeps(event: Any, context: Any) -> Any:
        await context.step("before", ran.append, 1)
        return await context.step("value", values.pop, 0)

    run = runner.start(make(keeps))
    runner.settle()
    assert run.status == "FAILED"
    runner.engine.resume(run.id)
    runner.settle()
    assert (run.result(timeout=5), ran) == ("kept", [1])


def test_an_unserialisable_result_of_the_handler_is_refused_by_type(
    runner: Runner, make: Make
) -> None:
    async def keeps(event: Any, context: Any) -> Any:
        return {"lock": threading.Lock()}

    says(failure(runner, make(keeps)), "_thread.lock", "handler 'keeps'")


@pytest.mark.parametrize("nesting", ["nested", "flat"])
def test_an_unserialisable_result_of_a_branch_fails_the_branch(
    runner: Runner, make: Make, nesting: Any
) -> None:
    async def keeps(event: Any, context: Any) -> Any:
        async def branch(inner: Any, item: int) -> Any:
            return threading.Lock() if item else "fine"

        result = await context.map(
            "all", [0, 1], branch, completion=Completion(max_failures=1), nesting=nesting
        )
        return [list(result), [each.error.message for each in result.failures]]

    run = runner.start(make(keeps))
    runner.settle()
    good, [bad] = run.result(timeout=5)
    assert good == ["fine"]
    assert "_thread.lock" in bad


def test_an_input_that_cannot_be_kept_is_refused_when_started(runner: Runner, make: Make) -> None:
    async def takes(event: Any, context: Any) -> None: ...

    with pytest.raises(Exception, match=r"_thread\.lock"):
        runner.start(make(takes), {"lock": threading.Lock()})
    assert runner.engine.list() == []


class TestLimits:
    """A payload over the limit of its engine."""

    @pytest.fixture
    def runner(self, tmp_path: Path) -> Iterator[Runner]:
        with Runner(tmp_path / "journal.db", limits=Limits(payload=1_000)) as runner:
            yield runner

    @pytest.mark.parametrize("what", ["step", "child", "branch", "handler"])
    def test_a_result_over_the_limit_is_refused_with_both_sizes(
        self, runner: Runner, make: Make, what: str
    ) -> None:
        async def large(event: Any, context: Any) -> Any:
            async def scope(inner: Any, *item: Any) -> str:
                return "x" * 2_000

            match what:
                case "step":
                    await context.step("large", lambda: "x" * 2_000)
                case "child":
                    await context.child("large", scope)
                case "branch":
                    await context.map("large", [1], scope)
            return "x" * 2_000

        says(failure(runner, make(large)), "large", "2,002 bytes", "1,000", "reference")

    def test_an_input_over_the_limit_is_refused(self, runner: Runner, make: Make) -> None:
        async def takes(event: Any, context: Any) -> None: ...

        with pytest.raises(UsageError, match="limit"):
            runner.start(make(takes), "x" * 2_000)
        assert runner.engine.list() == []

    def test_a_caught_refusal_lets_the_run_go_on(self, runner: Runner, make: Make) -> None:
        async def catches(event: Any, context: Any) -> Any:
            try:
                await context.step("large", lambda: "x" * 2_000)
            except OperationError as error:
                return error.error_type

        run = runner.start(make(catches))
        runner.settle()
        assert run.result(timeout=5) == "perdure.PayloadTooLargeError"
        check_replay(run)

    def test_a_run_at_its_limit_of_operations_fails_and_goes_on_when_that_is_raised(
        self, tmp_path: Path, make: Make
    ) -> None:
        ran: list[int] = []

        async def many(event: Any, context: Any) -> Any:
            for n in range(12):
                await context.step(f"step-{n}", ran.append, n)

        path, handler = tmp_path / "many.db", make(many)
        with Runner(path, limits=Limits(operations=10)) as runner:
            run = runner.start(handler)
            runner.run_until_idle()
            with pytest.raises(ExecutionFailedError, match="more than the 10 operations"):
                run.result(timeout=5)
            assert ran == list(range(10))
        with Runner(path, [handler], limits=Limits(operations=12)) as second:
            second.engine.resume(run.id)
            second.run_until_idle()
            second.engine.get(run.id).result(timeout=5)
        assert ran == list(range(12))
