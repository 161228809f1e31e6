"""A server that is killed between Slack's 200 and its own note of it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from ..slack.clicks import buttons
from ..slack.fake_slack import Trouble
from .house import BOB, House


@pytest.fixture
def killed(up: House, request: Any) -> House:
    """A house whose server died in the post, and is up again; the run waits."""
    history, behind = request.param
    up.slack.now = lambda: time.time() - behind
    up.slack.trouble("chat.postMessage", Trouble(then=up.kill))
    up.hand_over("r1", via=["slack", "web"], history=history)
    up.until(lambda: up.server is not None and up.server.poll() is not None, "the server to die")
    assert len(up.slack.posts) == 1
    up.serve()
    up.until_asked("r1")
    return up


@pytest.mark.parametrize(
    "killed", [(True, 0), (True, 200)], indirect=True, ids=["", "by another clock"]
)
def test_finds_its_message_where_history_may_be_read(killed: House) -> None:
    [message] = killed.slack.posts
    assert message["metadata"]["event_type"] == "perdure_approval"
    decides_by(killed, 0, copies=1)


@pytest.mark.parametrize("killed", [(False, 0)], indirect=True, ids=[""])
@pytest.mark.parametrize("copy", [0, 1])
def test_posts_one_more_where_it_may_not(killed: House, copy: int) -> None:
    decides_by(killed, copy, copies=2)


def decides_by(house: House, copy: int, *, copies: int) -> None:
    """Click on this one of the copies; all of them end updated, and it is one decision."""
    assert len(house.slack.posts) == copies
    assert house.click(house.slack.posts[copy], "approve", BOB).status_code == 200
    assert house.until_ended("r1")["by"] == "slack:T1:UBOB"
    assert house.decisions("r1") == 1
    for other in house.slack.posts:
        if buttons(other):
            house.click(other, "reject", BOB)
    for message in house.slack.posts:
        assert "Approved by ubob" in message["text"]
        assert not buttons(message)
