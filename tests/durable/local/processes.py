"""Real worker processes for tests: forked by a small server, killed with SIGKILL, watched.

Run as a script this file is the server: it imports perdure once and forks a worker for each line
it is sent. Imported, it is the other end. Step bodies append a line to a side file as they begin,
in one write; `Place` compares those lines with what the journal has on record.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import select
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from hashlib import blake2b
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from perdure.durable import LocalEngine, current_step

SIDE = "PERDURE_TEST_SIDE"
PATIENCE = 30.0
"""Seconds after which a condition that should come is given up."""


def until(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Return the condition's first true value; fail when it does not come."""
    deadline = time.monotonic() + patience
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {patience:g} s in vain for {what}"
        time.sleep(0.001)
    return value


def note(tag: str = "") -> None:
    """Append a line that says which step's body begins here."""
    step = current_step()
    line = (
        f"{step.execution_id} {step.idempotency_key} {step.attempt} {os.getpid()} {step.name} {tag}"
    )
    append(line)


def append(line: str) -> None:
    """Append one line to the side file, whole or not at all."""
    fd = os.open(os.environ[SIDE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(fd, f"{line.rstrip()}\n".encode())
    finally:
        os.close(fd)


def exists(name: str) -> bool:
    """Return whether a file of this name stands beside the side file."""
    return Path(os.environ[SIDE]).with_name(name).exists()


class Line(NamedTuple):
    """One line of the side file: a body that began."""

    run: str
    key: str
    attempt: int
    pid: int
    name: str
    tag: str


class Place:
    """A folder with a journal, a side file and the logs of its workers."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.journal = folder / "journal.db"
        self.side = folder / "side.txt"
        self.side.touch()

    def touch(self, name: str) -> None:
        """Make a file that bodies may wait for."""
        (self.folder / name).touch()

    def size(self) -> int:
        """Return how many bytes the bodies have written."""
        return self.side.stat().st_size

    def lines(self, start: int = 0) -> list[Line]:
        """Return the bodies that began, from a place in the side file on."""
        text = self.side.read_bytes()[start:].decode()
        return [_line(line) for line in text.splitlines()]

    def names(self, name: str) -> list[Line]:
        """Return the bodies of this name that began."""
        return [line for line in self.lines() if line.name == name]

    def rows(self, sql: str, *values: Any) -> list[Any]:
        """Return what is in the journal file now."""
        with closing(sqlite3.connect(self.journal, timeout=30)) as db:
            return db.execute(sql, values).fetchall()

    def recorded(self) -> set[tuple[str, int]]:
        """Return the attempts of steps that have a record, as side lines spell them."""
        rows = self.rows(
            "SELECT x.seed, e.op, e.attempt FROM events e JOIN executions x ON x.run = e.run"
            " WHERE e.kind IN ('StepSucceeded', 'StepFailed', 'StepRetried')"
        )
        return {(step_key(seed, op), attempt) for seed, op, attempt in rows}

    def check(self) -> None:
        """Check the file's integrity, and that nothing was recorded twice."""
        assert self.rows("PRAGMA integrity_check") == [("ok",)]
        ends = self.rows(
            "SELECT run, op, attempt FROM events WHERE op IS NOT NULL AND kind NOT LIKE '%Started'"
            " AND kind NOT LIKE '%Heartbeat'"
        )
        twice = [key for key, count in Counter(ends).items() if count > 1]
        assert not twice, f"recorded twice: {twice}"
        gaps = self.rows("SELECT run FROM events GROUP BY run HAVING max(seq) <> count(*)")
        assert not gaps, f"a gap in the events of runs {gaps}"
        outcomes = self.rows(
            "SELECT run FROM events GROUP BY run HAVING sum(kind IN ('ExecutionSucceeded',"
            " 'ExecutionFailed', 'ExecutionTimedOut')) > 1 + sum(kind = 'ExecutionResumed')"
        )
        assert not outcomes, f"ended twice: {outcomes}"

    @contextmanager
    def engine(self, *handlers: Any, **options: Any) -> Iterator[LocalEngine]:
        """Lend an engine of the test's own process on the journal."""
        os.environ[SIDE] = str(self.side)
        with LocalEngine(self.journal, handlers, **options) as engine:
            yield engine


def step_key(seed: str, operation: str) -> str:
    """Return the idempotency key of a step, by its run's seed and its id."""
    return blake2b(f"{seed}\0{operation}".encode(), digest_size=16).hexdigest()


def _line(text: str) -> Line:
    run, key, attempt, pid, name, *tag = text.split(" ")
    return Line(run, key, int(attempt), int(pid), name, " ".join(tag))


class Worker:
    """A worker process, seen from the test."""

    def __init__(self, nursery: Nursery, pid: int, log: Path) -> None:
        self._nursery = nursery
        self.pid = pid
        self._log = log
        self.alive = True

    @property
    def log(self) -> str:
        """What the process has written to its log."""
        return self._log.read_text()

    def kill(self) -> None:
        """Send SIGKILL, and return when the process is gone."""
        if self.alive:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()

    def stop(self) -> None:
        """Send SIGSTOP: the process keeps all it has and does nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Send SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """Have the worker close its engine and end."""
        if self.alive:
            os.kill(self.pid, signal.SIGTERM)
            assert self.wait() == 0, self.log

    def wait(self) -> int:
        """Return the wait status of the process once it has ended."""
        status = self._nursery.ask({"wait": self.pid})["status"]
        self.alive = False
        return int(status)


class Nursery:
    """A process that has imported perdure and forks workers in milliseconds."""

    def __enter__(self) -> Nursery:
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._count = 0
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=PATIENCE)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def worker(
        self,
        place: Place,
        handlers: Path,
        *,
        only: str | None = None,
        start: list[Any] | None = None,
        **options: Any,
    ) -> Worker:
        """Start a process that serves a journal with the `HANDLERS` of a file, and wait for it.

        Args:
            only: the name of the one handler to serve.
            start: handler, event and id of a run that the process itself starts.
            options: of its engine.
        """
        self._count += 1
        log = place.folder / f"worker-{self._count}.log"
        answer = self.ask(
            {
                "journal": str(place.journal),
                "side": str(place.side),
                "log": str(log),
                "handlers": str(handlers),
                "only": only,
                "start": start,
                "options": options,
            }
        )
        assert answer["ready"], log.read_text()
        return Worker(self, answer["pid"], log)

    def ask(self, request: dict[str, Any]) -> Any:
        """Send one request and return its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], PATIENCE)
        assert ready, f"no answer to {request}"
        return json.loads(self._process.stdout.readline())


