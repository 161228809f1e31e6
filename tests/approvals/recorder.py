"""A channel that writes each thing it is asked to do to a file, where a kill does not reach it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from perdure.approvals.channels import Notice, Receipt
from perdure.approvals.people import Approver

Trouble = Callable[[str, Notice], None]


class Recorder:
    """The channel.

    Args:
        trouble: called before and after each send, update and find with its name ("send",
            "sent", ...); what it raises the channel raises.
        finds: whether it can look for what an interrupted attempt sent.
    """

    def __init__(
        self,
        path: Path,
        name: str = "recorder",
        *,
        personal: bool = True,
        trouble: Trouble | None = None,
        finds: bool = False,
    ) -> None:
        self.path = path
        self.name = name
        self.personal = personal
        self.trouble = trouble or (lambda what, notice: None)
        self.finds = finds

    def reaches(self, approver: Approver) -> bool:
        return not approver.name.startswith("user:")

    def send(self, notice: Notice) -> Receipt:
        self._do("send", notice)
        to = tuple(each.name for each in notice.to)
        return Receipt(channel=self.name, to=to, ref={"to": list(to)}, at=datetime.now(UTC))

    def update(self, receipt: Receipt, notice: Notice) -> None:
        self._do("update", notice)

    def find(self, notice: Notice, since: datetime) -> Receipt | None:
        self._do("find", notice)
        to = [each.name for each in notice.to]
        if not self.finds or to not in [each["to"] for each in self.lines("send")]:
            return None
        return Receipt(channel=self.name, to=tuple(to), ref={"to": to}, at=since)

    def spec(self) -> dict[str, Any] | None:
        return None

    def _do(self, what: str, notice: Notice) -> None:
        self.trouble(what, notice)
        line = {
            "channel": self.name,
            "what": what,
            "kind": notice.kind,
            "to": [each.name for each in notice.to],
            "attempt": notice.attempt,
            "number": notice.number,
            "decision": notice.decision.kind if notice.decision is not None else None,
            "seed": notice.seed,
            "now": notice.office.clock.now() // 1000,
        }
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.trouble(f"{what} done", notice)

    def lines(self, what: str | None = None, kind: str | None = None) -> list[dict[str, Any]]:
        """Return what was done, in order."""
        return [
            each
            for each in self._lines()
            if each["channel"] == self.name
            and what in (None, each["what"])
            and kind in (None, each["kind"])
        ]

    def told(self, what: str | None = None, kind: str | None = None) -> list[str]:
        """Return who was told, in order."""
        return sorted(name for each in self.lines(what, kind) for name in each["to"])

    def _lines(self) -> Iterator[dict[str, Any]]:
        with suppress(FileNotFoundError):
            for line in self.path.read_text().splitlines():
                yield json.loads(line)
