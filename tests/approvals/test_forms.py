"""What a form asks, what becomes of what is filled in, and how a person is told of mistakes."""

from __future__ import annotations

import json
import re
import time
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from perdure.approvals import forms
from perdure.approvals.forms import check, fields_of, told, value_of
from perdure.approvals.requests import ACTIONS, ApprovalRequest, canonical

from .samples import request_of


class Urgency(Enum):
    """How soon."""

    LOW = "low"
    HIGH = "high"


class Line(BaseModel):
    """A line of an invoice."""

    sku: str
    count: int


class Refund(BaseModel):
    """What a refund is."""

    amount: float = Field(gt=0, le=5000, description="In euros.")
    price: Decimal
    customer: str
    note: str | None = None
    count: Optional[int] = None  # noqa: UP045
    notify: bool = True
    urgency: Urgency
    letter: Literal["a", "b"] = "a"
    day: date
    lines: list[Line] = []
    when: datetime | None = None


REFUND = {
    "amount": 1.0,
    "price": "12.50",
    "customer": "one\r\ntwo",
    "urgency": "low",
    "day": "2026-01-01",
    "lines": [{"sku": "a", "count": 1}],
    "beside": {"the": "form"},
}


def refund(**changed: Any) -> ApprovalRequest:
    return request_of(REFUND | changed, allowed=ACTIONS, form=Refund.model_json_schema())


def filled(request: ApprovalRequest, action: Any = "edit", **changed: str) -> dict[str, str]:
    """What a browser posts of a form that was not touched, but for some fields."""
    sent = {
        each.posted: "\r\n".join(each.value.splitlines()) if "\n" in each.value else each.value
        for each in fields_of(request, action)
    }
    return sent | {f"f.{name}": text for name, text in changed.items()}


def test_a_schema_becomes_fields_of_the_fitting_kinds() -> None:
    fields = {each.name: each for each in fields_of(refund(), "respond")}
    assert {name: each.kind for name, each in fields.items()} == {
        "amount": "number",
        "price": "number",
        "customer": "text",
        "note": "text",
        "count": "integer",
        "notify": "boolean",
        "urgency": "choice",
        "letter": "choice",
        "day": "date",
        "lines": "json",
        "when": "text",
    }
    assert fields["urgency"].choices == ("low", "high")
    assert fields["amount"].help == "In euros. More than 0, at most 5000."
    assert {name for name, each in fields.items() if each.required} == {
        "amount", "price", "customer", "urgency", "day",
    }  # fmt: skip
    assert {each.value for each in fields.values()} == {""}


def test_an_edit_that_changes_nothing_gives_exactly_the_subject() -> None:
    request = refund()
    value, errors = value_of(request, "edit", filled(request))
    assert (value, errors) == (REFUND, {})
    assert type(value["amount"]) is float
    assert check(request, "edit", value) == {}


def test_an_edit_changes_what_was_changed_and_keeps_what_the_form_does_not_ask() -> None:
    request = refund()
    value, errors = value_of(request, "edit", filled(request, amount="20", note="for bob"))
    assert errors == {}
    assert value == REFUND | {"amount": 20, "note": "for bob"}


def test_a_text_can_be_cleared_and_a_null_stays_null() -> None:
    request = refund(note="x", count=None)
    value, _ = value_of(request, "edit", filled(request, note="", customer=""))
    assert (value["note"], value["customer"], value["count"]) == ("", "", None)


def test_mistakes_are_told_in_words_by_field() -> None:
    request = refund()
    wrong = {
        "amount": "abc", "price": "", "count": "1.5", "notify": "maybe", "urgency": "never",
        "day": "tomorrow", "lines": "[",
    }  # fmt: skip
    value, errors = value_of(request, "edit", filled(request, **wrong))
    assert value is None
    assert errors == {
        "amount": "a number, not 'abc'",
        "price": "needed",
        "count": "a whole number, not '1.5'",
        "notify": "yes or no, not 'maybe'",
        "urgency": "one of 'low', 'high', not 'never'",
        "day": "a date like 2026-11-26, not 'tomorrow'",
        "lines": "JSON, not '[' (Expecting value, line 1, column 2)",
    }
    assert told({"amount": errors["amount"]}) == "amount: a number, not 'abc'"


def test_the_schema_is_checked_in_words() -> None:
    value = REFUND | {
        "amount": -1, "when": "soon", "count": "x", "lines": [{"sku": 1, "count": 1}],
    }  # fmt: skip
    del value["customer"]
    assert check(refund(), "edit", value) == {
        "amount": "more than 0, not -1",
        "when": "a date and time like 2026-11-26T14:02:00Z, not 'soon'",
        "count": "a whole number, not 'x'",
        "lines": "text, not 1 (at [0].sku)",
        "customer": "needed",
    }


