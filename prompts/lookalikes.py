"""Which ASCII character a reader may take a character for, as far as a tag's name goes.

Full-width, circled, mathematical and accented forms are known from Unicode's own data; letters of
other scripts that only look alike are in the table below. It errs on the side of alike.
"""

from __future__ import annotations

import re
import unicodedata

MARK = "\0"
"""What a mark reads as that only decorates the letter before it."""

_TABLE = {
    "<": "02C2 1438 169C 2039 227A 22D6 276E 2770 27E8 29FC 3008 1D236",
    "/": "005C 1735 2044 2215 2216 2571 2572 27CB 29F5 29F8 29F9 3033 30CE 4E3F 1D23A",
    "d": "0501 056A 2202 A4D2 A4D3 AB70 ABB7",
    "o": (
        "0030 00B0 03BF 03C3 043E 0585 0966 09E6 0A66 0AE6 0B20 0BE6 0C66 0CE6 0D20 "
        "0E50 0ED0 1040 10FF 2C9F 3007 A4F3 104EA"
    ),
    "c": "00A2 00A9 03F2 0441 2CA5 A4DA ABAF",
    "u": "03C5 0446 057D 144C 222A A4F4",
    "m": "03BC 03FB 043C 15F0 2C99 A4DF AB87",
    "e": "0033 0292 03B5 0435 0437 0454 04BD 20AC 212E 2208 2C89 A4F0 AB7C",
    "n": "03B7 03BD 0438 043F 0578 057C 2229 2C9B A4E0",
    "t": "002B 03C4 0442 2020 22A4 2CA7 A4D4 AB72",
}
_ALIKE = {chr(int(code, 16)): plain for plain, codes in _TABLE.items() for code in codes.split()}
_NAMED_AFTER = re.compile(r"\bLETTER (?:SMALL CAPITAL |OPEN |CAPITAL )?([A-Z])(?: WITH .*)?$")


def read_as(char: str) -> str:
    """Return the lower-case ASCII character this one looks like, `MARK`, or else itself."""
    if unicodedata.category(char) in ("Mn", "Me"):
        return MARK
    low = char.lower()
    if low in _ALIKE:
        return _ALIKE[low]
    plain = [c for c in unicodedata.normalize("NFKD", char) if c.isalnum() or c in "</"]
    if len(plain) == 1 and plain[0] != char:
        return read_as(plain[0])
    if not char.isascii() and (named := _NAMED_AFTER.search(unicodedata.name(char, ""))):
        return named[1].lower()
    return low if len(low) == 1 else char


class ReadAs(dict[int, int]):
    """A table for `str.translate`: each character is looked up when it first occurs."""

    def __missing__(self, code: int) -> int:
        self[code] = read = ord(read_as(chr(code)))
        return read
