"""A plan has as many tasks as it may have, none twice, and ids that a replay makes again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perdure.agents.plans import Effort, Plan, PlanRejected, Task, decompose, task_id
from perdure.agents.testing import ScriptedModel
from perdure.durable import ExecutionFailedError, UsageError
from perdure.durable.gated import value_of
from perdure.durable.testing import Runner, check_replay
from perdure.prompts import Prompt

from .both import finished, outcome

GOAL = "Which heating for the school?"
ASK = "---\ninput: {schema: {goal: string}}\n---\nPlan this: {{ goal }}\n"


class Costed(Task):
    """A task with its price."""

    euros: int


class CostedPlan(Plan):
    """A plan that says what its tasks cost."""

    tasks: list[Costed]
    currency: str = "EUR"


def plan(*questions: str) -> dict[str, Any]:
    return {"tool": "Plan", "args": {"tasks": [{"question": each} for each in questions]}}


def planning(**options: Any) -> Callable[..., Any]:
    async def body(event: Any, context: Any) -> Any:
        return await value_of(decompose(context, GOAL, **options))

    return body


def test_a_goal_becomes_tasks_with_ids_of_their_own(runner: Runner, make: Any) -> None:
    model = ScriptedModel([plan("What does it cost?", "Wie laut ist die Wärmepumpe?")])
    made = outcome(runner, make(planning(model=model)))
    assert made.goal == GOAL
    assert [task.id for task in made.tasks] == [
        "1-what-does-it-cost",
        "2-wie-laut-ist-die-warmepumpe",
    ]
    assert made.tasks[0].effort is Effort.MEDIUM


def test_the_model_is_asked_for_no_ids(runner: Runner, make: Any) -> None:
    model = ScriptedModel([plan("What does it cost?")])
    outcome(runner, make(planning(model=model, max_tasks=3)))
    [tool] = model.requests[0].options["tools"]
    schema = tool["function"]["parameters"]
    assert "id" not in schema["$defs"]["Task"]["properties"]
    assert (
        schema["properties"]["tasks"]["minItems"],
        schema["properties"]["tasks"]["maxItems"],
    ) == (
        1,
        3,
    )


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (plan("A?"), "at least 2"),
        (plan("A?", "B?", "C?", "D?"), "at most 3"),
        (plan("What is it?", "what  is it"), "tasks 1 and 2 ask the same"),
        (plan("A?", " "), "a task has a question"),
    ],
)
def test_a_plan_that_breaks_the_bounds_is_sent_back(
    runner: Runner, make: Any, wrong: Any, words: str
) -> None:
    model = ScriptedModel([wrong, plan("A?", "B?")])
    made = outcome(runner, make(planning(model=model, min_tasks=2, max_tasks=3)))
    assert [task.question for task in made.tasks] == ["A?", "B?"]
    assert words in str(model.requests[1].messages[-1]["content"])


def test_a_plan_that_stays_wrong_fails_with_what_is_wrong(runner: Runner, make: Any) -> None:
    model = ScriptedModel([plan("A?"), plan("B?")])
    run = finished(runner, make(planning(model=model, min_tasks=2, repairs=1)))
    with pytest.raises(ExecutionFailedError, match=r"2 answers do not fit Plan.*at least 2"):
        run.result(timeout=0)


def test_a_plan_of_ones_own_class_comes_back_as_that(runner: Runner, make: Any) -> None:
    args = {"tasks": [{"question": "What?", "euros": 5}], "currency": "CHF"}
    model = ScriptedModel([{"tool": "CostedPlan", "args": args}])
    made = outcome(runner, make(planning(model=model, schema=CostedPlan)))
    assert type(made) is CostedPlan
    assert (made.currency, made.tasks[0].euros, made.tasks[0].id) == ("CHF", 5, "1-what")


def test_hints_and_bounds_reach_the_planner(runner: Runner, make: Any) -> None:
    model = ScriptedModel([plan("A?")])
    outcome(runner, make(planning(model=model, hints=["The roof is new", "No oil"], max_tasks=4)))
    asked = model.requests[0].messages[-1]["content"]
    assert f"<goal>\n{GOAL}\n</goal>" in asked
    assert "1 to 4 tasks" in asked
    assert "- The roof is new\n- No oil" in asked


@pytest.mark.parametrize("from_file", [True, False])
def test_a_prompt_replaces_the_built_in_one(
    runner: Runner, make: Any, tmp_path: Path, from_file: bool
) -> None:
    file = tmp_path / "own.prompt"
    file.write_text(ASK)
    model = ScriptedModel([plan("A?")])
    prompt = file if from_file else Prompt.from_string(ASK)
    outcome(runner, make(planning(model=model, prompt=prompt)))
    [request] = model.requests
    assert [each["content"] for each in request.messages] == [f"Plan this: {GOAL}"]


def test_an_approved_plan_goes_on_and_a_rejected_one_does_not(runner: Runner, make: Any) -> None:
    model = ScriptedModel(lambda messages, options: plan("A?", "B?"))

    async def body(event: Any, context: Any) -> Any:
        def approve(scope: Any, plan: Plan) -> Any:
            return scope.wait(3600, name="approval")

        try:
            return await value_of(decompose(context, GOAL, model=model, approve=approve))
        except PlanRejected as error:
            return str(error)

    handler = make(body)
    for answer in (True, False):
        run = runner.start(handler)
        runner.settle()
        runner.engine.send(run.id, "approval", answer)
        runner.settle()
        result = run.result(timeout=5)
        check_replay(run)
        if answer:
            assert len(result.tasks) == 2
        else:
            assert result == "the plan of 2 tasks was not approved"


def test_a_plan_that_was_edited_takes_the_place_of_the_models(runner: Runner, make: Any) -> None:
    model = ScriptedModel([plan("A?", "B?")])

    def approve(scope: Any, plan: Plan) -> Plan:
        return plan.model_copy(update={"tasks": [plan.tasks[1], Task(question="C?")]})

    made = outcome(runner, make(planning(model=model, approve=approve)))
    assert [(task.id, task.question) for task in made.tasks] == [("1-b", "B?"), ("2-c", "C?")]
    assert made.goal == GOAL


def test_approve_that_decides_nothing_is_told_so(runner: Runner, make: Any) -> None:
    model = ScriptedModel([plan("A?")])
    run = finished(runner, make(planning(model=model, approve=lambda scope, plan: None)))
    with pytest.raises(ExecutionFailedError, match="returns True, False or a Plan, not NoneType"):
        run.result(timeout=0)


def test_the_stand_in_plans_from_the_goal(runner: Runner, make: Any) -> None:
    async def body(event: Any, context: Any) -> Any:
        goal = "What do the offers cost? What does the grant pay? What does the audit say?"
        return await value_of(decompose(context, goal, model="offline"))

    made = outcome(runner, make(body))
    assert [task.question for task in made.tasks] == [
        "What do the offers cost?",
        "What does the grant pay?",
        "What does the audit say?",
    ]


def test_ids_are_short_plain_and_never_empty() -> None:
    long = task_id(1, "What would a very long question that nobody would ever ask look like?")
    assert len(long) <= 42
    assert not long.endswith("-")
    assert task_id(2, "暖房は何がよいか") == task_id(2, "暖房は何がよいか")
    assert task_id(2, "暖房は何がよいか").isascii()
    assert task_id(3, "x" * 200) == "3-" + "x" * 40


@pytest.mark.parametrize(
    ("goal", "options", "words"),
    [
        (" ", {}, "the goal is a text"),
        (None, {}, "the goal is a text, not None"),
        ("A", {"min_tasks": 0}, "1 <= min_tasks <= max_tasks, not 0 and 8"),
        ("A", {"min_tasks": 3, "max_tasks": 2}, "not 3 and 2"),
        ("A", {"schema": Task}, "schema is Plan or a subclass of it"),
        ("A", {"prompt": "Plan!"}, "prompt= is a Prompt or the pathlib.Path of one, not str"),
    ],
)
def test_what_cannot_be_meant_is_refused(goal: Any, options: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        decompose(None, goal, **options)  # type: ignore[arg-type]


def test_a_schema_that_would_not_be_found_again_is_refused_before_any_call(
    runner: Runner, make: Any
) -> None:
    class Local(Plan):
        """A plan that only this function knows."""

    model = ScriptedModel(["never asked"])

    async def body(event: Any, context: Any) -> Any:
        return await value_of(decompose(context, "Compare.", schema=Local, model=model))

    run = runner.start(make(body))
    runner.run_until_idle()
    with pytest.raises(ExecutionFailedError, match=r"schema: .*Local cannot be kept"):
        run.result()
    assert model.calls == 0
