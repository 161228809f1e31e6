"""The document pipeline on Lambda: from S3's event to the click at the receiver's URL, and held."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import SplitResult, urlencode, urlsplit

import pytest
from botocore.awsrequest import AWSResponse

from perdure.approvals import lambda_url
from perdure.console.deploying import Writing, deploy
from perdure.console.stack import Options
from perdure.durable import LambdaEngine
from perdure.durable.aws import service
from perdure.durable.hold import FAILED
from perdure.durable.testing import Runner

from ..approvals.test_lambda_url import event as url_event
from ..approvals.ways import PERSON
from ..console.stacks import found_by_cfn_lint, read, statements
from ..durable.aws.stage import free_port
from ..durable.aws.stand import Stand, account
from ..waiting import until
from .document_stage import (
    ALICE,
    FOLDER,
    MODEL,
    SMALL,
    Bedrock,
    Stage,
    Textract,
    link_in,
    module,
    unread,
)

PATIENT = 60


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with account(tmp_path_factory.mktemp("aws") / "runner.log") as stand:
        yield stand


class Engine(Protocol):
    """The pipeline on one of the engines."""

    def begin(self, event: dict[str, Any]) -> Any:
        """Hand an event to the starter; return its run, once it has ended or waits."""

    def resume(self, run: Any) -> None:
        """Have a held run go on, until it has ended or waits."""

    def press(self, run: Any, decision: str) -> int:
        """Press a button behind the link in the last mail; return the page's status."""

    def command(self, *words: str, code: int = 0) -> str:
        """What the command line says."""


class Here:
    def __init__(self, stage: Stage, runner: Runner, journal: Path) -> None:
        self.stage, self.runner, self.journal = stage, runner, journal

    def begin(self, event: dict[str, Any]) -> Any:
        return self.stage.begin(self.runner, event)

    def resume(self, run: Any) -> None:
        self.runner.engine.resume(run.id)
        self.stage.settle(self.runner)

    def press(self, run: Any, decision: str) -> int:
        return self.stage.press(self.runner, decision)

    def command(self, *words: str, code: int = 0) -> str:
        return said(*words, "--journal", str(self.journal), code=code)


class There:
    """The starter's function invokes the durable one by its alias; the receiver is a third."""

    def __init__(self, stage: Stage, stand: Stand) -> None:
        self.stage = stage
        self.function = f"{stand.deploy(stage.handler)}:live"
        os.environ["DOCUMENTS_FUNCTION"] = self.function
        self.engine = LambdaEngine(self.function, endpoint_url=stand.front.url)

    def begin(self, event: dict[str, Any]) -> Any:
        (name,) = self.stage.start.on_aws(event, None)
        run = self.engine.get(name)
        self.rest(run)
        return run

    def rest(self, run: Any) -> None:
        """Wait until a run has ended, or waits for somebody."""
        until(
            lambda: (
                run.status != "RUNNING"
                or (not run.info().active and any(each.callback_id for each in run.waiting_for()))
            ),
            f"{run.id} to rest",
            PATIENT,
        )

    def resume(self, run: Any) -> None:
        self.engine.resume(run.id)
        until(lambda: not held(run), f"{run.id} to go on", PATIENT)
        self.rest(run)

    def press(self, run: Any, decision: str) -> int:
        status = self.click(decision)["statusCode"]
        until(lambda: run.status != "RUNNING" or held(run), "the run to go on", PATIENT)
        return int(status)

    def click(self, decision: str, **form: str) -> dict[str, Any]:
        """Press a button as a browser does; the function URL makes an event of it."""
        link = self.link()
        body = urlencode({"decision": decision, **form}).encode()
        headers = {"host": link.netloc} | PERSON
        return lambda_url.handler(url_event("POST", link.path, headers, body))

    def link(self) -> SplitResult:
        return urlsplit(link_in(self.stage.mails()[0])[0])

    def look(self) -> dict[str, Any]:
        link = self.link()
        return lambda_url.handler(url_event("GET", link.path, {"host": link.netloc}))

    def command(self, *words: str, code: int = 0) -> str:
        return said(*words, "--engine", "aws", "--function", self.function, code=code)


@pytest.fixture
def there(stage: Stage, stand: Stand, monkeypatch: pytest.MonkeyPatch) -> Iterator[There]:
    for name, text in stand.environment.items():
        monkeypatch.setenv(name, text)
    monkeypatch.setenv("DOCUMENTS_FUNCTION", "")
    module("services").client.cache_clear()
    service.forget_client()
    lambda_url._configured.cache_clear()
    yield There(stage, stand)
    lambda_url._configured.cache_clear()
    service.forget_client()


@pytest.fixture
def here(stage: Stage, tmp_path: Path) -> Iterator[Here]:
    journal = tmp_path / "journal.db"
    with Runner(journal, [stage.handler]) as runner:
        yield Here(stage, runner, journal)


