"""Approvals on both engines: the same handler, decided through the service's own API."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from perdure.approvals import Escalation, await_approval
from perdure.approvals.channels import Notice, Receipt
from perdure.approvals.decisions import vote
from perdure.approvals.people import Approver, Principal
from perdure.approvals.requests import ApprovalRequest
from perdure.durable import AsyncContext, Context, durable_execution

from ...waiting import until
from .worlds import AwsExecution, AwsWorld, Execution, Outcome, World

KEY = "a-key-for-tests-of-at-least-32-bytes"
ALICE, BOB, CAROL = "alice@example.org", "bob@example.org", "carol@example.org"


class Pigeon:
    """A channel that keeps what it was given to send."""

    name, personal = "pigeon", True

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self.requests: dict[str, ApprovalRequest] = {}
        self.callbacks: dict[str, str] = {}
        self.told: list[tuple[str, str]] = []

    def reaches(self, approver: Approver) -> bool:
        return True

    def send(self, notice: Notice) -> Receipt:
        [to] = notice.to
        notice.link()
        self.requests[to.name], self.callbacks[to.name] = notice.request, notice.callbacks[to.name]
        self.told.append((notice.kind, to.name))
        return Receipt(channel="pigeon", to=(to.name,), ref={}, at=notice.request.asked)

    def update(self, receipt: Receipt, notice: Notice) -> None:
        self.told.append((notice.kind, receipt.to[0]))

    def find(self, notice: Notice, since: datetime) -> Receipt | None:
        return None

    def spec(self) -> None:
        return None

    def yes(self, who: str) -> dict[str, Any]:
        """What completes the callback of an approver in favour."""
        request = until(lambda: self.requests.get(who), f"{who} to be asked")
        by = Principal(identity=who, assurance="link")
        return vote(
            request,
            "approve",
            digest=request.digest,
            by=by,
            approver=who,
            at=datetime.now(UTC),
            channel="email",
            seed=who,
        ).kept()


pigeon = Pigeon()
SUBJECT = {"amount": 1.0, "to": "Zoë"}


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERDURE_APPROVAL_KEYS", KEY)
    pigeon.forget()


@durable_execution(name="approves")
def approves(event: Any, context: Context) -> Any:
    found = await_approval(context, SUBJECT, approvers=[ALICE, BOB], via=[pigeon], **event)
    return [found.kind, found.approved, found.subject]


@durable_execution(name="approves_awaited")
async def approves_awaited(event: Any, context: AsyncContext) -> Any:
    found = await await_approval(context, SUBJECT, approvers=[ALICE, BOB], via=[pigeon], **event)
    return [found.kind, found.approved, found.subject]


@durable_execution(name="approves_later")
def approves_later(event: Any, context: Context) -> Any:
    found = await_approval(
        context,
        SUBJECT,
        approvers=[ALICE],
        via=[pigeon],
        timeout=30,
        remind=[1],
        escalate=Escalation(2, [CAROL]),
    )
    return [found.kind, found.by.identity]


@durable_execution(name="approves_together")
def approves_together(event: Any, context: Context) -> Any:
    found = await_approval(
        context, SUBJECT, approvers=[ALICE, BOB, CAROL], via=[pigeon], timeout=30, required=2
    )
    return [found.kind, [each.approver for each in found.votes]]


HANDLERS = pytest.mark.parametrize("handler", [approves, approves_awaited], ids=["sync", "async"])


def asked(run: Execution, world: World) -> None:
    """Wait until both were told."""
    if world.name == "local":
        run._runner.settle()  # type: ignore[attr-defined]
    until(lambda: len(pigeon.requests) == 2, "both to be told")


@HANDLERS
def test_a_decision_completes_it_on_each_engine(world: World, handler: Any) -> None:
    run = world.start(handler, {"timeout": 60})
    asked(run, world)
    run.send("decision", pigeon.yes(BOB))
    assert run.outcome() == Outcome(["approved", True, SUBJECT])
    assert sorted(pigeon.told) == [
        ("closed", ALICE),
        ("closed", BOB),
        ("request", ALICE),
        ("request", BOB),
    ]


@HANDLERS
def test_a_word_is_no_decision_on_either_engine(world: World, handler: Any) -> None:
    run = world.start(handler, {"timeout": 60})
    asked(run, world)
    run.send("decision", "approved")
    error = run.outcome().error
    assert error is not None
    assert error[0] == "perdure.ApprovalError"
    assert "the callback was completed with 'approved', which is not a decision" in error[1]


@HANDLERS
def test_when_nobody_decides_time_is_up_on_each_engine(world: World, handler: Any) -> None:
    run = world.start(handler, {"timeout": 2})
    assert run.outcome() == Outcome(["expired", False, SUBJECT])


def test_who_is_asked_later_decides_on_aws(aws: AwsWorld) -> None:
    run = aws.start(approves_later, {})
    run.send("decision", pigeon.yes(CAROL))
    assert run.outcome() == Outcome(["approved", CAROL])
    assert pigeon.told[:3] == [("request", ALICE), ("reminder", ALICE), ("request", CAROL)]
    assert sorted(pigeon.told[3:]) == [("closed", ALICE), ("closed", CAROL)]


def test_enough_of_several_decide_on_aws_and_the_rest_is_refused(aws: AwsWorld) -> None:
    run = aws.start(approves_together, {})
    for number, who in ((1, ALICE), (3, CAROL)):
        yes = pigeon.yes(who)
        run.send(f"vote-{number}", yes)
    assert run.outcome() == Outcome(["approved", [ALICE, CAROL]])
    with pytest.raises(aws.api.exceptions.ClientError):
        aws.api.send_durable_execution_callback_success(
            CallbackId=pigeon.callbacks[BOB], Result=json.dumps(pigeon.yes(BOB)).encode()
        )


def test_without_a_key_nobody_is_asked_on_aws(
    aws: AwsWorld, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("PERDURE_APPROVAL_KEYS")
    run = aws.start(approves, {"timeout": 60})
    assert isinstance(run, AwsExecution)
    error = run.outcome().error
    assert error is not None
    assert error[0] == "perdure.UsageError"
    assert "set PERDURE_APPROVAL_KEYS to one or more keys of at least 32 bytes" in error[1]
    assert pigeon.told == []
