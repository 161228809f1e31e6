"""Cancelling a run: it is stopped, and people are told where they were asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure.approvals import Email, Slack, Smtp
from perdure.approvals.people import Principal
from perdure.approvals.withdrawing import cancel
from perdure.durable import ExecutionConflictError

from .mail import smtp_server
from .slack.fake_slack import TOKEN, FakeSlack, refused
from .ways import ALICE, Asks, Postbox, words

BOB = Principal(identity="user:bob", assurance="cli")
U1 = "slack:T1:U1"


@pytest.fixture
def slack(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSlack]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLACK_BOT_TOKEN", TOKEN)
    with FakeSlack() as slack:
        yield slack


def asked_in_slack(asks: Asks, slack: FakeSlack) -> str:
    """A run that asks in a channel of Slack."""
    run: str = asks(via=[Slack("C1", base_url=slack.base_url)], approvers=[U1]).run.id
    return run


def test_a_message_says_that_its_request_was_withdrawn_and_by_whom(
    asks: Asks, slack: FakeSlack
) -> None:
    run = asked_in_slack(asks, slack)
    withdrawn = cancel(asks.runner.engine, run, "the wrong document", by=BOB)
    [message] = slack.posts
    assert "withdrawn" in message["text"].lower()
    assert not [each for each in message["blocks"] if each["type"] == "actions"]
    assert [each.request.name for each in withdrawn.requests] == ["release"]
    assert [each.channel for each in withdrawn.told] == ["slack"]
    assert withdrawn.untold == ()
    assert asks.runner.engine.info(run).status == "CANCELLED"


def test_a_mail_says_so_in_its_thread(asks: Asks, tmp_path: Path) -> None:
    with smtp_server.serving(tmp_path, tls="none", auth=False) as server:
        mail = Email("reports@example.org", Smtp("127.0.0.1", server.port, tls="none"))
        run = asks(via=[mail], approvers=[ALICE]).run.id
        withdrawn = cancel(asks.runner.engine, run, "the wrong document", by=BOB)
        assert withdrawn.untold == ()
        asked, told = server.desk.messages
    assert told["In-Reply-To"] == asked["Message-ID"]
    said = smtp_server.body(told, "plain")
    assert "withdrawn" in said.lower()
    assert "/a/" not in said


def test_the_link_of_a_withdrawn_request_says_so_and_takes_nothing(asks: Asks) -> None:
    asked = asks()
    cancel(asks.runner.engine, asked.run.id, "the wrong document", by=BOB)
    assert asked.look().status == 410
    answer = asked.press("approve")
    assert answer.status == 410
    assert "withdrawn" in words(answer).lower()
    assert asked.votes() == []


def test_who_cannot_be_told_stops_nothing_and_is_named(asks: Asks, slack: FakeSlack) -> None:
    run = asked_in_slack(asks, slack)
    slack.trouble("chat.update", refused("is_archived"))
    withdrawn = cancel(asks.runner.engine, run)
    assert asks.runner.engine.info(run).status == "CANCELLED"
    assert withdrawn.told == ()
    [line] = withdrawn.untold
    assert line.startswith(f"slack ({U1}): ")
    assert "is_archived" in line
    assert TOKEN not in line


def test_a_channel_that_only_the_handler_knows_is_named(asks: Asks) -> None:
    asked = asks(via=[Postbox("pigeon")])
    withdrawn = cancel(asks.runner.engine, asked.run.id)
    assert [line.partition(":")[2] for line in withdrawn.untold] == [
        " its channel is known to the handler alone"
    ] * len(withdrawn.untold)
    assert len(withdrawn.untold) == 2


def test_what_was_decided_is_not_withdrawn(asks: Asks, slack: FakeSlack) -> None:
    asked = asks()
    asked.press("approve")
    asked.result()
    with pytest.raises(ExecutionConflictError, match="has ended"):
        cancel(asks.runner.engine, asked.run.id)


def test_a_run_without_requests_is_just_cancelled(asks: Asks) -> None:
    asked = asks()
    cancel(asks.runner.engine, asked.run.id)
    with pytest.raises(ExecutionConflictError, match="has ended"):
        cancel(asks.runner.engine, asked.run.id)
