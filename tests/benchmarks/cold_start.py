"""Measure cold starts beside AWS's SDK: `python tests/benchmarks/cold_start.py`.

AWS's local runner invokes the founding handler, each time in a fresh process: as written for
perdure (once more with boto3's full client), and as written for AWS's SDK. Times are those from the
start of the process to the body of the first step, and to the body of the second, which begins once
the first is acknowledged. Packages lie in plain folders, as Lambda unpacks them.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "durable" / "aws"))
import stage  # noqa: E402

VARIANTS: dict[str, tuple[str, dict[str, str]]] = {
    "perdure": ("founding_perdure", {}),
    "perdure over boto3": ("founding_perdure", {"PERDURE_AWS_CLIENT": "boto3"}),
    "AWS's SDK": ("founding_aws", {}),
}
TARGETS = {"first step": 0.6, "first acknowledged": 1.0}
Figures = dict[str, dict[str, list[float]]]


def main() -> None:
    """Invoke each variant in turn and print the medians, and their ratio to AWS's SDK."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=15, help="of each variant")
    count = parser.parse_args().processes
    command = stage.find_runner()
    if command is None:
        raise SystemExit("dex-local-runner is not installed; it comes with perdure[dev]")
    with tempfile.TemporaryDirectory() as folder:
        runner = stage.LocalRunner(command, Path(folder) / "runner.log", [])
        try:
            figures = measure(runner, task(Path(folder)), count)
        finally:
            runner.stop()
    console = Console(width=100)
    console.print(table(figures), f"\n{count} processes each; load {os.getloadavg()[0]:.1f}")


def task(folder: Path) -> str:
    """Lay the packages out as in a function's package, and return its path."""
    (folder / "perdure").mkdir()
    (folder / "perdure" / "durable").symlink_to(ROOT / "durable")
    return os.pathsep.join([str(folder), str(HERE), sysconfig.get_path("purelib")])


def measure(runner: Any, path: str, count: int) -> Figures:
    """Return the seconds of each process by variant, after one of each that is not counted."""
    figures: Figures = {name: {figure: [] for figure in TARGETS} for name in VARIANTS}
    for number in range(count + 1):
        print(f"round {number} of {count}", file=sys.stderr)
        for name, (module, settings) in VARIANTS.items():
            first, acknowledged = cold_start(runner, path, module, settings)
            if number:
                figures[name]["first step"].append(first)
                figures[name]["first acknowledged"].append(acknowledged)
    return figures


def cold_start(
    runner: Any, path: str, module: str, settings: dict[str, str]
) -> tuple[float, float]:
    """Return the seconds from the start of a process to its first step, and to its second."""
    environment = stage.CREDENTIALS | settings
    environment |= {"PYTHONPATH": path, "AWS_ENDPOINT_URL_LAMBDA": runner.url}
    seen: list[tuple[float, float]] = []
    with stage.serving(in_a_process(module, environment, seen)) as function:
        runner.start(module, json.dumps({"document_id": "d1"}), function.url)
        stage.until(lambda: seen or function.failures, "the handler to be invoked")
        if function.failures:
            raise SystemExit(f"{module}: {function.failures[0]}")
    return seen[0]


def in_a_process(
    module: str, environment: dict[str, str], seen: list[tuple[float, float]]
) -> Callable[[str, Any], Any]:
    """Return the function that runs a bootstrap a call, and notes what it took."""
    command = [sys.executable, "-S", str(HERE / "bootstrap.py"), module]

    def call(name: str, event: Any) -> Any:
        begin = time.monotonic()
        done = subprocess.run(
            command,
            input=json.dumps(event).encode(),
            env={"PATH": os.environ["PATH"]} | environment,
            stdout=subprocess.PIPE,
            check=True,
            timeout=stage.PATIENCE,
        )
        answer = json.loads(done.stdout)
        assert answer["output"]["Status"] == "SUCCEEDED", answer
        first, second = answer["marks"][:2]
        seen.append((first - begin, second - begin))
        return answer["output"]

    return call


def table(figures: Figures) -> Table:
    """Return the medians as a table."""
    shown = Table("from process start, ms", *TARGETS, title="cold start")
    medians = {
        name: {figure: 1000 * statistics.median(times) for figure, times in each.items()}
        for name, each in figures.items()
    }
    theirs = medians["AWS's SDK"]
    for name, mine in medians.items():
        shown.add_row(
            name, *(f"{mine[figure]:.0f} ({mine[figure] / theirs[figure]:.2f})" for figure in mine)
        )
    shown.add_row("target", *(f"<= {ratio:.2f} of AWS's SDK" for ratio in TARGETS.values()))
    return shown


if __name__ == "__main__":
    main()
