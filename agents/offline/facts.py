"""Finds what a text states by its form alone: dates, amounts, numbers, addresses, names.

Each fact is returned as it is written, in the order it stands, each once. Names are told by their
capitals, so these are candidates, not knowledge.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from itertools import dropwhile

from .text import stem, tidy
from .words import CURRENCIES, JOINING_WORDS, OPENING_WORDS, RISK_WORDS, THING_WORDS

_MONTHS = (
    "jan",
    "feb",
    "m[aä]r",
    "apr",
    "ma[iy]",
    "jun",
    "jul",
    "aug",
    "sep",
    "o[ck]t",
    "nov",
    "de[cz]",
)
_MONTH = (
    r"(?:january|february|march|april|may|june|july|august|september|october|november|december"
    r"|januar|februar|märz|mai|juni|juli|oktober|dezember"
    r"|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|okt|dez)\.?"
)
_DATE = re.compile(
    rf"\b\d{{4}}-\d{{2}}-\d{{2}}\b|\b\d{{1,2}}(?:st|nd|rd|th|\.)?\s+(?:of\s+)?{_MONTH},?\s+\d{{4}}\b"
    rf"|\b{_MONTH}\s+\d{{1,2}}(?:st|nd|rd|th)?,?\s+\d{{4}}\b|\b{_MONTH}\s+\d{{4}}\b"
    r"|\b\d{1,2}[./]\d{1,2}[./]\d{4}\b|\b\d{4}年\d{1,2}月\d{1,2}日",
    re.IGNORECASE,
)
_MONEY = (
    r"(?:USD|EUR|GBP|CHF|JPY|INR|US\$|euros?|dollars?|pounds?|francs?|yen|rupees?|[€$£¥₹%]|percent)"
)
_SCALE = r"(?:\s?(?:thousand|million|billion|mio\.?|mrd\.?|bn|k|m)\b)?"
_FIGURE = r"(?<![\d.,])\d{1,18}(?:[.,'\u2019]\d{1,18}){0,5}"
_AMOUNT = re.compile(
    rf"{_MONEY}\s?{_FIGURE}{_SCALE}|{_FIGURE}{_SCALE}\s?{_MONEY}(?!\w)", re.IGNORECASE
)
_NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:[.,'\u2019]\d+)*(?![\w])")
_DIGIT = re.compile(r"\d")
_EMAIL = re.compile(r"\b[A-Za-z0-9][\w.+-]*@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}\b")
_URL = re.compile(r"\bhttps?://[^\s<>\"'\])]+[^\s<>\"'\]).,;:!?]")
_FILE = re.compile(r"(?<![\w/.-])(?:[\w.-]+/)*[\w-][\w.-]*\.[A-Za-z][A-Za-z0-9]{1,4}\b(?![/@])")
_ID = re.compile(
    r"(?<![\w-])(?=[\w-]*\d)(?=[\w-]*[A-Za-z])[A-Za-z0-9]+(?:[-_][A-Za-z0-9]+)+(?![\w-])"
)
_TOKEN = re.compile(r"[^\W_][\w&'\u2019\-]*")
_COMPANY = re.compile(
    r"\b(?:ltd|limited|inc|gmbh|ag|llc|llp|corp|corporation|plc|bv|sa|se|kg|co|company|university"
    r"|institute|bank|council|ministry|foundation|agency|group|committee|association|department"
    r"|office|authority|holding|partners|court|board|cooperative|co-operative|society|trust|union"
    r"|club|federation|school|hospital)\b\.?",
    re.IGNORECASE,
)
_TITLE = re.compile(r"^(?:mr|mrs|ms|dr|prof|herr|frau|sir|dame)\b\.?", re.IGNORECASE)

_RISKS = frozenset(map(stem, RISK_WORDS))


def dates(text: str) -> list[str]:
    """Return the dates as written."""
    return _each(match[0] for match in _DATE.finditer(text)) if _DIGIT.search(text) else []


def amounts(text: str) -> list[str]:
    """Return the sums of money and percentages as written."""
    return _each(match[0] for match in _AMOUNT.finditer(text)) if _DIGIT.search(text) else []


def emails(text: str) -> list[str]:
    """Return the e-mail addresses."""
    return _each(_EMAIL.findall(text)) if "@" in text else []


def urls(text: str) -> list[str]:
    """Return the web addresses."""
    return _each(_URL.findall(text))


def identifiers(text: str) -> list[str]:
    """Return what looks like a web address, the name of a file, or an id."""
    found = [*_URL.finditer(text), *_FILE.finditer(text), *_ID.finditer(text)]
    spans: list[re.Match[str]] = []
    for match in sorted(found, key=lambda each: (each.start(), -each.end())):
        if not spans or match.start() >= spans[-1].end():
            spans.append(match)
    return _each(match[0] for match in spans)


def organisations(text: str) -> list[str]:
    """Return the names that read like those of organisations: `ACME Ltd`, `NATO`."""
    return [name for name in entities(text) if _is_organisation(name)]


def people(text: str) -> list[str]:
    """Return the names of two or three words, or with a title, that are no thing's or place's."""
    found = []
    for name in entities(text):
        words = name.split()
        titled = _TITLE.match(name) is not None
        if not _is_organisation(name) and (titled or (2 <= len(words) <= 3 and _all_words(words))):
            found.append(name)
    return found


def parties(text: str) -> list[str]:
    """Return organisations, and people where none are named."""
    return organisations(text) or people(text)


def entities(text: str) -> list[str]:
    """Return the names: words with a capital that do not merely open a sentence."""
    plain = text
    if _DIGIT.search(text):
        plain = _DATE.sub(lambda match: "," * len(match[0]), text)
    found = []
    for words in _capital_runs(plain):
        run = list(dropwhile(lambda word: word[0].casefold() in OPENING_WORDS, words))
        if not run:
            continue
        start, end = run[0].start(), run[-1].end()
        opens = not start or plain[:start].rstrip()[-1:] in ".!?:•*"
        name = tidy(plain[start:end])
        if (
            len(name) > 1
            and name not in CURRENCIES
            and (not opens or " " in name or name.isupper())
        ):
            found.append(name.removesuffix("'s").removesuffix("\u2019s"))
    return _each(found)


def _capital_runs(text: str) -> Iterator[list[re.Match[str]]]:
    """Yield runs of words with capitals, joined by a space or a small word between two of them."""
    run: list[re.Match[str]] = []
    joining: list[re.Match[str]] = []
    for token in _TOKEN.finditer(text):
        before = (joining or run)[-1] if run else None
        near = before is not None and text[before.end() : token.start()] in (" ", "\n")
        if token[0][0].isupper():
            if not near and run:
                yield run
            run = [*run, *joining, token] if near else [token]
            joining = []
        elif near and token[0] in JOINING_WORDS and len(joining) < 2:
            joining.append(token)
        elif run:
            yield run
            run, joining = [], []
    if run:
        yield run


def is_risk(words: Iterable[str]) -> bool:
    """Return whether stems speak of something that can go wrong."""
    return not _RISKS.isdisjoint(words)


def numbers(text: str) -> list[float]:
    """Return the numbers, dates left out; whole numbers are `int`."""
    plain = _DATE.sub(" ", text)
    return [value for match in _NUMBER.finditer(plain) if (value := number(match[0])) is not None]


def number(figure: str) -> float | None:
    """Read a number as people write it: `12,000`, `1.234,56`, `0.5`."""
    plain = figure.replace("'", "").replace("\u2019", "")
    comma, dot = plain.rfind(","), plain.rfind(".")
    if comma >= 0 and dot >= 0:
        plain = plain.replace("." if comma > dot else ",", "").replace(",", ".")
    elif comma >= 0:
        grouped = re.fullmatch(r"[-+]?\d{1,3}(?:,\d{3})+", plain)
        plain = plain.replace(",", "" if grouped else ".")
    elif re.fullmatch(r"[-+]?\d{1,3}(?:\.\d{3}){2,}", plain):
        plain = plain.replace(".", "")
    try:
        value = float(plain)
    except ValueError:
        return None
    if not math.isfinite(value):
        return None
    return int(value) if "." not in plain and abs(value) < 2**53 else value


def iso_date(written: str) -> str | None:
    """Return a date as `2026-11-24`, or None where the day is not stated or not certain."""
    figures = [int(each) for each in re.findall(r"\d+", written)]
    lowered = written.casefold()
    month = next((at for at, name in enumerate(_MONTHS, 1) if re.search(rf"\b{name}", lowered)), 0)
    try:
        if month and len(figures) == 2:
            return date(figures[1], month, figures[0]).isoformat()
        if len(figures) != 3 or month:
            return None
        if figures[0] > 31:
            return date(*figures).isoformat()
        first, second, year = figures
        if "/" in written and first <= 12 and second <= 12 and first != second:
            return None
        if second > 12:
            first, second = second, first
        return date(year, second, first).isoformat()
    except ValueError:
        return None


def _is_organisation(name: str) -> bool:
    acronym = name.isupper() and name.isalpha() and 3 <= len(name) <= 6
    return acronym or _COMPANY.search(name) is not None


def _all_words(words: list[str]) -> bool:
    """Return whether the words of a name may be a person's: in small letters, and no thing's."""
    return all(
        len(word) > 1 and word[1:].islower() and word.casefold() not in THING_WORDS
        for word in words
        if len(word) > 2
    )


def _each(found: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(found))


Finder = Callable[[str], list[str]]
