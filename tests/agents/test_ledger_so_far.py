"""The ledger of a run as its own handler sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from perdure.agents import ledger, llm
from perdure.agents.testing import ScriptedModel
from perdure.durable import AsyncContext, Context, durable_execution
from perdure.durable.testing import Runner, check_replay

PRICE = {"input": 3.0, "output": 15.0}


def told(context: Context | AsyncContext) -> list[Any]:
    found = ledger(context)
    return [found.totals.calls, float(found.totals.usd), list(found.by_step)]


def test_a_handler_files_what_its_run_cost_so_far(tmp_path: Path) -> None:
    model = ScriptedModel(["one", "two"], usage=(1000, 100), price=PRICE)

    @durable_execution(name="files")
    def files(event: Any, context: Context) -> Any:
        before = context.step("before", told, context)
        llm(context, "first", "?", model=model)
        context.map("more", [1], lambda scope, _: llm(scope, "ask", "?", model=model).text)
        return [before, context.step("after", told, context)]

    with Runner(tmp_path / "journal.db", [files]) as runner:
        run = runner.start(files)
        runner.settle()
        assert run.result(timeout=0) == [[0, 0.0, []], [2, 0.009, ["first", "more[0]/ask"]]]
        check_replay(run)
        assert ledger(run).totals.calls == 2


def test_an_async_handler_sees_it_too(tmp_path: Path) -> None:
    model = ScriptedModel(["one"], usage=(1000, 100), price=PRICE)

    @durable_execution(name="files_awaited")
    async def files(event: Any, context: AsyncContext) -> Any:
        await llm(context, "first", "?", model=model)
        return await context.step("after", lambda: told(context))

    with Runner(tmp_path / "journal.db", [files]) as runner:
        run = runner.start(files)
        runner.settle()
        assert run.result(timeout=0) == [1, 0.0045, ["first"]]
