"""Words of others, made safe to look at: nothing in them hides, moves or colours what stands near.

What comes out holds no control, bidi or invisible character; escaping for HTML, Slack or a terminal
is for whoever writes there.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_EMOJI = "\u2190-\u2bff\U0001f000-\U0001faff"
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls, without tab and newline
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b\u200c\u200e\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164"
    "\ud800-\udfff\ufe00-\ufe0d\ufeff\uffa0\ufff9-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
    # A joiner or a selector has a use within an emoji, and nowhere that a decision needs.
    f"|(?<![{_EMOJI}\ufe0f])\u200d|\u200d(?![{_EMOJI}])|(?<=[\ufe00-\ufe0f])[\ufe0e\ufe0f]"
)


def visible(text: str) -> str:
    r"""Return a text with each hidden character written out, as in `\u202e`.

    Newlines and tabs stay; so do the letters of every script.
    """
    return _HIDDEN.sub(_written_out, text.replace("\r\n", "\n"))


def shortened(text: str, limit: int) -> tuple[str, int]:
    """Return at most `limit` characters of a text, and how many more there are."""
    return text[:limit], max(0, len(text) - limit)


def pretty(subject: str) -> str:
    """Return the JSON text of a subject for a reader: a string as its own text, else indented."""
    try:
        value = json.loads(subject)
        if isinstance(value, str):
            return value
        return json.dumps(value, indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return subject


def escaped(text: str) -> str:
    """Return a JSON text with each hidden character as its JSON escape; it means the same."""
    return _HIDDEN.sub(lambda found: json.dumps(found[0])[1:-1], text)


def in_utc(at: datetime) -> str:
    """Return a time for a reader anywhere, like "26 Nov 2026, 14:02 UTC (+00:00)"."""
    utc = at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    return f"{utc.day} {_MONTHS[utc.month - 1]} {utc.year}, {utc:%H:%M} UTC (+00:00)"


def _written_out(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
