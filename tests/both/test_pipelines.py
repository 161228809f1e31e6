"""The founding document's programs and a research pipeline, the same on both engines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from perdure.agents import Agent, decompose, ledger, research, synthesize
from perdure.durable import durable_execution
from perdure.durable.gated import drive, value_of

from ..durable import test_founding_program as founding
from .stages import Fared, Stage, differences

FOUNDED = ["extract_text", "extract_entities", "enrich", "summarize", "notify"]
QUESTION = "What does the heat pump cost? What does the grant pay? When does the board decide?"
LIBRARY = Path(__file__).resolve().parents[2] / "examples" / "library"
ALIKE = ("id", "type", "subtype", "status", "attempt", "error")
"""What is alike of a model call: its latency, in its payload, is not."""


def fared(stage: Stage, handler: Any, event: Any = None) -> Fared:
    return stage.start(handler, event).fared()


def test_the_five_steps_of_the_founding_program_run_once_each(stage: Stage) -> None:
    founding.calls.clear()

    found = fared(stage, founding.handler, {"document_id": "d1", "user_email": "r@example.org"})

    assert (found.value, found.error) == ({"status": "complete", "doc_id": "d1"}, None)
    assert found.statuses() == dict.fromkeys(sorted(FOUNDED), "SUCCEEDED")
    assert len(founding.calls) == len(FOUNDED)


def test_the_founding_program_leaves_the_same_on_both(stages: list[Stage]) -> None:
    event = {"document_id": "d1", "user_email": "r@example.org"}
    local, on_lambda = (fared(stage, founding.handler, event) for stage in stages)

    assert not differences(local, on_lambda)


def test_the_founding_wait_of_seven_days_is_woken_by_what_is_sent(stage: Stage) -> None:
    run = stage.start(founding.waiting, {})

    run.send("await_approval", {"approved": True})

    found = run.fared()
    assert found.value == {"approval": {"approved": True}}
    assert found.statuses() == {"await_approval": "SUCCEEDED"}


def search(query: str) -> list[str]:
    """Find documents by a word of theirs."""
    words = [word.strip("?.,").lower() for word in query.split()]
    texts = {file.name: file.read_text().lower() for file in sorted(LIBRARY.iterdir())}
    counts = {name: sum(text.count(word) for word in words) for name, text in texts.items()}
    return sorted(counts, key=lambda name: -counts[name])[:3]


def read(name: str) -> str:
    """Read a document."""
    return (LIBRARY / name).read_text()


RESEARCHER = Agent("offline", [search, read], "Answer from the documents, with a citation.")


async def pipeline(context: Any) -> Any:
    plan = await value_of(decompose(context, QUESTION, model="offline", max_tasks=3))
    findings = await value_of(research(context, plan, RESEARCHER))
    report = await value_of(synthesize(context, findings, model="offline"))
    return report.model_dump(mode="json")


@durable_execution(name="research-sync")
def research_sync(event: Any, context: Any) -> Any:
    return drive(context, pipeline(context))


@durable_execution(name="research-async")
async def research_async(event: Any, context: Any) -> Any:
    return await pipeline(context)


@pytest.mark.parametrize("handler", [research_sync, research_async], ids=["sync", "async"])
def test_a_research_pipeline_reports_and_costs_the_same_on_both(
    stages: list[Stage], handler: Any
) -> None:
    runs = [stage.start(handler, None) for stage in stages]
    local, on_lambda = (run.fared() for run in runs)

    assert local.error is None
    assert local.value == on_lambda.value
    assert local.value["text"]
    assert not differences(local, on_lambda, ALIKE)
    here, there = (ledger(run.execution).totals for run in runs)
    assert here.calls >= 5
    assert (here.calls, here.tokens, here.usd) == (there.calls, there.tokens, there.usd)
