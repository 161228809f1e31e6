"""What is on record of a run's approvals, and what never is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from perdure.approvals import ChannelError, await_approval
from perdure.approvals.audit import AuditRecord, audit
from perdure.durable import ExecutionFailedError, durable_execution
from perdure.durable.testing import ManualClock, Runner

from .conftest import KEY
from .ways import ALICE, BOB, CAROL, Asked, Asks, Postbox

FROM = {"name": "Alice", "amount": 100, "$perdure": "a key like our own"}


def only(asked: Asked) -> AuditRecord:
    [record] = audit(asked.runner.engine, asked.run.id)
    return record


def test_an_open_request_is_on_record_with_whom_it_was_put_to(asks: Asks) -> None:
    asked = asks(FROM, title="Pay?", requested_by="user:carol")
    record = only(asked)
    kept = record.kept()
    assert record.state == "open"
    assert (kept["run"], kept["path"], kept["title"]) == (asked.run.id, "release", "Pay?")
    assert kept["subject"] == FROM
    assert (kept["digest"], kept["fingerprint"]) == (record.request.digest, kept["digest"][:8])
    assert (kept["approvers"], kept["required"]) == ([[ALICE], [BOB]], 1)
    assert kept["requested_by"] == ["user:carol"]
    assert (kept["asked"], kept["deadline"]) == (
        "2026-01-01T00:00:00+00:00",
        "2026-01-01T01:00:00+00:00",
    )
    assert [(each["channel"], each["to"]) for each in kept["told"]] == [
        ("email", [ALICE]),
        ("email", [BOB]),
    ]
    assert (kept["votes"], kept["decision"], kept["error"]) == ([], None, None)


def test_a_decision_is_on_record_with_who_and_how_that_is_proven(
    asks: Asks, clock: ManualClock
) -> None:
    asked = asks()
    clock.advance(60)
    asked.press("approve", comment="as discussed")
    assert only(asked).state in ("recorded", "decided")  # whether its run has gone on yet
    asked.result()
    record = only(asked)
    decision = record.kept()["decision"]
    assert record.state == "decided"
    assert (decision["kind"], decision["approved"]) == ("approved", True)
    assert (decision["by"], decision["assurance"]) == (ALICE, "link")
    assert (decision["channel"], decision["comment"]) == ("email", "as discussed")
    assert decision["at"] == "2026-01-01T00:01:00+00:00"
    assert decision["digest"] == record.request.digest


def test_an_edit_keeps_the_original_and_what_it_became(asks: Asks) -> None:
    asked = asks("the text", allow=("approve", "reject", "edit"))
    asked.press("edit", value="another text")
    asked.result()
    kept = only(asked).kept()
    assert kept["subject"] == "the text"
    assert kept["decision"]["value"] == "another text"
    assert kept["decision"]["value_digest"] not in (None, kept["digest"])


def test_a_quorum_is_on_record_with_each_vote(asks: Asks) -> None:
    asked = asks(approvers=[ALICE, BOB, CAROL], required=2)
    asked.press("approve", ALICE)
    asked.runner.settle()
    assert only(asked).state == "open"
    assert [vote.by.identity for vote in only(asked).votes] == [ALICE]
    asked.press("approve", CAROL, comment="me, too")
    asked.result()
    kept = only(asked).kept()
    assert [(each["by"], each["comment"]) for each in kept["votes"]] == [
        (ALICE, None),
        (CAROL, "me, too"),
    ]
    assert (kept["state"], kept["decision"]["kind"]) == ("decided", "approved")


def test_what_nobody_decided_expired_by_the_policy(asks: Asks) -> None:
    asked = asks()
    asked.result()
    kept = only(asked).kept()
    assert kept["decision"]["kind"] == "expired"
    assert (kept["decision"]["by"], kept["decision"]["default"]) == ("policy", "reject")
    assert kept["votes"] == []


def test_a_callback_completed_by_other_means_is_no_vote(asks: Asks) -> None:
    asked = asks()
    asked.runner.engine.complete_callback(asked.claims().callback, payload='"approved"')
    with pytest.raises(ExecutionFailedError, match="not a decision"):
        asked.result()
    record = only(asked)
    assert (record.state, record.decision, record.votes) == ("failed", None, ())
    assert "not a decision" in (record.error or "")


def test_a_cancelled_run_has_withdrawn_its_request(asks: Asks) -> None:
    asked = asks()
    asked.run.cancel()
    assert only(asked).state == "withdrawn"


def test_what_could_not_be_sent_is_on_record(asks: Asks) -> None:
    class Deaf(Postbox):
        def send(self, notice: Any) -> Any:
            if notice.to[0].name == BOB:
                raise ChannelError("the mailbox is full", final=True)
            return super().send(notice)

    deaf = Deaf()
    told = only(asks(via=[deaf])).kept()["told"]
    assert [(each["channel"], each["error"]) for each in told] == [
        ("email", None),
        (None, "the mailbox is full"),
    ]


def test_a_record_holds_no_token_and_no_key(asks: Asks) -> None:
    asked = asks(remind=[60])
    tokens = [asked.token(ALICE), asked.token(BOB)]
    asked.press("approve")
    asked.result()
    written = json.dumps(only(asked).kept()) + repr(only(asked))
    assert not any(token in written for token in tokens)
    assert KEY not in written
    assert asked.claims().callback not in written


def test_each_approval_of_a_run_has_a_record(runner: Runner) -> None:
    @durable_execution
    def handler(event: Any, context: Any) -> None:
        terms = {"approvers": ["user:alice"], "timeout": 60}
        context.map("pages", [1, 2], lambda scope, page: await_approval(scope, page, **terms).kind)

    run = runner.start(handler)
    runner.settle()
    found = [(each.path, each.request.subject) for each in audit(runner.engine, run.id)]
    assert sorted(found) == [("pages[0]/approval", "1"), ("pages[1]/approval", "2")]


def test_a_run_that_asks_nobody_has_no_record(runner: Runner) -> None:
    @durable_execution
    def handler(event: Any, context: Any) -> None:
        context.step("work", lambda: None)

    run = runner.start(handler)
    runner.settle()
    assert audit(runner.engine, run.id) == []