@pytest.mark.parametrize(
    ("schema", "value", "words"),
    [
        ({"type": "string", "minLength": 3}, "ab", "at least 3 characters, not 2"),
        ({"type": "string", "minLength": 1}, "", "needed"),
        ({"type": "array", "maxItems": 1}, [1, 2], "at most 1 items, not 2"),
        ({"type": "string", "pattern": "^[A-Z]+$"}, "a1", "text that fits ^[A-Z]+$, not 'a1'"),
        ({"multipleOf": 5}, 3, "a multiple of 5, not 3"),
        ({"const": "yes"}, "no", "'yes', not 'no'"),
        ({"type": ["string", "null"]}, 1, "text or nothing, not 1"),
        ({"type": "string", "format": "email"}, "x", "an address like alice@example.org, not 'x'"),
        ({"type": "boolean"}, 1, "yes or no, not 1"),
        ({"type": "string"}, "\u202e" * 3, None),
        ({"type": "integer"}, "\u202e", "a whole number, not '\\u202e'"),
    ],
)
def test_each_rule_has_words(schema: dict[str, Any], value: Any, words: str | None) -> None:
    request = request_of(form={"properties": {"x": schema}})
    assert check(request, "respond", {"x": value}) == ({} if words is None else {"x": words})


class Codes(BaseModel):
    """Data whose rules a short value could keep busy for long."""

    code: Annotated[str, Field(pattern="^(a+)+$")] = "a"
    named: dict[Annotated[str, Field(pattern="^(a+)+$")], int] = {}
    distinct: set[int | str] = set()
    cents: Annotated[float, Field(multiple_of=0.01)] = 0


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"code": "a" * 50_000 + "!"}, "text that fits ^(a+)+$"),
        ({"named": {"a" * 50_000 + "!": 1}}, None),
        ({"named": {"aa": "x"}}, "a whole number, not 'x' (at aa)"),
        ({"distinct": [each for i in range(6000) for each in (i, str(i))]}, None),
        ({"distinct": [1, 1.0]}, "has an item twice"),
        ({"distinct": [1, "1"]}, None),
        ({"cents": 10**400}, "nothing that this form's schema can judge (OverflowError)"),
    ],
)
def test_no_value_keeps_the_judge_busy(value: Any, words: str | None) -> None:
    request = request_of(form=Codes.model_json_schema())
    began = time.process_time()
    errors = list(check(request, "respond", value).values())
    assert time.process_time() - began < 2
    assert not errors if words is None else errors[0].startswith(words)


class Not(BaseModel):
    """One of two rules, within which either may stand."""

    kind: Literal["not"]
    rule: Rule


class Is(BaseModel):
    """The other."""

    kind: Literal["is", "are"]
    rule: Rule | None = None


Rule = Annotated[Is | Not, Field(discriminator="kind")]


class Filter(BaseModel):
    """A form whose alternatives refer to themselves."""

    rule: Rule


def test_alternatives_within_alternatives_do_not_keep_the_judge_busy() -> None:
    request = request_of(form=Filter.model_json_schema())

    def nested(depth: int) -> Any:
        rule: Any = {"kind": "is"}
        for _ in range(depth):
            rule = {"kind": "not", "rule": rule}
        return {"rule": rule}

    assert check(request, "respond", nested(5)) == {}
    began = time.process_time()
    told = check(request, "respond", nested(60))[""]
    assert told == "nothing that this form's schema can judge (RecursionError)"
    assert time.process_time() - began < 15


def test_a_pattern_that_looks_around_itself_is_matched_all_the_same() -> None:
    request = request_of(form={"properties": {"x": {"type": "string", "pattern": "^(?!no).*$"}}})
    assert check(request, "respond", {"x": "yes"}) == {}
    assert check(request, "respond", {"x": "no"})["x"].startswith("text that fits")


def test_a_schema_that_points_elsewhere_is_not_followed() -> None:
    request = request_of(form={"properties": {"x": {"$ref": "http://127.0.0.1:9/schema.json"}}})
    assert fields_of(request, "respond")[0].kind == "json"
    assert "cannot" not in check(request, "respond", {"x": 1})[""]
    assert check(request, "respond", {"x": 1})[""].startswith("nothing that this form")


def test_a_schema_that_refers_to_itself_is_drawn() -> None:
    tree = {"type": "object", "properties": {"left": {"$ref": "#"}, "name": {"type": "string"}}}
    fields = fields_of(request_of(form=tree), "respond")
    assert [(each.name, each.kind) for each in fields] == [("left", "json"), ("name", "text")]


def test_without_a_schema_a_text_is_edited_as_text_and_data_as_json() -> None:
    [text] = fields_of(request_of("line\nnext"), "edit")
    assert (text.name, text.kind, text.value) == ("value", "long", "line\nnext")
    assert value_of(request_of("line\nnext"), "edit", {"value": "line\r\nmore"})[0] == "line\nmore"
    [data] = fields_of(request_of({"a": "\u202e"}), "edit")
    assert (data.kind, data.value) == ("json", '{\n  "a": "\\u202e"\n}')
    assert value_of(request_of({"a": 1}), "edit", {"value": '{"a": 2}'}) == ({"a": 2}, {})


