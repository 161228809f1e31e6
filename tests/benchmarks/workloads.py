"""The workloads: each returns its figures by name, measured once."""

import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raw import commits_per_second, result

from perdure.durable import AsyncContext, Context, Duration, LocalEngine, durable_execution

Figures = dict[str, float]


async def async_result() -> dict[str, object]:
    """Do the async body of a step."""
    return result()


@durable_execution(name="bench.sequential")
def sequential(event: dict[str, int], context: Context) -> int:
    """Run steps one after another."""
    for number in range(event["steps"]):
        context.step(f"step-{number}", result)
    return event["steps"]


@durable_execution(name="bench.sequential_async")
async def sequential_async(event: dict[str, int], context: AsyncContext) -> int:
    """Run steps one after another, awaited."""
    for number in range(event["steps"]):
        await context.step(f"step-{number}", async_result)
    return event["steps"]


@durable_execution(name="bench.fan_out")
def fan_out(event: dict[str, Any], context: Context) -> int:
    """Map one-step branches."""
    branches = context.map(
        "map",
        range(event["items"]),
        lambda branch, _: branch.step("step", result),
        max_concurrency=100,
        nesting=event["nesting"],
    )
    return len(branches)


@durable_execution(name="bench.fan_out_async")
async def fan_out_async(event: dict[str, Any], context: AsyncContext) -> int:
    """Map one-step branches, awaited."""
    branches = await context.map(
        "map",
        range(event["items"]),
        lambda branch, _: branch.step("step", async_result),
        max_concurrency=100,
        nesting=event["nesting"],
    )
    return len(branches)


@durable_execution(name="bench.resume")
def resume(event: dict[str, int], context: Context) -> dict[str, float]:
    """Run steps, wait, and time how long they take to replay."""
    begin = time.perf_counter()
    for number in range(event["steps"]):
        context.step(f"step-{number}", result)
    took = time.perf_counter() - begin
    context.wait(Duration.from_days(1), name="go")
    return {"seconds": took}


@durable_execution(name="bench.suspended")
async def suspended(event: dict[str, int], context: AsyncContext) -> None:
    """Wait a day."""
    await context.sleep(Duration.from_days(1))


@durable_execution(name="bench.wake")
def wake(event: dict[str, int], context: Context) -> float:
    """Wait for an event, and tell when the handler is entered again."""
    entered = time.time()
    context.wait(Duration.from_days(1), name="go")
    return entered


@durable_execution(name="bench.timer")
def timer(event: dict[str, int], context: Context) -> float:
    """Wait for a timer, and tell when the handler is entered again."""
    entered = time.time()
    context.sleep(0.2)
    return entered


def run_one(folder: Path, handler: Any, event: Any) -> float:
    """Return the seconds one run takes on a fresh journal, and how often it committed."""
    with LocalEngine(folder / "journal.db", handlers=[handler]) as engine:
        begin = time.perf_counter()
        engine.start(handler, event).result(timeout=300)
        return time.perf_counter() - begin


def w1_sequential(folder: Path) -> Figures:
    """1,000 sequential steps."""
    return _per_second(folder, sequential, {"steps": 1000}, 1000)


def w1_sequential_async(folder: Path) -> Figures:
    """1,000 sequential steps of an async handler."""
    return _per_second(folder, sequential_async, {"steps": 1000}, 1000)


def w2_flat_async(folder: Path) -> Figures:
    """A flat async map of 1,000 one-step branches, 100 at once."""
    return _per_second(folder, fan_out_async, {"items": 1000, "nesting": "flat"}, 1000)


def w2_nested_async(folder: Path) -> Figures:
    """A nested async map of 1,000 one-step branches, 100 at once."""
    return _per_second(folder, fan_out_async, {"items": 1000, "nesting": "nested"}, 1000)


