"""Bodies that fail until somebody mends what is broken, for tests of what a resume runs again."""

from __future__ import annotations

from collections import Counter


class Work:
    """Bodies that count their runs, and fail while their name is among the broken."""

    def __init__(self, *broken: str) -> None:
        self.broken = set(broken)
        self.runs: Counter[str] = Counter()

    def do(self, name: str) -> str:
        self.runs[name] += 1
        if name in self.broken:
            raise ConnectionError(f"{name} is down")
        return name

    def mend(self) -> None:
        self.broken.clear()
        self.runs.clear()
