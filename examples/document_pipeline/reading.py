"""The text of a document in S3, page by page: read by pypdf, or by Textract where it is a scan.

The text goes to an object of its own beside the result, so that a document of any length is a few
hundred bytes in the journal. One that cannot be read is `Unreadable`, and that is an answer: the
next try would give no other. What is no fault of the document is an error.
"""

import hashlib
import io
import re
from collections.abc import Iterable, Iterator
from typing import Any, cast

from pydantic import BaseModel, ConfigDict
from services import AGAIN, client, may_pass, read_json, write_json

from perdure.durable import Context, current_step

IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
SUFFIXES = (".pdf", *IMAGES)
MOST_BYTES = 50 * 1024 * 1024
MOST_PAGES = 1_000
INLINE_PICTURE = re.compile(rb"(?s)\bBI\s.{1,1000}?\sID\s")
MOST_ON_A_PAGE = 50_000
"""Characters; a page of print has 3,000."""
MOST_IN_A_PART = 60_000
IN_PROGRESS = "IN_PROGRESS"
SCAN = {"max_attempts": 400, "initial_delay": 2, "backoff_rate": 1.5, "max_delay": 30}


class DocumentError(ValueError):
    """The document cannot be read, for a reason that is in the document."""


class Place(BaseModel):
    """Where a document is: an object, and which of its versions."""

    model_config = ConfigDict(frozen=True)

    bucket: str
    key: str
    version_id: str | None = None
    etag: str | None = None

    @property
    def id(self) -> str:
        """A name for just this version of the object: 1 to 64 letters, digits, `-` and `_`."""
        which = self.version_id or self.etag or ""
        digest = hashlib.sha256("\0".join([self.bucket, self.key, which]).encode()).hexdigest()
        stem = re.sub(r"[^A-Za-z0-9]+", "-", self.name).strip("-")[:31].rstrip("-")
        return f"{stem or 'document'}-{digest[:32]}"

    @property
    def name(self) -> str:
        """The last part of the key."""
        return self.key.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """The ending of the key, in small letters: `.pdf`."""
        dot = self.name.rfind(".")
        return self.name[dot:].lower() if dot > 0 else ""

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


class Page(BaseModel):
    """One page; `scan` says that it is a picture, whose text only Textract can tell."""

    number: int
    text: str
    scan: bool = False


class Document(BaseModel):
    """A document whose text was read.

    Attributes:
        place: with the version that was read, whether or not one was asked for.
        text: the key of the object that holds the pages.
        parts: the numbers of the pages that go into one call of the model each.
    """

    place: Place
    size: int
    pages: int
    scanned: list[int]
    text: str
    parts: list[list[int]]


class Unreadable(BaseModel):
    """A document that cannot be read, in this version of it, and why."""

    place: Place
    reason: str


Reading = Document | Unreadable


def text_of(scope: Context, place: Place, home: tuple[str, str], together: int) -> Reading:
    """Read a document.

    Args:
        home: the bucket and the prefix where its text and its result go.
        together: how many pages one call of the model gets, at most.
    """
    document: Reading = scope.step("extract", extract, place, home, together, retry=AGAIN)
    if isinstance(document, Unreadable) or not document.scanned:
        return document
    job = scope.step("scan", start_scan, document, retry=AGAIN)
    scope.wait_for_condition(
        "scanned",
        lambda _: status_of(job),
        until=lambda status: status != IN_PROGRESS,
        backoff=SCAN,
        timeout=3600,
    )
    result: Reading = scope.step("collect", collect, document, job, home, together, retry=AGAIN)
    return result


def read_pages(home: tuple[str, str], document: Document, numbers: list[int]) -> list[Page]:
    """Return some pages of a document whose text was read."""
    pages = map(Page.model_validate, read_json(home[0], document.text))
    return [page for page in pages if page.number in numbers]


# extract


def extract(place: Place, home: tuple[str, str], together: int) -> Reading:
    """Read an object and keep the text of its pages."""
    try:
        if place.suffix not in SUFFIXES:
            raise DocumentError(f"{place} is none of {', '.join(SUFFIXES)}")
        found, data = fetch(place)
        picture = [Page(number=1, text="", scan=True)]
        pages = pdf_pages(found, data) if found.suffix == ".pdf" else picture
        return kept(found, len(data), pages, home, "pages.json", together)
    except DocumentError as error:
        return Unreadable(place=place, reason=str(error))


