"""The pages: what they say, that nothing in them runs, and that words of others stay words."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.approvals import pages
from perdure.approvals.callbacks import OpenWait, Page, Standing
from perdure.approvals.outcomes import Outcome
from perdure.approvals.parts import SHOWN
from perdure.approvals.requests import ACTIONS, Link

from .samples import ALICE, ASKED, request_of, standing_of, voted

VOID = {"meta", "input", "link", "br", "hr", "img"}
HOSTILE = "<script>alert(1)</script><!channel> \u202egnp.exe \x1b[31mred\x1b[0m *bold* \"'&"
HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u206f]")
WAIT = OpenWait("run-1", "0a-1b", "cb", "review[3]/editor", "nightly", ASKED, None)


class Read(HTMLParser):
    """A page as a parser sees it: its elements, its text, and that it is well formed."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(page.decode())
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert len(dict(attributes)) == len(attributes), f"an attribute twice in <{tag}>"
        self.elements.append((tag, dict(attributes)))
        if tag in ("dt", "dd"):
            self.texts.append(" ")
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] not in (["style"], ["title"]):
            self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.texts))


def look(**given: Any) -> bytes:
    standing = given.pop("standing", None) or standing_of(request_of())
    return pages.review(standing, **({"nonce": "n0nce", "post_to": "/p", "to": ALICE} | given))


def everything() -> dict[str, bytes]:
    """One of each page."""
    request = request_of({"a": "b"}, allowed=ACTIONS, confirm="go", preview="first")
    quorum = standing_of(
        request_of(approvers=[ALICE, "bob@example.org"], required=2),
    )
    vote, to = voted(request), {"nonce": "n0nce", "to": ALICE}
    return {
        "review": look(standing=standing_of(request), csrf="token"),
        "quorum": look(standing=quorum),
        "wrong": look(outcome=Outcome("invalid", errors={"confirm": "the word is 'go'", "": "x"})),
        "once more": look(once_more=True, filled={"decision": "approve", "comment": "ok"}),
        "result": pages.result(standing_of(request, vote), Outcome("recorded", vote), **to),
        "unknown": pages.result(None, Outcome("unknown"), **to, signed_in=True),
        "wait": pages.wait(WAIT, **to, post_to="/p", csrf="token"),
        "sent": pages.wait(WAIT, **to, post_to="/p", csrf="t", outcome=Outcome("recorded")),
        "inbox": pages.inbox(Page((quorum, WAIT), 2, None), **to, csrf="token"),
        "empty": pages.inbox(Page((), 0, None), **to),
        "login": pages.login(nonce="n0nce", post_to="/login/t", user="user:alice"),
        "signed out": pages.signed_out(nonce="n0nce"),
        **{f"{status}": pages.message(status, nonce="n0nce") for status in (400, 401, 404, 418)},
    }


@pytest.mark.parametrize("name", everything())
def test_no_page_runs_or_loads_anything(name: str) -> None:
    page = everything()[name]
    read = Read(page)
    assert b"<script" not in page.lower()
    for tag, attributes in read.elements:
        assert tag not in ("script", "link", "img", "iframe", "object", "base", "svg"), tag
        assert not [
            each for each in attributes if each.startswith("on") or each in ("src", "style")
        ]
    assert read.all("style") == [{"nonce": "n0nce"}]
    assert b"url(" not in page
    assert b"@import" not in page


@pytest.mark.parametrize("name", everything())
def test_every_page_has_a_language_a_title_one_main_and_one_heading(name: str) -> None:
    page = everything()[name]
    read = Read(page)
    assert read.all("html") == [{"lang": "en"}]
    assert len(read.all("main")) == len(read.all("h1")) or name == "wrong"
    assert re.search(rb"<title>\S.* \xc2\xb7 perdure</title>", page)
    ids = [each["id"] for _, each in read.elements if "id" in each]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("name", everything())
def test_every_field_has_a_label_and_every_form_a_first_button_that_does_nothing(name: str) -> None:
    read = Read(everything()[name])
    named = {each["for"] for each in read.all("label")}
    fields = [each for tag, each in read.elements if tag in ("input", "textarea", "select")]
    assert {each["id"] for each in fields if each.get("type") != "hidden"} == named
    first: dict[str, str | None] | None = {}
    for tag, attributes in read.elements:
        if tag == "form":
            first = None if attributes["action"] not in ("logout", "../../logout") else {}
        elif tag == "button" and first is None:
            first = attributes
            assert {"disabled", "hidden"} <= set(first)
    described = [
        each["aria-describedby"] for _, each in read.elements if "aria-describedby" in each
    ]
    ids = {each["id"] for _, each in read.elements if "id" in each}
    assert {one for each in described for one in (each or "").split()} <= ids


