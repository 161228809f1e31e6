"""Tools and output schemas on their way to Bedrock's Converse API. Pure.

Tools are anything LangChain takes for one (a tool, a function, a pydantic class, a JSON schema in
OpenAI's form) or Bedrock's own `toolSpec`, `systemTool` and `cachePoint`; what has been translated
once passes unchanged. An output schema is narrowed to what constrained decoding knows: objects are
closed, and limits on lengths and numbers are told in the description instead.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.utils.function_calling import convert_to_openai_tool

from ..errors import InvalidRequest
from .content import Wire, cache_point

_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_OWN_TOOLS = frozenset({"toolSpec", "systemTool", "cachePoint"})
_LIMITS = frozenset(
    {
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
        *("minLength", "maxLength", "minItems", "maxItems", "uniqueItems"),
    }
)
_MAPS = frozenset({"properties", "$defs", "definitions"})
_LISTS = frozenset({"anyOf", "allOf", "oneOf", "prefixItems"})


def tool_specs(tools: Sequence[Any], *, strict: bool | None = None) -> list[Wire]:
    """Return tools as Converse takes them; `strict` constrains their arguments to the schema.

    Raises:
        InvalidRequest: a name that Bedrock refuses, or something that is no tool.
    """
    return [_tool_spec(tool, strict) for tool in tools]


def tool_config(tools: Sequence[Any], tool_choice: Any = None) -> Wire:
    """Return the `toolConfig` of a request.

    `tool_choice` is "auto", "any" (or "required", or True), the name of a tool, or a dict in
    Bedrock's, Anthropic's or OpenAI's form.

    Raises:
        InvalidRequest: a choice Converse does not know, or of a tool that is not given.
    """
    specs = tool_specs(tools)
    if tool_choice is None:
        return {"tools": specs}
    names = [
        (tool.get("toolSpec") or tool["systemTool"])["name"]
        for tool in specs
        if "cachePoint" not in tool
    ]
    return {"tools": specs, "toolChoice": _choice(tool_choice, names)}


def text_format(schema: Any) -> Wire:
    """Return the `textFormat` that makes a model answer in JSON of this schema, and nothing else.

    `schema` is a pydantic class, a TypedDict or a JSON schema.

    Raises:
        InvalidRequest: it is none of these.
    """
    if isinstance(schema, Mapping) and not {"title", "name", "function"} & schema.keys():
        schema = {"title": "answer", **schema}
    function = _function(schema, None)
    parameters = function.get("parameters") or {"type": "object", "properties": {}}
    definition = {
        "schema": json.dumps(_narrowed(parameters), ensure_ascii=False),
        "name": function["name"],
    }
    if function.get("description"):
        definition["description"] = function["description"]
    return {"type": "json_schema", "structure": {"jsonSchema": definition}}


def _tool_spec(tool: Any, strict: bool | None) -> Wire:
    if isinstance(tool, Mapping) and len(tool) == 1 and next(iter(tool)) in _OWN_TOOLS:
        return dict(tool)
    if isinstance(tool, Mapping) and tool.get("type") == "cache_point":
        return cache_point(tool)
    function = _function(tool, strict)
    name = function["name"]
    if not _TOOL_NAME.fullmatch(name):
        raise InvalidRequest(
            f"the tool {name!r} has a name that Bedrock refuses; it takes 1 to 64 of a-z, A-Z, 0-9,"
            " _ and -"
        )
    schema = function.get("parameters") or {"type": "object", "properties": {}}
    spec: Wire = {"name": name, "inputSchema": {"json": schema}}
    if function.get("description"):
        spec["description"] = function["description"]
    if strict is not None:
        spec["strict"] = strict
    return {"toolSpec": spec}


def _function(given: Any, strict: bool | None) -> dict[str, Any]:
    try:
        function: dict[str, Any] = convert_to_openai_tool(given, strict=strict)["function"]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        what = f"{type(given).__name__} {getattr(given, '__name__', '')}".strip()
        raise InvalidRequest(
            f"of {what} neither a tool nor a schema can be made ({error}); give a tool, a function"
            " with a docstring, a pydantic class or a JSON schema with a title"
        ) from error
    return function


def _choice(choice: Any, names: Sequence[str]) -> Wire:
    wanted: Any = choice
    if isinstance(choice, Mapping):
        kind = choice.get("type")
        if kind == "function":
            wanted = (choice.get("function") or {}).get("name")
        elif kind == "tool":
            wanted = choice.get("name")
        elif kind is not None:
            wanted = kind
        else:
            key = next(iter(choice), None)
            wanted = (choice["tool"] or {}).get("name") if key == "tool" else key
    if wanted in names:
        return {"tool": {"name": wanted}}
    if wanted == "auto":
        return {"auto": {}}
    if wanted in ("any", "required") or wanted is True:
        return {"any": {}}
    raise InvalidRequest(
        f"tool_choice {choice!r} is neither 'auto' nor 'any' nor one of the tools given:"
        f" {', '.join(names) or 'none'}"
    )


def _narrowed(schema: Any) -> Any:
    if not isinstance(schema, Mapping):
        return schema
    narrow: Wire = {}
    told = []
    for key, value in schema.items():
        if key in _LIMITS and not (key == "minItems" and value in (0, 1)):
            told.append(f"{key} {json.dumps(value)}")
        elif key in _MAPS and isinstance(value, Mapping):
            narrow[key] = {name: _narrowed(each) for name, each in value.items()}
        elif key in _LISTS and isinstance(value, list):
            narrow[key] = [_narrowed(each) for each in value]
        else:
            narrow[key] = _narrowed(value) if key in ("items", "not") else value
    if told:
        limits = f"({', '.join(told)})"
        narrow["description"] = f"{narrow.get('description', '')} {limits}".strip()
    if "properties" in narrow:
        narrow.setdefault("additionalProperties", False)
    return narrow