def fetch(place: Place) -> tuple[Place, bytes]:
    """Return the bytes of an object, and which version of it they are."""
    from botocore.exceptions import ClientError

    which: dict[str, str] = {}
    if place.version_id:
        which = {"VersionId": place.version_id}
    elif place.etag:
        which = {"IfMatch": f'"{place.etag}"'}
    try:
        answer = client("s3").get_object(Bucket=place.bucket, Key=place.key, **which)
    except ClientError as error:
        raise refusal(place, error) from None
    with answer["Body"] as body:
        if answer["ContentLength"] > MOST_BYTES:
            raise DocumentError(
                f"{place} has {answer['ContentLength']:,} bytes, more than {MOST_BYTES:,}"
            )
        data: bytes = body.read()
    if not data:
        raise DocumentError(f"{place} is empty")
    if not which:
        place = place.model_copy(update={"version_id": version_of(answer.get("VersionId"))})
    return place.model_copy(update={"etag": answer["ETag"].strip('"')}), data


def version_of(told: str | None) -> str | None:
    """Return a version; "null" is that of an object older than the versions of its bucket."""
    return None if told == "null" else told


def refusal(place: Place, error: Any) -> Exception:
    """Say why S3 gave no object."""
    match error.response["Error"]["Code"]:
        case "NoSuchKey" | "NoSuchVersion" | "404":
            return DocumentError(f"there is no {place} any more, or not in this version")
        case "NoSuchBucket":
            return LookupError(f"there is no bucket {place.bucket!r}")
        case "PreconditionFailed" | "412":
            return DocumentError(
                f"{place} was replaced since its event; the event of the new object starts a run"
            )
        case _:
            return cast("Exception", error)


def pdf_pages(place: Place, data: bytes) -> list[Page]:
    """Return the pages of a PDF."""
    try:
        from pypdf import PasswordType, PdfReader
        from pypdf.errors import DependencyError
    except ModuleNotFoundError as error:
        raise RuntimeError("reading a PDF needs pypdf: pip install 'perdure[pdf]'") from error
    try:
        reader = PdfReader(io.BytesIO(data))
        locked = reader.is_encrypted and reader.decrypt("") is PasswordType.NOT_DECRYPTED
        if locked:
            raise DocumentError(f"{place} is encrypted: it takes a password to open it")
        if len(reader.pages) > MOST_PAGES:
            raise DocumentError(f"{place} has {len(reader.pages):,} pages, over {MOST_PAGES:,}")
        pages = [page_of(number, page) for number, page in enumerate(reader.pages, 1)]
    except DocumentError:
        raise
    except DependencyError as error:
        raise RuntimeError(f"decrypting {place} needs: pip install 'pypdf[crypto]'") from error
    except Exception as error:  # pypdf meets damage with errors of many kinds
        raise DocumentError(f"{place} is no PDF, or a damaged one: {words(error)}") from error
    if not pages:
        raise DocumentError(f"{place} is a PDF without pages")
    return pages


def page_of(number: int, page: Any) -> Page:
    """Read one page; without text, but with a picture, it is a scan."""
    text = clean(page.extract_text())
    if len(text) > MOST_ON_A_PAGE:
        raise DocumentError(f"page {number} holds {len(text):,} characters; it is no page to read")
    return Page(number=number, text=text, scan=not text and shows_picture(page))


def shows_picture(page: Any) -> bool:
    """Tell whether a page draws a picture, on the page itself or by name; none is decoded."""
    contents = page.get_contents()
    if contents is not None and INLINE_PICTURE.search(contents.get_data()):
        return True
    return names_picture(page)


def names_picture(drawn: Any, depth: int = 3) -> bool:
    """Tell whether a picture is among what a page, or a form on it, names."""
    resources = drawn["/Resources"].get_object() if "/Resources" in drawn else {}
    objects = resources["/XObject"].get_object() if "/XObject" in resources else {}
    inside = [each.get_object() for each in objects.values()]
    return any(each.get("/Subtype") == "/Image" for each in inside) or any(
        names_picture(each, depth - 1)
        for each in inside
        if each.get("/Subtype") == "/Form" and depth
    )


