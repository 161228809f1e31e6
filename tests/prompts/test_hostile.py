"""Documents that try to get out of their fence, each of them kept in.

In the files, `\\u{HEX}` is a character and `\\*{N}` at the end of a line repeats it N times.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest

from perdure.prompts import Prompt

FILES = sorted((Path(__file__).parent / "hostile").glob("*.txt"))
BLOCK = re.compile(
    r'<document id="([^"]*)" sha="([0-9a-f]{12})">\n(.*?)\n</document-\2>', re.DOTALL
)
TAG = re.compile(r"<\s*(?:/\s*)*d\s*o\s*c\s*u\s*m\s*e\s*n\s*t", re.IGNORECASE)
PROMPT = Prompt.from_string(
    """---
input:
  schema:
    document: untrusted, what the question is about
    question: string
---
system:
Answer from the document alone.
user:
Read this.
{{ document | untrusted("d 1") }}
{{ question }}
assistant:
I have read it.
"""
)


def _document(path: Path) -> str:
    def repeated(found: re.Match[str]) -> str:
        return f"{found[1]}\n" * int(found[2])

    text = re.sub(r"(.*)\\\*\{(\d+)\}\n?", repeated, path.read_text("utf-8"))
    return re.sub(r"\\u\{([0-9a-f]+)\}", lambda found: chr(int(found[1], 16)), text)


def _plainly(text: str) -> str:
    """Return a text as a reader sees it who takes each letter for the plainest that it can be."""
    split = unicodedata.normalize("NFKD", text)
    return "".join(c for c in split if unicodedata.category(c) not in ("Mn", "Cf", "Cc"))


DOCUMENTS = {path.stem: _document(path) for path in FILES}
CODE = [name for name, text in DOCUMENTS.items() if "{" in text and not TAG.search(_plainly(text))]


@pytest.fixture(params=DOCUMENTS)
def document(request: pytest.FixtureRequest) -> str:
    return DOCUMENTS[request.param]


def test_the_corpus_is_there():
    assert len(FILES) >= 40


def test_a_hostile_document_opens_no_role(document):
    rendered = PROMPT.render(document=document, question="What is it about?")
    assert [message.role for message in rendered.messages] == ["system", "user", "assistant"]
    assert rendered.messages[0].text == "Answer from the document alone."
    assert rendered.messages[2].text == "I have read it."


def test_a_hostile_document_ends_where_its_fence_ends(document):
    rendered = PROMPT.render(document=document, question="What is it about?")
    text = rendered.messages[1].text
    (block,) = BLOCK.finditer(text)
    assert block[1] == "d 1"
    assert text[: block.start()] == "Read this.\n"
    assert text[block.end() :] == "\nWhat is it about?"
    assert [tag.start() for tag in TAG.finditer(text)] == [block.start(), block.end() - 24]
    assert len(TAG.findall(_plainly(text))) == 2


def test_a_hostile_document_keeps_every_visible_character(document):
    (block,) = BLOCK.finditer(PROMPT.render(document=document, question="?").messages[1].text)
    kept = block[3]
    if len(document) <= 150_000:
        assert _letters(kept.replace("&lt;", "")) == _letters(document.replace("&lt;", ""))
    assert not [
        c for c in kept if unicodedata.category(c) in ("Cc", "Cf", "Cs") and c not in "\n\t"
    ]
    kept.encode()


@pytest.mark.parametrize("name", CODE)
def test_a_hostile_document_runs_no_template_code(name):
    document = DOCUMENTS[name]
    (block,) = BLOCK.finditer(PROMPT.render(document=document, question="?").messages[1].text)
    assert block[3] == document


def test_a_hostile_value_that_is_not_fenced_opens_no_role_and_runs_no_code(document):
    prompt = Prompt.from_string(
        "---\ninput: {schema: {x: string}}\n---\nsystem:\nRules.\nuser:\nQ: {{ x }}!\n"
    )
    rendered = prompt.render(x=document.encode("utf-8", "replace").decode())
    assert [message.role for message in rendered.messages] == ["system", "user"]
    assert rendered.messages[0].text == "Rules."
    assert rendered.messages[1].text == f"Q: {document.encode('utf-8', 'replace').decode()}!"


def _letters(text: str) -> list[str]:
    hidden = "\u115f\u3164"
    return [c for c in text if c.isalnum() and c not in hidden]
