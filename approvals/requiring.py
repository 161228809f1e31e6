"""`require_approval`: a function or tool that asks a person before it is called.

What is approved are the arguments, all of them by name; what runs is what was approved. An edit
changes the arguments and never the function, and has to fit its parameters.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from inspect import Parameter, Signature
from typing import Any, Unpack, overload

from pydantic import BaseModel, RootModel

from perdure.durable.errors import UsageError
from perdure.durable.gated import drive, run_of, value_of

from .asking import await_approval
from .decisions import Decision
from .errors import ApprovalError
from .guarded import Guarded
from .people import approvers_of
from .requests import canonical
from .terms import Options

When = Callable[[dict[str, Any]], bool]


class Arguments(RootModel[dict[str, Any]]):
    """The arguments of a tool, by name."""


class Required:
    """An approval to be required: decorates a function, or is an agent's `approve=`."""

    def __init__(self, approvers: Any, when: When | None, options: Options) -> None:
        unknown = set(options) - set(Options.__annotations__)
        if unknown:
            raise UsageError(f"require_approval has no argument {min(unknown)!r}")
        if when is not None and not callable(when):
            raise UsageError(f"require_approval: when is a function of the arguments, not {when!r}")
        self._approvers = _kept(approvers)
        approvers_of(self._approvers)
        self._when = when
        self._options: dict[str, Any] = {name: _kept(each) for name, each in options.items()}
        allow = self._options.get("allow", ())
        self._allow = [allow] if isinstance(allow, str) else allow

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
            return self.guard(first)
        run_of(first)
        return drive(first, self._ask_for_agent(first, request))

    def guard(self, fn: Any) -> Callable[..., Any]:
        """Return a function of a context and the arguments that asks before it calls."""
        call = Guarded.of(fn)
        form = call.form() if "edit" in self._allow else None
        on_timeout = self._options.get("on_timeout")
        if isinstance(on_timeout, Mapping) and "value" in on_timeout:
            self._check_default(call, on_timeout["value"])

        def guarded(context: Any, /, *args: Any, **kwargs: Any) -> Any:
            run_of(context)
            return drive(context, self._run(context, call, form, call.bind(args, kwargs)))

        guarded.__name__ = guarded.__qualname__ = call.name
        guarded.__doc__ = call.description
        guarded.__module__ = getattr(fn, "__module__", __name__)
        guarded.__annotations__ = {
            each.name: call.hints[each.name] for each in call.parameters if each.name in call.hints
        }
        context = Parameter("context", Parameter.POSITIONAL_ONLY)
        guarded.__dict__["__signature__"] = Signature([context, *call.parameters])
        return guarded

    def _check_default(self, call: Guarded, value: Any) -> None:
        try:
            call.changed(json.loads(canonical(value)))
        except ApprovalError as error:
            raise UsageError(f"require_approval: on_timeout: {error}") from None

    async def _run(
        self, context: Any, call: Guarded, form: type[BaseModel] | None, args: dict[str, Any]
    ) -> Any:
        if await self._is_needed(context, call.name, args):
            decision = await self._ask(context, call.name, args, form, f"Call {call.name}")
            if decision.kind == "responded":
                return decision.value
            decision.raise_if_rejected()
            if _is_changed(decision):
                args = call.changed(decision.value)
        return await call.call(context, args)

    async def _ask_for_agent(self, scope: Any, request: Any) -> bool | str | dict[str, Any]:
        if not await self._is_needed(scope, request.tool, request.args):
            return True
        by = f"The agent {request.agent} asks to call" if request.agent else "Call"
        title = f"{by} {request.tool}"
        decision = await self._ask(scope, request.tool, request.args, Arguments, title)
        if decision.kind == "responded":
            return f"a person answers instead: {decision.value}"
        if _is_changed(decision):
            return Arguments.model_validate(decision.value).root
        if decision.approved:
            return True
        if decision.kind == "expired":
            return "nobody allowed it in time"
        return decision.comment or False

    async def _is_needed(self, context: Any, name: str, args: Mapping[str, Any]) -> bool:
        when = self._when
        if when is None:
            return True
        asked: Any = context.step(f"needs-approval-{_ascii(name)}", lambda: bool(when(dict(args))))
        return bool(await value_of(asked))

    async def _ask(
        self,
        context: Any,
        name: str,
        args: Mapping[str, Any],
        form: type[BaseModel] | None,
        title: str,
    ) -> Decision:
        options: dict[str, Any] = {"title": title[:150]} | self._options
        if "edit" in self._allow and "respond" not in self._allow:
            # An answer is not arguments; where both may come, an edit is checked before the call.
            options["form"] = form
        asked = await_approval(
            context, dict(args), f"approve-{_ascii(name)}", approvers=self._approvers, **options
        )
        return await value_of(asked)


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
    return required if fn is None else required.guard(fn)


def _is_changed(decision: Decision) -> bool:
    """Return whether what was approved are other arguments than those that were asked about."""
    return decision.kind == "edited" or decision.default == "value"


def _kept(given: Any) -> Any:
    """Return what may be looked at again at each call: of a generator, its values."""
    return tuple(given) if isinstance(given, Iterator) else given


def _ascii(name: str) -> str:
    return re.sub(r"[^\x21-\x7e]", "_", name)[:200]
