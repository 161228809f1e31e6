"""`kill -9` at any point: an answer on record is never asked for again, and each token is known.

A pipeline of three runs works in a process of its own against a model that answers by what it is
told and nothing else, so the same call is the same request, and a repeated one can be recognised.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from perdure.agents import Ledger, ledger
from perdure.agents.lines import KIND, Outcome, lines_of
from perdure.durable import LocalEngine
from perdure.durable.operations import Operation, OperationStatus

from ..waiting import until
from . import research_pipeline
from .converse import PATIENCE, Answer, ConverseServer, Request, environment
from .research_pipeline import TOWNS

CALLS = 2 + 3 * len(TOWNS) + 2
"""Model calls of a run: the plan and its repair, three turns for each town, summary and repair."""
TOOL_CALLS = 3 * len(TOWNS)
RUNS = ("sync-a", "async-b", "sync-c")
KILLS = 4
"""Kills of one journal's process."""
THOUGHT = 0.02
"""Seconds at most that the model takes for an answer, so that kills meet calls in flight."""
PLAN = {"tasks": [{"question": f"Where does {town} get its water?"} for town in TOWNS]}
STATEMENT = re.compile(rf"({'|'.join(TOWNS)}): .* \[\d+\]\.")


class Model:
    """A model whose answers are a function of the conversation, and whose pace is not."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def __call__(self, request: Request, number: int) -> Answer:
        time.sleep(self._chance.uniform(0, THOUGHT))
        blocks = [block for turn in request.body["messages"] for block in turn["content"]]
        results = [block["toolResult"] for block in blocks if "toolResult" in block]
        tools = [each["toolSpec"]["name"] for each in request.body["toolConfig"]["tools"]]
        text = "".join(block.get("text", "") for block in blocks)
        if "search" in tools:
            return _research(text, results)
        (tool,) = tools
        told = any(each["status"] == "error" for each in results)
        given = (PLAN if tool == "Plan" else _summary(text)) if told else {"title": "none"}
        return Answer(tools=((f"{tool}-{len(results)}", tool, given),))


def _summary(text: str) -> dict[str, Any]:
    lines = [line for line in text.splitlines() if STATEMENT.fullmatch(line)]
    towns = [line.partition(":")[0] for line in lines]
    return {"title": "Water", "text": "\n\n".join(lines), "towns": towns}


def _research(text: str, results: list[Any]) -> Answer:
    town = next(each for each in TOWNS if each in text)
    if not results:
        return Answer(f"On {town}:", (("find", "search", {"query": town}),))
    found = [block["text"] for each in results for block in each["content"]]
    if len(results) == 1:
        pages = enumerate(json.loads(found[0]), 1)
        return Answer(tools=tuple((f"read-{n}", "read", {"url": url, "n": n}) for n, url in pages))
    read = [json.loads(each)["text"].partition(": ")[2] for each in found[1:]]
    return Answer(f"{town}: {read[0]} [1], and {read[1]} [2].")


class Child:
    """The program in a process of its own, from `with` to the end of it."""

    def __init__(self, journal: Path, url: str) -> None:
        self._log = journal.with_suffix(".log").open("ab")
        self._process = subprocess.Popen(
            [sys.executable, research_pipeline.__file__, str(journal), *RUNS],
            env={**os.environ, **environment(url)},
            stdout=subprocess.PIPE,
            stderr=self._log,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()
        self._log.close()

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def kill(self) -> bool:
        """Send SIGKILL, and return whether it was what ended the process."""
        self._process.kill()
        return self._process.wait() == -signal.SIGKILL

    def results(self) -> list[Any]:
        """Return the results of all runs once the process has ended by itself."""
        out, _ = self._process.communicate(timeout=PATIENCE)
        assert self._process.returncode == 0, Path(self._log.name).read_text()
        return list(json.loads(out))


@dataclass(frozen=True)
class Tally:
    """What was seen, over all journals.

    Attributes:
        answers: recorded.
        in_flight: calls that had a durable start and no end when their process was killed.
        surplus: requests without a recorded answer.
        unsent: killed after the durable start, and before the server saw a request.
        resumed: runs that failed for too many doubts, and were resumed.
    """

    kills: int = 0
    runs: int = 0
    requests: int = 0
    answers: int = 0
    in_flight: int = 0
    in_doubt: int = 0
    surplus: int = 0
    unsent: int = 0
    resumed: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            *(getattr(self, each.name) + getattr(other, each.name) for each in fields(self))
        )

    def __str__(self) -> str:
        return ", ".join(f"{each.name} {getattr(self, each.name)}" for each in fields(self))


def rows(journal: Path, sql: str) -> list[Any]:
    """Return what is in the journal file."""
    with closing(sqlite3.connect(journal, timeout=PATIENCE)) as db:
        return db.execute(sql).fetchall()


def started(journal: Path) -> set[tuple[int, str, int]]:
    """Return the starts of model calls without an end: run, operation, place in the journal."""
    calls: dict[tuple[int, str], tuple[int, str, int]] = {}
    for run, seq, kind, op, subtype in rows(
        journal, "SELECT run, seq, kind, op, subtype FROM events ORDER BY run, seq"
    ):
        if kind == "StepStarted" and subtype == KIND:
            calls[run, op] = (run, op, seq)
        elif kind in ("StepSucceeded", "StepFailed", "StepRetried"):
            calls.pop((run, op), None)
    return set(calls.values())


def points(chance: random.Random) -> list[int]:
    """Return after how many requests the process is killed, time and again.

    Now and then always as soon as a new process has sent one: the first call of a run that is in
    doubt so often fails it.
    """
    if chance.random() < 0.25:
        return [chance.randrange(1, CALLS)] * KILLS
    return sorted(chance.randrange(1, CALLS * len(RUNS)) for _ in range(KILLS))


def killed(folder: Path, seed: int, expected: Any) -> Tally:
    """Kill the process at random points, let it end, and check all there is to check."""
    chance = random.Random(seed)
    folder.mkdir()
    journal = folder / "journal.db"
    kills, in_flight = 0, set[tuple[int, str, int]]()
    with ConverseServer(Model(random.Random(seed))) as server:
        for point in points(chance):
            before = server.count
            with Child(journal, server.url) as child:
                until(
                    lambda: child.ended or server.count >= max(point, before + 1),  # noqa: B023
                    f"request {point} of seed {seed}",
                )
                time.sleep(chance.uniform(0, 2 * THOUGHT))
                kills += child.kill()
            in_flight |= started(journal)
        with Child(journal, server.url) as child:
            assert child.results() == [expected] * len(RUNS)
        with LocalEngine(journal) as engine:
            return checked(engine, server, kills, in_flight)


def checked(
    engine: LocalEngine, server: ConverseServer, kills: int, in_flight: set[tuple[int, str, int]]
) -> Tally:
    """Compare the journal, its ledger and the server's books; return the sums."""
    check_journal(engine.path)
    ledgers = [ledger(engine.get(id)) for id in RUNS]
    calls = {id: engine.steps(id, KIND) for id in RUNS}
    answers = check_answers(server, calls)
    check_surplus(server, calls)
    check_ledgers(server, ledgers)
    for id in RUNS:
        check_tools(engine, id)
    totals = [each.totals for each in ledgers]
    in_doubt = sum(each.in_doubt for each in totals)
    surplus = server.count - answers
    assert all(each.uncertain == each.in_flight == each.free == 0 for each in totals)
    assert in_doubt == len(in_flight), "each call in flight at a kill is in doubt, and no other is"
    assert 0 <= surplus <= len(in_flight)
    resumed = rows(engine.path, "SELECT count(*) FROM events WHERE kind = 'ExecutionResumed'")
    return Tally(
        kills,
        len(RUNS),
        server.count,
        answers,
        len(in_flight),
        in_doubt,
        surplus,
        in_doubt - surplus,
        resumed[0][0],
    )


