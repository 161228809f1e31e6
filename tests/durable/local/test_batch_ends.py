"""A batch's end is on disk before the handler goes on, whoever was about to write it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from perdure.durable import Context, LocalEngine, durable_execution
from perdure.durable.local.session import LocalSession
from perdure.durable.sync_batch import SyncBatch
from perdure.durable.sync_run import SyncRun


def test_what_the_pulse_took_along_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal.db"
    execute = SyncBatch.execute

    def then_the_pulse_beats(batch: Any) -> Any:
        result = execute(batch)
        run: SyncRun = batch._run
        run._waiting_since = 0.0
        run.write_starts()
        return result

    monkeypatch.setattr(SyncBatch, "execute", then_the_pulse_beats)
    monkeypatch.setattr(LocalSession, "soon", lambda session, ticket: None)

    @durable_execution(name="maps")
    def maps(event: Any, context: Context) -> int:
        context.map("each", [1, 2], lambda inner, item: inner.step("one", lambda: item))
        with closing(sqlite3.connect(path)) as db:
            found = db.execute("SELECT count(*) FROM events WHERE name = 'each' AND kind LIKE '%d'")
            return int(found.fetchone()[0])

    with LocalEngine(path, handlers=[maps]) as engine:
        assert engine.start(maps, None).result(timeout=30) == 2
