"""Async runs share a loop, and nothing else: what becomes of one is nothing to another."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from perdure.durable import AsyncContext, LocalEngine, durable_execution

ENGINES: list[LocalEngine] = []


@durable_execution(name="takes-its-time")
async def takes_its_time(event: Any, context: AsyncContext) -> str:
    await asyncio.sleep(0.2)
    return "done"


@durable_execution(name="starts-it-and-ends")
async def starts_it_and_ends(event: Any, context: AsyncContext) -> str:
    ENGINES[-1].start(takes_its_time, None, "other")
    await asyncio.sleep(0.05)
    return "ended"


def test_a_run_goes_on_when_the_one_that_started_it_has_ended(tmp_path: Path) -> None:
    handlers = [takes_its_time, starts_it_and_ends]
    with LocalEngine(tmp_path / "journal.db", handlers) as engine:
        ENGINES.append(engine)
        assert engine.start(starts_it_and_ends, None).result(timeout=20) == "ended"
        assert engine.get("other").result(timeout=20) == "done"
