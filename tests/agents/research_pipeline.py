"""A research pipeline as a program of its own: `python research_pipeline.py JOURNAL RUN ...`.

It starts or continues each run, resumes one that failed because a call was in doubt too often, and
prints the results as one line of JSON. The model is the Bedrock that the environment points to. A
run whose id begins with "async" has an async handler, any other a sync one.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from pydantic import Field

from perdure.agents import Agent, Report, decompose, research, synthesize
from perdure.durable import Execution, ExecutionFailedError, LocalEngine, durable_execution
from perdure.durable.gated import drive, value_of

MODEL = "bedrock:us.anthropic.claude-sonnet-4-20250514-v1:0"
GOAL = "How did five old towns come by their water?"
TOWNS = ("Arles", "Bergen", "Cairo", "Dubrovnik", "Evora")
PAGES = {
    f"https://water.example/{town.lower()}/{page}": f"{town}: {text}"
    for town in TOWNS
    for page, text in (
        ("springs", f"the springs of {town} fed the oldest of its wells"),
        ("works", f"the works of {town} were built by its council and paid by a tax on salt"),
    )
}


class Summary(Report):
    """What all findings come to."""

    towns: list[str] = Field(min_length=len(TOWNS), max_length=len(TOWNS))


def search(query: str) -> list[str]:
    """Find the pages about a town."""
    return [url for url, text in PAGES.items() if text.partition(":")[0] in query]


def read(url: str, n: int) -> dict[str, Any]:
    """Read a page; `n` is the number to cite it by."""
    return {"n": n, "url": url, "text": PAGES[url]}


AGENT = Agent(MODEL, [search, read], "You look things up.")


async def pipeline(event: Any, context: Any) -> Any:
    """Divide a goal, research its parts side by side, put the findings together."""
    count = len(TOWNS)
    planned = decompose(context, GOAL, model=MODEL, min_tasks=count, max_tasks=count)
    found = research(context, await value_of(planned), AGENT, on_error="fail")
    report = synthesize(context, await value_of(found), model=MODEL, schema=Summary)
    return (await value_of(report)).model_dump(mode="json")


@durable_execution(name="research.sync")
def sync_handler(event: Any, context: Any) -> Any:
    """Run the pipeline in threads."""
    return drive(context, pipeline(event, context))


@durable_execution(name="research.async")
async def async_handler(event: Any, context: Any) -> Any:
    """Run the pipeline on the loop."""
    return await pipeline(event, context)


def finished(engine: LocalEngine, run: Execution) -> Any:
    """Return the result of a run, resumed as often as a call was in doubt once too often."""
    while True:
        try:
            return run.result()
        except ExecutionFailedError as error:
            if "when its process ended" not in str(error):
                raise
            engine.resume(run.id)


def main(journal: str, *ids: str) -> None:
    """Bring the runs to their ends."""
    with LocalEngine(journal, [sync_handler, async_handler]) as engine:
        kinds = {"async": async_handler, "sync": sync_handler}
        runs = [engine.start(kinds[id.partition("-")[0]], None, id) for id in ids]
        print(json.dumps([finished(engine, run) for run in runs]))


if __name__ == "__main__":
    # Under its own name: a class of `__main__` would not be found again by another process.
    import research_pipeline

    research_pipeline.main(*sys.argv[1:])
