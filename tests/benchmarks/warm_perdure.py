"""Many trivial steps in a row, and in branches, written for perdure."""

from typing import Any

from perdure.durable import Context, durable_execution


def small() -> dict[str, str]:
    """Do a trivial step."""
    return {"answer": "small"}


@durable_execution
def sequential(event: dict[str, Any], context: Context) -> int:
    """Run steps one after another."""
    for number in range(event["steps"]):
        context.step(f"step-{number}", small)
    return event["steps"]


@durable_execution
def branches(event: dict[str, Any], context: Context) -> int:
    """Map one-step branches."""
    return len(
        context.map(
            "map",
            range(event["items"]),
            lambda branch, _: branch.step("step", small),
            nesting=event["nesting"],
        )
    )
