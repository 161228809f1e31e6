"""Agents: turns and tool calls that are made once, and what becomes of those that fail."""

from __future__ import annotations

import asyncio
import itertools
import json
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langchain_core.tools import tool as langchain_tool
from pydantic import BaseModel

from perdure.agents.agent import Agent, AgentResult
from perdure.agents.budgets import Budget
from perdure.agents.testing import ScriptedModel
from perdure.agents.tools import ToolError, ToolRequest, tool
from perdure.durable import ChildError, Duration, ExecutionFailedError, UsageError, current_step
from perdure.durable.gated import drive, value_of
from perdure.durable.testing import Runner, check_crashes, check_replay
from perdure.prompts import Prompt

from .both import durable


@pytest.fixture
def work(kind: str, runner: Runner) -> Callable[..., Any]:
    """Runs an agent on a task to the end, replays that, and returns the agent's result."""
    numbers = itertools.count()

    def run(agent: Agent, task: Any = "Do it.", **options: Any) -> AgentResult:
        found: list[AgentResult] = []
        name = f"handler{next(numbers)}"
        execution = runner.start(handler_of(kind, agent, found, task, name=name, **options))
        runner.run_until_idle()
        execution.result(timeout=5)
        check_replay(execution)
        assert found[0] == found[-1]
        return found[-1]

    return run


def handler_of(
    kind: str,
    agent: Agent,
    found: list[AgentResult] | None = None,
    task: Any = "Do it.",
    name: str = "handler",
    **options: Any,
) -> Any:
    async def body(event: Any, context: Any) -> Any:
        result = await value_of(agent.run(context, task, **options))
        if found is not None:
            found.append(result)
        return result.text

    return durable(kind, body, name)


def call(tool: str, **args: Any) -> dict[str, Any]:
    return {"tool": tool, "args": args}


def told(model: ScriptedModel, request: int = -1) -> list[tuple[str, str]]:
    """Return status and content of the tool messages that a request ends with."""
    told = []
    for message in reversed(model.requests[request].messages):
        if message["role"] != "tool":
            break
        told.append((message["status"], message["content"]))
    return told[::-1]