def test_the_page_shows_who_asks_what_by_when_and_what_if_nobody_decides() -> None:
    request = request_of(
        "Dear all,\nhello",
        approvers=[ALICE, "slack-group:T1:S3"],
        requested_by="carol@example.org",
        preview="A mail to all.",
        attachments=(Link(title="the list", url="https://files.example.org/list.csv"),),
    )
    text = Read(look(standing=standing_of(request))).text
    for each in (
        "Waiting for a decision", "Release it?", "nightly", "run-1", "carol@example.org",
        "who may not decide", "alice@example.org", "slack-group:T1:S3 (a group)",
        "3 Dec 2026, 14:02 UTC (+00:00)", "counts as rejected", request.fingerprint,
        "A mail to all.", "Dear all, hello", "the list", "files.example.org",
    ):  # fmt: skip
        assert each in text


def test_a_quorum_shows_its_rule_and_the_votes_so_far() -> None:
    request = request_of(approvers=[ALICE, "bob@example.org", "user:carol"], required=2)
    text = Read(look(standing=standing_of(request, voted(request, comment="fine by me")))).text
    assert "2 of 3 must approve; one reject ends it" in text
    assert "Votes so far: 1 of 2 approved" in text
    assert "alice@example.org \u2013 approved, 26 Nov 2026, 14:07 UTC (+00:00) fine by me" in text
    assert "bob@example.org \u2013 waiting" in text
    assert "Your vote" in text
    patient = request_of(approvers=[ALICE, "b@x.org", "c@x.org"], required=2, veto=False)
    assert "2 rejects end it" in Read(look(standing=standing_of(patient))).text


def test_only_what_is_allowed_can_be_pressed() -> None:
    def offered(*allowed: str) -> set[str | None]:
        read = Read(look(standing=standing_of(request_of(allowed=allowed))))
        return {each["value"] for each in read.all("button") if each.get("name") == "decision"}

    assert offered("approve", "reject") == {"approve", "reject"}
    assert offered("respond") == {"respond"}
    assert offered(*ACTIONS) == set(ACTIONS)


def test_nothing_is_chosen_or_focused_beforehand() -> None:
    read = Read(everything()["review"])
    for tag, attributes in read.elements:
        assert "autofocus" not in attributes
        assert tag != "input" or "checked" not in attributes
    for each in read.all("button"):
        assert "disabled" in each or each.get("name") == "decision" or each.get("class") == "small"


def test_words_of_others_are_shown_and_never_obeyed() -> None:
    request = request_of(
        {HOSTILE: HOSTILE, "n": [HOSTILE]},
        title=HOSTILE,
        preview=HOSTILE,
        attachments=(
            Link(title=HOSTILE, url="https://example.org/?q=<script>"),
            Link(title="js", url="javascript:alert(1)"),
            Link(title="data", url="data:text/html,hello"),
            Link(title="odd", url="http://[broken"),
        ),
        allowed=ACTIONS,
        confirm="<b>",
    )
    standing = replace(standing_of(request), handler=HOSTILE)
    page = look(standing=standing)
    read = Read(page)
    assert b"<script" not in page.lower()
    assert "\u202e" not in re.sub(r"<textarea.*?</textarea>", "", page.decode(), flags=re.DOTALL)
    assert "\x1b" not in page.decode()
    assert "<script>alert(1)</script><!channel> \\u202egnp.exe \\u001b[31mred" in read.text
    followed = [each for each in read.all("a") if not (each["href"] or "").startswith("#")]
    assert [each["href"] for each in followed] == ["https://example.org/?q=<script>"]
    assert followed[0]["rel"] == "noopener noreferrer"


texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=200)


@given(words=texts, subject=texts | st.dictionaries(texts, texts))
def test_no_words_change_the_elements_of_a_page(words: str, subject: Any) -> None:

    def elements(text: str) -> list[str]:
        given = {"title": text, "preview": text or "-", "confirm": text or "-", "allowed": ACTIONS}
        standing = replace(standing_of(request_of(text, **given)), handler=text or "-")
        filled = {"decision": "approve", "comment": text, "confirm": text}
        page = look(standing=standing, to=text, post_to=text, filled=filled)
        assert not HIDDEN.search(re.sub(rb"<(textarea|input)[^>]*>[^<]*", b"", page).decode())
        return [tag for tag, _ in Read(page).elements]

    assert elements(words) == elements("plain")
    Read(look(standing=standing_of(request_of(subject))))


