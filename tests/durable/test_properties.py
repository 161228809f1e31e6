"""What replay promises, for handler bodies nobody thought of: programs drawn at random.

Each property is checked for a sync and an async handler. The sample here is small; the same
properties run over many more programs with `pytest -m full`.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Iterator
from random import Random
from time import sleep
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from perdure.durable import (
    AsyncContext,
    Context,
    ExecutionFailedError,
    PerdureError,
    durable_execution,
)
from perdure.durable.host import Host
from perdure.durable.invocation import outcome_of
from perdure.durable.session import Pending
from perdure.durable.testing import Runner, check_replay
from perdure.durable.testing.replay import ReplaySession

from . import programs
from .programs import BOOK, Case, Op, async_program, expected_runs, has_gather, sync_program


class Seeded(Random):
    """Dice that show how to throw them again."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._seed = seed

    def __repr__(self) -> str:
        return f"Seeded({self._seed})"


SAMPLE = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
FULL = settings(max_examples=1_500, deadline=None, suppress_health_check=list(HealthCheck))
KINDS = pytest.mark.parametrize("kind", ["sync", "async"])
rolls = st.integers(0, 10_000).map(Seeded)
keys = (f"case-{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    path = tmp_path_factory.mktemp("properties") / "journal.db"
    with Runner(path, [sync_program, async_program]) as runner:
        yield runner
    BOOK.clear()


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    host = Host(8)
    yield host
    host.close()


class Trial:
    """One program, started, and driven one settled thing at a time."""

    def __init__(self, runner: Runner, host: Host, kind: str, program: list[Op]) -> None:
        self.runner = runner
        self.host = host
        self.case = Case(program)
        key = next(keys)
        BOOK[key] = self.case
        handler = sync_program if kind == "sync" else async_program
        self.run = runner.start(handler, key, key)
        self.settle()

    @property
    def waits(self) -> bool:
        return self.run.status == "RUNNING"

    def settle(self) -> None:
        """Let the run go on as far as it can."""
        self.runner.settle()
        while self.run.info().active:
            self.runner.settle()

    def settle_one(self, dice: Random) -> None:
        """Send to one of the open waits, or let time pass to the next timer."""
        events = sorted(wait.path for wait in self.run.waiting_for() if wait.kind == "event")
        if events and dice.random() < 0.5:
            path = dice.choice(events)
            self.runner.engine.send(self.run.id, path, f"/{path}")
        else:
            due = self.runner.engine.next_timer()
            assert due is not None, f"nothing will wake the run: {self.run.waiting_for()}"
            self.runner.clock.set(due)
        self.settle()

    def to_the_end(self, dice: Random) -> None:
        while self.waits:
            self.settle_one(dice)

    def recorded(self) -> set[str]:
        """Return the ids of all operations that have ended."""
        return {each.id for each in self.run.operations().values() if each.closed}

    def replay(self) -> Any:
        """Invoke the suspended run over its journal, refusing whatever it would write."""
        snapshot = self.run.snapshot()
        session = ReplaySession(self.run.id, snapshot.payload, snapshot.seed, snapshot.operations)
        return outcome_of(session, snapshot.handler, snapshot.clock, self.host)

    def abandon(self) -> None:
        if self.waits:
            self.run.cancel()
            self.runner.settle()


def replay_is_a_fixed_point(trial: Trial, dice: Random) -> None:
    while trial.waits:
        before = Counter(trial.case.runs)
        assert isinstance(trial.replay(), Pending)
        assert trial.case.runs == before
        trial.settle_one(dice)
    before = Counter(trial.case.runs)
    trial.run.result(timeout=5)
    check_replay(trial.run)
    assert trial.case.runs == before
    assert trial.case.misplaced == []


def settling_extends(trial: Trial, dice: Random) -> None:
    while trial.waits:
        before = trial.run.history()
        trial.settle_one(dice)
        assert trial.run.history()[: len(before)] == before
    trial.run.result(timeout=5)
    assert trial.case.runs == expected_runs(trial.case.program)
    assert trial.case.misplaced == []


@KINDS
@SAMPLE
@given(program=programs.programs(), dice=rolls)
def test_replay_over_an_unchanged_journal_is_a_fixed_point(
    runner: Runner, host: Host, kind: str, program: list[Op], dice: Random
) -> None:
    replay_is_a_fixed_point(Trial(runner, host, kind, program), dice)


@pytest.mark.full
@KINDS
@FULL
@given(program=programs.programs(), dice=rolls)
def test_replay_over_an_unchanged_journal_is_a_fixed_point_for_many_programs(
    runner: Runner, host: Host, kind: str, program: list[Op], dice: Random
) -> None:
    replay_is_a_fixed_point(Trial(runner, host, kind, program), dice)


@KINDS
@SAMPLE
@given(program=programs.programs(), dice=rolls)
def test_settling_one_thing_extends_the_history_and_runs_no_recorded_step_again(
    runner: Runner, host: Host, kind: str, program: list[Op], dice: Random
) -> None:
    settling_extends(Trial(runner, host, kind, program), dice)


@pytest.mark.full
@KINDS
@FULL
@given(program=programs.programs(), dice=rolls)
def test_settling_one_thing_extends_the_history_for_many_programs(
    runner: Runner, host: Host, kind: str, program: list[Op], dice: Random
) -> None:
    settling_extends(Trial(runner, host, kind, program), dice)


NO_OPERATION = ("uuid", "random", "gather", "now", "nap")


def changed_run(
    runner: Runner, host: Host, kind: str, program: list[Op], dice: Random
) -> tuple[Trial, list[int]]:
    """Bring a run to one of its waits; return it with the places recorded before that."""
    trial = Trial(runner, host, kind, program)
    for _ in range(dice.randint(0, 4)):
        if trial.waits:
            trial.settle_one(dice)
    names = {each.name for each in trial.run.operations().values() if each.closed}
    places = [
        place for place, op in enumerate(program) if op[0] not in NO_OPERATION and op[1] in names
    ]
    if not trial.waits or not places:
        trial.abandon()
        assume(False)
    return trial, places


def is_caught(trial: Trial, dice: Random, change: list[Op], named: list[str]) -> None:
    """Check that the changed program fails naming these, and that the restored one ends well."""
    original = trial.case.program
    trial.case.program = change
    trial.to_the_end(dice)
    with pytest.raises(ExecutionFailedError) as caught:
        trial.run.result(timeout=5)
    assert caught.value.error_type == "perdure.NonDeterminismError"
    for name in named:
        assert repr(name) in str(caught.value)
    if len(named) > 1:
        assert "programs.py:" in str(caught.value)
    goes_on(trial, dice, original)


def goes_on(trial: Trial, dice: Random, original: list[Op]) -> None:
    trial.case.program = original
    trial.runner.engine.resume(trial.run.id)
    trial.settle()
    trial.to_the_end(dice)
    trial.run.result(timeout=5)
    assert trial.case.runs == expected_runs(original)
    assert trial.case.misplaced == []


def a_rename_is_caught(trial: Trial, places: list[int], dice: Random) -> None:
    place = dice.choice(places)
    change = list(trial.case.program)
    kind, name, *rest = change[place]
    change[place] = (kind, "renamed", *rest)
    is_caught(trial, dice, change, [name, "renamed"])


def an_insertion_is_caught(trial: Trial, places: list[int], dice: Random) -> None:
    place = dice.choice(places)
    change = list(trial.case.program)
    name = change[place][1]
    new = dice.choice([("step", "new", "ok"), ("sleep", "new", 5), ("child", "new", [])])
    change.insert(place, new)
    is_caught(trial, dice, change, [name, "new"] if place == places[0] else ["new"])


def a_removal_is_caught(trial: Trial, places: list[int], dice: Random) -> None:
    place = dice.choice(places)
    change = list(trial.case.program)
    _, name, *_ = change.pop(place)
    is_caught(trial, dice, change, [name])


def another_type_is_caught(trial: Trial, places: list[int], dice: Random) -> None:
    place = dice.choice(places)
    change = list(trial.case.program)
    kind, name, *_ = change[place]
    change[place] = ("step", name, "ok") if kind not in ("step", "again") else ("sleep", name, 5)
    is_caught(trial, dice, change, [name])


def a_reorder_is_caught_or_harmless(trial: Trial, places: list[int], dice: Random) -> None:
    original = trial.case.program
    trial.case.program = dice.sample(original, len(original))
    trial.to_the_end(dice)
    try:
        trial.run.result(timeout=5)
    except ExecutionFailedError as error:
        assert error.error_type == "perdure.NonDeterminismError"
        goes_on(trial, dice, original)
    assert trial.case.misplaced == []
    assert trial.case.runs == expected_runs(original)


CHANGES = {
    "a rename": a_rename_is_caught,
    "an insertion": an_insertion_is_caught,
    "a removal": a_removal_is_caught,
    "another type": another_type_is_caught,
    "a reorder": a_reorder_is_caught_or_harmless,
}


def change_code(
    runner: Runner, host: Host, kind: str, change: str, program: list[Op], dice: Random
) -> None:
    # A sibling that gather leaves behind is a warning; so only what is claimed in turn is changed.
    assume(change != "a removal" or not has_gather(program) or kind == "sync")
    trial, places = changed_run(runner, host, kind, program, dice)
    CHANGES[change](trial, places, dice)


@KINDS
@pytest.mark.parametrize("change", list(CHANGES))
@settings(SAMPLE, max_examples=25)
@given(program=programs.programs(least=2), dice=rolls)
def test_a_change_of_code_before_recorded_operations_never_runs_one_again(
    runner: Runner, host: Host, kind: str, change: str, program: list[Op], dice: Random
) -> None:
    change_code(runner, host, kind, change, program, dice)


@pytest.mark.full
@KINDS
@pytest.mark.parametrize("change", list(CHANGES))
@FULL
@given(program=programs.programs(least=2), dice=rolls)
def test_a_change_of_code_never_runs_a_recorded_operation_again_in_many_programs(
    runner: Runner, host: Host, kind: str, change: str, program: list[Op], dice: Random
) -> None:
    change_code(runner, host, kind, change, program, dice)


RACE: dict[str, Any] = {}


class Relay:
    """Lets bodies end in a given order: each one waits for the one before it.

    Where the one before will not run (it is recorded, or the engine was killed), nobody waits.
    """

    def __init__(self, order: list[int], runner: Runner, recorded: set[int]) -> None:
        self._done = set(recorded)
        self._runner = runner
        self._before = dict(zip(order[1:], order, strict=False))

    def holds(self, index: int) -> bool:
        before = self._before.get(index)
        return before is not None and before not in self._done and not self._runner.engine.killed

    def run(self, index: int) -> int:
        while self.holds(index):
            sleep(0.0005)
        self._done.add(index)
        return index

    async def arun(self, index: int) -> int:
        while self.holds(index):
            await asyncio.sleep(0)
        self._done.add(index)
        return index


@durable_execution(name="gathered")
async def gathered(count: int, context: AsyncContext) -> Any:
    async def task(index: int) -> list[int]:
        first = await context.step(f"first-{index}", _raced, index)
        second = await context.step(f"second-{index}", _finished, index)
        return [first, second]

    return await asyncio.gather(*(task(index) for index in range(count)))


@durable_execution(name="grouped")
async def grouped(count: int, context: AsyncContext) -> Any:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(context.step("same", _raced, index)) for index in range(count)]
    return [[task.result(), task.result()] for task in tasks]


