"""`await_approval`: a person must say yes, in hours or days, and meanwhile nothing runs."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Sequence
from typing import Any, Unpack, overload

from pydantic import BaseModel

from perdure.durable import AsyncContext, Context
from perdure.durable.duration import DurationLike
from perdure.durable.errors import UsageError
from perdure.durable.gated import AnyContext, has_more, is_async, opened, run_of
from perdure.durable.names import check_name

from .deciding import check_first, check_subject, decide
from .decisions import Decision
from .errors import ApprovalError, ApprovalExpired
from .requests import Action
from .terms import TIMEOUT, Options, Terms, terms_of


@overload
def await_approval(
    context: Context,
    subject: Any,
    name: str = "approval",
    *,
    approvers: Any,
    form: type[BaseModel] | None = None,
    **options: Unpack[Options],
) -> Decision: ...
@overload
def await_approval(
    context: AsyncContext,
    subject: Any,
    name: str = "approval",
    *,
    approvers: Any,
    form: type[BaseModel] | None = None,
    **options: Unpack[Options],
) -> Awaitable[Decision]: ...
def await_approval(
    context: AnyContext,
    subject: Any,
    name: str = "approval",
    *,
    approvers: Any,
    via: Any = ("web",),
    timeout: DurationLike = TIMEOUT,
    title: str | None = None,
    required: int = 1,
    veto: bool = True,
    requested_by: str | Sequence[str] | None = None,
    allow: Iterable[Action] = ("approve", "reject"),
    form: type[BaseModel] | None = None,
    remind: Any = (),
    escalate: Any = (),
    on_timeout: Any = "reject",
    preview: str | None = None,
    attachments: Iterable[Any] = (),
    confirm: str | None = None,
) -> Any:
    """Ask people, and wait for their decision, for up to a year, as rows on disk.

    Args:
        subject: what is to be approved: plain JSON data or a pydantic model. A decision is bound
            to exactly this, by its digest.
        name: of the scope the request stands in.
        approvers: who may decide: `"alice@example.org"`, `"slack:T1:U2"`, `"slack-group:T1:S3"`,
            `"user:alice"` (an account on the machine), or a list of them; a tuple of texts is one
            person with several identities.
        via: where they are told: "web" (the inbox of `perdure serve`, and the terminal), "slack",
            "slack:C0123", "email", or channel objects.
        timeout: how long they have.
        title: at most 150 characters, shown as one line; made from `name` if not given.
        required: how many must approve.
        veto: one reject ends it; else rejects end it when `required` is out of reach.
        requested_by: the identity, or identities, of whoever asked, who may not decide.
        allow: of "approve", "reject", "edit" (approve with changes) and "respond" (answer).
        form: the pydantic model that an edited subject or an answer has to fit; where "edit" is
            allowed the subject has to fit it, too.
        remind: when to remind those who were told: one or more times after the request.
        escalate: an `Escalation`, or a list of them.
        on_timeout: what holds when nobody decides in time: "reject", "approve", "raise", or
            `{"value": ...}`, which is taken as the edited subject.
        preview: shown first, in place of the subject, which remains a click away.
        attachments: pairs of title and https address.
        confirm: a word that has to be typed before approving.

    Returns:
        the `Decision`; in an async handler an awaitable of it, claimed now.

    Raises:
        UsageError: an argument cannot be meant; nothing was recorded or sent.
        ApprovalError: the callback was completed with something that is no decision, the subject
            is not the one that was shown, or nobody could be told.
        ApprovalExpired: nobody decided in time, with `on_timeout="raise"`.
    """
    run_of(context)
    check_name(name, "await_approval")
    try:
        terms = terms_of(
            subject,
            name,
            approvers=approvers,
            via=via,
            timeout=timeout,
            title=title,
            required=required,
            veto=veto,
            requested_by=requested_by,
            allow=allow,
            form=form,
            remind=remind,
            escalate=escalate,
            on_timeout=on_timeout,
            preview=preview,
            attachments=attachments,
            confirm=confirm,
        )
    except UsageError as error:
        raise UsageError(f"await_approval {name!r}: {error}") from None
    if not has_more(context):
        check_first(context, terms)
    kept = opened(context, name, lambda scope: decide(scope, terms), ApprovalError, ApprovalExpired)

    async def result() -> Decision:
        return _bound(await kept, terms)

    return result() if is_async(context) else _bound(kept, terms)


def _bound(kept: Any, terms: Terms) -> Decision:
    """Return a recorded decision, which holds for the subject it was made on and no other."""
    decision = Decision.read(kept)
    check_subject(decision.digest, terms)
    return decision.of(terms.subject, terms.form, terms.shape)
