"""A document that arrives in S3: read, understood page by page, weighed, approved, and filed.

    python examples/document_pipeline/demo.py

shows all of it on this machine. `start.py` beside this file starts a run for each object that S3
tells of; `handler` is what it starts, as it stands, on the embedded engine and as an AWS Lambda
durable function. What of the document is recorded is never done, or paid, again.

Long documents are cut by pages, and the parts read side by side. What the model finds is checked
against the page. Above a threshold of risk a person has to say yes, by email; what they say, and
what all of it cost, is filed beside the result.

A document that cannot be read is filed as that. Where the cause is elsewhere (a permission, a
service, a sender nobody verified) the run is held instead of failing, and `perdure resume` has it
go on: on AWS a failed run is final, and what was paid and approved would go with it.
"""

import os
from pathlib import Path
from typing import Any, Self

from entities import Fact, facts_of, merged
from pydantic import (
    ConfigDict,
    Field,
    PositiveFloat,
    ValidationError,
    field_validator,
    model_validator,
)
from reading import Document, Page, Place, Unreadable, read_pages, text_of
from risk import Risk, clauses_in, look_up, risk_of
from services import AGAIN, write_json

from perdure.agents import Budget, ledger, llm
from perdure.approvals import Decision, await_approval
from perdure.approvals.people import account
from perdure.approvals.terms import terms_of
from perdure.durable import Context, Duration, UsageError, durable_execution
from perdure.prompts import Prompt

SUMMARIZE = Prompt.load(Path(__file__).parent / "prompts" / "summarize.prompt")
VARIABLE = "DOCUMENTS_"
MOST_SAID = 200
"""Facts that go into the summary."""


@durable_execution(name="document_pipeline", hold_on_failure=True)
def handler(event: Any, context: Context) -> dict[str, Any]:
    """Process one document."""
    request: Request = context.step("request", read_request, event)
    document = context.child("text", lambda scope: text_of(scope, *request.reading))
    if isinstance(document, Unreadable):
        place = document.place.model_dump()
        outcome = {"status": "unreadable", "document": place, "reason": document.reason}
    else:
        outcome = understand(context, request, document)
    return context.step("file", lambda: file(context, request, outcome), retry=AGAIN)


# The input


