"""A budget holds for a run: across branches, crashes, suspensions and resumes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from perdure.agents import Budget, BudgetExceeded, ledger, llm, set_prices
from perdure.agents.testing import ScriptedModel
from perdure.durable import Completion, ExecutionFailedError, UsageError
from perdure.durable.gated import drive, value_of
from perdure.durable.testing import Runner, check_replay

from .both import durable

PRICE = {"input": 1000, "output": 1000}
USAGE = (10, 10)
EACH = Decimal("0.02")


@pytest.fixture
def own_prices() -> Iterator[Callable[..., None]]:
    yield set_prices
    set_prices({})


def racing(model: ScriptedModel, budget: Budget, branches: int = 50) -> Callable[..., Any]:
    async def branch(scope: Any, item: int) -> str:
        ask = llm(scope, "ask", f"q{item}", model=model, budget=budget, max_tokens=10)
        return str((await value_of(ask)).text)

    async def body(event: Any, context: Any) -> Any:
        batch = await value_of(
            context.map(
                "race",
                range(branches),
                lambda scope, item: drive(scope, branch(scope, item)),
                completion=Completion(max_failures=branches),
            )
        )
        return [len(batch), len(batch.failures)]

    return body


@pytest.mark.parametrize("seed", range(8))
def test_branches_that_race_never_break_a_budget_together(
    kind: str, tmp_path: Path, seed: int
) -> None:
    race_for_the_budget(kind, tmp_path, seed)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(8, 50))
def test_branches_that_race_never_break_a_budget_at_any_seed(
    kind: str, tmp_path: Path, seed: int
) -> None:
    race_for_the_budget(kind, tmp_path, seed)


def race_for_the_budget(kind: str, tmp_path: Path, seed: int) -> None:
    """Let 50 branches race for what 20 of them may take, kill the engine, and replay."""
    dice = random.Random(seed)

    async def slowly(messages: Any, options: Any) -> str:
        for _ in range(dice.randrange(4)):
            await asyncio.sleep(0)
        return "answer"

    script: Any = slowly if kind == "async" else ["answer"]
    model = ScriptedModel(script, usage=USAGE, price=PRICE, loop=kind == "sync")
    limits = Budget(calls=20, usd=1.0) if seed % 2 else Budget(tokens=20 * 20)
    handler = durable(kind, racing(model, limits))
    with Runner(tmp_path / "journal.db", [handler]) as runner:
        runner.crash_after(dice.randrange(2, 40))
        run = runner.start(handler, id="race")
        runner.settle()
        runner.restart()
        runner.run_until_idle()
        run = runner.engine.get("race")
        done, refused = run.result()
        totals = ledger(run).totals
        assert totals.calls == done
        assert done + refused == 50
        assert done + totals.in_doubt <= 20
        assert model.calls <= 20
        assert totals.usd + totals.in_doubt_usd <= Decimal(1) or not seed % 2
        before = model.calls
        check_replay(run)
        assert model.calls == before


def test_an_exact_budget_lets_through_what_fits(kind: str, runner: Runner) -> None:
    model = ScriptedModel(["answer"], usage=USAGE, price=PRICE, loop=True)
    run = runner.start(durable(kind, racing(model, Budget(calls=20))))
    runner.run_until_idle()
    assert run.result() == [20, 30]
    assert ledger(run).totals.usd == 20 * EACH


def asking(model: ScriptedModel, budget: Budget, calls: int = 3) -> Callable[..., Any]:
    async def body(event: Any, context: Any) -> Any:
        texts = []
        for number in range(calls):
            ask = llm(context, f"ask-{number}", "?", model=model, budget=budget, max_tokens=10)
            texts.append((await value_of(ask)).text)
        return texts

    return body


def test_a_refused_call_fails_the_same_at_replay_and_is_reopened_by_a_resume(
    kind: str, runner: Runner
) -> None:
    model = ScriptedModel(["a", "b", "c"], usage=USAGE, price=PRICE)
    limits = {"calls": 2}

    async def body(event: Any, context: Any) -> Any:
        return await asking(model, Budget(**limits))(event, context)

    run = runner.start(durable(kind, body))
    runner.run_until_idle()
    with pytest.raises(ExecutionFailedError, match="allows 2 calls"):
        run.result()
    check_replay(run)
    assert model.calls == 2
    limits["calls"] = 3
    runner.engine.resume(run.id)
    runner.run_until_idle()
    assert run.result() == ["a", "b", "c"]
    assert model.calls == 3


def test_a_refusal_can_be_caught(kind: str, runner: Runner) -> None:
    model = ScriptedModel(["a"], usage=USAGE, price=PRICE)

    async def body(event: Any, context: Any) -> Any:
        try:
            await asking(model, Budget(usd=0.001))(event, context)
        except BudgetExceeded as error:
            return str(error)

    run = runner.start(durable(kind, body))
    runner.run_until_idle()
    assert "the budget 'budget' allows $0.001" in run.result()
    assert model.calls == 0


def test_a_person_is_asked_once_for_all_branches_and_raises_the_budget(
    kind: str, runner: Runner
) -> None:
    model = ScriptedModel(["answer"], usage=USAGE, price=PRICE, loop=True)
    budget = Budget(calls=4, on_exceeded="ask")
    run = runner.start(durable(kind, racing(model, budget, branches=10)))
    runner.run_until_idle()
    assert [wait.path for wait in run.waiting_for()] == ["budget"]
    assert model.calls == 4
    runner.engine.send(run.id, "budget", {"calls": 7})
    runner.run_until_idle()
    assert [wait.path for wait in run.waiting_for()] == ["budget#2"]
    assert model.calls == 7
    runner.engine.send(run.id, "budget", True)
    runner.run_until_idle()
    assert run.result() == [10, 0]
    check_replay(run)
    assert model.calls == 10


def test_a_person_may_refuse_more(kind: str, runner: Runner) -> None:
    model = ScriptedModel(["answer"], usage=USAGE, price=PRICE, loop=True)
    budget = Budget(calls=4, on_exceeded="ask")
    run = runner.start(durable(kind, racing(model, budget, branches=10)))
    runner.run_until_idle()
    runner.engine.send(run.id, "budget", {"dollars": 1})
    runner.run_until_idle()
    assert [wait.path for wait in run.waiting_for()] == ["budget#2"]
    runner.engine.send(run.id, "budget", False)
    runner.run_until_idle()
    assert run.result() == [4, 6]


def test_a_model_without_a_price_is_refused_under_a_limit_in_dollars(
    kind: str, runner: Runner
) -> None:
    model = ScriptedModel(["a"])
    run = runner.start(durable(kind, asking(model, Budget(usd=1))))
    runner.run_until_idle()
    with pytest.raises(ExecutionFailedError, match=r"has no price.*set_prices"):
        run.result()
    assert model.calls == 0


def test_own_prices_win_and_stay_with_the_call(
    kind: str, runner: Runner, own_prices: Callable[..., None]
) -> None:
    own_prices({"script*": {"input": 1_000_000, "output": 0, "multiplier": 0.5}})
    model = ScriptedModel(["a"], usage=USAGE, price=PRICE)
    run = runner.start(durable(kind, asking(model, Budget(usd=50_000), calls=1)))
    runner.run_until_idle()
    run.result()
    own_prices({"*": {"input": 0, "output": 0}})
    found = ledger(run)
    assert found.totals.usd == 5
    assert found.sources == ["own price script*"]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, "no limit"),
        ({"usd": -1}, "usd is a number"),
        ({"calls": 1.5}, "calls is a whole number"),
        ({"tokens": True}, "tokens is a whole number"),
        ({"usd": float("nan")}, "usd is a number"),
        ({"usd": 1, "on_exceeded": "stop"}, "'raise' or 'ask'"),
        ({"usd": 1, "name": ""}, "1 to 256 characters"),
    ],
)
def test_a_budget_that_cannot_be_meant_is_named(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        Budget(**fields)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"m": {"input": 1}}, "lacks 'output'"),
        ({"m": {"input": 1, "output": 1, "in": 2}}, "has no 'in'"),
        ({"m": {"input": "x", "output": 1}}, "input is a number"),
        ({"m": {"input": -1, "output": 1}}, "at least zero"),
    ],
)
def test_a_price_that_cannot_be_meant_is_named(
    own_prices: Callable[..., None], table: dict[str, Any], told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        own_prices(table)
