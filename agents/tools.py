"""What a model may call: plain functions, durable functions, LangChain tools.

A function's name, docstring and types are what the model sees of it; nothing of that is worked out
before a model is asked, so a replay imports no pydantic for it. `tool_calls` runs tools.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, overload

from perdure.durable.duration import DurationLike, optional_seconds
from perdure.durable.errors import PerdureError, UsageError

if TYPE_CHECKING:
    from .tool_arguments import Arguments

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


class ToolError(PerdureError):
    """A tool call came to nothing, and the text says why, to the model.

    A tool may raise it, too: the model then sees the text alone, without the type of the error.
    """


class UnknownTool(ToolError):
    """The model called a tool that there is not."""


class InvalidArguments(ToolError):
    """The arguments that the model gave do not fit the tool; it was not run."""


class ToolTimeout(ToolError):
    """A tool did not end in time."""


class ToolRefused(ToolError):
    """A call was not allowed: by a person, a rule, or a limit; the tool was not run."""


@dataclass(frozen=True, slots=True)
class ToolRequest:
    """A call that a model asks for, before it is allowed.

    Attributes:
        tool: the tool's name.
        args: its arguments, as the model gave them.
        id: the model's id of the call.
        agent: the name of the agent whose model asks.
    """

    tool: str
    args: dict[str, Any]
    id: str | None = None
    agent: str = ""


Approve = Callable[[Any, ToolRequest], Any]
"""`approve(scope, request)`: may the tool run? In a durable scope of its own, so it may wait.

It returns True, False, a text (no, and why) or a dict (yes, with these arguments instead); None,
which a wait gives that nobody answered, is a no.
"""


@dataclass(frozen=True)
class Tool:
    """A tool with its settings; `tool` makes one.

    Attributes:
        name: 1 to 64 letters, digits, `_` and `-`.
        description: what the model is told about it.
        fn: a function, sync or async, or a LangChain tool.
        durable: `fn` takes a context first, and runs in a scope of its own instead of a step: it
            may wait, call models and run agents.
        timeout: seconds for an attempt. A sync function that takes longer is left to itself in its
            thread, and what it does then is not recorded.
        retries: how often a failed attempt is made again.
        approve: asked before each call.
    """

    name: str
    description: str
    fn: Any
    durable: bool = False
    timeout: float | None = None
    retries: int = 0
    approve: Approve | None = None

    def __post_init__(self) -> None:
        """Check each field.

        Raises:
            UsageError: naming the one that cannot be meant.
        """
        check_tool_name(self.name)
        what = f"tool {self.name!r}"
        check_count(self.retries, 0, f"{what}: retries")
        if self.timeout is not None and self.timeout <= 0:
            raise UsageError(f"{what}: timeout is a time above 0, not {self.timeout!r}")
        if self.approve is not None and not callable(self.approve):
            raise UsageError(f"{what}: approve is a function, not {type(self.approve).__name__}")
        if self.durable and (self.timeout is not None or self.retries):
            raise UsageError(
                f"{what} takes a context and so runs in a scope of its own: give timeout= and "
                "retry= to the calls in it, not to the tool"
            )

    @cached_property
    def schema(self) -> dict[str, Any]:
        """Its definition as a model gets it, in OpenAI's form."""
        if is_langchain(self.fn):
            return _langchain_schema(self.fn)
        return _definition(self.name, self.description, self.arguments.schema())

    @cached_property
    def arguments(self) -> Arguments:
        """What its function takes.

        Raises:
            UsageError: its signature cannot be offered to a model.
        """
        from .tool_arguments import Arguments

        return Arguments(self.name, self.fn, skip_first=self.durable)


@overload
def tool(
    fn: Callable[..., Any],
    *,
    name: str | None = None,
    description: str | None = None,
    timeout: DurationLike | None = None,
    retries: int = 0,
    approve: Approve | None = None,
) -> Tool: ...
@overload
def tool(
    fn: None = None,
    *,
    name: str | None = None,
    description: str | None = None,
    timeout: DurationLike | None = None,
    retries: int = 0,
    approve: Approve | None = None,
) -> Callable[[Callable[..., Any]], Tool]: ...
def tool(
    fn: Any = None,
    *,
    name: str | None = None,
    description: str | None = None,
    timeout: DurationLike | None = None,
    retries: int = 0,
    approve: Approve | None = None,
) -> Any:
    """Make a tool of a function or LangChain tool, with settings; or decorate one.

    A function whose first parameter is named `context`, or annotated as a `Context` or an
    `AsyncContext`, becomes a durable tool. See `Tool` for the settings.

    Args:
        name: the function's own if not given.
        description: its docstring if not given.

    Raises:
        UsageError: it cannot be a tool.
    """
    settings: dict[str, Any] = {
        "name": name,
        "description": description,
        "timeout": optional_seconds(timeout, "the timeout of a tool"),
        "retries": retries,
        "approve": approve,
    }
    if fn is None:
        return lambda decorated: _tool(decorated, **settings)
    return _tool(fn, **settings)


