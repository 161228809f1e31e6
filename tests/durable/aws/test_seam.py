"""The same handlers, unchanged, on the embedded engine and under AWS's own local runner."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from perdure.durable import (
    CallbackError,
    Completion,
    Context,
    Duration,
    RetryPolicy,
    current_step,
    durable_execution,
)
from perdure.durable.gated import withdraw

from ...waiting import until
from ..both import inner
from .worlds import AwsWorld, Outcome, World, events_of

Make = Callable[..., Any]
AGAIN = RetryPolicy(max_attempts=2, initial_delay=1, backoff_rate=1, jitter="none")
calls: list[str] = []


def extract_text(doc_id):
    calls.append("extract_text")
    return f"text of {doc_id}"


def call_bedrock(prompt):
    calls.append(prompt.split(":")[0])
    if prompt.startswith("Extract") and current_step().attempt == 1:
        raise TimeoutError("throttled")
    return {"answer": prompt.upper()}


def enrich_from_database(entities):
    calls.append("enrich")
    return {**entities, "known": True}


def send_email(address, summary):
    calls.append(f"mail to {address}")


@durable_execution(name="founding")
def founding(event, context):
    doc_id = event["document_id"]
    text = context.step("extract_text", lambda: extract_text(doc_id))
    entities = context.step("extract_entities", lambda: call_bedrock(f"Extract entities: {text}"),
                            retry={"max_attempts": 3, "backoff_rate": 2})  # fmt: skip
    enriched = context.step("enrich", lambda: enrich_from_database(entities))
    summary = context.step("summarize", lambda: call_bedrock(f"Summarize: {enriched}"),
                           retry={"max_attempts": 3, "backoff_rate": 2})  # fmt: skip
    context.step("notify", lambda: send_email(event["user_email"], summary))
    return {"status": "complete", "doc_id": doc_id}


def test_the_founding_program_runs_each_step_once_and_the_throttled_one_again(world: World) -> None:
    calls.clear()

    run = world.start(founding, {"document_id": "d1", "user_email": "reader@example.com"})

    assert run.outcome() == Outcome({"status": "complete", "doc_id": "d1"})
    assert calls == [
        "extract_text",
        "Extract entities",
        "Extract entities",
        "enrich",
        "Summarize",
        "mail to reader@example.com",
    ]
    assert events_of(run) == [
        ("StepStarted", "extract_text"),
        ("StepSucceeded", "extract_text"),
        ("StepStarted", "extract_entities"),
        ("StepFailed", "extract_entities"),
        ("StepStarted", "extract_entities"),
        ("StepSucceeded", "extract_entities"),
        ("StepStarted", "enrich"),
        ("StepSucceeded", "enrich"),
        ("StepStarted", "summarize"),
        ("StepSucceeded", "summarize"),
        ("StepStarted", "notify"),
        ("StepSucceeded", "notify"),
    ]


def approval(make: Make) -> Any:
    async def body(event: Any, context: Any) -> Any:
        answer = await context.wait(duration=Duration.from_seconds(event), name="await_approval")
        return {"approval": answer}

    return make(body, name="approval")


def test_a_named_wait_ends_with_none_when_time_is_up(world: World, make: Make) -> None:
    run = world.start(approval(make), 1)

    assert run.outcome() == Outcome({"approval": None})
    assert events_of(run) == [
        ("CallbackStarted", "await_approval"),
        ("CallbackTimedOut", "await_approval"),
    ]


def test_a_named_wait_is_woken_by_what_is_sent(world: World, make: Make) -> None:
    run = world.start(approval(make), 60)
    run.send("await_approval", {"approved": True, "by": "Zoë"})

    assert run.outcome() == Outcome({"approval": {"approved": True, "by": "Zoë"}})
    assert events_of(run) == [
        ("CallbackStarted", "await_approval"),
        ("CallbackSucceeded", "await_approval"),
    ]


def test_a_sleep_is_a_timer_and_what_came_before_it_is_not_run_again(
    world: World, make: Make
) -> None:
    runs: list[str] = []

    async def body(event: Any, context: Any) -> Any:
        before = await context.step("before", lambda: runs.append("before") or "b")
        await context.sleep(0.4, "nap")
        return before + await context.step("after", lambda: runs.append("after") or "a")

    run = world.start(make(body, name="sleeper"))

    assert run.outcome() == Outcome("ba")
    assert runs == ["before", "after"]
    assert events_of(run) == [
        ("StepStarted", "before"),
        ("StepSucceeded", "before"),
        ("WaitStarted", "nap"),
        ("WaitSucceeded", "nap"),
        ("StepStarted", "after"),
        ("StepSucceeded", "after"),
    ]


def test_a_condition_is_polled_with_the_state_of_the_poll_before(world: World, make: Make) -> None:
    async def body(event: Any, context: Any) -> Any:
        return await context.wait_for_condition(
            "count", lambda n: n + 1, initial=0, until=lambda n: n >= 2, every=1
        )

    run = world.start(make(body, name="poller"))

    assert run.outcome() == Outcome(2)


def test_a_callback_is_completed_from_outside_by_the_id_it_was_submitted_with(
    world: World, make: Make
) -> None:
    submitted: list[str] = []

    async def body(event: Any, context: Any) -> Any:
        answer = await context.wait_for_callback("review", submitted.append, timeout=60)
        return {"review": answer}

    run = world.start(make(body, name="reviewer"))
    until(lambda: ("StepSucceeded", "submitter") in events_of(run), "the id to be handed on")
    run.send("review", "fine")

    assert run.outcome() == Outcome({"review": "fine"})
    assert events_of(run) == [
        ("ContextStarted", "review"),
        ("CallbackStarted", "review"),
        ("StepStarted", "submitter"),
        ("StepSucceeded", "submitter"),
        ("CallbackSucceeded", "review"),
        ("ContextSucceeded", "review"),
    ]
    opened = next(e for e in run.history() if e["EventType"] == "CallbackStarted")
    assert submitted == [opened["CallbackStartedDetails"]["CallbackId"]]


def test_a_step_withdraws_the_callback_that_lost_its_race(world: World, make: Make) -> None:
    async def body(event: Any, context: Any) -> Any:
        bare = inner(context)
        opened = {name: await context.callback(name, timeout=60) for name in ("first", "second")}

        def waits_for(name: str) -> Any:
            async def branch(_: Any) -> Any:
                return await opened[name].result()

            return branch

        branches = {name: waits_for(name) for name in opened}
        race = Completion(min_successful=1)
        found = list(await context.parallel("race", branches, completion=race))
        ids = [each.id for each in opened.values()]
        closed = await context.step(
            "withdraw", lambda: [withdraw(bare, id, "decided", "Decided") for id in ids]
        )
        try:
            await opened["first"].result()
        except CallbackError as error:
            return [found, closed, error.error_type, error.error.message]

    run = world.start(make(body, name="racer"))
    run.send("second", "yes")

    assert run.outcome() == Outcome([["yes"], [True, False], "Decided", "decided"])


@pytest.mark.parametrize("nesting", ["nested", "flat"])
def test_a_map_gives_results_in_order_of_its_items(world: World, make: Make, nesting: str) -> None:
    async def branch(context: Any, item: int) -> int:
        if item == 1:
            await context.sleep(1, "nap")
        return int(await context.step("square", lambda: item * item))

    async def body(event: Any, context: Any) -> Any:
        squares = await context.map("squares", event, branch, nesting=nesting)
        return [*squares, str(squares.reason)]

    run = world.start(make(body, name=f"mapper-{nesting}"), [0, 1, 2, 3])

    assert run.outcome() == Outcome([0, 1, 4, 9, "ALL_COMPLETED"])
    kinds = [kind for kind, _ in events_of(run)]
    assert kinds.count("ContextStarted") == (5 if nesting == "nested" else 1)
    assert kinds.count("StepSucceeded") == 4


def test_a_branch_that_fails_fails_its_map_alike(world: World, make: Make) -> None:
    async def branch(context: Any, item: int) -> int:
        return int(await context.step("check", lambda: 1 // item))

    async def body(event: Any, context: Any) -> Any:
        return list(await context.map("checks", [1, 0], branch, max_concurrency=1))

    run = world.start(make(body, name="failing-map"))
    error = run.outcome().error

    assert error is not None
    assert error[0] == "ZeroDivisionError"
    assert "1 of 2 started branches failed" in error[1]


def test_what_is_recorded_once_stays_so_in_every_invocation(world: World, make: Make) -> None:
    seen: list[Any] = []

    async def inner(context: Any) -> Any:
        return [context.random(), await context.step("in", lambda: ("a", 1))]

    async def body(event: Any, context: Any) -> Any:
        now = await context.now()
        found = [now.isoformat(), str(context.uuid()), await context.child("inner", inner)]
        found.append(await context.patched("change"))
        await context.sleep(1)
        seen.append(found)
        return repr(found[2][1])

    run = world.start(make(body, name="recorder"))

    assert run.outcome() == Outcome("('a', 1)")
    assert all(found == seen[0] for found in seen)


def test_a_step_is_run_at_most_once_when_it_is_asked_to(world: World, make: Make) -> None:
    runs: list[int] = []

    def once() -> str:
        runs.append(current_step().attempt)
        if len(runs) == 1:
            raise OSError("no route")
        return "sent"

    async def body(event: Any, context: Any) -> Any:
        return await context.step("send", once, semantics="at_most_once", retry=AGAIN)

    run = world.start(make(body, name="once"))

    assert run.outcome() == Outcome("sent")
    assert runs == [1, 2]


def test_a_large_result_of_a_child_is_made_again_from_its_steps(world: World, make: Make) -> None:
    runs: list[str] = []

    async def inner(context: Any) -> str:
        letter = await context.step("letter", lambda: runs.append("letter") or "x")
        return str(letter * 300_000)

    async def body(event: Any, context: Any) -> Any:
        text = await context.child("large", inner)
        await context.sleep(1)
        return len(text)

    run = world.start(make(body, name="large-child"))

    assert run.outcome() == Outcome(300_000)
    assert runs == ["letter"]


def test_a_failing_handler_fails_its_run_with_its_own_error(world: World, make: Make) -> None:
    async def body(event: Any, context: Any) -> Any:
        await context.step("fine", lambda: 1)
        raise LookupError(f"no document {event}")

    run = world.start(make(body, name="failing"), "d7")

    assert run.outcome() == Outcome(error=("LookupError", "no document d7"))
    assert run.history()[-1]["EventType"] == "ExecutionFailed"


def test_a_step_that_fails_for_good_fails_its_run(world: World, make: Make) -> None:
    def broken() -> None:
        raise ValueError("ÜÄÖ " * 30_000)

    async def body(event: Any, context: Any) -> Any:
        await context.step("broken", broken, retry=AGAIN)

    run = world.start(make(body, name="broken"))
    error = run.outcome().error

    assert error is not None
    assert error[0] == "ValueError"
    assert error[1].startswith("ÜÄÖ ÜÄÖ ")
    assert [kind for kind, _ in events_of(run)].count("StepFailed") == 2


def test_a_misuse_fails_its_run_with_the_same_words(world: World, make: Make) -> None:
    async def body(event: Any, context: Any) -> Any:
        await context.step("naïve", lambda: 1)

    run = world.start(make(body, name="misuse"))
    error = run.outcome().error

    assert error is not None
    assert error[0] == "perdure.UsageError"
    assert "printable ASCII" in error[1]


def test_another_durable_function_is_invoked_by_name(world: World, make: Make) -> None:
    @durable_execution(name="callee")
    def callee(event: Any, context: Context) -> Any:
        return {"doubled": context.step("double", lambda: event * 2)}

    async def body(event: Any, context: Any) -> Any:
        return await context.invoke("ask", "callee", event)

    if isinstance(world, AwsWorld):
        world.handlers["callee"] = callee
    else:
        world.runner.engine.register(callee)  # type: ignore[attr-defined]
    run = world.start(make(body, name="caller"), 21)

    assert run.outcome() == Outcome({"doubled": 42})


def test_a_sequential_step_costs_one_call(aws: AwsWorld, make: Make) -> None:
    async def body(event: Any, context: Any) -> Any:
        return [await context.step(f"step-{n}", lambda n=n: n) for n in range(10)]

    run = aws.start(make(body, name="ten-steps"))

    assert run.outcome() == Outcome(list(range(10)))
    # A start that was recorded just as the pulse beat goes in a call of its own.
    assert 10 <= aws.calls["CheckpointDurableExecution"] <= 12
    assert run.invocations() == 1


def test_branches_that_run_side_by_side_share_their_calls(aws: AwsWorld, make: Make) -> None:
    async def branch(context: Any, item: int) -> Any:
        return await context.step("one", lambda: item)

    async def body(event: Any, context: Any) -> Any:
        return sum(await context.map("many", range(60), branch))

    run = aws.start(make(body, name="sixty"))

    assert run.outcome() == Outcome(sum(range(60)))
    assert aws.calls["CheckpointDurableExecution"] < 60


@pytest.mark.parametrize("nesting", ["nested", "flat"])
def test_a_timer_wakes_its_branch_while_another_still_works(
    aws: AwsWorld, make: Make, nesting: str
) -> None:
    came = threading.Event()

    async def sleeper(context: Any) -> Any:
        await context.sleep(1, "nap")
        return await context.step("set", came.set)

    async def worker(context: Any) -> Any:
        return await context.step("work", lambda: came.wait(5))

    async def body(event: Any, context: Any) -> Any:
        branches = {"sleeper": sleeper, "worker": worker}
        return list(await context.parallel("both", branches, nesting=nesting))

    run = aws.start(make(body, name=f"timer-{nesting}"))

    assert run.outcome() == Outcome([None, True])
    assert run.invocations() == 1
    assert aws.calls["CheckpointDurableExecution"] < 12


def test_a_retry_is_made_while_another_branch_still_works(aws: AwsWorld, make: Make) -> None:
    came = threading.Event()

    def flaky() -> None:
        if current_step().attempt == 1:
            raise TimeoutError("busy")
        came.set()

    async def failing(context: Any) -> Any:
        return await context.step("flaky", flaky, retry=AGAIN)

    async def worker(context: Any) -> Any:
        return await context.step("work", lambda: came.wait(5))

    async def body(event: Any, context: Any) -> Any:
        return list(await context.parallel("both", {"failing": failing, "worker": worker}))

    run = aws.start(make(body, name="retrier"))

    assert run.outcome() == Outcome([None, True])
    assert run.invocations() == 1
    assert aws.calls["CheckpointDurableExecution"] < 12


def test_a_callback_wakes_its_branch_while_another_still_works(
    aws: AwsWorld, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perdure.durable.aws.session.LOOK", 200)
    came = threading.Event()

    async def waiter(context: Any) -> Any:
        answer = await context.wait(60, "approval")
        await context.step("set", came.set)
        return answer

    async def worker(context: Any) -> Any:
        return await context.step("work", lambda: came.wait(5))

    async def body(event: Any, context: Any) -> Any:
        return list(await context.parallel("both", {"waiter": waiter, "worker": worker}))

    run = aws.start(make(body, name="waiter"))
    run.send("approval", "yes")

    assert run.outcome() == Outcome(["yes", True])
    assert run.invocations() == 1


def test_a_state_of_several_pages_is_read_whole(aws: AwsWorld) -> None:
    runs: list[int] = []

    @durable_execution(name="pages")
    def pages(event: Any, context: Context) -> Any:
        sizes = [
            len(context.step(f"page-{n}", lambda n=n: runs.append(n) or "x" * 250_000))
            for n in range(24)
        ]
        context.sleep(1)
        return sum(sizes)

    run = aws.start(pages)

    assert run.outcome() == Outcome(24 * 250_000)
    assert runs == list(range(24))
    assert aws.calls["GetDurableExecutionState"] >= 1


def test_a_failing_run_is_held_open_where_the_handler_asks_for_it(aws: AwsWorld) -> None:
    @durable_execution(name="held", hold_on_failure=True)
    def held(event: Any, context: Context) -> Any:
        raise LookupError("no document")

    run = aws.start(held)

    until(lambda: run.callback_id("perdure:failed"), "the failure to be held")
