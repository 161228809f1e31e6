"""What a prompt is made of: its file, the files it includes, and the version of the whole.

Nothing here parses YAML or templates, so a run that replays pays for neither: the included files
are found by the plain form of their tags, `{% include "name" %}`. A template gets no file that
was not found so, hence none that is missing from its version. Included files lie below the root.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath

from .errors import PromptError

MAX_BYTES = 10_000_000
DEEPEST = 50
NAME_RULE = "1 to 100 of A-Z a-z 0-9 . _ / -, the first a letter or digit"

_NAME = r"[A-Za-z0-9][A-Za-z0-9._/-]{0,99}"
_NAME_LINE = re.compile(rf"^name:[ \t]+([\"']?)({_NAME})\1[ \t]*(?:#.*)?$", re.MULTILINE)
_TAG = re.compile(
    r"\{#.*?#\}"
    r"|\{%[-+]?\s*raw\s*[-+]?%\}.*?\{%[-+]?\s*endraw\s*[-+]?%\}"
    r"|\{%[-+]?\s*include\s*(?P<quote>[\"'])(?P<name>.*?)(?P=quote)",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Part:
    """An included file: what to call it in an error, and its text."""

    place: str
    text: str


@dataclass(frozen=True, slots=True)
class Source:
    """A prompt as it was read; `front` has no delimiters, `body` starts at line `body_line`."""

    name: str
    place: str
    front: str | None
    body: str
    body_line: int
    parts: Mapping[str, Part]
    version: str


def is_name(text: str) -> bool:
    """Return whether a prompt may have this name."""
    return re.fullmatch(_NAME, text) is not None


def read_source(path: Path, root: Path | None) -> Source:
    """Return a prompt from its file; includes are looked up below `root`, else beside the file.

    Raises:
        PromptError: a file is missing, unreadable, no UTF-8 text, or includes itself.
    """
    place = str(path)
    home = path.parent if root is None else root
    if root is not None and not root.is_dir():
        raise PromptError.at(place, None, f"its root is no folder: {root}")
    text = _read(path)
    return _source(
        path.stem.removesuffix(".prompt"), place, text, _Parts(_below(home), _known_as(path, home))
    )


def source_of(name: str, text: str, includes: Mapping[str, str]) -> Source:
    """Return a prompt from its text and those of its includes.

    Raises:
        PromptError: a text is no text, or an include is missing or includes itself.
    """
    if not isinstance(name, str) or not is_name(name):
        raise PromptError.at("inline", None, f"a prompt's name is {NAME_RULE}, not {name!r}")
    for part, value in (("the prompt", text), *includes.items()):
        if not isinstance(value, str):
            raise PromptError.at(name, None, f"{part}: a text is a str, not {type(value).__name__}")
    return _source(name, name, _checked(text, name), _Parts(_given(includes), None))


def _source(name: str, place: str, text: str, parts: _Parts) -> Source:
    front, body, body_line = _split_front(text, place)
    parts.collect(body, place, body_line)
    named = None if front is None else _NAME_LINE.search(front)
    return Source(
        name=named[2] if named else name,
        place=place,
        front=front,
        body=body,
        body_line=body_line,
        parts=parts.found,
        version=_version(text, parts.found),
    )


def _version(text: str, parts: Mapping[str, Part]) -> str:
    """Return the digest of the file, then of each include's name and digest, in order."""
    digest = sha256(text.encode())
    for name, part in parts.items():
        digest.update(f"\0{name}\0{sha256(part.text.encode()).hexdigest()}".encode())
    return digest.hexdigest()


def _split_front(text: str, place: str) -> tuple[str | None, str, int]:
    lines = text.split("\n")
    if lines[0].rstrip() != "---":
        first = next((n for n, line in enumerate(lines) if line.strip()), 0)
        if lines[first].rstrip() == "---":
            raise PromptError.at(place, first + 1, "front matter begins on line 1")
        return None, text, 1
    for number, line in enumerate(lines[1:], 1):
        if line.rstrip() == "---":
            front, body = lines[1:number], lines[number + 1 :]
            return "\n".join(front), "\n".join(body), number + 2
    raise PromptError.at(place, 1, "the front matter has no closing line '---'")


