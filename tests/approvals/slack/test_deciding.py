"""Decisions in Slack: who may, what is recorded, what the message says afterwards."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import urlsplit

import pytest

from perdure.approvals.audit import audit
from perdure.approvals.http import Request
from perdure.approvals.journal import LocalCallbacks
from perdure.approvals.receiver import Receiver
from perdure.approvals.tokens import unseal

from .clicks import buttons, user
from .fake_slack import BROKEN, refused

ALICE, BOB = "slack:T1:UALICE", "slack:T1:UBOB"


def words(message: dict[str, Any]) -> str:
    """Return all text of a message, as one reads it."""
    found = [message["text"]]
    for block in message["blocks"]:
        for each in [block, *block.get("elements", [])]:
            text = each.get("text", "")
            found.append(text if isinstance(text, str) else text["text"])
    return "\n".join(found)


def test_a_click_decides_and_the_message_says_so(ask, press, slack, channel):
    run = ask(approvers=[ALICE], via=[channel])
    assert press("approve", user("UALICE", name="alice")).status == 200
    assert run.result(timeout=5) == {"kind": "approved", "approved": True, "got": None}
    [message] = slack.posts
    assert not buttons(message)
    assert "Approved by alice, 1 Jan 2026, 00:00 UTC" in message["text"]
    assert "Pay 100 EUR" in words(message)
    assert slack.private == []


def test_a_rejection_ends_it(ask, press, slack, channel):
    run = ask(approvers=[ALICE], via=[channel])
    press("reject", "UALICE")
    assert run.result(timeout=5)["kind"] == "rejected"
    assert "Rejected by ualice" in slack.posts[0]["text"]


def test_the_decision_is_recorded_before_slack_is_told_anything(ask, press, slack, channel):
    run = ask(approvers=[ALICE], via=[channel])
    slack.trouble("response_url", BROKEN)
    slack.trouble("chat.update", refused("edit_window_closed"))
    assert press("approve", "UALICE").status == 200
    assert run.result(timeout=5)["approved"] is True


def test_the_second_of_two_is_told_what_the_first_decided(ask, press, slack, channel):
    run = ask(approvers=[ALICE, BOB], via=[channel])
    before = dict(slack.posts[0])
    press("approve", user("UALICE", name="alice"))
    assert press("reject", user("UBOB", name="bob"), before).status == 200
    assert run.result(timeout=5)["kind"] == "approved"
    [private] = slack.private
    assert "approved by alice" in private.lower()
    assert "bob" not in words(slack.posts[0])


def test_somebody_not_listed_is_refused_in_private(ask, press, slack, channel, caplog):
    run = ask(approvers=[ALICE], via=[channel])
    with caplog.at_level(logging.DEBUG):
        assert press("approve", user("UMALLORY", name="mallory")).status == 200
    assert run.info().status == "RUNNING"
    assert slack.private == ["You are not among those who may decide this."]
    assert set(buttons(slack.posts[0])) == {"approve", "reject", "comment", "open"}
    assert "slack:T1:UMALLORY" in caplog.text
    assert buttons(slack.posts[0])["approve"]["value"] not in caplog.text


def test_the_same_user_id_in_another_workspace_is_somebody_else(ask, press, slack, channel):
    run = ask(approvers=[ALICE], via=[channel])
    press("approve", user("UALICE", team="T2"))
    assert run.info().status == "RUNNING"
    press("approve", user("UALICE", team=""))
    assert run.info().status == "RUNNING"
    assert len(slack.private) == 2


def test_a_user_of_another_workspace_decides_if_listed_as_such(ask, press, channel):
    run = ask(approvers=["slack:T2:UCAROL"], via=[channel])
    press("approve", user("UCAROL", team="T2"))
    assert run.result(timeout=5)["approved"] is True


def test_an_approver_named_by_address_decides_in_slack(ask, press, slack, channel):
    slack.people["alice@example.org"] = "UALICE"
    run = ask(approvers=["alice@example.org"], via=[channel])
    press("approve", "UBOB")
    assert run.info().status == "RUNNING"
    press("approve", "UALICE")
    assert run.result(timeout=5)["approved"] is True


def test_a_member_of_a_group_decides(ask, press, slack, channel):
    slack.groups["S3"] = ["UALICE", "UBOB"]
    run = ask(approvers=["slack-group:S3"], via=[channel])
    press("approve", "UBOB")
    assert run.result(timeout=5)["approved"] is True


def test_whoever_left_the_group_before_the_click_is_refused(ask, press, slack, channel):
    slack.groups["S3"] = ["UALICE", "UBOB"]
    run = ask(approvers=["slack-group:T1:S3"], via=[channel])
    slack.groups["S3"] = ["UALICE"]
    press("approve", "UBOB")
    assert run.info().status == "RUNNING"
    assert slack.private == ["You are not among those who may decide this."]


def test_a_group_of_one_team_lets_in_nobody_of_another(ask, press, slack, channel):
    slack.groups["S3"] = ["UBOB"]
    run = ask(approvers=["slack-group:T1:S3"], via=[channel])
    press("approve", user("UBOB", team="T2"))
    assert run.info().status == "RUNNING"


@pytest.mark.parametrize("trouble", [BROKEN, refused("missing_scope"), refused("ratelimited")])
def test_a_group_that_cannot_be_asked_lets_nobody_in(ask, press, slack, channel, trouble):
    slack.groups["S3"] = ["UBOB"]
    run = ask(approvers=["slack-group:T1:S3"], via=[channel])
    slack.trouble("usergroups.users.list", trouble)
    assert press("approve", "UBOB").status == 200
    assert run.info().status == "RUNNING"
    assert "could not be found out" in slack.private[0]
    press("approve", "UBOB")
    assert run.result(timeout=5)["approved"] is True


def test_whoever_asked_may_not_decide(ask, press, slack, channel):
    run = ask(approvers=[ALICE, BOB], via=[channel], requested_by=ALICE)
    press("approve", "UALICE")
    assert run.info().status == "RUNNING"
    assert len(slack.private) == 1
    assert "approve" in buttons(slack.posts[0])
    press("approve", "UBOB")
    assert run.result(timeout=5)["approved"] is True


def test_whoever_asked_may_not_decide_under_another_identity(ask, press, slack, channel):
    slack.people["alice@example.org"] = "UALICE"
    slack.groups["S3"] = ["UALICE", "UBOB"]
    run = ask(
        approvers=[ALICE, "slack-group:T1:S3"], via=[channel], requested_by="alice@example.org"
    )
    press("approve", "UALICE")
    assert run.info().status == "RUNNING"
    assert "whoever asked may not decide" in slack.private[0]
    press("approve", "UBOB")
    assert run.result(timeout=5)["approved"] is True


def test_a_late_click_is_no_decision(ask, press, slack, channel, clock):
    run = ask(approvers=[ALICE], via=[channel], timeout=3600)
    before = dict(slack.posts[0])
    clock.advance(3601)
    press("approve", "UALICE", before)
    assert run.result(timeout=5) == {"kind": "expired", "approved": False, "got": None}
    assert "Time was up" in slack.private[0]
    assert not buttons(slack.posts[0])


def test_a_click_on_a_cancelled_run_is_answered_and_mends_the_message(
    ask, press, slack, channel, runner
):
    run = ask(approvers=[ALICE], via=[channel])
    runner.engine.cancel(run.id)
    runner.settle()
    press("approve", "UALICE")
    assert "withdrawn" in slack.private[0].lower()
    assert not buttons(slack.posts[0])


def test_a_quorum_takes_one_vote_of_each_in_messages_of_their_own(ask, press, slack, direct):
    run = ask(approvers=[ALICE, BOB, "slack:T1:UCAROL"], required=2, via=[direct])
    alice, bob, carol = sorted(slack.posts, key=lambda m: "ABC".index(m["channel"][2]))
    press("approve", user("UALICE", name="alice"), alice)
    assert "recorded" in alice["text"]
    assert not buttons(alice)
    press("approve", "UALICE", bob)
    assert run.info().status == "RUNNING"
    press("approve", user("UBOB", name="bob"), bob)
    assert run.result(timeout=5)["approved"] is True
    for message in (alice, bob, carol):
        assert "Approved by alice, bob" in message["text"]
        assert not buttons(message)


def test_a_dangerous_approval_is_confirmed_in_slacks_own_dialog(ask, press, slack, channel):
    run = ask(approvers=[ALICE], via=[channel], confirm="DEPLOY")
    assert "DEPLOY" in buttons(slack.posts[0])["approve"]["confirm"]["text"]["text"]
    press("approve", "UALICE")
    assert run.result(timeout=5)["approved"] is True


def test_a_forged_button_is_answered_and_decides_nothing(ask, press, slack, channel):
    run = ask(approvers=[ALICE], via=[channel])
    message = dict(slack.posts[0])
    token = buttons(message)["approve"]["value"]
    for forged in ("", "x", token[:-5], token[:20] + "A" + token[21:], "é\x00", token * 3):
        blocks = [dict(each) for each in message["blocks"]]
        actions = next(each for each in blocks if each["type"] == "actions")
        actions["elements"] = [{**each, "value": forged} for each in actions["elements"]]
        assert press("approve", "UALICE", {**message, "blocks": blocks}).status == 200
    assert run.info().status == "RUNNING"
    assert len(slack.private) == 6


def test_a_link_is_no_button_and_a_button_no_link(ask, press, slack, direct, office):
    from perdure.approvals.tokens import BadToken, unseal

    run = ask(approvers=[ALICE], via=[direct])
    [message] = slack.posts
    found = buttons(message)
    link = found["open"]["url"].split("v1~")[1].split("/")[0]
    assert unseal(office.keys, "link", link).execution == run.id
    with pytest.raises(BadToken):
        unseal(office.keys, "link", found["approve"]["value"])
    actions = next(each for each in message["blocks"] if each["type"] == "actions")
    for each in actions["elements"]:
        each["value"] = link
    press("approve", "UALICE", message)
    assert run.info().status == "RUNNING"


def test_an_answer_is_posted_only_to_slack(ask, slack, channel, office, runner):
    from perdure.approvals import SlackIn
    from perdure.approvals.journal import LocalCallbacks

    from .clicks import SECRET, body_of, click, signed

    run = ask(approvers=[ALICE], via=[channel])
    strict = SlackIn(
        office, LocalCallbacks(runner.engine), signing_secret=SECRET, base_url=slack.base_url
    )
    payload = click(slack, slack.posts[0], "approve", user("UALICE"))
    assert strict.handle(signed(body_of(payload), office.now)).status == 200
    assert run.result(timeout=5)["approved"] is True
    assert slack.called("response_url") == []


@pytest.mark.parametrize("order", [("link", "click"), ("click", "link")])
def test_a_person_who_is_named_by_address_and_by_id_counts_once(
    ask, press, slack, direct, office, runner, order
):
    slack.people["alice@example.org"] = "UALICE"
    run = ask(approvers=["alice@example.org", ALICE, BOB], via=[direct], required=2)
    posts = {
        unseal(office.keys, "slack", buttons(each)["approve"]["value"]).who[0].approver: each
        for each in slack.posts
    }
    link = urlsplit(buttons(posts["alice@example.org"])["open"]["url"]).path
    form = {"content-type": "application/x-www-form-urlencoded"}
    receiver = Receiver(office, LocalCallbacks(runner.engine))
    for way in order:
        if way == "click":
            press("approve", "UALICE", posts[ALICE])
        else:
            receiver.handle(Request("POST", link, "", form, b"decision=approve"))
            runner.settle()

    assert run.info().status == "RUNNING"
    [record] = audit(runner.engine, run.id)
    assert [(each.by.identity, each.channel) for each in record.votes] == [(ALICE, "slack")]
