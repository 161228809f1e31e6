"""The real command, in processes of its own, on real journal files."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from perdure.durable import LocalEngine, Operation

FLOW = '''
import time
from pathlib import Path

from perdure.durable import Duration, durable_execution

HERE = Path(__file__).parent


def work(name, gated=()):
    """Leave a line, and stay until the gate is opened, if there is one."""
    with (HERE / "log.txt").open("a") as log:
        log.write(name + "\\n")
    while name in gated and not (HERE / f"open-{name}").exists():
        time.sleep(0.01)
    return name.upper()


def breaks():
    work("second")
    if not (HERE / "fixed").exists():
        raise ValueError("broken [red]x[/red] \\x1b[2J")
    return "mended"


@durable_execution
def handler(event, context):
    gated = (event or {}).get("gated", [])
    print("the body speaks")
    return [context.step(name, work, name, gated) for name in ("first", "second")]


@durable_execution
def asks(event, context):
    context.step("prepare", work, "prepare")
    return {"answer": context.wait(Duration.from_days(7), name="approval")}


@durable_execution
def fails(event, context):
    context.step("first", work, "first")
    return context.step("second", breaks, retry=event)


@durable_execution
def naps(event, context):
    context.step("before", work, "before")
    context.sleep(event, name="nap")
    return "rested"
'''


class Shell:
    """A folder with `flow.py` in it, and the command `perdure` typed there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal = folder / ".perdure" / "journal.db"
        self._started: list[subprocess.Popen[str]] = []
        self.write("flow.py", FLOW)

    def __call__(
        self, *words: str, code: int | None = 0, input: str | None = None, **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; it must end with this code, and never with a traceback."""
        done = subprocess.run(
            self.command(*words),
            cwd=self.folder,
            env=self.environment(env),
            input=input,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert code is None or done.returncode == code, (done.returncode, done.stdout, done.stderr)
        assert not re.search("^Traceback", done.stdout + done.stderr, re.MULTILINE)
        return done

    def start(self, *words: str, **env: str) -> subprocess.Popen[str]:
        """Start a command; what it says goes to `output.txt`."""
        with (self.folder / "output.txt").open("w") as output:
            started = subprocess.Popen(
                self.command(*words),
                cwd=self.folder,
                env=self.environment(env),
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
            )
        self._started.append(started)
        return started

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-P", "-m", "perdure.console.cli", *words]

    def environment(self, more: dict[str, str]) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name != "PERDURE_JOURNAL"}
        return kept | {"FORCE_COLOR": "1", "PYTHONUNBUFFERED": "1"} | more

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def open_gate(self, name: str) -> None:
        self.write(f"open-{name}", "")

    def output(self) -> str:
        """What the command started last has said so far."""
        return (self.folder / "output.txt").read_text()

    def ran(self) -> list[str]:
        """The bodies that ran, in order."""
        log = self.folder / "log.txt"
        return log.read_text().split() if log.exists() else []

    @contextmanager
    def engine(self) -> Iterator[LocalEngine]:
        """The journal, looked at from this process."""
        engine = LocalEngine(self.journal)
        try:
            yield engine
        finally:
            engine.close()

    def operations(self, id: str) -> dict[str, Operation]:
        if not self.journal.exists():
            return {}
        with self.engine() as engine:
            known = any(run.id == id for run in engine.list())
            return engine.operations(id) if known else {}

    def status(self, id: str) -> str:
        with self.engine() as engine:
            return engine.info(id).status.value

    def until_begun(self, id: str, path: str) -> None:
        """Wait until the journal says that this operation has begun."""
        until(lambda: path in self.operations(id), f"{path} of {id} begun", self.output)

    def until_said(self, words: str) -> None:
        """Wait until the command started last has said this."""
        until(lambda: words in self.output(), f"{words!r} in the output", self.output)

    def end(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait()


def until(condition: Callable[[], Any], what: str, seen: Callable[[], str] = str) -> None:
    """Wait for a condition, up to a minute."""
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within a minute: {what}; {seen()}")
        time.sleep(0.02)


@pytest.fixture
def perdure(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    shell.end()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """One folder for the tests of a module that leave it as it is."""
    shell = Shell(tmp_path_factory.mktemp("shared"))
    yield shell
    shell.end()
