"""A decision wakes the run, and every place that asked says who decided."""

from __future__ import annotations

import json

from ..slack.clicks import buttons
from .house import ALICE, BOB, House, words


def test_a_press_in_the_mail_completes_the_run_and_all_copies_say_so(up: House) -> None:
    up.ask()
    answer = up.press(up.link(ALICE), "approve", comment="ok")
    assert answer.status_code == 200
    assert f"Recorded: approved by {ALICE}" in words(answer)
    result = up.until_ended("r1")
    assert (result["kind"], result["by"]) == ("approved", ALICE)

    [message] = up.slack.posts
    assert f"Approved by {ALICE}" in message["text"]
    assert not buttons(message)
    for each in (ALICE, BOB):
        assert f"Approved by {ALICE}" in up.mails(each)[-1]
        assert "| ok" in up.mails(each)[-1]
    with up.signed_in() as me:
        assert me.inbox() == []


def test_show_says_who_when_how_why_and_what(up: House) -> None:
    up.ask()
    up.press(up.link(ALICE), "approve", comment="ok")
    result = up.until_ended("r1")
    shown = up("show", "r1").stdout
    assert f"approved by {ALICE} (link, email)" in shown
    assert ' UTC, "ok", fingerprint ' in shown
    assert result["digest"][:8] in shown
    record = up.record("r1")
    assert record["digest"] == result["digest"]
    decision = record["decision"]
    assert decision["at"].endswith("+00:00")
    assert (decision["by"], decision["channel"], decision["comment"]) == (ALICE, "email", "ok")
    [line] = up("audit", "r1").stdout.splitlines()
    assert json.loads(line)["decision"] == decision


def test_a_click_in_slack_is_told_in_the_mails_too(up: House) -> None:
    up.ask()
    assert up.click(up.slack.posts[0], "reject", BOB).status_code == 200
    assert up.until_ended("r1")["kind"] == "rejected"
    assert "Rejected by ubob" in up.slack.posts[0]["text"]
    assert "Rejected by ubob" in up.mails(ALICE)[-1]
    assert "already rejected by" in words(up.press(up.link(ALICE), "approve")).lower()
