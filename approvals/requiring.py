"""`require_approval`: a function or tool that asks a person before it is called.

What is approved are the arguments, all of them by name; what runs is what was approved. An edit
changes the arguments and never the function, and has to fit its parameters.
"""

from __future__ import annotations

import functools
import inspect
import re
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypedDict, Unpack, overload

from pydantic import BaseModel, ConfigDict, create_model

from perdure.durable.duration import DurationLike
from perdure.durable.errors import UsageError
from perdure.durable.gated import drive, is_async, run_of, value_of

from .asking import await_approval
from .decisions import Decision
from .requests import Action

When = Callable[[dict[str, Any]], bool]


class Options(TypedDict, total=False):
    """How to ask: the arguments of `await_approval` that a function leaves open."""

    via: Any
    timeout: DurationLike
    title: str | None
    required: int
    veto: bool
    requested_by: str | Sequence[str] | None
    allow: Iterable[Action]
    remind: Any
    escalate: Any
    on_timeout: Any
    preview: str | None
    attachments: Iterable[Any]
    confirm: str | None


class Required:
    """An approval to be required: decorates a function, or is an agent's `approve=`."""

    def __init__(self, approvers: Any, when: When | None, options: Options) -> None:
        self._approvers = approvers
        self._when = when
        self._options = options

    @overload
    def __call__(self, fn: Any, /) -> Callable[..., Any]: ...
    @overload
    def __call__(self, scope: Any, request: Any, /) -> Any: ...
    def __call__(self, first: Any, request: Any = None, /) -> Any:
        """Return a function that asks first; or, given a scope and a tool's request, ask.

        Returns:
            for a request: True, changed arguments, or why not; in an async handler an awaitable.
        """
        if request is None:
            return _guarded(first, self)
        run_of(first)
        return drive(first, self._ask_for_agent(first, request))

    async def _ask_for_agent(self, scope: Any, request: Any) -> bool | str | dict[str, Any]:
        if not await self._is_needed(scope, request.tool, request.args):
            return True
        by = f"The agent {request.agent} asks to call" if request.agent else "Call"
        decision = await self.ask(scope, request.tool, request.args, None, f"{by} {request.tool}")
        match decision.kind:
            case "edited":
                return dict(decision.subject)
            case "responded":
                return f"a person answers instead: {decision.value}"
            case _ if decision.approved:
                return True
            case "expired":
                return "nobody allowed it in time"
            case _:
                return decision.comment or False

    async def ask(
        self,
        context: Any,
        name: str,
        args: Mapping[str, Any],
        form: type[BaseModel] | None,
        title: str,
    ) -> Decision:
        """Ask for the call of a function with these arguments."""
        options: dict[str, Any] = {"title": title[:150], **self._options}
        if form is not None:
            options["form"] = form
        return await value_of(
            await_approval(
                context,
                dict(args),
                f"approve-{_ascii(name)}",
                approvers=self._approvers,
                **options,
            )
        )

    async def _is_needed(self, context: Any, name: str, args: Mapping[str, Any]) -> bool:
        when = self._when
        if when is None:
            return True
        asked: Any = context.step(f"needs-approval-{_ascii(name)}", lambda: bool(when(dict(args))))
        return bool(await value_of(asked))

    async def run(self, context: Any, call: _Call, args: dict[str, Any]) -> Any:
        """Ask, then call the function with what was approved."""
        if await self._is_needed(context, call.name, args):
            edits = "edit" in self._options.get("allow", ())
            form = call.form() if edits else None
            decision = await self.ask(context, call.name, args, form, f"Call {call.name}")
            if decision.kind == "responded":
                return decision.value
            decision.raise_if_rejected()
            if decision.kind == "edited":
                args = call.edited(decision)
            elif decision.kind == "expired" and decision.default == "value":
                args = dict(decision.subject)
        return await call.make(context, args)


@overload
def require_approval(
    fn: None = None,
    /,
    *,
    approvers: Any,
    when: When | None = None,
    **options: Unpack[Options],
) -> Required: ...
@overload
def require_approval(
    fn: Any,
    /,
    *,
    approvers: Any,
    when: When | None = None,
    **options: Unpack[Options],
) -> Callable[..., Any]: ...
def require_approval(
    fn: Any = None,
    /,
    *,
    approvers: Any,
    when: When | None = None,
    **options: Unpack[Options],
) -> Any:
    """Have a person approve each call of a function or LangChain tool.

    Three ways to use it: as a decorator, `@require_approval(approvers=...)`; around a function or
    tool, `require_approval(publish, approvers=...)`; and as `Agent(approve=require_approval(...))`.
    What it returns for a function takes the handler's context first, so that an agent takes it as
    a durable tool.

    Args:
        fn: a function, sync or async, called as a step; one that takes a context first; or a
            LangChain tool.
        approvers: as of `await_approval`, as are the options.
        when: a function of the arguments; where it returns False, nobody is asked. What it
            returned is recorded.

    Raises:
        UsageError: `fn` is no function or tool. A call raises what `await_approval` raises, and
            `ApprovalRejected` if it was not approved. An answer ("respond") stands for the result.
    """
    required = Required(approvers, when, options)
    return required if fn is None else _guarded(fn, required)


