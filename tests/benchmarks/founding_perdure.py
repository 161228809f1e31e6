"""The founding handler's steps, written for perdure."""

from marks import trivial

from perdure.durable import Context, durable_execution


@durable_execution
def handler(event: dict[str, str], context: Context) -> dict[str, str]:
    """Process a document in five steps."""
    text = context.step("extract_text", trivial, event["document_id"])
    entities = context.step("extract_entities", trivial, text["answer"])
    summary = context.step("generate_summary", trivial, entities["answer"])
    checked = context.step("check_summary", trivial, summary["answer"])
    return context.step("save_results", trivial, checked["answer"])
