"""The offline stand-in fills any schema that can be filled, and refuses the others."""

from __future__ import annotations

import json
from datetime import date
from enum import StrEnum
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.prompts import ChatPromptTemplate
from pydantic import Field, TypeAdapter

from perdure.agents.errors import InvalidRequest
from perdure.agents.offline.answering import Turn
from perdure.agents.offline.chat import OfflineChat
from perdure.agents.offline.fits import fits
from perdure.agents.offline.material import material_of
from perdure.agents.offline.schema import fill

from .papers import ASKED, BOTH, Plan, Task


class Level(StrEnum):
    LOW = "low"
    HIGH = "high"


def _types() -> st.SearchStrategy[Any]:
    short = st.integers(0, 20)
    leaves = st.one_of(
        st.sampled_from([str, int, float, bool, date, Level, Literal["a", "b"], Task, Any]),
        st.tuples(short, short).map(
            lambda pair: Annotated[str, Field(min_length=pair[0], max_length=pair[0] + pair[1])]
        ),
        st.tuples(st.integers(-99, 99), st.integers(1, 50), st.sampled_from([1, 2, 5])).map(
            lambda n: Annotated[int, Field(gt=n[0], le=n[0] + 10 * n[1], multiple_of=n[2])]
        ),
        st.floats(-5, 5).map(lambda low: Annotated[float, Field(ge=low, lt=low + 0.25)]),
    )

    def compound(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return st.one_of(
            inner.map(lambda one: one | None),
            st.tuples(inner, short.map(lambda n: n % 4)).map(
                lambda pair: Annotated[
                    list[pair[0]], Field(min_length=pair[1], max_length=pair[1] + 2)
                ]
            ),
            inner.map(lambda one: dict[str, one]),
            st.tuples(inner, inner).map(lambda pair: tuple[pair[0], pair[1]]),
            st.tuples(inner, inner).map(lambda pair: pair[0] | pair[1]),
        )

    return st.recursive(leaves, compound, max_leaves=8)


@settings(max_examples=150, deadline=None)
@given(_types(), st.sampled_from(["", ASKED, f"{ASKED}\n{BOTH}"]))
def test_whatever_pydantic_asks_for_it_gets(kind: Any, asked: str) -> None:
    adapter = TypeAdapter(kind)
    value = fill(adapter.json_schema(), material_of([Turn("user", asked)]))
    adapter.validate_json(json.dumps(value))


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": {"type": "string"}, "minItems": 40, "uniqueItems": True},
        {"type": "array", "items": {"enum": ["a", "b", "c"]}, "minItems": 3, "uniqueItems": True},
        {"type": "array", "items": {"type": "number", "minimum": 0, "maximum": 1}, "minItems": 9},
        {"type": "number", "multipleOf": 0.1, "exclusiveMinimum": 0.1, "maximum": 0.35},
        {"oneOf": [{"type": "integer"}, {"type": "number", "minimum": 1000}]},
        {"allOf": [{"type": "string", "minLength": 5}, {"maxLength": 5}]},
        {"type": "string", "pattern": "^[A-Z]{3}$"},
        {"type": "object", "minProperties": 3, "additionalProperties": {"type": "integer"}},
        {"type": ["null", "string"], "minLength": 3},
        {"const": {"a": [1, 2]}},
        True,
        {
            "$defs": {
                "Node": {
                    "type": "object",
                    "properties": {
                        "name": {"type": "string"},
                        "children": {"type": "array", "items": {"$ref": "#/$defs/Node"}},
                    },
                    "required": ["name", "children"],
                }
            },
            "$ref": "#/$defs/Node",
        },
    ],
)
@pytest.mark.parametrize("asked", ["", f"{ASKED}\n{BOTH}"])
def test_the_corners_of_json_schema_are_filled(schema: Any, asked: str) -> None:
    value = fill(schema, material_of([Turn("user", asked)]))
    assert fits(json.loads(json.dumps(value)), schema, schema if isinstance(schema, dict) else {})


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer", "minimum": 3, "maximum": 2},
        {"type": "array", "items": {"type": "boolean"}, "minItems": 3, "uniqueItems": True},
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        {
            "$ref": "#/$defs/A",
            "$defs": {
                "A": {
                    "type": "object",
                    "properties": {"a": {"$ref": "#/$defs/A"}},
                    "required": ["a"],
                }
            },
        },
    ],
)
def test_what_no_value_fits_is_refused_as_invalid(schema: Any) -> None:
    with pytest.raises(InvalidRequest, match="output schema"):
        fill(schema, material_of([Turn("user", ASKED)]))


def test_json_text_is_given_for_an_output_schema() -> None:
    said = OfflineChat().invoke(ASKED, output_schema=Plan.model_json_schema())
    assert Plan.model_validate_json(said.content).tasks[0].title == "parties"


def test_an_output_schema_may_be_a_class_or_have_no_title() -> None:
    assert Plan.model_validate_json(OfflineChat().invoke(ASKED, output_schema=Plan).content)
    listed = {"type": "array", "items": {"type": "string"}, "minItems": 2}
    assert len(json.loads(OfflineChat().invoke(ASKED, output_schema=listed).content)) >= 2


def test_a_langchain_chain_gets_its_model() -> None:
    prompt = ChatPromptTemplate.from_messages([("system", "Plan."), ("human", "{what}")])
    chain = prompt | OfflineChat().with_structured_output(Plan)
    plan = chain.invoke({"what": ASKED})
    assert isinstance(plan, Plan)
    raw = OfflineChat().with_structured_output(Plan, include_raw=True).invoke(ASKED)
    assert raw["parsed"] == plan
    assert raw["raw"].response_metadata["stop_reason"] == "tool_use"
