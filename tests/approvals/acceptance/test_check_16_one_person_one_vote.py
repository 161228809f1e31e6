"""In a quorum a person has one vote, whichever way it comes."""

from __future__ import annotations

from .house import ALICE, BOB, House, words


def direct(house: House, slack_id: str) -> dict[str, object]:
    """The message somebody got in Slack."""
    [message] = [each for each in house.slack.posts if each["channel"] == f"D{slack_id}"]
    return message


def ask(house: House) -> None:
    house.ask(via=["direct", "email", "web"], terms={"required": 2})


def test_by_slack_and_by_mail_is_one_vote(up: House) -> None:
    ask(up)
    assert up.click(direct(up, "UALICE"), "approve", ALICE).status_code == 200
    again = words(up.press(up.link(ALICE), "approve"))
    assert "Your vote is recorded" not in again
    assert up.decisions("r1") == 1
    assert "1 of 2" in up("show", "r1").stdout
    assert "Your vote is recorded" in words(up.press(up.link(BOB), "approve"))
    result = up.until_ended("r1")
    assert result["kind"] == "approved"
    votes = up.record("r1")["votes"]
    assert sorted(each["by"] for each in votes) == [BOB, "slack:T1:UALICE"]


def test_the_third_comes_too_late(up: House) -> None:
    ask(up)
    up.press(up.link(ALICE), "approve")
    up.press(up.link(BOB), "approve")
    assert up.until_ended("r1")["kind"] == "approved"
    refusal = up("reject", "r1", code=2).stderr
    assert "nothing is left to decide" in refusal
    assert ALICE in refusal


def test_a_reject_ends_it_at_once(up: House) -> None:
    ask(up)
    up.press(up.link(ALICE), "approve")
    up.click(direct(up, "UBOB"), "reject", BOB)
    assert up.until_ended("r1")["kind"] == "rejected"
    assert up.press(up.link(ALICE), "approve").status_code in (200, 410)
    for name in ("UALICE", "UBOB"):
        assert "Rejected by ubob" in str(direct(up, name)["text"])
    assert "Rejected by ubob" in up.mails(ALICE)[-1]
