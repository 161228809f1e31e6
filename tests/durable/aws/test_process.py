"""A Lambda function in processes of its own: what was recorded survives their death."""

from __future__ import annotations

from pathlib import Path

from .stage import in_processes, serving
from .worlds import AwsWorld, Outcome


def test_a_step_that_was_recorded_is_not_run_again_after_the_process_died(
    aws: AwsWorld, tmp_path: Path
) -> None:
    side = tmp_path / "side"
    settings = {"SIDE_FILE": str(side), "AWS_ENDPOINT_URL_LAMBDA": aws.runner.url}

    with serving(in_processes(Path(__file__).with_name("dying.py"), settings)) as function:
        run = aws.start_named("dying", None, function.url)

        assert run.outcome() == Outcome(["first", "second", "third"])
        assert function.failures == ["ProcessDied: Runtime exited with status 1"]
    assert side.read_text().split() == ["first", "dying", "second", "third"]