def check_journal(journal: Path) -> None:
    """Check the file, and that each attempt ended once."""
    assert rows(journal, "PRAGMA integrity_check") == [("ok",)]
    answered = rows(
        journal, "SELECT run, op, count(*) FROM events WHERE kind = 'StepSucceeded' GROUP BY 1, 2"
    )
    assert [each for each in answered if each[2] > 1] == []


def asked(request: Request) -> tuple[str, str]:
    """Return what tells a call from all others: its run, and all that the model was told."""
    told = {key: value for key, value in request.body.items() if key != "requestMetadata"}
    return request.metadata["perdure_run"], json.dumps(told, sort_keys=True)


def heard(server: ConverseServer) -> list[Request]:
    """Return the requests that came whole; a kill may strike while one is being sent."""
    return [each for each in server.requests if each.body]


def check_answers(server: ConverseServer, calls: dict[str, list[Operation]]) -> int:
    """Check that nothing was asked again once it was answered on record; return how many are."""
    last = {asked(request): request for request in heard(server)}
    ids = {request.id: request for request in server.requests}
    known = set()
    for run, operations in calls.items():
        for operation in operations:
            assert operation.status is OperationStatus.SUCCEEDED
            request = ids[request_id(operation)]
            assert request.metadata["perdure_run"] == run
            assert request is last[asked(request)], f"{request.id} is on record, and asked again"
            known.add(asked(request))
        assert len(operations) == CALLS
    assert known == last.keys(), "each request is one of a call that has its answer, in the end"
    assert len(known) == CALLS * len(calls), "no two calls ask the same"
    return len(known)


