"""The document pipeline, end to end: real boto3 clients over HTTP, on both engines."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

import pytest

from perdure.durable import LocalEngine
from perdure.durable.testing import Runner, check_replay

from ..agents.converse import PATIENCE, Answer, Request
from ..durable.aws.stage import HttpServer, free_port
from ..waiting import until
from .document_stage import (
    ALICE,
    BUCKET,
    FOLDER,
    OTHER,
    SMALL,
    Bedrock,
    Reader,
    Stage,
    Textract,
    module,
    unread,
)


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    with Runner(tmp_path / "journal.db", [module("pipeline").handler]) as runner:
        yield runner


# From the event to the files


def test_a_document_of_little_risk_is_filed_without_asking_anybody(
    stage: Stage, runner: Runner
) -> None:
    run = stage.begin(runner, stage.put("in/order 1+2.pdf", SMALL))
    done = run.result(timeout=0)
    assert (done["status"], done["risk"]) == ("released", 20)
    result = stage.read(done["result"])
    assert result["document"]["key"] == "in/order 1+2.pdf"
    assert result["counterparties"] == {
        "Northwind Turbines Ltd": "low",
        "Harbour Light GmbH": "medium",
    }
    assert result["approval"] is None
    assert result["summary"].startswith("Sums up")
    assert stage.mails() == []
    check_replay(run)


def test_what_is_filed_says_what_it_cost(stage: Stage, runner: Runner, bedrock: Bedrock) -> None:
    run = stage.begin(runner, stage.put("order.pdf", SMALL))
    costs = stage.read(run.result(timeout=0)["ledger"])
    assert [each["path"] for each in costs["calls"]] == ["parts[0]/extract", "summarize"]
    spent = [each.usage or {} for each in bedrock.asked]
    assert costs["totals"]["calls"] == len(spent) == 2
    assert costs["totals"]["input_tokens"] == sum(each["inputTokens"] for each in spent)
    assert costs["totals"]["usd"] > 0
    folder = f"processed/{run.id}"
    assert stage.keys() == [f"{folder}/{each}.json" for each in ("ledger", "pages", "result")]


def test_a_risky_document_is_released_by_the_link_in_a_mail(stage: Stage, runner: Runner) -> None:
    run = stage.begin(runner, stage.put("contract.pdf", stage.sample.PAGES))
    assert run.status.value == "RUNNING"
    (mail,) = stage.mails()
    assert mail["To"] == ALICE
    assert "Release contract.pdf? Its risk is" in mail["Subject"]
    assert stage.press(runner, "approve", comment="as agreed by phone") == 200
    done = run.result(timeout=0)
    assert done["status"] == "released"
    result = stage.read(done["result"])
    assert result["approval"]["by"] == ALICE
    assert result["approval"]["comment"] == "as agreed by phone"
    reasons = " ".join(result["risk"]["reasons"])
    for word in ("penalty", "automatic renewal", "unlimited liability", "1250000.00 EUR"):
        assert word in reasons
    check_replay(run)


def test_a_rejection_is_filed_too(stage: Stage, runner: Runner) -> None:
    run = stage.begin(runner, stage.put("contract.pdf", stage.sample.PAGES))
    stage.press(runner, "reject", comment="liability")
    done = run.result(timeout=0)
    assert done["status"] == "rejected"
    approval = stage.read(done["result"])["approval"]
    assert (approval["decided"], approval["by"]) == ("rejected", ALICE)
    assert approval["comment"] == "liability"


def test_a_document_nobody_decides_on_in_time_is_not_released(stage: Stage, runner: Runner) -> None:
    run = stage.begin(runner, stage.put("contract.pdf", stage.sample.PAGES))
    runner.run_until_idle()
    done = run.result(timeout=0)
    assert done["status"] == "expired"
    assert stage.read(done["result"])["approval"]["by"] is None


def test_a_threshold_is_a_setting(
    stage: Stage, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCUMENTS_THRESHOLD", "101")
    run = stage.begin(runner, stage.put("contract.pdf", stage.sample.PAGES))
    done = run.result(timeout=0)
    assert (done["status"], done["risk"]) == ("released", 100)
    assert stage.mails() == []


# The pages and what stands on them


def test_bedrocks_citations_say_where_a_thing_stands(
    stage: Stage, runner: Runner, bedrock: Bedrock
) -> None:
    run = stage.begin(runner, stage.put("contract.pdf", stage.sample.PAGES))
    stage.press(runner, "approve")
    facts = stage.read(run.result(timeout=0)["result"])["facts"]
    assert {each["by"] for each in facts} == {"bedrock"}
    (penalty,) = [each for each in facts if each["text"] == "25000.00 EUR"]
    assert penalty["pages"] == [2]
    content = bedrock.asked[0].body["messages"][0]["content"]
    attached = [each["document"] for each in content if "document" in each]
    assert len(attached) == 3
    assert all(each["citations"] == {"enabled": True} for each in attached)
    assert bedrock.asked[0].body["toolConfig"]["toolChoice"] == {"auto": {}}


def test_a_model_that_cites_nothing_is_checked_against_the_pages(
    stage: Stage, runner: Runner, bedrock: Bedrock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCUMENTS_MODEL", OTHER)
    bedrock.reader.invents = True
    run = stage.begin(runner, stage.put("order.pdf", ["", *SMALL]))
    result = stage.read(run.result(timeout=0)["result"])
    by = {each["text"]: (each["by"], each["pages"]) for each in result["facts"]}
    assert by["1200.00 EUR"] == ("text", [2])
    assert by["To pay twice."] == (None, [])
    assert any("stands nowhere" in each for each in result["risk"]["reasons"])
    assert "document" not in {
        kind for block in bedrock.asked[0].body["messages"][0]["content"] for kind in block
    }


def test_claude_that_calls_the_tool_and_cites_nothing_is_checked_against_the_pages(
    stage: Stage, runner: Runner, bedrock: Bedrock
) -> None:
    bedrock.reader.cites = False
    run = stage.begin(runner, stage.put("order.pdf", ["", *SMALL]))
    facts = stage.read(run.result(timeout=0)["result"])["facts"]
    assert {(each["by"], *each["pages"]) for each in facts} == {("text", 2)}
    assert len(bedrock.asked) == 2


def test_a_citation_of_words_that_are_not_there_counts_for_nothing() -> None:
    entities, reading = module("entities"), module("reading")
    pages = [reading.Page(number=7, text="The fee is EUR 10.00 a month.")]
    quote = "The fee is EUR 10.00"
    note = {
        "cited_text": "The fee is EUR 99.00",
        "extras": {"citation": {"location": {"documentChar": {"documentIndex": 0}}}},
    }
    content = [{"type": "text", "text": "It says so.", "annotations": [note]}]
    assert list(entities.citations(content, pages)) == []
    note["cited_text"] = quote
    assert list(entities.citations(content, pages)) == [(7, "the fee is eur 10.00")]
    note["extras"] = {"citation": {"location": {"documentChar": {"documentIndex": 3}}}}
    assert list(entities.citations(content, pages)) == []


def test_a_long_document_is_read_in_parts_side_by_side(
    stage: Stage, runner: Runner, bedrock: Bedrock
) -> None:
    pages = [f"Page {n}\nThe tenant pays EUR {n}.50 for month {n} of the lease." for n in range(23)]
    run = stage.begin(runner, stage.put("lease.pdf", [*SMALL, *pages, pages[3]]))
    result = stage.read(run.result(timeout=0)["result"])
    assert len(bedrock.asked) == 5 + 1
    assert result["pages"] == 25
    amounts = {each["text"]: each["pages"] for each in result["facts"] if each["kind"] == "amount"}
    assert len(amounts) == 24
    assert amounts["3.50 EUR"] == [5, 25]
    assert amounts["22.50 EUR"] == [24]


def test_an_answer_that_does_not_fit_is_mended_by_another_call(
    stage: Stage, runner: Runner, bedrock: Bedrock
) -> None:
    bedrock.reader.spoiled = 1
    run = stage.begin(runner, stage.put("order.pdf", SMALL))
    done = run.result(timeout=0)
    assert len(bedrock.asked) == 3
    told = json.dumps(bedrock.asked[1].body["messages"][-1])
    assert "amounts.0.amount" in told
    paths = [each["path"] for each in stage.read(done["ledger"])["calls"]]
    assert paths[:2] == ["parts[0]/extract", "parts[0]/extract/repair"]


def test_a_model_that_cites_and_does_not_call_the_tool_is_asked_again(
    stage: Stage, runner: Runner, bedrock: Bedrock
) -> None:
    bedrock.reader.shy = 1
    run = stage.begin(runner, stage.put("order.pdf", SMALL))
    result = stage.read(run.result(timeout=0)["result"])
    assert len(bedrock.asked) == 3
    assert [each["text"] for each in result["facts"] if each["kind"] == "amount"] == ["1200.00 EUR"]


def test_a_budget_asks_before_it_is_broken(
    stage: Stage, runner: Runner, bedrock: Bedrock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCUMENTS_BUDGET_USD", "0.0001")
    run = stage.begin(runner, stage.put("order.pdf", SMALL))
    assert [wait.path for wait in run.waiting_for()] == ["budget"]
    assert bedrock.asked == []
    runner.engine.send(run.id, "budget", {"usd": 5})
    stage.settle(runner)
    assert run.result(timeout=0)["status"] == "released"


# What cannot be read


def encrypted(data: bytes, **words: str) -> bytes:
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(data)))
    writer.encrypt(algorithm="AES-256", **words)
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def test_what_cannot_be_read_is_filed_with_the_reason_and_costs_nothing(
    stage: Stage, runner: Runner, bedrock: Bedrock
) -> None:
    whole = stage.sample.pdf_of(SMALL)
    cases = {
        "locked.pdf": (encrypted(whole, user_password="secret"), "encrypted: it takes a password"),
        "cut.pdf": (whole[: len(whole) // 3], "no PDF, or a damaged one"),
        "lies.pdf": (b"<html>not a PDF</html>", "no PDF, or a damaged one"),
        "nothing.pdf": (b"", "is empty"),
        "blank.pdf": (stage.sample.pdf_of([" ", " "]), "holds no text and no picture"),
        "none.pdf": (stage.sample.pdf_of([]), "a PDF without pages"),
    }
    for key, (data, why) in cases.items():
        said = unread(stage, stage.begin(runner, stage.put(key, data)))
        assert why in said, said
    assert bedrock.asked == []
    assert not any("pages" in each for each in stage.keys("processed/"))


def test_a_damaged_document_that_is_replaced_is_read_in_a_run_of_its_own(
    stage: Stage, runner: Runner, bedrock: Bedrock
) -> None:
    damaged = stage.begin(runner, stage.put("order.pdf", stage.sample.pdf_of(SMALL)[:200]))
    assert "no PDF, or a damaged one" in unread(stage, damaged)
    whole = stage.begin(runner, stage.put("order.pdf", SMALL))
    assert whole.id != damaged.id
    assert whole.result(timeout=0)["status"] == "released"
    assert len(bedrock.asked) == 2


def test_a_service_that_is_away_for_minutes_is_waited_for(
    stage: Stage, runner: Runner, bedrock: Bedrock, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = stage.put("order.pdf", SMALL)
    clients = module("services").client
    with monkeypatch.context() as away:
        away.setenv("AWS_ENDPOINT_URL_DYNAMODB", f"http://127.0.0.1:{free_port()}")
        clients.cache_clear()
        (name,) = stage.start.start_all(event, stage.start.in_journal(runner.engine))
        runner.settle()
        run = runner.engine.get(name)
        assert [(wait.path, wait.kind) for wait in run.waiting_for()] == [("enrich", "retry")]
    clients.cache_clear()
    stage.settle(runner)
    assert run.result(timeout=0)["risk"] == 20
    assert len(bedrock.asked) == 2


def test_a_pdf_that_only_restricts_its_use_is_read(stage: Stage, runner: Runner) -> None:
    data = encrypted(stage.sample.pdf_of(SMALL), user_password="", owner_password="secret")
    run = stage.begin(runner, stage.put("order.pdf", data))
    assert run.result(timeout=0)["status"] == "released"


def test_an_object_that_is_gone_or_was_replaced_is_not_taken_for_another(
    stage: Stage, runner: Runner
) -> None:
    event = stage.put("order.pdf", SMALL)
    stage.put("order.pdf", stage.sample.PAGES)
    assert "was replaced since its event" in unread(stage, stage.begin(runner, event))
    gone = stage.put("gone.pdf", SMALL)
    stage.s3.delete_object(Bucket=BUCKET, Key="gone.pdf")
    assert "there is no s3://documents/gone.pdf any more" in unread(
        stage, stage.begin(runner, gone)
    )


def test_the_version_of_the_event_is_the_one_that_is_read(stage: Stage, runner: Runner) -> None:
    versioning = {"Status": "Enabled"}
    stage.s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration=versioning)
    event = stage.put("order.pdf", SMALL)
    stage.put("order.pdf", stage.sample.PAGES)
    result = stage.read(stage.begin(runner, event).result(timeout=0)["result"])
    assert result["pages"] == 1
    assert result["document"]["version_id"] == event["Records"][0]["s3"]["object"]["versionId"]


def test_a_key_of_any_characters_is_asked_about(stage: Stage, runner: Runner) -> None:
    key = f"in/a b <i> \u202e{'long ' * 40}.pdf"
    run = stage.begin(runner, stage.put(key, stage.sample.PAGES))
    assert stage.press(runner, "approve") == 200
    assert stage.read(run.result(timeout=0)["result"])["document"]["key"] == key


def test_a_document_named_by_hand_is_the_one_that_stands_there(
    stage: Stage, runner: Runner
) -> None:
    event = stage.put("order.pdf", SMALL)
    by_hand = runner.start(stage.handler, {"bucket": BUCKET, "key": "order.pdf"}, id="by-hand")
    runner.settle()
    run = stage.begin(runner, event)
    assert by_hand.result(timeout=0) == run.result(timeout=0)


def test_limits_of_size_are_kept(
    stage: Stage, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = module("reading")
    monkeypatch.setattr(reading, "MOST_PAGES", 2)
    said = unread(stage, stage.begin(runner, stage.put("long.pdf", stage.sample.PAGES)))
    assert "has 3 pages, over 2" in said
    monkeypatch.setattr(reading, "MOST_BYTES", 500)
    assert "bytes, more than 500" in unread(stage, stage.begin(runner, stage.put("big.pdf", SMALL)))


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ([], "input: .*valid dictionary"),
        ({"key": "a.pdf"}, "bucket: Field required"),
        ({"bucket": "documents", "key": "a.pdf", "colour": 1}, "colour: Extra inputs.*fields: "),
        ({"bucket": "documents", "key": "a.pdf", "prefix": "/x"}, "prefix: "),
        ({"bucket": "documents", "key": "a.pdf", "approvers": "alice"}, "an approver is alice@"),
        ({"bucket": "documents", "key": "a.pdf", "via": "fax"}, "'fax', which is no channel"),
        ({"bucket": "documents", "key": "a.pdf", "budget_usd": 0}, "budget_usd: .*greater than 0"),
    ],
)
def test_a_wrong_input_is_told_what_is_wrong(event: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        module("pipeline").read_request(event)


# Scans


def test_pages_that_are_scans_are_read_by_textract(
    stage: Stage, runner: Runner, textract: Textract
) -> None:
    textract.lines = {1: ["not asked for"], 2: ["The tenant pays EUR 75.00", "for repairs."]}
    run = stage.begin(runner, stage.put("mixed.pdf", [*SMALL, ""]))
    result = stage.read(run.result(timeout=0)["result"])
    assert result["scanned_pages"] == [2]
    amounts = {each["text"]: each["pages"] for each in result["facts"] if each["kind"] == "amount"}
    assert amounts == {"1200.00 EUR": [1], "75.00 EUR": [2]}
    assert "1 of its pages are scans (+5)" in result["risk"]["reasons"]
    kinds = [kind for kind, _ in textract.asked]
    assert kinds == ["start", "get", "get", "get", "get", "get"]
    check_replay(run)


def test_a_picture_is_a_document_of_its_own(
    stage: Stage, runner: Runner, textract: Textract
) -> None:
    textract.lines = {1: SMALL[0].splitlines()}
    run = stage.begin(runner, stage.put("letter.jpg", b"\xff\xd8\xff\xe0 a picture"))
    assert stage.read(run.result(timeout=0)["result"])["scanned_pages"] == [1]


def test_a_scan_that_is_started_again_is_the_same_job(
    stage: Stage, runner: Runner, textract: Textract
) -> None:
    textract.lines = {1: SMALL[0].splitlines()}
    event = stage.put("scan.pdf", [""])
    (name,) = stage.start.start_all(event, stage.start.in_journal(runner.engine))
    until(lambda: textract.asked, "the scan to be started")
    runner.crash_after(0)
    runner.run_until_idle()
    runner.restart()
    stage.settle(runner)
    assert runner.engine.get(name).result(timeout=5)["status"] == "released"
    assert len(textract.jobs) == 1


def test_a_scan_that_textract_refuses_is_filed_with_its_words(
    stage: Stage, runner: Runner, textract: Textract
) -> None:
    textract.status = "FAILED"
    said = unread(stage, stage.begin(runner, stage.put("scan.pdf", [""])))
    assert "UNSUPPORTED_DOCUMENT" in said


def test_what_moto_has_of_textract_takes_the_same_requests(stage: Stage, runner: Runner) -> None:
    # Its jobs are done at once and hold no text, so the document is one without any.
    said = unread(stage, stage.begin(runner, stage.put("scan.pdf", [""])))
    assert "holds no text and no picture" in said


# Events


def test_a_redelivered_event_starts_nothing_twice(
    stage: Stage, runner: Runner, bedrock: Bedrock
) -> None:
    event = stage.put("order.pdf", SMALL)
    run = stage.begin(runner, event)
    asked = len(bedrock.asked)
    event["Records"][0]["eventTime"] = "2026-03-03T10:00:00.000Z"
    again = stage.start.start_all(event, stage.start.in_journal(runner.engine))
    runner.run_until_idle()
    assert again == {run.id: False}
    assert len(bedrock.asked) == asked
    assert len(runner.engine.list()) == 1
    changed = stage.put("order.pdf", [*SMALL, *SMALL])
    assert stage.begin(runner, changed).id != run.id


def test_an_event_is_read_as_s3_writes_it() -> None:
    start, sample = module("start"), module("sample")
    event = sample.event_of("b-1", "in/Zürich & Söhne +1 (2).PDF", "e1")
    event["Records"] += sample.event_of("b-1", "in/b.pdf", "e2", "v2")["Records"]
    event["Records"] += sample.event_of("b-1", "in/b.pdf", "e2", "v2")["Records"]
    event["Records"] += sample.event_of("b-1", "in/c.pdf", "e3", "null")["Records"]
    for key in ("in/", "notes.docx", ".pdf", "processed/x/pages.pdf", "x/processed"):
        event["Records"] += sample.event_of("b-1", key, "e")["Records"]
    removed = sample.event_of("b-1", "in/d.pdf", "e")["Records"][0]
    event["Records"].append(removed | {"eventName": "ObjectRemoved:Delete"})
    found = list(start.documents_in(event))
    assert [each.key for each in found] == ["in/Zürich & Söhne +1 (2).PDF", "in/b.pdf", "in/c.pdf"]
    assert [each.version_id for each in found] == [None, "v2", None]
    ids = [each.id for each in found]
    assert len(set(ids)) == 3
    assert all(len(each) <= 64 and each.replace("-", "").isalnum() for each in ids)
    assert all(each.isascii() for each in ids)


def test_what_is_no_event_of_s3_is_refused_and_its_test_event_is_not() -> None:
    start = module("start")
    assert start.start_all({"Service": "Amazon S3", "Event": "s3:TestEvent"}, None) == {}
    for event in ({}, [], None, {"Records": [{"eventSource": "aws:sqs"}]}):
        with pytest.raises(ValueError, match="S3"):
            list(start.documents_in(event))


def bridged(event: dict[str, Any]) -> dict[str, Any]:
    """The same object as EventBridge tells of it: its key is not encoded there."""
    (record,) = event["Records"]
    told = record["s3"]["object"]
    version = {"version-id": told["versionId"]} if "versionId" in told else {}
    return {
        "version": "0",
        "source": "aws.s3",
        "detail-type": "Object Created",
        "detail": {
            "version": "0",
            "bucket": {"name": record["s3"]["bucket"]["name"]},
            "object": {"key": unquote_plus(told["key"]), "etag": told["eTag"], **version},
            "reason": "PutObject",
        },
    }


def queued(*events: Any) -> dict[str, Any]:
    """Events as messages of SQS."""
    return {
        "Records": [
            {"eventSource": "aws:sqs", "messageId": f"m{number}", "body": json.dumps(event)}
            for number, event in enumerate(events)
        ]
    }


@pytest.mark.parametrize("version", [None, "v2"])
def test_an_object_is_the_same_run_whichever_way_its_event_comes(version: str | None) -> None:
    start, sample = module("start"), module("sample")
    event = sample.event_of("b-1", "in/Zürich 50%+1 (2).pdf", "e1", version)
    (place,) = start.documents_in(event)
    assert place.key == "in/Zürich 50%+1 (2).pdf"
    ways = [bridged(event), queued(event), queued(bridged(event)), queued(event, bridged(event))]
    for way in ways:
        assert list(start.documents_in(way)) == [place]


def test_a_document_that_eventbridge_tells_of_is_read_once_and_its_other_events_start_nothing(
    stage: Stage, runner: Runner, bedrock: Bedrock
) -> None:
    event = stage.put("in/order 1+2%.pdf", SMALL)
    run = stage.begin(runner, bridged(event))
    assert stage.read(run.result(timeout=0)["result"])["document"]["key"] == "in/order 1+2%.pdf"
    for other in (event, queued(event, bridged(event))):
        again = stage.start.start_all(other, stage.start.in_journal(runner.engine))
        assert again == {run.id: False}
    assert len(bedrock.asked) == 2


def test_other_news_of_eventbridge_and_test_messages_start_nothing() -> None:
    start, sample = module("start"), module("sample")
    gone = bridged(sample.event_of("b-1", "in/a.pdf", "e1")) | {"detail-type": "Object Deleted"}
    test = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b-1"}
    for event in (gone, queued(gone, test), bridged(sample.event_of("b-1", "in/a.txt", "e1"))):
        assert list(start.documents_in(event)) == []


def test_a_message_that_means_nothing_does_not_keep_the_others(
    stage: Stage, lambda_: Lambda
) -> None:
    good = stage.sample.event_of(BUCKET, "good.pdf", "e1")
    event = queued({"hello": 1}, {"Records": [{"eventSource": "aws:s3", "eventName": "x"}]}, good)
    event["Records"].insert(1, {"eventSource": "aws:sqs", "body": "no JSON"})
    with pytest.raises(ExceptionGroup, match="3 could not be started"):
        stage.start.on_aws(event, None)
    assert list(lambda_.started) == ["good.pdf"]


class Lambda(HttpServer):
    """Invoke of Lambda, as far as names of durable executions go."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.started: dict[str, bytes] = {}
        self.paths: list[str] = []
        self.bodies: list[bytes] = []
        self.refuses: str | None = None

    def _answer(self, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        self.paths.append(path)
        self.bodies.append(body)
        key = json.loads(body)["key"]
        if key == self.refuses:
            return 403, {"X-Amzn-ErrorType": "AccessDeniedException"}, b'{"Message": "no"}'
        if self.started.setdefault(key, body) != body:
            kind = {"X-Amzn-ErrorType": "DurableExecutionAlreadyStartedException"}
            return 409, kind, b'{"message": "is there"}'
        return 202, {}, b""


@pytest.fixture
def lambda_(monkeypatch: pytest.MonkeyPatch, stage: Stage) -> Iterator[Lambda]:
    server = Lambda()
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", server.url)
    monkeypatch.setenv("DOCUMENTS_FUNCTION", "documents:live")
    module("services").client.cache_clear()
    yield server
    server.close()


def test_on_aws_each_document_is_invoked_by_name_and_a_name_that_is_taken_is_fine(
    stage: Stage, lambda_: Lambda, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []
    calls = module("services").client("lambda")
    calls.meta.events.register(
        "before-send.lambda.Invoke",
        lambda request, **_: names.append(
            request.headers["X-Amz-Durable-Execution-Name"].decode()
            + "/"
            + request.headers["X-Amz-Invocation-Type"].decode()
        ),
    )
    event = stage.sample.event_of(BUCKET, "a b.pdf", "e1")
    first = stage.start.on_aws(event, None)
    again = stage.start.on_aws(event, None)
    (name,) = first
    assert (first, again) == ({name: True}, {name: True})
    lambda_.started["a b.pdf"] = b"another input"
    assert stage.start.on_aws(event, None) == {name: False}
    lambda_.started["a b.pdf"] = lambda_.bodies[0]
    assert names == [f"{name}/Event"] * 3
    assert json.loads(lambda_.started["a b.pdf"]) == {
        "bucket": BUCKET,
        "key": "a b.pdf",
        "etag": "e1",
    }
    assert lambda_.paths[0].split("?")[0].endswith("/functions/documents%3Alive/invocations")


def test_one_document_that_cannot_be_started_does_not_keep_the_others(
    stage: Stage, lambda_: Lambda
) -> None:
    event = stage.sample.event_of(BUCKET, "bad.pdf", "e1")
    event["Records"] += stage.sample.event_of(BUCKET, "good.pdf", "e2")["Records"]
    lambda_.refuses = "bad.pdf"
    with pytest.raises(ExceptionGroup, match="1 could not be started"):
        stage.start.on_aws(event, None)
    assert list(lambda_.started) == ["good.pdf"]


def test_the_command_starts_what_an_event_in_a_file_tells_of(stage: Stage, tmp_path: Path) -> None:
    event = tmp_path / "event.json"
    event.write_text(json.dumps(stage.put("order.pdf", SMALL)))
    journal = tmp_path / "new" / "journal.db"
    said = [command(str(FOLDER / "start.py"), str(event), "--journal", str(journal)) for _ in "ab"]
    assert said[0].endswith(": started\n")
    assert said[1].endswith(": is there already\n")
    event.write_text('{"Event": "s3:TestEvent"}')
    assert command(str(FOLDER / "start.py"), str(event)) == "the event tells of no document\n"
    with LocalEngine(journal, [stage.handler]) as engine:
        (info,) = engine.list()
        assert engine.get(info.id).result(timeout=30)["status"] == "released"


def command(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# Kills


def test_a_run_that_is_killed_pays_for_no_answer_twice(
    stage: Stage, bedrock: Bedrock, tmp_path: Path
) -> None:
    """`kill -9` while the second of three parts is asked."""
    gate, held = threading.Event(), threading.Event()
    reader = Reader()

    def slow(request: Request, number: int) -> Answer:
        answer = reader(request, number)
        if number == bedrock.since + 2:
            held.set()
            return Answer(content=answer.content, stop=answer.stop, gate=gate)
        return answer

    bedrock.reader = slow
    stage.put("contract.pdf", stage.sample.PAGES)
    given = {"bucket": BUCKET, "key": "contract.pdf", "threshold": 101}
    given |= {"pages_together": 1, "side_by_side": 1}
    line = [sys.executable, "-m", "perdure.console", "run", str(FOLDER / "pipeline.py")]
    line += ["--id", "killed", "--input", json.dumps(given)]
    first = subprocess.Popen(line, cwd=tmp_path, stdout=subprocess.DEVNULL)
    try:
        assert held.wait(PATIENCE)
    finally:
        first.kill()
        first.wait()
        gate.set()
    second = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=90)
    assert second.returncode == 0, second.stdout + second.stderr
    with LocalEngine(tmp_path / ".perdure" / "journal.db", [stage.handler]) as engine:
        done = engine.get("killed").result(timeout=30)
    bodies = [json.dumps(each.body.get("messages")) for each in bedrock.asked]
    assert len(bodies) == 3 + 1 + 1
    assert bodies.count(bodies[0]) == 1
    assert bodies.count(bodies[1]) == 2
    totals = stage.read(done["ledger"])["totals"]
    assert (totals["calls"], totals["in_doubt"]) == (4, 1)


@pytest.mark.parametrize("writes", [0, 2, 7, 12, 17])
def test_wherever_the_engine_dies_the_document_is_filed_once_decided(
    stage: Stage, runner: Runner, bedrock: Bedrock, writes: int
) -> None:
    event = stage.put("contract.pdf", stage.sample.PAGES)
    runner.crash_after(writes)
    with suppress(ExceptionGroup):  # the engine may die while the run is started
        stage.start.start_all(event, stage.start.in_journal(runner.engine))
        runner.settle()
    assert runner.engine.killed
    runner.restart()
    run = stage.begin(runner, event)
    assert len({each["Message-ID"] for each in stage.mails()}) == 1
    stage.press(runner, "approve")
    done = run.result(timeout=5)
    assert done["status"] == "released"
    in_doubt = stage.read(done["ledger"])["totals"]["in_doubt"]
    assert len(bedrock.asked) <= 2 + in_doubt <= 3


# The demo


def test_the_demo_runs_from_the_document_to_the_files() -> None:
    began = time.monotonic()
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "PERDURE_"))}
    line = [sys.executable, str(FOLDER / "demo.py"), "--yes"]
    done = subprocess.run(line, env=clean, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "started 0 more" in done.stdout
    assert "Release supply agreement.pdf?" in done.stdout
    assert '"status": "released"' in done.stdout
    assert time.monotonic() - began < 60
