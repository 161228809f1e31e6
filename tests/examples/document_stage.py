"""The stage of the document pipeline: its files in S3, a reader on Bedrock, mails, clicks."""

from __future__ import annotations

import email
import email.policy
import importlib
import json
import re
from email.message import EmailMessage
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlencode, urlsplit

from perdure.approvals.http import Request as HttpRequest
from perdure.approvals.journal import LocalCallbacks
from perdure.approvals.office import Office
from perdure.approvals.receiver import Receiver
from perdure.console.loader import load
from perdure.durable.testing import Runner

from ..agents.converse import Answer, ConverseServer, Request
from ..approvals.mail.moto_server import Moto
from ..durable.aws.stage import HttpServer

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "document_pipeline"
MODEL = "bedrock:us.anthropic.claude-haiku-4-5-20251001-v1:0"
OTHER = "bedrock:us.amazon.nova-lite-v1:0"
ALICE = "alice@example.org"
BUCKET = "documents"
SMALL = [
    "Order\nThis order is made between Northwind Turbines Ltd and Harbour Light GmbH.\n"
    "Harbour Light GmbH pays EUR 1,200.00 for spare bolts."
]
LINK = re.compile(r"https?://\S+/a/v1~([^/\s]+)/review")


def module(name: str) -> ModuleType:
    """One of the example's files, loaded as the command line does."""
    load(str(FOLDER / "pipeline.py"))
    return importlib.import_module(name)


class Reader:
    """A model that finds parties and sums by their form, and cites where Bedrock would.

    Attributes:
        spoiled: so many answers at first have an amount that could be misread.
        shy: so many answers at first call no tool.
        invents: it adds a thing that stands nowhere.
        cites: it cites where it is asked to; with a tool beside, not every Claude does.
    """

    def __init__(self) -> None:
        self.spoiled = 0
        self.shy = 0
        self.invents = False
        self.cites = True

    def __call__(self, request: Request, number: int) -> Answer:
        tools = request.body.get("toolConfig", {}).get("tools", [])
        if not tools:
            return Answer(f"Sums up {len(request.text)} characters.")
        first = request.body["messages"][0]["content"]
        attached = [each["document"] for each in first if "document" in each]
        texts = [each["source"]["text"] for each in attached] or [request.text]
        self.shy -= 1
        if self.shy >= 0:
            return Answer("Two parties agree on a sum.")
        found = self._found(texts)
        return Answer(
            content=(
                *(cited(at, line) for at, line in self._lines(texts) if attached and self.cites),
                {"toolUse": {"toolUseId": f"t{number}", "name": "Entities", "input": found}},
            ),
            stop="tool_use",
        )

    def _lines(self, texts: list[str]) -> list[tuple[int, str]]:
        lines = [(at, line) for at, text in enumerate(texts) for line in text.splitlines()]
        return [(at, line) for at, line in lines if "EUR" in line or " between " in line]

    def _found(self, texts: list[str]) -> dict[str, Any]:
        amount = "EUR 1.250,00" if self.spoiled > 0 else ""
        self.spoiled -= 1
        found: dict[str, Any] = {"parties": [], "dates": [], "amounts": [], "obligations": []}
        for _, line in self._lines(texts):
            for pair in re.findall(r"between (.+?) and (.+?)\.$", line):
                found["parties"] += [{"party": each, "quote": line} for each in pair]
            for sum_ in re.findall(r"EUR [\d,.]*\d", line):
                found["amounts"].append({"amount": amount or sum_, "quote": line})
        if self.invents:
            invented = {"obligation": "To pay twice.", "quote": "Everything is to be paid twice."}
            found["obligations"].append(invented)
        return found


def cited(document: int, line: str) -> dict[str, Any]:
    """A sentence with the place that Bedrock gives for it."""
    where = {"documentChar": {"documentIndex": document, "start": 0, "end": len(line)}}
    note = {"title": f"doc-{document + 1}", "sourceContent": [{"text": line}], "location": where}
    return {"citationsContent": {"content": [{"text": f"It says: {line}"}], "citations": [note]}}


