"""`perdure list`, `show`, `history`: the journal for people and for programs."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest


@pytest.fixture(scope="module")
def four(shared: Any) -> Any:
    """A journal with a done, a failed, a waiting and a cancelled run."""
    shared("run", "flow.py", "--id", "done")
    shared("run", "flow.py:fails", "--id", "failed", code=1)
    shared("run", "flow.py:asks", "--id", "waiting")
    shared("run", "flow.py:asks", "--id", "cancelled")
    shared("cancel", "cancelled", "--reason", "no need")
    return shared


def test_list_has_a_line_for_each_run_newest_first(four: Any) -> None:
    lines = four("list").stdout.splitlines()
    assert lines[0].split()[:3] == ["ID", "HANDLER", "STATUS"]
    assert [line.split()[:3] for line in lines[1:]] == [
        ["cancelled", "flow.asks", "cancelled"],
        ["waiting", "flow.asks", "waiting"],
        ["failed", "flow.fails", "failed"],
        ["done", "flow.handler", "succeeded"],
    ]
    assert "event 'approval' until" in lines[2]
    assert all(line == line.rstrip() for line in lines)


@pytest.mark.parametrize("status", ["waiting", "FAILED", "succeeded", "cancelled"])
def test_list_can_be_asked_for_a_status(four: Any, status: str) -> None:
    found = json.loads(four("list", "--status", status, "--json").stdout)
    ids = {"succeeded": "done"}
    assert [run["id"] for run in found] == [ids.get(status, status.lower())]


def test_list_can_be_limited(four: Any) -> None:
    assert [r["id"] for r in json.loads(four("list", "-n", "1", "--json").stdout)] == ["cancelled"]


def test_list_of_nothing_says_so(four: Any) -> None:
    assert "no running runs" in four("list", "--status", "running").stdout
    assert json.loads(four("list", "--status", "running", "--json").stdout) == []


def test_show_has_the_operations_and_the_result(four: Any) -> None:
    shown = four("show", "done").stdout
    assert re.search(r"status +succeeded", shown)
    assert re.search(r"✓ first +done", shown)
    assert shown.splitlines()[-1] == '["FIRST", "SECOND"]'


def test_show_says_what_a_run_waits_for_and_why_one_ended(four: Any) -> None:
    assert "perdure send waiting approval" in four("show", "waiting").stdout
    assert "cancelled: Cancelled: no need" in four("show", "cancelled").stdout
    failed = four("show", "failed").stdout
    assert "failed at second: ValueError" in failed
    assert "in breaks" in failed


def test_show_as_json_has_everything(four: Any) -> None:
    shown = json.loads(four("show", "failed", "--json").stdout)
    first, second = shown["operations"]
    assert (first["path"], first["status"], first["result"]) == ("first", "SUCCEEDED", "FIRST")
    assert (second["path"], second["status"]) == ("second", "FAILED")
    assert second["error"]["type"] == "ValueError"
    assert shown["source"] == str(four.folder / "flow.py")
    assert shown["input"] is None


def test_history_has_the_events_in_order(four: Any) -> None:
    events = json.loads(four("history", "done", "--json").stdout)
    assert [event["EventId"] for event in events] == list(range(1, len(events) + 1))
    assert events[0]["EventType"] == "ExecutionStarted"
    assert events[-1]["EventType"] == "ExecutionSucceeded"
    text = four("history", "done").stdout
    assert re.search(r"StepSucceeded +first +\"FIRST\"", text)


def test_odd_texts_reach_the_screen_as_they_are_and_steer_nothing(perdure: Any) -> None:
    perdure.write(
        "odd.py",
        r"""
from perdure.durable import durable_execution

@durable_execution
def handler(event, context):
    context.step("[bold red]name[/]", lambda: "x")
    return "[/nope] :smile: \x9b2J \u202e back \x1b[2J"
""",
    )
    done = perdure("run", "odd.py", "--id", "r1")
    shown = perdure("show", "r1").stdout
    for text in (done.stdout, shown):
        assert "[bold red]name[/]" in text
        assert r"[/nope] :smile: \x9b2J \u202e back \u001b[2J" in text
        assert not re.search("[\x1b\x9b\u202e]", text)
    outcome = json.loads(perdure("show", "r1", "--json").stdout)
    assert outcome["result"] == "[/nope] :smile: \x9b2J \u202e back \x1b[2J"


def test_looking_makes_no_journal(perdure: Any) -> None:
    for words in (
        ["list"],
        ["show", "r1"],
        ["history", "r1"],
        ["send", "r1", "a"],
        ["resume", "r1"],
    ):
        assert "there is no journal" in perdure(*words, code=2).stderr
    assert not perdure.journal.parent.exists()
