"""`Agent`: a model and its tools in a loop, each turn and each tool call recorded as it ends.

A run of an agent is a scope of its own. Each turn is one model call named `turn`; the tool calls of
a turn run side by side in a batch named `tools`, a single one as an operation of the tool's name. A
tool that fails never takes finished ones with it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from typing import Any, Literal, overload

from perdure.durable import AsyncContext, ChildError, Completion, Context
from perdure.durable.calls import Retry
from perdure.durable.completion import Outcome
from perdure.durable.duration import DurationLike, optional_seconds
from perdure.durable.errors import UsageError
from perdure.durable.gated import AnyContext, drive, is_async, value_of
from perdure.durable.names import check_name

from .agent_results import (
    AgentResult,
    ContextPolicy,
    Conversation,
    StopReason,
    calls_of,
    has_output,
    listed,
    message_of,
    record_of_run,
    result_of,
)
from .budgets import Budget
from .model_calls import llm
from .reply import Reply
from .streams import OnText
from .tool_calls import Record, ToolCalls, step_name
from .tools import Approve, Tool, as_tools, check_count

__all__ = ["Agent", "AgentResult", "StopReason"]


@dataclass(frozen=True, eq=False, repr=False)
class Agent:
    """A model that works on a task with tools, in turns, until it has an answer.

    Args:
        model: as of `llm`.
        tools: functions, durable functions (which take a context first), `tool(fn, ...)`, LangChain
            tools, and `other_agent.as_tool()`.
        prompt: the instructions: a text, or a `Prompt`. One that declares the input `task` holds
            the task itself; otherwise the task follows as the user's message.
        name: the name of the scope that a run of it is.
        output: a class that pydantic can check, for the answer; see `llm`.
        max_turns: model calls at most, the one that asks for a due output aside.
        max_tool_calls: tool calls at most; the model is told that further ones are not made.
        tool_timeout: seconds for a call of a tool that has none of its own; not of durable ones.
        parallel_tools: the calls of a turn run side by side; else one after the other.
        tool_error: "to_model" tells the model of a call that failed, "raise" ends the agent with
            it, after the other calls of the turn.
        tool_retries: how often a failed call is made again, of tools that do not say; not of
            durable ones.
        approve: asked before each call, or before the calls of the tools it names: see `Approve`.
        budget, retry, fallbacks, max_tokens, temperature, options, stream: as of `llm`.
        output_repairs: `repairs` of `llm`.
        context_policy: a function of the messages so far, what is sent of them. It is called
            again at each replay, so it decides by the messages alone.

    Raises:
        UsageError: an argument cannot be meant.
    """

    model: Any = None
    tools: Sequence[Any] = ()
    prompt: Any = None
    _: KW_ONLY
    name: str = "agent"
    output: Any = None
    max_turns: int = 10
    max_tool_calls: int = 50
    tool_timeout: DurationLike | None = None
    parallel_tools: bool = True
    tool_error: Literal["to_model", "raise"] = "to_model"
    tool_retries: int = 0
    approve: Approve | Mapping[str, Approve] | None = None
    budget: Budget | Sequence[Budget] | None = None
    retry: Retry = None
    fallbacks: Sequence[Any] = ()
    max_tokens: int | None = None
    temperature: float | None = None
    output_repairs: int = 2
    context_policy: ContextPolicy | None = None
    options: Mapping[str, Any] | None = None
    stream: OnText | bool | None = None
    _tools: dict[str, Tool] = field(init=False)

    def __post_init__(self) -> None:
        """Check each field."""
        what = f"agent {check_name(self.name, 'agent')!r}"
        object.__setattr__(self, "_tools", as_tools(self.tools))
        check_count(self.max_turns, 1, f"{what}: max_turns")
        check_count(self.max_tool_calls, 0, f"{what}: max_tool_calls")
        check_count(self.tool_retries, 0, f"{what}: tool_retries")
        optional_seconds(self.tool_timeout, f"{what}: tool_timeout")
        if self.tool_error not in ("to_model", "raise"):
            raise UsageError(
                f"{what}: tool_error is 'to_model' or 'raise', not {self.tool_error!r}"
            )
        if not (self.prompt is None or isinstance(self.prompt, str) or _is_prompt(self.prompt)):
            raise UsageError(
                f"{what}: prompt is a text or a Prompt, not {type(self.prompt).__name__}"
            )
        if getattr(self.output, "__name__", None) in self._tools:
            raise UsageError(
                f"{what}: the output {self.output.__name__} has the name of a tool; rename one"
            )
        self._check_approve(what)

    def __repr__(self) -> str:
        return f"<Agent {self.name!r}, tools: {', '.join(self._tools) or 'none'}>"

    @overload
    def run(
        self,
        context: Context,
        task: Any,
        *,
        name: str | None = None,
        inputs: Mapping[str, Any] | None = None,
        messages: Sequence[Any] | None = None,
    ) -> AgentResult: ...
    @overload
    def run(
        self,
        context: AsyncContext,
        task: Any,
        *,
        name: str | None = None,
        inputs: Mapping[str, Any] | None = None,
        messages: Sequence[Any] | None = None,
    ) -> Awaitable[AgentResult]: ...
    def run(
        self,
        context: AnyContext,
        task: Any,
        *,
        name: str | None = None,
        inputs: Mapping[str, Any] | None = None,
        messages: Sequence[Any] | None = None,
    ) -> Any:
        """Work on a task, in a scope of its own; at replay return what it came to.

        Args:
            task: what to do: a text, or blocks of content.
            name: of the scope; the agent's own if not given.
            inputs: for a `Prompt`.
            messages: an earlier conversation, before the task; as of `llm`.

        Returns:
            an `AgentResult`; in an async handler an awaitable of it, claimed now.

        Raises:
            ChildError: a model call failed for good (out of budget, say), or, with
                `tool_error="raise"`, a tool did.
        """
        opening = (task, inputs, messages)
        kept: Any = context.child(
            name or self.name, lambda scope: drive(scope, self._converse(scope, *opening))
        )
        if not is_async(context):
            return result_of(kept, self.output)

        async def result() -> AgentResult:
            return result_of(await kept, self.output)

        return result()

    def as_tool(self, name: str | None = None, description: str | None = None) -> Tool:
        """Return this agent as a tool for other agents: it takes a `task`, and answers it.

        Args:
            name: of the tool; the agent's own if not given.
            description: when and how to use it, for the model.
        """

        async def work(context: AnyContext, task: str) -> Any:
            result = result_of(await self._converse(context, task, None, None), self.output)
            if self.output is not None:
                return result.output
            return result.text or f"(no answer; the agent stopped: {result.stop_reason})"

        about = description or f"Gives a task to the agent {self.name}; returns its answer."
        return Tool(name or self.name, about, work, durable=True)

    @cached_property
    def _calls(self) -> ToolCalls:
        return ToolCalls(
            self.name,
            self._tools,
            timeout=optional_seconds(self.tool_timeout, "tool_timeout"),
            retries=self.tool_retries,
            approve=self.approve,
            raises=self.tool_error == "raise",
        )

    async def _converse(
        self,
        scope: AnyContext,
        task: Any,
        inputs: Mapping[str, Any] | None,
        messages: Sequence[Any] | None,
    ) -> dict[str, Any]:
        """Take turns until the model has an answer; return the record of the run."""
        talk = await self._opening(scope, task, inputs, messages)
        replies: list[Reply[Any]] = []
        made: list[dict[str, Any]] = []
        stop = StopReason.MAX_TURNS
        while len(replies) < self.max_turns:
            reply = await self._turn(scope, talk, replies)
            calls = calls_of(reply)
            answered = not calls if self.output is None else has_output(reply)
            if answered:
                cut = reply.stop_reason in ("max_tokens", "length")
                stop = StopReason.MAX_TOKENS if cut else StopReason.ANSWERED
            if answered or (len(replies) == self.max_turns and self.output is None):
                made += [listed(call, "not_run") for call in calls]
                break
            await self._answer(scope, calls, talk, made)
        if stop is StopReason.MAX_TURNS and self.output is not None:
            await self._turn(scope, talk, replies, last=True)
        return record_of_run(stop, replies, made, len(talk))

    async def _turn(
        self, scope: AnyContext, talk: Conversation, replies: list[Reply[Any]], last: bool = False
    ) -> Reply[Any]:
        """Ask the model; the `last` time for the output alone."""
        reply: Reply[Any] = await value_of(
            llm(
                scope,
                "turn",
                talk.sent(self.context_policy),
                model=self.model,
                output=self.output,
                tools=() if last else tuple(self._tools.values()),
                budget=self.budget,
                retry=self.retry,
                fallbacks=self.fallbacks,
                repairs=self.output_repairs,
                stream=self.stream,
                max_tokens=self.max_tokens,
                temperature=self.temperature,
                options=self.options,
            )
        )
        replies.append(reply)
        talk.append(reply)
        return reply

    async def _answer(
        self,
        scope: AnyContext,
        calls: Sequence[dict[str, Any]],
        talk: Conversation,
        made: list[dict[str, Any]],
    ) -> None:
        """Make the calls of a turn, and add what they come to to the conversation."""
        left = max(0, self.max_tool_calls - len(made))
        records = await self._make_all(scope, calls[:left])
        for call in calls[left:]:
            why = f"not called: all {self.max_tool_calls} tool calls are used up; answer now"
            records.append(await self._calls.refuse(scope, call, why))
        for call, record in zip(calls, records, strict=True):
            status = "refused" if record.get("refused") else record["status"]
            made.append(listed({**call, "args": record.get("args", call["args"])}, status))
            talk.append(message_of(call, record))

    async def _make_all(self, scope: AnyContext, calls: Sequence[dict[str, Any]]) -> list[Record]:
        if len(calls) < 2 or not self.parallel_tools:
            return [await self._calls.make(scope, call) for call in calls]
        batch = await value_of(
            scope.map(
                "tools",
                calls,
                lambda inner, call: drive(inner, self._calls.make(inner, call)),
                completion=Completion(max_failures=len(calls)),
                nesting="flat",
                item_name=step_name,
            )
        )
        if batch.failures:
            raise _error_of(batch.failures[0])
        return list(batch)

    async def _opening(
        self,
        scope: AnyContext,
        task: Any,
        inputs: Mapping[str, Any] | None,
        messages: Sequence[Any] | None,
    ) -> Conversation:
        talk = Conversation()
        takes_task = False
        if _is_prompt(self.prompt):
            render = _rendering(self.prompt, task, inputs, scope.execution_id)
            kept = await value_of(scope.step("prompt", render))
            talk.extend((role, text) for role, text in kept["messages"])
            talk.name, talk.version = kept["name"], kept["version"]
            takes_task = kept["takes_task"]
        elif inputs is not None:
            raise UsageError(f"agent {self.name!r}: inputs= are for a Prompt, and it has none")
        elif self.prompt is not None:
            talk.append(("system", self.prompt))
        talk.extend(messages or ())
        if not takes_task:
            talk.append(("user", task))
        return talk

    def _check_approve(self, what: str) -> None:
        if isinstance(self.approve, Mapping):
            for name, approve in self.approve.items():
                if name not in self._tools:
                    known = ", ".join(self._tools) or "none"
                    raise UsageError(f"{what}: approve names {name!r}; its tools are: {known}")
                if not callable(approve):
                    raise UsageError(f"{what}: approve[{name!r}] is a function, not {approve!r}")
        elif self.approve is not None and not callable(self.approve):
            raise UsageError(
                f"{what}: approve is a function, or a dict of them by tool, not {self.approve!r}"
            )


def _is_prompt(prompt: Any) -> bool:
    return hasattr(prompt, "render") and hasattr(prompt, "version")


def _rendering(
    prompt: Any, task: Any, inputs: Mapping[str, Any] | None, salt: str
) -> Callable[[], dict[str, Any]]:
    """Return the step that renders a prompt: an agent goes on with what it began with."""

    def render() -> dict[str, Any]:
        takes_task = "task" in prompt.inputs
        given = {**(inputs or {}), **({"task": task} if takes_task else {})}
        rendered = prompt.render(given, salt=salt)
        return {
            "name": rendered.name,
            "version": rendered.version,
            "messages": [[str(each.role), each.text] for each in rendered.messages],
            "takes_task": takes_task,
        }

    return render


def _error_of(failed: Outcome[Any]) -> ChildError:
    """Return a branch's failure as the error of its operation, which a resume opens again."""
    assert failed.error is not None
    return ChildError(failed.name, failed.error, (failed.error.data or "").removeprefix("perdure:"))