def test_without_a_schema_an_edit_keeps_the_sort_of_the_subject() -> None:
    assert check(request_of({"a": 1}), "edit", {"b": 2}) == {}
    assert check(request_of({"a": 1}), "edit", [1]) == {
        "value": "an object, as what was asked, not [1]"
    }
    assert check(request_of("text"), "edit", 5) == {"value": "text, as what was asked, not 5"}
    assert check(request_of(1), "edit", 1.5) == {}
    assert check(request_of(None), "edit", "anything") == {}


def test_without_a_schema_an_answer_is_text_and_not_nothing() -> None:
    request = request_of({"a": 1})
    assert value_of(request, "respond", {"value": "in May"}) == ("in May", {})
    assert value_of(request, "respond", {"value": ""}) == (None, {"value": "needed"})
    assert value_of(request, "respond", {}) == (None, {"value": "needed"})
    assert check(request, "respond", "in May") == {}
    assert check(request, "respond", None) == {"value": "needed"}


def test_a_form_of_one_value_asks_for_that_kind() -> None:
    request = request_of(form={"type": "integer", "minimum": 1, "title": "How many"})
    [field] = fields_of(request, "respond")
    assert (field.posted, field.kind, field.label) == ("value", "integer", "How many")
    assert value_of(request, "respond", {"value": "12"}) == (12, {})
    assert check(request, "respond", 0) == {"value": "at least 1, not 0"}


def test_any_form_takes_the_whole_as_json() -> None:
    value, errors = value_of(refund(), "edit", {"value": json.dumps(REFUND), "decision": "edit"})
    assert (value, errors) == (REFUND, {})
    assert value_of(refund(), "edit", {"value": "{"})[1]["value"].startswith("JSON, not '{'")


def test_fields_are_taken_by_name_as_a_modal_gives_them() -> None:
    request = refund()
    plain = {each.name: each.value for each in fields_of(request, "edit")}
    assert value_of(request, "edit", plain) == (REFUND, {})


def test_fields_of_the_page_are_not_taken_for_fields_of_the_form() -> None:
    request = request_of(form={"properties": {"comment": {"type": "string"}, "n": {}}})
    form = {"f.n": "1", "comment": "of the decision", "decision": "respond"}
    assert value_of(request, "respond", form) == ({"n": 1}, {})


@pytest.mark.parametrize("text", ["NaN", "Infinity", "1e999", "1_000", "٣", "0x10", "9" * 400])
def test_a_number_is_one_that_json_has(text: str) -> None:
    request = request_of(form={"properties": {"x": {"type": "number"}}, "required": ["x"]})
    assert "a number" in value_of(request, "respond", {"f.x": text})[1]["x"]
    as_json = request_of({"x": 1})
    if text in ("NaN", "Infinity"):
        assert value_of(as_json, "edit", {"value": text})[1]["value"].startswith("JSON")


def as_a_browser_sends(field: forms.Field) -> str:
    """What a browser sends of a field that nobody touched."""
    text = re.sub("\r\n?|\n", "\r\n", field.value).replace("\0", "\ufffd")
    if field.kind in ("choice", "boolean") and text not in field.choices:
        return ""
    if field.kind == "date" and not re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        return ""
    return text if field.kind in ("long", "json") else text.replace("\r\n", "")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.text(st.characters(exclude_categories=("Cs",)), max_size=5), inner, max_size=3
    ),
    max_leaves=8,
)  # fmt: skip


@given(json_values)
def test_an_untouched_form_gives_back_any_subject(subject: Any) -> None:
    request = request_of(subject)
    [field] = fields_of(request, "edit")
    value, errors = value_of(request, "edit", {"value": as_a_browser_sends(field)})
    assert errors == {}
    assert json.dumps(value) == json.dumps(json.loads(request.subject))
    assert check(request, "edit", value) == {}


needed = ("amount", "price", "customer", "urgency", "day")
beside = ("note", "count", "notify", "letter", "lines", "when")


@given(
    st.fixed_dictionaries(
        dict.fromkeys(needed, json_values), optional=dict.fromkeys(beside, json_values)
    )
)
def test_an_untouched_form_changes_nothing_even_where_the_subject_breaks_the_schema(
    subject: dict[str, Any],
) -> None:
    request = request_of(subject, form=Refund.model_json_schema(), allowed=ACTIONS)
    sent = {each.posted: as_a_browser_sends(each) for each in fields_of(request, "edit")}
    value, errors = value_of(request, "edit", sent)
    assert errors == {}
    assert canonical(value) == request.subject
