"""`kill -9` of the function's process at any point: what is on record is never run again.

An at-least-once body runs a second time only if its process was killed while it ran, an
at-most-once one never; and no execution is left hanging.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest

from ..local.processes import step_key
from .kill_pipeline import AT_MOST_ONCE, CALLEE, SIDE
from .killing import Killing, Plan, Point, points
from .sandboxes import Sandboxes
from .stage import CREDENTIALS, LocalRunner, find_runner, serving
from .worlds import AwsExecution, AwsWorld

HERE = Path(__file__).parent
PATIENCE = 90
LONGEST = 0.6
"""Seconds of an invocation within which it is killed by the clock."""
KILLS = 3
"""Of one execution; Lambda gives one up after five invocations in a row that fail."""
SIDE_BY_SIDE = 8
KINDS = ("sync", "async")
ANSWER = "1000"


@dataclass
class Stage:
    """A function that can be killed, under the runner."""

    world: AwsWorld
    killing: Killing
    side: Path

    def start(self, kind: str, plan: list[Point]) -> AwsExecution:
        run = self.world.start_named(f"everything-{kind}", 3)
        self.killing.plans.setdefault(run.arn, Plan([])).points += plan
        return run

    def brought_to_its_end(self, run: AwsExecution) -> Any:
        """Complete each callback that is open until the run ends; return what it came to."""
        deadline = time.monotonic() + PATIENCE
        while (ended := run.ended()) is None:
            assert time.monotonic() < deadline, f"{run.arn} hangs: {kinds_of(run)[-6:]}"
            for callback in open_callbacks(run):
                self._complete(callback)
            time.sleep(0.15)
        return ended

    def _complete(self, callback: str) -> None:
        try:
            self.world.api.send_durable_execution_callback_success(
                CallbackId=callback, Result=ANSWER.encode()
            )
        except self.world.api.exceptions.ClientError:
            pass  # completed before, and the history was older


def open_callbacks(run: AwsExecution) -> list[str]:
    events = run.history()
    ended = {each["Id"] for each in events if each["EventType"] == "CallbackSucceeded"}
    return [
        each["CallbackStartedDetails"]["CallbackId"]
        for each in events
        if each["EventType"] == "CallbackStarted" and each["Id"] not in ended
    ]


def kinds_of(run: AwsExecution) -> list[str]:
    return [f"{each['EventType']} {each.get('Name', '')}" for each in run.history()]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    import boto3

    if find_runner() is None:
        pytest.skip("dex-local-runner is not installed (aws-durable-execution-sdk-python-testing)")
    place = tmp_path_factory.mktemp("kills")
    command = [sys.executable, str(HERE / "hasty_runner.py")]
    runner = LocalRunner(command, place / "runner.log", [CALLEE])
    killing = Killing(runner.url)
    side = place / "side"
    settings = CREDENTIALS | {"AWS_ENDPOINT_URL_LAMBDA": killing.url, SIDE: str(side)}
    session = boto3.Session(
        aws_access_key_id="none", aws_secret_access_key="none", region_name="us-west-2"
    )
    sandboxes = Sandboxes(place, HERE / "kill_pipeline.py", settings)
    before, os.environ[SIDE] = os.environ.get(SIDE), str(side)
    with serving(lambda name, event: killing.invoke(sandboxes, name, event)) as function:
        runner.send_others_to(function.url)
        api = session.client("lambda", endpoint_url=runner.url)
        yield Stage(AwsWorld(runner, function, {}, api), killing, side)
    os.environ.pop(SIDE) if before is None else os.environ.update({SIDE: before})
    sandboxes.close()
    killing.close()
    runner.stop()


@pytest.fixture(scope="module")
def undisturbed(stage: Stage) -> dict[str, tuple[Any, int]]:
    """The result and the number of calls by kind of handler, when nothing happens."""

    def one(kind: str) -> tuple[Any, int]:
        run = stage.start(kind, [])
        ended = stage.brought_to_its_end(run)
        assert ended["Status"] == "SUCCEEDED", ended
        return json.loads(ended["Result"]), stage.killing.plans[run.arn].total

    with ThreadPoolExecutor(len(KINDS)) as threads:
        found = dict(zip(KINDS, threads.map(one, KINDS), strict=True))
    check_bodies(stage)
    return found


def kill_side_by_side(
    stage: Stage, undisturbed: dict[str, tuple[Any, int]], seeds: range
) -> list[Point]:
    """Run an execution for each seed, killed at points of its own; return where it was killed."""

    def one(seed: int) -> list[Point]:
        chance = random.Random(seed)
        kind = KINDS[seed % len(KINDS)]
        result, calls = undisturbed[kind]
        plan = points(chance, KILLS, calls, LONGEST)
        run = stage.start(kind, plan)
        ended = stage.brought_to_its_end(run)
        told = f"seed {seed}, killed at {plan}: {ended.get('Error')}"
        assert ended["Status"] == "SUCCEEDED", told
        assert json.loads(ended["Result"]) == result, told
        check_history(run)
        return stage.killing.plans[run.arn].kills

    stage.killing.strays = random.Random(seeds.start)
    with ThreadPoolExecutor(SIDE_BY_SIDE) as threads:
        kills = [kill for each in threads.map(one, seeds) for kill in each]
    stage.killing.strays = None
    return kills


def check_history(run: AwsExecution) -> None:
    """Check that nothing has ended twice."""
    ends = [
        each["Id"]
        for each in run.history()
        if each["EventType"] in ("ContextSucceeded", "CallbackSucceeded", "WaitSucceeded")
    ]
    assert len(ends) == len(set(ends))


def check_bodies(stage: Stage) -> tuple[int, int]:
    """Compare the bodies that began with what the service had taken by then.

    Return how many were begun a second time, and how many at-most-once attempts were interrupted.
    """
    seeds = {arn: blake2b(arn.encode(), digest_size=8).hexdigest() for arn in stage.killing.arns}
    ended: set[tuple[str, str]] = set()
    begun: dict[tuple[str, str], list[int]] = defaultdict(list)
    names: dict[str, str] = {}
    for line in stage.side.read_text().splitlines():
        what, *words = line.split()
        if what == "ENDED":
            arn, operation, attempt, _ = words
            ended.add((step_key(seeds[arn], operation), attempt))
            continue
        _, key, attempt, process, name = words
        assert (key, attempt) not in ended, f"on record, and run again: {line}"
        begun[key, attempt].append(int(process))
        names[key] = name
    for (key, attempt), processes in begun.items():
        if names[key] in AT_MOST_ONCE:
            assert len(processes) == 1, f"attempt {attempt} of {names[key]} was begun twice"
        living = [each for each in processes[:-1] if each not in stage.killing.killed]
        assert not living, f"{names[key]} ran twice, and its process was not killed"
        assert (key, attempt) in ended, f"attempt {attempt} of {names[key]} left no record"
    again = sum(len(processes) - 1 for processes in begun.values())
    return again, sum(names[key] in AT_MOST_ONCE and attempt != "1" for key, attempt in begun)


def test_a_killed_process_never_runs_again_what_is_on_record(
    stage: Stage, undisturbed: dict[str, tuple[Any, int]]
) -> None:
    kills = kill_side_by_side(stage, undisturbed, range(4))

    check_bodies(stage)
    assert len(kills) >= 6


@pytest.mark.full
@pytest.mark.timeout(1200)
def test_a_hundred_kills_and_more(stage: Stage, undisturbed: dict[str, tuple[Any, int]]) -> None:
    first = int(os.environ.get("PERDURE_KILL_SEED", "100"))
    kills = kill_side_by_side(stage, undisturbed, range(first, first + 48))

    again, interrupted = check_bodies(stage)
    kinds = dict(Counter(kill.when for kill in kills))
    print(f"{len(kills)} kills of 48 executions, {kinds}; met {again} + {interrupted} bodies")
    assert len(kills) >= 100
    assert again, "no kill met an at-least-once body: the test shows nothing"
    assert interrupted, "no kill met an at-most-once body"