@durable_execution(name="branched")
async def branched(count: int, context: AsyncContext) -> Any:
    async def branch(inner: AsyncContext, index: int) -> list[int]:
        return [await inner.step("one", _raced, index), await inner.step("two", _finished, index)]

    return list(await context.map("all", range(count), branch))


@durable_execution(name="threaded")
def threaded(count: int, context: Context) -> Any:
    def branch(inner: Context, index: int) -> list[int]:
        one = inner.step("one", RACE["relay"].run, index)
        return [one, inner.step("two", lambda: index)]

    return list(context.map("all", range(count), branch))


async def _raced(index: int) -> int:
    return await RACE["relay"].arun(index)


async def _finished(index: int) -> int:
    return index


CONCURRENT = pytest.mark.parametrize(
    "handler", [gathered, grouped, branched, threaded], ids=lambda handler: handler.name
)


def results_stay_with_their_names(
    path: Any, handler: Any, first: list[int], second: list[int], writes: int
) -> None:
    count = len(first)
    with Runner(path / f"{next(keys)}.db", [handler]) as runner:
        RACE["relay"] = Relay(first, runner, set())
        runner.crash_after(writes)
        try:
            runner.start(handler, count, "race")
            runner.settle()
        except PerdureError:
            pass
        recorded = recorded_races(runner, handler)
        RACE["relay"] = Relay(second, runner, recorded)
        runner.restart()
        run = runner.start(handler, count, "race")
        runner.settle()
        assert run.result(timeout=10) == [[index, index] for index in range(count)]
        check_replay(run)


