"""A branch's timer is heard while every thread of its run is in a body."""

import threading
from pathlib import Path
from typing import Any

from perdure.durable import Context, LocalEngine, durable_execution

TIMEOUT = 30.0
came = threading.Event()


@durable_execution(name="alarms.both")
def both(event: Any, context: Context) -> list[bool]:
    def sleeper(branch: Context) -> bool:
        branch.sleep(0.05, "nap")
        branch.step("set", came.set)
        return True

    def works(branch: Context) -> bool:
        return branch.step("work", came.wait, TIMEOUT)

    return list(context.parallel("both", {"sleeper": sleeper, "works": works}))


def test_a_timer_is_not_held_up_by_a_sibling_that_works(tmp_path: Path) -> None:
    with LocalEngine(tmp_path / "journal.db", handlers=[both]) as engine:
        for _ in range(3):  # helpers that stand ready leave early
            came.clear()
            assert engine.start(both).result(timeout=2 * TIMEOUT) == [True, True]