class Request(Place):
    """The input of a run; what it leaves out comes from the environment, read once.

    `DOCUMENTS_THRESHOLD` stands for `threshold`, and so on; lists are separated by commas.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    bucket: str = Field(min_length=3)
    key: str = Field(min_length=1)
    model: str = "offline"
    budget_usd: PositiveFloat | None = None
    table: str | None = None
    output_bucket: str | None = None
    prefix: str = Field(default="processed/", pattern=r"^[^/].*/$")
    threshold: int = Field(default=50, ge=0)
    approvers: list[str] | None = None
    via: list[str] = Field(default=["web"])
    timeout_days: float = Field(default=7, gt=0, le=365)
    pages_together: int = Field(default=5, ge=1, le=5)
    side_by_side: int = Field(default=8, ge=1, le=100)

    @field_validator("approvers", "via", mode="before")
    @classmethod
    def _listed(cls, given: Any) -> Any:
        if isinstance(given, str):
            return [each.strip() for each in given.split(",") if each.strip()]
        return given

    @model_validator(mode="after")
    def _can_be_asked(self) -> Self:
        try:
            terms_of("", "approval", **self.asking(self.approvers or [account()]))
        except UsageError as error:
            raise ValueError(str(error)) from None
        return self

    def asking(self, approvers: list[str]) -> dict[str, Any]:
        """Give whom to ask, and how."""
        timeout = Duration.from_days(self.timeout_days)
        return {"approvers": approvers, "via": self.via, "timeout": timeout}

    @property
    def place(self) -> Place:
        """Where the document is."""
        return Place(**{name: getattr(self, name) for name in Place.model_fields})

    @property
    def home(self) -> tuple[str, str]:
        """The bucket and the prefix of what is filed."""
        return self.output_bucket or self.bucket, self.prefix

    @property
    def reading(self) -> tuple[Place, tuple[str, str], int]:
        """What reading the text needs."""
        return self.place, self.home, self.pages_together

    @property
    def budget(self) -> Budget | None:
        """What all calls of the model may cost; a person is asked before one would break it."""
        if self.budget_usd is None:
            return None
        return Budget(usd=self.budget_usd, on_exceeded="ask")


def read_request(event: Any) -> Request:
    """Check the input of a run, all of it before anything is read."""
    own = set(Request.model_fields) - set(Place.model_fields)
    told = {name: os.environ.get(VARIABLE + name.upper()) for name in own}
    given = {name: value for name, value in told.items() if value}
    try:
        return Request.model_validate({**given, **event} if isinstance(event, dict) else event)
    except ValidationError as error:
        found = (f"{'.'.join(map(str, e['loc'])) or 'input'}: {e['msg']}" for e in error.errors())
        example = '{"bucket": "inbox", "key": "contract.pdf"}'
        raise ValueError(
            f"{'; '.join(found)}. An input looks like {example}; fields: "
            f"{', '.join(Request.model_fields)}"
        ) from None


# The document


def understand(context: Context, request: Request, document: Document) -> dict[str, Any]:
    """Say what a document holds, how risky it is, and whether it may be released."""
    parts = context.map(
        "parts",
        document.parts,
        lambda scope, numbers: read_part(scope, request, document, numbers),
        max_concurrency=request.side_by_side,
    )
    facts = merged([part["facts"] for part in parts])
    parties = [fact.text for fact in facts if fact.kind == "party"]
    classes = context.step("enrich", look_up, request.table, parties, retry=AGAIN)
    clauses = [each for part in parts for each in part["clauses"]]
    risk = risk_of(facts, classes, clauses, len(document.scanned))
    summary = summarize(context, request, document, facts, risk)
    decision = None
    if risk.score >= request.threshold:
        decision = ask(context, request, document, summary, facts, risk)
    return {
        "status": "released" if decision is None or decision.approved else decision.kind,
        "document": document.place.model_dump(),
        "pages": document.pages,
        "scanned_pages": document.scanned,
        "summary": summary,
        "risk": risk.model_dump(),
        "approval": words_of(decision),
        "counterparties": {name: classes.get(name) for name in parties},
        "facts": [fact.model_dump() for fact in facts],
    }


# One part


def read_part(
    scope: Context, request: Request, document: Document, numbers: list[int]
) -> dict[str, Any]:
    """Say what some pages hold."""
    pages: list[Page] = scope.step("read", read_pages, request.home, document, numbers, retry=AGAIN)
    facts = facts_of(scope, pages, request.model, request.budget)
    clauses = sorted({clause for page in pages for clause in clauses_in(page.text)})
    return {"facts": facts, "clauses": clauses}


# The summary


def summarize(
    context: Context, request: Request, document: Document, facts: list[Fact], risk: Risk
) -> str:
    """Have a model sum up what was found."""
    inputs = {
        "title": document.place.name,
        "said": said_by(facts) or "nothing that could be checked",
        "reasons": "\n".join(risk.reasons) or "nothing",
    }
    options: dict[str, Any] = {"model": request.model, "budget": request.budget}
    reply = llm(context, "summarize", SUMMARIZE, inputs=inputs, **options)
    return str(reply.text)


def said_by(facts: list[Fact]) -> str:
    """Write what was found as the document says it, page by page."""
    pages: dict[int, dict[str, None]] = {}
    for fact in [each for each in facts if each.pages][:MOST_SAID]:
        pages.setdefault(fact.pages[0], {})[fact.quote] = None
    return "\n\n".join("\n".join([f"Page {n}", *pages[n]]) for n in sorted(pages))


# The approval


def ask(
    context: Context,
    request: Request,
    document: Document,
    summary: str,
    facts: list[Fact],
    risk: Risk,
) -> Decision:
    """Ask a person whether the document may be released."""
    approvers = request.approvers or [context.step("account", account)]
    subject = {
        "document": str(document.place),
        "pages": document.pages,
        "summary": summary,
        "risk": risk.model_dump(),
        "parties": [fact.text for fact in facts if fact.kind == "party"],
        "amounts": [fact.text for fact in facts if fact.kind == "amount"],
    }
    title = f"Release {document.place.name[:100]}? Its risk is {risk.score} of 100"
    return await_approval(context, subject, title=title, **request.asking(approvers))


def words_of(decision: Decision | None) -> dict[str, Any] | None:
    """Say who decided what."""
    if decision is None:
        return None
    return {
        "decided": decision.kind,
        "by": None if decision.kind == "expired" else decision.by.identity,
        "at": decision.at.isoformat(),
        "channel": decision.channel,
        "comment": decision.comment,
        "digest": decision.digest,
    }


# The files


def file(context: Context, request: Request, outcome: dict[str, Any]) -> dict[str, Any]:
    """Write the result and the ledger, each under a key that is the same each time."""
    bucket, prefix = request.home
    folder = f"{prefix}{Place(**outcome['document']).id}"
    costs = ledger(context).as_json()
    read = "risk" in outcome
    return {
        "status": outcome["status"],
        **({"risk": outcome["risk"]["score"]} if read else {"reason": outcome["reason"]}),
        "ledger": write_json(bucket, f"{folder}/ledger.json", costs),
        "result": write_json(bucket, f"{folder}/result.json", outcome),
    }
