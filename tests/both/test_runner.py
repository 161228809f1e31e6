"""Where AWS's local runner is known to differ from the service, by its API alone.

The other tests allow for just this. A case that fails says that the runner has changed.
"""

from __future__ import annotations

from typing import Any

import pytest

from ..durable.aws.stage import serving
from ..durable.aws.worlds import AwsExecution, AwsWorld
from ..waiting import until

CALLBACK = {"Id": "c", "Type": "CALLBACK", "Name": "c", "SubType": "Callback", "Action": "START"}


def waits(aws: AwsWorld) -> Any:
    """Return a function that waits for a callback, and is done when it is invoked again."""

    def call(name: str, event: Any) -> Any:
        if len(event["InitialExecutionState"]["Operations"]) > 1:
            return {"Status": "SUCCEEDED", "Result": "null"}
        aws.api.checkpoint_durable_execution(
            DurableExecutionArn=event["DurableExecutionArn"],
            CheckpointToken=event["CheckpointToken"],
            Updates=[CALLBACK],
        )
        return {"Status": "PENDING"}

    return call


def suspended(run: AwsExecution) -> str:
    """Return the id of the callback once the run waits for it."""
    until(lambda: run.history()[-1]["EventType"] == "InvocationCompleted", "the run to wait")
    return str(run.callback_id("c"))


def test_it_does_not_know_a_callback_any_more_that_is_closed(aws: AwsWorld) -> None:
    with serving(waits(aws)) as function:
        run = aws.start_named("raw", None, function.url)
        id = suspended(run)
        aws.api.send_durable_execution_callback_success(CallbackId=id)
        run.outcome()

        with pytest.raises(aws.api.exceptions.ClientError) as caught:
            aws.api.send_durable_execution_callback_success(CallbackId=id)
    assert caught.value.response["Error"]["Code"] == "404"


def test_it_tells_why_an_execution_was_stopped_in_words_of_its_own(aws: AwsWorld) -> None:
    with serving(waits(aws)) as function:
        run = aws.start_named("raw", None, function.url)
        suspended(run)
        error = {"ErrorType": "Cancelled", "ErrorMessage": "not needed"}
        aws.api.stop_durable_execution(DurableExecutionArn=run.arn, Error=error)

        stopped = until(run.ended, "the stop")
    assert stopped["Status"] == "STOPPED"
    assert stopped["Error"]["ErrorMessage"] == "Execution stopped by user request"