class Bench:
    """Tools that note how often they were called."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def double(self, number: int) -> int:
        """Double a number."""
        self.calls.append(number)
        return number * 2

    async def triple(self, number: int) -> dict[str, int]:
        """Triple a number."""
        self.calls.append(number)
        return {"tripled": number * 3}

    def fail(self, why: str) -> str:
        """Fail."""
        self.calls.append(why)
        raise ValueError(why)


class Sum(BaseModel):
    """A sum."""

    total: int
    terms: list[int] = []


def test_a_model_calls_tools_until_it_has_an_answer(work: Any) -> None:
    bench = Bench()
    model = ScriptedModel([call("double", number=2), call("triple", number=4), "Twelve."])
    agent = Agent(model, [bench.double, bench.triple], "Be brief.")
    result = work(agent, "2 * 2 * 3?")
    assert (result.text, result.stop_reason, result.turns) == ("Twelve.", "answered", 3)
    assert bench.calls == [2, 4]
    assert result.tool_calls == [
        {"name": "double", "args": {"number": 2}, "status": "success"},
        {"name": "triple", "args": {"number": 4}, "status": "success"},
    ]
    last = model.requests[-1].messages
    assert [each["role"] for each in last] == [
        "system",
        "user",
        "assistant",
        "tool",
        "assistant",
        "tool",
    ]
    assert [last[3]["content"], last[5]["content"]] == ["4", '{"tripled": 12}']
    assert result.messages == len(last) + 1


def test_the_calls_of_a_turn_run_side_by_side(work: Any) -> None:
    meeting = threading.Barrier(3, timeout=20)

    def meet(who: str) -> str:
        meeting.wait()
        return who

    model = ScriptedModel([[call("meet", who=each) for each in "abc"], "Met."])
    result = work(Agent(model, [meet]))
    assert told(model) == [("success", "a"), ("success", "b"), ("success", "c")]
    assert [each["args"]["who"] for each in result.tool_calls] == ["a", "b", "c"]


def test_the_calls_of_a_turn_run_in_order_if_asked_to(work: Any) -> None:
    bench = Bench()
    model = ScriptedModel([[call("double", number=n) for n in (3, 1, 2)], "Done."])
    work(Agent(model, [bench.double], parallel_tools=False))
    assert bench.calls == [3, 1, 2]


def test_what_goes_wrong_is_told_to_the_model(work: Any) -> None:
    bench = Bench()

    def picky(x: str) -> str:
        raise ToolError(f"{x} is not on the list; try b")

    model = ScriptedModel(
        [
            [
                call("fail", why="no disk"),
                call("fall", why="x"),
                call("double", number="two"),
                call("picky", x="a"),
                call("double", number=1),
            ],
            call("fail", why="again"),
            "I give up.",
        ]
    )
    result = work(Agent(model, [bench.fail, bench.double, picky]))
    assert told(model, 1) == [
        ("error", "ValueError: no disk"),
        ("error", "there is no tool 'fall'; known: fail, double, picky"),
        (
            "error",
            "invalid arguments for double: number: Input should be a valid integer, unable to "
            "parse string as an integer",
        ),
        ("error", "a is not on the list; try b"),
        ("success", "2"),
    ]
    assert told(model, 2) == [("error", "ValueError: again")]
    assert bench.calls.count(1) == 1
    assert [each["status"] for each in result.tool_calls] == ["error"] * 4 + ["success", "error"]


def test_arguments_that_are_no_json_are_told_to_the_model(work: Any) -> None:
    broken = {"name": "double", "args": '{"number": ', "id": "c1", "error": "cut", "type": "x"}
    broken["type"] = "invalid_tool_call"
    model = ScriptedModel([AIMessage("", invalid_tool_calls=[broken]), "Done."])
    result = work(Agent(model, [Bench().double]))
    assert told(model) == [("error", "the arguments of double are not valid JSON")]
    assert result.text == "Done."


def test_a_failure_ends_the_agent_if_asked_to_after_its_siblings(kind: str, runner: Runner) -> None:
    bench, broken = Bench(), [True]

    def flaky() -> str:
        if broken:
            raise ValueError("no disk")
        return "fine"

    model = ScriptedModel([[call("flaky"), call("double", number=1)], "Done."])
    agent = Agent(model, [flaky, bench.double], tool_error="raise")
    execution = runner.start(handler_of(kind, agent))
    runner.run_until_idle()
    with pytest.raises(ExecutionFailedError, match="no disk"):
        execution.result(timeout=5)
    check_replay(execution)
    assert bench.calls == [1]
    broken.clear()
    runner.engine.resume(execution.id)
    runner.run_until_idle()
    assert execution.result(timeout=5) == "Done."
    assert bench.calls == [1]
    assert model.calls == 2
    assert told(model) == [("success", "fine"), ("success", "2")]


def test_a_single_failure_that_raises_is_resumed_too(kind: str, runner: Runner) -> None:
    broken = [True]

    def flaky() -> str:
        if broken:
            raise ValueError("no disk")
        return "fine"

    model = ScriptedModel([call("flaky"), "Done."])
    execution = runner.start(handler_of(kind, Agent(model, [flaky], tool_error="raise")))
    runner.run_until_idle()
    broken.clear()
    runner.engine.resume(execution.id)
    runner.run_until_idle()
    assert execution.result(timeout=5) == "Done."
    assert model.calls == 2


def test_a_mistake_in_a_tool_is_not_left_to_the_model(kind: str, runner: Runner) -> None:
    model = ScriptedModel([[call("lock"), call("lock")], "Done."])

    def lock() -> Any:
        return threading.Lock()

    execution = runner.start(handler_of(kind, Agent(model, [lock])))
    runner.run_until_idle()
    with pytest.raises(ExecutionFailedError, match="'lock' returned has no JSON form"):
        execution.result(timeout=5)


def test_a_tool_that_takes_too_long_is_given_up(work: Any) -> None:
    over = threading.Event()

    def slow() -> str:
        over.wait(20)
        return "late"

    async def stuck() -> str:
        await asyncio.Event().wait()
        return "never"

    model = ScriptedModel([[call("slow"), call("stuck")], "Done."])
    work(Agent(model, [slow, tool(stuck, timeout=0.02)], tool_timeout=0.01))
    over.set()
    assert told(model) == [
        ("error", "slow did not end within 0.01 s and was given up"),
        ("error", "stuck did not end within 0.02 s and was given up"),
    ]


def test_a_timeout_of_the_tools_own_is_not_taken_for_ours(work: Any) -> None:
    def fetch() -> str:
        raise TimeoutError("the server was silent")

    async def afetch() -> str:
        raise TimeoutError("the server was silent")

    model = ScriptedModel([[call("fetch"), call("afetch")], "Done."])
    work(Agent(model, [fetch, afetch], tool_timeout=20))
    assert told(model) == [("error", "TimeoutError: the server was silent")] * 2


def test_a_failed_call_is_made_again_as_often_as_its_tool_says(work: Any) -> None:
    attempts: list[int] = []

    def flaky(x: int) -> str:
        attempts.append(current_step().attempt)
        if len(attempts) < 3:
            raise ValueError("not yet")
        return "there"

    model = ScriptedModel([[call("flaky", x=1), call("flaky", x="?")], "Done."])
    work(Agent(model, [tool(flaky, retries=2)]))
    assert attempts == [1, 2, 3]
    assert told(model)[0] == ("success", "there")


def test_a_call_runs_once_it_is_allowed(work: Any) -> None:
    bench, asked = Bench(), []

    def approve(scope: Any, request: ToolRequest) -> Any:
        asked.append(request)
        return {1: True, 2: False, 3: "too much", 4: {"number": 40}, 5: None}[
            request.args["number"]
        ]

    calls = [call("double", number=n) for n in (1, 2, 3, 4, 5)]
    model = ScriptedModel([calls, call("double", number=1), "Done."])
    agent = Agent(model, [bench.double], approve=approve, name="boss")
    result = work(agent)
    assert sorted(bench.calls) == [1, 1, 40]
    assert told(model, 1) == [
        ("success", "2"),
        ("error", "the call of double was refused"),
        ("error", "the call of double was refused: too much"),
        ("success", '(Not called as you asked, but with {"number": 40}.)\n80'),
        ("error", "the call of double was refused: nobody allowed it in time"),
    ]
    statuses = [each["status"] for each in result.tool_calls]
    assert statuses == ["success", "refused", "refused", "success", "refused", "success"]
    assert result.tool_calls[3]["args"] == {"number": 40}
    assert len(asked) == 6
    assert {each.agent for each in asked} == {"boss"}


def test_only_the_tools_that_are_named_need_to_be_allowed(work: Any) -> None:
    bench = Bench()
    model = ScriptedModel([[call("double", number=1), call("triple", number=1)], "Done."])
    tools = [bench.double, tool(bench.triple, approve=lambda scope, request: False)]
    work(Agent(model, tools, approve={"double": lambda scope, request: "no"}))
    assert [content for _, content in told(model)] == [
        "the call of double was refused: no",
        "the call of triple was refused",
    ]
    assert bench.calls == []


def test_nobody_is_asked_about_a_call_that_cannot_run(work: Any) -> None:
    def approve(scope: Any, request: ToolRequest) -> Any:
        raise AssertionError("asked")

    model = ScriptedModel([call("double", number="x"), "Done."])
    work(Agent(model, [Bench().double], approve=approve))
    assert told(model)[0][0] == "error"


def test_an_approval_waits_for_days_and_asks_once(kind: str, runner: Runner) -> None:
    bench, asked = Bench(), []

    async def approve(scope: Any, request: ToolRequest) -> Any:
        await value_of(scope.step("ask", lambda: asked.append(request.args["number"])))
        return await value_of(scope.wait(Duration.from_days(3), name="decision"))

    model = ScriptedModel([[call("double", number=1), call("double", number=2)], "Done."])
    handler = handler_of(kind, Agent(model, [bench.double], approve=approve))
    runner.start(handler, id="run")
    runner.settle()
    runner.restart()
    execution = runner.start(handler, id="run")
    assert sorted(asked) == [1, 2]
    runner.engine.send(execution.id, "agent/tools[0]/approve:double/decision", True)
    runner.run_until_idle()
    assert execution.result(timeout=5) == "Done."
    check_replay(execution)
    assert bench.calls == [1]
    assert sorted(asked) == [1, 2]
    assert told(model)[1] == ("error", "the call of double was refused: nobody allowed it in time")


def test_an_approval_that_fails_is_not_left_to_the_model(kind: str, runner: Runner) -> None:
    def approve(scope: Any, request: ToolRequest) -> Any:
        raise ConnectionError("no Slack")

    model = ScriptedModel([call("double", number=1), "Done."])
    bench = Bench()
    execution = runner.start(handler_of(kind, Agent(model, [bench.double], approve=approve)))
    runner.run_until_idle()
    with pytest.raises(ExecutionFailedError, match="no Slack"):
        execution.result(timeout=5)
    assert bench.calls == []


def test_an_agent_stops_when_its_turns_are_used_up(work: Any) -> None:
    bench = Bench()
    model = ScriptedModel([call("double", number=1)], loop=True)
    result = work(Agent(model, [bench.double], max_turns=3))
    assert (result.stop_reason, result.turns, model.calls) == ("max_turns", 3, 3)
    assert bench.calls == [1, 1]
    assert [each["status"] for each in result.tool_calls] == ["success", "success", "not_run"]


def test_an_agent_out_of_turns_is_asked_for_its_output_alone(work: Any) -> None:
    bench = Bench()
    model = ScriptedModel([call("double", number=1), call("double", number=2), Sum(total=4)])
    result = work(Agent(model, [bench.double], output=Sum, max_turns=2))
    assert (result.stop_reason, result.turns) == ("max_turns", 3)
    assert result.output == Sum(total=4)
    assert bench.calls == [1, 2]
    last = model.requests[-1].options
    assert [each["function"]["name"] for each in last["tools"]] == ["Sum"]
    assert last["tool_choice"] == "Sum"


def test_calls_beyond_the_limit_are_not_made(work: Any) -> None:
    bench = Bench()
    model = ScriptedModel([[call("double", number=n) for n in range(4)], "Done."])
    result = work(Agent(model, [bench.double], max_tool_calls=2))
    assert sorted(bench.calls) == [0, 1]
    assert told(model)[2] == ("error", "not called: all 2 tool calls are used up; answer now")
    assert [each["status"] for each in result.tool_calls] == ["success"] * 2 + ["refused"] * 2


def test_an_answer_comes_as_the_class_that_was_asked_for(work: Any) -> None:
    bench = Bench()
    bad = AIMessage("", tool_calls=[{"name": "Sum", "args": {"total": "?"}, "id": "s1"}])
    model = ScriptedModel([call("double", number=1), bad, Sum(total=2, terms=[1, 1])])
    result = work(Agent(model, [bench.double], output=Sum))
    assert result.output == Sum(total=2, terms=[1, 1])
    assert (result.stop_reason, result.turns) == ("answered", 2)


def test_calls_beside_the_output_are_not_made(work: Any) -> None:
    bench = Bench()
    model = ScriptedModel([[call("Sum", total=2), call("double", number=1)]])
    result = work(Agent(model, [bench.double], output=Sum))
    assert result.output == Sum(total=2)
    assert bench.calls == []
    assert [each["status"] for each in result.tool_calls] == ["not_run"]


def test_a_local_class_will_do_for_an_output(work: Any) -> None:
    class Local(BaseModel):
        x: int

    result = work(Agent(ScriptedModel([Local(x=1)]), output=Local))
    assert result.output == Local(x=1)


def test_an_agent_is_a_tool_of_another(work: Any) -> None:
    bench = Bench()
    small = ScriptedModel([call("double", number=3), "Six."])
    counter = Agent(small, [bench.double], name="counter")
    judge = Agent(ScriptedModel([Sum(total=9)]), name="judge", output=Sum)
    calls = [call("counter", task="Double 3."), call("judge", task="Judge.")]
    model = ScriptedModel([calls, "It is six."])
    boss = Agent(model, [counter.as_tool(description="Counts."), judge.as_tool()])
    result = work(boss)
    assert result.text == "It is six."
    assert told(model) == [("success", "Six."), ("success", '{"total": 9, "terms": []}')]
    assert small.requests[0].messages == [{"role": "user", "content": "Double 3."}]
    described = model.requests[0].options["tools"][0]["function"]
    assert described["description"] == "Counts."
    assert list(described["parameters"]["properties"]) == ["task"]


def test_an_agent_that_fails_as_a_tool_leaves_its_siblings(work: Any) -> None:
    bench = Bench()
    poor = Agent(ScriptedModel(["x"]), name="poor", budget=Budget(calls=0, name="pocket-money"))
    model = ScriptedModel([[call("poor", task="x"), call("double", number=1)], "Done."])
    work(Agent(model, [poor.as_tool(), bench.double]))
    failed, done = told(model)
    assert failed[0] == "error"
    assert "pocket-money" in failed[1]
    assert done == ("success", "2")


def test_a_tool_with_a_context_may_wait(work: Any) -> None:
    async def patient(context: Any, days: int) -> str:
        await value_of(context.sleep(Duration.from_days(days)))
        return await value_of(context.step("look", lambda: "seen"))

    model = ScriptedModel([[call("patient", days=2), call("patient", days="?")], "Done."])
    work(Agent(model, [patient]))
    assert told(model)[0] == ("success", "seen")
    assert told(model)[1][0] == "error"


def test_langchain_tools_work_as_they_are(work: Any) -> None:
    @langchain_tool
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    @langchain_tool(response_format="content_and_artifact")
    def find(q: str) -> tuple[str, dict[str, Any]]:
        """Find."""
        return f"found {q}", {"pages": [1, 2]}

    @langchain_tool
    async def wait(q: str) -> str:
        """Wait."""
        return f"waited for {q}"

    calls = [call("add", a=1, b=2), call("find", q="x"), call("wait", q="y"), call("add", a="?")]
    model = ScriptedModel([calls, "Done."])
    work(Agent(model, [add, find, wait], tool_timeout=20))
    assert told(model)[:3] == [
        ("success", "3"),
        ("success", "found x"),
        ("success", "waited for y"),
    ]
    assert told(model)[3][0] == "error"
    assert told(model)[3][1].startswith("invalid arguments for add: ")
    assert "b: Field required" in told(model)[3][1]


def test_the_artifact_of_a_langchain_tool_is_kept(kind: str, runner: Runner) -> None:
    @langchain_tool(response_format="content_and_artifact")
    def find(q: str) -> tuple[str, Any]:
        """Find."""
        return "found", {"pages": [1, 2]} if q == "plain" else threading.Lock()

    model = ScriptedModel([call("find", q="plain"), call("find", q="odd"), "Done."])
    execution = runner.start(handler_of(kind, Agent(model, [find])))
    runner.run_until_idle()
    execution.result(timeout=5)
    kept = [
        json.loads(event["StepSucceededDetails"]["Result"]["Payload"])
        for event in execution.history()
        if event["EventType"] == "StepSucceeded" and event.get("Name") == "find"
    ]
    assert kept[0] == {"content": "found", "status": "success", "artifact": {"pages": [1, 2]}}
    assert kept[1] == {"content": "found", "status": "success"}


PROMPT = """---
input:
  schema:
    tone: string, of the answer
