"""Of many who decide at once, by all channels, one does; the others are told which."""

from __future__ import annotations

import json
import random

import pytest

from .house import ALICE, BOB, House, at_once, words

KINDS = {"approve": "approved", "reject": "rejected"}


@pytest.mark.parametrize("seed", range(2))
def test_of_fifty_at_once_over_http_one_decides_and_all_are_told_the_same(
    up: House, seed: int
) -> None:
    up.ask()
    message = json.loads(json.dumps(up.slack.posts[0]))
    links = {each: up.link(each) for each in (ALICE, BOB)}
    dice = random.Random(seed)
    with up.signed_in() as me:
        [path] = me.inbox()
        page = me.look(path)

        def one(number: int) -> tuple[str, str, str]:
            verb = dice.choice(list(KINDS))
            who = (ALICE, BOB)[number % 2]
            if number % 5 == 0:
                return "web", verb, words(me.send(path, page, verb))
            if number % 5 == 1:
                assert up.click(message, verb, who).status_code == 200
                return "slack", verb, ""
            return who, verb, words(up.press(links[who], verb))

        told = at_once([lambda number=number: one(number) for number in range(50)])
    result = up.until_ended("r1")
    assert up.decisions("r1") == 1
    kind, by = result["kind"], up.record("r1")["decision"]["by"]
    claims = 0
    for place, verb, text in told:
        if place == "slack":
            continue
        assert f"{kind} by " in text, (place, verb, text)
        claims += "Recorded: " in text
        if KINDS[verb] != kind:
            assert "Already " in text
    assert claims == (0 if by.startswith("slack:") else 1)
    for text in up.slack.private:
        assert kind in text.lower()


def test_the_same_press_again_is_told_that_it_was_recorded(up: House) -> None:
    up.ask()
    link = up.link(ALICE)
    assert "Recorded: approved by" in words(up.press(link, "approve"))
    assert "recorded before: approved by" in words(up.press(link, "approve"))
    assert up.until_ended("r1")["kind"] == "approved"
    assert "recorded before: approved by" in words(up.press(link, "approve"))
    assert f"Already approved by {ALICE}" in words(up.press(link, "reject"))
    assert f"Already approved by {ALICE}" in words(up.press(up.link(BOB), "reject"))
    assert up.decisions("r1") == 1
