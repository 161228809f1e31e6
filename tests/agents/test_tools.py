"""Tools: what a model sees of a function, and what comes of the arguments it gives."""

from __future__ import annotations

import dataclasses
import functools
import math
import subprocess
import sys
import threading
import types
from enum import Enum
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field

from perdure.agents.tool_calls import text_of
from perdure.agents.tools import InvalidArguments, Tool, as_tools, tool, tool_schema
from perdure.durable import AsyncContext, Context, SerializationError, UsageError


class Unit(Enum):
    METRIC = "metric"
    IMPERIAL = "imperial"


class Place(BaseModel):
    """Where something is."""

    city: str
    country: str = "NL"


def weather(place: Place, days: Annotated[int, Field(ge=1, description="ahead")] = 3) -> str:
    """Tell the weather.

    For some days ahead.
    """
    return f"{place.city}, {days}"


def schema_of(fn: Any) -> dict[str, Any]:
    parameters: dict[str, Any] = tool_schema(fn)["function"]["parameters"]
    return parameters


def test_a_function_is_described_by_its_name_docstring_and_types() -> None:
    described = tool_schema(weather)
    assert described["type"] == "function"
    assert described["function"]["name"] == "weather"
    assert described["function"]["description"] == "Tell the weather.\n\nFor some days ahead."
    parameters = described["function"]["parameters"]
    assert parameters["required"] == ["place"]
    assert parameters["properties"]["days"] == {
        "default": 3,
        "description": "ahead",
        "minimum": 1,
        "type": "integer",
    }
    assert parameters["$defs"]["Place"]["properties"]["city"] == {"type": "string"}
    assert parameters["additionalProperties"] is False


def test_a_parameter_may_have_any_name() -> None:
    def search(schema: str, copy: int, model_config: bool, _private: str = "x") -> str:
        return f"{schema} {copy} {model_config} {_private}"

    made = tool(search)
    assert list(schema_of(made)["properties"]) == ["schema", "copy", "model_config", "_private"]
    given = made.arguments.checked({"schema": "s", "copy": 1, "model_config": True})
    assert given == {"schema": "s", "copy": 1, "model_config": True}


def test_a_description_is_never_empty_since_providers_refuse_that() -> None:
    def bare(x: int) -> int:
        return x

    assert tool_schema(bare)["function"]["description"] == "bare"
    assert tool_schema(tool(bare, description="Keep x."))["function"]["description"] == "Keep x."


def test_a_default_that_json_lacks_is_left_out_without_a_warning(
    recwarn: pytest.WarningsRecorder,
) -> None:
    def scale(by: Any = math.sqrt, unit: Unit = Unit.METRIC) -> str:
        return "x"

    assert schema_of(scale)["properties"]["unit"]["default"] == "metric"
    assert not list(recwarn)


def test_a_model_class_a_definition_and_a_langchain_tool_are_described_too() -> None:
    from langchain_core.tools import tool as langchain_tool

    @langchain_tool
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    definition = {"type": "function", "function": {"name": "x", "parameters": {}}}
    assert tool_schema(definition) == definition
    function = tool_schema(Place)["function"]
    assert (function["name"], function["description"]) == ("Place", "Where something is.")
    assert function["parameters"]["required"] == ["city"]
    assert tool_schema(add)["function"]["parameters"]["required"] == ["a", "b"]
    assert tool_schema(tool(add, timeout=5))["function"]["name"] == "add"


def test_arguments_arrive_as_the_types_the_function_declares() -> None:
    given = tool(weather).arguments.checked({"place": {"city": "Delft"}, "days": "2"})
    assert given == {"place": Place(city="Delft"), "days": 2}


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({}, "place: Field required"),
        ({"place": {"city": "Delft"}, "days": 0}, "days: Input should be greater than"),
        ({"place": {}, "days": 1}, "place.city: Field required"),
        ({"place": {"city": "x"}, "wind": 1}, "wind: Extra inputs are not permitted"),
    ],
)
def test_arguments_that_do_not_fit_are_named(args: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidArguments, match="invalid arguments for weather") as caught:
        tool(weather).arguments.checked(args)
    assert said in str(caught.value)


def test_further_arguments_are_taken_by_a_function_that_takes_them() -> None:
    def note(title: str, **rest: int) -> str:
        return title

    assert tool(note).arguments.checked({"title": "t", "a": 1}) == {"title": "t", "a": 1}