---
system:
You are {{ tone }}.
"""


def test_a_prompt_file_holds_the_instructions_and_may_hold_the_task(work: Any) -> None:
    model = ScriptedModel(["Hello."], loop=True)
    agent = Agent(model, prompt=Prompt.from_string(PROMPT, name="tone"))
    work(agent, "Greet.", inputs={"tone": "kind"})
    assert [each["content"] for each in model.requests[0].messages] == ["You are kind.", "Greet."]
    whole = PROMPT.replace("---\ns", "    task: string\n---\ns") + "user:\nTask: {{ task }}\n"
    agent = Agent(model, prompt=Prompt.from_string(whole))
    work(agent, "Greet.", inputs={"tone": "kind"})
    assert [each["content"] for each in model.requests[-1].messages] == [
        "You are kind.",
        "Task: Greet.",
    ]


def test_an_agent_goes_on_from_an_earlier_conversation(work: Any) -> None:
    model = ScriptedModel(["Blue."])
    work(Agent(model), "And now?", messages=[("user", "Hi"), ("assistant", "Hello")])
    assert [each["content"] for each in model.requests[0].messages] == ["Hi", "Hello", "And now?"]


def test_a_context_policy_decides_what_is_sent(work: Any) -> None:
    model = ScriptedModel([call("double", number=1), call("double", number=2), "Done."])
    agent = Agent(
        model, [Bench().double], context_policy=lambda messages: [messages[0], *messages[-2:]]
    )
    result = work(agent)
    assert [len(each.messages) for each in model.requests] == [2, 3, 3]
    assert result.messages == 6


def test_tokens_and_dollars_of_all_turns_are_added_up(work: Any) -> None:
    model = ScriptedModel(
        [call("double", number=1), "Done."], usage=(100, 10), price={"input": 1.0, "output": 10.0}
    )
    result = work(Agent(model, [Bench().double]))
    assert (result.usage.input, result.usage.output) == (200, 20)
    assert float(result.usd) == pytest.approx(0.0004)
    assert work(Agent(ScriptedModel(["x"]))).usd is None


def test_a_crash_between_two_tool_calls_repeats_none(kind: str) -> None:
    bench = Bench()

    def answer(messages: list[Any], options: Any) -> Any:
        return {
            1: [call("double", number=1), call("double", number=2)],
            4: call("triple", number=3),
            6: "Done.",
        }[len(messages)]

    agent = Agent(ScriptedModel(answer), [bench.double, bench.triple], parallel_tools=False)
    points = check_crashes(handler_of(kind, agent))
    # Two runs are not disturbed; of the others, one loses the end of this very call.
    for number in (1, 2, 3):
        assert bench.calls.count(number) <= points + 2 + 1


def test_a_crash_amid_the_calls_of_a_turn_repeats_no_finished_one(kind: str) -> None:
    bench = Bench()

    def answer(messages: list[Any], options: Any) -> Any:
        return (
            [call("double", number=1), call("triple", number=2)] if len(messages) < 2 else "Done."
        )

    agent = Agent(ScriptedModel(answer), [bench.double, bench.triple])
    points = check_crashes(handler_of(kind, agent))
    assert points > 4


def test_a_finished_call_is_not_made_again_after_a_crash(kind: str, runner: Runner) -> None:
    bench = Bench()

    def triple(number: int) -> int:
        bench.calls.append(number)
        if bench.calls.count(number) == 1:
            runner.crash_after(0)
        return number * 3

    model = ScriptedModel([call("double", number=1), call("triple", number=2), "Done."])
    handler = handler_of(kind, Agent(model, [bench.double, triple]))
    runner.start(handler, id="run")
    runner.run_until_idle()
    runner.restart()
    execution = runner.start(handler, id="run")
    runner.run_until_idle()
    assert execution.result(timeout=5) == "Done."
    assert bench.calls == [1, 2, 2]
    assert model.calls == 3
    assert told(model) == [("success", "6")]


def test_results_may_be_kept_and_given_on(kind: str, runner: Runner) -> None:
    model = ScriptedModel([[call("double", number=1), call("double", number=2)], Sum(total=6)])
    agent = Agent(model, [Bench().double], output=Sum)

    async def body(event: Any, context: Any) -> Any:
        async def inner(scope: Any) -> Any:
            return await value_of(agent.run(scope, "Add."))

        kept = await value_of(context.child("outer", lambda scope: drive(scope, inner(scope))))
        await value_of(context.sleep(3600))
        return [type(kept).__name__, kept.output.total]

    execution = runner.start(durable(kind, body))
    runner.run_until_idle()
    assert execution.result(timeout=5) == ["AgentResult", 6]
    check_replay(execution)


def test_two_agents_may_work_side_by_side(runner: Runner) -> None:
    one = Agent(ScriptedModel([call("double", number=1), "One."]), [Bench().double], name="one")
    two = Agent(ScriptedModel([call("double", number=2), "Two."]), [Bench().double], name="two")

    async def body(event: Any, context: Any) -> Any:
        found = await asyncio.gather(one.run(context, "x"), two.run(context, "y"))
        return [each.text for each in found]

    execution = runner.start(durable("async", body))
    runner.run_until_idle()
    assert execution.result(timeout=5) == ["One.", "Two."]
    check_replay(execution)


def test_a_hundred_turns_cost_a_journal_that_grows_by_what_is_new(tmp_path: Path) -> None:
    def size(turns: int) -> int:
        path = tmp_path / f"{turns}.db"
        said = [call("read", page=n) for n in range(turns - 1)]

        def read(page: int) -> str:
            return f"page {page}: " + "x" * 300

        model = ScriptedModel([*said, "Done."])
        agent = Agent(model, [read], max_turns=turns, max_tool_calls=turns)
        with Runner(path) as runner:
            execution = runner.start(handler_of("sync", agent))
            runner.run_until_idle()
            assert execution.result(timeout=30) == "Done."
        with sqlite3.connect(path) as c:
            c.execute("VACUUM")
            return int(c.execute("SELECT sum(pgsize) FROM dbstat").fetchone()[0])

    try:
        sqlite3.connect(":memory:").execute("SELECT 1 FROM dbstat")
    except sqlite3.OperationalError:
        pytest.skip("this SQLite has no dbstat")
    one, fifty, hundred = size(1), size(51), size(101)
    assert hundred - fifty <= 1.3 * (fifty - one)


def test_a_replay_asks_nobody_and_loads_no_langchain(tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text(
        "import sys\n"
        "from perdure.agents.agent import Agent\n"
        "from perdure.durable import durable_execution\n"
        "def scripted():\n"
        "    from perdure.agents.testing import ScriptedModel\n"
        "    calls = [{'tool': 'look', 'args': {'at': at}} for at in 'ab']\n"
        "    return ScriptedModel([calls, {'tool': 'look', 'args': {'at': 'c'}}, 'Done.'])\n"
        "def look(at: str) -> str:\n"
        "    return at\n"
        "agent = Agent(scripted, [look])\n"
        "@durable_execution\n"
        "def handler(event, context):\n"
        "    result = agent.run(context, 'Look.')\n"
        "    context.wait(60, name='go')\n"
        "    return [result.text, 'langchain_core' in sys.modules, 'pydantic' in sys.modules]\n"
    )
    start = (
        "from perdure.durable import LocalEngine\nimport pipeline\n"
        "with LocalEngine('j.db', handlers=[pipeline.handler]) as engine:\n"
        "    run = engine.start(pipeline.handler, None, id='r')\n"
        "    engine.wait_idle(30)\n"
    )
    go_on = (
        "from perdure.durable import LocalEngine\nimport pipeline\n"
        "with LocalEngine('j.db', handlers=[pipeline.handler]) as engine:\n"
        "    run = engine.get('r')\n"
        "    engine.send('r', 'go')\n"
        "    print(run.result(timeout=30))\n"
    )
    for code in (start, go_on):
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['Done.', False, False]"


def _lookup(x: int) -> str:
    return "x"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tools": [_lookup, _lookup]}, "two tools are named '_lookup'"),
        ({"max_turns": 0}, "agent 'agent': max_turns is a whole number from 1, not 0"),
        ({"max_tool_calls": -1}, "max_tool_calls is a whole number from 0"),
        ({"tool_timeout": "soon"}, "tool_timeout"),
        ({"tool_error": "ignore"}, "tool_error is 'to_model' or 'raise', not 'ignore'"),
        ({"prompt": 3}, "prompt is a text or a Prompt, not int"),
        ({"approve": ["_lookup"]}, "approve is a function, or a dict"),
        ({"approve": {"x": lambda s, r: True}}, "approve names 'x'; its tools are: none"),
        ({"tools": [tool(_lookup, name="Sum")], "output": Sum}, "output Sum has the name"),
        ({"name": "ü"}, "printable ASCII"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Agent("offline", **options)


def test_inputs_without_a_prompt_are_refused(kind: str, runner: Runner) -> None:
    async def body(event: Any, context: Any) -> Any:
        try:
            await value_of(Agent("offline").run(context, "x", inputs={"a": 1}))
        except ChildError as error:
            return str(error)

    execution = runner.start(durable(kind, body))
    runner.run_until_idle()
    assert "inputs= are for a Prompt" in execution.result(timeout=5)
