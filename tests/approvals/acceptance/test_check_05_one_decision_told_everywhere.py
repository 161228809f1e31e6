"""A decision wakes the run, and every place that asked says who decided."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from ..slack.clicks import buttons
from .house import ALICE, BOB, House, house_in, words


@pytest.fixture(scope="module")
def approved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, Any]]:
    """A house where alice pressed the button behind the link in her mail, and the run's result."""
    with house_in(tmp_path_factory.mktemp("house")) as house:
        house.serve()
        house.ask()
        answer = house.press(house.link(ALICE), "approve", comment="ok")
        assert answer.status_code == 200
        assert f"Recorded: approved by {ALICE}" in words(answer)
        yield house, house.until_ended("r1")


def test_all_copies_say_so(approved: tuple[House, Any]) -> None:
    house, result = approved
    assert (result["kind"], result["by"]) == ("approved", ALICE)
    [message] = house.slack.posts
    assert f"Approved by {ALICE}" in message["text"]
    assert not buttons(message)
    for each in (ALICE, BOB):
        assert f"Approved by {ALICE}" in house.mails(each)[-1]
        assert "| ok" in house.mails(each)[-1]
    with house.signed_in() as me:
        assert me.inbox() == []


def test_show_says_who_when_how_why_and_what(approved: tuple[House, Any]) -> None:
    house, result = approved
    shown = house("show", "r1").stdout
    assert f"approved by {ALICE} (link, email)" in shown
    assert ' UTC, "ok", fingerprint ' in shown
    assert result["digest"][:8] in shown
    record = house.record("r1")
    assert record["digest"] == result["digest"]
    decision = record["decision"]
    assert decision["at"].endswith("+00:00")
    assert (decision["by"], decision["channel"], decision["comment"]) == (ALICE, "email", "ok")
    [line] = house("audit", "r1").stdout.splitlines()
    assert json.loads(line)["decision"] == decision


def test_a_click_in_slack_is_told_in_the_mails_too(up: House) -> None:
    up.ask()
    assert up.click(up.slack.posts[0], "reject", BOB).status_code == 200
    assert up.until_ended("r1")["kind"] == "rejected"
    assert "Rejected by ubob" in up.slack.posts[0]["text"]
    assert "Rejected by ubob" in up.mails(ALICE)[-1]
    assert "already rejected by" in words(up.press(up.link(ALICE), "approve")).lower()


def test_the_server_warns_once_of_links_that_open_here_alone(approved: tuple[House, Any]) -> None:
    assert approved[0].output().count("opens on this machine alone") == 1
