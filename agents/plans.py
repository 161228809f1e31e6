"""`decompose`: a goal divided into tasks that do not overlap, by one recorded call of a model.

The ids of the tasks are made here, from their place and question, so equal answers give equal ids.
Too few tasks, too many, or two that ask the same are sent back to the model to be mended.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model, field_validator
from pydantic.json_schema import SkipJsonSchema

from perdure.durable.errors import PerdureError, UsageError
from perdure.durable.gated import AnyContext, drive, opened, run_of, value_of

from .model_calls import llm
from .scoped import inputs_for, lines, prompt_of

if TYPE_CHECKING:
    from perdure.durable.calls import Retry

    from .budgets import Budget

P = TypeVar("P", bound="Plan")
Approve = Callable[[Any, Any], Any]


class PlanRejected(PerdureError):
    """The `approve` function of a plan said no."""


class Effort(StrEnum):
    """How much a task is worth."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Task(BaseModel):
    """One task of a plan, to be done by somebody who sees nothing else of it."""

    model_config = ConfigDict(frozen=True)

    id: SkipJsonSchema[str] = ""
    question: str = Field(description="The one question that this task answers, in a sentence")
    objective: str = Field(
        default="", description="What is known when the task is done, and why it counts"
    )
    output_format: str = Field(
        default="", description="The form of the answer: a table, a list, figures"
    )
    sources: list[str] = Field(default=[], description="Where to look, or the tools to use")
    boundaries: str = Field(
        default="", description="What is left to other tasks, or not wanted at all"
    )
    effort: Effort = Field(default=Effort.MEDIUM, description="How much the task is worth")

    @field_validator("question")
    @classmethod
    def _not_blank(cls, question: str) -> str:
        if not question.strip():
            raise ValueError("a task has a question")
        return question


class Plan(BaseModel):
    """A goal, and the tasks that together reach it; no two of them ask the same."""

    model_config = ConfigDict(frozen=True)

    goal: SkipJsonSchema[str] = ""
    tasks: list[Task] = Field(description="The tasks, each standing alone, the most needed first")


def decompose(
    context: AnyContext,
    goal: str,
    *,
    name: str = "decompose",
    model: Any = None,
    schema: type[Plan] = Plan,
    min_tasks: int = 1,
    max_tasks: int = 8,
    hints: str | Sequence[str] | None = None,
    prompt: Any = None,
    approve: Approve | None = None,
    budget: Budget | Sequence[Budget] | None = None,
    retry: Retry = None,
    fallbacks: Sequence[Any] = (),
    repairs: int = 2,
) -> Any:
    """Divide a goal into tasks, in a scope of its own.

    Args:
        goal: what is to be found out.
        model: as of `llm`, and so are `budget`, `retry` and `fallbacks`.
        schema: `Plan` or a subclass; its tasks may be a subclass of `Task` with further fields.
        hints: what the planner should know beside the goal.
        prompt: a `Prompt`, or the path of one, in place of the built-in; of the inputs `goal`,
            `min_tasks`, `max_tasks` and `hints` it gets those that it declares.
        approve: a function `(scope, plan)` that returns True, False, or another plan; it may claim
            durable operations in the scope, such as the wait for a person.
        repairs: how often an answer that does not fit is sent back.

    Returns:
        the plan; in an async handler an awaitable of it.

    Raises:
        PlanRejected: `approve` returned False.
        ChildError: a call failed for good, or no answer came to fit.
        UsageError: an argument cannot be meant.
    """
    if not isinstance(goal, str) or not goal.strip():
        raise UsageError(f"decompose {name!r}: the goal is a text, not {goal!r:.80}")
    if not (isinstance(schema, type) and issubclass(schema, Plan)):
        raise UsageError(f"decompose {name!r}: schema is Plan or a subclass of it, not {schema!r}")
    if not 1 <= min_tasks <= max_tasks:
        raise UsageError(
            f"decompose {name!r}: 1 <= min_tasks <= max_tasks, not {min_tasks} and {max_tasks}"
        )
    template = prompt_of(prompt, "decompose")
    given = {
        "goal": goal.strip(),
        "min_tasks": min_tasks,
        "max_tasks": max_tasks,
        "hints": lines(hints),
    }

    run_of(context).codec.check_class(schema, where=f"decompose {name!r}: schema")

    async def body(scope: AnyContext) -> Plan:
        reply = await value_of(
            llm(
                scope,
                "plan",
                template,
                inputs=inputs_for(template, given),
                output=bounded(schema, min_tasks, max_tasks),
                model=model,
                budget=budget,
                retry=retry,
                fallbacks=fallbacks,
                repairs=repairs,
            )
        )
        plan = planned(schema, reply.output, goal)
        return plan if approve is None else await _approved(scope, plan, approve)

    return opened(context, name, body, PlanRejected)


@lru_cache(maxsize=64)
def bounded(schema: type[Plan], min_tasks: int, max_tasks: int) -> type[Plan]:
    """Return the class a model's plan has to fit: the schema, with bounds, and without repeats."""
    tasks = schema.model_fields["tasks"]
    field = Field(min_length=min_tasks, max_length=max_tasks, description=tasks.description)
    kind: Any = Annotated[tasks.annotation, AfterValidator(_without_repeats)]
    fields: Any = {"tasks": (kind, field)}
    return create_model(schema.__name__, __base__=schema, __doc__=schema.__doc__, **fields)


def planned(schema: type[P], plan: Plan, goal: str) -> P:
    """Return a plan as an instance of `schema`, with its goal, and ids for its tasks."""
    tasks = [
        task.model_copy(update={"id": task_id(at, task.question)})
        for at, task in enumerate(plan.tasks, 1)
    ]
    values = plan.model_dump() | {"goal": goal, "tasks": [task.model_dump() for task in tasks]}
    return schema.model_validate(values)


def task_id(place: int, question: str) -> str:
    """Return the id of a task: its place and first words, in plain letters, as `2-running-cost`."""
    plain = unicodedata.normalize("NFKD", question).encode("ascii", "ignore").decode().lower()
    slug = "-".join(re.findall(r"[a-z0-9]+", plain))
    if len(slug) > 40:
        slug = slug[:41].rpartition("-")[0] or slug[:40]
    return f"{place}-{slug or sha256(question.encode('utf-8', 'replace')).hexdigest()[:8]}"


async def _approved(scope: AnyContext, plan: Plan, approve: Approve) -> Plan:
    async def ask(inner: AnyContext) -> Any:
        return await value_of(approve(inner, plan))

    decision = await value_of(scope.child("approve", lambda inner: drive(inner, ask(inner))))
    if decision is True:
        return plan
    if decision is False:
        raise PlanRejected(f"the plan of {len(plan.tasks)} tasks was not approved")
    if not isinstance(decision, Plan):
        raise UsageError(f"approve returns True, False or a Plan, not {type(decision).__name__}")
    if not decision.tasks:
        raise UsageError("approve returned a plan without tasks; return False to reject one")
    return planned(type(decision), decision, plan.goal)


def _without_repeats(tasks: list[Task]) -> list[Task]:
    seen: dict[str, int] = {}
    for at, task in enumerate(tasks, 1):
        first = seen.setdefault(_normal(task.question), at)
        if first != at:
            raise ValueError(f"tasks {first} and {at} ask the same: {task.question!r}")
    return tasks


def _normal(text: str) -> str:
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))
