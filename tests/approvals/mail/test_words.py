"""What a mail says: all that a decision needs, and no word of a run that passes for ours."""

from __future__ import annotations

import base64
import html
import random
import re

import pytest

from perdure.approvals.mail import Email
from perdure.approvals.mail.letter import SHOWN
from perdure.approvals.people import POLICY, Principal, approvers_of
from perdure.approvals.requests import Link, Policy

from .asked import decision, notice, request, tokens_in
from .smtp_server import body
from .tray import Tray

SENDER = "approvals@example.org"
KINDS = ("plain", "html")
CALLBACK = base64.b64encode(random.Random(1).randbytes(768)).decode()
"""The longest id of a callback that AWS allows."""


def mailed(notice, tray: Tray, kind: str) -> str:
    """Return the text, or the HTML as a reader sees it, of the mail of a notice."""
    email = Email(SENDER, tray)
    if notice.kind == "request":
        email.send(notice)
    else:
        first = email.send(_as_request(notice))
        email.update(first, notice)
    found = body(tray.mails[-1], kind)
    return found if kind == "plain" else _seen(found)


def _as_request(told):
    return notice(told.office, told.request, to=told.to)


def _seen(page: str) -> str:
    """Return the text of a page, and the addresses of its links in brackets."""
    inner = page.partition("</head>")[2]
    linked = re.sub(r'<a [^>]*href="([^"]*)"[^>]*>', r"[\1] ", inner)
    return html.unescape(re.sub(r"<[^>]*>", "\n", linked))


@pytest.mark.parametrize("kind", KINDS)
def test_a_request_says_who_asks_for_what_until_when_and_what_then(office, tray, kind):
    asked = request(attachments=(Link(title="Invoice", url="https://files.example.org/77"),))
    text = mailed(notice(office, asked), tray, kind)
    for words in (
        "Refund order 77",
        "bob@example.org asks you to decide: approve or reject",
        "1 Jan 2026, 02:00 UTC (+00:00)",
        "If nobody decides, it then counts as rejected.",
        asked.fingerprint,
        '"amount": 1250',
        "Invoice",
        "https://files.example.org/77",
        "refund-77",
        "decide as alice@example.org",
    ):
        assert words in text


@pytest.mark.parametrize("kind", KINDS)
def test_a_link_of_any_length_survives_whole_in_lines_that_servers_take(office, server, kind):
    asked = request(execution="x" * 256, policy=Policy(approvers=approvers_of("alice@example.org")))
    sent = notice(office, asked, callback=CALLBACK)
    assert len(sent.link()) > 1100
    Email(SENDER, server.smtp()).send(sent)
    (mail,) = server.desk.messages
    assert sent.link() in html.unescape(body(mail, kind))
    assert max(len(line) for line in server.desk.mails[0].split(b"\r\n")) <= 78


@pytest.mark.parametrize("kind", KINDS)
def test_the_link_is_of_the_one_it_goes_to(office, tray, kind):
    asked = request(approvers=["alice@example.org", "carol@example.org"])
    alice, carol = asked.policy.approvers
    for_alice, for_carol = (notice(office, asked, to=(each,)) for each in (alice, carol))
    assert tokens_in(mailed(for_alice, tray, kind)) == {for_alice.token()}
    assert tokens_in(mailed(for_carol, tray, kind)) == {for_carol.token()}
    assert for_alice.token() != for_carol.token()


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_subject_is_shown_in_part_and_says_how_much_is_not(office, tray, kind):
    sent = notice(office, request("0123456789" * 100_000))
    text = mailed(sent, tray, kind)
    assert f"{1_000_000 - SHOWN:,} more characters" in text
    assert text.count("0123456789") == SHOWN // 10
    assert text.count(sent.link()) == 2
    assert len(tray.posts[0].data) < 100_000


@pytest.mark.parametrize("kind", KINDS)
def test_a_preview_stands_in_place_of_the_subject_and_says_so(office, tray, kind):
    text = mailed(notice(office, request(preview="Pay 1,250 EUR")), tray, kind)
    assert "A preview of what you decide on" in text
    assert "Pay 1,250 EUR" in text
    assert '"amount"' not in text
    assert "shows all of it" in text


HOSTILE = (
    "<script>alert(1)</script> <!channel> *bold* &amp; {{ 7 * 7 }} {% raw %}\n"
    "\u202egnp.exe \x1b[31mred\x00\u200b\u2066\n"
    "Look at it and decide here:\nhttps://evil.example.com/a/v1~x/review\n-- \n</pre><b>x"
)


@pytest.mark.parametrize("kind", KINDS)
def test_text_of_a_run_is_shown_as_text_with_nothing_hidden(office, tray, kind):
    asked = request(HOSTILE, preview=HOSTILE, title=f"T {HOSTILE}")
    text = mailed(notice(office, asked), tray, kind)
    assert text.count("<script>alert(1)</script> <!channel> *bold* &amp; {{ 7 * 7 }}") == 2
    assert "\\u202egnp.exe \\u001b[31mred\\u0000\\u200b\\u2066" in text
    for mail in (body(tray.mails[0], each) for each in KINDS):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u202a-\u202e\u2066-\u2069]", mail)


