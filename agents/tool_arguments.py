"""What a function takes, as JSON Schema for a model, and what a model gave, as its arguments."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.errors import PydanticUserError
from pydantic.json_schema import GenerateJsonSchema

from perdure.durable.errors import UsageError

from .tools import InvalidArguments

_UNNAMED = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL)


class Arguments:
    """The named parameters of a function, each checked against its annotation.

    Args:
        tool: the tool's name, for messages.
        fn: the function.
        skip_first: its first parameter is given by others.

    Raises:
        UsageError: a parameter cannot be given by name, or its annotation means nothing.
    """

    def __init__(self, tool: str, fn: Callable[..., Any], *, skip_first: bool = False) -> None:
        self._tool = tool
        self._names: dict[str, str] = {}
        parameters = list(inspect.signature(fn).parameters.values())[skip_first:]
        extra = any(each.kind is each.VAR_KEYWORD for each in parameters)
        hints = _hints(tool, fn)
        fields: dict[str, Any] = {}
        for each in parameters:
            if each.kind in _UNNAMED:
                raise UsageError(
                    f"tool {tool!r}: a model gives arguments by name, and {each.name!r} takes none"
                )
            if each.kind is not each.VAR_KEYWORD:
                # A name of our own: a parameter may be called `schema`, as methods of models are.
                field = f"field{len(fields)}"
                default = ... if each.default is each.empty else each.default
                fields[field] = (hints.get(each.name, Any), Field(default, alias=each.name))
                self._names[field] = each.name
        config = ConfigDict(extra="allow" if extra else "forbid")
        try:
            self._model: type[BaseModel] = create_model(tool, __config__=config, **fields)
        except PydanticUserError as error:
            raise UsageError(
                f"tool {tool!r}: its parameters cannot be described to a model: {error}"
            ) from None

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the arguments."""
        try:
            return schema_of(self._model)
        except PydanticUserError as error:
            raise UsageError(
                f"tool {self._tool!r}: its parameters cannot be described to a model: {error}"
            ) from None

    def checked(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a model gave as the values that the function takes.

        Raises:
            InvalidArguments: naming each that does not fit.
        """
        try:
            held = self._model.model_validate(dict(args))
        except ValidationError as error:
            raise InvalidArguments(problems_of(self._tool, error)) from None
        given = {
            name: getattr(held, field)
            for field, name in self._names.items()
            if field in held.model_fields_set
        }
        return given | (held.model_extra or {})


def problems_of(tool: str, error: ValidationError) -> str:
    """Return in words, for the model, what is wrong with the arguments of a call."""
    found = [
        f"{'.'.join(map(str, each['loc'])) or 'arguments'}: {each['msg']}"
        for each in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    return f"invalid arguments for {tool}: {'; '.join(found)}"


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return a class's JSON Schema, without titles that only repeat names."""
    schema = model.model_json_schema(schema_generator=_generator())
    for name in ("title", "description"):
        schema.pop(name, None)
    return schema


@cache
def _generator() -> type[GenerateJsonSchema]:
    class Terse(GenerateJsonSchema):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.ignored_warning_kinds = {"non-serializable-default", "skipped-choice"}

        def field_title_should_be_set(self, schema: Any) -> bool:
            return False

    return Terse


def _hints(tool: str, fn: Any) -> dict[str, Any]:
    while isinstance(fn, partial):
        fn = fn.func
    target = fn if inspect.isroutine(fn) else type(fn).__call__
    try:
        return typing.get_type_hints(target, include_extras=True)
    except (NameError, TypeError, AttributeError, SyntaxError) as error:
        raise UsageError(
            f"tool {tool!r}: an annotation of its function is not understood: {error}. What it "
            "names has to stand in the function's module"
        ) from None
