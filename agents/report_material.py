"""What a report is written from: findings and sources under one numbering, made to fit a size.

Sizes are bytes; three of them are taken for a token, as `estimated_tokens` does. What is cut says
so where it is cut, and in the problems of the report.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .citations import renumbered
from .sources import Registry, SourceRef

if TYPE_CHECKING:
    from .findings import Finding

BYTES_A_TOKEN = 3
_FENCE = 120
_MARKER = 60


@dataclass(frozen=True, slots=True)
class Note:
    """The text of a finding, and the question it answers."""

    question: str
    text: str


@dataclass(frozen=True, slots=True)
class Material:
    """Findings whose `[n]` are the numbers of the sources, and what was read at each source."""

    notes: tuple[Note, ...]
    sources: dict[int, str]
    refs: tuple[SourceRef, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def inputs(self) -> dict[str, Any]:
        """The inputs of a prompt."""
        return {
            "questions": [note.question for note in self.notes],
            "findings": [note.text for note in self.notes],
            "ids": list(self.sources),
            "sources": list(self.sources.values()),
        }

    @property
    def bare(self) -> Material:
        """The same number of notes and sources, without their texts."""
        notes = tuple(replace(note, text="") for note in self.notes)
        return replace(self, notes=notes, sources=dict.fromkeys(self.sources, ""))


def gathered(findings: Iterable[Finding]) -> Material:
    """Return findings and their sources under one numbering, in the order they are first seen."""
    registry, notes, problems = Registry(), [], []
    for finding in findings:
        ids = {at: registry.add(source) for at, source in enumerate(finding.sources, 1)}
        text, unknown = renumbered(finding.text, ids)
        problems += [
            f"the finding {finding.task_id or finding.question!r} cites [{each}], and has "
            f"{len(finding.sources)} sources"
            for each in unknown
        ]
        notes.append(Note(finding.question, text))
    return Material(tuple(notes), registry.texts(), tuple(registry.refs()), tuple(problems))


def truncated(material: Material, room: int) -> Material | None:
    """Return the material with texts of at most so many bytes together: the sources' first.

    None if there is no room for anything.
    """
    texts = [note.text for note in material.notes]
    whole = sum(map(_size, texts))
    problems = list(material.problems)
    left = max(0, room - whole)
    cap = _level([_size(text) for text in material.sources.values()], left)
    sources = {id: _cut(text, cap) for id, text in material.sources.items()}
    if sources != material.sources:
        problems.append("the sources were cut to fit into max_input_tokens")
    if whole > room:
        cap = _level([_size(text) for text in texts], room)
        if cap <= _MARKER:
            return None
        texts = [_cut(text, cap) for text in texts]
        problems.append("the findings were cut to fit into max_input_tokens")
    notes = tuple(
        replace(note, text=text) for note, text in zip(material.notes, texts, strict=True)
    )
    return replace(material, notes=notes, sources=sources, problems=tuple(problems))


def grouped(material: Material, room: int) -> list[Material]:
    """Return the material in parts of at most so many bytes, each text in order and none lost."""
    groups: list[Material] = []
    notes: list[Note] = []
    sources: dict[int, str] = {}
    used = 0
    for piece, size in _pieces(material, max(room, 4 * _FENCE)):
        again = not isinstance(piece, Note) and piece[0] in sources
        if (notes or sources) and (used + size > room or again):
            groups.append(Material(tuple(notes), sources))
            notes, sources, used = [], {}, 0
        if isinstance(piece, Note):
            notes.append(piece)
        else:
            sources[piece[0]] = piece[1]
        used += size
    return [*groups, Material(tuple(notes), sources)]


def condensed(material: Material, texts: Sequence[str]) -> Material:
    """Return the material with shorter notes in place of its own; sources by their titles only."""
    titles = {ref.id: ref.title for ref in material.refs}
    return replace(material, notes=tuple(Note("", text) for text in texts), sources=titles)


def size_of(material: Material) -> int:
    """Return how many bytes the texts of the material have."""
    return sum(_size(note.text) for note in material.notes) + sum(
        map(_size, material.sources.values())
    )


def _pieces(material: Material, room: int) -> Iterator[tuple[Note | tuple[int, str], int]]:
    most = room - _FENCE
    for note in material.notes:
        for text in _parts(note.text, most - _size(note.question)):
            yield Note(note.question, text), _size(text) + _size(note.question) + _FENCE
    for id, text in material.sources.items():
        for part in _parts(text, most):
            yield (id, part), _size(part) + _FENCE


def _parts(text: str, most: int) -> Iterator[str]:
    """Yield a text in parts of at most so many bytes, cut between paragraphs, lines or words."""
    most = max(most, _FENCE)
    while _size(text) > most:
        head = _head(text, most)
        cut = max(head.rfind(mark, len(head) // 2) for mark in ("\n\n", "\n", ". ", " "))
        cut = cut + 1 if cut > 0 else len(head)
        yield text[:cut].rstrip()
        text = text[cut:].lstrip()
    yield text


def _level(sizes: Sequence[int], room: int) -> int:
    """Return the largest size to which each may be cut so that all have room."""
    left = room
    for at, size in enumerate(sorted(sizes)):
        share = left // (len(sizes) - at)
        if size > share:
            return share
        left -= size
    return max(sizes, default=0)


def _cut(text: str, most: int) -> str:
    if _size(text) <= most:
        return text
    if most <= _MARKER:
        return ""
    head = _head(text, most - _MARKER)
    return f"{head}\n[... {len(text) - len(head):,} characters left out]"


def _head(text: str, most: int) -> str:
    return text.encode("utf-8", "replace")[:most].decode("utf-8", "ignore")


def _size(text: str) -> int:
    return len(text.encode("utf-8", "replace"))
