"""The workloads of model calls: what the journal adds to a call, and what a replay costs."""

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from perdure.agents import llm
from perdure.durable import AsyncContext, Context, LocalEngine, durable_execution

Figures = dict[str, float]
_REPLAY = """
import sys, time
from perdure.durable import AsyncContext, Context, LocalEngine, durable_execution
begin = time.perf_counter()
from perdure.agents import llm

@durable_execution(name="bench.replayed")
def handler(event, context):
    first = llm(context, "call-0", "hello", model=event["model"]).text
    for number in range(1, event["calls"]):
        llm(context, f"call-{number}", "hello", model=event["model"])
    context.wait(86_400, name="go")
    return first

with LocalEngine(sys.argv[1], handlers=[handler]) as engine:
    opened = time.perf_counter()
    if sys.argv[2] == "first":
        run = engine.start(handler, {"model": "offline", "calls": 200}, id="replayed")
        engine.wait_idle()
    else:
        engine.send("replayed", "go")
        engine.get("replayed").result(timeout=60)
        heavy = [name for name in ("langchain_core", "boto3", "pydantic") if name in sys.modules]
        print((time.perf_counter() - begin) * 1000, (opened - begin) * 1000, len(heavy))
"""


@durable_execution(name="bench.calls")
def calls(event: dict[str, int], context: Context) -> float:
    """Make calls one after another; return the median of one, in milliseconds."""
    return _median(
        [_timed(lambda n=n: llm(context, f"c{n}", "hello", model=QUICK)) for n in range(300)]
    )


@durable_execution(name="bench.calls_async")
async def calls_async(event: dict[str, int], context: AsyncContext) -> float:
    """Make calls one after another, awaited; return the median of one, in milliseconds."""
    took = []
    for number in range(300):
        begin = time.perf_counter()
        await llm(context, f"c{number}", "hello", model=QUICK)
        took.append(time.perf_counter() - begin)
    return _median(took)


@durable_execution(name="bench.calls_at_once")
async def calls_at_once(event: dict[str, int], context: AsyncContext) -> float:
    """Make 1,000 calls of a second each side by side; return the seconds it took."""
    begin = time.perf_counter()
    await asyncio.gather(*(llm(context, f"c{n}", "hello", model=SLOW) for n in range(1000)))
    return time.perf_counter() - begin


def w9_overhead(folder: Path) -> Figures:
    """Return what a call takes beyond the model's own time."""
    global QUICK
    QUICK = _scripted(lambda messages, options: "done")
    alone = _median([_timed(lambda: QUICK.invoke("hello")) for _ in range(300)])
    with LocalEngine(folder / "journal.db", handlers=[calls, calls_async]) as engine:
        sync = engine.start(calls, {}).result(timeout=60)
        awaited = engine.start(calls_async, {}).result(timeout=60)
    return {"sync ms": sync - alone, "async ms": awaited - alone, "model alone ms": alone}


def w10_at_once(folder: Path) -> Figures:
    """Return how long 1,000 calls of a model that takes a second take side by side."""
    global SLOW

    async def slowly(messages: Any, options: Any) -> str:
        await asyncio.sleep(1)
        return "done"

    SLOW = _scripted(slowly)
    asyncio.run(SLOW.ainvoke("warm"))
    with LocalEngine(folder / "journal.db", handlers=[calls_at_once]) as engine:
        return {"seconds": engine.start(calls_at_once, {}).result(timeout=120)}


def w11_replay(folder: Path) -> Figures:
    """Return what a replay of 200 calls takes in a new process that has imported the core."""
    program = folder / "replayed.py"
    program.write_text(_REPLAY)
    command = [sys.executable, str(program), str(folder / "journal.db")]
    subprocess.run([*command, "first"], check=True)
    done = subprocess.run([*command, "again"], check=True, capture_output=True, text=True)
    total, opening, heavy = map(float, done.stdout.split())
    return {"ms": total, "of it to import and open": opening, "heavy imports": heavy}


QUICK: Any = None
SLOW: Any = None


def _scripted(answer: Callable[..., Any]) -> Any:
    from perdure.agents.testing import ScriptedModel

    return ScriptedModel(answer)


def _timed(call: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def _median(seconds: list[float]) -> float:
    return statistics.median(seconds) * 1000


MODEL_CALLS: dict[str, tuple[Callable[[Path], Figures], str]] = {
    "overhead of a model call": (w9_overhead, "≤ 3 ms p50"),
    "1,000 calls of 1 s at once": (w10_at_once, "≤ 3 s"),
    "replay of 200 calls": (w11_replay, "≤ 50 ms over the import of the core, nothing heavy"),
}
