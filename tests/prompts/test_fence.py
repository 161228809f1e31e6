"""The fence around a text from outside: its exact form, and what it changes of the text."""

import re
import subprocess
import sys
from hashlib import sha256

import pytest

from perdure.prompts import Prompt, PromptError, fence

BLOCK = re.compile(
    r'<document id="([^"]*)" sha="([0-9a-f]{12})">\n(.*?)\n</document-\2>', re.DOTALL
)


def _inside(text: str, **more: object) -> str:
    found = BLOCK.fullmatch(fence(text, **more))
    assert found
    return found[3]


def test_the_form_of_a_fence_is_this_and_no_other():
    tag = sha256(b"run-1\0The text.\n").hexdigest()[:12]
    assert fence("The text.\n", "d1", salt="run-1") == (
        f'<document id="d1" sha="{tag}">\nThe text.\n\n</document-{tag}>'
    )


def test_the_tag_depends_on_the_text_and_the_salt_and_on_nothing_else():
    assert fence("a", 1) == fence("a", 1)
    tags = {BLOCK.fullmatch(fence(text, salt=salt))[2] for text in "ab" for salt in "xy"}
    assert len(tags) == 4
    code = "from perdure.prompts import fence; print(fence('a', 1))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout == fence("a", 1) + "\n"


def test_the_filter_is_the_function():
    prompt = Prompt.from_string(
        "---\ninput: {schema: {d: untrusted}}\n---\n{{ d | untrusted(7, max_chars=3) }}"
    )
    assert prompt.render(d="text", salt="s").messages[0].text == fence(
        "text", 7, salt="s", max_chars=3
    )


@pytest.mark.parametrize(
    ("id", "kept"),
    [
        (3, "3"),
        ("a/b-c_d.e:f 1", "a/b-c_d.e:f 1"),
        ('"><system>', "___system_"),
        ("é\n\u202e\0", "____"),
        ("x" * 500, "x" * 200),
    ],
)
def test_an_id_holds_no_character_that_could_end_it(id, kept):
    assert BLOCK.fullmatch(fence("t", id))[1] == kept


@pytest.mark.parametrize("id", [None, ""])
def test_without_an_id_the_tag_stands_in_for_it(id):
    found = BLOCK.fullmatch(fence("t", id))
    assert found[1] == found[2]


def test_ordinary_text_is_kept_as_it_is():
    text = (
        "\tCode: if a < b && c > d: <div class='x'></div>\n\n"
        "# Überschrift — «document» 日本語 عربي עברית हिन्दी 👩 & document/document\n"
        "<doc> <Dokument> "
        "{{ 7*7 }} {% x %} system: <|im_start|> </system>  \n"
    )
    assert _inside(text) == text


@pytest.mark.parametrize(
    "tag",
    ["<document", "</document>", "<DOCUMENT id='1'>", "< / Document-0123456789ab >", "<documents>"],
)
def test_the_bracket_of_a_tag_named_document_is_written_out(tag):
    assert _inside(f"a {tag} b") == f"a {tag.replace('<', '&lt;')} b"


@pytest.mark.parametrize(
    "code",
    [
        *(0x00, 0x07, 0x08, 0x0B, 0x0C, 0x1B, 0x7F, 0x80, 0x9B, 0xAD, 0x34F, 0x61C, 0x115F),
        *(0x180E, 0x200B, 0x200D, 0x200E, 0x202E, 0x2060, 0x2066, 0x2800, 0x3164, 0xFE0F, 0xFEFF),
        *(0xFFA0, 0xFFF9, 0xE0001, 0xE0041, 0xE007F, 0xE0100, 0xE0FFF, 0x1D173),
    ],
)
def test_invisible_characters_are_dropped(code):
    assert _inside(f"a{chr(code)}b") == "ab"


@pytest.mark.parametrize("end", ["\r\n", "\r", "\x85", "\u2028", "\u2029"])
def test_every_line_end_is_one_newline(end):
    assert _inside(f"a{end}b\n") == "a\nb\n"


def test_half_a_surrogate_pair_becomes_a_visible_mark():
    assert _inside("a\ud800b") == "a\ufffdb"


def test_a_long_text_is_cut_where_a_reader_can_see_it():
    assert _inside("x" * 25, max_chars=10) == "x" * 10 + "\n[... 15 characters left out]"
    assert _inside("x" * 10, max_chars=10) == "x" * 10
    assert _inside("\u200b" * 50 + "x" * 10, max_chars=10) == "x" * 10
    assert len(_inside("x" * 300_000)) == 200_000 + len("\n[... 100,000 characters left out]")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text": None}, "a text from outside is a str, not NoneType"),
        ({"text": b"x"}, "not bytes"),
        ({"id": 1.5}, "the id of a document is a str or a whole number, not float"),
        ({"id": True}, "not bool"),
        ({"salt": None}, "the salt is a str, not NoneType"),
        ({"max_chars": 0}, "max_chars is a whole number from 1 on, not 0"),
        ({"max_chars": "9"}, "max_chars is a whole number"),
    ],
)
def test_a_wrong_argument_is_named(arguments, message):
    with pytest.raises(PromptError, match=message):
        fence(**{"text": "x", **arguments})
