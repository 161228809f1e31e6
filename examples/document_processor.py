"""Five durable steps: read a document, find what it names, look it up, sum it up, tell a reader.

    perdure run examples/document_processor.py --input '{"document_id": "contract"}'

Two of the five ask a model: by default the offline stand-in, which needs no key and no network and
extracts instead of reasoning; `"model": "bedrock:…"` in the input asks a real one. README.md beside
this file shows how to crash a run and let it go on.
"""

import hashlib
import os
import re
import smtplib
import sqlite3
import ssl
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from typing import Annotated, Any, Literal, ParamSpec, TypeVar
from urllib.parse import unquote, urlsplit

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    ValidationError,
)

from perdure.agents import Budget, Fate, RequestError, llm, resolve
from perdure.durable import Context, current_step, durable_execution
from perdure.prompts import Prompt

P = ParamSpec("P")
T = TypeVar("T")

HERE = Path(__file__).resolve().parent
DOCUMENTS = HERE / "documents"
EXTRACT_ENTITIES = Prompt.load(HERE / "prompts" / "extract_entities.prompt")
SUMMARIZE = Prompt.load(HERE / "prompts" / "summarize.prompt")
RETRY = {"max_attempts": 3, "initial_delay": 1, "backoff_rate": 2}


@durable_execution
def handler(event: dict[str, Any], context: Context) -> dict[str, Any]:
    """Process one document; whatever of it is recorded is never done, or paid, again."""
    request = read_request(event)
    doc_id = request.document_id
    text = context.step("extract_text", lambda: perform(request, extract_text, doc_id))
    entities = llm(
        context,
        "extract_entities",
        EXTRACT_ENTITIES,
        inputs={"document": text},
        output=Entities,
        model=Watched(request, "extract_entities"),
        budget=request.budget,
        retry=RETRY,
    ).output
    enriched = context.step("enrich", lambda: perform(request, enrich, entities, request.out))
    summary = llm(
        context,
        "summarize",
        SUMMARIZE,
        inputs={"document": text, **known_of(enriched)},
        model=Watched(request, "summarize"),
        budget=request.budget,
        retry=RETRY,
    ).text
    notice = context.step("notify", lambda: perform(request, notify, request, enriched, summary))
    return {"status": "complete", "doc_id": doc_id, "summary": summary, "notice": notice}


# The input

StepName = Literal["extract_text", "extract_entities", "enrich", "summarize", "notify"]


class Request(BaseModel):
    """The input of a run; `slow` is how many seconds each step takes longer, True means 3."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    document_id: str = Field(validation_alias=AliasChoices("document_id", "document"))
    user_email: str = "reader@example.com"
    out: Path = HERE / "out"
    smtp: str | None = None
    model: str = "offline"
    budget_usd: NonNegativeFloat | None = None
    fail_at: StepName | None = None
    slow: bool | NonNegativeFloat = False

    @property
    def budget(self) -> Budget | None:
        """What both calls of the model may cost together before somebody is asked."""
        if self.budget_usd is None:
            return None
        return Budget(usd=self.budget_usd, on_exceeded="ask")


def read_request(event: Any) -> Request:
    """Check the input of a run, all of it before the first step."""
    try:
        return Request.model_validate(event)
    except ValidationError as error:
        found = (f"{'.'.join(map(str, e['loc'])) or 'input'}: {e['msg']}" for e in error.errors())
        example = '{"document_id": "contract"}'
        raise ValueError(
            f"{'; '.join(found)}. An input looks like {example}; {known_documents()}"
        ) from None


class AskedToFail(RequestError):
    """A failure that the input asks for; a model's call that meets it was never sent."""

    fate = Fate.NEVER_SENT


