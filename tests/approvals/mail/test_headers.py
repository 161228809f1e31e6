"""The headers of a mail: a thread that holds together, and nothing that text can add to."""

from __future__ import annotations

from email.utils import parsedate_to_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.approvals.keys import Keys
from perdure.approvals.mail import Email
from perdure.approvals.mail.letter import one_line
from perdure.approvals.office import Office
from perdure.approvals.people import Approver
from perdure.approvals.requests import Policy
from perdure.durable.testing import ManualClock

from .asked import ID, decision, notice, request
from .tray import Tray

SENDER = "Approvals <approvals@example.org>"
EXPECTED = {
    "from", "to", "subject", "date", "message-id", "auto-submitted", "mime-version", "content-type"
}  # fmt: skip


def test_a_mail_says_what_it_is(tray, office):
    Email(SENDER, tray, reply_to="Bob <bob@example.org>").send(notice(office, request()))
    (mail,) = tray.mails
    assert mail["From"] == SENDER
    assert mail["To"] == "alice@example.org"
    assert mail["Reply-To"] == "Bob <bob@example.org>"
    assert mail["Subject"] == "Approval needed: Refund order 77"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Message-ID"] == f"<{ID}.1@example.org>"
    assert "In-Reply-To" not in mail
    assert mail.get_content_type() == "multipart/alternative"
    assert [each.get_content_type() for each in mail.iter_parts()] == ["text/plain", "text/html"]


def test_the_date_is_that_of_the_office(tray, office, clock):
    clock.advance(90)
    Email(SENDER, tray).send(notice(office, request()))
    assert parsedate_to_datetime(tray.mails[0]["Date"]) == clock.moment()


def test_the_same_mail_has_the_same_id_at_each_attempt_and_each_approver_another(tray, office):
    asked = request(approvers=["alice@example.org", "carol@example.org"])
    email = Email(SENDER, tray)
    alice, carol = asked.policy.approvers
    receipts = [
        email.send(notice(office, asked, to=(alice,))),
        email.send(notice(office, asked, to=(alice,), attempt=2)),
        email.send(notice(office, asked, to=(carol,))),
    ]
    first, again, other = [each["Message-ID"] for each in tray.mails]
    assert first == again != other
    assert [each.ref["message_id"] for each in receipts] == [first, again, other]


def test_reminders_and_the_closing_mail_stand_in_the_thread_of_the_request(tray, office):
    asked, email = request(), Email(SENDER, tray)
    receipt = email.send(notice(office, asked))
    email.update(receipt, notice(office, asked, "reminder", number=1))
    email.update(receipt, notice(office, asked, "reminder", number=2))
    email.update(receipt, notice(office, asked, "closed", decision=decision(asked)))
    request_mail, *later = tray.mails
    assert len({each["Message-ID"] for each in tray.mails}) == 4
    for mail in later:
        assert mail["In-Reply-To"] == mail["References"] == request_mail["Message-ID"]
        assert mail["Subject"] == f"Re: {request_mail['Subject']}"
        assert mail["To"] == "alice@example.org"


def test_long_domains_do_not_break_the_ids_of_a_thread(tray, office):
    asked = request()
    email = Email(f"approvals@{'a' * 60}.{'b' * 60}.example.org", tray)
    receipt = email.send(notice(office, asked))
    email.update(receipt, notice(office, asked, "reminder", number=1))
    text = tray.posts[1].data.decode()
    assert f"In-Reply-To: {receipt.ref['message_id']}\r\n" in text
    assert f"References: {receipt.ref['message_id']}\r\n" in text


def test_a_receipt_holds_the_address_and_the_id_and_no_token(tray, office):
    sent = notice(office, request())
    receipt = Email(SENDER, tray).send(sent)
    assert receipt.to == ("alice@example.org",)
    assert receipt.ref == {"message_id": f"<{ID}.1@example.org>", "to": "alice@example.org"}
    assert sent.token()[:20] not in receipt.model_dump_json()


def test_the_token_stands_in_no_header(tray, office):
    sent = notice(office, request())
    Email(SENDER, tray).send(sent)
    head, _, _ = tray.posts[0].data.partition(b"\r\n\r\n")
    assert b"v1~" not in head
    assert sent.token()[:20].encode() not in head


@pytest.mark.parametrize(
    "title",
    [
        "Pay\r\nBcc: eve@example.org",
        "Pay\nBcc: eve@example.org\n\nHello",
        "Pay\u2028Bcc: eve@example.org",
        "Pay\x0bBcc: eve@example.org",
        "Pay\x85Bcc: eve@example.org",
        "Pay\x00\x1b[31m\u202e",
        "=?utf-8?q?Pay=0D=0ABcc:_eve@example.org?=",
    ],
)
def test_a_title_cannot_add_a_header(tray, office, title):
    Email(SENDER, tray).send(notice(office, request(title=title)))
    (mail,) = tray.mails
    assert {each.lower() for each in mail} == EXPECTED
    assert mail["Subject"].startswith("Approval needed: ")
    assert mail["To"] == "alice@example.org"
    assert not {"\r", "\n", "\x00", "\x1b", "\u202e"} & set(mail["Subject"])


@settings(max_examples=200, deadline=None)
@given(st.text(min_size=1, max_size=120))
def test_any_title_arrives_as_it_is_shown(title):
    office = Office(Keys("k" * 32), "https://approvals.example.org", ManualClock())
    tray = Tray()
    Email(SENDER, tray).send(notice(office, request(title=title)))
    (mail,) = tray.mails
    shown = f"Approval needed: {one_line(title)}".replace("=?", "= ?")
    assert "".join(mail["Subject"].split()) == "".join(shown.split())
    assert {each.lower() for each in mail} == EXPECTED
    assert max(len(line) for line in tray.posts[0].data.split(b"\r\n")) < 998


def test_a_long_title_is_cut_in_the_subject_alone(tray, office):
    Email(SENDER, tray).send(notice(office, request(title="long " * 90)))
    (mail,) = tray.mails
    assert len(mail["Subject"]) < 220
    assert mail["Subject"].endswith("…")


@pytest.mark.parametrize(
    "address",
    [
        "a\x00b@example.org",
        "a(b)@example.org",
        "a;b@example.org",
        "é@example.org",
        "a@exa_mple.org",
    ],
)
def test_an_address_that_servers_would_not_take_is_not_reached(tray, address):
    assert not Email(SENDER, tray).reaches(Approver(identities=(address,)))


def test_an_address_at_a_domain_in_another_script_is_reached(tray, office):
    asked = request(policy=Policy(approvers=(Approver(identities=("alice@bücher.example",)),)))
    Email(SENDER, tray).send(notice(office, asked))
    assert tray.posts[0].to == "alice@xn--bcher-kva.example"
    assert tray.mails[0]["To"] == "alice@xn--bcher-kva.example"


def test_who_has_no_address_is_not_reached_and_a_second_identity_counts(tray, office):
    email = Email(SENDER, tray)
    assert not email.reaches(Approver(identities=("slack:T1:U2",)))
    both = Approver(identities=("slack:T1:U2", "alice@example.org"))
    assert email.reaches(both)
    receipt = email.send(notice(office, request(policy=Policy(approvers=(both,)))))
    assert (receipt.to, receipt.ref["to"]) == (("slack:T1:U2",), "alice@example.org")


def test_a_mail_that_was_sent_cannot_be_looked_for(tray, office, clock):
    assert Email(SENDER, tray).find(notice(office, request()), clock.moment()) is None
