"""`kill -9` at any point: what was recorded is never run again, and the result is the same."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

PIPELINES = Path(__file__).with_name("pipelines.py")
RUNS = [("everything.sync", 1), ("everything.async", 2), ("everything.sync", 3)]
KILLS = 4
"""Kill points in one journal; the process is killed and started again this often."""


class Outside:
    """What the world does to the runs of a journal: it completes each callback that is open."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.runs = [
            engine.start(handler, {"n": n}, f"{handler.replace('.', '-')}-{n}")
            for handler, n in RUNS
        ]

    def act(self) -> bool:
        """Complete what is open; return whether all runs have ended."""
        going = [run for run in self.runs if run.status == "RUNNING"]
        for run in going:
            for wait in run.waiting_for():
                if wait.kind in ("callback", "event"):
                    self.engine.complete_callback(wait.callback_id, _answer(wait.path))
        return not going

    def results(self) -> list[Any]:
        return [run.result(timeout=0) for run in self.runs]


def _answer(path: str) -> Any:
    return 1000 if path.endswith("ask") else {"from": path}


@pytest.fixture(scope="module")
def undisturbed(processes: Any, nursery: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The results of the pipelines, and how many bytes their bodies write, when nothing happens."""
    place = processes.Place(tmp_path_factory.mktemp("undisturbed"))
    with place.engine() as engine:
        outside = Outside(engine)
        worker = nursery.worker(place, PIPELINES)
        processes.until(outside.act, "the undisturbed runs")
        worker.close()
        place.check()
        once_each = {(line.key, line.attempt) for line in place.lines()}
        assert len(once_each) == len(place.lines())
        return outside.results(), place.size()


def killed_at(processes: Any, nursery: Any, place: Any, points: list[int], chance: Any) -> Any:
    """Run the pipelines, with a kill each time the side file has grown so far; return the results.

    After each kill, nothing that is on record then may begin again.
    """
    recorded: set[tuple[str, int]] = set()
    size = 0
    for point in [*points, None]:
        with place.engine() as engine:
            outside = Outside(engine)
            worker = nursery.worker(place, PIPELINES)
            if point is None:
                processes.until(outside.act, "the runs to end after the last kill")
                results = outside.results()
                worker.close()
            else:
                processes.until(
                    lambda: outside.act() or place.size() >= point,  # noqa: B023
                    f"the point {point}",
                )
                time.sleep(chance.uniform(0, 0.012))
                stays = chance.random() < 0.5
                if stays:  # the journal is still open in this process when the other dies
                    worker.kill()
        if point is not None:
            worker.kill()
        place.check()
        again = [line for line in place.lines(size) if (line.key, line.attempt) in recorded]
        assert not again, f"on record, and run again after a kill: {again}"
        recorded, size = place.recorded(), place.size()
    return results


def disturb(
    processes: Any, nursery: Any, folder: Path, seed: int, undisturbed: tuple[Any, int]
) -> None:
    """Kill a worker at `KILLS` random points of the pipelines, and check all there is to check."""
    results, size = undisturbed
    chance = random.Random(seed)
    place = processes.Place(folder)
    points = sorted(chance.randrange(size) for _ in range(KILLS))
    assert killed_at(processes, nursery, place, points, chance) == results
    once = [(line.key, line.attempt) for line in place.names("once")]
    assert len(once) == len(set(once)), "an at-most-once attempt was begun twice"
    # An interrupted attempt has a record and maybe no body; all others have both.
    at_most_once = {key for key, _ in once}
    begun = {(line.key, line.attempt) for line in place.lines() if line.key not in at_most_once}
    assert begun == {(key, n) for key, n in place.recorded() if key not in at_most_once}


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_process_never_runs_again_what_is_on_record(
    processes: Any, nursery: Any, tmp_path: Path, undisturbed: Any, seed: int
) -> None:
    disturb(processes, nursery, tmp_path / "place", seed, undisturbed)


@pytest.mark.full
@pytest.mark.timeout(1200)
def test_two_hundred_kill_points(
    processes: Any, nursery: Any, tmp_path: Path, undisturbed: Any
) -> None:
    journals = 52
    first = int(os.environ.get("PERDURE_KILL_SEED", "100"))
    for seed in range(first, first + journals):
        disturb(processes, nursery, tmp_path / str(seed), seed, undisturbed)
    print(f"{journals * KILLS} kills of {journals} journals, {journals * len(RUNS)} runs")