def w2_flat_sync(folder: Path) -> Figures:
    """A flat sync map of 1,000 one-step branches, 100 at once."""
    return _per_second(folder, fan_out, {"items": 1000, "nesting": "flat"}, 1000)


def w3_many_runs(folder: Path) -> Figures:
    """500 async runs of 5 steps at once."""
    return _many(folder, sequential_async)


def w3_many_runs_sync(folder: Path) -> Figures:
    """500 sync runs of 5 steps at once."""
    return _many(folder, sequential)


def w4_resume(folder: Path, steps: int = 5000) -> Figures:
    """Resume after recorded steps: microseconds a step, in the handler and with loading."""
    path = folder / "journal.db"
    with LocalEngine(path, handlers=[resume]) as engine:
        engine.start(resume, {"steps": steps}, id="r")
        _until(lambda: bool(engine.waiting_for("r")), 300)
    with LocalEngine(path, handlers=[resume]) as engine:
        begin = time.perf_counter()
        engine.send("r", "go")
        inside = engine.get("r").result(timeout=60)["seconds"]
        whole = time.perf_counter() - begin
    return {"handler µs/step": inside / steps * 1e6, "whole µs/step": whole / steps * 1e6}


def w4_resume_long(folder: Path) -> Figures:
    """The same after 50,000 steps."""
    return w4_resume(folder, 50_000)


def w5_suspended(folder: Path, count: int = 100_000) -> Figures:
    """Runs that are suspended for a day: created a second, memory, bytes on disk each."""
    path = folder / "journal.db"
    with LocalEngine(path, handlers=[suspended]) as engine:
        _create(engine, 1000, "warm")
        before, threads = _memory(), threading.active_count()
        begin = time.perf_counter()
        _create(engine, count, "run")
        engine.wait_idle(300)
        took = time.perf_counter() - begin
        grown, more = _memory() - before, threading.active_count() - threads
    size = sum(file.stat().st_size for file in folder.glob("journal.db*") if file.is_file())
    return {
        "created/s": count / took,
        "memory MB": grown / 1e6,
        "threads": more,
        "bytes each": size / (count + 1000),
    }


