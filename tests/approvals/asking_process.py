"""A program that serves a journal in a process of its own until it is killed.

It asks alice and bob once, over a channel that writes to a file beside the journal.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from perdure.approvals import await_approval
from perdure.approvals.channels import Channel, Notice, Receipt
from perdure.durable import Context, Duration, LocalEngine, durable_execution


class ToFile(Channel):
    """Writes a line for each message."""

    name = "file"
    personal = True

    def __init__(self, path: Path) -> None:
        self.path = path

    def send(self, notice: Notice) -> Receipt:
        with self.path.open("a") as file:
            file.write(f"{notice.kind} {notice.to[0].name}\n")
        at = notice.request.asked
        return Receipt(channel="file", to=(notice.to[0].name,), ref={}, at=at)

    def update(self, receipt: Receipt, notice: Notice) -> None:
        with self.path.open("a") as file:
            file.write(f"{notice.kind} {receipt.to[0]}\n")


@durable_execution(name="asks")
def asks(event: Any, context: Context) -> Any:
    decision = await_approval(
        context,
        {"amount": 3},
        approvers=["alice@example.org", "bob@example.org"],
        via=[ToFile(Path(event))],
        timeout=Duration.from_days(3),
    )
    return [decision.kind, decision.subject]


if __name__ == "__main__":
    journal, messages = sys.argv[1:]
    with LocalEngine(journal, handlers=[asks]) as engine:
        engine.serve()
        engine.start(asks, messages, id="run")
        engine.wait_idle()
        print("waits", flush=True)
        time.sleep(600)