def load(path: str | Path) -> ModuleType:
    """Return the module of a file, under its stem's name."""
    name = Path(path).stem
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


def _serve() -> None:
    children: set[int] = set()
    sys.modules["processes"] = sys.modules["__main__"]
    try:
        for line in sys.stdin:
            request = json.loads(line)
            if "wait" in request:
                _, status = os.waitpid(request["wait"], 0)
                children.discard(request["wait"])
                answer: dict[str, Any] = {"status": status}
            else:
                load(request["handlers"])
                pid, ready = _fork(request)
                children.add(pid)
                answer = {"pid": pid, "ready": ready}
            print(json.dumps(answer), flush=True)
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _fork(request: dict[str, Any]) -> tuple[int, bool]:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            _work(request, writer)
        except BaseException:
            logging.exception("the worker failed")
            os._exit(1)
        os._exit(0)
    os.close(writer)
    ready = os.read(reader, 1) == b"+"
    os.close(reader)
    return pid, ready


def _work(request: dict[str, Any], ready: int) -> None:
    log = os.open(request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    logging.basicConfig(level=logging.INFO, format="%(name)s %(levelname)s %(message)s")
    os.environ[SIDE] = request["side"]
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    known = {handler.name: handler for handler in load(request["handlers"]).HANDLERS}
    handlers = [known[request["only"]]] if request["only"] else known.values()
    with LocalEngine(request["journal"], handlers, **request["options"]) as engine:
        if request["start"]:
            name, event, id = request["start"]
            engine.start(known[name], event, id)
        os.write(ready, b"+")
        os.close(ready)
        signal.sigwait({signal.SIGTERM})


if __name__ == "__main__":
    _serve()
