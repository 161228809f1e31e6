"""Model calls on both engines: the same handler, the same answers, the same operations."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from perdure.agents import Budget, BudgetExceeded, llm
from perdure.agents.ledgers import ledger_of
from perdure.agents.testing import ScriptedModel
from perdure.durable import AsyncContext, Context, durable_execution
from perdure.durable.aws.wire import operation_of

from .worlds import AwsWorld, Outcome, World

RETRY = {"initial_delay": 1, "backoff_rate": 1, "jitter": "none", "max_attempts": 4}


class Refused(Exception):
    """What a provider says when it is asked too often."""

    status_code = 429


class Count(BaseModel):
    """A number."""

    value: int


def script() -> ScriptedModel:
    return ScriptedModel([Refused(), "seven", Count(value=7), "fine"])


models = {"sync": script(), "async": script()}


@durable_execution(name="asks")
def asks(event: Any, context: Context) -> Any:
    model = models["sync"]
    count = llm(context, "count", "How many?", model=model, output=Count, retry=RETRY)
    try:
        llm(context, "dear", "?", model=model, budget=Budget(calls=0))
    except BudgetExceeded as error:
        refused = error.error_type
    return [count.output.value, llm(context, "last", "?", model=model).text, refused]


@durable_execution(name="asks_awaited")
async def asks_awaited(event: Any, context: AsyncContext) -> Any:
    model = models["async"]
    count = await llm(context, "count", "How many?", model=model, output=Count, retry=RETRY)
    try:
        await llm(context, "dear", "?", model=model, budget=Budget(calls=0))
    except BudgetExceeded as error:
        refused = error.error_type
    last = await llm(context, "last", "?", model=model)
    return [count.output.value, last.text, refused]


def test_a_model_call_is_retried_mended_and_paid_once_on_each_engine(world: World) -> None:
    for kind, handler in (("sync", asks), ("async", asks_awaited)):
        models[kind] = script()
        run = world.start(handler, {})
        assert run.outcome() == Outcome([7, "fine", "perdure.BudgetExceeded"])
        assert models[kind].calls == 4


def test_a_ledger_is_read_from_the_services_own_state(aws: AwsWorld) -> None:
    models["sync"] = script()
    run = aws.start(asks, {})
    assert run.outcome() == Outcome([7, "fine", "perdure.BudgetExceeded"])
    event = aws.function.events[-1]
    operations = [operation_of(each) for each in event["InitialExecutionState"]["Operations"]]
    found = ledger_of({each.id: each for each in operations}, active=True)
    assert found.totals.free >= 1
