"""The founding handler's steps, written for AWS's SDK."""

from aws_durable_execution_sdk_python import DurableContext, durable_execution
from marks import trivial


@durable_execution
def handler(event: dict[str, str], context: DurableContext) -> dict[str, str]:
    """Process a document in five steps."""
    text = context.step(lambda _: trivial(event["document_id"]), name="extract_text")
    entities = context.step(lambda _: trivial(text["answer"]), name="extract_entities")
    summary = context.step(lambda _: trivial(entities["answer"]), name="generate_summary")
    checked = context.step(lambda _: trivial(summary["answer"]), name="check_summary")
    return context.step(lambda _: trivial(checked["answer"]), name="save_results")
