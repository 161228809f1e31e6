"""The programs of the founding document, verbatim but for their import line."""

from perdure.durable import Duration, LocalEngine, durable_execution
from perdure.durable.testing import Runner

calls: list[str] = []


def extract_text(doc_id):
    calls.append("extract_text")
    return f"text of {doc_id}"


def call_bedrock(prompt):
    calls.append(prompt.split(":")[0])
    return {"answer": prompt.upper()}


def enrich_from_database(entities):
    calls.append("enrich")
    return {**entities, "known": True}


def send_email(address, summary):
    calls.append(f"mail to {address}")


@durable_execution
def handler(event, context):
    doc_id = event["document_id"]
    text = context.step("extract_text", lambda: extract_text(doc_id))
    entities = context.step("extract_entities", lambda: call_bedrock(f"Extract entities: {text}"),
                            retry={"max_attempts": 3, "backoff_rate": 2})  # fmt: skip
    enriched = context.step("enrich", lambda: enrich_from_database(entities))
    summary = context.step("summarize", lambda: call_bedrock(f"Summarize: {enriched}"),
                           retry={"max_attempts": 3, "backoff_rate": 2})  # fmt: skip
    context.step("notify", lambda: send_email(event["user_email"], summary))
    return {"status": "complete", "doc_id": doc_id}


@durable_execution
def waiting(event, context):
    approval = context.wait(duration=Duration.from_days(7), name="await_approval")
    return {"approval": approval}


def test_the_five_steps_run_once_each_in_order(tmp_path):
    calls.clear()
    event = {"document_id": "d1", "user_email": "reader@example.com"}
    with LocalEngine(tmp_path / "journal.db", handlers=[handler]) as engine:
        run = engine.start(handler, event, id="doc-1")
        assert run.result(timeout=60) == {"status": "complete", "doc_id": "d1"}
        again = engine.start(handler, event, id="doc-1")
        assert again.result(timeout=60) == {"status": "complete", "doc_id": "d1"}
    assert calls == [
        "extract_text",
        "Extract entities",
        "enrich",
        "Summarize",
        "mail to reader@example.com",
    ]


def test_a_named_wait_is_woken_by_what_is_sent():
    with Runner(handlers=[waiting]) as runner:
        run = runner.start(waiting, {}, id="w")
        runner.settle()
        runner.engine.send("w", "await_approval", {"approved": True})
        assert run.result(timeout=60) == {"approval": {"approved": True}}


def test_a_named_wait_ends_with_none_when_time_is_up():
    with Runner(handlers=[waiting]) as runner:
        run = runner.start(waiting)
        runner.run_until_idle()
        assert run.result(timeout=60) == {"approval": None}
        assert (runner.clock.now() - 1_767_225_600_000) / 86_400_000 == 7