def test_a_tool_with_a_context_is_durable_and_the_model_does_not_see_it() -> None:
    def by_name(context: Any, task: str) -> str:
        return task

    def by_type(scope: Context, task: str) -> str:
        return task

    async def by_async_type(c: AsyncContext, task: str) -> str:
        return task

    def plain(task: str, context: str) -> str:
        return task

    for fn in (by_name, by_type, by_async_type):
        assert tool(fn).durable
        assert list(schema_of(fn)["properties"]) == ["task"]
    assert not tool(plain).durable
    assert list(schema_of(plain)["properties"]) == ["task", "context"]


def test_the_decorator_takes_settings() -> None:
    @tool(name="find", timeout=2, retries=3)
    def search(query: str) -> str:
        """Search."""
        return query

    @tool
    def other(query: str) -> str:
        return query

    assert (search.name, search.timeout, search.retries) == ("find", 2, 3)
    assert search.fn("x") == "x"
    assert list(as_tools([search, other, weather])) == ["find", "other", "weather"]


def _positional(x: int, /) -> int:
    return x


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: as_tools([weather, tool(math.sqrt, name="weather")]), "two tools are named"),
        (lambda: as_tools([3]), "not a int"),
        (lambda: as_tools("search"), "tools is a list"),
        (lambda: as_tools([Place]), "not the class Place"),
        (lambda: as_tools([lambda x: x]), "tool\\(fn, name=...\\)"),
        (lambda: as_tools([functools.partial(weather, days=1)]), "tool\\(fn, name=...\\)"),
        (lambda: tool(weather, name="a b"), "'a b'"),
        (lambda: tool(weather, name="x" * 65), "1 to 64"),
        (lambda: tool(weather, retries=-1), "retries is a whole number from 0, not -1"),
        (lambda: tool(weather, timeout=0), "longer than zero"),
        (lambda: tool(weather, approve=True), "approve is a function, not bool"),  # type: ignore[arg-type]
        (lambda: Tool("t", "", weather, timeout=-1), "timeout is a time above 0"),
        (lambda: tool(lambda context: 1, name="d", timeout=1), "a scope of its own"),
        (lambda: tool_schema(_positional), "'x' takes none"),
    ],
)
def test_what_cannot_be_a_tool_is_refused_by_name(make: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make()


def test_an_annotation_that_means_nothing_is_an_error_that_names_it() -> None:
    class Local(BaseModel):
        x: int

    def lost(value: Local) -> str:
        return "x"

    with pytest.raises(UsageError, match="tool 'lost': an annotation .* 'Local'"):
        tool_schema(lost)


def test_a_type_that_has_no_schema_is_an_error_that_names_the_tool() -> None:
    def odd(lock: types.ModuleType) -> str:
        return "x"

    with pytest.raises(UsageError, match="tool 'odd': its parameters cannot be described"):
        tool_schema(odd)


@dataclasses.dataclass
class Point:
    x: int


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is", "as it is"),
        ("lone \ud800", "lone ?"),
        ({"a": [1, "ü"]}, '{"a": [1, "ü"]}'),
        (None, "null"),
        (Place(city="Delft"), '{"city": "Delft", "country": "NL"}'),
        ([Point(1)], '[{"x": 1}]'),
        ({Unit.METRIC}, '["metric"]'),
        ([math.nan], '["NaN"]'),
        (b"\xff", '"_w=="'),
    ],
)
def test_a_result_becomes_text(value: Any, text: str) -> None:
    assert text_of("t", value) == text


def test_a_result_without_a_json_form_is_the_authors_mistake() -> None:
    with pytest.raises(SerializationError, match="the tool 't' returned has no JSON form"):
        text_of("t", threading.Lock())


def test_making_tools_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from perdure.agents.agent import Agent\n"
        "def search(query: str) -> str: return query\n"
        "Agent(tools=[search], approve={'search': lambda scope, request: True})\n"
        "print([m for m in ('pydantic', 'langchain_core', 'jinja2', 'yaml') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_a_tool_is_plain_data() -> None:
    made = tool(weather)
    assert made == Tool("weather", made.description, weather)
    assert dataclasses.replace(made, name="later").name == "later"
