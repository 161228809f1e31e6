"""Each fault of the service at each call: no endless loop, no lost and no second result."""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perdure.durable import RetryPolicy, current_step
from perdure.durable.aws import service
from perdure.durable.hold import FAILED

from ...waiting import until
from ..both import durable
from .faults import FAULTS, Fault, Road
from .stage import CREDENTIALS, LocalRunner, find_runner, here, serving
from .worlds import AwsWorld, Outcome

QUICK = RetryPolicy(max_attempts=5, initial_delay=1, backoff_rate=1, jitter="none")
SEED = 7


class Bodies:
    """What the steps of one run do: count, and never begin once their end was taken."""

    def __init__(self, road: Road) -> None:
        self.road = road
        self.runs: Counter[str] = Counter()
        self.again: list[str] = []
        self.resumed = False

    def do(self, name: str, fails: int = 0) -> str:
        if name in self.road.ended:
            self.again.append(name)
        self.runs[name] += 1
        if current_step().attempt <= fails:
            raise TimeoutError(name)
        return name

    def mended(self, name: str) -> str:
        """Do what fails in one branch, until the run is resumed."""
        if name == "work-1" and not self.resumed:
            self.road.ended.discard(name)
            raise ConnectionError(name)
        return self.do(name)


async def sequential(bodies: Bodies, context: Any) -> Any:
    done = [await context.step(name, bodies.do, name) for name in ("a", "b", "c")]
    once = await context.step("once", bodies.do, "once", semantics="at_most_once", retry=QUICK)
    return [*done, once]


async def mapped(bodies: Bodies, context: Any) -> Any:
    async def branch(inner: Any, item: int) -> Any:
        first = await inner.step(f"first-{item}", bodies.do, f"first-{item}")
        return first + await inner.step(f"second-{item}", bodies.do, f"second-{item}")

    nested = await context.map("nested", range(3), branch)
    flat = await context.map("flat", range(3, 5), branch, nesting="flat")
    return [*nested, *flat]


async def called_back(bodies: Bodies, context: Any) -> Any:
    before = await context.step("before", bodies.do, "before")
    answer = await context.wait(60, "answer")
    return [before, answer, await context.step("after", bodies.do, "after")]


async def retried(bodies: Bodies, context: Any) -> Any:
    flaky = await context.step("flaky", bodies.do, "flaky", 1, retry=QUICK)
    await context.sleep(1)
    return [flaky, await context.child("child", lambda c: c.step("in", bodies.do, "in"))]


async def held(bodies: Bodies, context: Any) -> Any:
    async def branch(inner: Any, item: int) -> Any:
        before = await inner.step(f"before-{item}", bodies.do, f"before-{item}")
        return before + await inner.step(f"work-{item}", bodies.mended, f"work-{item}")

    return list(await context.map("all", range(3), branch, max_concurrency=1))


async def paged(bodies: Bodies, context: Any) -> Any:
    sizes = []
    for n in range(24):
        name = f"page-{n}"
        text = await context.step(name, lambda name=name: bodies.do(name) + "x" * 240_000)
        sizes.append(len(text) > 240_000)
    await context.sleep(1)
    return [all(sizes), len(sizes)]


BODIES: dict[str, tuple[Any, Any]] = {
    "sequential": (sequential, ["a", "b", "c", "once"]),
    "mapped": (mapped, [f"first-{n}second-{n}" for n in range(5)]),
    "called-back": (called_back, ["before", "yes", "after"]),
    "retried": (retried, ["flaky", "in"]),
}
BODIES["held"] = (held, [f"before-{n}work-{n}" for n in range(3)])
SHAPES = pytest.mark.parametrize("shape", list(BODIES))
BODIES["paged"] = (paged, [True, 24])


