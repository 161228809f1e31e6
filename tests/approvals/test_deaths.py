"""A process that dies at any write: the same decision, and twice at most what was in flight."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perdure.approvals import Escalation, await_approval
from perdure.approvals.decisions import Decision
from perdure.approvals.office import Office
from perdure.approvals.requests import REQUEST, ApprovalRequest
from perdure.durable import LocalEngine, PerdureError
from perdure.durable.gated import value_of
from perdure.durable.testing import Runner, check_replay

from . import asking_process
from .conftest import BASE_URL, KEY
from .recorder import Recorder
from .scene import ALICE, BOB, CAROL, DAY, Asked, durable

THREE = [ALICE, BOB, CAROL]
Drive = Callable[[Runner, Any], None]
RUN = "run"
START = 1_767_225_600_000


def asked(runner: Runner, run: Any) -> Asked:
    return Asked(runner, Office.at(Path(runner.engine.path).parent, runner.clock), run)


def vote(runner: Runner, run: Any, who: str, action: Any = "approve") -> None:
    """Vote, as a person does: also again, if it is not known whether it was recorded."""
    runner.settle()
    if run.status == "RUNNING" and not runner.engine.killed:
        asked(runner, run).vote(who, action)
    runner.settle()


def to_time(runner: Runner, day: float) -> None:
    """Let it be this many days after the start, timer by timer."""
    end = START + round(day * DAY * 1000)
    while not runner.engine.killed and runner.clock.now() < end:
        due = runner.engine.next_timer()
        runner.clock.set(min(end, due) if due is not None else end)
        runner.settle()


def one_yes(runner: Runner, run: Any) -> None:
    vote(runner, run, ALICE)


def late_yes(runner: Runner, run: Any) -> None:
    runner.settle()
    to_time(runner, 2.5)
    vote(runner, run, CAROL)


def nobody(runner: Runner, run: Any) -> None:
    runner.settle()
    to_time(runner, 3.1)


def two_yes(runner: Runner, run: Any) -> None:
    vote(runner, run, ALICE)
    vote(runner, run, BOB)


def veto(runner: Runner, run: Any) -> None:
    vote(runner, run, ALICE)
    vote(runner, run, CAROL, "reject")


LADDER: dict[str, Any] = {"remind": [DAY], "escalate": Escalation(2 * DAY, [CAROL])}
CASES: dict[str, tuple[dict[str, Any], Drive, str]] = {
    "one": ({}, one_yes, "approved"),
    "ladder": (LADDER, late_yes, "approved"),
    "expired": (LADDER, nobody, "expired"),
    "quorum": ({"approvers": THREE, "required": 2}, two_yes, "approved"),
    "veto": ({"approvers": THREE, "required": 2, "remind": [DAY]}, veto, "rejected"),
}


def messages(recorder: Recorder) -> Counter[tuple[str, str, str]]:
    """How often each message was told."""
    return Counter(
        (each["what"], each["kind"], name)
        for each in recorder.lines()
        for name in each["to"]
        if each["what"] != "find"
    )


class Trial:
    """One run, killed before a write or not at all."""

    def __init__(self, folder: Path, kind: str, terms: dict[str, Any], drive: Drive) -> None:
        folder.mkdir()
        self.recorder = recorder = Recorder(folder / "recorder.jsonl")
        given = {"approvers": [ALICE, BOB], "via": [recorder], "timeout": 3 * DAY} | terms

        async def body(event: Any, context: Any) -> Any:
            return (await value_of(await_approval(context, "the text", **given))).kept()

        self.handler = durable(kind, body, "asks")
        self.path = folder / "journal.db"
        self.drive = drive

    def undisturbed(self) -> Decision:
        with Runner(self.path, [self.handler]) as runner:
            run = runner.start(self.handler, None, RUN)
            self.drive(runner, run)
            return Decision.read(run.result(timeout=5))

    def killed(self, point: int) -> Decision | None:
        """Return the decision after it died before this write and went on; None if it did not."""
        with Runner(self.path, [self.handler]) as runner:
            runner.crash_after(point)
            died = False
            try:
                self.drive(runner, runner.start(self.handler, None, RUN))
                died = runner.engine.killed
            except PerdureError:
                died = True
            if not died:
                return None
            runner.restart()
            run = runner.start(self.handler, None, RUN)
            runner.settle()
            self.drive(runner, run)
            runner.run_until_idle()
            check_replay(run)
            return Decision.read(run.result(timeout=5))


@pytest.mark.parametrize("case", CASES)
def test_death_at_any_write_changes_no_decision_and_repeats_at_most_the_message_in_flight(
    tmp_path: Path, kind: str, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERDURE_APPROVAL_KEYS", KEY)
    monkeypatch.setenv("PERDURE_BASE_URL", BASE_URL)
    terms, drive, expected = CASES[case]
    calm = Trial(tmp_path / "calm", kind, terms, drive)
    assert calm.undisturbed().kind == expected
    wanted = messages(calm.recorder)
    point, surplus = 0, 0
    while True:
        trial = Trial(tmp_path / str(point), kind, terms, drive)
        decision = trial.killed(point)
        if decision is None:
            break
        assert decision.kind == expected, f"killed before write {point + 1}"
        told = messages(trial.recorder)
        assert not wanted - told, f"killed before write {point + 1}: {wanted - told} not told"
        again = told - wanted
        surplus += again.total()
        for message, times in again.items():
            assert times == 1, f"killed before write {point + 1}: {message} told {times} more"
            if message[0] == "send":
                assert message[2] in trial.recorder.told("find"), "it was looked for first"
        point += 1
    assert point > 4
    assert surplus, "no death met a message in flight: the test shows nothing"


def test_a_message_that_can_be_found_again_is_never_sent_twice(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERDURE_APPROVAL_KEYS", KEY)
    point, found = 0, 0
    while True:
        trial = Trial(tmp_path / str(point), kind, {}, one_yes)
        trial.recorder.finds = True
        if trial.killed(point) is None:
            break
        assert trial.recorder.told("send") == [ALICE, BOB]
        found += len(trial.recorder.lines("find"))
        point += 1
    assert found


class Child:
    """The program in a process of its own."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, asking_process.__file__, str(folder / "journal.db")]
        self.process = subprocess.Popen(
            [*command, str(folder / "messages")], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "waits\n"

    def kill(self) -> None:
        self.process.kill()
        assert self.process.wait() == -signal.SIGKILL


def test_what_waits_outlives_a_killed_server_and_is_asked_once(tmp_path: Path) -> None:
    seen = []
    for _ in range(2):
        child = Child(tmp_path)
        child.kill()
        with LocalEngine(tmp_path / "journal.db") as engine:
            [open_] = engine.open_callbacks()
            [step] = engine.steps("run", REQUEST)
            found = ApprovalRequest.read(json.loads(step.payload or "null"))
            seen.append((open_.callback_id, open_.due, found.id, found.digest, found.deadline))
    assert seen[0] == seen[1]
    assert sorted((tmp_path / "messages").read_text().splitlines()) == [
        "request alice@example.org",
        "request bob@example.org",
    ]
    assert (tmp_path / "approval.key").stat().st_mode & 0o077 == 0