def test_a_comment_and_a_name_cannot_forge_a_status() -> None:
    request = request_of()
    vote = voted(request, "reject", comment=f"{HOSTILE}</dd></main>", display=HOSTILE)
    page = pages.result(standing_of(request, vote), Outcome("recorded", vote), nonce="n", to=ALICE)
    read = Read(page)
    assert read.all("script") == []
    assert "Rejected" in read.text
    assert "\u202e" not in page.decode()


def test_a_lone_surrogate_in_a_name_does_not_break_a_page() -> None:
    assert b"\\ud800" in look(to="a\ud800b")
    assert look(filled={"comment": "\ud800", "decision": "approve"})


def test_a_megabyte_is_cut_with_a_count_and_a_way_to_see_all_of_it() -> None:
    request = request_of("x" * 1_000_000)
    page = look(standing=standing_of(request))
    read = Read(page)
    assert len(page) < SHOWN + 20_000
    assert "900,000 more characters are not shown" in read.text
    assert "?full=1" in [each["href"] for each in read.all("a")]
    assert read.text.count(request.fingerprint) == 2
    whole = look(standing=standing_of(request), full=True)
    assert b"x" * 1_000_000 in whole
    assert b"more characters" not in whole


def test_a_subject_too_long_to_post_is_not_offered_for_editing() -> None:
    request = request_of("ü" * 20_000, allowed=ACTIONS)
    assert "too long to be edited on this page" in Read(look(standing=standing_of(request))).text


def test_data_is_laid_out_and_its_exact_json_is_beside_it() -> None:
    request = request_of({"text": "two\nlines", "yes": "true", "really": True, "none": [], "n": 1})
    page = look(standing=standing_of(request)).decode()
    assert '<span class="words">two\nlines</span>' in page
    assert "<code>&#34;true&#34;</code>" in page
    assert "<code>true</code>" in page
    assert "<code>[]</code>" in page
    assert "&#34;text&#34;: &#34;two\\nlines&#34;" in page
    deep: Any = 1
    for _ in range(50):
        deep = {"a": deep}
    assert "The same as JSON" not in look(standing=standing_of(request_of(deep))).decode()


def test_a_form_with_errors_is_filled_in_again_and_says_what_is_wrong_where() -> None:
    schema = {"properties": {"amount": {"type": "number"}, "why": {"type": "string"}}}
    request = request_of({"amount": 5, "why": "x"}, form=schema, allowed=ACTIONS)
    filled = {"decision": "edit", "f.amount": "abc", "f.why": "<b>\n", "comment": "less"}
    outcome = Outcome("invalid", errors={"amount": "a number, not 'abc'"})
    read = Read(look(standing=standing_of(request), outcome=outcome, filled=filled))
    assert "Nothing is recorded" in read.text
    assert "Amount: a number, not 'abc'" in read.text
    [amount] = [each for each in read.all("input") if each.get("aria-invalid")]
    assert (amount["value"], amount["name"]) == ("abc", "f.amount")
    assert f"#{amount['id']}" in [each["href"] for each in read.all("a")]
    opened = [each for each in read.all("details") if "open" in each]
    assert len(opened) == 1
    assert "less" in read.text


def test_a_textarea_keeps_a_first_empty_line() -> None:
    page = look(standing=standing_of(request_of("\nfirst", allowed=("edit",)))).decode()
    assert ">\n\nfirst</textarea>" in page


def test_a_dangerous_request_asks_for_a_word() -> None:
    read = Read(look(standing=standing_of(request_of(confirm="production"))))
    assert "To approve, type production" in read.text
    [field] = [each for each in read.all("input") if each["name"] == "confirm"]
    assert field["value"] == ""


def test_press_once_more_says_that_nothing_is_recorded_and_keeps_the_comment() -> None:
    text = Read(everything()["once more"]).text
    assert "Press once more" in text
    assert b"<title>Press once more: Release it?" in everything()["once more"]
    assert "Nothing is recorded yet" in text
    assert "ok" in text


