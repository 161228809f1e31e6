"""What is wrong with a template is found before it is used."""

import pytest

from perdure.prompts import Prompt, PromptError

FRONT = """---
input:
  schema:
    topic: string
    document?: untrusted
    sources?: untrusted[]
---
"""
USES = "{{ topic }}{% if document or sources %}{% endif %}"


def _problems(body: str, **includes: str) -> list[str]:
    try:
        Prompt.from_string(FRONT + body, includes=includes).check()
    except PromptError as error:
        return [str(problem) for problem in error.problems]
    return []


def _of(body: str, **includes: str) -> list[str]:
    """Return the problems of a body that also uses each declared input."""
    return _problems(f"{USES}\n{body}", **includes)


def test_inputs_that_are_used_and_not_declared_are_named():
    assert _of("x\n{{ topics }}{{ other }}") == [
        "inline:10: it uses 'other', which is no input; declare it in input.schema",
        "inline:10: it uses 'topics', which is no input; did you mean 'topic'?",
    ]


def test_inputs_that_are_declared_and_not_used_are_named():
    assert _problems("{{ topic }}") == [
        "inline:5: input 'document' is declared and never used",
        "inline:6: input 'sources' is declared and never used",
    ]


def test_names_that_the_template_sets_itself_are_no_inputs():
    body = "{% set a = 1 %}{% for b in [1] %}{{ a + b + loop.index }}{% endfor %}"
    assert _of(body) == []
    assert _of("{% for b in [1] %}{% endfor %}{{ b }}") == [
        "inline:9: it uses 'b', which is no input; declare it in input.schema"
    ]


def test_inputs_that_only_an_include_uses_count():
    prompt = Prompt.from_string(
        '---\ninput: {schema: {topic: string}}\n---\n{% include "p" %}',
        includes={"p": "{{ topic }}"},
    )
    assert prompt.render(topic="t").messages[0].text == "t"
    assert _of('{% include "p" %}', p="\n{{ other }}") == [
        "p:2: it uses 'other', which is no input; declare it in input.schema"
    ]


@pytest.mark.parametrize(
    "body",
    [
        "{{ document | untrusted }}",
        "{{ document | untrusted('d1') }}",
        "{{ document | untrusted(id=topic, max_chars=10) }}",
        "{{ (document or 'none') | untrusted }}",
        "{{ document | upper | untrusted }}",
        "{{ document | untrusted if document else 'none' }}",
        "{% if document %}{{ document | untrusted }}{% endif %}",
        "{% if document is not none and document | length > 3 %}long{% endif %}",
        "{{ 'yes' if 'x' in document else 'no' }}",
        "{{ sources | length }} {{ sources | count }}",
        "{% for s in sources %}{{ loop.index }} {{ s.text | untrusted(s.id) }}{% endfor %}",
        "{% for s in sources[:3] if s.text %}{{ s | untrusted }}{% else %}none{% endfor %}",
        "{% for k, v in sources | groupby('k') %}{{ v[0].t | untrusted(k) }}{% endfor %}",
        "{% for s in sources %}{% endfor %}{% for s in [1] %}{{ s }}{% endfor %}",
        "user:\n{{ document | untrusted }}",
    ],
)
def test_untrusted_text_may_be_fenced_counted_and_decided_on(body):
    assert _of(body) == []


@pytest.mark.parametrize(
    "body",
    [
        "{{ document }}",
        "{{ document | upper }}",
        "{{ document[:10] }}",
        "{{ document ~ '' }}",
        "{{ document.strip() }}",
        "{{ document | tojson }}",
        "{{ 'x' if topic else document }}",
        "{{ [document] | join }}",
        "{{ '%s' | format(document) }}",
        "{% set x = document %}",
        "{% set x = [document] %}",
        "{% with x = document %}{% endwith %}",
        "{{ sources }}",
        "{{ sources | map(attribute='title') | join }}",
        "{% for s in sources %}{{ s.title }}{% endfor %}",
        "{% for s in sources | sort(attribute='x') %}{{ s }}{% endfor %}",
        "{% for s in sources %}{% for t in s.parts %}{{ t }}{% endfor %}{% endfor %}",
        "{% for s in sources %}{% set x = s.title %}{% endfor %}",
        "{% for s in [document] %}{{ s }}{% endfor %}",
        "{% macro m(x) %}{{ x }}{% endmacro %}{{ m(document) }}",
    ],
)
def test_untrusted_text_is_printed_through_the_filter_only(body):
    assert any("is untrusted: print it as {{ … | untrusted }}" in each for each in _of(body))


def test_untrusted_text_is_followed_into_includes():
    assert _of('{% include "p" %}', p="\n{{ document }}") == [
        "p:2: 'document' is untrusted: print it as {{ … | untrusted }}"
    ]
    body = '{% for s in sources %}{% include "p" %}{% endfor %}'
    assert _of(body, p="{{ s.text | untrusted }}") == []
    assert _of(body, p="{{ s.text }}") == ["p:1: 's' is untrusted: print it as {{ … | untrusted }}"]