def check_surplus(server: ConverseServer, calls: dict[str, list[Operation]]) -> None:
    """Check, call by call, that each request beyond the answered one has a line in doubt."""
    ids = {request.id: request for request in server.requests}
    requests = Counter(map(asked, heard(server)))
    for operation in (each for operations in calls.values() for each in operations):
        lines = lines_of(operation)
        doubts = sum(line.outcome is Outcome.IN_DOUBT for line in lines)
        assert len(lines) == doubts + 1
        assert requests[asked(ids[request_id(operation)])] - 1 <= doubts


def check_ledgers(server: ConverseServer, ledgers: Iterable[Ledger]) -> None:
    """Check that recorded tokens are those that the server counted, request by request."""
    billed = server.billed
    ids = set()
    for each in ledgers:
        lines = [line for entry in each.entries for line in entry.lines]
        answered = [line for line in lines if line.outcome is Outcome.ANSWERED]
        for line in answered:
            assert line.request_id is not None
            assert line.usage is not None
            counted = billed[line.request_id]
            assert (line.usage.input, line.usage.output) == (
                counted["inputTokens"],
                counted["outputTokens"],
            )
            ids.add(line.request_id)
        tokens = sum(billed[str(line.request_id)]["totalTokens"] for line in answered)
        assert (each.totals.tokens, each.totals.calls) == (tokens, CALLS)
    assert len(ids) == CALLS * len(RUNS), "no request is counted for two calls"


def check_tools(engine: LocalEngine, id: str) -> None:
    """Check that each tool call of a run stands in its journal once."""
    tools = engine.steps(id, "ToolCall")
    assert Counter(each.status for each in tools) == {OperationStatus.SUCCEEDED: TOOL_CALLS}
    assert Counter(each.name for each in tools) == {"search": len(TOWNS), "read": 2 * len(TOWNS)}


def request_id(operation: Operation) -> str:
    return str(json.loads(operation.payload or "{}")["request_id"])


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The result of a run, when nothing happens."""
    journal = tmp_path_factory.mktemp("undisturbed") / "journal.db"
    with ConverseServer(Model(random.Random(0))) as server:
        with Child(journal, server.url) as child:
            results = child.results()
        assert server.count == CALLS * len(RUNS)
        with LocalEngine(journal) as engine:
            assert checked(engine, server, 0, set()).in_doubt == 0
    assert results == results[:1] * len(RUNS)
    assert results[0]["towns"] == list(TOWNS)
    assert results[0]["cited"] == list(range(1, 2 * len(TOWNS) + 1))
    return results[0]


def test_an_answer_that_was_paid_survives_any_kill(tmp_path: Path, expected: Any) -> None:
    tally = Tally()
    for seed in range(3):
        tally += killed(tmp_path / str(seed), seed, expected)
    print(tally)


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_two_hundred_kills(tmp_path: Path, expected: Any) -> None:
    first = seed = int(os.environ.get("PERDURE_KILL_SEED", "100"))
    tally = Tally()
    while tally.kills < 200:
        tally += killed(tmp_path / str(seed), seed, expected)
        seed += 1
    assert tally.surplus, "no kill met a call in flight: the test shows nothing"
    print(f"seeds {first} to {seed - 1}: {tally}")
