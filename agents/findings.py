"""`research`: the tasks of a plan done side by side, each in a scope of its own.

A task that fails takes nothing with it: what the others found is recorded when they end, and a
resume runs the failed tasks again and no other. The journal holds each finding with its sources.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import BaseModel, ConfigDict

from perdure.durable.completion import BatchResult, Completion, Outcome, Reason
from perdure.durable.duration import DurationLike, optional_seconds
from perdure.durable.errors import BatchError, ChildError, PerdureError, UsageError
from perdure.durable.gated import AnyContext, drive, opened, recorded_within, run_of, value_of

from .budgets import Budget, budgets_of
from .plans import Plan, Task, task_id
from .scoped import inputs_for, prompt_of
from .sources import Source, attributed, sources_in
from .tool_calls import KIND as TOOL_CALL

if TYPE_CHECKING:
    from perdure.prompts import Prompt

OnError = Literal["collect", "fail", "skip"]
_DEADLINE = "deadline"


class ResearchError(PerdureError):
    """Too many tasks failed; the text names each of them. A resume runs those again, no other."""


class TaskTimedOut(PerdureError):
    """A research task did not end within its time."""


class NothingFound(PerdureError):
    """A worker came back without a text."""


class Finding(BaseModel):
    """What a task came to; `[n]` in the text is the n-th of the sources."""

    model_config = ConfigDict(frozen=True)

    task_id: str = ""
    question: str = ""
    text: str
    sources: list[Source] = []


class Failure(BaseModel):
    """A task that came to nothing, and why."""

    model_config = ConfigDict(frozen=True)

    task_id: str
    question: str
    error_type: str
    message: str


class Findings(BaseModel):
    """What the tasks of a plan came to, in the order of the plan."""

    model_config = ConfigDict(frozen=True)

    goal: str = ""
    findings: list[Finding] = []
    failures: list[Failure] = []


def research(
    context: AnyContext,
    tasks: Plan | Iterable[Task | str],
    worker: Any,
    *,
    name: str = "research",
    max_concurrency: int | None = 5,
    on_error: OnError = "collect",
    min_success: int = 1,
    timeout_per_task: DurationLike | None = None,
    budget_per_task: Budget | None = None,
    budget: Budget | Sequence[Budget] | None = None,
    prompt: Any = None,
) -> Any:
    """Have a worker do each task, side by side.

    Args:
        tasks: a plan, or tasks, or questions.
        worker: an `Agent`, which gets each task as a text; or a function `(scope, task)`, sync or
            async as the handler is, that returns a text, a `Finding` or an `AgentResult`. The
            sources of a text or result are those that the tools called for it returned; see
            `sources_in`.
        max_concurrency: how many tasks run at once; one that waits does not count.
        on_error: "collect" goes on and lists the failures, "skip" goes on and only logs them,
            "fail" starts no further task and fails.
        min_success: with "collect" and "skip", how many tasks have to succeed once all have ended.
        timeout_per_task: a task fails after so long, counted from its start and across suspensions;
            after a resume it has all of it again. It is looked at between calls: one in flight
            ends, is recorded and paid for, and so does a body that computes.
        budget_per_task: a budget for each task, named after it.
        budget: budgets that all tasks share. Both kinds go to an agent beside its own, and to a
            function as its keyword argument `budget`.
        prompt: a `Prompt`, or the path of one, that words a task for an agent, in place of the
            built-in; it gets those of a task's fields, and `goal`, that it declares.

    Returns:
        the findings; in an async handler an awaitable of them.

    Raises:
        ResearchError: fewer than `min_success` tasks succeeded, or, with "fail", one failed.
        UsageError: an argument cannot be meant.
    """
    what = f"research {name!r}"
    listed, goal = _listed(tasks, what)
    if on_error not in ("collect", "fail", "skip"):
        raise UsageError(f"{what}: on_error is 'collect', 'fail' or 'skip', not {on_error!r}")
    if isinstance(min_success, bool) or not isinstance(min_success, int) or min_success < 0:
        raise UsageError(f"{what}: min_success is a whole number from 0, not {min_success!r}")
    if min_success > len(listed):
        raise UsageError(f"{what}: min_success is {min_success}, and there are {len(listed)} tasks")
    limit = optional_seconds(timeout_per_task, f"{what}: timeout_per_task")
    template = prompt_of(prompt, "research")
    work = _Work(worker, template, goal, budgets_of(budget), budget_per_task, name)
    work.check(what)
    completion = None if on_error == "fail" else _Heard(min_successful=min_success or None)

    async def one(scope: AnyContext, task: Task) -> Finding:
        if limit is None:
            return await work.done(scope, task)
        return await _in_time(scope, task, work, limit)

    async def body(scope: AnyContext) -> Findings:
        try:
            result: BatchResult[Finding] = await value_of(
                scope.map(
                    "tasks",
                    listed,
                    lambda inner, task: drive(inner, one(inner, task)),
                    max_concurrency=max_concurrency,
                    completion=completion,
                    item_name=lambda task: cast("str", task.id),
                )
            )
        except BatchError as error:
            raise ResearchError(_told(error.result, listed, min_success, on_error)) from error
        failures = _failures(result, listed)
        if on_error == "skip":
            for each in failures:
                scope.logger.warning("task %s is left out: %s", each.task_id, each.message)
            failures = []
        return Findings(goal=goal, findings=list(result), failures=failures)

    return opened(context, name, body, ResearchError)


@dataclass(frozen=True, slots=True)
class _Heard(Completion):
    """All tasks are heard before it is decided whether enough of them succeeded."""

    def decide(self, total: int, succeeded: int, failed: int) -> Reason | None:
        if succeeded + failed < total:
            return None
        if succeeded < (self.min_successful or 0):
            return Reason.FAILURE_TOLERANCE_EXCEEDED
        return Reason.ALL_COMPLETED


@dataclass(frozen=True, slots=True)
class _Work:
    """A worker, and what it is given for each task."""

    worker: Any
    prompt: Prompt
    goal: str
    budgets: tuple[Budget, ...]
    own_budget: Budget | None
    name: str

    def check(self, what: str) -> None:
        """Refuse a worker that cannot work, or that would not keep to its budgets."""
        if self._is_agent:
            return
        if not callable(self.worker):
            kind = type(self.worker).__name__
            raise UsageError(f"{what}: the worker is an Agent or a function, not {kind}")
        if (self.budgets or self.own_budget) and not _takes_budget(self.worker):
            raise UsageError(
                f"{what}: a budget is given, and the worker has no parameter to take it; write "
                "def worker(scope, task, *, budget) and hand it to llm"
            )

    async def done(self, scope: AnyContext, task: Task) -> Finding:
        """Return what the worker found."""
        budgets = self._budgets(task)
        if self._is_agent:
            agent = replace(self.worker, budget=(*budgets_of(self.worker.budget), *budgets))
            value = await value_of(agent.run(scope, self._words(task), name="agent"))
        else:
            given = {"budget": budgets} if _takes_budget(self.worker) else {}
            value = await value_of(self.worker(scope, task, **given))
        return _finding(task, value, scope)

    @property
    def _is_agent(self) -> bool:
        from .agent import Agent

        return isinstance(self.worker, Agent)

    def _budgets(self, task: Task) -> tuple[Budget, ...]:
        if self.own_budget is None:
            return self.budgets
        return (*self.budgets, replace(self.own_budget, name=f"{self.name}/{task.id}"))

    def _words(self, task: Task) -> str:
        fields = {**task.model_dump(mode="json"), "goal": self.goal}
        rendered = self.prompt.render(inputs_for(self.prompt, fields))
        return "\n\n".join(message.text for message in rendered.messages)


async def _in_time(scope: AnyContext, task: Task, work: _Work, limit: float) -> Finding:
    """Let a task and its time run against each other; who is first is on record."""
    race = {
        _DEADLINE: lambda inner: drive(inner, _time_up(inner, limit)),
        "work": lambda inner: drive(inner, work.done(inner, task)),
    }
    first = Completion(min_successful=1, max_failures=0)
    try:
        result = await value_of(scope.parallel("in-time", race, completion=first))
    except BatchError as error:
        failed = error.result.failures[0]
        if failed.name == _DEADLINE:
            raise TaskTimedOut(f"not done within {limit:g} s") from error
        assert failed.error is not None
        # As itself, and still the batch's: it is the batch that a resume opens again.
        raise ChildError(task.id, failed.error, error.operation_id) from error
    return cast("Finding", result[0])


async def _time_up(scope: AnyContext, limit: float) -> None:
    """Fail when the time is over; a callback, since that starts anew after a resume."""
    callback: Any = scope.callback(_DEADLINE, timeout=limit)
    clock = await value_of(callback)
    await value_of(clock.result())
    raise TaskTimedOut("its deadline was completed from outside")


def _listed(tasks: Any, what: str) -> tuple[list[Task], str]:
    """Return the tasks, each with an id of its own, and the goal of their plan."""
    given, goal = (tasks.tasks, tasks.goal) if isinstance(tasks, Plan) else (tasks, "")
    if isinstance(given, str) or not isinstance(given, Iterable):
        kind = type(given).__name__
        raise UsageError(f"{what} takes a Plan, or a list of tasks or questions, not {kind}")
    listed: list[Task] = []
    for at, each in enumerate(given, 1):
        task = Task(question=each) if isinstance(each, str) and each.strip() else each
        if not isinstance(task, Task):
            raise UsageError(f"{what}: a task is a Task or a question, not {each!r:.80}")
        own = task.id or task_id(at, task.question)
        listed.append(task if task.id else task.model_copy(update={"id": own}))
    if not listed:
        raise UsageError(f"{what}: there are no tasks")
    ids = [task.id for task in listed]
    if len(set(ids)) < len(ids):
        twice = next(id for id in ids if ids.count(id) > 1)
        raise UsageError(f"{what}: two tasks have the id {twice!r}")
    return listed, goal


def _takes_budget(worker: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(worker).parameters
    except (TypeError, ValueError):
        return False
    return "budget" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _finding(task: Task, value: Any, scope: AnyContext) -> Finding:
    """Return what a worker gave back as the finding of its task."""
    if not isinstance(value, str | Finding) and isinstance(getattr(value, "output", None), Finding):
        value = value.output
    if isinstance(value, Finding):
        finding = value.model_copy(update={"task_id": task.id, "question": task.question})
        return _with_text(finding, None)
    text = value if isinstance(value, str) else _text_of(value)
    text, sources = attributed(text, sources_in(_tool_results(scope)))
    finding = Finding(task_id=task.id, question=task.question, text=text.strip(), sources=sources)
    return _with_text(finding, getattr(value, "stop_reason", None))


def _with_text(finding: Finding, stopped: str | None) -> Finding:
    if not finding.text.strip():
        why = f"; its agent stopped: {stopped}" if stopped else ""
        raise NothingFound(f"the worker came back without a text{why}")
    return finding


def _text_of(value: Any) -> str:
    if not (hasattr(value, "text") and hasattr(value, "output")):
        kind = type(value).__name__
        raise UsageError(f"a worker returns a text, a Finding or an AgentResult, not {kind}")
    if value.output is None:
        return str(value.text)
    if isinstance(value.output, BaseModel):
        return value.output.model_dump_json(indent=1)
    return value.output if isinstance(value.output, str) else json.dumps(value.output, default=str)


def _tool_results(scope: AnyContext) -> list[Any]:
    """Return what the tools called within a scope returned, as its journal has it."""
    records = [run_of(scope).value_of(each) for each in recorded_within(scope, TOOL_CALL)]
    return [each["content"] for each in records if each.get("status") == "success"]


def _failures(result: BatchResult[Any], tasks: Sequence[Task]) -> list[Failure]:
    return [_failure(outcome, tasks[outcome.index]) for outcome in result.failures]


def _failure(outcome: Outcome[Any], task: Task) -> Failure:
    assert outcome.error is not None
    return Failure(
        task_id=task.id,
        question=task.question,
        error_type=outcome.error.type or "Error",
        message=outcome.error.message,
    )


def _told(
    result: BatchResult[Any], tasks: Sequence[Task], min_success: int, on_error: OnError
) -> str:
    failures = _failures(result, tasks)
    named = "; ".join(f"{each.task_id}: {each.error_type}: {each.message}" for each in failures)
    why = "" if on_error == "fail" else f", and at least {min_success} have to succeed"
    return f"{len(failures)} of {len(tasks)} research tasks failed{why}: {named}"
