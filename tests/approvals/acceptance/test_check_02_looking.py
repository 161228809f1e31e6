"""Whatever looks at a link, a mail scanner or a preview, leaves no trace."""

from __future__ import annotations

from .house import ALICE, House


def test_looking_fifty_times_leaves_the_journal_byte_for_byte(up: House) -> None:
    up.ask()
    link = up.link(ALICE)
    rows = up.pending()
    before = up.kept()
    for method in ("GET", "HEAD") * 25:
        assert up.send(method, link).status_code == 200
    assert up.kept() == before
    assert up.pending() == rows
