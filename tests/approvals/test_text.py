"""Words of others are shown with nothing hidden in them."""

from __future__ import annotations

import json
import unicodedata
from datetime import UTC, datetime, timedelta, timezone

import pytest

from perdure.approvals.text import escaped, in_utc, pretty, shortened, visible

SEEN = {*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD}
"""Format characters that have a shape of their own: signs of Arabic, Syriac and Kaithi."""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\u2066a\u2069", "\\u2066a\\u2069"),
        ("\x1b[31mred\x1b[0m", "\\u001b[31mred\\u001b[0m"),
        ("a\u200bb\ufeff\u2060", "a\\u200bb\\ufeff\\u2060"),
        ("a\ud800b", "a\\ud800b"),
        ("\x00\x07\x7f\x9b", "\\u0000\\u0007\\u007f\\u009b"),
        ("over\rwritten", "over\\u000dwritten"),
        ("tag\U000e0041", "tag\\U000e0041"),
        ("\u2028\u00ad", "\\u2028\\u00ad"),
        ("x\ufe0f\ufe0f\ufe00", "x\ufe0f\\ufe0f\\ufe00"),
    ],
)
def test_what_would_be_hidden_is_written_out(text: str, shown: str) -> None:
    assert visible(text) == shown
    visible(text).encode()


@pytest.mark.parametrize(
    "text",
    [
        "a\tb\nc",
        "Grüße, 世界, שלום, سلام, नमस्ते",
        "👩\u200d💻 ❤\ufe0f",
        "\\u202e as it is typed",
        "",
    ],
)
def test_what_people_write_stays(text: str) -> None:
    assert visible(text) == text


def test_an_end_of_line_of_windows_is_a_newline() -> None:
    assert visible("a\r\nb") == "a\nb"


def test_no_character_without_a_shape_gets_through() -> None:
    kinds = ("Cc", "Cf", "Cs", "Zl", "Zp")
    hidden = [
        code for code in range(0x110000) if unicodedata.category(chr(code)) in kinds
        and code not in SEEN and not 0x13430 <= code < 0x13460 and chr(code) not in "\t\n"
    ]  # fmt: skip
    assert [hex(code) for code in hidden if visible(f"a{chr(code)}a") == f"a{chr(code)}a"] == []


def test_a_megabyte_is_made_visible_in_no_time() -> None:
    assert len(visible("x\u202e" * 500_000)) == 3_500_000


def test_what_is_cut_off_is_counted() -> None:
    assert shortened("abcdef", 4) == ("abcd", 2)
    assert shortened("abc", 4) == ("abc", 0)


def test_a_subject_is_shown_as_text_or_as_indented_json() -> None:
    assert pretty('"line\\nnext"') == "line\nnext"
    assert pretty('{"a":"ü","b":[1]}') == '{\n  "a": "ü",\n  "b": [\n    1\n  ]\n}'


def test_a_subject_that_python_cannot_read_is_shown_as_it_is() -> None:
    deep, long = "[" * 100_000 + "]" * 100_000, "1" * 5000
    assert pretty(deep) == deep
    assert pretty(long) == long


def test_json_with_escapes_means_the_same() -> None:
    text = json.dumps({"a": "x\u202e\U000e0041y"}, ensure_ascii=False)
    assert escaped(text).isascii()
    assert json.loads(escaped(text)) == json.loads(text)


def test_a_time_says_its_zone() -> None:
    assert in_utc(datetime(2026, 11, 26, 14, 2, tzinfo=UTC)) == "26 Nov 2026, 14:02 UTC (+00:00)"
    there = datetime(2026, 3, 1, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    assert in_utc(there) == "28 Feb 2026, 23:30 UTC (+00:00)"
