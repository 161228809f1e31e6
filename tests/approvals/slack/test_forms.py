"""Comments, edits and answers in Slack's forms."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from perdure.approvals.slack import modals
from perdure.approvals.tokens import unseal

from .clicks import body_of, sent_off, signed, user
from .fake_slack import DROPPED, refused

ALICE, BOB = "slack:T1:UALICE", "slack:T1:UBOB"


class Payment(BaseModel):
    """A payment."""

    payee: str
    amount: float
    currency: Literal["EUR", "USD"] = "EUR"
    urgent: bool = False
    due: date | None = None


@pytest.fixture
def send(receiver, office, runner) -> Callable[..., Any]:
    """Sends a form off; returns Slack's answer to it, None if that is to close it."""

    def send(view: dict[str, Any], who: str | dict[str, str], **filled: Any) -> Any:
        person = user(who) if isinstance(who, str) else who
        given = {name.replace("__", "."): value for name, value in filled.items()}
        payload = sent_off(view, person, given)
        response = receiver.handle(signed(body_of(payload), office.now))
        assert response.status == 200
        runner.settle()
        return json.loads(response.body) if response.body else None

    return send


def test_a_rejection_with_a_comment(ask, press, send, slack, channel, runner):
    run = ask(approvers=[ALICE], via=[channel])
    assert press("comment", "UALICE").status == 200
    [view] = slack.views
    assert run.info().status == "RUNNING"
    assert send(view, "UALICE", decision="reject", comment="Too much <b>") is None
    assert run.result(timeout=5)["kind"] == "rejected"
    shown = json.dumps(slack.posts[0]["blocks"])
    assert "Comment: Too much &lt;b&gt;" in shown


def test_a_form_without_a_choice_is_shown_again(ask, press, send, slack, channel):
    run = ask(approvers=[ALICE], via=[channel])
    press("comment", "UALICE")
    answer = send(slack.views[0], "UALICE", comment="Yes?")
    assert answer == {"response_action": "errors", "errors": {"decision": "Choose one."}}
    assert run.info().status == "RUNNING"


def test_an_edit_yields_the_edited_subject(ask, press, send, slack, channel):
    run = ask({"amount": 100}, approvers=[ALICE], via=[channel], allow=("approve", "edit"))
    press("edit", "UALICE")
    [view] = slack.views
    field = next(each for each in view["blocks"] if each.get("block_id") == "value")
    assert json.loads(field["element"]["initial_value"]) == {"amount": 100}
    assert send(view, "UALICE", value='{"amount": 90}', comment="Less.") is None
    assert run.result(timeout=5) == {"kind": "edited", "approved": True, "got": {"amount": 90}}
    assert "Approved with changes by" in slack.posts[0]["text"]


def test_an_edit_that_does_not_fit_shows_what_is_wrong(ask, press, send, slack, channel):
    subject = Payment(payee="Example Ltd.", amount=100)
    run = ask(subject, approvers=[ALICE], via=[channel], allow=("approve", "edit"), form=Payment)
    press("edit", "UALICE")
    [view] = slack.views
    wrong = {"f__payee": "Example Ltd.", "f__amount": "much", "f__currency": "EUR"}
    answer = send(view, "UALICE", **wrong)
    assert answer["response_action"] == "errors"
    assert list(answer["errors"]) == ["f.amount"]
    assert run.info().status == "RUNNING"
    right = {**wrong, "f__amount": "90.5", "f__urgent": "yes", "f__due": "2026-02-01"}
    assert send(view, "UALICE", **right) is None
    got = run.result(timeout=5)["got"]
    assert (got["amount"], got["urgent"], got["due"]) == (90.5, True, "2026-02-01")


def test_an_answer_goes_to_the_run(ask, press, send, slack, channel):
    run = ask("Which colour?", approvers=[ALICE], via=[channel], allow=("respond",))
    press("respond", "UALICE")
    assert send(slack.views[0], "UALICE", value="Green & blue") is None
    assert run.result(timeout=5) == {
        "kind": "responded",
        "approved": False,
        "got": "Green & blue",
    }


def test_a_form_opens_only_for_those_who_may_decide(ask, press, slack, channel):
    ask(approvers=[ALICE], via=[channel])
    press("comment", "UMALLORY")
    assert slack.views == []
    assert slack.private == ["You are not among those who may decide this."]


def test_a_form_sent_off_by_somebody_else_is_refused(ask, press, send, slack, channel):
    run = ask(approvers=[ALICE], via=[channel])
    press("comment", "UALICE")
    for who in (user("UMALLORY"), user("UALICE", team="T2")):
        answer = send(slack.views[0], who, decision="approve")
        assert answer["response_action"] == "update"
        assert "not among those" in json.dumps(answer["view"])
    assert run.info().status == "RUNNING"


