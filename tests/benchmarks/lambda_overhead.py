"""Measure a warm sandbox beside AWS's SDK: `python tests/benchmarks/lambda_overhead.py`.

Both run against one stand-in for the durable API, in a process of its own. The overhead is what a
step in a row takes, less what the API itself takes, which is measured beside it. Calls are counted
for the steps in a row, and for a map of 900 one-step branches, nested and flat.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
VARIANTS: dict[str, tuple[str, dict[str, str]]] = {
    "perdure": ("warm_perdure", {}),
    "perdure over boto3": ("warm_perdure", {"PERDURE_AWS_CLIENT": "boto3"}),
    "AWS's SDK": ("warm_aws", {}),
}
SETTINGS = {
    "AWS_ACCESS_KEY_ID": "none",
    "AWS_SECRET_ACCESS_KEY": "none",
    "AWS_REGION": "us-west-2",
    "AWS_DEFAULT_REGION": "us-west-2",
    "PYTHONPATH": str(HERE),
}


def main() -> None:
    """Measure each variant in turn, in processes of their own, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="processes of each variant")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--latency", type=float, default=2, help="of the stand-in, milliseconds")
    chosen = parser.parse_args()
    figures: dict[str, list[dict[str, Any]]] = {name: [] for name in VARIANTS}
    with stub(chosen.latency / 1000) as url:
        for number in range(chosen.rounds):
            for name, (module, settings) in VARIANTS.items():
                print(f"round {number + 1} of {chosen.rounds}: {name}", file=sys.stderr)
                figures[name].append(measure(module, url, settings, chosen.steps))
    console = Console(width=120)
    console.print(table(figures, chosen.steps), f"\nload {os.getloadavg()[0]:.1f}")


@contextmanager
def stub(latency: float) -> Iterator[str]:
    """Serve the stand-in for a while; it takes so many seconds to answer."""
    command = [sys.executable, str(HERE / "lambda_stub.py"), str(latency)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.terminate()
        process.wait(timeout=10)


def measure(module: str, url: str, settings: dict[str, str], steps: int) -> dict[str, Any]:
    """Return the figures of one process."""
    environment = {"PATH": os.environ["PATH"], "AWS_ENDPOINT_URL_LAMBDA": url} | SETTINGS | settings
    command = [sys.executable, str(HERE / "warm.py"), module, "1", str(steps)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, timeout=300)
    return dict(json.loads(done.stdout))


def table(figures: dict[str, list[dict[str, Any]]], steps: int) -> Table:
    """Return the medians as a table."""
    shown = Table(
        *("warm", "API, ms", "step, ms", "overhead, ms", f"calls, {steps} steps"),
        *("calls, nested", "calls, flat"),
    )
    medians = {name: overhead(each) for name, each in figures.items()}
    theirs = medians["AWS's SDK"][2]
    for name, (api, step, extra) in medians.items():
        calls = [max(each["calls"][key]["calls"] for each in figures[name]) for key in SHAPES]
        times = (f"{api:.2f}", f"{step:.2f}", f"{extra:.2f} ({extra / theirs:.2f})")
        shown.add_row(name, *times, *map(str, calls))
    shown.add_row("target", "", "", "<= 0.50 of AWS's SDK", f"<= {steps}", "<= 30", "<= 30")
    return shown


SHAPES = ("sequential", "nested", "flat")


def overhead(processes: list[dict[str, Any]]) -> tuple[float, float, float]:
    """Return the medians in ms: of the API's own time, of a step, and of their difference."""
    pairs = [
        pair for each in processes for pair in zip(each["exchange"], each["step"], strict=True)
    ]
    api, step = (1000 * statistics.median(side) for side in zip(*pairs, strict=True))
    return api, step, 1000 * statistics.median(step - api for api, step in pairs)


if __name__ == "__main__":
    main()
