"""Measure the engine beside its limit and print a table: `python tests/benchmarks/run.py`.

Each round runs every workload once, beside a bare SQLite loop; the table has the medians.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent))
from model_calls import MODEL_CALLS
from workloads import WORKLOADS as OF_THE_CORE

WORKLOADS = OF_THE_CORE | MODEL_CALLS


def main() -> None:
    """Run the workloads that were asked for and print their medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("only", nargs="*", help="words of the workloads to run; all by default")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    names = [
        name for name in WORKLOADS if not chosen.only or any(word in name for word in chosen.only)
    ]
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for number in range(chosen.rounds):
        for name in names:
            print(f"round {number + 1} of {chosen.rounds}: {name}", file=sys.stderr)
            with tempfile.TemporaryDirectory() as folder:
                figures[name].append(WORKLOADS[name][0](Path(folder)))
    Console(width=150).print(table(figures))


def table(figures: dict[str, list[dict[str, float]]]) -> Table:
    """Return the medians as a table."""
    shown = Table("workload", "medians", "target")
    for name, rounds in figures.items():
        medians = {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}
        text = ", ".join(f"{key} {value:,.2f}" for key, value in medians.items())
        shown.add_row(name, text, WORKLOADS[name][1])
    return shown


if __name__ == "__main__":
    main()
