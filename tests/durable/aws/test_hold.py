"""A held run that goes on, on both engines alike: what failed is tried again, and nothing else."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from perdure.agents import llm
from perdure.agents.ledgers import ledger_of
from perdure.agents.testing import ScriptedModel
from perdure.durable import (
    BatchError,
    CallbackTimeoutError,
    Completion,
    OperationError,
    RetryPolicy,
    current_step,
    durable_execution,
)
from perdure.durable.aws.generations import handlers_operations
from perdure.durable.aws.wire import operation_of
from perdure.durable.gated import value_of

from ..both import inner
from ..work import Work
from .worlds import AwsWorld, Execution, LocalExecution, Outcome, World, events_of

Make = Callable[..., Any]
NESTINGS = pytest.mark.parametrize("nesting", ["nested", "flat"])
TWICE = RetryPolicy(max_attempts=2, initial_delay=1, backoff_rate=1, jitter="none")
ONCE = {"max_attempts": 1}


class Refused(Exception):
    """What a provider says when it is asked too often."""

    status_code = 429


def holding(make: Make, body: Any) -> Any:
    """Return the handler of a body whose failing run stays open."""
    return make(body, name=f"held-{body.__name__}", hold_on_failure=True)


def mended(run: Execution, work: Work, *names: str) -> Any:
    """Resume a held run with nothing broken any more, and return its result."""
    run.held()
    work.mend()
    run.resume(*names)
    outcome = run.outcome()
    assert outcome.error is None, outcome.error
    return outcome.value


def test_the_failed_step_runs_again_and_nothing_else_ever_does(world: World, make: Make) -> None:
    work = Work("second")

    async def steps(event: Any, context: Any) -> Any:
        done = [await context.step(name, work.do, name) for name in ("first", "second", "third")]
        await context.sleep(1)
        return [*done, await context.step("last", work.do, "last")]

    run = world.start(holding(make, steps))

    assert mended(run, work) == ["first", "second", "third", "last"]
    assert work.runs == {"second": 1, "third": 1, "last": 1}


def test_what_failed_the_run_is_told_where_it_is_held(world: World, make: Make) -> None:
    async def failing(event: Any, context: Any) -> Any:
        raise LookupError("no document d7")

    run = world.start(holding(make, failing))

    assert run.held() == "no document d7"


def test_a_run_is_held_as_often_as_it_fails(world: World, make: Make) -> None:
    work = Work("a", "b")

    async def often(event: Any, context: Any) -> Any:
        return [await context.step(name, work.do, name) for name in ("a", "b")]

    run = world.start(holding(make, often))
    assert run.held() == "a is down"
    run.resume()
    assert run.held() == "a is down"
    work.broken.remove("a")
    run.resume()
    assert run.held() == "b is down"
    work.broken.remove("b")
    run.resume()

    assert run.outcome() == Outcome(["a", "b"])
    assert work.runs == {"a": 3, "b": 2}


def test_to_fail_the_callback_that_holds_a_run_is_to_let_it_fail(world: World, make: Make) -> None:
    work = Work("step")

    async def given_up(event: Any, context: Any) -> Any:
        return await context.step("step", work.do, "step")

    run = world.start(holding(make, given_up))
    run.held()
    run.give_up()

    assert run.outcome().error == ("ConnectionError", "step is down")
    assert work.runs == {"step": 1}


def test_a_handler_that_raised_an_error_of_its_own_is_called_again(
    world: World, make: Make
) -> None:
    work = Work()
    missing = ["d7"]

    async def own(event: Any, context: Any) -> Any:
        text = await context.step("extract", work.do, "extract")
        if missing:
            raise LookupError("no document")
        return text

    run = world.start(holding(make, own))
    run.held()
    missing.clear()

    run.resume()
    assert run.outcome() == Outcome("extract")
    assert work.runs == {"extract": 1}


def test_a_step_has_all_its_attempts_again(world: World, make: Make) -> None:
    attempts: list[int] = []

    def flaky() -> str:
        attempts.append(current_step().attempt)
        if len(attempts) < 4:
            raise TimeoutError("busy")
        return "done"

    async def retried(event: Any, context: Any) -> Any:
        return await context.step("flaky", flaky, retry=TWICE)

    run = world.start(holding(make, retried))
    run.held()
    run.resume()

    assert run.outcome() == Outcome("done")
    assert attempts == [1, 2, 1, 2]


def test_an_at_most_once_step_is_known_outside_by_the_same_key(world: World, make: Make) -> None:
    keys: list[str] = []

    def send() -> str:
        keys.append(current_step().idempotency_key)
        if len(keys) == 1:
            raise OSError("no route")
        return "sent"

    async def sending(event: Any, context: Any) -> Any:
        return await context.step("send", send, semantics="at_most_once")

    run = world.start(holding(make, sending))
    run.held()
    run.resume()

    assert run.outcome() == Outcome("sent")
    assert len(keys) == 2
    assert keys[0] == keys[1]


def test_a_failure_the_handler_caught_stays_as_recorded(world: World, make: Make) -> None:
    work = Work("optional", "needed")

    async def catches(event: Any, context: Any) -> Any:
        try:
            first = await context.step("optional", work.do, "optional")
        except OperationError as error:
            first = f"without: {error.error.message}"
        return [first, await context.step("needed", work.do, "needed")]

    run = world.start(holding(make, catches))

    assert mended(run, work) == ["without: optional is down", "needed"]
    assert work.runs == {"needed": 1}


def test_a_caught_failure_is_tried_again_when_it_is_named(world: World, make: Make) -> None:
    work = Work("optional", "needed")

    async def names(event: Any, context: Any) -> Any:
        try:
            first = await context.step("optional", work.do, "optional")
        except OperationError:
            first = await context.step("instead", work.do, "instead")
        return [first, await context.step("needed", work.do, "needed")]

    run = world.start(holding(make, names))

    assert mended(run, work, "optional") == ["optional", "needed"]
    assert work.runs == {"optional": 1, "needed": 1}


def test_a_failed_step_in_a_child_reopens_the_child_and_not_its_siblings(
    world: World, make: Make
) -> None:
    work = Work("b")

    async def child(context: Any) -> list[str]:
        return [await context.step(name, work.do, name) for name in ("a", "b", "c")]

    async def parent(event: Any, context: Any) -> Any:
        before = await context.step("before", work.do, "before")
        done = [before, *await context.child("inner", child)]
        await context.sleep(1)
        return done

    run = world.start(holding(make, parent))

    assert mended(run, work) == ["before", "a", "b", "c"]
    assert work.runs == {"b": 1, "c": 1}


def test_a_child_whose_failure_was_caught_is_not_run_again(world: World, make: Make) -> None:
    work = Work("in", "needed")
    entered: list[int] = []

    async def child(context: Any) -> Any:
        entered.append(1)
        return await context.step("in", work.do, "in")

    async def caught(event: Any, context: Any) -> Any:
        try:
            await context.child("inner", child)
        except OperationError as error:
            first = f"{error.error_type}: {error.error.message}"
        return [first, await context.step("needed", work.do, "needed")]

    run = world.start(holding(make, caught))

    assert mended(run, work) == ["ConnectionError: in is down", "needed"]
    assert work.runs == {"needed": 1}
    assert entered == [1]


@NESTINGS
def test_the_failed_branches_of_a_map_run_again(world: World, make: Make, nesting: str) -> None:
    work = Work("1", "3")

    async def branch(context: Any, item: str) -> str:
        return str(await context.step("work", work.do, item))

    async def mapped(event: Any, context: Any) -> Any:
        rule = Completion(max_failures=1)
        items = ["0", "1", "2", "3", "4"]
        done = await context.map(
            "all", items, branch, nesting=nesting, max_concurrency=1, completion=rule
        )
        await context.sleep(1)
        return list(done)

    run = world.start(holding(make, mapped))

    assert mended(run, work) == ["0", "1", "2", "3", "4"]
    assert work.runs == {"1": 1, "3": 1, "4": 1}


@NESTINGS
def test_a_batch_error_the_handler_caught_stays_as_recorded(
    world: World, make: Make, nesting: str
) -> None:
    work = Work("0", "after")

    async def branch(context: Any, item: str) -> str:
        return str(await context.step("work", work.do, item))

    async def batch_caught(event: Any, context: Any) -> Any:
        try:
            await context.map("all", ["0"], branch, nesting=nesting)
        except BatchError as error:
            first = error.result.failures[0].name
        return [first, await context.step("after", work.do, "after")]

    run = world.start(holding(make, batch_caught))

    assert mended(run, work) == ["all[0]", "after"]
    assert work.runs == {"after": 1}


@NESTINGS
def test_a_branch_that_failed_and_was_tolerated_stays_as_recorded(
    world: World, make: Make, nesting: str
) -> None:
    work = Work("1", "after")

    async def branch(context: Any, item: str) -> str:
        return str(await context.step("work", work.do, item))

    async def tolerant(event: Any, context: Any) -> Any:
        rule = Completion(max_failures=1)
        result = await context.map("all", ["0", "1", "2"], branch, nesting=nesting, completion=rule)
        return [list(result), await context.step("after", work.do, "after")]

    run = world.start(holding(make, tolerant))

    assert mended(run, work) == [["0", "2"], "after"]
    assert work.runs == {"after": 1}


def test_a_failed_step_in_nested_maps_is_the_only_one_to_run_again(
    world: World, make: Make
) -> None:
    work = Work("1-1")

    async def outer(context: Any, row: int) -> Any:
        async def cell(inner: Any, column: int) -> str:
            return str(await inner.step("work", work.do, f"{row}-{column}"))

        return list(await context.map("row", range(2), cell, max_concurrency=1))

    async def nested(event: Any, context: Any) -> Any:
        return list(await context.map("rows", range(2), outer, max_concurrency=1))

    run = world.start(holding(make, nested))

    assert mended(run, work) == [["0-0", "0-1"], ["1-0", "1-1"]]
    assert work.runs == {"1-1": 1}


def test_a_large_outcome_of_a_failed_batch_is_held_too(world: World, make: Make) -> None:
    work = Work("1")

    async def branch(context: Any, item: str) -> str:
        letter = await context.step("work", work.do, item)
        return str(letter * 300_000)

    async def large(event: Any, context: Any) -> Any:
        done = await context.map("all", ["0", "1"], branch, max_concurrency=1)
        await context.sleep(1)
        return [len(text) for text in done]

    run = world.start(holding(make, large))

    assert mended(run, work) == [300_000, 300_000]
    assert work.runs == {"1": 1}


def test_a_callback_that_timed_out_is_opened_again(world: World, make: Make) -> None:
    async def asks(event: Any, context: Any) -> Any:
        opened = await context.callback("answer", timeout=event)
        return await opened.result()

    run = world.start(holding(make, asks), 1)
    run.held()
    run.resume()
    run.wait_for("answer", 2)
    run.send("answer", "at last")

    assert run.outcome() == Outcome("at last")


def test_a_callback_that_failed_is_met_as_the_same_error_in_every_invocation(
    world: World, make: Make
) -> None:
    seen: list[str] = []

    async def meets(event: Any, context: Any) -> Any:
        try:
            await context.wait_for_callback("review", lambda id: None, timeout=1)
        except CallbackTimeoutError as error:
            seen.append(str(error))
        await context.sleep(1)
        return len(set(seen))

    run = world.start(holding(make, meets))

    assert run.outcome() == Outcome(1)
    assert len(seen) >= 2


def test_a_failed_invoke_is_made_again(world: World, make: Make) -> None:
    work = Work("other")

    @durable_execution(name="callee")
    def callee(event: Any, context: Any) -> Any:
        return context.step("other", work.do, "other")

    async def calls(event: Any, context: Any) -> Any:
        return await context.invoke("ask", "callee", event)

    world.register(callee)
    run = world.start(holding(make, calls))

    assert mended(run, work) == "other"


def test_an_expired_condition_is_polled_again(world: World, make: Make) -> None:
    work = Work()
    ready: list[int] = []

    async def polls(event: Any, context: Any) -> Any:
        every = RetryPolicy(max_attempts=2, initial_delay=1, backoff_rate=1, jitter="none")
        return await context.wait_for_condition("ready", lambda n: len(ready), backoff=every)

    run = world.start(holding(make, polls))
    run.held()
    ready.append(1)
    run.resume()

    assert run.outcome() == Outcome(1)
    assert not work.runs


def test_a_name_that_did_not_fail_holds_the_run_again_and_says_so(aws: AwsWorld) -> None:
    work = Work("step")

    @durable_execution(name="held-misnamed", hold_on_failure=True)
    def handler(event: Any, context: Any) -> Any:
        return context.step("step", work.do, "step")

    run = aws.start(handler)
    run.held()
    run.resume("stpe")
    assert run.held() == "no failed operation is named 'stpe'"
    assert work.runs == {"step": 1}
    run.resume("step")
    assert run.held() == "step is down"
    work.mend()
    run.resume()

    assert run.outcome() == Outcome("step")


def test_what_a_scope_that_succeeded_holds_cannot_be_named(aws: AwsWorld) -> None:
    work = Work("optional", "needed")

    def inside(context: Any) -> str:
        try:
            return str(context.step("optional", work.do, "optional"))
        except OperationError:
            return "without"

    @durable_execution(name="held-sealed", hold_on_failure=True)
    def handler(event: Any, context: Any) -> Any:
        return [context.child("inner", inside), context.step("needed", work.do, "needed")]

    run = aws.start(handler)
    run.held()
    run.resume("optional")
    assert run.held() == "no failed operation is named 'optional'"
    work.mend()
    run.resume()

    assert run.outcome() == Outcome(["without", "needed"])
    assert work.runs == {"needed": 1}


def test_each_try_is_an_operation_of_its_own_in_the_history(aws: AwsWorld) -> None:
    work = Work("step")

    @durable_execution(name="held-history", hold_on_failure=True)
    def handler(event: Any, context: Any) -> Any:
        return context.child("inner", lambda inner: inner.step("step", work.do, "step"))

    run = aws.start(handler)

    assert mended(run, work) == "step"
    assert events_of(run) == [
        ("ContextStarted", "inner"),
        ("StepStarted", "step"),
        ("StepFailed", "step"),
        ("StepStarted", "inner"),
        ("StepFailed", "inner"),
        ("StepStarted", "perdure:failed"),
        ("StepFailed", "perdure:failed"),
        ("CallbackStarted", "perdure:failed"),
        ("CallbackSucceeded", "perdure:failed"),
        ("StepStarted", "perdure:resumed"),
        ("StepSucceeded", "perdure:resumed"),
        ("StepStarted", "step"),
        ("StepSucceeded", "step"),
        ("ContextSucceeded", "inner"),
    ]


def test_a_recorded_model_call_is_not_paid_again_and_each_failed_one_stays_in_the_ledger(
    world: World, make: Make
) -> None:
    model = ScriptedModel(["first", Refused(), "second"])

    async def calls_models(event: Any, context: Any) -> Any:
        async def inside(scope: Any) -> Any:
            first = await value_of(llm(inner(scope), "first", "?", model=model))
            second = await value_of(llm(inner(scope), "second", "?", model=model, retry=ONCE))
            return [first.text, second.text]

        return await context.child("research", inside)

    run = world.start(holding(make, calls_models))
    run.held()
    run.resume()

    assert run.outcome() == Outcome(["first", "second"])
    assert model.calls == 3
    if isinstance(run, LocalExecution):
        ledger = ledger_of(run.operations(), active=False)
        assert (ledger.totals.calls, ledger.totals.free) == (2, 1)


def test_the_ledger_on_aws_counts_a_call_that_failed_before_the_resume(aws: AwsWorld) -> None:
    model = ScriptedModel(["first", Refused(), "second"])

    @durable_execution(name="held-ledger", hold_on_failure=True)
    def handler(event: Any, context: Any) -> Any:
        first = llm(context, "first", "?", model=model).text
        second = llm(context, "second", "?", model=model, retry=ONCE).text
        context.sleep(1)
        return [first, second]

    run = aws.start(handler)
    run.held()
    run.resume()
    assert run.outcome() == Outcome(["first", "second"])
    state = aws.function.events[-1]["InitialExecutionState"]["Operations"]
    ledger = ledger_of(handlers_operations(map(operation_of, state)), active=False)

    assert model.calls == 3
    assert (ledger.totals.calls, ledger.totals.free) == (2, 1)


class Unlucky:
    """Steps that fail some times each, by chance, and succeed once."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.left: dict[str, int] = {}
        self.done: Counter[str] = Counter()

    def do(self, name: str) -> str:
        left = self.left.setdefault(name, self.chance.choice([0, 0, 0, 1, 1, 2]))
        if left:
            self.left[name] = left - 1
            raise ConnectionError(f"{name} is down")
        self.done[name] += 1
        return name


