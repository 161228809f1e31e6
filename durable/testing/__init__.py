"""Test pipelines in plain pytest: skip time, kill the engine between two writes, replay a run.

with Runner(tmp_path / "journal.db", handlers=[handler]) as runner:
run = runner.start(handler, {"document_id": "d1"})
runner.run_until_idle()
assert run.result() == {"status": "complete", "doc_id": "d1"}
check_replay(run)
"""

from .clock import ManualClock
from .crashes import check_crashes
from .replay import ReplayDifference, check_replay
from .runner import Crashed, Runner

__all__ = [
    "Crashed",
    "ManualClock",
    "ReplayDifference",
    "Runner",
    "check_crashes",
    "check_replay",
]
