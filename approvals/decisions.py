"""What was decided: one vote as it completes a callback, and the decision that a handler gets."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import Any, Literal

from pydantic import PrivateAttr, ValidationError

from .errors import ApprovalError, ApprovalRejected
from .people import Kept, Principal
from .requests import Action, ApprovalRequest, canonical, digest_of

Kind = Literal["approved", "rejected", "edited", "responded", "expired", "withdrawn"]
KINDS: dict[Action, Kind] = {
    "approve": "approved",
    "reject": "rejected",
    "edit": "edited",
    "respond": "responded",
}
VALUE_BYTES = 200_000


class Decision(Kept):
    """A decision about a request, or one vote of a quorum.

    Attributes:
        request_id, digest: which request, and what exactly was decided on.
        kind: what was decided; "expired" by nobody, in time.
        by: who, as far as it is proven.
        approver: the name of the approver of the policy that counts.
        at: when, in UTC.
        channel: "slack", "email", "web", "terminal", or a channel of your own; "policy".
        value: the edited subject, or the answer.
        value_digest: SHA-256 of the canonical text of `value`, in hex.
        nonce: what tells this vote from any other.
        default: for an expired one, what holds: "approve", "reject" or "value".
        votes: of a quorum.
    """

    request_id: str
    digest: str
    kind: Kind
    by: Principal
    approver: str | None
    at: datetime
    channel: str
    nonce: str
    comment: str | None = None
    value: Any = None
    value_digest: str | None = None
    default: Literal["approve", "reject", "value"] | None = None
    votes: tuple[Decision, ...] = ()
    _subject: str | None = PrivateAttr(default=None)
    _form: Any = PrivateAttr(default=None)
    _shape: Any = PrivateAttr(default=None)

    @property
    def approved(self) -> bool:
        """Whether it is a yes: approved, edited, or by default when time was up."""
        if self.kind == "expired":
            return self.default in ("approve", "value")
        return self.kind in ("approved", "edited")

    @property
    def subject(self) -> Any:
        """What was approved: the subject as it was shown, or as it was edited.

        With `form=`, where an edit is allowed, it is an instance of that class.
        """
        if self.kind == "edited" or self.default == "value":
            return self.answer
        if self._subject is None:
            raise ApprovalError("the subject of a decision is known to the handler that asked")
        subject = json.loads(self._subject)
        return subject if self._shape is None else fitted(self._shape, subject)

    @property
    def answer(self) -> Any:
        """What was answered or edited, as an instance of the form's class if there is one."""
        if self._form is None or self.value is None:
            return self.value
        return fitted(self._form, self.value)

    def raise_if_rejected(self) -> Decision:
        """Return itself if it is a yes or an answer.

        Raises:
            ApprovalRejected: it is neither; carries `.decision`.
        """
        if self.approved or self.kind == "responded":
            return self
        why = f": {self.comment}" if self.comment else ""
        by = "nobody decided in time" if self.kind == "expired" else f"by {self.by.shown}"
        raise ApprovalRejected(f"not approved ({self.kind}, {by}){why}", self)

    def kept(self) -> dict[str, Any]:
        """Return the decision as plain JSON, as the journal keeps it."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def of(self, subject: str, form: Any, shape: Any = None) -> Decision:
        """Return this decision, knowing the canonical subject and the classes.

        Args:
            form: of an edit or an answer.
            shape: of the subject as it was shown.
        """
        self._subject, self._form, self._shape = subject, form, shape
        return self

    @classmethod
    def read(cls, value: Any) -> Decision:
        """Return a decision from what completed a callback.

        Raises:
            ApprovalError: it is none; a callback completed by other means is never a yes.
        """
        try:
            return cls.model_validate_json(json.dumps(value))
        except (ValidationError, TypeError, ValueError):
            shown = repr(value)[:60]
            raise ApprovalError(
                f"the callback was completed with {shown}, which is not a decision; decide with "
                "`perdure approve`, `perdure reject`, the inbox, or the message that was sent"
            ) from None


def fitted(form: Any, value: Any) -> Any:
    """Return plain JSON data as an instance of a pydantic class.

    Raises:
        ValueError: it does not fit.
    """
    return form.model_validate_json(json.dumps(value))


def vote(
    request: ApprovalRequest | str,
    action: Action,
    *,
    digest: str,
    by: Principal,
    approver: str,
    at: datetime,
    channel: str,
    seed: str,
    comment: str | None = None,
    value: Any = None,
) -> Decision:
    """Return the vote that completes a callback.

    Args:
        request: the request, or its id.
        seed: the nonce of the token that was presented; the same vote by the same person through
            the same token has the same nonce, and no other has.
    """
    kind = KINDS[action]
    marks = json.dumps([seed, by.identity, kind, digest_of(canonical(value))])
    return Decision(
        request_id=request if isinstance(request, str) else request.id,
        digest=digest,
        kind=kind,
        by=by,
        approver=approver,
        at=at,
        channel=channel,
        comment=comment or None,
        value=value,
        value_digest=digest_of(canonical(value)) if value is not None else None,
        nonce=hashlib.sha256(marks.encode()).hexdigest()[:24],
    )
