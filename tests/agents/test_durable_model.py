"""LangChain's chains and LangGraph's graphs pay once, unchanged."""

from __future__ import annotations

import random
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langgraph.graph import END, START, StateGraph
from pydantic import BaseModel

from perdure.agents import durable_model, ledger
from perdure.agents.testing import ScriptedModel
from perdure.durable import AsyncContext, Context, durable_execution
from perdure.durable.testing import Runner, check_crashes, check_replay


class Answer(BaseModel):
    """An answer."""

    value: int


def echo(messages: Any, options: Any) -> str:
    return f"to {messages[-1].content}"


def test_a_chain_pays_once(runner: Runner) -> None:
    model = ScriptedModel(echo)

    @durable_execution
    def handler(event: Any, context: Context) -> Any:
        prompt = ChatPromptTemplate.from_messages([("system", "be brief"), ("user", "{question}")])
        chain = prompt | durable_model(context, model) | StrOutputParser()
        return [str(chain.invoke({"question": question})) for question in ("a", "b", "a")]

    run = runner.start(handler)
    runner.run_until_idle()
    assert run.result() == ["to a", "to b", "to a"]
    assert model.calls == 3
    check_replay(run)
    assert model.calls == 3
    assert ledger(run).totals.calls == 3


def test_structured_output_and_tools_work_through_it(runner: Runner) -> None:
    model = ScriptedModel([Answer(value=3)])

    @durable_execution
    def handler(event: Any, context: Context) -> Any:
        chain = durable_model(context, model).with_structured_output(Answer)
        return chain.invoke("how many?").value

    run = runner.start(handler)
    runner.run_until_idle()
    assert run.result() == 3
    check_replay(run)
    assert model.calls == 1


class State(TypedDict):
    """What the nodes of the graph add to."""

    found: Annotated[list[str], lambda left, right: sorted(left + right)]
    report: str


def graph_of(ask: Any, order: random.Random | None) -> Any:
    """Return a graph of five nodes side by side and one that sums them up."""
    graph = StateGraph(State)
    numbers = list(range(5))
    if order is not None:
        order.shuffle(numbers)
    for number in numbers:
        graph.add_node(f"node-{number}", ask(f"q{number}"))
        graph.add_edge(START, f"node-{number}")
        graph.add_edge(f"node-{number}", "sum")
    graph.add_node("sum", ask(None))
    graph.add_edge("sum", END)
    return graph.compile()


def test_a_graph_with_nodes_in_threads_pays_once_in_any_order() -> None:
    model = ScriptedModel(echo)
    order = random.Random(1)

    @durable_execution
    def handler(event: Any, context: Context) -> Any:
        chat = durable_model(context, model)

        def ask(question: str | None) -> Any:
            def node(state: State) -> dict[str, Any]:
                said = chat.invoke([HumanMessage(question or ", ".join(state["found"]))])
                return {"found": [said.content]} if question else {"report": said.content}

            return node

        return graph_of(ask, order).invoke({"found": [], "report": ""})["report"]

    points = check_crashes(handler)
    assert points >= 8
    # Undisturbed once, once after the last point, and at each point only what was in flight.
    assert model.calls <= 2 * 6 + points * (6 + 5)


def test_a_graph_of_async_nodes_pays_once_in_any_order(runner: Runner) -> None:
    model = ScriptedModel(echo)
    order = random.Random(2)

    @durable_execution
    async def handler(event: Any, context: AsyncContext) -> Any:
        chat = durable_model(context, model)

        def ask(question: str | None) -> Any:
            async def node(state: State) -> dict[str, Any]:
                said = await chat.ainvoke([HumanMessage(question or ", ".join(state["found"]))])
                return {"found": [said.content]} if question else {"report": said.content}

            return node

        result = await graph_of(ask, order).ainvoke({"found": [], "report": ""})
        await context.sleep(3600)
        return result["report"]

    run = runner.start(handler)
    runner.run_until_idle()
    assert run.result() == "to to q0, to q1, to q2, to q3, to q4"
    assert model.calls == 6
    for _ in range(5):
        check_replay(run)
    assert model.calls == 6
    assert ledger(run).totals.unmatched == 0


def test_equal_requests_are_told_apart_and_new_ones_are_reported(runner: Runner) -> None:
    numbers = iter(range(100))
    model = ScriptedModel(lambda messages, options: f"{messages[-1].content} {next(numbers)}")
    question = {"text": "roll"}

    @durable_execution
    def handler(event: Any, context: Context) -> Any:
        chat = durable_model(context, model)
        rolled = [chat.invoke(question["text"]).content for _ in range(3)]
        context.wait(60, name="go")
        return rolled

    run = runner.start(handler)
    runner.settle()
    question["text"] = "roll again"
    runner.run_until_idle()
    assert run.result() == ["roll again 3", "roll again 4", "roll again 5"]
    assert ledger(run).totals.unmatched == 3


def test_two_models_of_one_handler_never_share_answers(runner: Runner) -> None:
    first = ScriptedModel(["one"], name="first")
    second = ScriptedModel(["two"], name="second")

    @durable_execution
    def handler(event: Any, context: Context) -> Any:
        return [durable_model(context, each).invoke("?").content for each in (first, second)]

    run = runner.start(handler)
    runner.run_until_idle()
    assert run.result() == ["one", "two"]
    check_replay(run)


class Refused(Exception):
    """What a provider says when it is asked too often."""

    status_code = 429


def test_a_refused_request_of_a_chain_suspends_and_goes_on(runner: Runner) -> None:
    model = ScriptedModel([Refused(), "at last"])

    @durable_execution
    def handler(event: Any, context: Context) -> Any:
        return str((durable_model(context, model) | StrOutputParser()).invoke("?"))

    run = runner.start(handler)
    runner.settle()
    assert [wait.kind for wait in run.waiting_for()] == ["retry"]
    runner.run_until_idle()
    assert run.result() == "at last"
    assert model.calls == 2


def test_the_wrong_kind_of_call_says_which_is_right(runner: Runner) -> None:
    model = ScriptedModel(["a"])

    @durable_execution
    async def handler(event: Any, context: AsyncContext) -> Any:
        return durable_model(context, model).invoke("?").content

    run = runner.start(handler)
    runner.run_until_idle()
    with pytest.raises(Exception, match="await ainvoke"):
        run.result()
