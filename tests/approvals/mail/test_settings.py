"""Where the channel gets its sender and its transport from, and what it keeps of them."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from dataclasses import replace

import pytest

from perdure.approvals.channels import Channel
from perdure.approvals.mail import Email, Ses, Smtp
from perdure.approvals.vias import channel_from, channels_of
from perdure.durable import UsageError

from .asked import notice, request
from .tray import Tray

SENDER = "Approvals <approvals@example.org>"
PASSWORD = "canary-password"


def test_it_is_a_channel_of_personal_messages(tray):
    email = Email(SENDER, tray)
    assert isinstance(email, Channel)
    assert (email.name, email.personal) == ("email", True)


def test_the_environment_names_sender_and_mail_server(monkeypatch):
    monkeypatch.setenv("PERDURE_EMAIL_FROM", SENDER)
    monkeypatch.setenv("PERDURE_SMTP_URL", f"smtp://alice:{PASSWORD}@mail.example.org")
    (email,) = channels_of("email")
    assert "mail.example.org" in repr(email)
    assert "approvals@example.org" in repr(email)
    assert PASSWORD not in repr(email)


def test_the_environment_may_name_a_region_of_ses(monkeypatch):
    monkeypatch.setenv("PERDURE_SES_REGION", "eu-west-1")
    assert Email(SENDER).spec()["ses"]["region"] == "eu-west-1"


def test_no_transport_is_an_error_that_names_both_ways():
    with pytest.raises(UsageError, match="PERDURE_SMTP_URL.*PERDURE_SES_REGION"):
        Email(SENDER)


def test_no_sender_is_an_error_that_names_the_cure(tray):
    with pytest.raises(UsageError, match="PERDURE_EMAIL_FROM"):
        Email(transport=tray)


@pytest.mark.parametrize(
    "sender",
    [
        "approvals",
        "a@b@c",
        "Approvals <approvals>",
        "A\r\nBcc: eve@example.org <a@example.org>",
        "a@example.org\r\nBcc: eve@example.org",
        "=?utf-8?q?=0D=0ABcc:_eve@example.org?= <a@example.org>",
        "a@example.org, b@example.org",
    ],
)
@pytest.mark.parametrize("what", ["sender", "reply_to"])
def test_an_address_that_is_none_or_more_than_one_is_refused_by_name(tray, sender, what):
    with pytest.raises(UsageError, match=what):
        Email(**{"sender": SENDER, "transport": tray, what: sender})


@pytest.mark.parametrize(
    "transport",
    [
        Smtp("mail.example.org", 2525, "alice", PASSWORD, ca_file="/etc/ca.pem", timeout=3),
        Smtp("mail.example.org", tls="none"),
        Ses("eu-west-1", "https://ses.example.org", "approvals"),
        Ses(),
    ],
)
def test_a_spec_builds_the_channel_again_without_holding_a_secret(transport, monkeypatch):
    email = Email(SENDER, transport, "bob@example.org")
    spec = json.loads(json.dumps(email.spec()))
    assert PASSWORD not in json.dumps(spec)
    monkeypatch.setenv("PERDURE_SMTP_PASSWORD", PASSWORD)
    again = channel_from(spec)
    assert repr(again) == repr(email)
    assert again.spec() == email.spec()


def test_the_password_of_a_spec_comes_from_the_address_in_the_environment_too(monkeypatch):
    monkeypatch.setenv("PERDURE_SMTP_URL", f"smtp://alice:{PASSWORD}@mail.example.org")
    assert Smtp.from_spec(Smtp("mail.example.org", 587, "alice", "x").spec()).password == PASSWORD


def test_the_password_of_another_server_is_never_used_for_a_spec(monkeypatch):
    monkeypatch.setenv("PERDURE_SMTP_URL", f"smtp://alice:{PASSWORD}@mail.example.org")
    with pytest.raises(UsageError, match="PERDURE_SMTP_PASSWORD"):
        Smtp.from_spec(Smtp("evil.example.com", 587, "alice", "x").spec())


def test_a_transport_of_your_own_has_no_spec(tray):
    assert Email(SENDER, tray).spec() is None


@pytest.mark.parametrize(
    ("base_url", "warns"),
    [
        ("http://127.0.0.1:18400", True),
        ("http://localhost:18401", True),
        ("http://[::1]:18402", True),
        ("https://approvals.example.org/mail-test", False),
    ],
)
def test_links_that_open_on_this_machine_alone_are_warned_about_once(
    office, caplog, base_url, warns
):
    local = replace(office, base_url=base_url)
    email = Email(SENDER, Tray())
    for _ in range(2):
        email.send(notice(local, request()))
    warned = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert len(warned) == (1 if warns else 0)
    if warns:
        assert "PERDURE_BASE_URL" in warned[0].getMessage()


def test_making_the_channel_loads_nothing_that_a_replay_does_not_need():
    code = (
        "import sys; from perdure.approvals import Email, Ses, Smtp; "
        "Email('a@example.org', Smtp('h', 25, tls='none')); Email('a@example.org', Ses()); "
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"boto3", "botocore", "jinja2", "smtplib", "slack_sdk", "rich"}
    assert not heavy & set(done.stdout.split())
