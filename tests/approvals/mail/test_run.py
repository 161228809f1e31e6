"""A run that asks by mail, from the question to the click and the mail that closes it."""

from __future__ import annotations

import logging
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from perdure.approvals import ApprovalError, Email, await_approval
from perdure.approvals.journal import LocalCallbacks
from perdure.approvals.receiver import Receiver
from perdure.approvals.withdrawing import cancel
from perdure.durable import ExecutionFailedError, durable_execution
from perdure.durable.testing import Runner, check_replay

from ..ways import post
from .asked import LINK, tokens_in
from .smtp_server import PASSWORD, body, read

SENDER = "approvals@example.org"
ALICE, CAROL = "alice@example.org", "carol@example.org"


def asking(server=None, **options):
    """Return a handler that asks by mail."""
    via = options.pop("via", None) or [Email(SENDER, server.smtp())]
    given = {"approvers": [ALICE], "via": via, "timeout": 7200}

    @durable_execution(name="refund")
    def handler(event, context):
        decision = await_approval(context, {"amount": 1250}, **{**given, **options})
        return {"kind": decision.kind, "by": decision.by.identity}

    return handler


@pytest.fixture
def drive(tmp_path, clock, office):
    """Start a handler on a real engine, and let it run until it waits."""
    runners = []

    def start(handler):
        runner = Runner(tmp_path / "journal.db", [handler], clock=clock)
        runners.append(runner.__enter__())
        run = runner.start(handler, {}, id="refund-77")
        runner.settle()
        return runner, run

    yield start
    for runner in runners:
        runner.__exit__(None, None, None)


def press(runner, office, mail, decision, **form):
    """Press a button on the page behind the link in a mail."""
    found = LINK.search(body(mail, "plain"))
    assert found is not None
    receiver = Receiver(office, LocalCallbacks(runner.engine))
    return post(receiver, urlsplit(found[0]).path, decision=decision, **form)


def kept(folder: Path) -> bytes:
    """Return all that the engine wrote."""
    return b"".join(each.read_bytes() for each in folder.rglob("*") if each.is_file())


def test_the_click_in_the_mail_decides_and_the_thread_says_so(server, drive, office):
    runner, run = drive(asking(server))
    (asked,) = server.desk.messages
    answer = press(runner, office, asked, "approve", comment="Fine")
    assert answer.status == 200
    runner.settle()
    assert run.result(timeout=5) == {"kind": "approved", "by": ALICE}
    _, closing = server.desk.messages
    assert closing["In-Reply-To"] == asked["Message-ID"]
    assert f"Approved by {ALICE}" in body(closing, "plain")
    assert "| Fine" in body(closing, "plain")
    check_replay(run)
    assert server.desk.offered == 2


def test_a_server_that_is_busy_gets_the_mail_later_once(server, drive):
    server.desk.answers = ["451 busy", "421 busy"]
    runner, run = drive(asking(server))
    assert server.desk.mails == []
    for _ in range(2):
        runner.clock.advance(60)
        runner.settle()
    assert (server.desk.offered, len(server.desk.mails)) == (3, 1)
    runner.run_until_idle()
    assert run.result(timeout=5)["kind"] == "expired"


def test_a_server_nobody_vouches_for_ends_the_run_without_the_password(
    server, drive, tmp_path, caplog, capfd
):
    caplog.set_level(logging.DEBUG)
    distrusting = [Email(SENDER, server.smtp(ca_file=None))]
    runner, run = drive(asking(server, via=distrusting))
    runner.run_until_idle()
    with pytest.raises(ExecutionFailedError, match="not trusted") as caught:
        run.result(timeout=5)
    assert server.desk.passwords == []
    assert ApprovalError.__name__ in str(caught.value.error_type)
    seen = [str(caught.value), caplog.text, *capfd.readouterr(), kept(tmp_path).decode("latin-1")]
    assert not [each for each in seen if PASSWORD in each]