def as_tools(tools: Iterable[Any]) -> dict[str, Tool]:
    """Return tools, functions and LangChain tools as tools, by name.

    Raises:
        UsageError: one cannot be a tool, or two have one name.
    """
    if isinstance(tools, (str, bytes, Mapping)) or not isinstance(tools, Iterable):
        raise UsageError(f"tools is a list of functions or tools, not {type(tools).__name__}")
    found: dict[str, Tool] = {}
    for each in tools:
        made = each if isinstance(each, Tool) else _tool(each)
        if made.name in found:
            raise UsageError(
                f"two tools are named {made.name!r}; rename one with tool(fn, name=...)"
            )
        found[made.name] = made
    return found


def tool_schema(tool: Any) -> dict[str, Any]:
    """Return the definition that a model gets of a tool, in OpenAI's form.

    Args:
        tool: a `Tool`, a function, a LangChain tool, a pydantic class, or such a definition.

    Raises:
        UsageError: it is none of these.
    """
    if isinstance(tool, Mapping):
        return dict(tool)
    if isinstance(tool, type) and hasattr(tool, "model_json_schema"):
        from .tool_arguments import schema_of

        name = tool.__name__
        return _definition(name, inspect.cleandoc(tool.__doc__ or ""), schema_of(tool))
    return tool.schema if isinstance(tool, Tool) else _tool(tool).schema


def is_langchain(tool: Any) -> bool:
    """Tell whether this is a LangChain tool, without importing LangChain to know it."""
    parts = ("name", "description", "args_schema", "invoke", "ainvoke")
    return not isinstance(tool, type) and all(hasattr(tool, part) for part in parts)


def check_tool_name(name: object) -> str:
    """Return the name if providers take it for a tool.

    Raises:
        UsageError: they do not.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UsageError(
            f"the name of a tool has 1 to 64 letters, digits, _ and -; {name!r} has not: give it "
            "one with tool(fn, name=...)"
        )
    return name


def check_count(value: object, least: int, what: str) -> None:
    """Refuse what is no whole number from `least`.

    Raises:
        UsageError: with what was given.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(f"{what} is a whole number from {least}, not {value!r}")


def _tool(
    fn: Any, *, name: str | None = None, description: str | None = None, **settings: Any
) -> Tool:
    if is_langchain(fn):
        if name is not None or description is not None:
            raise UsageError(f"the LangChain tool {fn.name!r} has a name and a description already")
        return Tool(fn.name, fn.description, fn, **settings)
    if not callable(fn) or isinstance(fn, type):
        given = f"the class {fn.__name__}" if isinstance(fn, type) else f"a {type(fn).__name__}"
        raise UsageError(
            f"a tool is a function or a LangChain tool, not {given}; of an Agent take .as_tool()"
        )
    if name is None:
        name = getattr(fn, "__name__", None)
    if description is None:
        description = "" if isinstance(fn, partial) else inspect.getdoc(fn) or ""
    return Tool(check_tool_name(name), description, fn, _takes_context(fn), **settings)


def _takes_context(fn: Callable[..., Any]) -> bool:
    """Tell whether the first parameter is a context; an annotation is read as it is written."""
    try:
        parameters = list(inspect.signature(fn).parameters.values())
    except (TypeError, ValueError):
        return False
    if not parameters:
        return False
    written = parameters[0].annotation
    annotation = written if isinstance(written, str) else getattr(written, "__name__", "")
    kinds = [each.strip().rpartition(".")[2] for each in annotation.split("|")]
    return parameters[0].name == "context" or any(
        kind in ("Context", "AsyncContext") for kind in kinds
    )


def _definition(name: str, description: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    function = {"name": name, "description": description or name, "parameters": dict(parameters)}
    return {"type": "function", "function": function}


def _langchain_schema(tool: Any) -> dict[str, Any]:
    from langchain_core.utils.function_calling import convert_to_openai_tool

    return convert_to_openai_tool(tool)
