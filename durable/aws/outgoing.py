"""What an invocation sends: its large values first, its updates cut into calls, all of it counted.

The service alone knows how many operations a run has: of a scope that has ended it no longer tells
those inside. What it tells, and what this invocation adds, is counted here.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from ..events import Event
from ..gates import Link
from ..limits import Limits
from ..operations import Operation, OperationType
from .offload import Store
from .service import ServiceError
from .wire import Update

_log = logging.getLogger("perdure")
_T = OperationType
_KEPT_APART = (_T.STEP.value, _T.CONTEXT.value)
"""Operations whose results only handlers read; what others read goes as it is."""
LIMITS = "PERDURE_LIMITS"
"""The variable with limits of the user's: a JSON object of fields of `Limits`."""
RESERVE = 5
"""Operations kept free where a run is held when it fails: to hold it, and to resume it."""


def limits_of(environment: Mapping[str, str], store: Store | None) -> Limits:
    """Return the limits of a function's runs, some of them set by its environment.

    Raises:
        UsageError: what is set cannot be meant.
    """
    limits = Limits.aws()
    if text := environment.get(LIMITS):
        limits = limits.with_settings(text, LIMITS)
    if store is None:
        return replace(limits, offloaded=None)
    largest = limits.offloaded or Limits().payload
    return replace(limits, offloaded=largest, replay_children=largest)


class Outgoing:
    """The updates of one invocation, on their way out."""

    def __init__(
        self, execution: str, limits: Limits, store: Store | None, states: Iterable[Operation]
    ) -> None:
        self._execution = execution
        self._limits = limits
        self._store = store
        recorded = [each for each in states if each.type is not _T.EXECUTION]
        self._links: dict[bytes, Link | None] = {}
        self._notes: dict[str, str] = {}
        self._ids = {each.id for each in recorded}
        self._stored = sum(len(each.payload or "") for each in recorded)

    def room(self, *, holding: bool) -> int | None:
        """Return how many operations may still be added."""
        limit = self._limits.operations
        if limit is None:
            return None
        return limit - len(self._ids) - (RESERVE if holding else 0)

    def note_prompt(self, event: Event) -> None:
        """Note what a model is asked: what of it is new goes out before the next call does."""
        if self._store is None or not event.chain:
            return
        for link in event.chain:
            self._links.setdefault(link.hash, link)
        if event.note is not None:
            self._notes[event.id] = event.note

    def calls(self, updates: Sequence[Update]) -> Iterator[Sequence[Update]]:
        """Return updates as the calls that carry them; no updates are one call, too.

        Raises:
            ServiceError: a large value could not be put where those go.
        """
        self._put_prompts()
        self._put_large(updates)
        self._count(updates)
        return _parts(updates, self._limits)

    def result(self, payload: str) -> str:
        """Return a run's result as it is sent: what refers to it, if it is large.

        Raises:
            ServiceError: it could not be put where large values go.
        """
        if self._store is None or _size(payload) <= self._limits.execution_inline:
            return payload
        (reference,) = self._store.put(self._execution, [payload])
        return reference

    def _put_prompts(self) -> None:
        links = [link for link in list(self._links.values()) if link is not None]
        notes, self._notes = self._notes, {}
        if self._store is None or not (links or notes):
            return
        self._links.update(dict.fromkeys(link.hash for link in links))
        try:
            self._store.put_links(self._execution, links)
            for id, note in notes.items():
                self._store.put_note(self._execution, id, note)
        except ServiceError as error:
            # They are there to be looked at; no run depends on them.
            _log.warning("what a model was asked is not kept: %s", error)

    def _put_large(self, updates: Sequence[Update]) -> None:
        if self._store is None:
            return
        large = [
            each
            for each in updates
            if each["Type"] in _KEPT_APART
            and _size(each.get("Payload") or "") > self._limits.payload
        ]
        texts = [each["Payload"] for each in large]
        for update, reference in zip(large, self._store.put(self._execution, texts), strict=True):
            update["Payload"] = reference

    def _count(self, updates: Sequence[Update]) -> None:
        operations, stored = len(self._ids), self._stored
        self._ids.update(each["Id"] for each in updates if each["Type"] != _T.EXECUTION)
        self._stored += sum(len(each.get("Payload") or "") for each in updates)
        self._warn("operations", operations, len(self._ids), self._limits.operations)
        self._warn("bytes of payloads", stored, self._stored, self._limits.stored)

    def _warn(self, what: str, before: int, after: int, limit: int | None) -> None:
        """Warn when nine tenths are used up: once, since an execution only grows."""
        if limit is not None and before < 0.9 * limit <= after:
            words = "the execution %s has %s of the %s %s that it may have"
            _log.warning(words, self._execution, f"{after:,}", f"{limit:,}", what)


def _size(text: str) -> int:
    return len(text.encode())


def _parts(updates: Sequence[Update], limits: Limits) -> Iterator[Sequence[Update]]:
    part: list[Update] = []
    size = 0
    for update in updates:
        length = len(json.dumps(update))
        if part and (len(part) == limits.updates or size + length > limits.call):
            yield part
            part, size = [], 0
        part.append(update)
        size += length
    if part or not updates:
        yield part
