"""Telling people, in steps of their own: what is delivered once is not delivered again.

Each message is a step of the kind `ApprovalNotice`. A failure is tried again after as long as the
channel asks for; an attempt that died may have delivered, so the next one looks for its message
first. What cannot be delivered is recorded; it is an error only if nobody at all could be told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from perdure.durable import Completion, StepError
from perdure.durable.current import current_step
from perdure.durable.failures import error_object
from perdure.durable.gated import AnyContext, Claim, clock_of, drive, value_of
from perdure.durable.gates import PLAIN, Pass, Verdict
from perdure.durable.operations import ErrorObject, Operation
from perdure.durable.retry import RetryPolicy

from .channels import Channel, Notice, Receipt
from .errors import ChannelError
from .office import Office
from .people import Approver
from .requests import NOTICE, ApprovalRequest
from .web import Web

SENDING = RetryPolicy(max_attempts=6, initial_delay=2, backoff_rate=2, max_delay=60)
CLOSING = RetryPolicy(max_attempts=2, initial_delay=1)
_LONGEST = 3600.0


@dataclass(frozen=True)
class Posted:
    """A message that went out, and the channel that can change it."""

    channel: Channel
    receipt: Receipt


@dataclass(frozen=True)
class Desk:
    """What sending needs of a request.

    Attributes:
        office: opens when something is sent; a replay needs no key.
        callbacks: the callback of each approver, by name.
    """

    request: ApprovalRequest
    office: Callable[[], Office]
    callbacks: Mapping[str, str]

    def notice(self, kind: Any, to: Sequence[Approver], **more: Any) -> Notice:
        """Return a notice about the request."""
        return Notice(kind, self.request, tuple(to), self.callbacks, self.office(), **more)


async def tell(
    scope: AnyContext,
    desk: Desk,
    name: str,
    channels: Sequence[Channel],
    approvers: Sequence[Approver],
) -> tuple[list[Posted], list[str]]:
    """Ask approvers; return what went out, and what did not, in words."""
    bodies: dict[str, Callable[[], list[dict[str, Any]]]] = {}
    through: dict[str, Channel] = {}
    for channel in channels:
        reached = [each for each in approvers if channel.reaches(each)]
        if isinstance(channel, Web) or not reached:
            continue
        groups = [[each] for each in reached] if channel.personal else [reached]
        for number, to in enumerate(groups, 1):
            step = f"{name}-{channel.name}" + (f"-{number}" if channel.personal else "")
            bodies[step], through[step] = _sending(desk, channel, to), channel
    results = await _each(scope, name, bodies, SENDING)
    posted, failures = [], []
    for step, result in results.items():
        if isinstance(result, str):
            failures.append(f"{step}: {result}")
            continue
        receipts = [Receipt.model_validate_json(_text(each["receipt"])) for each in result]
        posted += [Posted(through[step], each) for each in receipts]
    return posted, failures


async def update(
    scope: AnyContext,
    name: str,
    posted: Sequence[Posted],
    notice: Callable[[Receipt], Notice],
    policy: RetryPolicy,
) -> None:
    """Change or follow up messages that went out; what fails is recorded, and nothing more."""

    def body(each: Posted) -> Callable[[], list[dict[str, Any]]]:
        def change() -> list[dict[str, Any]]:
            each.channel.update(each.receipt, notice(each.receipt))
            return []

        return change

    bodies = {
        f"{name}-{each.channel.name}-{number}": body(each) for number, each in enumerate(posted, 1)
    }
    await _each(scope, name, bodies, policy)


def _sending(
    desk: Desk, channel: Channel, to: Sequence[Approver]
) -> Callable[[], list[dict[str, Any]]]:
    def send() -> list[dict[str, Any]]:
        attempt = current_step().attempt
        notice = desk.notice("request", to, attempt=attempt)
        found = channel.find(notice, desk.request.asked) if attempt > 1 else None
        receipt = found or channel.send(notice)
        spec = channel.spec() if hasattr(channel, "spec") else None
        return [{"receipt": receipt.model_dump(mode="json"), "spec": spec}]

    return send


async def _each(
    scope: AnyContext,
    name: str,
    bodies: Mapping[str, Callable[[], list[dict[str, Any]]]],
    policy: RetryPolicy,
) -> dict[str, Any]:
    """Run the steps side by side; return each one's result, or why it failed."""
    if len(bodies) < 2:
        return {step: await _step(scope, step, body, policy) for step, body in bodies.items()}
    batch = await value_of(
        scope.parallel(
            name,
            {
                step: lambda inner, step=step, body=body: drive(
                    inner, _step(inner, step, body, policy)
                )
                for step, body in bodies.items()
            },
            completion=Completion(max_failures=len(bodies)),
            nesting="flat",
        )
    )
    return dict(zip(bodies, batch, strict=True))


async def _step(
    scope: AnyContext, name: str, body: Callable[[], Any], policy: RetryPolicy
) -> list[dict[str, Any]] | str:
    claim = Claim(scope, NOTICE, name)
    try:
        result: list[dict[str, Any]] = await value_of(claim.run(_Delivery(policy), body))
        return result
    except StepError as error:
        return error.error.message


class _Delivery:
    """The gate of one message: tried again as the channel asks, also when its process died."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy

    def open(self, operation: Operation) -> Pass:
        """Let it pass."""
        return PLAIN

    def failed(self, operation: Operation, error: BaseException) -> Verdict:
        """Try again, unless that cannot help."""
        attempt = operation.attempt + 1
        delay = None
        final = isinstance(error, ChannelError) and error.final
        if not final and self._policy.retries(error, attempt):
            delay = self._policy.delay(attempt)
            if isinstance(error, ChannelError) and error.retry_after is not None:
                delay = min(max(error.retry_after, 0.0), _LONGEST)
        kept = error_object(error)
        return Verdict(replace(kept, data=None), delay)

    def interrupted(self, operation: Operation) -> Verdict:
        """Try again: the next attempt looks for the message of this one first."""
        again = operation.attempt + 1 < self._policy.max_attempts
        text = "its process ended while it was sent"
        return Verdict(ErrorObject(text, "perdure.StepInterrupted"), 0 if again else None)

    def returned(self, operation: Operation) -> None:
        """Do nothing."""


def now_of(scope: AnyContext) -> datetime:
    """Return the engine's time, in UTC; not recorded."""
    return datetime.fromtimestamp(clock_of(scope).now() / 1000, UTC)


def _text(value: Any) -> str:
    import json

    return json.dumps(value)