@pytest.mark.parametrize(
    "body",
    [
        "{{ document | untrusted | upper }}",
        "{{ document | untrusted | replace('a', 'b') }}",
        "{{ (document | untrusted)[:10] }}",
        "{{ document | untrusted ~ '' }}",
        "{% set x = document | untrusted %}",
        "{% set x %}{{ document | untrusted }}{% endset %}",
        "{% filter upper %}{{ document | untrusted }}{% endfilter %}",
        "{% filter untrusted %}x{% endfilter %}",
        "{% macro m() %}{{ document | untrusted }}{% endmacro %}",
        "{{ sources | map('untrusted') | join }}",
        "{{ [document | untrusted] | join }}",
    ],
)
def test_a_fence_is_printed_as_it_is(body):
    assert any(
        "untrusted stands alone and last" in each or "outside macros and captures" in each
        for each in _of(body)
    )


@pytest.mark.parametrize("role", ["system", "assistant"])
def test_untrusted_text_is_for_user_sections(role):
    message = f"untrusted text is for user sections, not {role}"
    assert _of(f"{role}:\n\n{{{{ document | untrusted }}}}") == [f"inline:11: {message}"]
    assert _of(f"{role}:\n{{{{ topic | untrusted }}}}") == [f"inline:10: {message}"]
    assert _of(f'{role}:\n{{% include "p" %}}', p="{{ document | untrusted }}") == [
        f"p:1: {message}"
    ]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("{% include topic %}", "an include names its file as plain text, not by an expression"),
        ("{% include ['a', 'b'] %}", "an include names its file as plain text"),
        ("{% include 'p' ~ '' %}", "an include names its file as plain text"),
        ("{% include 'p' ignore missing %}", "an include takes nothing after the name"),
        ("{% include 'p' without context %}", "an include takes nothing after the name"),
        ("{% import 'p' as q %}", "a prompt has includes only, no import"),
        ("{% from 'p' import q %}", "a prompt has includes only, no fromimport"),
        ("{% extends 'p' %}", "a prompt has includes only, no extends"),
        ("{% block b %}{% endblock %}", "a prompt has includes only, no block"),
        ("{{ [1] | random }}", "there is no filter 'random'; a prompt is the same each time"),
        ("{{ topic | shout }}", "there is no filter 'shout'"),
        ("{% if topic is loud %}{% endif %}", "there is no test 'loud'"),
        ("{% set topic = 1 %}", "'topic' is an input and is not assigned to"),
        ("{% for document in [1] %}{% endfor %}", "'document' is an input"),
        ("{% for s in sources %}{{ loop.previtem }}{% endfor %}", "a prompt has no loop.previtem"),
        ("{% if topic %}", "inline:9: Unexpected end of template"),
        ("{% if topic %}\nuser:\n{% endif %}", "closed in the section and file that opens it"),
        ("{{ topic", "inline:9: "),
        ("{{ topic }", "inline:9: "),
        ("{% nonsense %}", "inline:9: Encountered unknown tag 'nonsense'"),
        ("User:", "inline:9: a role line is exactly 'user:', not 'User:'"),
        (" system:", "a role line is exactly 'system:', not ' system:'"),
        ("assistant: ", "a role line is exactly 'assistant:', not 'assistant: '"),
        ("{% for loop in [1] %}{% endfor %}", "inline:9: Can't assign to special loop variable"),
        ("{{ " + "(" * 500 + "1" + ")" * 500 + " }}", "nested too deep"),
    ],
)
def test_what_a_template_may_not_do_is_named_with_its_line(body, problem):
    found = _of(body, p="x")
    assert any(problem in each for each in found), found


def test_what_only_python_cannot_compile_is_an_error_too():
    (problem,) = _of("{% for a in [1] %}" * 30 + "{% endfor %}" * 30)
    assert (
        problem == "inline: it cannot be compiled: SyntaxError: too many statically nested blocks"
    )


@pytest.mark.parametrize("text", ["", "\n \n", "---\n---\n"])
def test_a_prompt_without_text_is_named(text):
    with pytest.raises(PromptError, match="the prompt has no text"):
        Prompt.from_string(text).check()


def test_an_included_file_opens_no_section_and_has_no_front_matter():
    assert _of('{% include "p" %}', p="---\nname: x\n---\nuser:\nhi") == [
        "p:1: an included file has no front matter",
        'p:4: an included file opens no section; as text, {{ "user:" }} prints it',
    ]


def test_a_broken_prompt_is_loaded_and_named_but_renders_nothing():
    prompt = Prompt.from_string("{{ x }}", name="broken")
    assert prompt.name == "broken"
    assert len(prompt.version) == 64
    for use in (prompt.check, prompt.render, lambda: prompt.inputs, lambda: prompt.config):
        with pytest.raises(PromptError, match="broken:1: it uses 'x'"):
            use()
