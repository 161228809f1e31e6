"""What is on record of a run's approvals: what was asked, who was told, who decided, and how.

It is read from the journal alone and holds no token, since the journal has none; what a channel
needs to find its message again is left out. A run's journal is the only copy of it: export what has
to outlive the run (`perdure audit`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from perdure.durable.codec import Codec
from perdure.durable.operations import Operation, OperationStatus, OperationType

from .channels import Receipt
from .decisions import Decision
from .errors import ApprovalError
from .requests import NOTICE, REQUEST, ApprovalRequest

if TYPE_CHECKING:
    from perdure.durable import LambdaEngine, LocalEngine

State = Literal["open", "recorded", "decided", "failed", "withdrawn", "ended"]


@dataclass(frozen=True, slots=True)
class Told:
    """One message about a request, or the failure to send one.

    Attributes:
        step: the name of the step that sent it.
        channel, to, at: of the message; no channel if it could not be sent.
        error: why it could not be sent.
        receipt, spec: where the message is, and what builds its channel again.
    """

    step: str
    at: datetime
    channel: str | None = None
    to: tuple[str, ...] = ()
    error: str | None = None
    receipt: Receipt | None = None
    spec: Mapping[str, Any] | None = None

    def kept(self) -> dict[str, Any]:
        """Return it as plain JSON, without what finds the message again."""
        return {
            "step": self.step,
            "channel": self.channel,
            "to": list(self.to),
            "at": _utc(self.at),
            "error": self.error,
        }


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One approval of a run.

    Attributes:
        path: the approval's path within the run.
        handler: the run's handler.
        state: "open"; "recorded", when its run has yet to go on with what was decided; "decided";
            "failed", when the handler met an error instead; "withdrawn", when the run was
            cancelled before; "ended", when the run ended otherwise before.
        told: the messages about it, in order.
        votes: what its callbacks were completed with.
        decision: what the handler went on with; of one approver, the vote while it has not.
        error: why there is no decision.
    """

    request: ApprovalRequest
    path: str
    handler: str
    state: State
    told: tuple[Told, ...] = ()
    votes: tuple[Decision, ...] = ()
    decision: Decision | None = None
    error: str | None = None

    def kept(self) -> dict[str, Any]:
        """Return the record as plain JSON."""
        request, policy = self.request, self.request.policy
        return {
            "run": request.execution,
            "handler": self.handler,
            "path": self.path,
            "request_id": request.id,
            "title": request.title,
            "subject": json.loads(request.subject),
            "digest": request.digest,
            "fingerprint": request.fingerprint,
            "approvers": [list(each.identities) for each in policy.approvers],
            "escalated": [list(each.identities) for each in policy.escalated],
            "required": policy.required,
            "veto": policy.veto,
            "requested_by": list(policy.requested_by),
            "allowed": list(request.allowed),
            "asked": _utc(request.asked),
            "deadline": _utc(request.deadline),
            "on_timeout": request.on_timeout,
            "state": self.state,
            "told": [each.kept() for each in self.told],
            "votes": [decided(each) for each in self.votes],
            "decision": None if self.decision is None else decided(self.decision),
            "error": self.error,
        }


def audit(engine: LocalEngine | LambdaEngine, execution_id: str) -> list[AuditRecord]:
    """Return what is on record of a run's approvals, in the order in which they were asked.

    Raises:
        ExecutionNotFoundError: there is no run of this id.
    """
    info = engine.info(execution_id)
    if not engine.steps(execution_id, REQUEST):  # most runs ask nobody, and are not read whole
        return []
    return records_of(engine.operations(execution_id), info.handler, info.status.value)


def records_of(operations: Mapping[str, Operation], handler: str, status: str) -> list[AuditRecord]:
    """Return the approvals among a run's operations, which are given by their paths."""
    insides = _Insides(operations)
    return [
        _record(each, insides, handler, status)
        for each in operations.values()
        if each.subtype == REQUEST and each.status is OperationStatus.SUCCEEDED
    ]


