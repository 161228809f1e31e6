"""One request from the question to the decision: what is recorded, told, waited for and closed.

All of it is durable primitives: a step that records what is asked, a callback for the decision (in
a quorum one for each approver), steps that tell people, a race between the answer and the ladder
of reminders and escalations, if there are any. From then on the recorded request rules, not the
arguments of the code that runs: a change of code never changes who may decide what is asked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import blake2b
from typing import Any

from perdure.durable import BatchError, Completion, OperationError
from perdure.durable.errors import CallbackError, CallbackTimeoutError, UsageError
from perdure.durable.gated import (
    AnyContext,
    address_of,
    clock_of,
    drive,
    end_of,
    home_of,
    recorded_within,
    scope_of,
    value_of,
    withdraw,
)

from .channels import Channel, Notice, Receipt
from .counting import EXPIRED, WITHDRAWN, Found, is_yes, outcome_of
from .decisions import Decision
from .errors import ApprovalError, ApprovalExpired
from .notices import CLOSING, SENDING, Desk, Posted, now_of, received, tell, update
from .office import Office
from .requests import NOTICE, REQUEST, ApprovalRequest
from .terms import Rung, Terms
from .web import Web

WITHDRAWN_TYPE = "perdure.Withdrawn"
RECALLED = "recalled"
"""Why a callback of a quorum closed once the others had decided."""


def check_subject(digest: str, terms: Terms) -> None:
    """Check that what was shown is what the handler has.

    Raises:
        ApprovalError: it is not.
    """
    if digest != terms.digest:
        raise ApprovalError(
            f"{terms.name!r}: people were shown a subject with the fingerprint {digest[:8]}, and "
            f"the handler now has another one ({terms.digest[:8]}); a decision never passes from "
            "one to the other. Restore what made the subject, or ask again under another name"
        )


def check_first(context: AnyContext, terms: Terms) -> None:
    """Check what depends on when and where it is asked, before anything is recorded.

    Raises:
        UsageError: it cannot be asked here, or not for so long.
    """
    end = end_of(context)
    deadline = now_of(context) + timedelta(seconds=terms.timeout)
    if end is not None and deadline >= end:
        raise UsageError(
            f"await_approval {terms.name!r}: timeout would end {deadline:%Y-%m-%d %H:%M} UTC, "
            f"after the run itself ({end:%Y-%m-%d %H:%M} UTC): nothing would be left to hear the "
            "answer. Give a shorter timeout, or @durable_execution a longer one"
        )
    terms.schema()
    channels = [*terms.channels, *(each for rung in terms.rungs for each in rung.channels)]
    if any(not isinstance(each, Web) for each in channels):
        _office(context)


async def decide(scope: Any, terms: Terms) -> dict[str, Any]:
    """Ask, wait, tell what was decided; return the decision as it is kept."""
    request = await _recorded(scope, terms)
    asking = _Asking(scope, terms, request, await _ballots(scope, request))
    await asking.notify()
    if terms.rungs:
        await asking.race()
    decision = await asking.decision()
    await asking.close(decision)
    if decision.kind == "expired" and request.on_timeout == "raise":
        until = f"{request.deadline:%Y-%m-%d %H:%M} UTC"
        raise ApprovalExpired(f"nobody decided {request.name!r} before {until}")
    return decision.kept()


async def _recorded(scope: Any, terms: Terms) -> ApprovalRequest:
    """Record what is asked, before anyone is told."""
    operation = scope_of(scope) or ""

    def build() -> dict[str, Any]:
        id = blake2b(f"{scope.execution_id}\0{operation}".encode(), digest_size=16).hexdigest()
        return terms.request(id, address_of(scope), operation, now_of(scope)).kept()

    request = ApprovalRequest.read(await value_of(scope.step("request", build, kind=REQUEST)))
    check_subject(request.digest, terms)
    return request


async def _ballots(scope: Any, request: ApprovalRequest) -> dict[str, Any]:
    """Return the callback of each approver: one that all share, or in a quorum one for each."""

    async def opened(name: str) -> Any:
        left = (request.deadline - now_of(scope)).total_seconds()
        return await value_of(scope.callback(name, timeout=max(left, 1)))

    everyone = [each.name for each in request.policy.everyone]
    if request.policy.is_quorum:
        return {name: await opened(f"vote-{n}") for n, name in enumerate(everyone, 1)}
    return dict.fromkeys(everyone, await opened("decision"))


@dataclass
class _Asking:
    """A request that is recorded and whose callbacks are open.

    Attributes:
        ballots: the callback of each approver, by name.
        posted: the messages that went out.
    """

    scope: Any
    terms: Terms
    request: ApprovalRequest
    ballots: Mapping[str, Any]
    posted: list[Posted] = field(default_factory=list)

    @property
    def desk(self) -> Desk:
        return Desk(self.request, lambda: _office(self.scope), self.ballots)

    async def notify(self) -> None:
        """Tell the approvers; the inbox of the web shows the request by itself."""
        channels, asked = self.terms.channels, self.request.policy.approvers
        needed = not any(isinstance(each, Web) for each in channels)
        try:
            self.posted = await tell(
                self.scope, self.desk, "notify", channels, asked, needed=needed
            )
        except OperationError as error:
            raise ApprovalError(
                f"nobody could be told of {self.request.name!r}: {_reasons(error)}. Mend the cause "
                "and resume the run"
            ) from error

    async def race(self) -> None:
        """Remind and escalate until the answer is there, or all rungs were climbed."""
        await value_of(
            self.scope.parallel(
                "race",
                {
                    "answer": lambda inner: drive(inner, self._answered(inner)),
                    "ladder": lambda inner: drive(inner, self._climb(inner)),
                },
                completion=Completion(min_successful=1),
                nesting="flat",
            )
        )

    async def decision(self) -> Decision:
        """Wait for the votes, and return what they come to."""
        found = await self._found()
        now = self.request.deadline
        if found.ended not in (None, EXPIRED):
            now = await value_of(self.scope.now())
        return outcome_of(found, self.request, self.terms.form, now)

    async def close(self, decision: Decision) -> None:
        """Tell where the request was seen what became of it."""

        def notice(receipt: Receipt) -> Notice:
            return self.desk.notice("closed", receipt.to, decision=decision)

        posted = self.posted + await self._posted_later()
        await update(self.scope, "close", posted, notice, CLOSING)

    async def _answered(self, scope: Any) -> None:
        if self.request.policy.is_quorum:
            await self._count(scope)
        else:
            await _result_of(next(iter(self.ballots.values())))

    async def _found(self) -> Found:
        if not self.request.policy.is_quorum:
            cast, ended = await _result_of(next(iter(self.ballots.values())))
            return Found([(None, each) for each in cast], ended)
        await self._count(self.scope)
        await self._withdraw()
        # All are closed now: each vote that was accepted counts, also one of the last moment.
        votes, ends = [], set()
        for approver, ballot in self.ballots.items():
            cast, ended = await _result_of(ballot)
            votes += [(approver, each) for each in cast]
            ends.add(ended)
        return Found(votes, next((each for each in (EXPIRED, WITHDRAWN) if each in ends), None))

    async def _count(self, scope: Any) -> None:
        """Wait until the quorum is decided."""
        policy = self.request.policy
        completion = Completion(min_successful=policy.required, max_failures=policy.bearable)
        branches = {
            f"vote-{number}": lambda inner, ballot=ballot: drive(inner, _in_favour(ballot))
            for number, ballot in enumerate(self.ballots.values(), 1)
        }
        with suppress(BatchError):
            await value_of(scope.parallel("votes", branches, completion=completion, nesting="flat"))

    async def _withdraw(self) -> None:
        """Close the ballots of those who have not voted: a late vote is refused, not lost."""
        ids = [ballot.id for ballot in self.ballots.values()]

        def close() -> None:
            for id in ids:
                withdraw(self.scope, id, "the quorum has decided", WITHDRAWN_TYPE)

        await value_of(self.scope.step("withdraw", close))

    async def _climb(self, scope: Any) -> None:
        posted = list(self.posted)
        for rung in self.terms.rungs:
            moment = self.request.asked + timedelta(seconds=rung.after)
            left = (moment - now_of(scope)).total_seconds()
            await value_of(scope.sleep(max(left, 1)))
            if rung.adds:
                names = {each.name for each in rung.adds}
                asked = [each for each in self.request.policy.escalated if each.name in names]
                posted += await tell(scope, self.desk, rung.name, rung.channels, asked)
            else:
                await self._remind(scope, rung, posted)

    async def _remind(self, scope: Any, rung: Rung, posted: Sequence[Posted]) -> None:
        number = int(rung.name.rpartition("-")[2])

        def notice(receipt: Receipt) -> Notice | None:
            waiting = self.desk.waits_for(receipt.to)
            return self.desk.notice("reminder", waiting, number=number) if waiting else None

        await update(scope, rung.name, posted, notice, SENDING)

    async def _posted_later(self) -> list[Posted]:
        """Return the messages that escalations sent: a decided race is not run again at replay."""
        channels: dict[str, dict[str, Channel]] = {
            rung.name: {each.name: each for each in rung.channels}
            for rung in self.terms.rungs
            if rung.adds
        }
        if not channels:
            return []

        def collect() -> list[list[Any]]:
            return [
                [rung, kept]
                for operation in recorded_within(self.scope, NOTICE)
                for rung in channels
                if (operation.name or "").startswith(f"{rung}-")
                for kept in json.loads(operation.payload or "[]")
            ]

        found = await value_of(self.scope.step("told", collect))
        receipts = [(channels.get(rung, {}), received(kept)) for rung, kept in found]
        return [Posted(of[each.channel], each) for of, each in receipts if each.channel in of]


async def _result_of(ballot: Any) -> tuple[list[Any], str | None]:
    """Wait for a callback; its deadline and its withdrawal are answers, too."""
    try:
        return [await value_of(ballot.result())], None
    except CallbackTimeoutError:
        return [], EXPIRED
    except CallbackError as error:
        return [], RECALLED if error.error_type == WITHDRAWN_TYPE else WITHDRAWN


async def _in_favour(ballot: Any) -> None:
    """Wait for a vote in favour; raise for any other end, so that the batch counts it so."""
    found, _ = await _result_of(ballot)
    if not any(is_yes(each) for each in found):
        raise _Against("not in favour")


class _Against(Exception):
    """A callback that was not completed with a yes."""


def _office(context: AnyContext) -> Office:
    return Office.at(home_of(context), clock_of(context))


def _reasons(error: OperationError) -> str:
    if isinstance(error, BatchError):
        failed = error.result.failures
        return "; ".join(f"{each.name}: {each.error.message}" for each in failed if each.error)
    return f"{error.name}: {error.error.message}"
