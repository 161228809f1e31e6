"""Runs a requirement's handler on the embedded engine, on a clock that is moved by hand."""

from pathlib import Path
from typing import Any

from perdure.durable import Limits
from perdure.durable.testing import Runner

from .callbacks import OutsideWorld
from .dying import run_until_killed
from .judge import CRASHES, captured_logs, findings, is_over, message
from .requirements import Requirement

EXECUTION = "conformance"
HORIZON = 120  # seconds on the manual clock within which a run must end


def judge(requirement: Requirement, handler: Any, journal: Path) -> list[str]:
    """Run the handler for the requirement; return all that is not as required."""
    messages: list[str] = []
    if requirement.id in CRASHES:
        messages += run_until_killed(requirement.id, journal, EXECUTION, requirement.event)
    with (
        captured_logs() as records,
        Runner(journal, handlers=[handler], limits=Limits.aws()) as runner,
    ):
        if requirement.id in CRASHES:
            run = runner.engine.get(EXECUTION)
        else:
            run = runner.start(handler, requirement.event, id=EXECUTION)
        _drive(requirement, runner, run)
        return findings(requirement, run, [*messages, *map(message, records)])


def _drive(requirement: Requirement, runner: Runner, run: Any) -> None:
    """Let the run go on, second by second, until it has ended."""
    world = OutsideWorld(requirement.actions)
    for _ in range(HORIZON):
        runner.settle()
        while world.act(runner.engine, run.history(), runner.clock.now()):
            runner.settle()
        if is_over(requirement, run):
            return
        runner.clock.advance(1)
