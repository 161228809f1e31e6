"""Telling people, in steps of their own: what is delivered once is not delivered again.

Each message is a step of the kind `ApprovalNotice`. A failure is tried again after as long as the
channel asks for; an attempt that died may have delivered, so the next one looks for its message
first. What cannot be delivered is recorded, and no error by itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from perdure.durable import Completion, StepError
from perdure.durable.current import current_step
from perdure.durable.errors import UsageError
from perdure.durable.failures import INTERRUPTED, error_object
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
_AT_ONCE = 16
Body = Callable[[], list[dict[str, Any]]]


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
        ballots: the callback of each approver, by name.
    """

    request: ApprovalRequest
    office: Callable[[], Office]
    ballots: Mapping[str, Any]

    def waits_for(self, names: Sequence[str]) -> list[str]:
        """Return those of them whose answer is still waited for; ask inside a step."""
        return [name for name in names if not self.ballots[name].closed]

    def may_decide(self, name: str) -> bool:
        """Return whether an approver is asked: whoever asked may not decide."""
        return any(each.name == name for each in self.request.policy.able)

    def notice(self, kind: Any, names: Sequence[str], **more: Any) -> Notice:
        """Return a notice to approvers, inside a step: each attempt of it mints the same tokens."""
        to = tuple(each for each in self.request.policy.everyone if each.name in names)
        seed = current_step().idempotency_key[:24]
        callbacks = {name: ballot.id for name, ballot in self.ballots.items()}
        return Notice(kind, self.request, to, callbacks, self.office(), seed=seed, **more)


async def tell(
    scope: AnyContext,
    desk: Desk,
    name: str,
    channels: Sequence[Channel],
    approvers: Sequence[Approver],
    *,
    needed: bool = False,
) -> list[Posted]:
    """Ask approvers; return what went out.

    Raises:
        OperationError: nothing went out, and it is `needed`.
    """
    bodies: dict[str, Body] = {}
    through: dict[str, Channel] = {}
    for channel in channels:
        reached = [each.name for each in approvers if channel.reaches(each)]
        if channel.personal:
            reached = [name for name in reached if desk.may_decide(name)]
        if isinstance(channel, Web) or not reached:
            continue
        groups = [[each] for each in reached] if channel.personal else [reached]
        for number, to in enumerate(groups, 1):
            step = f"{name}-{channel.name}" + (f"-{number}" if channel.personal else "")
            bodies[step], through[step] = _sending(desk, channel, to), channel
    policy = _Delivery(SENDING, desk.request.deadline, scope)
    results = await _each(scope, name, bodies, policy, needed=needed)
    return [
        Posted(through[step], received(kept))
        for step, result in results.items()
        if step in through
        for kept in result
    ]


async def update(
    scope: AnyContext,
    name: str,
    posted: Sequence[Posted],
    notice: Callable[[Receipt], Notice | None],
    retry: RetryPolicy,
) -> None:
    """Change or follow up messages that went out; what fails is recorded, and nothing more."""

    def body(each: Posted) -> Body:
        def change() -> list[dict[str, Any]]:
            told = notice(each.receipt)
            if told is not None:
                each.channel.update(each.receipt, told)
            return []

        return change

    bodies = {
        f"{name}-{each.channel.name}-{number}": body(each) for number, each in enumerate(posted, 1)
    }
    await _each(scope, name, bodies, _Delivery(retry))


def received(kept: Mapping[str, Any]) -> Receipt:
    """Return the receipt that a step of this kind keeps."""
    return Receipt.model_validate_json(json.dumps(kept["receipt"]))


def now_of(scope: AnyContext) -> datetime:
    """Return the engine's time, in UTC; not recorded."""
    return datetime.fromtimestamp(clock_of(scope).now() / 1000, UTC)


