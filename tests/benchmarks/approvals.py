"""Measure approvals with many pending: `python tests/benchmarks/approvals.py`.

A journal with 10,000 pending approvals is made by running a real handler; then `perdure serve`
serves it, in a process of its own. Measured are a page of the inbox, over HTTP as somebody who is
signed in; `perdure inbox`; a decision, from its POST to the body of the handler's next step; and
what the idle server takes, beside one with nothing pending.
"""

import argparse
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
from rich.console import Console
from rich.table import Table

from perdure.durable import LocalEngine

HANDLER = """
import time

from perdure.approvals import await_approval
from perdure.approvals.people import account
from perdure.durable import durable_execution


@durable_execution
async def asks(event, context):
    subject = {"invoice": event, "usd": 1250, "to": "carol@example.org"}
    await await_approval(context, subject, approvers=[account(), "user:alice"], title="Pay it?")
    return await context.step("entered", time.time)
"""
PERSON = {"sec-fetch-site": "same-origin", "sec-fetch-mode": "navigate", "sec-fetch-user": "?1"}
TARGETS = {"inbox page p50 ms": "<= 300", "decision to handler p50 ms": "<= 50"}
BATCH = 500
Figures = dict[str, float]


def main() -> None:
    """Make the journal, measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pending", type=int, default=10_000)
    parser.add_argument("--times", type=int, default=40, help="how often each request is sent")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, empty = Path(name), Path(name) / "empty"
        empty.mkdir()
        for each in (folder, empty):
            (each / "asks.py").write_text(HANDLER)
        figures = made(folder, given.pending)
        with serving(empty) as server:
            figures |= idle(server, "with none")
        with serving(folder) as server:
            figures |= idle(server, "with all")
            figures |= asked(server, given.times)
        figures |= spread("perdure inbox", [timed(perdure, folder, "inbox") for _ in range(7)])
        figures |= spread("of it to start", [timed(perdure, folder, "--help") for _ in range(7)])
    shown = Table("figure", "measured", "target", title=f"{given.pending:,} pending approvals")
    for figure, value in figures.items():
        shown.add_row(figure, f"{value:,.1f}", TARGETS.get(figure, ""))
    Console(width=100).print(shown, f"load {os.getloadavg()[0]:.1f}")


def made(folder: Path, count: int) -> Figures:
    """Run the handler until that many wait; return what it took."""
    from perdure.console.loader import load

    handler = load(str(folder / "asks.py"))[0].pick()
    path = folder / ".perdure" / "journal.db"
    path.parent.mkdir()
    begin = time.perf_counter()
    with LocalEngine(path, handlers=[handler]) as engine:
        for first in range(0, count, BATCH):
            last = min(first + BATCH, count)
            engine.start_many(handler, [(n, f"r{n}") for n in range(first, last)])
            until(lambda: engine.count_callbacks() >= last)  # noqa: B023
        engine.wait_idle(300)
    took = time.perf_counter() - begin
    size = sum(each.stat().st_size for each in path.parent.glob("journal.db*") if each.is_file())
    return {"asked a second": count / took, "bytes each": size / count}


@dataclass(frozen=True)
class Server:
    """A `perdure serve` that is up."""

    folder: Path
    process: psutil.Process
    url: str


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """Serve the journal of a folder meanwhile."""
    command = [sys.executable, "-P", "-m", "perdure.console.cli", "serve", "asks.py", "--port", "0"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = ""
        while "Ctrl-C stops" not in said:
            said += process.stdout.readline()
        found = re.search(r"approvals: (http\S+)/inbox", said)
        assert found is not None
        drain = threading.Thread(target=process.stdout.read)
        drain.start()
        try:
            yield Server(folder, psutil.Process(process.pid), found[1])
        finally:
            process.send_signal(signal.SIGINT)
            drain.join()


def idle(server: Server, what: str) -> Figures:
    """Return what a server takes that has nothing to do."""
    time.sleep(2)
    server.process.cpu_percent()
    time.sleep(3)
    return {
        f"idle {what}: threads": server.process.num_threads(),
        f"idle {what}: memory MB": server.process.memory_info().rss / 1e6,
        f"idle {what}: CPU %": server.process.cpu_percent(),
    }


def asked(server: Server, times: int) -> Figures:
    """Return what pages and decisions take."""
    link = perdure(server.folder, "login").strip()
    with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as browser:
        browser.post(link, headers=PERSON)
        pages = [timed(looked, browser, "/inbox") for _ in range(times)]
        figures = spread("inbox page", pages)
        figures |= spread("decision to handler", [decided(server, browser) for _ in range(times)])
    figures["after that: threads"] = server.process.num_threads()
    figures["after that: memory MB"] = server.process.memory_info().rss / 1e6
    return figures


def looked(browser: httpx.Client, path: str) -> str:
    """Return a page."""
    return browser.get(path).raise_for_status().text


def decided(server: Server, browser: httpx.Client) -> float:
    """Approve the newest request; return the seconds until the next step of its handler."""
    path = re.findall(r'class="name" href="([^"]+)"', looked(browser, "/inbox"))[0]
    found = re.search(r'name="csrf" value="([^"]+)"', looked(browser, path))
    assert found is not None
    form = {"csrf": found[1], "decision": "approve"}
    begin = time.time()
    browser.post(path, data=form, headers=PERSON).raise_for_status()
    engine = LocalEngine(server.folder / ".perdure" / "journal.db")
    try:
        entered: float = engine.get(path.split("/")[-2]).result(timeout=60)
    finally:
        engine.close()
    return entered - begin


def perdure(folder: Path, *words: str) -> str:
    """Run a command; return what it printed."""
    command = [sys.executable, "-P", "-m", "perdure.console.cli", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


def timed(call: Callable[..., Any], *args: Any) -> float:
    """Return the seconds that a call takes."""
    begin = time.perf_counter()
    call(*args)
    return time.perf_counter() - begin


def spread(what: str, seconds: list[float]) -> Figures:
    """Return the median and the 95th percentile, in milliseconds."""
    p95 = statistics.quantiles(seconds, n=20)[-1]
    return {f"{what} p50 ms": statistics.median(seconds) * 1000, f"{what} p95 ms": p95 * 1000}


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, up to five minutes."""
    end = time.monotonic() + 300
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("not so after five minutes")
        time.sleep(0.005)


if __name__ == "__main__":
    main()