@pytest.mark.parametrize(
    ("outcome", "heading"),
    [
        ("recorded", "Approved"),
        ("again", "Recorded before"),
        ("already", "Already decided"),
        ("expired", "Too late: time was up"),
        ("withdrawn", "No longer asked"),
        ("refused", "You may not decide this"),
        ("unavailable", "Not recorded, as far as is known"),
    ],
)
def test_the_result_says_exactly_what_is_recorded(outcome: Any, heading: str) -> None:
    request = request_of()
    vote = voted(request, comment="fine") if outcome in ("recorded", "again", "already") else None
    found = Outcome(outcome, vote)
    read = Read(pages.result(standing_of(request), found, nonce="n", to=ALICE))
    assert heading in read.text
    assert found.text in read.text
    assert ("What is recorded" in read.text) == (vote is not None)
    if vote is not None:
        assert "approved By alice@example.org by having the personal link" in read.text
        assert "26 Nov 2026, 14:07 UTC (+00:00) Through email Comment fine" in read.text
        assert request.fingerprint in read.text


def test_a_voter_is_told_that_a_vote_is_recorded_not_that_it_is_approved() -> None:
    request = request_of(approvers=[ALICE, "bob@example.org"], required=2)
    vote = voted(request)
    outcome = Outcome("recorded", vote, quorum=True)
    read = Read(pages.result(standing_of(request, vote), outcome, nonce="n", to=ALICE))
    assert "Your vote is recorded" in read.text
    assert "Votes so far: 1 of 2 approved" in read.text


def test_an_edited_decision_shows_what_is_approved_now() -> None:
    request = request_of({"amount": 5}, allowed=ACTIONS)
    vote = voted(request, "edit", value={"amount": 3})
    read = Read(
        pages.result(standing_of(request, vote), Outcome("recorded", vote), nonce="n", to=ALICE)
    )
    assert "Approved with changes" in read.text
    assert 'As changed { "amount": 3 }' in read.text


def test_the_inbox_lists_requests_and_waits_with_what_to_know() -> None:
    request = request_of(approvers=[ALICE, "bob@example.org"], required=2)
    entries: tuple[Standing | OpenWait, ...] = (
        standing_of(request, voted(request)),
        replace(WAIT, due=ASKED + timedelta(days=1)),
    )
    read = Read(pages.inbox(Page(entries, 412, 7), nonce="n", to="user:alice", csrf="token"))
    for each in (
        "412 requests wait", "Release it?", "run-1", "26 Nov 2026, 14:02", "3 Dec 2026, 14:02",
        request.fingerprint, "1 of 2 approved", "waits for bob@example.org", "review[3]/editor",
        "27 Nov 2026, 14:02", "UTC (+00:00)", "signed in as alice",
    ):  # fmt: skip
        assert each in read.text
    links = [each["href"] for each in read.all("a")]
    assert links == ["inbox/run-1/0a1b-2c3d", "inbox/run-1/0a-1b", "?after=7"]


def test_a_wait_says_what_each_button_sends() -> None:
    read = Read(everything()["wait"])
    assert "Approve sends true, Reject sends false" in read.text
    assert "No deadline" in read.text
    sent = Read(everything()["sent"])
    assert "the run goes on" in sent.text
    assert [each for each in sent.all("button") if each.get("name") == "decision"] == []


def test_the_style_has_contrast_enough_in_light_and_dark() -> None:
    css = (Path(pages.__file__).parent / "templates" / "style.css").read_text()
    pairs = [
        ("ink", "ground"), ("ink", "card"), ("ink", "sunk"), ("muted", "ground"),
        ("muted", "card"), ("muted", "sunk"), ("link", "ground"), ("link", "card"),
        ("on-yes", "yes"), ("no", "card"), ("on-note", "note"), ("on-bad", "bad"),
        ("on-good", "good"), ("link", "sunk"),
    ]  # fmt: skip
    light, dark = re.findall(r":root \{(.*?)\}", css, flags=re.DOTALL)
    for scheme in (light, dark):
        colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", scheme))
        low = {pair: contrast(*(colours[each] for each in pair)) for pair in pairs}
        assert {pair: ratio for pair, ratio in low.items() if ratio < 4.5} == {}
        assert contrast(colours["edge"], colours["card"]) >= 3
    assert not re.search(r"[^-\w](color|background|border)[^;{}]*#", css.split("}", 3)[3])


def contrast(one: str, other: str) -> float:
    """The contrast of two colours, as the accessibility guidelines of the W3C compute it."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (
            each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)
