"""What is known of the parties, and how risky a document is: counted by rules, no model asked."""

import re
from collections.abc import Iterable, Iterator
from decimal import Decimal

from entities import Fact
from pydantic import BaseModel
from services import Unfinished, client

CLASSES = {"low": 0, "medium": 20, "high": 40, "blocked": 100}
UNKNOWN = 15
SUMS = ((Decimal(1_000_000), 30), (Decimal(100_000), 15))
"""In whatever currency: a rule of thumb, and no conversion."""
CLAUSES = {
    "unlimited liability": (25, r"\bunlimited\w*[^.]{0,40}\bliab|\bliab[^.]{0,80}\bunlimited"),
    "a penalty": (15, r"\bpenalt(?:y|ies)\b|liquidated damages"),
    "automatic renewal": (
        10,
        r"\b(?:automatic|tacit)\w*[^.]{0,20}\b(?:renew|exten)|\brenews automatic",
    ),
    "exclusivity": (10, r"\bexclusiv(?:e|ity|ely)\b"),
}
UNSUPPORTED = 10
SCANNED = 5
MOST = 100
BATCH = 100


class Risk(BaseModel):
    """How risky a document is, from 0 to 100, and why."""

    score: int
    reasons: list[str]


def look_up(table: str | None, parties: list[str]) -> dict[str, str]:
    """Return the risk class of each party that the table knows, by name."""
    keys = {name_key(each): each for each in parties}
    classes: dict[str, str] = {}
    names = sorted(keys) if table else []
    for start in range(0, len(names), BATCH):
        for item in batch(str(table), names[start : start + BATCH]):
            classes[keys[item["name"]["S"]]] = item.get("risk", {}).get("S", "")
    return classes


def batch(table: str, names: list[str]) -> Iterator[dict[str, dict[str, str]]]:
    """Return the items of these names; what DynamoDB leaves undone is asked again."""
    asked = {table: {"Keys": [{"name": {"S": each}} for each in names]}}
    for _ in range(8):
        answer = client("dynamodb").batch_get_item(RequestItems=asked)
        yield from answer["Responses"].get(table, ())
        asked = answer.get("UnprocessedKeys") or {}
        if not asked:
            return
    raise Unfinished(f"DynamoDB gives no answer for all of {table}: it is throttled; try later")


def name_key(name: str) -> str:
    """Return how the table spells a name: small letters, one space, no full stop."""
    return " ".join(name.replace(".", " ").replace(",", " ").casefold().split())


def clauses_in(text: str) -> list[str]:
    """Return the dangerous clauses that a page holds, whatever a model makes of it."""
    plain = " ".join(text.split())
    return [
        name for name, (_, pattern) in CLAUSES.items() if re.search(pattern, plain, re.IGNORECASE)
    ]


def risk_of(
    facts: Iterable[Fact], classes: dict[str, str], clauses: Iterable[str], scanned: int
) -> Risk:
    """Count how risky a document is."""
    facts = list(facts)
    counted = [
        *party_points([each.text for each in facts if each.kind == "party"], classes),
        *sum_points(each.text for each in facts if each.kind == "amount"),
        *((CLAUSES[each][0], f"it has a clause on {each}") for each in sorted(set(clauses))),
    ]
    lost = sum(not each.pages for each in facts)
    if lost:
        counted.append((UNSUPPORTED, f"{lost} of what the model found stands nowhere in it"))
    if scanned:
        counted.append((SCANNED, f"{scanned} of its pages are scans"))
    score = min(MOST, sum(points for points, _ in counted))
    return Risk(score=score, reasons=[f"{why} (+{points})" for points, why in counted])


def party_points(parties: list[str], classes: dict[str, str]) -> Iterator[tuple[int, str]]:
    """Count the worst party, and that some are unknown."""
    known = [(CLASSES.get(classes.get(each, ""), 0), each) for each in parties]
    points, worst = max(known, default=(0, ""))
    if points:
        yield points, f"{worst} is of the risk class {classes[worst]!r}"
    unknown = [each for each in parties if classes.get(each) not in CLASSES]
    if unknown or not parties:
        yield UNKNOWN, f"nothing is known of {', '.join(unknown[:5]) or 'who agrees'}"


def sum_points(amounts: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Count the largest sum."""
    largest = max(amounts, key=lambda each: Decimal(each.split()[0]), default=None)
    if largest is not None:
        value = Decimal(largest.split()[0])
        points = next((points for least, points in SUMS if value >= least), 0)
        if points:
            yield points, f"it is about {largest}"