def clean(text: str) -> str:
    """Return a text as it can be kept: no NUL, no half of a character."""
    return text.replace("\0", "").encode("utf-8", "replace").decode().strip()


def words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]


def kept(
    place: Place,
    size: int,
    pages: list[Page],
    home: tuple[str, str],
    name: str,
    together: int,
) -> Document:
    """Keep the text of pages, and return what it is to be known by."""
    scanned = [page.number for page in pages if page.scan]
    if not scanned and not any(page.text for page in pages):
        raise DocumentError(f"{place} holds no text and no picture of one")
    key = f"{home[1]}{place.id}/{name}"
    write_json(home[0], key, [page.model_dump() for page in pages])
    return Document(
        place=place,
        size=size,
        pages=len(pages),
        scanned=scanned,
        text=key,
        parts=list(parts_of(pages, together)),
    )


def parts_of(pages: Iterable[Page], together: int) -> Iterator[list[int]]:
    """Cut a document into parts: pages in a row, none that is blank, not too much of them."""
    part: list[int] = []
    size = 0
    for page in pages:
        if not page.text:
            continue
        if part and (len(part) == together or size + len(page.text) > MOST_IN_A_PART):
            yield part
            part, size = [], 0
        part.append(page.number)
        size += len(page.text)
    if part:
        yield part


# scan


def start_scan(document: Document) -> str:
    """Have Textract read a document; asked again with the same token, it gives the same job."""
    place = document.place
    s3: dict[str, str] = {"Bucket": place.bucket, "Name": place.key}
    if place.version_id:
        s3["Version"] = place.version_id
    answer = client("textract").start_document_text_detection(
        DocumentLocation={"S3Object": s3}, ClientRequestToken=current_step().idempotency_key
    )
    return str(answer["JobId"])


def status_of(job: str) -> str:
    """Return how a job stands; one that cannot be asked about may still be in progress."""
    try:
        return str(scanned(job)["JobStatus"])
    except Exception as error:
        if may_pass(error):
            return IN_PROGRESS
        raise


def scanned(job: str, after: str | None = None) -> dict[str, Any]:
    """Return what Textract has of a job, one page of the answer."""
    more = {"NextToken": after} if after else {}
    answer: dict[str, Any] = client("textract").get_document_text_detection(JobId=job, **more)
    return answer


def collect(document: Document, job: str, home: tuple[str, str], together: int) -> Reading:
    """Put what Textract read in the place of the pages that were scans."""
    try:
        lines = lines_of(document.place, job)
        pages = [Page.model_validate(each) for each in read_json(home[0], document.text)]
        if document.place.suffix != ".pdf":
            count = max(lines, default=1)
            pages = [Page(number=n, text="", scan=True) for n in range(1, count + 1)]
        read = [filled(page, lines) if page.scan else page for page in pages]
        name = "pages-scanned.json"
        done = kept(document.place, document.size, read, home, name, together)
    except DocumentError as error:
        return Unreadable(place=document.place, reason=str(error))
    return done.model_copy(update={"scanned": [page.number for page in pages if page.scan]})


def lines_of(place: Place, job: str) -> dict[int, list[str]]:
    """Return the lines that Textract read, by page."""
    lines: dict[int, list[str]] = {}
    for answer in answers(job):
        if answer["JobStatus"] == "FAILED":
            why = answer.get("StatusMessage") or "no reason given"
            raise DocumentError(f"Textract could not read {place}: {why}")
        for block in answer.get("Blocks", ()):
            if block["BlockType"] == "LINE":
                lines.setdefault(block.get("Page", 1), []).append(block["Text"])
    return lines


def filled(page: Page, lines: dict[int, list[str]]) -> Page:
    """Return a page that was a scan, with its text."""
    return Page(number=page.number, text=clean("\n".join(lines.get(page.number, ()))))


def answers(job: str) -> Iterator[dict[str, Any]]:
    """Return all pages of the answer of a job."""
    answer = scanned(job)
    yield answer
    while answer.get("NextToken"):
        answer = scanned(job, answer["NextToken"])
        yield answer
