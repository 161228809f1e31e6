"""What floors above ask a context: where it stands, and to close callbacks nobody is to answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from perdure.durable import (
    CallbackClosedError,
    CallbackError,
    CallbackTimeoutError,
    ChildError,
    Completion,
    Duration,
    ExecutionFailedError,
    PerdureError,
    UsageError,
)
from perdure.durable.gated import (
    clock_of,
    end_of,
    home_of,
    opened,
    scope_of,
    value_of,
    withdraw,
)
from perdure.durable.testing import Runner, check_crashes, check_replay

from .both import inner

Make = Callable[..., Any]


class Refused(PerdureError):
    """An error of a floor above."""


def suspended(runner: Runner, handler: Any, event: Any = None) -> Any:
    """Start a run, bring it to where only waits are left, and return it."""
    run = runner.start(handler, event)
    runner.settle()
    assert run.status == "RUNNING"
    return run


def ids(run: Any) -> dict[str, str]:
    """The ids of the callbacks a run waits for, by the last part of their paths."""
    return {
        wait.path.rpartition("/")[2]: wait.callback_id
        for wait in run.waiting_for()
        if wait.callback_id is not None
    }


def test_a_scope_is_opened_and_its_result_returned(runner: Runner, make: Make) -> None:
    async def body(scope: Any) -> Any:
        return [await value_of(scope.step("s", lambda: 1)), scope_of(scope)]

    async def handler(event: Any, context: Any) -> Any:
        return await value_of(opened(inner(context), "asks", body))

    run = runner.start(make(handler))
    runner.run_until_idle()
    assert run.result() == [1, run.operations()["asks"].id]
    check_replay(run)


def test_an_opened_scope_lets_only_its_own_errors_leave_as_they_are(
    runner: Runner, make: Make
) -> None:
    async def fails(scope: Any) -> Any:
        raise Refused("not today")

    async def handler(event: Any, context: Any) -> Any:
        own = [Refused] if event else []
        try:
            await value_of(opened(inner(context), "asks", fails, *own))
        except Refused as error:
            return ["own", str(error)]
        except ChildError as error:
            return ["child", error.error.message]

    made = make(handler)
    runs = [runner.start(made, event) for event in (True, False)]
    runner.run_until_idle()
    assert runs[0].result() == ["own", "not today"]
    assert runs[1].result() == ["child", "not today"]
    for run in runs:
        check_replay(run)


def test_a_context_knows_the_scope_it_is(runner: Runner, make: Make) -> None:
    seen: dict[str, str | None] = {}

    async def note(name: str, context: Any) -> None:
        seen[name] = scope_of(inner(context))

    async def handler(event: Any, context: Any) -> None:
        await note("", context)
        await context.child("one", lambda scope: note("one", scope))
        await context.parallel("two", {"a": lambda branch: note("two[a]", branch)})
        await context.parallel("flat", {"a": lambda branch: note("flat", branch)}, nesting="flat")

    run = runner.start(make(handler))
    runner.run_until_idle()
    run.result()
    operations = run.operations()
    assert seen.pop("") is None
    assert seen == {path: operations[path].id for path in ("one", "two[a]", "flat")}


def test_a_context_knows_the_folder_the_clock_and_the_end_of_its_run(
    runner: Runner, make: Make, tmp_path: Path
) -> None:
    async def handler(event: Any, context: Any) -> Any:
        context = inner(context)
        assert clock_of(context) is runner.clock
        return [str(home_of(context)), end_of(context)]

    begin = runner.clock.moment()
    run = runner.start(make(handler, timeout=Duration.from_days(3)))
    runner.settle()
    assert run.result() == [str(tmp_path), begin + timedelta(days=3)]
    assert runner.engine.home == tmp_path


@pytest.mark.parametrize("ask", [scope_of, home_of, clock_of, end_of])
def test_what_is_no_context_is_refused(ask: Callable[[Any], Any]) -> None:
    with pytest.raises(UsageError, match="handler's context, not a str"):
        ask("context")


async def race(event: Any, context: Any) -> Any:
    """Wait in branches for callbacks of the scope around them; withdraw those still open."""
    first = await context.callback("first", timeout=3_600)
    second = await context.callback("second", timeout=7_200)

    def waits_for(callback: Any) -> Any:
        async def branch(_: Any) -> Any:
            try:
                return await callback.result()
            except CallbackTimeoutError:
                return "too late"

        return branch

    branches = {"first": waits_for(first), "second": waits_for(second)}
    found = await context.parallel("race", branches, completion=Completion(min_successful=1))
    bare = inner(context)

    def close() -> None:
        for callback in (first, second):
            withdraw(bare, callback.id, "decided", "Decided")

    await context.step("withdraw", close)
    await context.step("tell", lambda: None)
    return list(found)


def test_the_callback_of_a_dropped_branch_is_withdrawn_and_takes_no_answer(
    runner: Runner, make: Make
) -> None:
    run = suspended(runner, make(race))
    open_ones = ids(run)
    runner.engine.complete_callback(open_ones["second"], "yes")
    runner.settle()
    assert run.result(timeout=5) == ["yes"]
    with pytest.raises(CallbackClosedError):
        runner.engine.complete_callback(open_ones["first"], "no")
    operation = run.operations()["first"]
    assert operation.error is not None
    assert (operation.error.message, operation.error.type) == ("decided", "Decided")
    check_replay(run)


def test_a_withdrawn_callback_takes_no_answer_while_its_run_goes_on(
    runner: Runner, make: Make
) -> None:
    async def handler(event: Any, context: Any) -> Any:
        result = await race(event, context)
        await context.sleep(60)
        return result

    run = suspended(runner, make(handler))
    open_ones = ids(run)
    runner.engine.complete_callback(open_ones["first"], "yes")
    runner.settle()
    assert run.status == "RUNNING"
    for verb in (runner.engine.complete_callback, runner.engine.heartbeat_callback):
        with pytest.raises(CallbackClosedError, match="'second' of .* is already completed"):
            verb(open_ones["second"])
    assert runner.engine.count_callbacks() == 0
    runner.run_until_idle()
    assert run.result() == ["yes"]
    invocations = [each for each in run.history() if each["EventType"] == "InvocationCompleted"]
    assert len(invocations) == 3, "to ask, to decide and to end"
    check_replay(run)


def test_a_runner_restarts_with_the_handlers_it_had_or_with_changed_ones(
    runner: Runner, make: Make
) -> None:
    async def before(event: Any, context: Any) -> Any:
        return ["before", await (await context.callback("answer")).result()]

    async def after(event: Any, context: Any) -> Any:
        return ["after", await (await context.callback("answer")).result()]

    kept = suspended(runner, make(before, name="kept"))
    changed = suspended(runner, make(before, name="changed"))
    runner.restart(make(after, name="changed"))
    for each in runner.engine.open_callbacks():
        runner.engine.complete_callback(each.callback_id, 1)
    runner.settle()
    assert runner.engine.get(kept.id).result(timeout=5) == ["before", 1]
    assert runner.engine.get(changed.id).result(timeout=5) == ["after", 1]


def test_a_branch_that_waits_for_its_creators_callback_makes_room_for_another(
    runner: Runner, make: Make
) -> None:
    async def handler(event: Any, context: Any) -> Any:
        answer = await context.callback("answer")

        async def waits(_: Any) -> Any:
            return await answer.result()

        async def works(branch: Any) -> Any:
            return await branch.step("work", lambda: "done")

        return list(await context.parallel("both", [waits, works], max_concurrency=1))

    run = suspended(runner, make(handler))
    assert run.operations()["both[1]/work"].payload == '"done"'
    runner.engine.complete_callback(ids(run)["answer"], "there")
    runner.settle()
    assert run.result(timeout=5) == ["there", "done"]
    check_replay(run)


def test_a_callback_may_be_awaited_by_several_branches_and_their_creator(
    runner: Runner, make: Make
) -> None:
    async def handler(event: Any, context: Any) -> Any:
        async def outer(branch: Any) -> Any:
            answer = await branch.callback("answer")

            async def waits(_: Any, index: int) -> Any:
                return [index, await answer.result()]

            found = list(await branch.map("inner", range(3), waits))
            return [*found, await answer.result()]

        return list(await context.parallel("outer", [outer]))

    run = suspended(runner, make(handler))
    runner.engine.complete_callback(ids(run)["answer"], "there")
    runner.settle()
    every = [[0, "there"], [1, "there"], [2, "there"], "there"]
    assert run.result(timeout=5) == [every]
    check_replay(run)


def test_a_race_that_nobody_answers_ends_at_its_first_timeout(runner: Runner, make: Make) -> None:
    run = suspended(runner, make(race))
    second = ids(run)["second"]
    assert runner.run_until_idle() == 1
    assert run.result() == ["too late"]
    with pytest.raises(CallbackClosedError):
        runner.engine.complete_callback(second, "no")
    check_replay(run)


def test_a_race_is_won_after_days_by_a_process_that_began_later(runner: Runner, make: Make) -> None:
    async def handler(event: Any, context: Any) -> Any:
        opened = await context.callback("answer", timeout=Duration.from_days(30))

        async def answer(_: Any) -> Any:
            return await opened.result()

        async def ladder(branch: Any) -> Any:
            for day in range(10):
                await branch.sleep(Duration.from_days(1))
                await branch.step("remind", sent.append, day)
            await branch.sleep(Duration.from_days(30))

        branches = {"answer": answer, "ladder": ladder}
        race = Completion(min_successful=1)
        return list(await context.parallel("race", branches, completion=race))

    sent: list[int] = []
    made = make(handler)
    run = suspended(runner, made)
    for _ in range(3):
        runner.clock.advance(Duration.from_days(1))
        runner.settle()
    runner.restart()
    runner.engine.complete_callback(runner.engine.open_callbacks()[0].callback_id, "yes")
    runner.settle()
    again = runner.engine.get(run.id)
    assert again.result(timeout=5) == ["yes"]
    assert sent == [0, 1, 2]
    check_replay(again)


@pytest.mark.parametrize("answers", [["first"], ["second"], []])
def test_a_race_with_its_withdrawal_survives_a_death_at_each_write(
    make: Make, answers: list[str]
) -> None:
    def drive(runner: Runner, run: Any) -> None:
        runner.settle()
        for each in runner.engine.open_callbacks():
            if each.name in answers:
                runner.engine.complete_callback(each.callback_id, each.name)
        runner.run_until_idle()

    assert check_crashes(make(race), drive=drive) > 4


def test_a_withdrawal_says_whether_the_callback_was_open(runner: Runner, make: Make) -> None:
    async def handler(event: Any, context: Any) -> Any:
        mine = await context.callback("mine")
        bare = inner(context)

        def close() -> list[bool]:
            asked = (mine.id, mine.id, event["other"], "nonsense")
            return [withdraw(bare, id, "over", "Over") for id in asked]

        closed = await context.step("withdraw", close)
        try:
            await mine.result()
        except CallbackError as error:
            return [closed, error.error_type, error.error.message]

    async def other(event: Any, context: Any) -> Any:
        return await (await context.callback("answer")).result()

    another = suspended(runner, make(other))
    run = runner.start(make(handler), {"other": ids(another)["answer"]})
    runner.settle()
    assert run.result(timeout=5) == [[True, False, False, False], "Over", "over"]
    assert another.status == "RUNNING"
    check_replay(run)


def test_a_callback_past_its_time_is_closed_for_a_withdrawal(runner: Runner, make: Make) -> None:
    async def handler(event: Any, context: Any) -> Any:
        mine = await context.callback("mine", timeout=60)
        bare = inner(context)

        def late() -> bool:
            runner.clock.advance(60)
            return withdraw(bare, mine.id, "over", "Over")

        closed = await context.step("withdraw", late)
        try:
            await mine.result()
        except CallbackTimeoutError:
            return [closed, "timed out"]

    run = runner.start(make(handler))
    runner.run_until_idle()
    assert run.result() == [False, "timed out"]
    check_replay(run)


def test_a_withdrawal_may_come_from_any_thread_and_from_an_async_body(
    runner: Runner, make: Make
) -> None:
    async def handler(event: Any, context: Any) -> Any:
        one = await context.callback("one")
        two = await context.callback("two")
        bare = inner(context)
        closed: list[bool] = []

        def in_a_thread() -> None:
            close = threading.Thread(
                target=lambda: closed.append(withdraw(bare, one.id, "over", "Over"))
            )
            close.start()
            close.join(30)

        async def on_the_loop() -> bool:
            return withdraw(bare, two.id, "over", "Over")

        await context.step("thread", in_a_thread)
        return [*closed, await context.step("loop", on_the_loop)]

    run = runner.start(make(handler))
    runner.settle()
    assert run.result(timeout=5) == [True, True]


@pytest.mark.parametrize("nesting", ["nested", "flat"])
def test_a_branch_that_awaits_a_withdrawn_callback_meets_an_error_of_that_type(
    runner: Runner, make: Make, nesting: Any
) -> None:
    async def handler(event: Any, context: Any) -> Any:
        opened = await context.callback("answer")
        bare = inner(context)

        async def waits(_: Any) -> Any:
            try:
                return await opened.result()
            except CallbackError as error:
                return error.error_type

        async def closes(branch: Any) -> Any:
            await branch.sleep(60)
            return await branch.step("withdraw", withdraw, bare, opened.id, "over", "Over")

        branches = {"waits": waits, "closes": closes}
        return list(await context.parallel("both", branches, nesting=nesting))

    run = runner.start(make(handler))
    runner.run_until_idle()
    assert run.result(timeout=5) == ["Over", True]
    check_replay(run)


def test_many_steps_that_withdraw_one_callback_close_it_once(runner: Runner, make: Make) -> None:
    async def handler(event: Any, context: Any) -> Any:
        opened = await context.callback("answer")
        bare = inner(context)

        async def closes(branch: Any, _: int) -> Any:
            return await branch.step("withdraw", withdraw, bare, opened.id, "over", "Over")

        return sum(list(await context.map("all", range(20), closes)))

    run = runner.start(make(handler))
    runner.settle()
    assert run.result(timeout=5) == 1
    check_replay(run)


def test_a_cancelled_run_has_nothing_left_to_withdraw(runner: Runner, make: Make) -> None:
    told: list[bool] = []

    async def handler(event: Any, context: Any) -> Any:
        opened = await context.callback("answer")
        bare = inner(context)

        def late() -> None:
            runner.engine.cancel(bare.execution_id)
            told.append(withdraw(bare, opened.id, "over", "Over"))

        await context.step("late", late)

    run = runner.start(make(handler))
    runner.settle()
    assert (run.status, told) == ("CANCELLED", [False])


def test_a_run_resumed_after_its_withdrawal_finds_it_closed(runner: Runner, make: Make) -> None:
    broken = [True]

    async def handler(event: Any, context: Any) -> Any:
        opened = await context.callback("answer")
        bare = inner(context)
        closed = await context.step("withdraw", withdraw, bare, opened.id, "over", "Over")

        def tell() -> None:
            if broken:
                raise RuntimeError("out of order")

        await context.step("tell", tell)
        return closed

    run = runner.start(make(handler))
    runner.settle()
    with pytest.raises(ExecutionFailedError):
        run.result(timeout=5)
    broken.clear()
    runner.engine.resume(run.id)
    runner.settle()
    assert run.result(timeout=5) is True
    check_replay(run)
