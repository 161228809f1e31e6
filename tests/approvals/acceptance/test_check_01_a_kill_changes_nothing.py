"""Nothing runs while people think, and a server that was killed is as if it had not been."""

from __future__ import annotations

import psutil

from .house import ALICE, House


def test_a_waiting_run_is_no_process(house: House) -> None:
    said = house("run", "desk.py:asks", "--id", "r1", "--input", "{}").stdout
    assert "Pay the invoice?" in said
    here = [each for each in psutil.process_iter(["cwd"]) if each.info["cwd"] == str(house.folder)]
    assert here == []
    [row] = house.pending()
    assert row["title"] == "Pay the invoice?"
    assert row["approvers"][0] == [ALICE, "slack:T1:UALICE"]
    assert row["deadline"]
    assert len(row["fingerprint"]) == 8


def test_after_a_kill_there_is_one_row_one_message_and_the_links_work(up: House) -> None:
    up.ask()
    rows = up.pending()
    link = up.link(ALICE)
    for _ in range(2):
        up.kill()
        assert up.pending() == rows
        up.serve()
        assert up.pending() == rows
    assert len(rows) == 1
    assert (len(up.slack.posts), len(up.mails(ALICE)), up.link(ALICE)) == (1, 1, link)
    up.kill()
    up.serve()
    assert up.press(link, "approve").status_code == 200
    assert up.until_ended("r1")["kind"] == "approved"
