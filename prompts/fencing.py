"""The fence around a text from outside, so that it reads as data and cannot say where it ends.

A fenced text holds nothing that looks like a tag named `document`, and no invisible characters;
its closing tag carries a digest of it. This lowers the odds that a model follows what a document
says, and is no guarantee: what a model may do with untrusted text in view is for the caller to
limit. Nothing is random: equal arguments give equal fences, at a replay too.
"""

from __future__ import annotations

import re
import unicodedata
from hashlib import sha256
from typing import Final

from .errors import PromptError
from .lookalikes import MARK, ReadAs

MAX_CHARS: Final = 200_000
_TAG_LENGTH = 12
_ID_LENGTH = 200

_NOT_OF_AN_ID = re.compile(r"[^A-Za-z0-9._:/ -]")
_LINE_ENDS = frozenset((0x85, 0x2028, 0x2029))
_INVISIBLE = frozenset(
    (
        *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0),
        *range(0x180B, 0x1810),
        *range(0xFE00, 0xFE10),
        *range(0xE0000, 0xE1000),
    )
)

_GAP = rf"[\s{MARK}]*"
_LOOKS_LIKE_A_TAG = re.compile(f"<{_GAP}(?:/{_GAP})*{_GAP.join('document')}")


def fence(
    text: str, id: str | int | None = None, *, salt: str = "", max_chars: int = MAX_CHARS
) -> str:
    r"""Return a text from outside as one block of a prompt, fenced off from instructions.

    The block is exactly, with the same twelve hex digits at both ends::

        <document id="d1" sha="0123456789ab">
        the text
        </document-0123456789ab>

    and can be told by ``<document id="([^"]*)" sha="([0-9a-f]{12})">\n(.*?)\n</document-\2>``
    with ``re.DOTALL``. The digits are of the SHA-256 of the salt, a NUL and the text as it stands
    in the block. There, compared with what was given:

    - line ends are `\n`; other control characters, zero-width, bidi and all other format (Cf),
      tag and filler characters are gone; a lone surrogate is U+FFFD;
    - what follows the first `max_chars` characters is left out, and a last line says how much;
    - the `<` of anything that looks like a tag whose name starts with `document`, opening or
      closing, in any case, spacing or lookalike letters, is `&lt;`.

    All else is kept: a document may speak of templates, roles and other tags as it likes.

    Args:
        text: what came from outside.
        id: what the text is to be cited by: up to 200 of `A-Z a-z 0-9 . _ : / -` and space, any
            other character becomes `_`. Without one, the digits stand in for it.
        salt: makes the digits hard to foresee for who wrote the text, for example the run's id.
        max_chars: the most characters of the text that are kept.

    Raises:
        PromptError: an argument has the wrong type.
    """
    _check(text, id, salt, max_chars)
    kept = _neutral(_cut(_visible(text), max_chars))
    tag = sha256(f"{salt}\0{kept}".encode("utf-8", "surrogatepass")).hexdigest()[:_TAG_LENGTH]
    return f'<document id="{_safe_id(id) or tag}" sha="{tag}">\n{kept}\n</document-{tag}>'


def _check(text: object, id: object, salt: object, max_chars: object) -> None:
    if not isinstance(text, str):
        raise _misuse(f"a text from outside is a str, not {type(text).__name__}")
    if isinstance(id, bool) or not isinstance(id, str | int | None):
        raise _misuse(f"the id of a document is a str or a whole number, not {type(id).__name__}")
    if not isinstance(salt, str):
        raise _misuse(f"the salt is a str, not {type(salt).__name__}")
    if isinstance(max_chars, bool) or not isinstance(max_chars, int) or max_chars < 1:
        raise _misuse(f"max_chars is a whole number from 1 on, not {max_chars!r}")


def _misuse(message: str) -> PromptError:
    return PromptError.at("fence", None, message)


def _safe_id(id: str | int | None) -> str:
    return "" if id is None else _NOT_OF_AN_ID.sub("_", str(id)[:_ID_LENGTH])


def _visible(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").translate(_SHOWN)


def _cut(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    return f"{text[:most]}\n[... {len(text) - most:,} characters left out]"


def _neutral(text: str) -> str:
    """Return the text with the `<` of each lookalike tag written out."""
    parts, end = [], 0
    for found in _LOOKS_LIKE_A_TAG.finditer(text.translate(_READ_AS)):
        parts += [text[end : found.start()], "&lt;"]
        end = found.start() + 1
    return "".join([*parts, text[end:]])


class _Shown(dict[int, int | None]):
    """What each character becomes in a fence, found out when it first occurs; None for nothing."""

    def __missing__(self, code: int) -> int | None:
        self[code] = shown = _shown(code)
        return shown


def _shown(code: int) -> int | None:
    if code in (0x09, 0x0A):
        return code
    if code in _LINE_ENDS:
        return 0x0A
    category = unicodedata.category(chr(code))
    if category == "Cs":
        return 0xFFFD
    return None if category in ("Cc", "Cf") or code in _INVISIBLE else code


_SHOWN = _Shown()
_READ_AS = ReadAs()
