"""What is asked: the request as the journal keeps it before anyone is told; no secret, no token."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel

from perdure.durable.errors import UsageError

from .people import Approver, Kept

Action = Literal["approve", "reject", "edit", "respond"]
ACTIONS: tuple[Action, ...] = ("approve", "reject", "edit", "respond")
REQUEST = "ApprovalRequest"
"""The kind of the step that records a request."""
NOTICE = "ApprovalNotice"
"""The kind of a step that tells somebody; its result is a list of receipts."""


class Link(Kept):
    """Something to look at before deciding."""

    title: str
    url: str


class Policy(Kept):
    """Who may decide, and how many it takes.

    Attributes:
        required: so many must approve.
        veto: one reject ends it; else rejects end it when `required` is out of reach.
        requested_by: the identities of whoever asked, who may not decide.
        escalated: approvers that are asked later, by escalation.
    """

    approvers: tuple[Approver, ...]
    required: int = 1
    veto: bool = True
    requested_by: tuple[str, ...] = ()
    escalated: tuple[Approver, ...] = ()

    @property
    def everyone(self) -> tuple[Approver, ...]:
        """All who may decide, in the order of their callbacks."""
        return self.approvers + self.escalated

    @property
    def able(self) -> tuple[Approver, ...]:
        """Those of them who are asked: whoever asked may not decide."""
        return tuple(e for e in self.everyone if not set(e.identities) & set(self.requested_by))

    @property
    def is_quorum(self) -> bool:
        """Whether more than one must approve."""
        return self.required > 1

    def find(self, name: str) -> Approver | None:
        """Return the approver of a name."""
        return next((each for each in self.everyone if each.name == name), None)

    @property
    def bearable(self) -> int:
        """So many may not approve before it is lost."""
        return 0 if self.veto else len(self.able) - self.required

    def is_lost(self, rejects: int) -> bool:
        """Return whether so many rejects end it."""
        return rejects > self.bearable


class ApprovalRequest(Kept):
    """A question put to people.

    Attributes:
        id: the same at each replay: a hash of execution and scope.
        execution: the run that asks: its id, or on AWS its ARN.
        operation: the operation whose scope the request stands in.
        name: the name of that scope.
        subject: the canonical JSON text of what is to be approved; all of it.
        digest: SHA-256 of that text, in hex.
        preview: what is shown first in place of the subject.
        allowed: what may be decided.
        form: a JSON Schema for the answer, or for the edited subject.
        asked, deadline: in UTC.
        on_timeout: what holds when nobody decides: "reject", "approve", "raise", or "value".
        default: the value that an expired request yields, with "value".
        confirm: a word to type before approving, for what is dangerous.
    """

    id: str
    execution: str
    operation: str
    name: str
    title: str
    subject: str
    digest: str
    policy: Policy
    allowed: tuple[Action, ...]
    asked: datetime
    deadline: datetime
    on_timeout: Literal["reject", "approve", "raise", "value"] = "reject"
    default: Any = None
    preview: str | None = None
    attachments: tuple[Link, ...] = ()
    form: dict[str, Any] | None = None
    confirm: str | None = None

    @property
    def run(self) -> str:
        """The run that asks, as people call it."""
        return run_name(self.execution)

    @property
    def fingerprint(self) -> str:
        """The first 8 digits of the digest, to compare by eye."""
        return self.digest[:8]

    def kept(self) -> dict[str, Any]:
        """Return the request as plain JSON, as the journal keeps it."""
        return self.model_dump(mode="json", exclude_defaults=True)

    @classmethod
    def read(cls, value: Any) -> ApprovalRequest:
        """Return a request from what the journal keeps.

        Raises:
            ValueError: it is none.
        """
        return cls.model_validate_json(json.dumps(value))


def run_name(execution: str) -> str:
    """Return a run as people call it: its id, or of its ARN the name."""
    return execution.partition("/durable-execution/")[2].partition("/")[0] or execution


def canonical(subject: Any) -> str:
    """Return the one JSON text of a subject: sorted keys, compact, no NaN.

    Raises:
        UsageError: it is not plain data.
    """
    try:
        text = json.dumps(
            subject,
            sort_keys=True,
            separators=(",", ":"),
            ensure_ascii=False,
            allow_nan=False,
            default=_plain,
        )
        text.encode()
        _check_keys(subject)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(
            f"the subject of an approval is plain JSON data or a pydantic model: {error}"
        ) from None
    return text


def digest_of(text: str) -> str:
    """Return the SHA-256 of a canonical text, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def _check_keys(value: Any) -> None:
    """Refuse keys that JSON would turn into text: what is approved is what was asked about.

    Raises:
        TypeError: a key is none.
    """
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise TypeError(f"the key {key!r} is no text")
            _check_keys(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _check_keys(inner)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(f"{type(value).__name__} is neither")
