"""What a run asks of people, in words: for its row in the tree, its report, and listings. No I/O.

`perdure.approvals` is loaded when there is something to tell of. What people and models wrote is
made safe to print.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from perdure.durable.operations import Operation

from .words import cut, first_line, safe, shown

if TYPE_CHECKING:
    from perdure.approvals.audit import AuditRecord
    from perdure.approvals.decisions import Decision
    from perdure.durable import Wait

REQUEST = "ApprovalRequest"
"""The subtype of the step that records what is asked."""
NOTICE = "ApprovalNotice"
"""The subtype of a step that tells somebody."""
_TITLE, _COMMENT, _SUBJECT = 80, 120, 4_000
"""The most characters shown of each."""


def asked_in(
    operations: Mapping[str, Operation], handler: str = "", status: str = "RUNNING"
) -> list[AuditRecord]:
    """Return the approvals among a run's operations, which are given by their paths."""
    if not any(each.subtype == REQUEST for each in operations.values()):
        return []
    from perdure.approvals.audit import records_of

    return records_of(operations, handler, status)


def title_of(record: AuditRecord) -> str:
    """Return the title of an approval, in one line."""
    return cut(first_line(record.request.title), _TITLE)


def approvers_words(record: AuditRecord, most: int = 5) -> str:
    """Return who may decide: `alice@example.org, bob@example.org (2 must approve)`."""
    policy = record.request.policy
    names = [safe(each.name) for each in policy.approvers]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    required = f" ({policy.required} must approve)" if policy.is_quorum else ""
    return ", ".join(names[:most]) + more + required


def both_times(when: datetime) -> str:
    """Return a moment in this machine's time and in UTC; once, where they are the same."""
    local, utc = when.astimezone(), when.astimezone(UTC)
    if local.utcoffset() == utc.utcoffset():
        return f"{utc:%Y-%m-%d %H:%M} UTC"
    day = "" if local.date() == utc.date() else f"{utc:%Y-%m-%d} "
    return f"{local:%Y-%m-%d %H:%M} {_offset(local)} ({day}{utc:%H:%M} UTC)"


def row_note(record: AuditRecord, *, over: bool = False) -> str:
    """Return what an approval's row says: who is waited for until when, or who decided.

    Args:
        over: the run has ended.
    """
    if record.decision is not None:
        return decision_words(record.decision, brief=True)
    if record.error is not None:
        return cut(first_line(record.error), _COMMENT)
    if over:
        return "withdrawn, since the run has ended"
    policy = record.request.policy
    votes = f", {len(record.votes)} of {policy.required} voted" if policy.is_quorum else ""
    deadline = record.request.deadline.astimezone()
    return f"for {approvers_words(record, 3)}{votes} until {deadline:%Y-%m-%d %H:%M}"


def record_words(record: AuditRecord) -> str:
    """Return how an approval stands, in one line."""
    fingerprint = f"fingerprint {record.request.fingerprint}"
    if record.decision is not None:
        note = "" if record.state == "decided" else "; the run has yet to go on with it"
        note = "; the handler met an error instead" if record.state == "failed" else note
        return f"{decision_words(record.decision)}, {fingerprint}{_edited(record.decision)}{note}"
    match record.state:
        case "open" if is_late(record):
            at = both_times(record.request.deadline)
            return f"nobody decided before {at}; the run has yet to go on with that, {fingerprint}"
        case "open":
            until = both_times(record.request.deadline)
            return f"waits for {approvers_words(record)} until {until}, {fingerprint}"
        case "withdrawn":
            return f"withdrawn: the run was cancelled before anyone decided, {fingerprint}"
        case "failed":
            return f"not decided: {first_line(record.error or 'no reason given')}, {fingerprint}"
        case _:
            return f"not decided: the run ended before, {fingerprint}"


def subject_lines(record: AuditRecord) -> list[str]:
    """Return what is to be decided on, for a terminal: the preview, else the subject, and links."""
    request = record.request
    subject = json.loads(request.subject)
    text = request.preview or (subject if isinstance(subject, str) else shown(subject))
    lines = safe(text[:_SUBJECT]).splitlines()
    if len(text) > _SUBJECT:
        lines.append(f"… {len(text) - _SUBJECT:,} more characters; --json has all")
    if request.preview is not None:
        lines.append("(a preview; --json has the subject itself)")
    return lines + [f"{first_line(each.title)}: {safe(each.url)}" for each in request.attachments]


def decision_words(decision: Decision, *, brief: bool = False) -> str:
    """Return who decided what, how that is proven, when, and the comment."""
    at = f"{decision.at.astimezone(UTC):%d %b %Y %H:%M} UTC"
    if decision.kind == "expired":
        default = f", so it is {_DEFAULTS[decision.default]}" if decision.default else ""
        return f"expired {at}, nobody decided in time{default}"
    by = safe(decision.by.identity)
    if decision.by.display and decision.by.display != decision.by.identity:
        by += f" ({cut(first_line(decision.by.display), 40)})"
    comment = f', "{cut(first_line(decision.comment), _COMMENT)}"' if decision.comment else ""
    voters = _voters(decision)
    if brief:
        return f"{decision.kind} by {voters or f'{by} via {safe(decision.channel)}'}{comment}"
    proof = f"{decision.by.assurance}, {safe(decision.channel)}"
    return f"{decision.kind} by {voters or f'{by} ({proof})'} {at}{comment}"


def is_of(wait: Wait, records: Iterable[AuditRecord]) -> bool:
    """Return whether what a run waits for belongs to one of these approvals."""
    return any(wait.path.startswith(f"{each.path}/") for each in records)


def without(waits: Sequence[Wait], records: Collection[AuditRecord]) -> list[Wait]:
    """Return what a run waits for beside its approvals."""
    return [wait for wait in waits if not is_of(wait, records)]


def pending(records: Iterable[AuditRecord]) -> list[AuditRecord]:
    """Return the approvals that still wait for a person."""
    return [each for each in records if each.state == "open" and not is_late(each)]


def in_time(records: Iterable[AuditRecord]) -> list[AuditRecord]:
    """Return the approvals but those whose time is up, and that nobody went on with."""
    return [each for each in records if each.state != "open" or not is_late(each)]


def is_late(record: AuditRecord) -> bool:
    """Return whether the time of an approval is up."""
    return record.request.deadline <= datetime.now(UTC)


def row_json(record: AuditRecord, command: str) -> dict[str, Any]:
    """Return what a listing tells of an open approval, as JSON; `command` approves it."""
    kept = record.kept()
    names = ("run", "handler", "path", "title", "approvers", "required", "asked", "deadline")
    return {
        "kind": "approval",
        **{name: kept[name] for name in names},
        "votes": len(record.votes),
        "fingerprint": kept["fingerprint"],
        "digest": kept["digest"],
        "command": command,
    }


_DEFAULTS = {"approve": "approved", "reject": "rejected", "value": "the default value"}


def _voters(decision: Decision) -> str:
    """Return who voted, if it took several."""
    named = [f"{safe(vote.by.identity)} ({safe(vote.channel)})" for vote in decision.votes]
    return ", ".join(named) if len(named) > 1 else ""


def _edited(decision: Decision) -> str:
    if decision.kind != "edited" or decision.value_digest is None:
        return ""
    return f", edited to {decision.value_digest[:8]}"


def _offset(when: datetime) -> str:
    return f"{when:%z}"[:3] + ":" + f"{when:%z}"[3:5]