class Textract(HttpServer):
    """Textract as its API reference has it: a token makes one job, the answer comes in pages.

    Attributes:
        looks: how often a job is still in progress.
        lines: the text, by page.
        status: what a job comes to.
    """

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.looks = 2
        self.status = "SUCCEEDED"
        self.lines: dict[int, list[str]] = {}
        self.jobs: dict[str, str] = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.targets: list[str] = []

    def _answer(self, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        given = json.loads(body)
        headers = {"Content-Type": "application/x-amz-json-1.1"}
        if "DocumentLocation" in given:
            job = self.jobs.setdefault(given["ClientRequestToken"], f"job-{len(self.jobs) + 1}")
            self.asked.append(("start", given))
            return 200, headers, json.dumps({"JobId": job}).encode()
        self.asked.append(("get", given))
        return 200, headers, json.dumps(self._got(given)).encode()

    def _got(self, given: dict[str, Any]) -> dict[str, Any]:
        if self.looks > 0:
            self.looks -= 1
            return {"JobStatus": "IN_PROGRESS"}
        if self.status == "FAILED":
            return {"JobStatus": "FAILED", "StatusMessage": "UNSUPPORTED_DOCUMENT"}
        pages = sorted(self.lines)
        at = int(given.get("NextToken", 0))
        blocks: list[dict[str, Any]] = [{"BlockType": "PAGE", "Page": pages[at]}]
        blocks += [
            {"BlockType": "LINE", "Page": pages[at], "Text": line, "Confidence": 99.1}
            for line in self.lines[pages[at]]
        ]
        more = {"NextToken": str(at + 1)} if at + 1 < len(pages) else {}
        return {
            "JobStatus": self.status,
            "DocumentMetadata": {"Pages": len(pages)},
            "Blocks": blocks,
            **more,
        }


class Stage:
    """Puts documents into S3, starts what its events start, reads mails and files."""

    def __init__(self, moto: Moto) -> None:
        import boto3

        self.moto = moto
        self.s3 = boto3.client("s3")
        self.sample = module("sample")
        self.start = module("start")
        self.handler = module("pipeline").handler

    def put(self, key: str, body: bytes | list[str]) -> dict[str, Any]:
        """Put an object; return the event that S3 sends of it."""
        data = self.sample.pdf_of(body) if isinstance(body, list) else body
        put = self.s3.put_object(Bucket=BUCKET, Key=key, Body=data)
        etag, version = put["ETag"].strip('"'), put.get("VersionId")
        event: dict[str, Any] = self.sample.event_of(BUCKET, key, etag, version)
        return event

    def one(self, key: str, pages: list[str]) -> dict[str, Any]:
        """Put a document; return the input that the starter makes of its event."""
        (place,) = self.start.documents_in(self.put(key, pages))
        given: dict[str, Any] = place.model_dump(exclude_none=True)
        return given

    def begin(self, runner: Runner, event: dict[str, Any]) -> Any:
        """Hand an event to the starter; return the one run it started, as far as it comes."""
        (name,) = self.start.start_all(event, self.start.in_journal(runner.engine))
        self.settle(runner)
        return runner.engine.get(name)

    def settle(self, runner: Runner) -> None:
        """Let runs go on until they end or a person is asked; polls take no time."""
        while True:
            runner.settle()
            due = runner.engine.next_timer()
            if due is None or runner.engine.count_callbacks():
                return
            runner.clock.set(due)

    def mails(self) -> list[EmailMessage]:
        """The mails that SES was given."""
        return [
            email.message_from_string(each["raw_data"], policy=email.policy.default)  # type: ignore
            for each in self.moto.raw_mails()
        ]

    def press(self, runner: Runner, decision: str, **form: str) -> int:
        """Press a button on the page behind the link in the last mail."""
        receiver = Receiver(
            Office.at(runner.engine.home, runner.clock), LocalCallbacks(runner.engine)
        )
        path = urlsplit(link_in(self.mails()[-1])[0]).path
        body = urlencode({"decision": decision, **form}).encode()
        headers = {"content-type": "application/x-www-form-urlencoded"}
        answer = receiver.handle(HttpRequest("POST", path, "", headers, body))
        self.settle(runner)
        return answer.status

    def verify(self, verified: bool) -> None:
        """Have SES take mails from the sender, or none."""
        import boto3

        ses, sender = boto3.client("sesv2"), module("demo").SENDER
        if verified:
            ses.create_email_identity(EmailIdentity=sender)
        else:
            ses.delete_email_identity(EmailIdentity=sender)

    def read(self, address: str) -> Any:
        """Read a file of JSON that the pipeline wrote."""
        bucket, _, key = address.removeprefix("s3://").partition("/")
        return json.load(self.s3.get_object(Bucket=bucket, Key=key)["Body"])

    def keys(self, prefix: str = "processed/") -> list[str]:
        """The keys of all that was filed."""
        found = self.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix)
        return [each["Key"] for each in found.get("Contents", [])]


def link_in(mail: EmailMessage) -> re.Match[str]:
    """The personal link in a mail."""
    part = mail.get_body(("plain",))
    assert part is not None
    found = LINK.search(part.get_content())
    assert found is not None
    return found


def unread(stage: Stage, run: Any) -> str:
    """Why a document could not be read, as it is filed."""
    done = run.result(timeout=0)
    filed = stage.read(done["result"])
    assert (done["status"], done["reason"]) == ("unreadable", filed["reason"])
    assert filed["status"] == "unreadable"
    return str(filed["reason"])


class Bedrock:
    """The Converse server of this module, whose reader each test may change."""

    def __init__(self) -> None:
        self.reader: Any = Reader()
        self.server = ConverseServer(lambda request, number: self.reader(request, number))
        self.since = 0

    @property
    def asked(self) -> list[Request]:
        """What came since the test began."""
        return self.server.requests[self.since :]
