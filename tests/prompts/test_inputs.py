"""Inputs: what each type takes, and how a wrong value is named without being shown."""

import dataclasses
import enum
import types
from datetime import date
from decimal import Decimal

import pydantic
import pytest

from perdure.prompts import Prompt, PromptError


class Colour(enum.StrEnum):
    RED = "red"


class Model(pydantic.BaseModel):
    title: str = "t"


@dataclasses.dataclass
class Record:
    title: str = "t"


class Loud(str):
    def __str__(self) -> str:
        return "LOUD"


def _taking(kind: str) -> Prompt:
    use = "{{ x | untrusted }}" if kind == "untrusted" else "{{ x | string }}"
    use = "{{ x | length }}" if kind == "untrusted[]" else use
    return Prompt.from_string(f"---\ninput:\n  schema:\n    x: {kind}, a thing\n---\n-{use}")


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("string", "text"),
        ("string", ""),
        ("string", Colour.RED),
        ("integer", 3),
        ("number", 3),
        ("number", 0.5),
        ("boolean", False),
        ("array", [1]),
        ("array", (1, "a")),
        ("object", {"a": 1}),
        ("object", types.MappingProxyType({"a": 1})),
        ("object", Model()),
        ("object", Record()),
        ("any", None),
        ("any", Decimal("1.5")),
        ("any", date(2026, 1, 31)),
        ("untrusted", "text"),
        ("untrusted[]", ["text", Model()]),
    ],
)
def test_an_input_takes_the_values_of_its_type(kind, value):
    assert _taking(kind).render(x=value).messages


@pytest.mark.parametrize(
    ("kind", "value", "was"),
    [
        ("string", 3, "int"),
        ("string", None, "None"),
        ("string", ["a"], "list"),
        ("integer", True, "bool"),
        ("integer", 3.0, "float"),
        ("integer", "3", "str"),
        ("number", "3", "str"),
        ("boolean", 1, "int"),
        ("array", "text", "str"),
        ("array", {"a": 1}, "dict"),
        ("object", [1], "list"),
        ("untrusted", ["a"], "list"),
        ("untrusted[]", "a", "str"),
    ],
)
def test_a_value_of_another_type_is_refused_by_name(kind, value, was):
    with pytest.raises(PromptError) as caught:
        _taking(kind).render(x=value)
    said = str(caught.value)
    assert f"prompt 'inline': input 'x' is {kind}, not {was}: {kind}, a thing" in said


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({"a": object()}, "plain data, not object"),
        ([{1, 2}], "not set; its order is not stable"),
        (b"secret", "not bytes; decode it first"),
        (lambda: "secret", "not function"),
        ({(1, 2): "secret"}, "the keys of a dict are texts or whole numbers, not tuple"),
        (Model, "not ModelMetaclass"),
    ],
)
def test_what_is_no_plain_data_is_refused_and_never_shown(value, why):
    with pytest.raises(PromptError, match=why) as caught:
        _taking("any").render(x=value)
    assert "secret" not in str(caught.value)


def test_a_value_that_holds_itself_is_refused():
    value = []
    value.append(value)
    with pytest.raises(PromptError, match="nested more than 50 deep"):
        _taking("array").render(x=value)


def test_a_template_sees_plain_data_not_the_callers_objects():
    prompt = Prompt.from_string(
        "---\ninput: {schema: {x: any}}\n---\n{{ x.title }} {{ x.title.upper() }}"
    )
    assert prompt.render(x=Model()).messages[0].text == "t T"
    assert prompt.render(x=Record()).messages[0].text == "t T"
    assert _taking("string").render(x=Loud("quiet")).messages[0].text == "-quiet"
    with pytest.raises(PromptError, match="no attribute 'model_dump'"):
        Prompt.from_string("---\ninput: {schema: {x: any}}\n---\n{{ x.model_dump() }}").render(
            x=Model()
        )


def test_a_template_cannot_change_what_it_was_given():
    value = {"items": [1]}
    prompt = Prompt.from_string(
        "---\ninput: {schema: {x: object}}\n---\n{{ x['items'].append(2) }}"
    )
    with pytest.raises(PromptError, match="SecurityError"):
        prompt.render(x=value)
    assert value == {"items": [1]}


GREETING = Prompt.from_string(
    """---
input:
  schema:
    name: string, who is greeted
    title?: string
    times?: integer
    salt?: string
  default:
    times: 2
---
{% if title %}{{ title }} {% endif %}{{ name }} {{ times }}{{ salt or "" }}
"""
)


def test_inputs_come_as_a_mapping_as_keywords_or_as_both():
    assert GREETING.render({"name": "Ada"}).messages[0].text == "Ada 2"
    assert GREETING.render({"name": "Ada"}, times=3).messages[0].text == "Ada 3"
    assert GREETING.render(name="Ada", title="Dr").messages[0].text == "Dr Ada 2"
    assert GREETING.render({"name": "Ada", "salt": "!"}, salt="s").messages[0].text == "Ada 2!"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: GREETING.render(), "input 'name' is missing: string, who is greeted"),
        (lambda: GREETING.render(name="A", nam="B"), "no input 'nam'; did you mean 'name'?"),
        (lambda: GREETING.render(name="A", zzz=1), "(it takes name, title, times, salt)"),
        (lambda: GREETING.render({"name": "A"}, name="B"), "input 'name' is given twice"),
        (lambda: GREETING.render(["A"]), "the inputs are a mapping, not list"),
        (lambda: GREETING.render({"name": "A", 3: 4}), "no input 3"),
        (lambda: GREETING.render(name="A", salt=3), "the salt is a str, not int"),
        (lambda: Prompt.from_string("x").render(a=1), "no input 'a' (it takes no inputs)"),
    ],
)
def test_inputs_that_do_not_fit_are_named(call, message):
    with pytest.raises(PromptError) as caught:
        call()
    assert message in str(caught.value)
