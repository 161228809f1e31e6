"""What runs is what was shown, or what it was edited to, and nothing else."""

from __future__ import annotations

from .house import ALICE, House, words


def test_an_edit_runs_the_same_function_with_what_it_was_edited_to(up: House) -> None:
    up.ask(handler="pays")
    link = up.link(ALICE)
    wrong = up.press(link, "edit", **{"f.usd": "much", "f.to": "carol"})
    assert wrong.status_code == 400
    assert "a whole number" in words(wrong)
    assert 'value="much"' in wrong.text
    assert len(up.pending()) == 1
    more = {"tool": "delete_all", "f.tool": "delete_all", "name": "delete_all"}
    good = up.press(link, "edit", **{"f.usd": "25", "f.to": "carol"}, **more)
    assert good.status_code == 200
    assert up.until_ended("r1") == 25
    assert (up.folder / "paid.txt").read_text() == "25 carol\n"
    record = up.record("r1")
    assert record["subject"] == {"usd": 100, "to": "carol"}
    assert record["decision"]["value"] == {"usd": 25, "to": "carol"}
    assert record["decision"]["by"] == ALICE


def test_a_yes_to_what_the_code_no_longer_asks_runs_nothing(up: House) -> None:
    up.write("subject.txt", "pay 100")
    up.ask(file="subject.txt")
    up.kill()
    up.write("subject.txt", "pay 100,000")
    up.serve()
    assert up.press(up.link(ALICE), "approve").status_code == 200
    up.until_ended("r1", "FAILED")
    assert not (up.folder / "r1.used").exists()
    assert "ApprovalError" in up("show", "r1").stdout
