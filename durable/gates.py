"""What a floor above decides about steps of its own kind: when one may start, and what comes next.

A step with a gate runs at most once an attempt. The gate is asked before each start, and may let it
pass with a note that is recorded with the start, have it wait for another operation, or refuse it;
it says what a failed or interrupted attempt leads to. All of it is recorded like any step.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from .operations import ErrorObject, Operation


@dataclass(frozen=True, slots=True)
class Link:
    """One text of a chain: `hash` is of all texts up to it, `digest` of its own alone."""

    hash: bytes
    before: bytes | None
    text: str
    digest: bytes


def chain(texts: Iterable[str]) -> tuple[Link, ...]:
    """Return the links of a chain of texts; equal beginnings are equal links, stored once."""
    links: list[Link] = []
    before: bytes | None = None
    for text in texts:
        digest = sha256(text.encode()).digest()
        link = Link(sha256((before or b"") + digest).digest(), before, text, digest)
        links.append(link)
        before = link.hash
    return tuple(links)


@dataclass(frozen=True, slots=True)
class Pass:
    """The attempt may start; `note` (JSON) and the texts of `chain` are recorded with its start."""

    note: str | None = None
    chain: tuple[Link, ...] = ()


PLAIN = Pass()


@dataclass(frozen=True, slots=True)
class Hold:
    """Another operation has to end first; then the gate is asked again."""

    operation: Operation


@dataclass(frozen=True, slots=True)
class Refuse:
    """The attempt does not start: its failure is recorded in its place; `note` as in `Pass`."""

    error: Exception
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is recorded of a failed attempt, and after how many seconds the next is made, if any."""

    error: ErrorObject
    delay: float | None = None


class Gate(Protocol):
    """The decisions about one step; called on the thread that drives the step."""

    def open(self, operation: Operation) -> Pass | Hold | Refuse:
        """Decide whether an attempt starts."""

    def failed(self, operation: Operation, error: BaseException) -> Verdict:
        """Decide what follows an attempt that was refused or whose body raised."""

    def interrupted(self, operation: Operation) -> Verdict | Hold:
        """Decide what follows an attempt whose process died before its outcome was recorded."""

    def returned(self, operation: Operation) -> None:
        """Note that the attempt's result is recorded."""
