"""`llm`: one model call, paid once, its answer recorded before it is looked at."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, TypedDict, TypeVar, Unpack, overload

from perdure.durable import AsyncContext, Context
from perdure.durable.calls import Retry
from perdure.durable.errors import StepError, UsageError
from perdure.durable.gated import AnyContext, Claim, annex, drive, is_async, run_of, value_of
from perdure.durable.retry import RetryPolicy, policy_of

from .budgets import Budget, budgets_of
from .errors import BudgetExceeded, CallInDoubt, ModelCallError, OutputInvalid
from .lines import KIND
from .messages import Plain, plain_message, plain_messages
from .models import Model, resolve
from .paying import IN_DOUBT, OVER_BUDGET, RETRY, IfInterrupted, Paying, Terms
from .reply import Reply
from .sending import Sending
from .streams import OnText
from .structured import Invalid, Shape, mend

T = TypeVar("T")
_log = logging.getLogger("perdure")


class Options(TypedDict, total=False):
    """The options of `llm` that its layers hand on; each is described there."""

    model: Any
    inputs: Mapping[str, Any] | None
    tools: Sequence[Any]
    tool_choice: str | None
    budget: Budget | Sequence[Budget] | None
    retry: Retry
    fallbacks: Sequence[Any]
    if_interrupted: IfInterrupted
    repairs: int
    stream: OnText | bool | None
    max_tokens: int | None
    temperature: float | None
    options: Mapping[str, Any] | None
    strict: bool
    record_prompts: bool


@overload
def llm(
    context: Context, name: str, prompt: Any, *, output: type[T], **options: Unpack[Options]
) -> Reply[T]: ...
@overload
def llm(
    context: AsyncContext, name: str, prompt: Any, *, output: type[T], **options: Unpack[Options]
) -> Awaitable[Reply[T]]: ...
@overload
def llm(
    context: Context, name: str, prompt: Any, *, output: Any = None, **options: Unpack[Options]
) -> Reply[Any]: ...
@overload
def llm(
    context: AsyncContext, name: str, prompt: Any, *, output: Any = None, **options: Unpack[Options]
) -> Awaitable[Reply[Any]]: ...
@overload
def llm(
    context: AnyContext, name: str, prompt: Any, *, output: Any = None, **options: Unpack[Options]
) -> Reply[Any] | Awaitable[Reply[Any]]: ...
def llm(
    context: AnyContext, name: str, prompt: Any, *, output: Any = None, **options: Unpack[Options]
) -> Any:
    """Ask a model once; at replay, and after any crash, return the answer that was recorded.

    Args:
        name: as of a step.
        prompt: a text, a `Prompt` (with `inputs`), or a list of messages: `("user", text)`, a
            `Reply`, `{"role": "tool", …}`, or LangChain's own.
        model: "bedrock:…", "openai:…", "anthropic:…", "ollama:…", "offline", a chat model, or a
            function that makes one; by default the prompt's own, $PERDURE_MODEL, else "offline".
            The settings in a prompt's file are used where the call gives none.
        output: a class that pydantic can check; the answer is `reply.output`. One that does not fit
            is repaired by a new recorded call that sees what is wrong, at most `repairs` times.
        tools: functions, LangChain tools, or definitions in OpenAI's form; the calls that the model
            asks for are `reply.tool_calls`.
        budget: one or several; the worst case is reserved before the call is sent.
        retry: for what is free (never sent, refused): by default 6 attempts, 2 s apart and more. A
            call that may have run is tried once more within them.
        fallbacks: models to ask in turn when the ones before failed for good.
        if_interrupted: what to do with a call whose process died: "retry" (at most twice), "fail",
            or "ask": wait until somebody sends "retry" or "fail" to `NAME/in-doubt`.
        stream: True, or a function of each piece of text as it comes; never called at replay.
        max_tokens: output tokens at most, also what a budget reserves.
        options: further arguments of the model, passed as they are.
        strict: refuse a model that makes hidden attempts of its own, instead of a warning.
        record_prompts: keep the messages in the journal; their digest is always kept.

    Returns:
        the `Reply`; in an async handler an awaitable of it, claimed now.

    Raises:
        ModelCallError: the model, and each fallback, failed for good.
        BudgetExceeded: the call would have broken a budget, and was not sent.
        CallInDoubt: it was interrupted, and is not to be sent again.
        OutputInvalid: no answer fits `output`; all of them are kept.
        UsageError: an argument cannot be meant.
    """
    call = Call.of(prompt, output, options, run_of(context).execution_id)
    claim = Claim(context, KIND, name)
    return claim.awaited(drive(context, call.answer(context, claim)))


@dataclass(frozen=True)
class Call:
    """A model call as it was asked for."""

    prompt: Any
    inputs: Mapping[str, Any] | None
    model: Any
    fallbacks: tuple[Any, ...]
    output: Any
    given_tools: tuple[Any, ...]
    tool_choice: str | None
    terms: Terms
    repairs: int
    stream: OnText | bool | None
    options: Mapping[str, Any]
    strict: bool
    salt: str

    @classmethod
    def of(cls, prompt: Any, output: Any, given: Options, salt: str) -> Call:
        """Return a call with its options checked.

        Raises:
            UsageError: naming the one that cannot be meant.
        """
        unknown = [key for key in given if key not in Options.__annotations__]
        if unknown:
            known = ", ".join(sorted((*Options.__annotations__, "output")))
            raise UsageError(f"llm has no option {unknown[0]!r}; it takes {known}")
        repairs, max_tokens = given.get("repairs", 2), given.get("max_tokens")
        for key, value in (("repairs", repairs), ("max_tokens", max_tokens)):
            whole = isinstance(value, int) and not isinstance(value, bool) and value >= 0
            if not whole and (key, value) != ("max_tokens", None):
                raise UsageError(f"llm: {key} is a whole number of at least 0, not {value!r}")
        terms = Terms(
            budgets_of(given.get("budget")),
            policy_for(given.get("retry")),
            interrupted_of(given.get("if_interrupted", "retry")),
            given.get("record_prompts", True),
        )
        return cls(
            prompt,
            given.get("inputs"),
            given.get("model"),
            tuple(given.get("fallbacks", ())),
            output,
            tuple(given.get("tools", ())),
            given.get("tool_choice"),
            terms,
            repairs,
            given.get("stream"),
            _options(given.get("options"), max_tokens, given.get("temperature")),
            given.get("strict", False),
            salt,
        )

    async def answer(self, context: AnyContext, claim: Claim) -> Reply[Any]:
        """Bring the call to an answer that fits, by fallbacks and repairs beside it."""
        beside = _Once(lambda: annex(context, claim.operation))
        reply, model = await self._first(context, claim, beside)
        if self.shape is None:
            return reply
        replies, turns = [reply], list[Any]()
        while True:
            try:
                return replace(replies[-1], output=self.shape.read(replies[-1]))
            except Invalid as error:
                problems = str(error)
            if len(replies) > self.repairs:
                raise OutputInvalid(
                    f"{claim.operation.name!r}: {len(replies)} answers do not fit "
                    f"{self.shape.name}; the last: {problems}. They are kept: mend the class and "
                    "resume, which asks nothing again",
                    replies,
                    problems,
                )
            turns += mend(replies[-1], problems, self.shape)
            messages = _Once(partial(self._continued, tuple(turns)))
            again = Claim(beside(), KIND, "repair")
            replies.append(await self._ask(beside(), again, model, messages))

    async def _first(
        self, context: AnyContext, claim: Claim, beside: Callable[[], AnyContext]
    ) -> tuple[Reply[Any], Any]:
        model, left = self.model, list(self.fallbacks)
        while True:
            try:
                return await self._ask(context, claim, model, self.messages), model
            except ModelCallError as error:
                if not left or isinstance(error, BudgetExceeded | CallInDoubt):
                    raise
            context, model = beside(), left.pop(0)
            claim = Claim(context, KIND, "fallback")

    async def _ask(
        self, context: AnyContext, claim: Claim, model: Any, messages: Callable[[], list[Plain]]
    ) -> Reply[Any]:
        operation, replayed = claim.operation, claim.operation.closed
        resolved: Callable[[], Model] = _Once(
            lambda: resolve(self._model_of(model), strict=self.strict)
        )
        terms = replace(self.terms, template=self.template)
        extra: dict[str, Any] = {"budgets": [each.name for each in terms.budgets]}
        extra = {key: value for key, value in extra.items() if value}
        if terms.template is not None:
            extra["template"] = terms.template
        sending = Sending(
            resolved,
            messages,
            self.tools,
            self._choice(),
            self.settings,
            self.stream,
            run_of(context).codec,
            extra,
        )
        gate = Paying(run_of(context), terms, resolved, messages, self.tools, self.settings)
        send = sending.asend if is_async(context) else sending.send
        record = await paid(claim, gate, partial(send, operation))
        if replayed:
            self._tell_of_change(claim, record)
        tool = self.shape.name if self.shape is not None else None
        return Reply(str(operation.name), record, output_tool=tool)

    def messages(self) -> list[Plain]:
        """Return the messages of the prompt, rendered when they are needed first."""
        return self._messages

    def _continued(self, turns: Sequence[Any]) -> list[Plain]:
        return [*self.messages(), *map(plain_message, turns)]

    @cached_property
    def _messages(self) -> list[Plain]:
        return plain_messages(self.prompt, self.inputs, self.salt)

    def settings(self) -> Mapping[str, Any]:
        """Return what the model is given beside the messages: the prompt's own, and the call's."""
        return self._settings

    @cached_property
    def _settings(self) -> Mapping[str, Any]:
        own = dict(getattr(self.prompt, "config", None) or {}) if self.template is not None else {}
        return {**own.pop("extra", {}), **own, **self.options}

    def _model_of(self, model: Any) -> Any:
        """Return the model to ask: the one given, else the one that the prompt names."""
        named = getattr(self.prompt, "model", None) if self.template is not None else None
        return named if model is None else model

    @cached_property
    def shape(self) -> Shape | None:
        """What the answer is to be."""
        return None if self.output is None else Shape(self.output)

    def tools(self) -> list[dict[str, Any]]:
        """Return the definitions of the tools, the one for the output last."""
        return self._tool_definitions

    @cached_property
    def _tool_definitions(self) -> list[dict[str, Any]]:
        if not self.given_tools and self.shape is None:
            return []
        from .tools import tool_schema

        found = [tool_schema(each) for each in self.given_tools]
        return found + ([self.shape.tool()] if self.shape is not None else [])

    def _choice(self) -> str | None:
        if self.tool_choice is None and self.shape is not None and not self.given_tools:
            return self.shape.name
        return self.tool_choice

    @property
    def template(self) -> dict[str, str] | None:
        """The prompt file's name and version, if it is one."""
        version = getattr(self.prompt, "version", None)
        if version is None:
            return None
        return {"name": str(getattr(self.prompt, "name", "")), "version": str(version)}

    def _tell_of_change(self, claim: Claim, record: Mapping[str, Any]) -> None:
        now, then = self.template, record.get("template")
        if now is not None and then is not None and now["version"] != then["version"]:
            _log.info(
                "%r is replayed from the answer to version %s of the prompt %r, which is now %s",
                claim.operation.name,
                then["version"][:12],
                now["name"],
                now["version"][:12],
            )


