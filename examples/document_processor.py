"""Five durable steps: read a document, find what it names, look it up, sum it up, tell a reader.

    perdure run examples/document_processor.py --input '{"document_id": "contract"}'

`extract_entities` and `summarize` are ordinary code that works offline; they stand where calls of
a model will stand. README.md beside this file shows how to crash a run and let it go on.
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
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar
from urllib.parse import unquote, urlsplit

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, NonNegativeFloat, ValidationError

from perdure.durable import Context, current_step, durable_execution

P = ParamSpec("P")
T = TypeVar("T")

HERE = Path(__file__).resolve().parent
DOCUMENTS = HERE / "documents"
RETRY = {"max_attempts": 3, "initial_delay": 1, "backoff_rate": 2}


@durable_execution
def handler(event: dict[str, Any], context: Context) -> dict[str, Any]:
    """Process one document; whatever of it is recorded is never done again."""
    request = read_request(event)
    doc_id = request.document_id
    text = context.step("extract_text", lambda: perform(request, extract_text, doc_id))
    entities = context.step(
        "extract_entities", lambda: perform(request, extract_entities, text), retry=RETRY
    )
    enriched = context.step("enrich", lambda: perform(request, enrich, entities, request.out))
    summary = context.step(
        "summarize", lambda: perform(request, summarize, text, enriched), retry=RETRY
    )
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
    fail_at: StepName | None = None
    slow: bool | NonNegativeFloat = False


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


def perform(request: Request, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do the work of a step, slowly or not at all if asked to; each end is a line in calls.log."""
    try:
        time.sleep(3 if request.slow is True else request.slow)
        if request.fail_at == work.__name__ and os.environ.get("PERDURE_EXAMPLE_FIXED") != "1":
            raise RuntimeError(
                f"asked to fail at {work.__name__!r}; remove fail_at from the input of a new run, "
                "or resume this one with PERDURE_EXAMPLE_FIXED=1 set, as if you had fixed the code"
            )
        result = work(*args, **kwargs)
    except Exception as error:
        log_call(request.out, work.__name__, f"failed: {type(error).__name__}")
        raise
    log_call(request.out, work.__name__, "done")
    return result


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

ROLES = "buyer|supplier|seller|carrier|tenant|landlord|chair|secretary|treasurer|director|auditor"
FORMS = "Ltd|Limited|Inc|LLC|GmbH|AG|SA|BV|Cooperative|Association|Foundation|Company|University"
MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
CURRENCIES = {"€": "EUR", "$": "USD", "£": "GBP"}
NUMBER = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d\d)?(?![.,]?\d)"  # 1.240,00 is not guessed at

ORGANISATION = re.compile(rf"\b(?!The )(?:[A-Z][\w&'-]* (?:of |and )?){{1,5}}(?:{FORMS})\b")
PERSON = re.compile(rf"\b(?:(?:Mr|Ms|Mrs|Dr|Prof)\.?(?: [A-Z][\w'-]+)+|[Tt]he (?:{ROLES}))\b")
DATE = re.compile(
    rf"\b(?:\d{{4}}-\d\d-\d\d|\d{{1,2}} (?:{MONTHS}) \d{{4}}|(?:{MONTHS}) \d{{1,2}}, \d{{4}})\b"
)
AMOUNT = re.compile(
    rf"(?P<before>\b(?:EUR|USD|GBP|CHF)|[€$£]) ?(?P<number>{NUMBER})"
    rf"|\b(?P<number_>{NUMBER}) ?(?P<after>(?:EUR|USD|GBP|CHF)\b|[€$£])(?! ?\d)"
)
EMAIL = re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
SENTENCE_END = re.compile(r"(?<=[.!?])(?<!\bNo\.)(?<!\bDr\.)(?<!\bMr\.)(?<!\bMs\.)\s+(?=[A-Z])")


def extract_entities(text: str) -> dict[str, list[str]]:
    """Find organisations, people and roles, dates, amounts of money and e-mail addresses."""
    plain = "\n".join(blocks(text))
    amounts = (
        f"{(m['number'] or m['number_']).replace(',', '')} "
        f"{CURRENCIES.get(unit := m['before'] or m['after'], unit)}"
        for m in AMOUNT.finditer(plain)
    )
    return {
        "organisations": unique(ORGANISATION.findall(plain)),
        "people": unique(re.sub("^The ", "the ", name) for name in PERSON.findall(plain)),
        "dates": unique(DATE.findall(plain)),
        "amounts": unique(amounts),
        "emails": unique(EMAIL.findall(plain)),
    }


def blocks(text: str) -> list[str]:
    """Split a text into paragraphs, list items and headings, each on one line."""
    parts = re.split(r"\n\s*\n|\n(?=\s*(?:[-*#]|\d+\.)\s)", text)
    return [" ".join(part.split()) for part in parts if part.strip()]


def unique(found: Iterable[str]) -> list[str]:
    """Drop what was found before, keep the order."""
    return list(dict.fromkeys(found))


# enrich


def enrich(entities: dict[str, list[str]], out: Path) -> dict[str, Any]:
    """Look the organisations up in the register and give each amount in euros."""
    with closing(open_register(out)) as register:
        rows = [
            register.execute("SELECT * FROM company WHERE name = ?", [name]).fetchone()
            for name in entities["organisations"]
        ]
        rates = dict(register.execute("SELECT code, per_euro FROM currency"))
    amounts = [amount.split() for amount in entities["amounts"]]
    return {
        **entities,
        "companies": [dict(row) for row in rows if row],
        "euros": {
            f"{number} {code}": f"{Decimal(number) / Decimal(rates[code]):.2f}"
            for number, code in amounts
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


def summarize(text: str, enriched: dict[str, Any], length: int = 3) -> str:
    """Pick the sentences with the most frequent words and the most entities, in their order."""
    found = sentences(text)
    frequency = Counter(word for sentence in found for word in words(sentence))
    names = [name for kind in ("organisations", "dates", "emails") for name in enriched[kind]]

    def weight(sentence: str) -> float:
        frequent = sum(frequency[word] for word in words(sentence))
        named = sum(name in sentence for name in names) + len(AMOUNT.findall(sentence))
        return frequent / (len(words(sentence)) or 1) + named

    chosen = sorted(found, key=weight, reverse=True)[:length]
    return " ".join(sentence for sentence in found if sentence in chosen)


def sentences(text: str) -> list[str]:
    """Find the whole sentences: no headings, table rows or fragments."""
    parts = (part for block in blocks(text) for part in SENTENCE_END.split(block.lstrip("-*# ")))
    return unique(part for part in parts if part[-1:] in ".!?" and len(part.split()) >= 5)


def words(sentence: str) -> list[str]:
    """Give the words that carry meaning: long ones, in small letters."""
    return re.findall(r"[a-z]{5,}", sentence.lower())


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
    companies = (f"{c['name']}, {c['trade']}, {c['number']}" for c in enriched["companies"])
    euros = (f"{amount} is {euro} EUR" for amount, euro in enriched["euros"].items())
    parts = {
        "Companies in the register": companies,
        "Amounts": euros,
        "Dates": enriched["dates"],
        "People": enriched["people"],
        "Addresses": enriched["emails"],
    }
    body = [textwrap.fill(summary, 72, break_on_hyphens=False)]
    body += ["\n".join([title, *(f"  {line}" for line in lines)]) for title, lines in parts.items()]
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