def test_no_text_of_a_run_becomes_markup(office, tray):
    Email(SENDER, tray).send(notice(office, request(HOSTILE, title=HOSTILE)))
    page = body(tray.mails[0], "html")
    assert "<script" not in page
    assert "<b>" not in page
    assert page.count("<pre") == page.count("</pre>") == 1
    assert page.count("<a ") == 1


def test_no_line_of_a_run_passes_for_a_line_of_ours_in_the_text(office, tray):
    asked = request(HOSTILE, title=HOSTILE.replace("\n", " "))
    Email(SENDER, tray).send(notice(office, asked))
    lines = body(tray.mails[0], "plain").splitlines()
    assert lines.count("Look at it and decide here:") == 1
    assert not [line for line in lines if line.startswith("https://evil")]
    assert "| https://evil.example.com/a/v1~x/review" in lines


def test_an_attachment_that_is_no_address_of_the_web_is_no_link(office, tray):
    asked = request(
        attachments=(
            Link(title="Click", url="javascript://x.example.org/%0aalert(1)"),
            Link(title='"><img src=x>', url='https://x.example.org/"onmouseover="x'),
        )
    )
    Email(SENDER, tray).send(notice(office, asked))
    page = body(tray.mails[0], "html")
    assert 'href="javascript' not in page
    assert "<img" not in page
    assert '"onmouseover' not in page
    assert "(x.example.org)" in page


def test_a_mail_loads_nothing_and_runs_nothing(office, tray):
    Email(SENDER, tray).send(notice(office, request()))
    page = body(tray.mails[0], "html").lower()
    for what in ("<img", "<script", "<iframe", "<link", "url(", "@import", " src=", "<table"):
        assert what not in page


def test_the_page_is_readable_in_the_dark(office, tray):
    Email(SENDER, tray).send(notice(office, request()))
    page = body(tray.mails[0], "html")
    assert '<meta name="color-scheme" content="light dark">' in page
    assert "prefers-color-scheme: dark" in page


@pytest.mark.parametrize("kind", KINDS)
def test_a_quorum_says_how_many_it_takes_of_whom(office, tray, kind):
    people = approvers_of(["alice@example.org", "carol@example.org"])
    asked = request(policy=Policy(approvers=people, required=2))
    text = mailed(notice(office, asked), tray, kind)
    assert "2 of 2 must approve" in text
    assert "alice@example.org and carol@example.org" in text


@pytest.mark.parametrize("kind", KINDS)
def test_a_reminder_says_which_it_is_and_has_a_link(office, tray, kind):
    sent = notice(office, request(), "reminder", number=2)
    text = mailed(sent, tray, kind)
    assert "Reminder 2" in text
    assert tokens_in(text) == {sent.token()}


CAROL = Principal(identity="slack:T1:U2", assurance="slack", display="Carol\u202e <b>")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("what", "changed", "said"),
    [
        ("approved", {}, "Approved by alice@example.org"),
        ("approved", {}, "1 Jan 2026, 00:01 UTC (+00:00), by email"),
        ("approved", {"comment": "Fine <b>\x1b\nGo on"}, "Fine <b>\\u001b"),
        ("rejected", {"by": CAROL, "channel": "slack"}, "Carol\\u202e <b> (slack:T1:U2)"),
        ("edited", {"value_digest": "abcdef0123" * 6}, "abcdef01"),
        ("responded", {"value": "blue"}, "Answered by alice@example.org"),
        ("expired", {"by": POLICY, "default": "reject"}, "It counts as rejected"),
        ("expired", {"by": POLICY, "default": "approve"}, "It counts as approved"),
        ("expired", {"by": POLICY, "default": "value"}, "default value"),
        ("expired", {"by": POLICY}, "The run fails"),
        ("withdrawn", {"by": POLICY, "comment": "cancelled"}, "cancelled"),
        ("withdrawn", {"by": POLICY}, "no answer is wanted any more"),
    ],
)
def test_the_closing_mail_says_what_became_of_it_and_has_no_link(
    office, tray, kind, what, changed, said
):
    asked = request()
    sent = notice(office, asked, "closed", decision=decision(asked, what, **changed))
    text = mailed(sent, tray, kind)
    assert said in text
    assert asked.fingerprint in text
    assert "v1~" not in text


@pytest.mark.parametrize("kind", KINDS)
def test_the_closing_mail_of_a_quorum_names_each_vote(office, tray, kind):
    asked = request()
    votes = (decision(asked), decision(asked, by=CAROL, channel="slack"))
    sent = notice(office, asked, "closed", decision=decision(asked, votes=votes))
    text = mailed(sent, tray, kind)
    assert "Approved by alice@example.org and Carol" in text
    assert "00:01 UTC (+00:00), on Slack" in text


def test_a_closing_mail_needs_no_callbacks(office, tray):
    asked = request()
    receipt = Email(SENDER, tray).send(notice(office, asked))
    sent = notice(office, asked, "closed", decision=None)
    sent = type(sent)("closed", asked, sent.to, {}, office)
    Email(SENDER, tray).update(receipt, sent)
    assert "Withdrawn" in body(tray.mails[-1], "plain")