Fetch = Callable[[str], Part]


class _Parts:
    """The included files of a prompt, each read once, in the order they are first named."""

    def __init__(self, fetch: Fetch, own: str | None) -> None:
        self._fetch = fetch
        self._above = [] if own is None else [own]
        self.found: dict[str, Part] = {}

    def collect(self, text: str, place: str, first_line: int) -> None:
        """Read what a text includes, and what that includes."""
        for tag in _TAG.finditer(text):
            if (name := tag["name"]) is None:
                continue
            line = first_line + text.count("\n", 0, tag.start())
            if name in self._above:
                way = " -> ".join([*self._above[self._above.index(name) :], name])
                raise PromptError.at(place, line, f"an include leads back to itself: {way}")
            if len(self._above) > DEEPEST:
                raise PromptError.at(place, line, f"includes are more than {DEEPEST} deep")
            if name not in self.found:
                self._add(name, place, line)

    def _add(self, name: str, place: str, line: int) -> None:
        if wrong := _wrong_name(name):
            raise PromptError.at(place, line, f"include {name!r}: {wrong}")
        try:
            part = self._fetch(name)
        except PromptError as error:
            said = error.problems[0]
            raise PromptError.at(place, line, f"include {name!r}: {said.message}") from None
        self.found[name] = part
        self._above.append(name)
        self.collect(part.text, part.place, 1)
        self._above.pop()


def _wrong_name(name: str) -> str | None:
    if not name.isprintable() or "\\" in name or ":" in name:
        return "a name is printable text with / between folders, without \\ and :"
    if PurePosixPath(name).is_absolute():
        return "a name is relative to the prompt's root folder, not absolute"
    if not name or any(step in ("", ".", "..") for step in name.split("/")):
        return "a name leads down from the prompt's root folder, without '.', '..' or empty steps"
    return None


def _below(root: Path) -> Fetch:
    def fetch(name: str) -> Part:
        path = root / name
        if not path.resolve().is_relative_to(root.resolve()):
            raise PromptError.at(name, None, f"it leads out of the prompt's root folder {root}")
        return Part(str(path), _read(path))

    return fetch


def _given(includes: Mapping[str, str]) -> Fetch:
    def fetch(name: str) -> Part:
        if name not in includes:
            known = ", ".join(sorted(includes)) or "none"
            raise PromptError.at(name, None, f"it is not among the includes given ({known})")
        return Part(name, _checked(includes[name], name))

    return fetch


def _known_as(path: Path, root: Path) -> str | None:
    """Return the name under which a file would include itself."""
    own, home = path.resolve(), root.resolve()
    return own.relative_to(home).as_posix() if own.is_relative_to(home) else None


def _read(path: Path) -> str:
    place = str(path)
    try:
        if path.exists() and not path.is_file():
            raise PromptError.at(place, None, "it is no file")
        if path.stat().st_size > MAX_BYTES:
            raise PromptError.at(place, None, f"it is larger than {MAX_BYTES:,} bytes")
        data = path.read_bytes()
    except FileNotFoundError:
        raise PromptError.at(place, None, f"there is no such file: {path.absolute()}") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise PromptError.at(place, None, f"it cannot be read: {why}") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        odd = data[error.start]
        raise PromptError.at(place, line, f"it is not UTF-8 text: byte 0x{odd:02x}") from None
    return _checked(text, place)


def _checked(text: str, place: str) -> str:
    """Return a text with the line ends of Unix, if it can be a prompt's."""
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise PromptError.at(place, line, "it holds a NUL character; is it UTF-8 text?")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        line = text.count("\n", 0, error.start) + 1
        raise PromptError.at(place, line, "it holds half of a surrogate pair") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def path_of(path: str | os.PathLike[str]) -> Path:
    """Return a path that a caller gave.

    Raises:
        PromptError: it is something else.
    """
    if not isinstance(path, str | os.PathLike):
        raise PromptError.at("inline", None, f"a prompt's path is no {type(path).__name__}")
    return Path(path)
