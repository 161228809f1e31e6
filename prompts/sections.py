"""The role sections of a prompt's body, told apart before anything is rendered.

A line of the template's source that is exactly `system:`, `user:` or `assistant:` opens a
section; what stands before the first is the user's. Values come in only later, so none of them
opens a section. A line that only looks like one is an error, for it would silently be text;
`{{ "user:" }}` prints such a line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from .errors import Findings
from .source import Part, Source

Role = Literal["system", "user", "assistant"]

_ROLES: dict[str, Role] = {f"{role}:": role for role in get_args(Role)}


@dataclass(frozen=True, slots=True)
class Section:
    """A section's role and source, which keeps the line numbers of the file."""

    role: Role
    text: str


def sections_of(source: Source) -> list[Section]:
    """Return the sections of a prompt's body that hold any text."""
    sections = list(_split(source.body.split("\n"), source.body_line))
    return [section for section in sections if section.text.strip()]


def check_sections(source: Source, findings: Findings) -> None:
    """Note lines that look like a role but are none, and includes that try to open a section."""
    for number, line in enumerate(source.body.split("\n"), source.body_line):
        if (role := _almost(line)) and line not in _ROLES:
            findings.add(
                number, f"a role line is exactly {role!r}, not {line!r}; as text, {_as_text(line)}"
            )
    for part in source.parts.values():
        _check_part(part, findings)
    if not source.body.strip():
        findings.add(source.body_line, "the prompt has no text")


def _check_part(part: Part, findings: Findings) -> None:
    lines = part.text.split("\n")
    if lines[0].rstrip() == "---":
        findings.add(1, "an included file has no front matter", part.place)
    for number, line in enumerate(lines, 1):
        if _almost(line):
            message = f"an included file opens no section; as text, {_as_text(line)}"
            findings.add(number, message, part.place)


def _split(lines: list[str], first: int) -> Iterator[Section]:
    role: Role = "user"
    above, held = first - 1, list[str]()
    for number, line in enumerate(lines, first):
        if line in _ROLES:
            yield Section(role, "\n" * above + "\n".join(held))
            role, above, held = _ROLES[line], number, []
        else:
            held.append(line)
    yield Section(role, "\n" * above + "\n".join(held))


def _almost(line: str) -> str | None:
    bare = line.strip().lower()
    return bare if bare in _ROLES else None


def _as_text(line: str) -> str:
    return f'{{{{ "{line.strip()}" }}}} prints it'
