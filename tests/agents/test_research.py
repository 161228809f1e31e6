"""Research: what fails takes nothing with it, and a resume mends that and nothing else."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perdure.agents.agent import Agent
from perdure.agents.budgets import Budget
from perdure.agents.findings import Finding, Findings, ResearchError, research
from perdure.agents.model_calls import llm
from perdure.agents.plans import Plan, Task
from perdure.agents.sources import Source
from perdure.agents.testing import ScriptedModel
from perdure.durable import ExecutionFailedError, UsageError
from perdure.durable.gated import drive, value_of
from perdure.durable.testing import Runner, check_replay
from perdure.prompts import Prompt

from .both import durable

QUESTIONS = ["What is A?", "What is B?", "What is C?", "What is D?", "What is E?"]


class Field:
    """A worker of two steps that fails on the questions which are named."""

    def __init__(self, kind: str, *broken: str) -> None:
        self.broken = set(broken)
        self.looked: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self.worker = self._awaited if kind == "async" else self._plain

    async def _awaited(self, scope: Any, task: Task) -> str:
        await scope.step("look", self._look, task.question)
        return str(await scope.step("answer", self._answer, task.question))

    def _plain(self, scope: Any, task: Task) -> str:
        scope.step("look", self._look, task.question)
        return str(scope.step("answer", self._answer, task.question))

    def _look(self, question: str) -> None:
        self.looked[question] += 1

    def _answer(self, question: str) -> str:
        self.asked[question] += 1
        if question in self.broken:
            raise ConnectionError(f"nobody answers {question}")
        return f"The answer to {question}"

    def mend(self) -> None:
        self.broken.clear()
        self.looked.clear()
        self.asked.clear()


def finished(runner: Runner, handler: Any, event: Any = None) -> Any:
    run = runner.start(handler, event)
    runner.run_until_idle()
    assert run.status != "RUNNING", f"it waits for {run.waiting_for()}"
    return run


def outcome(runner: Runner, handler: Any, event: Any = None) -> Any:
    run = finished(runner, handler, event)
    result = run.result(timeout=0)
    check_replay(run)
    return result


def resumed(runner: Runner, run: Any, *reopen: str) -> Any:
    runner.engine.resume(run.id, reopen)
    runner.run_until_idle()
    result = run.result(timeout=0)
    check_replay(run)
    return result


def researching(worker: Any, tasks: Any = QUESTIONS, **options: Any) -> Callable[..., Any]:
    async def body(event: Any, context: Any) -> Findings:
        found: Findings = await value_of(research(context, tasks, worker, **options))
        return found

    return body


def test_each_task_is_done_and_found_in_the_order_of_the_plan(
    runner: Runner, make: Any, kind: str
) -> None:
    found = outcome(runner, make(researching(Field(kind).worker)))
    assert [each.question for each in found.findings] == QUESTIONS
    assert found.findings[1].text == "The answer to What is B?"
    assert [each.task_id for each in found.findings][:2] == ["1-what-is-a", "2-what-is-b"]
    assert found.failures == []


def test_two_of_five_fail_and_the_three_are_kept_and_used(
    runner: Runner, make: Any, kind: str
) -> None:
    field = Field(kind, "What is B?", "What is D?")
    found = outcome(runner, make(researching(field.worker)))
    assert [each.question[-2] for each in found.findings] == ["A", "C", "E"]
    assert [(each.task_id, each.error_type, each.message) for each in found.failures] == [
        ("2-what-is-b", "ConnectionError", "nobody answers What is B?"),
        ("4-what-is-d", "ConnectionError", "nobody answers What is D?"),
    ]


def test_a_missed_minimum_names_each_failure_after_all_were_heard(
    runner: Runner, make: Any, kind: str
) -> None:
    field = Field(kind, "What is A?", "What is D?")
    run = finished(runner, make(researching(field.worker, min_success=4, max_concurrency=1)))
    with pytest.raises(ExecutionFailedError, match=r"2 of 5 .* at least 4 .*1-what-is-a.*4-what-"):
        run.result(timeout=0)
    assert sorted(field.asked) == QUESTIONS


@pytest.mark.parametrize("on_error", ["collect", "fail"])
def test_resume_repairs_the_failed_tasks_and_no_others(
    runner: Runner, make: Any, kind: str, on_error: str
) -> None:
    field = Field(kind, "What is B?", "What is D?")
    concurrency = 1 if on_error == "fail" else 5
    body = researching(field.worker, on_error=on_error, min_success=5, max_concurrency=concurrency)
    run = finished(runner, make(body))
    assert run.status == "FAILED"
    done = set(field.asked) - field.broken
    field.mend()
    found = resumed(runner, run)
    assert [each.question for each in found.findings] == QUESTIONS
    assert not done & set(field.asked), "what was found is not sought again"
    assert field.asked["What is B?"] == 1
    if on_error == "collect":
        assert field.asked == {"What is B?": 1, "What is D?": 1}
        assert not field.looked, "the finished steps of a failed task stand, too"


def test_collected_failures_are_repaired_when_a_resume_names_them(
    runner: Runner, make: Any, kind: str
) -> None:
    field = Field(kind, "What is B?", "What is D?")
    broken = [True]

    async def body(event: Any, context: Any) -> Any:
        found = await value_of(research(context, QUESTIONS, field.worker))
        if broken:
            raise ValueError("a bug after it")
        return found

    run = finished(runner, make(body))
    broken.clear()
    field.mend()
    found = resumed(runner, run, "2-what-is-b", "4-what-is-d")
    assert [each.question for each in found.findings] == QUESTIONS
    assert field.asked == {"What is B?": 1, "What is D?": 1}


def test_the_callers_own_error_handling_meets_a_research_error(
    runner: Runner, make: Any, kind: str
) -> None:
    field = Field(kind, *QUESTIONS)

    async def body(event: Any, context: Any) -> str:
        try:
            await value_of(research(context, QUESTIONS, field.worker))
        except ResearchError as error:
            return str(error)
        return "no error"

    assert outcome(runner, make(body)).startswith("5 of 5 research tasks failed")


def test_skip_leaves_failures_out(runner: Runner, make: Any, kind: str) -> None:
    field = Field(kind, "What is B?")
    found = outcome(runner, make(researching(field.worker, on_error="skip")))
    assert (len(found.findings), found.failures) == (4, [])


def test_a_crash_loses_no_finished_task(tmp_path: Path, kind: str) -> None:
    field = Field(kind)
    handler = durable(kind, researching(field.worker, max_concurrency=1))
    with Runner(tmp_path / "journal.db", [handler]) as runner:
        run = runner.start(handler)
        runner.crash_after(8)
        runner.run_until_idle()
        before = set(field.asked)
        runner.restart()
        runner.run_until_idle()
        found = runner.engine.get(run.id).result(timeout=5)
    assert [each.question for each in found.findings] == QUESTIONS
    assert before
    assert sum(field.asked.values()) <= len(QUESTIONS) + 1


def test_a_task_out_of_time_fails_and_a_resume_gives_it_all_of_it_again(
    runner: Runner, make: Any
) -> None:
    slow = {"What is B?": 50}

    def worker(scope: Any, task: Task) -> Any:
        async def work() -> str:
            await value_of(scope.sleep(slow.get(task.question, 1)))
            return f"slept over {task.question}"

        return drive(scope, work())

    body = researching(worker, QUESTIONS[:3], timeout_per_task=30, min_success=3)
    run = finished(runner, make(body))
    with pytest.raises(ExecutionFailedError, match=r"TaskTimedOut: not done within 30 s"):
        run.result(timeout=0)
    found = resumed(runner, run)
    assert len(found.findings) == 3, "it slept 30 of its 50 s before, and goes on from there"


def test_a_failure_under_a_deadline_is_told_and_repaired_as_one_without(
    runner: Runner, make: Any, kind: str
) -> None:
    field = Field(kind, "What is B?")
    body = researching(field.worker, timeout_per_task=60, min_success=5)
    run = finished(runner, make(body))
    with pytest.raises(ExecutionFailedError, match="ConnectionError: nobody answers What is B?"):
        run.result(timeout=0)
    field.mend()
    assert len(resumed(runner, run).findings) == 5
    assert field.asked == {"What is B?": 1}


def library(name: str) -> str:
    """Read a document."""
    texts = {"a.md": "Alder burns for two hours.", "b.md": "Beech burns for four hours."}
    return json.dumps({"n": 7 if name == "a.md" else 9, "name": name, "text": texts[name]})


def test_an_agents_sources_are_those_its_tools_returned(runner: Runner, make: Any) -> None:
    model = ScriptedModel(
        [
            [
                {"tool": "library", "args": {"name": "a.md"}},
                {"tool": "library", "args": {"name": "b.md"}},
            ],
            "Beech burns longer [9], and oak longest [4].",
        ]
    )
    agent = Agent(model, tools=[library])
    found = outcome(runner, make(researching(agent, ["Which wood burns longest?"])))
    [finding] = found.findings
    assert finding.text == "Beech burns longer [1], and oak longest [?]."
    [source] = finding.sources
    assert (source.location, source.text) == ("b.md", "Beech burns for four hours.")


def test_an_agent_is_told_its_task_and_nothing_of_the_others(runner: Runner, make: Any) -> None:
    model = ScriptedModel(["Two hours.", "Four hours."])
    tasks = [
        Task(question="How long does alder burn?", boundaries="not the price"),
        Task(question="How long does beech burn?"),
    ]
    plan = Plan(goal="Choose a wood", tasks=tasks)
    outcome(runner, make(researching(Agent(model), plan, max_concurrency=1)))
    first = model.requests[0].messages[-1]["content"]
    assert "How long does alder burn?" in first
    assert "Leave aside: not the price" in first
    assert "Choose a wood" in first
    assert "beech" not in first


def test_a_prompt_replaces_the_built_in_one(runner: Runner, make: Any) -> None:
    model = ScriptedModel(["Two hours."])
    text = "---\ninput: {schema: {question: string}}\n---\nAnswer in one word: {{ question }}\n"
    body = researching(Agent(model), ["How long?"], prompt=Prompt.from_string(text))
    outcome(runner, make(body))
    assert model.requests[0].messages[-1]["content"] == "Answer in one word: How long?"


def test_a_budget_per_task_stops_that_task_alone(runner: Runner, make: Any) -> None:
    model = ScriptedModel(lambda messages, options: "An answer.")

    def worker(scope: Any, task: Task, budget: Any) -> Any:
        async def work() -> str:
            for turn in range(2 if task.question == "What is B?" else 1):
                await value_of(llm(scope, f"turn-{turn}", "go", model=model, budget=budget))
            return "done"

        return drive(scope, work())

    body = researching(worker, budget_per_task=Budget(calls=1), budget=Budget(calls=20, name="all"))
    found = outcome(runner, make(body))
    assert [each.task_id for each in found.failures] == ["2-what-is-b"]
    assert "'research/2-what-is-b' allows 1 calls" in found.failures[0].message


def test_an_agent_keeps_its_own_budget_beside_the_shared_one(runner: Runner, make: Any) -> None:
    model = ScriptedModel(lambda messages, options: "An answer.")
    agent = Agent(model, budget=Budget(calls=10, name="own"))
    body = researching(agent, budget=Budget(calls=2, name="all"), max_concurrency=1)
    found = outcome(runner, make(body))
    assert (len(found.findings), len(found.failures)) == (2, 3)


def test_a_function_may_give_a_finding_of_its_own(runner: Runner, make: Any, kind: str) -> None:
    given = Finding(text="As it says [1].", sources=[Source(location="x.md", text="so")])

    def worker(scope: Any, task: Task) -> Finding:
        return given

    found = outcome(runner, make(researching(worker, ["What?"])))
    [finding] = found.findings
    assert (finding.task_id, finding.question) == ("1-what", "What?")
    assert (finding.text, finding.sources) == (given.text, given.sources)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (" ", "NothingFound: the worker came back without a text"),
        (None, "UsageError: a worker returns a text, a Finding or an AgentResult, not NoneType"),
    ],
)
def test_a_worker_that_returns_nothing_has_failed(
    runner: Runner, make: Any, value: Any, words: str
) -> None:
    def worker(scope: Any, task: Task) -> Any:
        return value

    run = finished(runner, make(researching(worker, ["What?"])))
    with pytest.raises(ExecutionFailedError, match=words):
        run.result(timeout=0)


@pytest.mark.parametrize(
    ("tasks", "options", "words"),
    [
        ([], {}, "there are no tasks"),
        ("What?", {}, "takes a Plan, or a list of tasks or questions, not str"),
        ([7], {}, "a task is a Task or a question, not 7"),
        ([" "], {}, "a task is a Task or a question, not ' '"),
        (["A?"], {"min_success": 2}, "min_success is 2, and there are 1 tasks"),
        (["A?"], {"on_error": "ignore"}, "on_error is 'collect', 'fail' or 'skip', not 'ignore'"),
        (["A?"], {"timeout_per_task": -1}, "timeout_per_task"),
        (["A?"], {"budget": Budget(calls=1)}, "the worker has no parameter to take it"),
        ([Task(id="x", question="A?"), Task(id="x", question="B?")], {}, "two tasks have the id"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_runs(
    runner: Runner, make: Any, tasks: Any, options: Any, words: str
) -> None:
    def worker(scope: Any, task: Task) -> str:
        raise AssertionError("nothing runs")

    run = finished(runner, make(researching(worker, tasks, **options)))
    with pytest.raises(ExecutionFailedError, match=words):
        run.result(timeout=0)


def test_two_researches_side_by_side_replay(runner: Runner) -> None:
    field = Field("async")

    async def body(event: Any, context: Any) -> list[Findings]:
        both = (
            research(context, QUESTIONS[:2], field.worker, name="first"),
            research(context, QUESTIONS[2:], field.worker, name="second"),
        )
        return list(await asyncio.gather(*both))

    first, second = outcome(runner, durable("async", body))
    assert [each.question for each in first.findings + second.findings] == QUESTIONS


def test_a_worker_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="the handler's context, not a NoneType"):
        research(None, ["A?"], lambda scope, task: "x")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="the worker is an Agent or a function, not str"):
        research(None, ["A?"], "me")  # type: ignore[arg-type]
