"""Two papers and a question about them, as a pipeline hands them to a model."""

from __future__ import annotations

from pydantic import BaseModel, Field

CONTRACT = """# Supply contract

This contract is made between ACME Ltd and Brightwater GmbH on 3 March 2025.
ACME Ltd shall deliver 400 pumps by 30 June 2025. The total price is EUR 120,000.
If delivery is late, a penalty of 2 % per week applies.
Questions go to Jane Miller at jane.miller@acme.example."""
MINUTES = """Minutes of the board

Present: Jane Miller, Tom Becker.
The board noted on 12 May 2025 that ACME Ltd expects a delay of two weeks.
It approved a payment of EUR 115,000 to ACME Ltd, subject to delivery.
The board did not decide on the penalty. [7]"""
ASKED = "Compare the contract and the minutes: parties, dates, amounts"


def fenced(*documents: str) -> str:
    return "\n".join(
        f'<document id="{number}" sha="0123456789a{number}">\n{text}\n'
        f"</document-0123456789a{number}>"
        for number, text in enumerate(documents, 1)
    )


BOTH = fenced(CONTRACT, MINUTES)


class Task(BaseModel):
    id: str
    title: str
    question: str
    depends_on: list[str] = []


class Plan(BaseModel):
    objective: str
    tasks: list[Task] = Field(min_length=1, max_length=5)
