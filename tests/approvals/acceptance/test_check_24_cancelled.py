"""A run that is cancelled while people think asks nobody any more, and they are told."""

from __future__ import annotations

import json

from ..slack.clicks import buttons
from .house import ALICE, BOB, House, words


def test_a_cancel_is_told_everywhere_and_nothing_decides_any_more(up: House) -> None:
    up.ask()
    [message] = up.slack.posts
    as_it_was = json.loads(json.dumps(message))
    with up.signed_in() as me:
        [path] = me.inbox()
        page = me.look(path)
        said = up("cancel", "r1", "--reason", "wrong invoice").stdout
        assert "cancelled r1" in said
        late = me.send(path, page, "approve")
        assert late.status_code == 410
        assert "withdrawn" in words(late)
        assert me.inbox() == []

    assert "withdrawn" in message["text"].lower()
    assert not buttons(message)
    for each in (ALICE, BOB):
        assert "Withdrawn" in up.mails(each)[-1]
        assert "wrong invoice" in up.mails(each)[-1]
        answer = up.press(up.link(each), "approve")
        assert answer.status_code == 410
        assert "withdrawn" in words(answer)
        looked = up.get(up.link(each))
        assert "withdrawn" in words(looked)

    assert up.click(as_it_was, "approve", BOB).status_code == 200
    assert "withdrawn" in up.slack.private[-1].lower()
    assert "nothing is left to decide" in up("approve", "r1", code=2).stderr
    assert up.status("r1") == "CANCELLED"
    assert up.decisions("r1") == 0
    assert not (up.folder / "r1.used").exists()
    assert up.pending() == []
    assert "withdrawn" in up("show", "r1").stdout