def recorded_races(runner: Runner, handler: Any) -> set[int]:
    """Return which raced steps are on record: their bodies will not run again."""
    try:
        operations = runner.engine.operations("race").values()
    except PerdureError:
        return set()
    names = ("same", "one") if handler is not gathered else ()
    return {
        int(each.payload or "")
        for each in operations
        if each.closed and (each.name in names or (each.name or "").startswith("first-"))
    }


orders = st.permutations(list(range(5)))


@CONCURRENT
@settings(SAMPLE, max_examples=15)
@given(first=orders, second=orders, writes=st.integers(1, 12))
def test_results_never_swap_whatever_finished_first(
    tmp_path_factory: pytest.TempPathFactory,
    handler: Any,
    first: list[int],
    second: list[int],
    writes: int,
) -> None:
    path = tmp_path_factory.getbasetemp()
    results_stay_with_their_names(path, handler, first, second, writes)


@pytest.mark.full
@CONCURRENT
@settings(FULL, max_examples=400)
@given(first=orders, second=orders, writes=st.integers(1, 14))
def test_results_never_swap_over_many_orders(
    tmp_path_factory: pytest.TempPathFactory,
    handler: Any,
    first: list[int],
    second: list[int],
    writes: int,
) -> None:
    path = tmp_path_factory.getbasetemp()
    results_stay_with_their_names(path, handler, first, second, writes)