def w6_wake(folder: Path, times: int = 21) -> Figures:
    """From a completed callback, and from a due timer, to the handler's re-entry; idle CPU."""
    with LocalEngine(folder / "journal.db", handlers=[wake, timer]) as engine:
        sent = []
        for number in range(times):
            run = engine.start(wake, {}, id=f"w{number}")
            _until(lambda: bool(run.waiting_for()), 10)  # noqa: B023
            engine.wait_idle()
            at = time.time()
            engine.send(run.id, "go")
            sent.append((run.result(timeout=10) - at) * 1000)
        rang = []
        for number in range(times):
            run = engine.start(timer, {}, id=f"t{number}")
            entered = run.result(timeout=10)
            events = run.history()
            due = next(e for e in events if e["EventType"] == "WaitStarted")["WaitStartedDetails"]
            rang.append((entered - due["ScheduledEndTimestamp"].timestamp()) * 1000)
        used = time.process_time()
        time.sleep(2)
        idle = (time.process_time() - used) / 2
    return {
        "callback p50 ms": sorted(sent)[times // 2],
        "timer p50 ms": sorted(rang)[times // 2],
        "idle CPU %": idle * 100,
    }


def w7_cold(folder: Path) -> Figures:
    """Milliseconds over a bare interpreter: the import; start to the first recorded step."""
    bare = _process("pass")
    imported = _process("import perdure.durable")
    engine = _process("import perdure.durable as d; d.durable_execution, d.LocalEngine")
    first = _process(
        "from perdure.durable import durable_execution, LocalEngine\n"
        "@durable_execution(name='cold.h')\n"
        "def h(event, context):\n    return context.step('s', lambda: 1)\n"
        f"e = LocalEngine({str(folder / 'cold.db')!r}, handlers=[h])\n"
        "e.serve(); e.start(h).result(timeout=10); import os; os._exit(0)"
    )
    return {
        "import ms": (imported - bare) * 1000,
        "with the engine ms": (engine - bare) * 1000,
        "first step ms": first * 1000,
    }


def w8_memory(folder: Path) -> Figures:
    """Megabytes that a run of 10,000 steps takes over the import."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from workloads import sequential\nfrom perdure.durable import LocalEngine\n"
        "from pathlib import Path\n"
        "peak = lambda: next(int(line.split()[1]) for line in open('/proc/self/status')"
        " if line.startswith('VmHWM'))\n"
        "before = peak()\n"
        "with LocalEngine(Path(sys.argv[2]), handlers=[sequential]) as e:\n"
        "    e.start(sequential, {'steps': 10000}).result(timeout=100)\n"
        "print((peak() - before) / 1024)"
    )
    here = str(Path(__file__).parent)
    arguments = [sys.executable, "-c", script, here, str(folder / "m.db")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    return {"MB over import": float(done.stdout)}


def _per_second(folder: Path, handler: Any, event: Any, steps: int) -> Figures:
    run_one_folder = folder / "warm"
    run_one_folder.mkdir(exist_ok=True)
    raw = commits_per_second(folder, 1000)
    took = run_one(folder, handler, event)
    rate = steps / took
    over = (1 / rate - 1 / raw) * 1e6
    return {"steps/s": rate, "raw/s": raw, "ratio": rate / raw, "µs over raw": over}


def _many(folder: Path, handler: Any) -> Figures:
    raw = commits_per_second(folder, 1000)
    with LocalEngine(folder / "journal.db", handlers=[handler]) as engine:
        engine.start(handler, {"steps": 5}).result(timeout=10)
        begin = time.perf_counter()
        runs = engine.start_many(handler, [({"steps": 5}, f"r{n}") for n in range(500)])
        for run in runs:
            run.result(timeout=60)
        rate = 2500 / (time.perf_counter() - begin)
    return {"steps/s": rate, "raw/s": raw, "ratio": rate / raw}


def _create(engine: LocalEngine, count: int, name: str) -> None:
    for first in range(0, count, 500):
        batch = range(first, min(first + 500, count))
        engine.start_many(suspended, [({"n": n}, f"{name}-{n}") for n in batch])
        _until(lambda: len(engine._worker.active) < 2000, 60)


def _until(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not so after {seconds} s")
        time.sleep(0.001)


def _memory() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def _process(code: str) -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - begin


WORKLOADS: dict[str, tuple[Callable[[Path], Figures], str]] = {
    "1,000 sequential steps": (w1_sequential, "ratio ≥ 0.8, or ≤ 120 µs over raw"),
    "1,000 sequential steps, async": (w1_sequential_async, "(no target of its own)"),
    "map of 1,000, flat async": (w2_flat_async, "ratio ≥ 4 (stretch 6)"),
    "map of 1,000, nested async": (w2_nested_async, "ratio ≥ 2"),
    "map of 1,000, flat sync": (w2_flat_sync, "ratio ≥ 2"),
    "500 runs of 5 steps, async": (w3_many_runs, "ratio ≥ 3 (stretch 5)"),
    "500 runs of 5 steps, sync": (w3_many_runs_sync, "ratio ≥ 3 (stretch 5)"),
    "resume after 5,000 steps": (w4_resume, "≤ 5 µs in the handler, ≤ 15 with loading"),
    "resume after 50,000 steps": (w4_resume_long, "linear"),
    "100,000 suspended runs": (w5_suspended, "≥ 3,000/s, ≤ 20 MB, ≤ 1,536 bytes each"),
    "wake": (w6_wake, "p50 ≤ 20 ms, idle CPU < 1 %"),
    "cold start": (w7_cold, "import ≤ 100 ms, first step ≤ 150 ms"),
    "memory of a 10,000-step run": (w8_memory, "≤ 60 MB"),
}