def perform(request: Request, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do the work of a step."""
    with performing(request, work.__name__):
        return work(*args, **kwargs)


class Watched:
    """The model that a request names, each call of which is performed as the steps are."""

    def __init__(self, request: Request, name: str, bound: Any = None) -> None:
        self._request, self._name, self._bound = request, name, bound

    @property
    def bound(self) -> Any:
        """The model itself, made when it is asked first: a replay makes none."""
        return resolve(self._request.model).chat if self._bound is None else self._bound

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bound, name)

    def bind_tools(self, tools: Any, **options: Any) -> "Watched":
        """Give the model with tools it may call."""
        return Watched(self._request, self._name, self.bound.bind_tools(tools, **options))

    def invoke(self, messages: Any, **options: Any) -> Any:
        """Ask it."""
        with performing(self._request, self._name):
            return self.bound.invoke(messages, **options)


@contextmanager
def performing(request: Request, name: str) -> Iterator[None]:
    """Take longer, or fail, where the input asks for it; each end is a line in calls.log."""
    try:
        time.sleep(3 if request.slow is True else request.slow)
        if request.fail_at == name and os.environ.get("PERDURE_EXAMPLE_FIXED") != "1":
            raise AskedToFail(
                f"asked to fail at {name!r}; remove fail_at from the input of a new run, "
                "or resume this one with PERDURE_EXAMPLE_FIXED=1 set, as if you had fixed the code"
            )
        yield
    except Exception as error:
        log_call(request.out, name, f"failed: {type(error).__name__}")
        raise
    log_call(request.out, name, "done")


def log_call(out: Path, name: str, outcome: str) -> None:
    """Add a line to calls.log, which only shows what ran: the run itself never reads it."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    step = current_step()
    out.mkdir(parents=True, exist_ok=True)
    with (out / "calls.log").open("a", encoding="utf-8") as log:
        log.write(
            f"{now}  {name:<16}  pid {os.getpid()}  run {step.execution_id}  "
            f"attempt {step.attempt}  {outcome}\n"
        )


# extract_text


def extract_text(doc_id: str) -> str:
    """Give the text of a shipped document, or of the file at a path."""
    path = find_document(doc_id)
    text = READERS[path.suffix.lower()](path)
    if not text.strip():
        raise ValueError(f"{path} holds no text; a scanned page has to go through OCR first")
    return text


def find_document(doc_id: str) -> Path:
    """Find the file a document id means, in a format that can be read."""
    shipped = {path.stem: path for path in DOCUMENTS.iterdir() if path.suffix in READERS}
    path = shipped.get(doc_id) or Path(doc_id).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"there is no document {doc_id!r}; {known_documents()}")
    if path.suffix.lower() not in READERS:
        raise ValueError(f"{path} has the suffix {path.suffix!r}; readable: {', '.join(READERS)}")
    return path


def known_documents() -> str:
    """Say which documents there are."""
    names = sorted(path.stem for path in DOCUMENTS.iterdir() if path.suffix in READERS)
    return f"shipped documents: {', '.join(names)}; or give the path of a file"


