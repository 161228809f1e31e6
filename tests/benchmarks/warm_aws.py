"""Many trivial steps in a row, and in branches, written for AWS's SDK."""

from typing import Any

from aws_durable_execution_sdk_python import DurableContext, durable_execution
from aws_durable_execution_sdk_python.config import MapConfig, NestingType


def small(_: Any) -> dict[str, str]:
    """Do a trivial step."""
    return {"answer": "small"}


@durable_execution
def sequential(event: dict[str, Any], context: DurableContext) -> int:
    """Run steps one after another."""
    for number in range(event["steps"]):
        context.step(small, name=f"step-{number}")
    return event["steps"]


@durable_execution
def branches(event: dict[str, Any], context: DurableContext) -> int:
    """Map one-step branches."""
    batch = context.map(
        range(event["items"]),
        lambda branch, *_: branch.step(small, name="step"),
        name="map",
        config=MapConfig(nesting_type=NestingType[event["nesting"].upper()]),
    )
    return len(batch.all)
