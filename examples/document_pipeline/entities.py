"""What a document says, each thing with the page it stands on: asked of a model, checked by code.

On Claude the pages go to Bedrock as documents with citations enabled, and what Bedrock cites is
where a thing stands. Where nothing is cited, there or elsewhere, a quote counts on the page that
has its words. A thing whose quote stands nowhere is kept, and marked so.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field
from reading import Page

from perdure.agents import Budget, llm
from perdure.durable import Context
from perdure.prompts import Prompt

EXTRACT = Prompt.load(Path(__file__).parent / "prompts" / "extract.prompt")
MOST_TOKENS = 4000
CITES = re.compile(r"bedrock:.*\banthropic\.claude")
SHORTEST_QUOTE = 8
"""Characters: less stands on any page."""

CURRENCIES = {"€": "EUR", "$": "USD", "£": "GBP"}
UNIT = "(?:[A-Z]{3}|[€$£])"
NUMBER = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?"  # 1.240,00 is not guessed at


def plain_amount(written: str) -> str:
    """Write an amount as a number and a currency code: `18240.00 GBP`."""
    unit = re.sub("[0-9., ]", "", written)
    return f"{re.sub('[^0-9.]', '', written)} {CURRENCIES.get(unit, unit)}"


Money = Annotated[
    str,
    Field(
        pattern=f"^(?:{UNIT} ?{NUMBER}|{NUMBER} ?{UNIT})$",
        description="With a decimal point and the currency's code: 18240.00 GBP",
    ),
    AfterValidator(plain_amount),
]
Quote = Annotated[str, Field(description="The words of the page that say so, copied exactly")]


class Party(BaseModel):
    """Somebody who agrees to the document."""

    party: str = Field(description="The full name of the company or person")
    quote: Quote


class Day(BaseModel):
    """A date that matters."""

    date: str = Field(description="As the document writes it")
    quote: Quote


class Sum(BaseModel):
    """A sum of money."""

    amount: Money
    quote: Quote


class Obligation(BaseModel):
    """What somebody has to do, or may lose."""

    obligation: str = Field(description="Who owes what, in one sentence")
    quote: Quote


class Entities(BaseModel):
    """What the pages say."""

    parties: list[Party]
    dates: list[Day]
    amounts: list[Sum]
    obligations: list[Obligation]


Kind = Literal["party", "date", "amount", "obligation"]


class Fact(BaseModel):
    """One thing a document says.

    Attributes:
        pages: where it stands; none if its quote stands nowhere.
        by: who says that it stands there: Bedrock, or this program, which found the words.
    """

    kind: Kind
    text: str
    quote: str
    pages: list[int]
    by: Literal["bedrock", "text"] | None


def facts_of(
    scope: Context, pages: list[Page], model: str, budget: Budget | None
) -> list[dict[str, Any]]:
    """Ask a model what some pages say; return its facts, checked, as plain data."""
    asking: dict[str, Any] = {"model": model, "budget": budget, "max_tokens": MOST_TOKENS}
    if CITES.match(model):
        # Claude cites in text: a schema for its answer is refused, a forced call leaves no room.
        reply = llm(
            scope, "extract", with_documents(pages), output=Entities, tool_choice="auto", **asking
        )
    else:
        inputs = {"pages": [page.text for page in pages], "attached": False}
        reply = llm(scope, "extract", EXTRACT, inputs=inputs, output=Entities, **asking)
    cited = list(citations(reply.record["message"]["data"]["content"], pages))
    return [fact.model_dump() for fact in checked(reply.output, pages, cited)]


def with_documents(pages: list[Page]) -> list[tuple[str, Any]]:
    """Return the prompt with each page attached as a document to cite from."""
    system, user = EXTRACT.render({"pages": [], "attached": True}).messages
    attached = [
        {
            "type": "text-plain",
            "text": page.text,
            "title": f"page {page.number}",
            "citations": {"enabled": True},
        }
        for page in pages
    ]
    return [
        (system.role, system.text),
        (user.role, [*attached, {"type": "text", "text": user.text}]),
    ]


def citations(content: Any, pages: list[Page]) -> Iterator[tuple[int, str]]:
    """Return the page and the words of each citation in an answer that holds good."""
    for block in content if isinstance(content, list) else ():
        for note in block.get("annotations", ()) if isinstance(block, dict) else ():
            words = plain(note.get("cited_text") or "")
            at = document_index(note)
            page = pages[at] if at is not None and at < len(pages) else None
            if page is not None and words and words in plain(page.text):
                yield page.number, words


def document_index(note: dict[str, Any]) -> int | None:
    """Return which of the attached documents a citation points into."""
    location = note.get("extras", {}).get("citation", {}).get("location", {})
    found = [each.get("documentIndex") for each in location.values() if isinstance(each, dict)]
    return next((each for each in found if isinstance(each, int)), None)


def checked(entities: Entities, pages: list[Page], cited: list[tuple[int, str]]) -> Iterator[Fact]:
    """Say of each thing where it stands."""
    for kind, text, quote in listed(entities):
        words = plain(quote)
        long = len(words) >= SHORTEST_QUOTE
        by_bedrock = [number for number, said in cited if long and (words in said or said in words)]
        by_text = [page.number for page in pages if long and words in plain(page.text)]
        found = by_bedrock or by_text
        by: Any = "bedrock" if by_bedrock else "text" if by_text else None
        yield Fact(kind=kind, text=text, quote=quote, pages=sorted(set(found)), by=by)


def listed(entities: Entities) -> Iterator[tuple[Kind, str, str]]:
    """Return all things as kind, text and quote."""
    yield from (("party", each.party, each.quote) for each in entities.parties)
    yield from (("date", each.date, each.quote) for each in entities.dates)
    yield from (("amount", each.amount, each.quote) for each in entities.amounts)
    yield from (("obligation", each.obligation, each.quote) for each in entities.obligations)


def plain(text: str) -> str:
    """Return a text without what a copy may lose: line ends, capitals, shapes of quotes."""
    straight = text.translate(str.maketrans("‘’“”\u00ad", "''\"\" "))  # noqa: RUF001
    return " ".join(straight.replace("- ", "-").split()).casefold()


def merged(parts: list[list[dict[str, Any]]]) -> list[Fact]:
    """Put the facts of all parts together: the same thing once, with all its pages."""
    found: dict[tuple[str, str], Fact] = {}
    for fact in (Fact.model_validate(each) for part in parts for each in part):
        key = (fact.kind, plain(fact.text).rstrip("."))
        known = found.setdefault(key, fact)
        if known is not fact:
            pages = sorted({*known.pages, *fact.pages})
            best = known if known.by else fact
            found[key] = best.model_copy(update={"pages": pages})
    return list(found.values())