def _guarded(fn: Any, required: Required) -> Callable[..., Any]:
    call = _Call.of(fn)

    @functools.wraps(fn if inspect.isroutine(fn) else _named)
    def guarded(context: Any, *args: Any, **kwargs: Any) -> Any:
        run_of(context)
        bound = call.bind(args, kwargs)
        return drive(context, required.run(context, call, bound))

    context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_ONLY)
    guarded.__name__ = guarded.__qualname__ = call.name
    guarded.__doc__ = call.description
    guarded.__dict__.pop("__wrapped__", None)
    guarded.__annotations__ = dict(call.hints)
    guarded.__dict__["__signature__"] = inspect.Signature([context, *call.parameters])
    return guarded


def _named(context: Any) -> None:
    """Stand for a tool that is no function."""


class _Call:
    """A function or tool: its name, its parameters, and how it is called."""

    def __init__(
        self,
        fn: Any,
        name: str,
        description: str,
        parameters: Sequence[inspect.Parameter],
        hints: Mapping[str, Any],
    ) -> None:
        self.name = name
        self.description = description
        self.parameters = parameters
        self.hints = hints
        self._fn = fn
        self._is_tool = _is_tool(fn)
        self._durable = not self._is_tool and _takes_context(fn)

    @classmethod
    def of(cls, fn: Any) -> _Call:
        """Return what is to be called."""
        if _is_tool(fn):
            parameters, hints = _of_tool(fn)
            return cls(fn, fn.name, fn.description, parameters, hints)
        if not callable(fn) or isinstance(fn, type):
            raise UsageError(f"require_approval takes a function or a LangChain tool, not {fn!r}")
        all_parameters = list(inspect.signature(fn).parameters.values())
        parameters = all_parameters[1:] if _takes_context(fn) else all_parameters
        name = getattr(fn, "__name__", type(fn).__name__)
        hints = typing.get_type_hints(fn, include_extras=True)
        hints = {each.name: hints[each.name] for each in parameters if each.name in hints}
        return cls(fn, name, inspect.getdoc(fn) or "", parameters, hints)

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return all arguments by name, defaults among them: none is hidden from the approver.

        Raises:
            UsageError: they do not fit the function.
        """
        try:
            bound = inspect.Signature(self.parameters).bind(*args, **kwargs)
        except TypeError as error:
            raise UsageError(f"{self.name}: {error}") from None
        bound.apply_defaults()
        return dict(bound.arguments)

    def form(self) -> type[BaseModel]:
        """Return the model that edited arguments have to fit."""
        fields: dict[str, Any] = {
            each.name: (
                self.hints.get(each.name, Any),
                ... if each.default is each.empty else each.default,
            )
            for each in self.parameters
        }
        return create_model(self.name, __config__=ConfigDict(extra="forbid"), **fields)

    def edited(self, decision: Decision) -> dict[str, Any]:
        """Return edited arguments as the values that the function takes."""
        held = decision.subject
        return {each.name: getattr(held, each.name) for each in self.parameters}

    async def make(self, context: Any, args: dict[str, Any]) -> Any:
        """Call it: as a step, or, if it takes a context, in a scope of its own."""
        if self._durable:
            made = context.child(self.name, lambda scope: self._fn(scope, **args))
        elif self._is_tool:
            run = self._fn.ainvoke if is_async(context) else self._fn.invoke
            made = context.step(self.name, run, args)
        else:
            made = context.step(self.name, functools.partial(self._fn, **args))
        return await value_of(made)


def _is_tool(fn: Any) -> bool:
    return all(hasattr(fn, each) for each in ("name", "description", "invoke", "args_schema"))


def _of_tool(tool: Any) -> tuple[list[inspect.Parameter], dict[str, Any]]:
    fields: Mapping[str, Any] = tool.get_input_schema().model_fields
    kind = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter(
            name,
            kind,
            default=inspect.Parameter.empty if field.is_required() else field.get_default(),
        )
        for name, field in fields.items()
    ]
    hints = {name: typing.Annotated[field.annotation, field] for name, field in fields.items()}
    return parameters, hints


def _takes_context(fn: Any) -> bool:
    first = next(iter(inspect.signature(fn).parameters.values()), None)
    if first is None:
        return False
    written = first.annotation
    text = written if isinstance(written, str) else getattr(written, "__name__", "")
    return first.name == "context" or bool(re.search(r"\b(Async)?Context\b", text))


def _ascii(name: str) -> str:
    return re.sub(r"[^\x21-\x7e]", "_", name)[:200]