def read_plain(path: Path) -> str:
    """Read a text file."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}") from error


def read_pdf(path: Path) -> str:
    """Read the text of a PDF, paragraphs kept apart."""
    try:
        from pypdf import PdfReader
    except ModuleNotFoundError as error:
        raise RuntimeError(
            f"reading {path.name} needs pypdf: pip install 'perdure[pdf]'"
        ) from error
    pages = PdfReader(path).pages
    return "\n\n".join(page.extract_text(extraction_mode="layout") for page in pages)


READERS = {".txt": read_plain, ".md": read_plain, ".pdf": read_pdf}


# extract_entities

CURRENCIES = {"€": "EUR", "$": "USD", "£": "GBP"}
UNIT = "(?:[A-Z]{3}|[€$£])"
NUMBER = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?"  # 1.240,00 is not guessed at


def plain_amount(written: str) -> str:
    """Write an amount as a number and a currency code: `18240.00 GBP`."""
    unit = re.sub("[0-9., ]", "", written)
    return f"{re.sub('[^0-9.]', '', written)} {CURRENCIES.get(unit, unit)}"


Amount = Annotated[
    str,
    Field(pattern=f"^(?:{UNIT} ?{NUMBER}|{NUMBER} ?{UNIT})$"),
    AfterValidator(plain_amount),
]
Email = Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$")]


class Entities(BaseModel):
    """What a document names."""

    organisations: list[str] = Field(description="Companies, associations, authorities: full names")
    people: list[str] = Field(description="By name, or by role where no name is given: the chair")
    dates: list[str] = Field(description="As the document writes them")
    amounts: list[Amount] = Field(
        description="Sums of money, with a decimal point and the currency's code: 18240.00 GBP"
    )
    emails: list[Email] = Field(description="E-mail addresses")


# enrich


def enrich(entities: Entities, out: Path) -> dict[str, Any]:
    """Look the organisations up in the register and give each amount in euros."""
    with closing(open_register(out)) as register:
        rows = [
            register.execute("SELECT * FROM company WHERE name = ?", [name]).fetchone()
            for name in entities.organisations
        ]
        rates = dict(register.execute("SELECT code, per_euro FROM currency"))
    amounts = [amount.split() for amount in entities.amounts]
    return {
        **entities.model_dump(),
        "companies": [dict(row) for row in rows if row],
        "euros": {
            f"{number} {code}": f"{Decimal(number) / Decimal(rates[code]):.2f}"
            for number, code in amounts
            if code in rates
        },
    }


def open_register(out: Path) -> sqlite3.Connection:
    """Open the register read-only; build it when it is missing or register.sql has changed."""
    script = (DOCUMENTS / "register.sql").read_bytes()
    path = out.resolve() / f"register-{hashlib.sha256(script).hexdigest()[:8]}.db"
    if not path.exists():
        with replacing(path) as new, closing(sqlite3.connect(new)) as register:
            register.executescript(script.decode())
    register = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    register.row_factory = sqlite3.Row
    return register


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a file to fill, which takes its name only when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".new-") as folder:
        new = Path(folder) / path.name
        yield new
        new.replace(path)


# summarize


def known_of(enriched: dict[str, Any]) -> dict[str, Any]:
    """Pick what the register knows, which goes into the prompt beside the document."""
    names = [company["name"] for company in enriched["companies"]]
    return {"companies": names, "euros": enriched["euros"]}


# notify


def notify(request: Request, enriched: dict[str, Any], summary: str) -> dict[str, str | bool]:
    """Write the notice as an .eml file, and send it too if a mail server is configured."""
    # The key is the same each time this step runs, so a notice sent again is recognised as such.
    mark = hashlib.sha256(current_step().idempotency_key.encode()).hexdigest()[:16]
    notice = compose_notice(request, enriched, summary, mark)
    path = request.out / f"{Path(request.document_id).stem}-{mark}.eml"
    with replacing(path) as new:
        new.write_bytes(notice.as_bytes())
    server = request.smtp or os.environ.get("PERDURE_SMTP_URL")
    if server:
        send(notice, server)
    return {"to": request.user_email, "file": str(path), "sent": bool(server)}


def compose_notice(
    request: Request, enriched: dict[str, Any], summary: str, mark: str
) -> EmailMessage:
    """Write the e-mail."""
    notice = EmailMessage(policy=SMTP)
    notice["From"] = "document-processor@perdure.example"
    notice["To"] = request.user_email
    notice["Subject"] = f"Summary of {Path(request.document_id).name}"
    notice["Date"] = datetime.now(UTC)
    notice["Message-ID"] = f"<{mark}@perdure.example>"
    companies = [f"{c['name']}, {c['trade']}, {c['number']}" for c in enriched["companies"]]
    euros = [f"{amount} is {euro} EUR" for amount, euro in enriched["euros"].items()]
    parts = {
        "Companies in the register": companies,
        "Amounts": euros,
        "Dates": enriched["dates"],
        "People": enriched["people"],
        "Addresses": enriched["emails"],
    }
    body = [textwrap.fill(summary, 72, break_on_hyphens=False)]
    body += ["\n  ".join([title, *lines]) for title, lines in parts.items() if lines]
    notice.set_content("\n\n".join(body) + "\n", cte="quoted-printable")
    return notice


def send(notice: EmailMessage, server: str) -> None:
    """Send by SMTP; a user and password in the address are used over TLS only."""
    url = urlsplit(server)
    if url.scheme != "smtp" or not url.hostname:
        raise ValueError("the mail server has to be given as smtp://host:port")
    with smtplib.SMTP(url.hostname, url.port or 25, timeout=30) as smtp:
        if url.username:
            smtp.starttls(context=ssl.create_default_context())
            smtp.login(unquote(url.username), unquote(url.password or ""))
        smtp.send_message(notice)