def test_a_form_sent_off_too_late_says_what_was_decided(ask, press, send, slack, channel):
    run = ask(approvers=[ALICE, BOB], via=[channel])
    press("comment", "UBOB")
    press("approve", user("UALICE", name="alice"))
    answer = send(slack.views[0], "UBOB", decision="reject")
    assert "pproved by alice" in json.dumps(answer["view"])
    assert run.result(timeout=5)["kind"] == "approved"


def test_a_form_asked_for_too_late_says_what_was_decided(ask, press, slack, channel):
    run = ask(approvers=[ALICE, BOB], via=[channel])
    before = dict(slack.posts[0])
    press("approve", user("UALICE", name="alice"))
    press("comment", "UBOB", before)
    assert slack.views == []
    assert "lready approved by alice" in slack.private[0]
    assert run.result(timeout=5)["approved"] is True


@pytest.mark.parametrize("trouble", [refused("expired_trigger_id"), DROPPED])
def test_a_form_that_slack_does_not_open_is_replaced_by_the_page(
    ask, press, slack, channel, office, trouble
):
    run = ask(approvers=[ALICE, BOB], via=[channel])
    slack.trouble("views.open", trouble)
    assert press("comment", "UALICE").status == 200
    [private] = slack.private
    assert "Decide on the page" in private
    link = private.split("v1~")[1].split("/review")[0]
    assert [each.approver for each in unseal(office.keys, "link", link).who] == [ALICE]
    assert run.info().status == "RUNNING"


def test_a_member_of_a_group_gets_no_link_in_the_groups_name(ask, press, slack, channel):
    slack.groups["S3"] = ["UALICE"]
    run = ask(approvers=["slack-group:S3"], via=[channel])
    slack.trouble("views.open", refused("expired_trigger_id"))
    press("comment", "UALICE")
    assert f"https://approvals.example.org/inbox/{run.id}/" in slack.private[0]
    assert "v1~" not in slack.private[0]


def test_a_subject_too_long_to_edit_in_slack_is_edited_on_the_page(ask, press, slack, channel):
    ask("x" * 5000, approvers=[ALICE], via=[channel], allow=("approve", "edit"))
    press("edit", "UALICE")
    assert slack.views == []
    assert "Decide on the page" in slack.private[0]


def test_a_word_to_confirm_is_typed_in_a_form(ask, press, send, slack, channel):
    run = ask(approvers=[ALICE], via=[channel], confirm="PAY")
    press("comment", "UALICE")
    [view] = slack.views
    answer = send(view, "UALICE", decision="approve", confirm="pay?")
    assert "confirm" in answer["errors"]
    assert run.info().status == "RUNNING"
    assert send(view, "UALICE", decision="approve", confirm="PAY") is None
    assert run.result(timeout=5)["approved"] is True


def test_a_buttons_token_is_no_forms(ask, press, send, slack, channel):
    from .clicks import buttons

    run = ask(approvers=[ALICE], via=[channel])
    value = buttons(slack.posts[0])["approve"]["value"]
    press("comment", "UALICE")
    [view] = slack.views
    for metadata in (modals.packed(value, None), "", "{}", "[]", '{"token": 7}', "not json"):
        answer = send({**view, "private_metadata": metadata}, "UALICE", decision="approve")
        assert answer["response_action"] == "update"
    assert run.info().status == "RUNNING"


def test_what_a_form_brings_back_is_within_the_limit():
    url = "https://hooks.slack.com/actions/T1/1/x"
    assert modals.unpacked(modals.packed("t" * 2000, url)) == ("t" * 2000, url)
    packed = modals.packed("t" * 2900, url + "x" * 1000)
    assert len(packed) <= 3000
    assert modals.unpacked(packed) == ("t" * 2900, None)


def test_whoever_asked_gets_no_form(ask, press, slack, channel):
    slack.people["alice@example.org"] = "UALICE"
    run = ask(approvers=[ALICE, BOB], via=[channel], requested_by="alice@example.org")
    press("comment", "UALICE")
    assert slack.views == []
    assert "whoever asked may not decide" in slack.private[0]
    assert run.info().status == "RUNNING"


def test_one_vote_of_a_quorum_is_not_told_as_its_decision(ask, press, send, slack, direct):
    ask(approvers=[ALICE, BOB], required=2, via=[direct])
    [alice] = [each for each in slack.posts if each["channel"] == "DUALICE"]
    before = json.loads(json.dumps(alice))
    press("comment", "UALICE", before)
    assert send(slack.views[0], "UALICE", decision="approve") is None
    press("comment", "UALICE", before)
    assert len(slack.views) == 1
    assert "Approved" not in json.dumps(alice)
    assert "vote" in alice["text"]
