"""Whatever a document, a value, a template or a front matter holds, the rules stand."""

import re
import unicodedata

from hypothesis import example, given, settings
from hypothesis import strategies as st

from perdure.prompts import Prompt, PromptError, fence

PIECES = [
    *("<", "</", "/", ">", "document", "DOCUMENT", "docu", "ment", "</document>", "<document id="),
    *("</document-", "0123456789ab", " ", "\n", "\r", "\t", "\0", "\x1b", "\x85", "\u2028"),
    *("\nsystem:\n", "user:\n", "\nassistant:", "system:", "\n---\n", "{{ 7*7 }}", "{{", "}}"),
    *("{% raw %}", "{% endraw %}", "{#", "#}", "{% include 'x' %}", "%s", "{0.__class__}"),
    *("\u200b", "\u200d", "\u202e", "\u2066", "\ufeff", "\ufe0f", "\u034f", "\U000e0041", "\u0301"),
    *("\uff1c", "\uff0f", "\u2039", "\u27e8", "\u2215", "\\", "\u0501", "\u043e", "\u0441"),
    *("\u0435", "\u043c", "\u0442", "\uff44", "\U0001d41d", "\u24d3", "\u1d05", "0", "3", "&lt;"),
]
TEXTS = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=5)), max_size=25).map("".join)
PLAIN = TEXTS.map(lambda text: text.encode("utf-8", "replace").decode())
TAG = re.compile(r"<\s*(?:/\s*)*d\s*o\s*c\s*u\s*m\s*e\s*n\s*t", re.IGNORECASE)
OPENED = re.compile(r'<document id="[A-Za-z0-9._:/ -]+" sha="([0-9a-f]{12})">\n')
PROMPT = Prompt.from_string(
    """---
input:
  schema:
    topic: string
    documents: untrusted[]
---
system:
Topic: {{ topic }}.
user:
Documents:
{% for document in documents %}
{{ document.text | untrusted(document.id) }}
{% endfor %}
What of {{ topic }}?
assistant:
About {{ topic }}:
"""
)


def _plainly(text: str) -> str:
    split = unicodedata.normalize("NFKD", text)
    return "".join(c for c in split if unicodedata.category(c) not in ("Mn", "Me", "Cf"))


@settings(deadline=None)
@given(PLAIN, st.lists(st.fixed_dictionaries({"id": TEXTS, "text": TEXTS}), max_size=4), TEXTS)
def test_no_input_changes_the_number_or_the_roles_of_messages(topic, documents, salt):
    rendered = PROMPT.render(topic=topic, documents=documents, salt=salt)
    system, user, assistant = rendered.messages
    assert [each.role for each in rendered.messages] == ["system", "user", "assistant"]
    assert system.text == f"Topic: {topic}."
    assert assistant.text == f"About {topic}:"
    fences = [fence(each["text"], each["id"], salt=salt) for each in documents]
    said = "".join(f"{each}\n" for each in fences)
    assert user.text == f"Documents:\n{said}What of {topic}?"
    assert PROMPT.render(topic=topic, documents=documents, salt=salt) == rendered


@settings(deadline=None)
@given(TEXTS, TEXTS, TEXTS)
@example("</document-", "", "")
@example("<", "", "")
def test_no_text_opens_or_closes_a_fence(text, id, salt):
    fenced = fence(text, id, salt=salt)
    opened = OPENED.match(fenced)
    assert opened
    closing = f"\n</document-{opened[1]}>"
    assert fenced.endswith(closing)
    places = [found.start() for found in TAG.finditer(fenced)]
    assert places == [0, len(fenced) - len(closing) + 1]
    assert len(TAG.findall(_plainly(fenced))) == 2


@settings(deadline=None)
@given(TEXTS)
def test_no_text_leaves_anything_invisible_behind(text):
    fenced = fence(text)
    odd = [c for c in fenced if unicodedata.category(c) in ("Cc", "Cf", "Cs") and c not in "\n\t"]
    assert not odd
    assert fenced.encode().decode() == fenced


@settings(deadline=None)
@given(TEXTS, st.integers(1, 30))
def test_a_fence_is_never_much_longer_than_its_cap(text, most):
    assert len(fence(text, max_chars=most)) <= most + 3 * most + 160


@settings(deadline=None)
@given(TEXTS)
def test_fencing_what_was_fenced_leaves_one_fence(text):
    assert len(TAG.findall(fence(fence(text)))) == 2


BITS = [
    *("{{ d }}", "{{ d | untrusted }}", "{{ x }}", "{{", "}}", "{% if d %}", "{% endif %}", "{#"),
    *("{% for s in d %}", "{% endfor %}", "{% set y = x %}", "{% include 'a' %}", "{% raw %}"),
    *("{% macro m(x) %}", "{% endmacro %}", "{{ x.y[0]() }}", "{{ 'a' * x }}", "{{ x | upper }}"),
    *("\nsystem:\n", "\nuser:\n", "\n", "text", "---\n", "{%", "%}", "|", "untrusted", "'", "loop"),
]
BODIES = st.lists(st.one_of(st.sampled_from(BITS), st.text(max_size=3)), max_size=12).map("".join)
WORDS = [
    *(
        "name: x\n",
        "config:\n",
        "  max_tokens: 3\n",
        "input:\n",
        "  schema:\n",
        "    d: untrusted\n",
    ),
    *("    x: string\n", "  default:\n", "    x: y\n", "output: {schema: {type: object}}\n", "\t"),
    *("metadata: ", "[", "{", "}", "]", "&a ", "*a", "!!set ", ": ", "- ", '"', "'", "|\n", "? "),
]
FRONTS = st.lists(st.one_of(st.sampled_from(WORDS), st.text(max_size=3)), max_size=12).map("".join)


@settings(deadline=None)
@given(BODIES, BODIES)
def test_any_template_is_rendered_or_refused_with_a_clear_error(body, part):
    front = "---\ninput: {schema: {d: untrusted, x: string}}\n---\n"
    try:
        rendered = Prompt.from_string(front + body, includes={"a": part}).render(d="{{x}}", x="X")
    except PromptError as error:
        assert error.problems
    else:
        assert all(message.text for message in rendered.messages)


@settings(deadline=None)
@given(FRONTS)
def test_any_front_matter_is_read_or_refused_with_a_clear_error(front):
    try:
        Prompt.from_string(f"---\n{front}\n---\nbody").check()
    except PromptError as error:
        assert error.problems
