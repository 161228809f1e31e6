"""Messages and forms as they are drawn: within Slack's limits, and never read as markup."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from slack_sdk.models.blocks import Block
from slack_sdk.models.views import View

from perdure.approvals.requests import Link
from perdure.approvals.slack import blocks, modals

from .asked import ASKED, decision_of, request_of
from .clicks import buttons
from .fake_slack import check_message, check_view

FIXTURES = Path(__file__).parent / "fixtures"
PAGE = "https://approvals.example.org/inbox/order-7/a1b2c3d4-e5f60718"
NASTY = "<!channel> <@U1> <https://evil.example|bank> <script> *bold* ~x~ `y` ```z``` &amp; :smile:"
INVOICE = {"supplier": "Example Ltd.", "amount": 1200.5, "currency": "EUR", "lines": [1, 2]}


def order(**more: Any) -> Any:
    options: dict[str, Any] = {
        "title": "Pay the invoice of Example Ltd.",
        "attachments": (Link(title="Invoice", url="https://files.example.org/invoice?a=1&b=2"),),
        "allowed": ("approve", "reject", "edit", "respond"),
        "confirm": "PAY",
    }
    return request_of(more.pop("subject", INVOICE), **{**options, **more})


def drawn() -> dict[str, Any]:
    """Return what the fixtures hold."""
    request = order()
    quorum = order(approvers=["slack:T1:UALICE", "slack:T1:UBOB"], required=2, confirm=None)
    link = "https://approvals.example.org/a/v1~TOKEN/review"
    decision = decision_of(request, comment="Only this once.")
    shown = {
        "request": blocks.asked(request, token="TOKEN", page=PAGE, mentions=["UALICE", "S3"]),
        "quorum": blocks.asked(quorum, token="TOKEN", page=link),
        "reminder": blocks.reminded(request, 2, ["UALICE"]),
        "decided": blocks.decided(request, decision, "mark"),
        "vote": blocks.closed(quorum, "Your vote is recorded: yes.", "mark"),
    }
    found: dict[str, Any] = {name: message._asdict() for name, message in shown.items()}
    for verb in modals.VERBS:
        found[f"modal-{verb}"] = modals.view(request, verb, modals.packed("TOKEN", None))
    return found


@pytest.mark.parametrize("name", sorted(drawn()))
def test_a_message_is_drawn_as_the_fixture_holds_it(name):
    path = FIXTURES / f"{name}.json"
    made = json.loads(json.dumps(drawn()[name]))
    if os.environ.get("PERDURE_REDRAW"):
        path.write_text(json.dumps(made, indent=2, ensure_ascii=False) + "\n")
    assert made == json.loads(path.read_text())


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*.json")), ids=lambda path: path.stem)
def test_each_fixture_is_what_slack_takes(path):
    kept = json.loads(path.read_text())
    if "callback_id" in kept:
        check_view(kept)
        assert View(**kept).to_dict()
        return
    check_message(kept)
    for block in Block.parse_all(kept["blocks"]):
        assert block.to_dict()


def texts(message: blocks.Message) -> list[tuple[str, str]]:
    """Return each text of a message, with how Slack reads it."""
    found = []
    for block in message.blocks:
        for each in [block, *block.get("elements", [])]:
            text = each if each.get("type") in ("mrkdwn", "plain_text") else each.get("text")
            if text:
                found.append((text["type"], text["text"]))
    return found


SUBJECTS = {
    "letters": "x" * 1_000_000,
    "ampersands": "&<>" * 300_000,
    "lines": "\n" * 1_000_000,
    "quotes": {"text": '"\\' * 300_000},
    "letters of four bytes": "\U0001f600" * 300_000,
    "hidden characters": "\u202e\x1b[31m" * 100_000,
    "deep": [[[[[[[["x" * 1000] * 100]]]]]]],
}


@pytest.mark.parametrize("name", SUBJECTS)
@pytest.mark.parametrize("size", [5, 2000])
def test_a_subject_of_a_million_characters_is_within_the_limits(name, size):
    request = order(subject=SUBJECTS[name], title="&" * 500)
    message = blocks.asked(request, token="t" * size, page=PAGE, mentions=["U123456789"] * 20)
    check_message(message._asdict())
    assert sum(len(text) for _, text in texts(message)) < 13_000
    assert any("more characters" in text and PAGE in text for _, text in texts(message))
    check_message(blocks.decided(request, decision_of(request), "m")._asdict())


def test_how_much_is_left_out_is_counted_exactly():
    whole = "".join(chr(97 + n % 26) for n in range(50_000))
    message = blocks.asked(order(subject=whole), token="t", page=PAGE)
    shown = "".join(b["text"]["text"] for b in message.blocks if b.get("expand"))
    [left] = [text for _, text in texts(message) if "more characters" in text]
    count = int(left.split(" ")[0].replace(",", ""))
    assert whole.startswith(shown.split("<https")[0][: 50_000 - count])
    assert count == 50_000 - 8_000


def test_what_fits_is_shown_whole_and_nothing_is_said_to_be_left_out():
    message = blocks.asked(order(subject="Pay\n  100 EUR"), token="t", page=PAGE)
    assert ("plain_text", "Pay\n  100 EUR") in texts(message)
    assert not any("more character" in text for _, text in texts(message))


def test_a_preview_says_that_it_is_one():
    message = blocks.asked(order(preview="Pay 1200.50 EUR"), token="t", page=PAGE)
    assert ("plain_text", "Pay 1200.50 EUR") in texts(message)
    [said] = [text for _, text in texts(message) if "a preview" in text]
    assert f"has {len(order().subject)} characters" in said
    assert PAGE in said


def test_many_long_comments_are_within_the_limits():
    request = order(subject="x" * 20_000)
    votes = tuple(decision_of(request, comment="&" * 10_000) for _ in range(30))
    decision = decision_of(request).model_copy(update={"votes": votes})
    check_message(blocks.decided(request, decision, "m")._asdict())


def test_a_title_cannot_pass_for_a_status():
    request = order(title="Approved by the boss, nothing to do")
    decision = decision_of(request, "reject")
    assert blocks.decided(request, decision, "m").text.startswith("Rejected by alice")


def test_no_entity_is_torn_apart_between_two_sections():
    message = blocks.asked(order(subject="&" * 5_000), token="t", page=PAGE)
    for kind, text in texts(message):
        if kind == "plain_text" and "&" in text:
            assert text.replace("&amp;", "") == ""


def test_words_of_a_model_are_shown_as_they_stand():
    request = order(subject=NASTY, title=NASTY, preview=NASTY, confirm=None, attachments=())
    decision = decision_of(request, comment=NASTY)
    for message in (
        blocks.asked(request, token="t", page=PAGE),
        blocks.decided(request, decision, "m"),
        blocks.reminded(request, 1, ()),
    ):
        for kind, text in [*texts(message), ("mrkdwn", message.text)]:
            assert "<!channel>" not in text
            assert "<@U1>" not in text
            assert "<https://evil" not in text
            assert kind == "plain_text" or "bold" not in text or text == message.text
        assert all(not each["text"].get("emoji") for each in message.blocks if "text" in each)


def test_hidden_characters_are_written_out():
    hidden = "safe\u202egnp.exe\x1b[31m\u200b"
    request = order(subject=hidden, title=hidden)
    shown = json.dumps(blocks.asked(request, token="t", page=PAGE), ensure_ascii=False)
    assert "\u202e" not in shown
    assert "\x1b" not in shown
    assert "\\\\u202e" in shown


def test_a_title_of_several_lines_is_one_line():
    message = blocks.asked(order(title="Pay\n\nApproved by the boss"), token="t", page=PAGE)
    assert message.blocks[0]["text"]["text"] == "Pay Approved by the boss"


def test_an_attachment_shows_where_it_leads_and_only_to_the_web():
    links = (
        Link(title="https://bank.example", url="https://evil.example/x|y>z"),
        Link(title="file", url="javascript:alert(1)"),
        *(Link(title=f"n{n}", url=f"https://x.org/{n}") for n in range(20)),
    )
    message = blocks.asked(order(attachments=links), token="t", page=PAGE)
    [text] = [text for _, text in texts(message) if "evil" in text]
    first, second, *_, last = text.splitlines()
    assert first == "<https://evil.example/x%7Cy%3Ez|https://bank.example> (evil.example)"
    assert second == "file (on the page)"
    assert last == "and 14 more, on the page"


def test_buttons_are_those_that_are_allowed():
    for allowed, expected in {
        ("approve", "reject"): ["approve", "reject", "comment", "open"],
        ("approve", "reject", "edit"): ["approve", "reject", "edit", "comment", "open"],
        ("respond",): ["respond", "open"],
    }.items():
        request = order(allowed=allowed)
        message = blocks.asked(request, token="t", page=PAGE)
        assert list(buttons(message._asdict())) == expected
    found = buttons(blocks.asked(order(confirm=None), token="t", page=PAGE)._asdict())
    assert found["approve"]["style"] == "primary"
    assert found["reject"]["style"] == "danger"
    assert "confirm" not in found["approve"]


def test_an_address_longer_than_slack_takes_is_left_out():
    message = blocks.asked(order(), token="t", page="https://x.org/" + "a" * 3000)
    check_message(message._asdict())
    long = order(subject="x" * 9000)
    check_message(blocks.asked(long, token="t", page="https://x.org/" + "a" * 5000)._asdict())
    assert "open" not in buttons(message._asdict())


def test_what_was_decided_is_one_sentence():
    request = order()
    at = "2 Jan 2026, 14:02 UTC (+00:00)"
    decided = decision_of(request)
    assert blocks.sentence(decided) == f"Approved by alice, {at}."
    assert blocks.sentence(decision_of(request, "edit", value=INVOICE)).startswith(
        "Approved with changes by alice"
    )
    for default, words in {"approve": "counts as approved", None: "nobody decided"}.items():
        expired = decided.model_copy(update={"kind": "expired", "default": default})
        assert words in blocks.sentence(expired)
    withdrawn = decided.model_copy(update={"kind": "withdrawn"})
    assert "nothing is asked any more" in blocks.sentence(withdrawn)


def test_a_time_is_shown_in_the_readers_zone():
    assert blocks.date(ASKED) == (
        "<!date^1767225600^{date_short_pretty} at {time}|1 Jan 2026, 00:00 UTC (+00:00)>"
    )
