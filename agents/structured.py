"""Output as a class: asked for as a tool the model has to call, read and checked by pydantic."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from perdure.durable.errors import UsageError

from .reply import Reply

if TYPE_CHECKING:
    from pydantic import TypeAdapter

_FENCED = re.compile(r"```(?:json)?\s*\n(.*?)```", re.DOTALL)
_NOT_IN_NAME = re.compile(r"[^A-Za-z0-9_-]")


class Invalid(Exception):
    """An answer does not fit; the text says why, in words for the model."""


class Shape:
    """What an answer is to be: a pydantic model, or whatever else pydantic can check.

    Raises:
        UsageError: pydantic cannot make a schema of it.
    """

    def __init__(self, output: Any) -> None:
        self._adapter = _adapter(output)
        name = getattr(output, "__name__", None) or "Answer"
        self.name = _NOT_IN_NAME.sub("_", name)[:64]
        self.wrapped = False
        self._doc = (getattr(output, "__doc__", None) or "").strip()

    def tool(self) -> dict[str, Any]:
        """Return the tool that the model is to call, in OpenAI's form."""
        schema = self._adapter.json_schema()
        if schema.get("type") != "object" and "$ref" not in schema:
            self.wrapped = True
            definitions = schema.pop("$defs", None)
            schema = {"type": "object", "properties": {"value": schema}, "required": ["value"]}
            schema |= {"$defs": definitions} if definitions else {}
        description = self._doc or f"Give the answer as {self.name}."
        function = {"name": self.name, "description": description, "parameters": schema}
        return {"type": "function", "function": function}

    def read(self, reply: Reply[Any]) -> Any:
        """Return the value in an answer, or None if it calls other tools.

        Raises:
            Invalid: there is none, or it does not fit.
        """
        data = reply.record["message"]["data"]
        for call in data.get("tool_calls") or ():
            if call["name"] == self.name:
                return self._check(call["args"])
        for call in data.get("invalid_tool_calls") or ():
            raise Invalid(f"the arguments of {call.get('name')!r} are not valid JSON")
        if reply.tool_calls:
            return None
        return self._check(_json_in(reply.text))

    def _check(self, value: Any) -> Any:
        from pydantic import ValidationError

        if isinstance(value, Mapping) and set(value) == {"value"} and self._is_wrapped():
            value = value["value"]
        try:
            # As JSON, so that strict models take what JSON can say.
            return self._adapter.validate_json(json.dumps(value))
        except ValidationError as error:
            found = (
                f"{'.'.join(map(str, each['loc'])) or 'the answer'}: {each['msg']}"
                for each in error.errors(include_url=False, include_input=False)
            )
            raise Invalid("; ".join(found)) from error

    def _is_wrapped(self) -> bool:
        self.tool()
        return self.wrapped


def mend(reply: Reply[Any], problems: str, shape: Shape) -> list[Any]:
    """Return the messages that show the model its answer and what is wrong with it."""
    said = f"This does not fit {shape.name}: {problems}. Answer again, complete and corrected."
    data = reply.record["message"]["data"]
    calls = [*(data.get("tool_calls") or ()), *(data.get("invalid_tool_calls") or ())]
    answers: list[Any] = [
        {
            "role": "tool",
            "content": said,
            "tool_call_id": call.get("id") or "call",
            "name": call.get("name"),
            "status": "error",
        }
        for call in calls
    ]
    return [reply, *(answers or [("user", said)])]


@lru_cache(maxsize=512)
def _cached(output: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter
    from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

    try:
        return TypeAdapter(output)
    except (PydanticSchemaGenerationError, PydanticUserError) as error:
        raise UsageError(f"output={output!r} is no type that pydantic can check: {error}") from None


def _adapter(output: Any) -> TypeAdapter[Any]:
    try:
        return _cached(output)
    except TypeError:
        return _cached.__wrapped__(output)


def _json_in(text: str) -> Any:
    """Return the JSON in a text: all of it, a fenced block, or from the first bracket on."""
    fenced = _FENCED.search(text)
    for candidate in (text, fenced.group(1) if fenced else ""):
        try:
            return json.loads(candidate)
        except ValueError:
            continue
    start = min((at for at in (text.find("{"), text.find("[")) if at >= 0), default=-1)
    if start < 0:
        raise Invalid("there is no JSON in the answer")
    try:
        return json.JSONDecoder().raw_decode(text[start:])[0]
    except ValueError as error:
        raise Invalid(f"the JSON in the answer is broken: {error}") from None
