"""What nobody decided in time is decided by the policy, and never by a person."""

from __future__ import annotations

import pytest

from .house import ALICE, House, words


@pytest.mark.parametrize("holds", ["reject", "approve"])
def test_the_run_ends_as_was_said_and_the_link_is_gone(up: House, holds: str) -> None:
    up.hand_over("r1", terms={"timeout": 3, "on_timeout": holds})
    assert up.until_ended("r1")["kind"] == "expired"
    assert (up.folder / "r1.used").exists() is (holds == "approve")
    answer = up.press(up.link(ALICE), "approve")
    assert answer.status_code == 410
    assert "Time was up" in words(answer)
    decision = up.record("r1")["decision"]
    assert (decision["kind"], decision["by"], decision["channel"]) == (
        "expired",
        "policy",
        "policy",
    )
    assert up.record("r1")["votes"] == []
    assert up.decisions("r1") == 0
    up("approve", "r1", code=2)
    for text in (up.slack.posts[0]["text"], up.mails(ALICE)[-1]):
        assert "nobody decided in time" in text.lower()
        assert f"counts as {holds}" in text
