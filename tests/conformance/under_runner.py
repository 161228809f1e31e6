"""Runs requirements' handlers under AWS's local runner, side by side, in the time that passes.

The handler is invoked over HTTP by the runner, and what it left is read from the runner: by the
operator's engine, as a user would.
"""

import json
import logging
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from perdure.durable import LambdaEngine

from ..durable.aws.stage import CREDENTIALS, ProcessDied, serving
from ..durable.aws.worlds import AwsWorld
from ..waiting import until
from .callbacks import OutsideWorld
from .dying import EXIT_CODE, MUST_DIE
from .judge import CRASHES, captured_logs, findings, is_over, message
from .requirements import Requirement
from .waivers import under_the_runner

PATIENCE = 90  # seconds within which a run must end
LOOK = 0.1
SIDE_BY_SIDE = 16
HERE = Path(__file__).parent


def judge_side_by_side(
    world: AwsWorld, requirements: list[Requirement], handlers: dict[str, Any]
) -> dict[str, list[str]]:
    """Run the handlers for the requirements; return all that is not as required, by id."""
    found: dict[str, list[str]] = {}

    def one(requirement: Requirement) -> None:
        judged, handler = under_the_runner(requirement), handlers[requirement.id]
        try:
            if requirement.id in CRASHES:
                found[requirement.id] = _judge_mortal(world, judged, handler)
            else:
                found[requirement.id] = _judge(world, judged, handler, records)
        except Exception as error:
            found[requirement.id] = [f"{type(error).__name__}: {error}"]

    with captured_logs() as records, ThreadPoolExecutor(SIDE_BY_SIDE) as threads:
        list(threads.map(one, requirements))
    return found


def _judge(
    world: AwsWorld, requirement: Requirement, handler: Any, records: list[logging.LogRecord]
) -> list[str]:
    """Run a handler in this process.

    Of what all of them log, it is judged by the records of its own run, and by those that name
    none, as a step's logger writes them: the words that are counted are made up for each run.
    """
    arn = world.start(handler, requirement.event).arn
    run = _driven(world, requirement, arn)
    own = arn.rpartition("/")[2]
    said = [message(each) for each in records if getattr(each, "execution_id", own) == own]
    return findings(requirement, run, said)


def _judge_mortal(world: AwsWorld, requirement: Requirement, handler: Any) -> list[str]:
    """Run a handler in processes of its own."""
    function = Mortal(world, requirement.id)
    with serving(function.invoke) as served:
        started = world.start_named(handler.name, requirement.event, served.url)
        run = _driven(world, requirement, started.arn)
        return findings(requirement, run, function.messages)


class Mortal:
    """A function with a process for each invocation; the first dies once its step is on record."""

    def __init__(self, world: AwsWorld, id: str) -> None:
        self.messages: list[str] = []
        self._world = world
        self._id = id
        self._invocations = 0

    def invoke(self, name: str, event: Any) -> Any:
        self._invocations += 1
        doomed = self._invocations == 1
        with subprocess.Popen(
            [sys.executable, "-m", f"{HERE.name}.sandbox", self._id],
            cwd=HERE.parent,
            env=self._environment(doomed),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdin is not None
            process.stdin.write(json.dumps(event) + "\n")
            process.stdin.flush()
            if doomed:
                arn = event["DurableExecutionArn"]
                until(lambda: _is_step_started(self._world, arn), "StepStarted")
            output, said = process.communicate()
        self.messages += [json.loads(line) for line in said.splitlines()]
        if process.returncode:
            assert process.returncode == EXIT_CODE, said
            raise ProcessDied(f"Runtime exited with status {process.returncode}")
        return json.loads(output)

    def _environment(self, doomed: bool) -> dict[str, str]:
        own = {"AWS_ENDPOINT_URL_LAMBDA": self._world.runner.url}
        return os.environ | CREDENTIALS | own | ({MUST_DIE: "once"} if doomed else {})


def _is_step_started(world: AwsWorld, arn: str) -> bool:
    page = world.api.get_durable_execution_history(DurableExecutionArn=arn)
    return any(event["EventType"] == "StepStarted" for event in page["Events"])


def _driven(world: AwsWorld, requirement: Requirement, arn: str) -> Any:
    """Do what the outside world does until the run is over; return its handle.

    Callbacks are completed between invocations, as the requirements have it.
    """
    engine = LambdaEngine("conformance", client=world.api)
    run = engine.get(arn)
    outside = OutsideWorld(requirement.actions)
    deadline = time.monotonic() + PATIENCE
    while not is_over(requirement, run):
        assert time.monotonic() < deadline, f"{requirement.id} has not ended in {PATIENCE} s"
        events = run.history()
        if events[-1]["EventType"] == "InvocationCompleted":
            outside.act(engine, events, int(time.time() * 1000))
        time.sleep(LOOK)
    if run.status == "RUNNING":
        run.cancel()
    return run