async def paid(claim: Claim, gate: Paying, body: Callable[[], Any]) -> dict[str, Any]:
    """Return the record of a call, making it if there is none.

    Raises:
        ModelCallError: it failed for good.
    """
    try:
        record: dict[str, Any] = await value_of(claim.run(gate, body))
    except StepError as error:
        raise model_error(error) from None
    return record


def model_error(error: StepError) -> ModelCallError:
    """Return a failed call's error as the class that says what it is."""
    kinds = {OVER_BUDGET: BudgetExceeded, IN_DOUBT: CallInDoubt}
    kind = kinds.get(error.error_type or "", ModelCallError)
    return kind(error.name, error.error, error.operation_id)


class _Once:
    """A function that is called at most once."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._made: list[Any] = []

    def __call__(self) -> Any:
        if not self._made:
            self._made.append(self._make())
        return self._made[0]


def policy_for(retry: Retry) -> RetryPolicy:
    """Return the policy that `retry=` of a model call means."""
    return RETRY if retry is None else policy_of(retry)


def interrupted_of(value: Any) -> IfInterrupted:
    """Return a checked `if_interrupted=`."""
    if value not in ("retry", "fail", "ask"):
        raise UsageError(f"if_interrupted is 'retry', 'fail' or 'ask', not {value!r}")
    found: IfInterrupted = value
    return found


def _options(
    options: Mapping[str, Any] | None, max_tokens: int | None, temperature: float | None
) -> dict[str, Any]:
    given = dict(options or {})
    given |= {"max_tokens": max_tokens} if max_tokens is not None else {}
    return given | ({"temperature": temperature} if temperature is not None else {})