def _sending(desk: Desk, channel: Channel, to: Sequence[str]) -> Body:
    def send() -> list[dict[str, Any]]:
        if not desk.waits_for(to):
            return []
        attempt = current_step().attempt
        notice = desk.notice("request", to, attempt=attempt)
        found = _found(channel, notice) if attempt > 1 else None
        receipt = found or channel.send(notice)
        _check_receipt(receipt, channel, to)
        spec = channel.spec() if hasattr(channel, "spec") else None
        return [{"receipt": receipt.model_dump(mode="json"), "spec": spec}]

    return send


def _found(channel: Channel, notice: Notice) -> Receipt | None:
    """Return the message of an earlier attempt; None also where the channel may not look."""
    try:
        return channel.find(notice, notice.request.asked)
    except ChannelError as error:
        if error.final:
            return None
        raise


def _check_receipt(receipt: Any, channel: Channel, to: Sequence[str]) -> None:
    if not isinstance(receipt, Receipt):
        raise UsageError(f"the channel {channel.name!r} returned no Receipt, but {receipt!r}")
    if receipt.channel != channel.name or not set(receipt.to) <= set(to):
        raise UsageError(
            f"the channel {channel.name!r} was to tell {', '.join(to)}, and returned the receipt "
            f"of {receipt.channel!r} to {', '.join(receipt.to)}"
        )


async def _each(
    scope: AnyContext,
    name: str,
    bodies: Mapping[str, Body],
    policy: _Delivery,
    *,
    needed: bool = False,
) -> dict[str, Any]:
    """Run the steps side by side; return the results of those that succeeded.

    Raises:
        OperationError: none did, and one is `needed`.
    """
    if len(bodies) > 1:
        return await _side_by_side(scope, name, bodies, policy, needed)
    results = {}
    for step, body in bodies.items():
        try:
            results[step] = await _step(scope, step, body, policy)
        except StepError:
            if needed:
                raise
    return results


async def _side_by_side(
    scope: Any, name: str, bodies: Mapping[str, Body], policy: _Delivery, needed: bool
) -> dict[str, Any]:
    branches = {
        step: lambda inner, step=step, body=body: drive(inner, _step(inner, step, body, policy))
        for step, body in bodies.items()
    }
    most = Completion(max_failures=len(bodies) - needed)
    batch = await value_of(
        scope.parallel(name, branches, completion=most, nesting="flat", max_concurrency=_AT_ONCE)
    )
    return {each.name: each.result for each in batch.outcomes if each.status == "SUCCEEDED"}


async def _step(scope: AnyContext, name: str, body: Body, policy: _Delivery) -> Any:
    return await value_of(Claim(scope, NOTICE, name).run(policy, body))


@dataclass(frozen=True)
class _Delivery:
    """The gate of a message: tried again as the channel asks, also when its process died.

    Attributes:
        until: when there is no more use in it.
        scope: tells the time.
    """

    policy: RetryPolicy
    until: datetime | None = None
    scope: AnyContext | None = None

    def open(self, operation: Operation) -> Pass:
        """Let it pass."""
        return PLAIN

    def failed(self, operation: Operation, error: BaseException) -> Verdict:
        """Try again, unless that cannot help."""
        attempt = operation.attempt + 1
        delay = None
        final = isinstance(error, ChannelError) and error.final
        if not final and self.policy.retries(error, attempt):
            delay = self.policy.delay(attempt)
            if isinstance(error, ChannelError) and error.retry_after is not None:
                delay = min(max(error.retry_after, 0.0), _LONGEST)
        return Verdict(replace(error_object(error), data=None), self._in_time(delay))

    def interrupted(self, operation: Operation) -> Verdict:
        """Try again: the next attempt looks for the message of this one first."""
        again = operation.attempt + 1 < self.policy.max_attempts
        error = ErrorObject("its process ended while it was sent", INTERRUPTED)
        return Verdict(error, self._in_time(0 if again else None))

    def returned(self, operation: Operation) -> None:
        """Do nothing."""

    def _in_time(self, delay: float | None) -> float | None:
        if delay is None or self.until is None or self.scope is None:
            return delay
        return delay if now_of(self.scope) + timedelta(seconds=delay) < self.until else None
