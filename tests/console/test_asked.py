"""How an approval is put into words."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from perdure.approvals.audit import AuditRecord
from perdure.approvals.decisions import Decision
from perdure.approvals.people import Approver, Principal
from perdure.approvals.requests import ApprovalRequest, Policy, canonical, digest_of
from perdure.console.asked import (
    both_times,
    decision_words,
    pending,
    record_words,
    row_note,
    subject_lines,
)

ASKED = datetime(2026, 11, 26, 14, 2, tzinfo=UTC)
FAR = datetime(2100, 1, 1, 9, 0, tzinfo=UTC)


def record(subject: Any = "the text", *, required: int = 1, **more: Any) -> AuditRecord:
    text = canonical(subject)
    who = tuple(Approver(identities=(f"{name}@x.org",)) for name in ("alice", "bob", "carol"))
    asked = {name: more.pop(name) for name in ("preview", "deadline") if name in more}
    request = ApprovalRequest(
        id="r",
        execution="run-1",
        operation="o",
        name="approval",
        title="Publish \x1b[2J it?",
        subject=text,
        digest=digest_of(text),
        policy=Policy(approvers=who, required=required),
        allowed=("approve", "reject"),
        asked=ASKED,
        **({"deadline": FAR} | asked),
    )
    return AuditRecord(**({"state": "open"} | more), request=request, path="approval", handler="h")


def decision(kind: Any = "approved", by: str = "alice@x.org", **more: Any) -> Decision:
    given = {"channel": "email", "by": Principal(identity=by, assurance="link")} | more
    return Decision(
        request_id="r", digest="d", kind=kind, approver=by, at=ASKED, nonce="n", **given
    )


@pytest.fixture(autouse=True)
def _in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_a_time_is_told_here_and_in_utc() -> None:
    assert both_times(ASKED) == "2026-11-26 15:02 +01:00 (14:02 UTC)"
    late = datetime(2026, 7, 1, 22, 30, tzinfo=UTC)
    assert both_times(late) == "2026-07-02 00:30 +02:00 (2026-07-01 22:30 UTC)"


def test_a_time_is_told_once_where_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    assert both_times(ASKED) == "2026-11-26 14:02 UTC"


def test_a_decision_is_told_with_its_proof_its_time_and_its_reason() -> None:
    made = decision(comment="fine\nby me \x1b[1m")
    assert (
        decision_words(made)
        == 'approved by alice@x.org (link, email) 26 Nov 2026 14:02 UTC, "fine"'
    )
    assert decision_words(made, brief=True) == 'approved by alice@x.org via email, "fine"'
    by = Principal(identity="slack:T1:U1", display="Alice", assurance="slack")
    named = made.model_copy(update={"by": by, "channel": "slack", "comment": None})
    assert decision_words(named).startswith("approved by slack:T1:U1 (Alice) (slack, slack) ")


def test_an_edit_has_a_fingerprint_of_its_own() -> None:
    made = decision("edited", value="other", value_digest="0123456789abcdef")
    words = record_words(record(state="decided", decision=made))
    print_of_subject = digest_of('"the text"')[:8]
    assert words.endswith(f", fingerprint {print_of_subject}, edited to 01234567")


def test_a_quorum_names_its_voters() -> None:
    votes = (decision(), decision(by="carol@x.org"))
    made = votes[1].model_copy(update={"votes": votes})
    words = record_words(record(required=2, state="decided", decision=made, votes=votes))
    assert words.startswith("approved by alice@x.org (email), carol@x.org (email) 26 Nov 2026")
    waiting = row_note(record(required=2, votes=votes[:1]))
    assert waiting.startswith("for alice@x.org, bob@x.org, carol@x.org (2 must approve), 1 of 2")


def test_what_nobody_decided_says_what_holds() -> None:
    policy = Principal(identity="policy", assurance="policy")
    made = decision("expired", "policy", default="reject", channel="policy").model_copy(
        update={"by": policy}
    )
    assert "nobody decided in time, so it is rejected" in decision_words(made)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("open", "waits for alice@x.org, bob@x.org, carol@x.org until 2100-01-01 10:00 +01:00"),
        ("withdrawn", "withdrawn: the run was cancelled before anyone decided"),
        ("failed", "not decided: no reason given"),
        ("ended", "not decided: the run ended before"),
    ],
)
def test_each_state_without_a_decision_is_told(state: Any, words: str) -> None:
    assert record_words(record(state=state)).startswith(words)


def test_what_is_late_is_not_pending() -> None:
    late = record(deadline=datetime.now(UTC) - timedelta(seconds=1))
    assert pending([late, record()]) == [record()]
    assert record_words(late).startswith("nobody decided before ")


def test_a_subject_is_shown_without_what_could_steer_a_terminal() -> None:
    assert subject_lines(record("a\x1b[2J\nb\u202e")) == [r"a\x1b[2J", r"b\u202e"]
    assert subject_lines(record({"usd": 5})) == ['{"usd": 5}']
    preview = subject_lines(record({"usd": 5}, preview="Pay five"))
    assert preview == ["Pay five", "(a preview; --json has the subject itself)"]
    long = subject_lines(record("x" * 5_000))
    assert long[-1] == "… 1,000 more characters; --json has all"
