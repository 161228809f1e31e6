"""The limits the workloads are held against: bare `sqlite3` with the journal's pragmas."""

import json
import sqlite3
import time
from pathlib import Path

PAYLOAD = json.dumps({"answer": "x" * 180, "n": 1})


def result() -> dict[str, object]:
    """Return the small dict that each step of the benchmarks returns."""
    return {"answer": "x" * 180, "n": 1}


def connect(path: Path) -> sqlite3.Connection:
    """Open a file as the journal is opened."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(
        "CREATE TABLE t (run INTEGER, seq INTEGER, name TEXT, at INTEGER, data TEXT)"
    )
    return connection


def commits_per_second(folder: Path, count: int) -> float:
    """Return how many one-row transactions a second a bare loop commits."""
    connection = connect(folder / f"raw-{time.monotonic_ns()}.db")
    begin = time.perf_counter()
    for number in range(count):
        connection.execute("BEGIN IMMEDIATE")
        row = (1, number, f"step-{number}", time.time_ns(), PAYLOAD)
        connection.execute("INSERT INTO t VALUES (?,?,?,?,?)", row)
        connection.execute("COMMIT")
    took = time.perf_counter() - begin
    connection.close()
    return count / took
