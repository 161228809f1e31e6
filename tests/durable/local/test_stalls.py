"""A step that kills its process every time ends its run after five tries, and can be mended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from perdure.durable import ExecutionFailedError

PIPELINES = Path(__file__).with_name("pipelines.py")


@pytest.mark.parametrize("handler", ["deadly", "deadly.async"])
@pytest.mark.parametrize("delay", [0, 0.05])
def test_a_step_that_kills_its_process_fails_the_run_after_five_tries(
    processes: Any, nursery: Any, place: Any, handler: str, delay: float
) -> None:
    deaths = 0
    with place.engine() as engine:
        run = engine.start(handler, {"delay": delay}, "run")
        while run.status == "RUNNING":
            worker = nursery.worker(place, PIPELINES)
            processes.until(
                lambda: run.status != "RUNNING" or _is_gone(worker.pid),  # noqa: B023
                "the worker to die, or to give the run up",
            )
            if run.status == "RUNNING":
                worker.wait()
                deaths += 1
                assert deaths <= 6, "the run is tried for ever"
        with pytest.raises(ExecutionFailedError, match=r"5 invocations .* 'deadly'.* resume"):
            run.result(timeout=0)

        # The first invocation recorded a step; the five after it recorded nothing new.
        assert deaths == len(place.names("deadly")) == 6
        assert len(place.names("before")) == 1

        place.touch("mended")
        assert engine.resume("run").result(timeout=processes.PATIENCE) == [2, "alive"]
        assert len(place.names("before")) == 1
        assert len(place.names("deadly")) == 7
    place.check()


def test_a_run_beside_one_that_kills_the_process_is_not_given_up(
    processes: Any, nursery: Any, place: Any
) -> None:
    with place.engine() as engine:
        asks = engine.start("asks", None, "asks")
        deadly = engine.start("deadly", {"delay": 0.02}, "run")
        while deadly.status == "RUNNING":
            worker = nursery.worker(place, PIPELINES)
            processes.until(
                lambda: deadly.status != "RUNNING" or _is_gone(worker.pid),  # noqa: B023
                "the worker to die, or to give the run up",
            )
            if deadly.status == "RUNNING":
                worker.wait()
        (wait,) = processes.until(asks.waiting_for, "the callback")
        engine.complete_callback(wait.callback_id, "fine")
        assert asks.result(timeout=processes.PATIENCE) == "fine"
    place.check()


def _is_gone(pid: int) -> bool:
    """Return whether a process has ended; its parent may not have asked after it yet."""
    status = Path(f"/proc/{pid}/stat").read_text()
    return status.rpartition(")")[2].split()[0] == "Z"
