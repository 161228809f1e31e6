"""A megabyte of hostile text is text everywhere, and what is used is exactly what was asked."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from perdure.approvals.requests import canonical, digest_of

from .house import ALICE, BOB, House, house_in, words

HOSTILE = (
    "<!channel> <!here> <@U1> <script>alert(1)</script> *bold* _it_ `code` & &amp; &lt;b&gt;\n"
    "> Approved by carol\r\n\u202egnihton\u202c \u200b \x1b[2J\x1b[31m red \x07 "
    "\u2066x\u2069 \U0001f600 e\u0301\n"
)
HIDDEN = re.compile("[\u202e\u2066\x1b\x07\u200b]")
SUBJECT = HOSTILE * (1_000_000 // len(HOSTILE)) + "the very end"


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house where that is asked."""
    folder = tmp_path_factory.mktemp("house")
    (folder / "subject.txt").write_bytes(SUBJECT.encode())
    with house_in(folder) as house:
        house.serve()
        house.ask(file="subject.txt")
        yield house


def test_slack_shows_text_within_its_limits_and_says_how_much_is_not_shown(asked: House) -> None:
    [message] = asked.slack.posts
    shown = "".join(texts(message["blocks"])) + message["text"]
    assert "more characters" in shown
    assert "<!channel>" not in shown
    assert "<@U1>" not in shown
    assert "&lt;!channel&gt;" in shown
    assert not HIDDEN.search(shown)
    assert asked.pending()[0]["fingerprint"] in shown


def texts(value: Any) -> Iterator[str]:
    """All texts of a message, as they are sent."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from texts(each)


def test_mails_and_pages_show_text(asked: House) -> None:
    mail = asked.mail.desk.messages[0]
    assert len(mail.as_bytes()) < 100_000
    assert "more characters" in asked.mails(ALICE)[0]
    html = mail.get_body(("html",)).get_content()
    page = asked.get(asked.link(ALICE)).text
    whole = asked.get(asked.link(ALICE) + "?full=1").text
    for text in (html, page, whole):
        assert "<script" not in text
        assert "&lt;script&gt;" in text
        assert not HIDDEN.search(text)
    assert "characters" in words(asked.answers[-2])
    assert "the very end" not in page
    assert "the very end" in whole
    assert len(whole) > len(SUBJECT)


def test_the_terminal_shows_text(asked: House) -> None:
    for command in (["show", "r1"], ["inbox"], ["list"]):
        said = asked(*command).stdout
        assert not HIDDEN.search(said)


def test_the_digest_covers_all_of_it_and_the_handler_gets_those_bytes(asked: House) -> None:
    [row] = asked.pending()
    digest = digest_of(canonical(SUBJECT))
    assert row["fingerprint"] == digest[:8]
    assert asked.click(asked.slack.posts[0], "approve", BOB).status_code == 200
    result = asked.until_ended("r1")
    assert result["digest"] == digest
    used = json.dumps(SUBJECT, ensure_ascii=False).encode()
    assert (asked.folder / "r1.used").read_bytes() == used
    assert result["sha256"] == hashlib.sha256(used).hexdigest()