@pytest.fixture(params=["here", "there"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each engine in turn."""
    found: Engine = request.getfixturevalue(request.param)
    return found


def said(*words: str, code: int) -> str:
    line = [sys.executable, "-m", "perdure.console", *words]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def held(run: Any) -> bool:
    return any(each.path == FAILED for each in run.waiting_for())


def forbid(key_ends: str) -> Any:
    """Have S3 refuse to write some keys to this process; return what lets it again."""
    events = module("services").client("s3").meta.events

    def refuse(request: Any, **_: Any) -> Any:
        if not request.url.endswith(key_ends):
            return None
        body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        answer = AWSResponse(request.url, 403, {}, None)
        answer._content = body
        return answer

    events.register("before-send.s3.PutObject", refuse)
    return lambda: events.unregister("before-send.s3.PutObject", refuse)


# From the event to the click


def test_a_risky_document_is_released_by_a_click_at_the_receivers_url(
    there: There, stage: Stage, bedrock: Bedrock
) -> None:
    run = there.begin(stage.put("contract.pdf", stage.sample.PAGES))
    (mail,) = stage.mails()
    assert mail["To"] == ALICE
    page = there.look()
    assert page["statusCode"] == 200
    assert "Release contract.pdf?" in page["body"]
    assert run.status == "RUNNING"

    answer = there.click("approve", comment="as agreed by phone")

    assert answer["statusCode"] == 200
    done = run.result(timeout=PATIENT)
    assert done["status"] == "released"
    approval = stage.read(done["result"])["approval"]
    assert (approval["by"], approval["comment"]) == (ALICE, "as agreed by phone")
    assert "Already approved" in there.click("reject")["body"]
    assert len(bedrock.asked) == 2


def test_a_rejection_on_aws_is_filed(there: There, stage: Stage) -> None:
    run = there.begin(stage.put("contract.pdf", stage.sample.PAGES))
    assert there.press(run, "reject") == 200
    assert run.result(timeout=0)["status"] == "rejected"


def test_an_event_that_comes_again_on_aws_is_the_same_run(
    there: There, stage: Stage, bedrock: Bedrock
) -> None:
    event = stage.put("order.pdf", SMALL)
    run = there.begin(event)
    done = run.result(timeout=PATIENT)
    again = there.begin(event)
    assert again.id == run.id
    assert again.result(timeout=PATIENT) == done
    assert len(there.engine.list()) == 1
    assert len(bedrock.asked) == 2


def test_the_same_document_comes_to_the_same_on_aws(
    there: There, here: Here, stage: Stage, bedrock: Bedrock
) -> None:
    event = stage.put("order.pdf", SMALL)
    remote = there.begin(event).result(timeout=PATIENT)
    filed = stage.read(remote["result"]), stage.read(remote["ledger"])
    local = here.begin(event).result(timeout=0)
    assert local == remote
    found = stage.read(local["result"]), stage.read(local["ledger"])
    assert found[0] == filed[0]
    told = [
        [(each["path"], each["calls"]) for each in costs["calls"]] for costs in (found[1], filed[1])
    ]
    assert told[0] == told[1]
    assert len(bedrock.asked) == 2 * 2


def test_a_long_document_with_scans_is_read_on_aws(
    there: There, stage: Stage, bedrock: Bedrock, textract: Textract
) -> None:
    textract.lines = {12: ["The tenant pays EUR 75.00 for repairs."]}
    textract.looks = 1
    pages = [f"Page {n}\nThe tenant pays EUR {n}.50 for month {n} of the lease." for n in range(10)]
    run = there.begin(stage.put("lease.pdf", [*SMALL, *pages, ""]))
    result = stage.read(run.result(timeout=PATIENT)["result"])
    assert result["scanned_pages"] == [12]
    amounts = [each for each in result["facts"] if each["kind"] == "amount"]
    assert [each["pages"] for each in amounts if each["text"] == "75.00 EUR"] == [[12]]
    assert len(amounts) == 12
    assert len(bedrock.asked) == 3 + 1


def test_a_document_that_cannot_be_read_comes_to_the_same_on_aws(
    there: There, here: Here, stage: Stage
) -> None:
    event = stage.put("lies.pdf", b"<html>not a PDF</html>")
    run = there.begin(event)
    run.result(timeout=PATIENT)
    assert unread(stage, run) == unread(stage, here.begin(event))


# Held


def test_a_run_that_may_not_file_its_result_is_held_and_goes_on_with_the_approval_it_has(
    engine: Engine, stage: Stage, bedrock: Bedrock
) -> None:
    allow = forbid("/result.json")
    run = engine.begin(stage.put("contract.pdf", stage.sample.PAGES))
    (asked,) = stage.mails()
    assert engine.press(run, "approve") == 200
    assert held(run)
    assert run.status == "RUNNING"
    shown = engine.command("show", run.id)
    assert "failed at file: botocore.errorfactory.AccessDenied" in shown
    assert f"perdure resume {run.id}" in shown
    assert "its failure to be mended: resume it" in engine.command("list")

    allow()
    engine.resume(run)

    done = run.result(timeout=PATIENT)
    assert done["status"] == "released"
    assert stage.read(done["result"])["approval"]["by"] == ALICE
    assert len(bedrock.asked) == 2
    assert [each["Subject"] for each in stage.mails()].count(asked["Subject"]) == 1
    assert stage.read(done["ledger"])["totals"]["calls"] == 2


def test_a_run_whose_sender_nobody_verified_is_held_and_asks_once_it_is(
    engine: Engine, stage: Stage, bedrock: Bedrock
) -> None:
    stage.verify(False)
    run = engine.begin(stage.put("contract.pdf", stage.sample.PAGES))
    assert held(run)
    assert stage.mails() == []
    shown = engine.command("show", run.id)
    assert "failed at approval/notify-email-1" in shown
    assert "verify the sender" in shown
    assert f"perdure resume {run.id}" in shown
    assert "its failure to be mended: resume it" in engine.command("list")

    stage.verify(True)
    engine.resume(run)

    assert len(stage.mails()) == 1
    assert engine.press(run, "approve") == 200
    assert run.result(timeout=PATIENT)["status"] == "released"
    assert len(bedrock.asked) == 2


def test_ses_that_is_away_for_long_is_held_and_the_mail_goes_out_after_the_resume(
    here: Here, stage: Stage, bedrock: Bedrock, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = here.runner
    with monkeypatch.context() as away:
        away.setenv("AWS_ENDPOINT_URL_SESV2", f"http://127.0.0.1:{free_port()}")
        run = here.begin(stage.put("contract.pdf", stage.sample.PAGES))
        assert not held(run)
        while not held(run):
            due = runner.engine.next_timer()
            assert due is not None
            runner.clock.set(due)
            runner.settle()
    assert "after 6 attempts" in here.command("show", run.id)
    assert stage.mails() == []

    here.resume(run)

    assert here.press(run, "approve") == 200
    assert run.result(timeout=0)["status"] == "released"
    assert len(bedrock.asked) == 2


def test_the_command_line_resumes_a_held_run_on_aws(there: There, stage: Stage) -> None:
    allow = forbid("/result.json")
    run = there.begin(stage.put("order.pdf", SMALL))
    assert held(run)
    allow()
    assert '"status": "released"' in there.command("resume", run.id)


# The stacks


def deployed(folder: Path) -> dict[str, Any]:
    """The template that the README's command writes."""
    file = folder / "template.yaml"
    options = Options(
        email="approvals@example.org",
        bedrock=(MODEL.removeprefix("bedrock:"),),
        policies=("arn:aws:iam::123456789012:policy/documents-Steps-1ABC",),
        settings=(("DOCUMENTS_MODEL", MODEL), ("DOCUMENTS_TABLE", "documents-Counterparties-1ABC")),
    )
    deploy(str(FOLDER / "pipeline.py"), options, Writing(str(file), False, None), True)
    return read(file.read_text())


def test_both_stacks_pass_cfn_lint(tmp_path: Path) -> None:
    deployed(tmp_path)
    assert found_by_cfn_lint([tmp_path / "template.yaml", FOLDER / "stack.yaml"]).strip() == ""


def test_the_starter_invokes_the_function_that_deploy_makes_and_nothing_else(
    tmp_path: Path,
) -> None:
    made = deployed(tmp_path)
    function = made["Resources"]["PipelineHandlerFunction"]["Properties"]
    name = made["Parameters"]["PipelineHandlerName"]["Default"]
    assert function["Handler"] == "pipeline.handler"
    stack = read((FOLDER / "stack.yaml").read_text())
    assert stack["Parameters"]["Pipeline"]["Default"] == f"{name}:{function['AutoPublishAlias']}"
    (start,) = [each for each in statements(stack, "StarterRole") if each["Sid"] == "StartRuns"]
    assert start["Action"] == "lambda:InvokeFunction"
    assert start["Resource"]["Fn::Sub"].endswith(":function:${Pipeline}")
    assert stack["Resources"]["Starter"]["Properties"]["Handler"] == "start.on_aws"
    assert callable(module("start").on_aws)


def test_the_rule_lets_through_each_kind_of_document_and_nothing_that_is_filed() -> None:
    stack = read((FOLDER / "stack.yaml").read_text())
    rule = stack["Resources"]["Starter"]["Properties"]["Events"]["Arrived"]["Properties"]["Pattern"]
    endings = [each["suffix"]["equals-ignore-case"] for each in rule["detail"]["object"]["key"]]
    assert tuple(endings) == tuple(module("reading").SUFFIXES)
    assert ".json" not in endings


def test_the_steps_may_do_what_they_do_and_no_more() -> None:
    stack = read((FOLDER / "stack.yaml").read_text())
    stated = stack["Resources"]["Steps"]["Properties"]["PolicyDocument"]["Statement"]
    actions = {
        action
        for each in stated
        for action in (each["Action"] if isinstance(each["Action"], list) else [each["Action"]])
    }
    assert actions == {
        "s3:ListBucket",
        "s3:GetObject",
        "s3:GetObjectVersion",
        "s3:PutObject",
        "textract:StartDocumentTextDetection",
        "textract:GetDocumentTextDetection",
        "dynamodb:BatchGetItem",
    }
