"""Asking a person, as it is seen and answered at a terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from perdure.approvals.people import account

from ..approvals.slack.fake_slack import TOKEN, FakeSlack, refused
from .conftest import until

ASKS = (Path(__file__).parent / "programs" / "asks.py").read_text()
ME = account()


@pytest.fixture
def ask(perdure: Any) -> Any:
    """Start a run that asks, as r1, and leave it waiting; return the command."""
    perdure.write("asks.py", ASKS)

    def start(handler: str, id: str = "r1", *, wait: str = "60", **env: str) -> Any:
        words = ("run", f"asks.py:{handler}", "--id", id, "--wait", wait)
        perdure.said = perdure(*words, **env).stdout
        return perdure

    return start


def result(perdure: Any) -> Any:
    """Let the run go on to its end; return what it came to."""
    return json.loads(perdure("resume", "r1", "--json").stdout)["result"]


def pending(perdure: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(perdure("list", "--pending", "--json").stdout)
    return rows


# Looking


def test_a_run_that_asks_says_what_whom_until_when_and_how_to_decide(ask: Any) -> None:
    said = ask("report").said
    assert "approval 'Publish the report?': waits for " + ME in said
    assert "fingerprint " + pending(ask("report"))[0]["fingerprint"] in said
    for command in ("approve", "reject", "edit", "resume", "show"):
        assert f"perdure {command} r1" in said
    assert "perdure serve asks.py:report" in said


def test_the_row_of_what_is_asked_is_the_same_after_a_kill(ask: Any) -> None:
    perdure = ask("report")
    [row] = pending(perdure)
    assert (row["title"], row["approvers"], row["run"]) == ("Publish the report?", [[ME]], "r1")
    assert row["deadline"].endswith("+00:00")
    assert len(row["fingerprint"]) == 8
    server = perdure.start("serve", "asks.py", "--port", "0")
    perdure.until_said("Ctrl-C stops")
    server.kill()
    server.wait()
    assert pending(perdure) == [row]


def test_an_inbox_says_what_to_type(ask: Any) -> None:
    ask("waits", "r2")
    said = ask("report")("inbox").stdout
    assert "Publish the report?" in said
    assert " UTC" in said
    assert "perdure approve r1" in said
    assert "perdure approve r2 await_approval" in said


def test_an_empty_inbox_says_so(perdure: Any) -> None:
    perdure("run", "flow.py", "--id", "r1")
    assert "nothing waits for a person" in perdure("inbox").stdout
    assert json.loads(perdure("inbox", "--json").stdout) == []


def test_an_approval_is_one_row_and_shows_what_is_to_be_decided_on(ask: Any) -> None:
    said = ask("report")("show", "r1").stdout
    assert f"for {ME} until" in said
    assert "request" not in said
    assert "decision" not in said
    assert r"The report \x1b[2J says <b>yes</b>" in said
    assert "\x1b" not in said


def test_who_may_not_decide_is_given_no_command_that_would_fail(ask: Any) -> None:
    said = ask("others").said
    assert "perdure approve" not in said
    assert "user:alice" in said


def test_a_list_names_the_approval_and_not_its_callback(ask: Any) -> None:
    said = ask("report")("list").stdout
    assert "approval 'Publish the report?' until" in said
    assert "approval/decision" not in said


# Deciding


def test_an_approval_is_recorded_with_who_when_how_and_why(ask: Any) -> None:
    perdure = ask("report")
    said = perdure("approve", "r1", "--comment", "as discussed").stdout
    assert "Recorded: approved by " + ME in said
    assert "perdure resume r1" in said
    assert "has yet to go on" in perdure("show", "r1").stdout
    assert result(perdure)["kind"] == "approved"
    shown = perdure("show", "r1").stdout
    assert f"approved by {ME} (cli, terminal) " in shown
    assert ' UTC, "as discussed", fingerprint ' in shown
    [record] = json.loads(perdure("show", "r1", "--json").stdout)["approvals"]
    decision = record["decision"]
    assert (decision["by"], decision["assurance"], decision["comment"]) == (
        ME,
        "cli",
        "as discussed",
    )


def test_a_rejected_run_goes_on_with_a_no(ask: Any) -> None:
    perdure = ask("report")
    perdure("reject", "r1", "--comment", "too early")
    assert result(perdure)["kind"] == "rejected"


@pytest.mark.parametrize("given", ["A shorter report", '"A shorter report"', "@new.md"])
def test_an_edit_is_what_the_handler_gets(ask: Any, given: str) -> None:
    perdure = ask("report")
    perdure.write("new.md", "A shorter report")
    perdure("edit", "r1", given)
    assert result(perdure) == {"kind": "edited", "by": ME, "value": "A shorter report"}
    assert ", edited to " in perdure("show", "r1").stdout


@pytest.mark.parametrize(("given", "got"), [("123", "123"), ("@new.md", '"quoted"')])
def test_in_place_of_a_text_stands_a_text(ask: Any, given: str, got: str) -> None:
    perdure = ask("report")
    perdure.write("new.md", '"quoted"')
    perdure("edit", "r1", given)
    assert result(perdure)["value"] == got


def test_an_answer_has_to_fit_the_form(ask: Any) -> None:
    perdure = ask("limits")
    refused = perdure("respond", "r1", '{"limit": "much"}', code=2).stderr
    assert "limit: a whole number" in refused
    assert len(pending(perdure)) == 1
    perdure("respond", "r1", '{"limit": 100}')
    assert result(perdure) == 100


def test_a_word_that_is_asked_for_has_to_be_typed(ask: Any) -> None:
    perdure = ask("danger")
    assert "--confirm delete" in perdure.said
    assert "delete" in perdure("approve", "r1", code=2).stderr
    assert len(pending(perdure)) == 1
    perdure("approve", "r1", "--confirm", "delete")
    assert result(perdure)["kind"] == "approved"


def test_what_was_decided_is_not_decided_again(ask: Any) -> None:
    perdure = ask("report")
    perdure("approve", "r1")
    error = perdure("reject", "r1", code=2).stderr
    assert f"approved by {ME}" in error
    assert len(error.splitlines()) == 1
    assert result(perdure)["kind"] == "approved"
    assert f"approved by {ME}" in perdure("approve", "r1", code=2).stderr


def test_what_nobody_decided_in_time_is_not_offered_and_not_taken(ask: Any) -> None:
    perdure = ask("hurry", wait="0")
    until(lambda: pending(perdure) == [], "the time is up")
    assert "perdure approve" not in perdure("show", "r1").stdout
    error = perdure("approve", "r1", code=2).stderr
    assert "nobody decided before" in error
    assert result(perdure) == {"kind": "expired", "by": "policy", "value": None}
    assert "expired " in perdure("show", "r1").stdout


def test_who_asked_may_not_decide(ask: Any) -> None:
    perdure = ask("pays")
    for action in ("approve", "reject"):
        error = perdure(action, "r1", code=2).stderr
        assert f"{ME} may not decide" in error
        assert len(error.splitlines()) == 1
    assert len(pending(perdure)) == 1


def test_who_is_not_named_may_not_decide(ask: Any) -> None:
    perdure = ask("others")
    assert "that is for user:alice" in perdure("approve", "r1", code=2).stderr
    assert len(pending(perdure)) == 1


def test_the_environment_does_not_say_who_somebody_is(ask: Any) -> None:
    perdure = ask("others")
    perdure("approve", "r1", code=2, LOGNAME="alice", USER="alice", USERNAME="alice")
    assert len(pending(perdure)) == 1


def test_what_is_not_allowed_is_refused(ask: Any) -> None:
    perdure = ask("others")
    perdure("edit", "r1", "{}", code=2)
    perdure = ask("danger", "r2")
    assert "edit" in perdure("edit", "r2", "all", code=2).stderr
    assert len(pending(perdure)) == 2


def test_of_several_one_is_named(ask: Any) -> None:
    perdure = ask("pages")
    error = perdure("approve", "r1", code=2).stderr
    assert "pages[0]/look, pages[1]/look" in error
    perdure("approve", "r1", "pages[1]/look")
    perdure("reject", "r1", "look")
    assert [each["kind"] for each in result(perdure)] == ["rejected", "approved"]


def test_one_of_several_votes_is_recorded_as_a_vote(ask: Any) -> None:
    perdure = ask("votes")
    said = perdure("approve", "r1").stdout
    assert "vote" in said.lower()
    assert "1 of 2 voted" in perdure("show", "r1").stdout
    assert f"{ME} voted before" in perdure("reject", "r1", code=2).stderr
    assert perdure.status("r1") == "RUNNING"


def test_there_is_nothing_to_decide_in_a_run_that_asks_nothing(ask: Any) -> None:
    perdure = ask("report")
    assert "no execution" in perdure("approve", "r9", code=2).stderr
    assert "open: approval" in perdure("approve", "r1", "aproval", code=2).stderr
    perdure("run", "flow.py:naps", "--input", "0.01", "--id", "r2")
    assert "waits for no answer" in perdure("approve", "r2", code=2).stderr


# Named waits


@pytest.mark.parametrize(
    ("words", "got"),
    [
        (["approve", "r1"], True),
        (["reject", "r1", "await_approval"], False),
        (["respond", "r1", '{"by": "me"}'], {"by": "me"}),
        (["send", "r1", "await_approval", "[1]"], [1]),
    ],
)
def test_a_named_wait_gets_what_was_answered(ask: Any, words: list[str], got: Any) -> None:
    perdure = ask("waits")
    assert "perdure resume r1" in perdure(*words).stdout
    assert result(perdure) == {"got": got}


# Cancelling


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Any:
    with FakeSlack() as fake:
        yield fake


def env_of(fake: FakeSlack) -> dict[str, str]:
    proxies = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
    return {"FAKE_SLACK": fake.base_url, "SLACK_BOT_TOKEN": TOKEN} | dict.fromkeys(proxies, "")


def test_a_cancel_tells_those_who_were_asked(ask: Any, fake: FakeSlack) -> None:
    perdure = ask("slack", **env_of(fake))
    assert "a message by slack" in perdure.said
    said = perdure("cancel", "r1", **env_of(fake)).stdout
    assert "cancelled r1" in said
    assert "told slack:T1:U1 by slack" in said
    assert "withdrawn" in fake.posts[0]["text"].lower()
    assert perdure.status("r1") == "CANCELLED"
    assert "withdrawn" in perdure("show", "r1").stdout
    assert pending(perdure) == []


def test_a_cancel_says_who_could_not_be_told(ask: Any, fake: FakeSlack) -> None:
    perdure = ask("slack", **env_of(fake))
    fake.trouble("chat.update", refused("is_archived"))
    said = perdure("cancel", "r1", **env_of(fake)).stdout
    assert "could not be told: slack (slack:T1:U1)" in said
    assert perdure.status("r1") == "CANCELLED"


# Exporting


def test_an_audit_is_a_line_for_each_approval(ask: Any) -> None:
    ask("waits", "r3")
    ask("pages", "r2")
    perdure = ask("report")
    perdure("approve", "r1")
    result(perdure)
    lines = [json.loads(line) for line in perdure("audit").stdout.splitlines()]
    assert [(each["run"], each["state"]) for each in lines] == [
        ("r2", "open"),
        ("r2", "open"),
        ("r1", "decided"),
    ]
    assert [json.loads(line) for line in perdure("audit", "r1").stdout.splitlines()] == lines[2:]
    said = perdure("audit", "--output", "kept.jsonl")
    assert "3 approvals written" in said.stderr
    assert (perdure.folder / "kept.jsonl").read_text() == perdure("audit").stdout


def test_an_export_that_fails_leaves_the_file_as_it_was(ask: Any) -> None:
    perdure = ask("report")
    perdure.write("kept.jsonl", "before")
    perdure("audit", "r9", "--output", "kept.jsonl", code=2)
    assert (perdure.folder / "kept.jsonl").read_text() == "before"
    assert [each.name for each in perdure.folder.iterdir() if "jsonl" in each.name] == [
        "kept.jsonl"
    ]
    assert "cannot be written" in perdure("audit", "-o", "no/such.jsonl", code=2).stderr