async def unlucky_scopes(work: Unlucky, context: Any, path: str, depth: int) -> list[Any]:
    """Ask for steps in scopes in scopes, each step once."""
    found: list[Any] = [await context.step("step", work.do, f"{path}.step")]
    if depth == 0:
        return found

    async def child(inner: Any) -> Any:
        return await unlucky_scopes(work, inner, f"{path}.child", depth - 1)

    found.append(await context.child("child", child))
    for nesting in ("nested", "flat"):

        async def branch(inner: Any, item: int, nesting: str = nesting) -> Any:
            return await unlucky_scopes(work, inner, f"{path}.{nesting}{item}", depth - 1)

        found += await context.map(nesting, range(2), branch, max_concurrency=1, nesting=nesting)
    return found


def succeeds_in_the_end(world: World, make: Make, seed: int) -> None:
    """Run a handler of unlucky steps, resumed until it succeeds, and see each succeed once."""
    work = Unlucky(seed)

    async def unlucky(event: Any, context: Any) -> Any:
        return await unlucky_scopes(work, context, "top", 2)

    run = world.start(holding(make, unlucky))
    resumes = 0
    while not run.ends():
        run.resume()
        resumes += 1
        assert resumes < 200

    assert set(work.done.values()) == {1}
    assert run.outcome() == Outcome(_expected("top", 2))
    assert resumes > 0


def _expected(path: str, depth: int) -> list[Any]:
    scopes = ["child", "nested0", "nested1", "flat0", "flat1"] if depth else []
    return [f"{path}.step", *(_expected(f"{path}.{name}", depth - 1) for name in scopes)]


@pytest.mark.parametrize("seed", range(2))
def test_steps_that_fail_by_chance_succeed_once_each(world: World, make: Make, seed: int) -> None:
    succeeds_in_the_end(world, make, seed)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(2, 30))
def test_many_steps_that_fail_by_chance_succeed_once_each(
    world: World, make: Make, seed: int
) -> None:
    succeeds_in_the_end(world, make, seed)
