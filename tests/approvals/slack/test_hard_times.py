"""Processes that die, people who click at once, a Slack that hangs; and no secret left anywhere."""

from __future__ import annotations

import json
import logging
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from perdure.approvals import Receiver, Slack, SlackIn, await_approval
from perdure.approvals.journal import LocalCallbacks
from perdure.approvals.slack import replies
from perdure.durable import durable_execution
from perdure.durable.testing import Runner

from .clicks import SECRET, body_of, buttons, click, signed, user
from .fake_slack import APP_TOKEN, TOKEN, FakeSlack, Trouble

ALICE, BOB = "slack:T1:UALICE", "slack:T1:UBOB"


def handler_asking(via: Slack) -> Any:
    @durable_execution(name="asking")
    def handler(event: Any, context: Any) -> Any:
        decision = await_approval(context, "Pay 100 EUR", approvers=[ALICE], via=[via])
        return decision.kind

    return handler


@pytest.mark.parametrize(("history", "copies"), [(True, 1), (False, 2)])
def test_a_process_that_dies_before_it_noted_its_message(
    tmp_path, clock, slack, office, history, copies
):
    """Slack took the message; the engine dies before the step is recorded, and starts again."""
    handler = handler_asking(Slack("C1", base_url=slack.base_url, history=history))
    with Runner(tmp_path / "journal.db", handlers=[handler], clock=clock) as runner:
        slack.trouble("chat.postMessage", Trouble(then=lambda: runner.crash_after(0)))
        run = runner.start(handler, {})
        runner.settle()
        runner.restart()
        for _ in range(4):
            runner.settle()
            clock.advance(60)
        assert len(slack.posts) == copies
        receiver = SlackIn(
            office,
            LocalCallbacks(runner.engine),
            signing_secret=SECRET,
            base_url=slack.base_url,
            response_hosts=[slack.host],
        )
        payload = click(slack, slack.posts[0], "approve", user("UALICE", name="alice"))
        assert receiver.handle(signed(body_of(payload), office.now)).status == 200
        runner.settle()
        assert runner.engine.get(run.id).result(timeout=10) == "approved"
        for message in slack.posts:
            assert "Approved by alice" in message["text"]
            assert not buttons(message)


def test_of_fifty_clicks_at_once_one_decides_and_all_hear_of_it(
    ask, receiver, slack, channel, office, runner
):
    run = ask(approvers=[ALICE, BOB], via=[channel])
    message = json.loads(json.dumps(slack.posts[0]))
    people = [user("UALICE", name="alice"), user("UBOB", name="bob")]
    gate = threading.Barrier(10)

    def one(n: int) -> int:
        payload = click(slack, message, ("approve", "reject")[n // 2 % 2], people[n % 2])
        if n < 10:
            gate.wait(10)
        return receiver.handle(signed(body_of(payload), office.now)).status

    with ThreadPoolExecutor(10) as pool:
        assert Counter(pool.map(one, range(50))) == {200: 50}
    runner.settle()
    kind = run.result(timeout=10)["kind"]
    completed = [
        each for each in runner.engine.history(run.id) if each["EventType"] == "CallbackSucceeded"
    ]
    assert len(completed) == 1
    assert slack.private
    for text in slack.private:
        assert kind in text.lower()
    assert kind in slack.posts[0]["text"].lower()


def test_a_group_that_is_not_named_in_time_lets_nobody_in(ask, press, slack, channel, monkeypatch):
    monkeypatch.setattr(replies, "SECONDS", 0.2)
    slack.groups["S3"] = ["UBOB"]
    run = ask(approvers=["slack-group:T1:S3"], via=[channel])
    over = threading.Event()
    slack.trouble("usergroups.users.list", Trouble(then=lambda: over.wait(10)))
    try:
        assert press("approve", "UBOB").status == 200
    finally:
        over.set()
    assert run.info().status == "RUNNING"
    assert "could not be found out" in slack.private[0]


def test_an_answer_that_slack_does_not_take_in_time_does_not_undo_the_decision(
    ask, press, slack, channel, monkeypatch
):
    monkeypatch.setattr(replies, "SECONDS", 0.2)
    run = ask(approvers=[ALICE], via=[channel])
    over = threading.Event()
    slack.trouble("response_url", Trouble(then=lambda: over.wait(10)))
    try:
        assert press("approve", "UALICE").status == 200
    finally:
        over.set()
    assert run.result(timeout=5)["approved"] is True


def test_a_click_of_an_app_installed_for_a_whole_organisation(
    ask, receiver, slack, channel, office
):
    run = ask(approvers=[ALICE], via=[channel])
    payload = click(slack, slack.posts[0], "approve", user("UALICE"))
    payload |= {"team": None, "enterprise": {"id": "E1"}, "is_enterprise_install": True}
    assert receiver.handle(signed(body_of(payload), office.now)).status == 200
    assert run.result(timeout=5)["approved"] is True


def test_the_team_of_the_channel_is_not_the_team_of_the_person(
    ask, receiver, slack, channel, office
):
    run = ask(approvers=[ALICE], via=[channel])
    payload = click(slack, slack.posts[0], "approve", user("UALICE", team="T2"))
    assert payload["team"]["id"] == "T1"
    receiver.handle(signed(body_of(payload), office.now))
    assert run.info().status == "RUNNING"


@pytest.mark.parametrize("letter", ["\U0001f600", "漢", "&", '"'])
def test_a_click_on_the_longest_message_is_read(
    ask, receiver, slack, channel, office, runner, letter
):
    run = ask(letter * 20_000, approvers=[ALICE], via=[channel])
    body = body_of(click(slack, slack.posts[0], "approve", user("UALICE")))
    whole = Receiver(office, LocalCallbacks(runner.engine), slack=receiver)
    assert whole.handle(signed(body, office.now)).status == 200
    assert run.result(timeout=5)["approved"] is True


def test_no_secret_is_left_in_the_journal_the_logs_or_in_what_is_answered(
    ask, press, slack: FakeSlack, channel, tmp_path, caplog, capfd
):
    with caplog.at_level(logging.DEBUG):
        ask(approvers=[ALICE, BOB], via=[channel])
        message = json.loads(json.dumps(slack.posts[0]))
        press("approve", "UMALLORY")
        press("approve", "UALICE", message)
        press("reject", "UBOB", message)
    token = buttons(message)["approve"]["value"]
    told = capfd.readouterr()
    written = b"".join(each.read_bytes() for each in tmp_path.rglob("*") if each.is_file()).decode(
        "latin-1"
    )
    for secret in (TOKEN, APP_TOKEN, SECRET, token):
        for text in (written, caplog.text, told.out, told.err, *slack.private):
            assert secret not in text


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.slack.com/actions/T1/1/x",
        "https://hooks.slack.com.evil.example/x",
        "https://evil.example/hooks.slack.com",
        "https://someone@hooks.slack.com/x",
        "https://hooks.slack.com:8443/x",
        "ftp://hooks.slack.com/x",
        "https://[/",
        "",
    ],
)
def test_an_answer_goes_nowhere_but_to_slack(url, caplog):
    replies.Reply(url, replies.HOSTS, replies.Patience()).privately("secret")
    assert "not allowed" in caplog.text
    assert "evil" not in caplog.text
