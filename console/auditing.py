"""`audit`: what was asked, who was told and who decided, as lines of JSON that outlive the runs."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from perdure.durable.errors import UsageError

from .place import Place
from .screen import say, stderr

_ALL = 1_000_000


def export(place: Place, ids: Sequence[str], output: str | None) -> None:
    """Write one line of JSON for each approval of these runs, or of all, oldest run first.

    Raises:
        UsageError: the file cannot be written; what it held before is kept.
    """
    lines = _lines(place, ids)
    if output is None:
        for line in lines:
            print(line)
        return
    count = _write(Path(output), lines)
    say(stderr(), f"{count:,} approval{'' if count == 1 else 's'} written to {output}", "dim")


def _lines(place: Place, ids: Sequence[str]) -> Iterator[str]:
    from perdure.approvals.audit import audit

    engine = place.open()
    try:
        runs = list(ids) or [each.id for each in reversed(engine.list(limit=_ALL))]
        for id in runs:
            for record in audit(engine, id):
                yield json.dumps(record.kept(), ensure_ascii=False)
    finally:
        engine.close()


def _write(path: Path, lines: Iterable[str]) -> int:
    """Write a file that takes its name when it is whole; return how many lines it has."""
    try:
        descriptor, made = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None
    count = 0
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            for line in lines:
                file.write(f"{line}\n")
                count += 1
            file.flush()
            os.fsync(file.fileno())
        Path(made).replace(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None
    finally:
        Path(made).unlink(missing_ok=True)
    return count
