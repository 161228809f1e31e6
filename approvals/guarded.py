"""A function or tool behind an approval: its arguments by name, a form for them, and its call."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, create_model

from perdure.durable.errors import UsageError
from perdure.durable.gated import is_async, value_of

from .decisions import fitted
from .errors import ApprovalError

_P = inspect.Parameter


@dataclass(frozen=True)
class Guarded:
    """What is called once it was approved.

    Attributes:
        parameters: without the context.
        hints: the types of parameters, where they are known.
        durable: it takes a context first, and runs in a scope of its own instead of a step.
    """

    fn: Any
    name: str
    description: str
    parameters: tuple[inspect.Parameter, ...]
    hints: Mapping[str, Any]
    durable: bool

    @classmethod
    def of(cls, fn: Any) -> Guarded:
        """Return a function or LangChain tool as it is called.

        Raises:
            UsageError: it is none.
        """
        if is_tool(fn):
            parameters, types = _of_tool(fn)
            return cls(fn, fn.name, fn.description, parameters, types, durable=False)
        if not callable(fn) or isinstance(fn, type):
            raise UsageError(f"require_approval takes a function or a LangChain tool, not {fn!r}")
        try:
            found = tuple(inspect.signature(fn).parameters.values())
        except (TypeError, ValueError):
            raise UsageError(f"require_approval: the parameters of {fn!r} are not known") from None
        durable = _takes_context(found)
        name = getattr(fn, "__name__", type(fn).__name__)
        hints = _hints(fn)
        return cls(fn, name, inspect.getdoc(fn) or "", found[durable:], hints, durable)

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
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
        """Return the model that edited arguments have to fit.

        Raises:
            UsageError: the types of the arguments cannot be checked.
        """
        fields: dict[str, Any] = {
            f"p{number}": (
                self._type(each),
                Field(_default(each), alias=each.name, title=each.name),
            )
            for number, each in enumerate(self.parameters)
        }
        try:
            return create_model(self.name, __config__=ConfigDict(extra="forbid"), **fields)
        except Exception as error:  # whatever a type's own schema raises
            raise UsageError(
                f"require_approval: the arguments of {self.name!r} have types that an edit cannot "
                f'be checked against; annotate them, or leave "edit" out of allow: {error}'
            ) from None

    def changed(self, value: Any) -> dict[str, Any]:
        """Return changed arguments, as plain JSON, as the values that the function takes.

        Raises:
            ApprovalError: they do not fit.
        """
        try:
            found = fitted(self.form(), value)
        except ValueError as error:
            raise ApprovalError(f"these are no arguments of {self.name!r}: {error}") from None
        return {each.name: getattr(found, f"p{n}") for n, each in enumerate(self.parameters)}

    async def call(self, context: Any, args: Mapping[str, Any]) -> Any:
        """Call it: as a step, or, if it takes a context, in a scope of its own."""
        bound = inspect.BoundArguments(inspect.Signature(self.parameters), dict(args))
        if is_tool(self.fn):
            run = self.fn.ainvoke if is_async(context) else self.fn.invoke
            return await value_of(context.step(self.name, run, dict(args)))
        if self.durable:
            made = context.child(
                self.name, lambda scope: self.fn(scope, *bound.args, **bound.kwargs)
            )
            return await value_of(made)
        return await value_of(context.step(self.name, self.fn, *bound.args, **bound.kwargs))

    def _type(self, parameter: inspect.Parameter) -> Any:
        hint = self.hints.get(parameter.name, Any)
        if parameter.kind is _P.VAR_POSITIONAL:
            return tuple.__class_getitem__((hint, ...))
        return dict.__class_getitem__((str, hint)) if parameter.kind is _P.VAR_KEYWORD else hint


def is_tool(fn: Any) -> bool:
    """Return whether something is a LangChain tool, without loading LangChain."""
    return all(hasattr(fn, each) for each in ("name", "description", "invoke", "args_schema"))


def _of_tool(tool: Any) -> tuple[tuple[inspect.Parameter, ...], dict[str, Any]]:
    fields: Mapping[str, Any] = tool.get_input_schema().model_fields
    parameters = tuple(
        _P(
            name,
            _P.KEYWORD_ONLY,
            default=_P.empty
            if field.is_required()
            else field.get_default(call_default_factory=True, validated_data={}),
        )
        for name, field in fields.items()
    )
    hints = {
        name: typing.Annotated[field.annotation, *field.metadata]
        for name, field in fields.items()
        if field.metadata
    }
    return parameters, {name: field.annotation for name, field in fields.items()} | hints


def _takes_context(parameters: Sequence[inspect.Parameter]) -> bool:
    """Tell whether the first parameter is a context; an annotation is read as it is written."""
    if not parameters:
        return False
    written = parameters[0].annotation
    text = written if isinstance(written, str) else getattr(written, "__name__", "")
    return parameters[0].name == "context" or bool(re.search(r"\b(Async)?Context\b", text))


def _hints(fn: Any) -> Mapping[str, Any]:
    """Return the types of a function's parameters; none where a name in them is not known."""
    try:
        return typing.get_type_hints(fn, include_extras=True)
    except Exception:  # NameError, TypeError, and whatever an annotation raises
        return {}


def _default(parameter: inspect.Parameter) -> Any:
    if parameter.kind is _P.VAR_POSITIONAL:
        return ()
    if parameter.kind is _P.VAR_KEYWORD:
        return {}
    return ... if parameter.default is _P.empty else parameter.default
