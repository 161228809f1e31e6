"""Front matter: what it may say, and the line of what it may not."""

import re

import pytest

from perdure.prompts import InputField, InputType, Prompt, PromptError

FULL = """---
name: summary
description: Say what a document is about
model: fast
config:
  max_tokens: 300
  temperature: 0.2
  stop: ["END", "STOP"]
  extra: {service_tier: flex}
input:
  schema:
    topic: string, what to look for, in a word
    n?: integer
    tags?: array, to choose from
    document: untrusted, the text
  default:
    n: 3
output:
  schema: {type: object, properties: {title: {type: string}}}
metadata: {owner: research, reviewed: 2026-01-31}
---
{{ topic }} {{ n }} {{ tags }}
{{ document | untrusted }}
"""


def _problems(front: str) -> list[str]:
    with pytest.raises(PromptError) as caught:
        Prompt.from_string(f"---\n{front}\n---\nbody").check()
    return [f"{problem.line}: {problem.message}" for problem in caught.value.problems]


def test_a_prompt_says_what_it_is_for_and_what_it_takes():
    prompt = Prompt.from_string(FULL)
    assert (prompt.name, prompt.description, prompt.model) == (
        "summary",
        "Say what a document is about",
        "fast",
    )
    assert prompt.config == {
        "max_tokens": 300,
        "temperature": 0.2,
        "stop": ["END", "STOP"],
        "extra": {"service_tier": "flex"},
    }
    assert dict(prompt.inputs) == {
        "topic": InputField(InputType.STRING, True, "what to look for, in a word"),
        "n": InputField(InputType.INTEGER, False, "", 3),
        "tags": InputField(InputType.ARRAY, False, "to choose from"),
        "document": InputField(InputType.UNTRUSTED, True, "the text"),
    }
    assert prompt.output == {"type": "object", "properties": {"title": {"type": "string"}}}
    assert prompt.metadata == {"owner": "research", "reviewed": "2026-01-31"}


@pytest.mark.parametrize("text", ["Hello.", "---\n---\nHello.", "---\n# nothing\n---\nHello."])
def test_front_matter_may_be_missing_or_empty(text):
    prompt = Prompt.from_string(text)
    assert (prompt.name, prompt.description, prompt.model) == ("inline", "", None)
    assert (prompt.config, dict(prompt.inputs), prompt.output, prompt.metadata) == (
        {},
        {},
        None,
        {},
    )
    assert prompt.render().messages[0].text == "Hello."


def test_what_a_prompt_hands_out_is_a_copy():
    prompt = Prompt.from_string(FULL)
    prompt.config["extra"]["service_tier"] = "priority"
    prompt.output["type"] = "array"
    prompt.metadata.clear()
    assert prompt.config["extra"] == {"service_tier": "flex"}
    assert prompt.output["type"] == "object"
    assert prompt.metadata["owner"] == "research"
    with pytest.raises(TypeError):
        prompt.inputs["topic"] = None


@pytest.mark.parametrize(
    ("front", "problem"),
    [
        ("nme: x", "2: the front matter has no 'nme'; did you mean 'name'?"),
        ("variant: x", "2: the front matter has no 'variant'; it takes name, description, model"),
        ("config: {maxTokens: 3}", "2: config has no 'maxTokens'; did you mean 'max_tokens'?"),
        ("config:\n  max_tokens: many", "3: config.max_tokens is a whole number from 1 on"),
        ("config: {max_tokens: 0}", "2: config.max_tokens is a whole number"),
        ("config: {max_tokens: true}", "2: config.max_tokens is a whole number"),
        ("config: {temperature: .nan}", "2: config.temperature is a number from 0 to 2"),
        ("config: {temperature: 3}", "2: config.temperature is a number from 0 to 2, not 3"),
        ("config: {stop: END}", "2: config.stop is a list of texts"),
        ("config: [a]", "2: config is a mapping, not a list"),
        ("config: x", "2: config is a mapping, not a text"),
        ("name: 3", "2: name is a text, not 3; quote it"),
        ("name: has space", "2: name is 1 to 100 of"),
        ("description: [x]", "2: description is a text, not a list"),
        ("model: true", "2: model is a text, not true or false"),
        ("input: {schema: [x]}", "2: input.schema is a mapping, not a list"),
        ("input:\n  shema: {}", "3: input has no 'shema'; did you mean 'schema'?"),
        ("output: {format: json}", "2: output has no 'format'; it takes schema"),
        ("output: {schema: {title: string}}", "2: output.schema is a JSON Schema"),
        ("metadata: x", "2: metadata is a mapping, not a text"),
    ],
)
def test_what_the_front_matter_may_not_say_is_named_with_its_line(front, problem):
    assert any(each.startswith(problem) for each in _problems(front)), _problems(front)


def test_all_mistakes_are_reported_at_once():
    found = _problems("nme: x\nmodel: 3\nconfig: {temperature: hot}")
    assert [each[0] for each in found] == ["2", "3", "4"]


@pytest.mark.parametrize(
    ("front", "problem"),
    [
        ("a: [1", "2: the front matter: expected"),
        ("name: x\n\tmodel: y", "3: .* indent with spaces, not with tabs"),
        ("description: a: b", "2: .*a text that holds ': ' is put in quotes"),
        ("name: a\nmodel: b\nname: c", "4: the front matter: the key 'name' is there twice"),
        ("input:\n  schema:\n    x: string\n    x: array", "5: .*the key 'x' is there twice"),
        ("metadata: {x: &a [1], y: *a}", "2: the front matter: it has no aliases"),
        ("metadata: {x: &a [*a]}", "2: the front matter: it has no aliases"),
        ("metadata: !!python/object/apply:os.system [id]", "2: .*no tags or merge keys"),
        ("metadata: !!set {a, b}", "2: .*no tags or merge keys"),
        ("metadata: {<<: {a: b}}", "2: .*no tags or merge keys"),
        ("metadata: {3: x}", "2: .*a key is a text, not 3; quote it"),
        ("metadata: {on: x}", "2: .*a key is a text, not true or false; quote it"),
        ("- a\n- b", "2: the front matter is a mapping, not a list"),
        ("just text", "2: the front matter is a mapping, not a text"),
        ('name: "a\x07"', r"2: .*control character U\+0007"),
        ("input: {schema: {n?: integer}}", "2: .*a name with \\? is put in quotes"),
        ("metadata: " + "[" * 3000 + "]" * 3000, "None: .*nested too deep"),
        ("metadata: {n: " + "9" * 5000 + "}", "None: the front matter is no YAML"),
    ],
)
def test_what_is_no_plain_yaml_is_refused(front, problem):
    (found,) = _problems(front)
    assert re.match(problem, found), found


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("x: str", "input 'x' has no known type: 'str' (string, integer,"),
        ("x: [string]", "input 'x': its type is text such as 'string, the topic'"),
        ("x:", "input 'x': its type is text"),
        ("a-b: string", "input 'a-b' is no name that a template can use"),
        ("loop: string", "input 'loop' is no name"),
        ("range: string", "input 'range' is no name"),
        ("class: string", "input 'class' is no name"),
        ("x: string\n    x?: string", "input 'x' is declared twice"),
        ("x: string\n  default: {y: 1}", "the default of 'y', which is no input"),
        ("x: string\n  default: {x: 1}", "default: input 'x' is string, not int"),
    ],
)
def test_an_input_that_cannot_be_declared_is_named(line, problem):
    assert any(problem in each for each in _problems(f"input:\n  schema:\n    {line}"))
