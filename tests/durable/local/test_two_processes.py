"""Two processes on one journal: a run is one process's at a time, and each hears of the other."""

from __future__ import annotations

import os
import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import pytest

PIPELINES = Path(__file__).with_name("pipelines.py")


def test_two_processes_share_the_runs_and_do_nothing_twice(
    processes: Any, nursery: Any, place: Any
) -> None:
    workers = [nursery.worker(place, PIPELINES, threads=2) for _ in range(2)]
    with place.engine() as engine:
        runs = [
            engine.start(handler, {"n": n}, f"{handler.replace('.', '-')}-{n}")
            for n in range(10)
            for handler in ("stages", "stages.async")
        ]
        results = [run.result(timeout=processes.PATIENCE) for run in runs]
    assert results == [[2 * n, 2 * n + 2, 2 * n + 4, 2 * n + 6] for n in range(10) for _ in "ab"]
    for worker in workers:
        worker.close()
    place.check()
    begun = [(line.key, line.attempt) for line in place.lines()]
    assert len(begun) == len(set(begun)) == 20 * 4
    assert {line.pid for line in place.lines()} == {worker.pid for worker in workers}
    assert_one_at_a_time(place)


def assert_one_at_a_time(place: Any) -> None:
    """No invocation of a run begins before the one before it has ended."""
    rows = place.rows(
        "SELECT run, started, at FROM events WHERE kind = 'InvocationCompleted' ORDER BY run, seq"
    )
    for (run, _, ended), (next_run, began, _) in pairwise(rows):
        assert run != next_run or began >= ended, f"two invocations of run {run} overlap"


def test_work_started_in_one_process_wakes_the_other(
    processes: Any, nursery: Any, place: Any
) -> None:
    nursery.worker(place, PIPELINES)
    with place.engine() as engine:
        engine.start("small", {"n": 1}).result(timeout=processes.PATIENCE)
        took = []
        for n in range(15):
            begin = time.monotonic()
            assert engine.start("small", {"n": n}).result(timeout=processes.PATIENCE) == n * 2
            took.append(time.monotonic() - begin)
    # Whoever had to look for work by itself would look once a second.
    assert median(took) < 0.3, took


def test_a_callback_completed_in_one_process_wakes_the_run_in_the_other(
    processes: Any, nursery: Any, place: Any
) -> None:
    nursery.worker(place, PIPELINES)
    with place.engine() as engine:
        took = []
        for n in range(9):
            run = engine.start("asks", n)
            (wait,) = processes.until(run.waiting_for, "the callback")
            processes.until(lambda: not run.info().active, "the suspension")  # noqa: B023
            begin = time.monotonic()
            engine.complete_callback(wait.callback_id, {"by": n})
            assert run.result(timeout=processes.PATIENCE) == {"by": n}
            took.append(time.monotonic() - begin)
    assert median(took) < 0.3, took


def test_a_process_that_has_slept_takes_over_from_one_that_came_later_and_died(
    processes: Any, nursery: Any, place: Any
) -> None:
    with place.engine(processes.load(PIPELINES).small) as sleeper:
        sleeper.register(processes.load(PIPELINES).held)
        processes.until(lambda: not sleeper._worker._next_look, "the first to think it is alone")
        # The other runs what its own engine started; nobody told the first of it.
        other = nursery.worker(place, PIPELINES, start=["held", None, "run"])
        processes.until(lambda: place.names("hold"), "the body that holds")
        other.kill()
        place.touch("open")
        result = sleeper.get("run").result(timeout=processes.PATIENCE)
    assert result == [2, "held", 4]
    assert [line.pid for line in place.names("hold")] == [other.pid, os.getpid()]
    place.check()


def test_a_lease_is_held_for_as_long_as_a_body_takes(
    processes: Any, nursery: Any, place: Any
) -> None:
    # Started by the engine that runs it: nothing but the body goes on in that process.
    first = nursery.worker(place, PIPELINES, lease=1, start=["held", None, "run"])
    processes.until(lambda: place.names("hold"), "the body that holds")
    (until,) = place.rows("SELECT lease_until FROM executions")[0]
    processes.until(lambda: time.time() * 1000 > until + 200, "its first lease to be over")
    second = nursery.worker(place, PIPELINES, lease=1)
    with place.engine() as engine:
        for n in range(3):  # the second is awake, and has looked at the leases
            engine.start("stages", {"n": n}).result(timeout=processes.PATIENCE)
        processes.until(lambda: time.time() * 1000 > until + 2000, "two more leases' time")
        place.touch("open")
        assert engine.get("run").result(timeout=processes.PATIENCE) == [2, "held", 4]
    assert [line.pid for line in place.names("hold")] == [first.pid]
    second.close()
    first.close()
    assert "taken over" not in first.log
    place.check()


@pytest.mark.parametrize("handler", ["held", "held.async"])
def test_a_stopped_process_that_wakes_after_its_lease_was_taken_records_nothing(
    processes: Any, nursery: Any, place: Any, handler: str
) -> None:
    stopped = nursery.worker(place, PIPELINES, lease=1)
    with place.engine() as engine:
        run = engine.start(handler, None, "run")
        processes.until(lambda: place.names("hold"), "the body that holds")
        stopped.stop()
        other = nursery.worker(place, PIPELINES, lease=1)
        processes.until(lambda: len(place.names("hold")) == 2, "the other to take the run over")
        place.touch("open")
        assert run.result(timeout=processes.PATIENCE) == [2, "held", 4]
        other.close()
        before = place.rows("SELECT * FROM events ORDER BY run, seq")
        stopped.go_on()
        processes.until(lambda: "taken over" in stopped.log, "the stopped one to find out")
        assert place.rows("SELECT * FROM events ORDER BY run, seq") == before
        assert engine.start("small", {"n": 4}).result(timeout=processes.PATIENCE) == 8
    assert [line.pid for line in place.names("before")] == [stopped.pid]
    assert [line.pid for line in place.names("hold")] == [stopped.pid, other.pid]
    assert [line.pid for line in place.names("after")] == [other.pid]
    stopped.close()
    assert "Traceback" not in stopped.log
    place.check()


def test_a_stopped_process_whose_run_was_freed_and_not_yet_taken_records_nothing(
    processes: Any, nursery: Any, place: Any
) -> None:
    stopped = nursery.worker(place, PIPELINES, lease=1)
    with place.engine() as engine:
        engine.start("held", None, "run")
        processes.until(lambda: place.names("hold"), "the body that holds")
        stopped.stop()
        # It serves another handler only: it frees what is lost, and cannot take it.
        nursery.worker(place, PIPELINES, lease=1, only="small")
        processes.until(
            lambda: place.rows("SELECT 1 FROM executions WHERE id = 'run' AND lease_owner IS NULL"),
            "the run to be freed",
        )
        place.touch("open")
        stopped.go_on()
        assert engine.get("run").result(timeout=processes.PATIENCE) == [2, "held", 4]
    assert "taken over" in stopped.log
    assert len(place.names("hold")) == 2
    place.check()
    assert_one_at_a_time(place)
