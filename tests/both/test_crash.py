"""A process that dies in the middle: on either engine what was recorded is not run again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from perdure.durable import LambdaEngine, Limits, LocalEngine

from ..durable.aws.front import Front
from ..durable.aws.stage import serving
from ..durable.aws.worlds import AwsWorld
from .functions import in_sandboxes
from .stages import Fared, Run, differences

FILE = Path(__file__).with_name("dies_once.py")
LINES = ["first", "a", "b", "c", "middle", "middle", "paid"]
RESULT = ["first", ["a", "b", "c"], "survived", "paid"]


def on_one_machine(folder: Path) -> Fared:
    """Run it from the command line, twice: the first process dies."""
    line = [sys.executable, "-m", "perdure.console", "run", str(FILE), "--id", "it"]
    line += ["--input", json.dumps(str(folder))]
    first = subprocess.run(line, cwd=folder, capture_output=True, timeout=60, check=False)
    assert first.returncode < 0, first.stderr
    second = subprocess.run(line, cwd=folder, capture_output=True, timeout=60, check=False)
    assert second.returncode == 0, second.stderr
    with LocalEngine(folder / ".perdure" / "journal.db", limits=Limits.aws()) as engine:
        return Run(engine, engine.get("it")).fared()


def on_lambda(world: AwsWorld, folder: Path) -> Fared:
    with serving(in_sandboxes(world, FILE, "handler")) as function:
        front = Front(world.runner, function.url)
        engine = LambdaEngine("dies-once:live", endpoint_url=front.url)
        found = Run(engine, engine.start(None, str(folder))).fared()
        front.close()
        assert len(function.failures) == 1
    return found


def test_a_crash_in_the_middle_is_survived_alike(aws: AwsWorld, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()

    local, remote = on_one_machine(here), on_lambda(aws, there)

    assert local.value == remote.value == RESULT
    assert (here / "side").read_text().split() == LINES
    assert (there / "side").read_text().split() == LINES
    assert not differences(local, remote)