def test_no_token_and_no_password_is_kept_or_logged(server, drive, office, tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG, "perdure")
    runner, run = drive(asking(server, remind=[600]))
    runner.clock.advance(700)
    runner.settle()
    press(runner, office, server.desk.messages[1], "reject")
    runner.settle()
    assert run.result(timeout=5)["kind"] == "rejected"
    tokens = set().union(*(tokens_in(body(each, "plain")) for each in server.desk.messages))
    assert len(tokens) == 2
    assert server.desk.messages[0]["Message-ID"].encode() in kept(tmp_path)
    seen = kept(tmp_path).decode("latin-1") + "".join(capfd.readouterr())
    seen += "".join(each.getMessage() for each in caplog.records if "perdure" in each.name)
    for secret in (PASSWORD, *(each.rpartition(".")[2] for each in tokens)):
        assert secret not in seen


def test_a_reminder_comes_in_the_thread_and_its_link_decides_too(server, drive, office):
    runner, run = drive(asking(server, remind=[600]))
    runner.clock.advance(700)
    runner.settle()
    asked, reminder = server.desk.messages
    assert reminder["References"] == asked["Message-ID"]
    assert press(runner, office, reminder, "approve").status == 200
    assert press(runner, office, asked, "reject").status in (200, 409, 410)
    runner.settle()
    assert run.result(timeout=5) == {"kind": "approved", "by": ALICE}


def test_each_voter_of_a_quorum_gets_a_link_of_their_own(server, drive, office):
    runner, run = drive(asking(server, approvers=[ALICE, CAROL], required=2))
    mails = {each["To"]: each for each in server.desk.messages}
    assert set(mails) == {ALICE, CAROL}
    for mail in mails.values():
        press(runner, office, mail, "approve")
        runner.settle()
    assert run.result(timeout=5)["kind"] == "approved"
    closing = server.desk.messages[2:]
    assert {each["To"] for each in closing} == {ALICE, CAROL}
    for mail in closing:
        assert f"Approved by {ALICE} and {CAROL}" in body(mail, "plain")


def test_one_who_cannot_be_told_does_not_keep_the_others_from_deciding(server, drive, office):
    server.desk.refused = {ALICE: "550 no such mailbox"}
    runner, run = drive(asking(server, approvers=[ALICE, CAROL]))
    (mail,) = server.desk.messages
    assert press(runner, office, mail, "approve").status == 200
    runner.settle()
    assert run.result(timeout=5) == {"kind": "approved", "by": CAROL}


def test_a_cancelled_run_says_so_by_mail_from_what_the_journal_keeps(
    server, drive, office, monkeypatch
):
    monkeypatch.setenv("PERDURE_SMTP_PASSWORD", PASSWORD)
    runner, run = drive(asking(server))
    done = cancel(runner.engine, run.id, "the order was cancelled", office=office)
    assert done.untold == ()
    asked, closing = server.desk.messages
    assert closing["In-Reply-To"] == asked["Message-ID"]
    assert "Withdrawn" in body(closing, "plain")
    assert "the order was cancelled" in body(closing, "plain")


def test_a_run_that_could_tell_nobody_is_resumed_once_the_cause_is_mended(server, drive, office):
    server.desk.answers = ["554 not now"]
    runner, run = drive(asking(server))
    with pytest.raises(ExecutionFailedError, match="not now"):
        run.result(timeout=5)
    runner.engine.resume(run.id)
    runner.settle()
    (mail,) = server.desk.messages
    press(runner, office, mail, "approve")
    runner.settle()
    assert run.result(timeout=5)["kind"] == "approved"


def test_the_address_decides_for_one_who_is_known_by_another_name_first(server, drive, office):
    runner, run = drive(asking(server, approvers=[("slack:T1:U2", ALICE)]))
    (mail,) = server.desk.messages
    assert press(runner, office, mail, "approve").status == 200
    runner.settle()
    assert run.result(timeout=5) == {"kind": "approved", "by": ALICE}


def test_a_run_asks_through_ses_as_well(moto, drive, office):
    ses = moto.ses()
    ses.client().create_email_identity(EmailIdentity=SENDER)
    runner, run = drive(asking(via=[Email(SENDER, ses)]))
    (asked,) = [read(each["raw_data"].encode()) for each in moto.raw_mails()]
    assert press(runner, office, asked, "approve").status == 200
    runner.settle()
    assert run.result(timeout=5) == {"kind": "approved", "by": ALICE}
    closing = read(moto.raw_mails()[1]["raw_data"].encode())
    assert closing["In-Reply-To"] == asked["Message-ID"]
