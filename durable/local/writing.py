"""Who writes what an event loop's runs have queued: the loop itself where that is quick."""

from __future__ import annotations

from ..group_commit import GroupCommit
from ..host import Host


class LoopWriter:
    """Writes what all runs of the loop queued in one turn, in one commit.

    Handing a commit to another thread costs more than a commit on a fast disk takes; where commits
    are slow, the background thread does them and the loop goes on.
    """

    def __init__(self, group: GroupCommit, host: Host) -> None:
        self._group = group
        self._host = host
        self._scheduled = False

    def soon(self) -> None:
        """Have what is queued written; from any thread."""
        if not self._host.on_loop() or not self._group.quick():
            self._group.wake()
        elif not self._scheduled:
            self._scheduled = True
            self._host.loop.call_soon(self._lead)

    def _lead(self) -> None:
        self._scheduled = False
        if not self._group.lead():
            self._group.wake()