def decided(decision: Decision) -> dict[str, Any]:
    """Return a decision or vote as plain JSON: who, how that is proven, when, and what."""
    return {
        "kind": decision.kind,
        "approved": decision.approved,
        "by": decision.by.identity,
        "display": decision.by.display,
        "assurance": decision.by.assurance,
        "approver": decision.approver,
        "channel": decision.channel,
        "at": _utc(decision.at),
        "comment": decision.comment,
        "digest": decision.digest,
        "value": decision.value,
        "value_digest": decision.value_digest,
        "default": decision.default,
    }


class _Insides:
    """The operations of a run by the scope they stand in."""

    def __init__(self, operations: Mapping[str, Operation]) -> None:
        self.paths = {each.id: path for path, each in operations.items()}
        self.by_id = {each.id: each for each in operations.values()}
        self._children: dict[str | None, list[Operation]] = {}
        for each in operations.values():
            self._children.setdefault(each.parent, []).append(each)

    def of(self, scope: str) -> Iterator[Operation]:
        """Yield what stands in a scope, at any depth."""
        for each in self._children.get(scope, ()):
            yield each
            yield from self.of(each.id)


def _record(step: Operation, insides: _Insides, handler: str, status: str) -> AuditRecord:
    request = ApprovalRequest.read(_value(step))
    scope = insides.by_id.get(request.operation)
    inside = list(insides.of(request.operation))
    votes = tuple(vote for each in inside if (vote := _vote(each)) is not None)
    decision = _decision(scope)
    error = scope.error.message if scope is not None and scope.error is not None else None
    if decision is None and votes and not request.policy.is_quorum:
        decision = votes[0]
    return AuditRecord(
        request=request,
        path=insides.paths.get(request.operation, request.name),
        handler=handler,
        state=_state(scope, decision, status),
        told=tuple(told for each in inside if each.subtype == NOTICE for told in _told(each)),
        votes=votes,
        decision=decision,
        error=error,
    )


def _state(scope: Operation | None, decision: Decision | None, status: str) -> State:
    if scope is not None and scope.closed:
        return "decided" if decision is not None and scope.error is None else "failed"
    if status == "CANCELLED":
        return "withdrawn"
    if status != "RUNNING":
        return "ended"
    return "open" if decision is None else "recorded"


def _decision(scope: Operation | None) -> Decision | None:
    if scope is None or scope.status is not OperationStatus.SUCCEEDED:
        return None
    return _read(_value(scope))


def _vote(callback: Operation) -> Decision | None:
    if callback.type is not OperationType.CALLBACK or callback.payload is None:
        return None
    try:
        return _read(json.loads(callback.payload))
    except ValueError:
        return None


def _read(value: Any) -> Decision | None:
    """Return a decision, or None for what is none: then the handler met an error."""
    try:
        return Decision.read(value)
    except ApprovalError:
        return None


def _told(step: Operation) -> Iterator[Told]:
    """Yield the messages of one step: each a receipt, alone or with what builds its channel."""
    at = _moment(step.ended if step.ended is not None else step.started)
    if step.error is not None:
        yield Told(step.name or "", at, error=step.error.message)
    for kept in _value(step) or () if step.status is OperationStatus.SUCCEEDED else ():
        if isinstance(kept, dict) and "error" in kept:
            yield Told(step.name or "", at, kept.get("channel"), error=str(kept["error"]))
            continue
        spec = kept.get("spec") if "receipt" in kept else None
        receipt = Receipt.model_validate(kept.get("receipt", kept), strict=False)
        yield Told(
            step.name or "",
            receipt.at,
            receipt.channel,
            receipt.to,
            receipt=receipt,
            spec=spec,
        )


def _value(operation: Operation) -> Any:
    if operation.payload is None:
        return None
    return Codec().decode(operation.payload, where=operation.name or operation.id)


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _utc(when: datetime) -> str:
    return when.astimezone(UTC).isoformat(timespec="seconds")