class Faulty:
    """Runs handlers whose calls to the service come to harm."""

    def __init__(self, world: AwsWorld, road: Road) -> None:
        self.world = world
        self.road = road

    def run(self, kind: str, shape: str, fault: Fault | None, *harmed: int) -> Bodies:
        """Run a handler with the fault at these calls, and check what came of it."""
        body, expected = BODIES[shape]
        bodies = Bodies(self.road)

        async def handle(event: Any, context: Any) -> Any:
            return await body(bodies, context)

        self.road.clear(fault, harmed)
        holding = shape == "held"
        handler = durable(kind, handle, name=f"{shape}-{kind}", hold_on_failure=holding)
        run = self.world.start(handler)
        waits_for = {"called-back": "answer", "held": FAILED}.get(shape)
        if waits_for is not None:
            until(lambda: run.ended() or run.callback_id(waits_for), "the end, or the callback")
            bodies.resumed = True
            self.road.ended.discard("work-1")
            if not run.ended():
                run.send(waits_for, None if holding else "yes")
        outcome = run.outcome()
        if fault is not None and fault.final and self.road.harm:
            assert outcome.error is not None
            assert outcome.error[0] == "perdure.ServiceError"
            assert fault.message in outcome.error[1]
        else:
            assert outcome == Outcome(expected)
        assert bodies.again == [], "what was recorded ran again"
        assert run.invocations() <= 8
        return bodies


@pytest.fixture(scope="module")
def hasty_runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRunner]:
    if find_runner() is None:
        pytest.skip("dex-local-runner is not installed (aws-durable-execution-sdk-python-testing)")
    command = [sys.executable, str(Path(__file__).with_name("hasty_runner.py"))]
    runner = LocalRunner(command, tmp_path_factory.mktemp("aws") / "hasty-runner.log", [])
    yield runner
    runner.stop()


@pytest.fixture
def faulty(hasty_runner: LocalRunner, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faulty]:
    import boto3

    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    api = boto3.client("lambda", endpoint_url=hasty_runner.url)
    road = Road(hasty_runner.url)
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", road.url)
    service.forget_client()
    handlers: dict[str, Any] = {}
    with serving(here(handlers)) as function:
        yield Faulty(AwsWorld(hasty_runner, function, handlers, api), road)
    service.forget_client()
    road.close()


def calls_of(faulty: Faulty, kind: str, shape: str) -> int:
    """Return how many calls a handler makes that nothing happens to."""
    faulty.run(kind, shape, None)
    return faulty.road.calls


@SHAPES
def test_a_fault_at_some_call_loses_and_repeats_nothing(
    faulty: Faulty, kind: str, shape: str
) -> None:
    last = calls_of(faulty, kind, shape)
    choose = random.Random(f"{SEED}-{kind}-{shape}")
    faults = choose.sample(FAULTS, 5)

    for fault in faults:
        faulty.run(kind, shape, fault, choose.randint(1, last))


@SHAPES
def test_a_service_that_is_away_for_a_while_loses_and_repeats_nothing(
    faulty: Faulty, kind: str, shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perdure.durable.aws.client.PAUSES", (0.01, 0.02))
    last = calls_of(faulty, kind, shape)
    first = random.Random(f"{SEED}-{kind}-{shape}").randint(1, last)
    away = next(fault for fault in FAULTS if fault.name == "unavailable")

    # More than the client tries again for: the invocation fails, and there is another one.
    faulty.run(kind, shape, away, *range(first, first + 4))


@pytest.mark.parametrize("name", ["KMSDisabledException", "token", "unavailable", "cut-before"])
@pytest.mark.parametrize("times", [1, 4])
def test_a_fault_while_the_state_is_read_loses_and_repeats_nothing(
    faulty: Faulty, name: str, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perdure.durable.aws.client.PAUSES", (0.01, 0.02))
    faulty.run("sync", "paged", None)
    first = faulty.road.reads[0]
    fault = next(fault for fault in FAULTS if fault.name == name)

    bodies = faulty.run("sync", "paged", fault, *range(first, first + times))

    assert set(bodies.runs.values()) == {1}


@pytest.mark.full
@SHAPES
@pytest.mark.parametrize("fault", FAULTS, ids=str)
@pytest.mark.parametrize("times", [1, 4])
def test_each_fault_at_each_call_loses_and_repeats_nothing(
    faulty: Faulty,
    kind: str,
    shape: str,
    fault: Fault,
    times: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("perdure.durable.aws.client.PAUSES", (0.01, 0.02))
    last = calls_of(faulty, kind, shape)

    for first in range(1, last + 1):
        faulty.run(kind, shape, fault, *range(first, first + times))
