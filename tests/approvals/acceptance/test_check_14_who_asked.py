"""Whoever asked may not decide: on Slack, by a link, on the web and at the terminal alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from perdure.approvals.keys import Keys
from perdure.approvals.tokens import PREFIX, Person, seal, unseal

from ..conftest import KEY
from .house import ALICE, BOB, House, house_in, words


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house where alice asked, and could decide if she had not."""
    folder: Path = tmp_path_factory.mktemp("house")
    with house_in(folder) as house:
        house.serve()
        house.ask(handler="asked_by_alice")
        yield house


@pytest.fixture(autouse=True)
def _still_open(asked: House) -> Iterator[None]:
    yield
    assert len(asked.pending()) == 1
    assert asked.decisions("r1") == 0


@pytest.mark.parametrize("verb", ["approve", "reject"])
def test_on_slack(asked: House, verb: str) -> None:
    told = len(asked.slack.private)
    assert asked.click(asked.slack.posts[0], verb, ALICE).status_code == 200
    [refusal] = asked.slack.private[told:]
    assert "whoever asked may not decide" in refusal


def test_she_got_no_link(asked: House) -> None:
    assert asked.mails(ALICE) == []
    assert len(asked.mails(BOB)) == 1


@pytest.mark.parametrize("names_who_asked", [True, False])
@pytest.mark.parametrize("verb", ["approve", "reject"])
def test_by_a_link_of_her_own(asked: House, verb: str, names_who_asked: bool) -> None:
    """One made out to her, signed with the key, which nobody sends."""
    token = asked.link(BOB).split("/")[4].removeprefix(PREFIX)
    claims = unseal(Keys(KEY), "link", token)
    claims = replace(claims, who=(Person(ALICE, (ALICE,)),))
    if not names_who_asked:
        claims = replace(claims, requester=())
    link = f"/a/{PREFIX}{seal(Keys(KEY), 'link', claims)}/review"
    answer = asked.press(link, verb)
    assert answer.status_code == 403
    assert "Not recorded: whoever asked may not decide" in words(answer)


@pytest.mark.parametrize("verb", ["approve", "reject"])
def test_on_the_web(asked: House, verb: str) -> None:
    with asked.signed_in() as me:
        [path] = me.inbox()
        assert 'value="approve"' not in me.look(path).text
        assert me.press(path, verb).status_code in (400, 403)


@pytest.mark.parametrize("verb", ["approve", "reject"])
def test_at_the_terminal(asked: House, verb: str) -> None:
    assert "may not decide" in asked(verb, "r1", code=2).stderr
