"""Tracebacks for the person whose code raised: their frames, none of perdure's or LangChain's."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path

from .words import safe

_OURS = re.compile(r"/perdure/(durable|prompts|agents|approvals|console)/|/langchain_core/")
_FRAME = re.compile(r'\s*File "([^"]+)", line \d+')
_CARETS = re.compile(r"[\s~^]+")
_ROOT = Path(__file__).parents[1]
_HERE = tuple(
    f"{_ROOT}/{each}/" for each in ("durable", "prompts", "agents", "approvals", "console")
)
MOST = 4
"""Frames shown of a traceback."""


def recorded_lines(trace: Sequence[str]) -> list[str]:
    """Return the user's last frames of a recorded traceback, without the error itself.

    Of a chain of errors it is the last one that counts.
    """
    starts = [n for n, part in enumerate(trace) if part.startswith("Traceback (most recent")]
    parts = trace[starts[-1] + 1 :] if starts else trace
    return _lines(part for part in parts if _FRAME.match(part))


def raised_lines(error: BaseException) -> list[str]:
    """Return the user's last frames of an error that was just raised."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = _lines(traceback.format_list(frames))
    if isinstance(error, SyntaxError):
        last = traceback.format_exception_only(error)[:-1]
        lines += [safe(line) for part in last for line in part.splitlines()]
    return lines


def _lines(frames: Iterable[str]) -> list[str]:
    theirs = [frame for frame in frames if not _is_ours(frame)]
    return [line for frame in theirs[-MOST:] for line in _bare(frame)]


def _is_ours(frame: str) -> bool:
    found = _FRAME.match(frame)
    file = found[1] if found else ""
    return file.startswith(("<frozen", *_HERE)) or _OURS.search(file) is not None


def _bare(frame: str) -> list[str]:
    return [safe(line) for line in frame.splitlines() if not _CARETS.fullmatch(line)]
