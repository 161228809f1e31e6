"""One request from the question to the decision: what is recorded, told, waited for and closed.

All of it is durable primitives: a step that records what is asked, a callback for the decision (in
a quorum one for each approver), steps that tell people, a race between the answer and the ladder
of reminders and escalations, if there are any.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any

from perdure.durable import BatchError, Completion
from perdure.durable.errors import CallbackError, CallbackTimeoutError, UsageError
from perdure.durable.gated import (
    AnyContext,
    clock_of,
    drive,
    end_of,
    has_more,
    home_of,
    recorded_within,
    scope_of,
    value_of,
    withdraw,
)

from .channels import Channel, Receipt
from .counting import EXPIRED, WITHDRAWN, Found, outcome_of
from .decisions import Decision
from .errors import ApprovalError, ApprovalExpired
from .notices import CLOSING, SENDING, Desk, Posted, now_of, tell, update
from .office import Office
from .requests import NOTICE, REQUEST, ApprovalRequest
from .terms import Rung, Terms
from .web import Web

WITHDRAWN_TYPE = "perdure.Withdrawn"


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


class Asking:
    """One request, from the question to the decision."""

    def __init__(self, scope: AnyContext, terms: Terms) -> None:
        self._scope: Any = scope
        self._terms = terms
        self._request: ApprovalRequest
        self._ballots: dict[str, Any] = {}
        self._desk: Desk
        self._posted: list[Posted] = []

    async def decide(self) -> dict[str, Any]:
        """Ask, wait, tell what was decided; return the decision as it is kept."""
        await self._record()
        await self._open()
        await self._notify()
        found = await (self._race() if self._terms.rungs else self._answer(self._scope))
        decision = outcome_of(Found.read(found), self._request, self._terms)
        await self._recall()
        await self._close(decision)
        if decision.kind == "expired" and self._terms.on_timeout == "raise":
            until = f"{self._request.deadline:%Y-%m-%d %H:%M} UTC"
            raise ApprovalExpired(f"nobody decided {self._terms.name!r} before {until}")
        return decision.kept()

    async def _record(self) -> None:
        """Record what is asked, before anyone is told."""
        scope, terms = self._scope, self._terms
        if not has_more(scope):
            self._check_first()
        operation = scope_of(scope) or ""

        def build() -> dict[str, Any]:
            id = blake2b(f"{scope.execution_id}\0{operation}".encode(), digest_size=16).hexdigest()
            return terms.request(id, scope.execution_id, operation, now_of(scope)).kept()

        kept = await value_of(scope.step("request", build, kind=REQUEST))
        self._request = ApprovalRequest.read(kept)
        check_subject(self._request.digest, terms)

    def _check_first(self) -> None:
        """Check what depends on when and where it is asked, before the first thing is recorded."""
        end, terms = end_of(self._scope), self._terms
        deadline = now_of(self._scope) + timedelta(seconds=terms.timeout)
        if end is not None and deadline >= end:
            raise UsageError(
                f"await_approval {terms.name!r}: timeout would end {deadline:%Y-%m-%d %H:%M} UTC, "
                f"after the run itself ({end:%Y-%m-%d %H:%M} UTC): nothing would be left to hear "
                "the answer. Give a shorter timeout, or @durable_execution a longer one"
            )
        if any(not isinstance(each, Web) for each in self._all_channels()):
            self._office()

    def _all_channels(self) -> Iterable[Channel]:
        yield from self._terms.channels
        for rung in self._terms.rungs:
            yield from rung.channels

    def _office(self) -> Office:
        return Office.at(home_of(self._scope), clock_of(self._scope))

    async def _open(self) -> None:
        """Open the callback that all share, or in a quorum one for each."""
        policy = self._terms.policy
        names = {each.name: f"vote-{n}" for n, each in enumerate(policy.everyone, 1)}
        shared = None if policy.is_quorum else await self._callback("decision")
        for approver, name in names.items():
            self._ballots[approver] = shared or await self._callback(name)
        ids = {approver: ballot.id for approver, ballot in self._ballots.items()}
        self._desk = Desk(self._request, self._office, ids)

    async def _callback(self, name: str) -> Any:
        left = (self._request.deadline - now_of(self._scope)).total_seconds()
        return await value_of(self._scope.callback(name, timeout=max(left, 1)))

    async def _notify(self) -> None:
        channels, approvers = self._terms.channels, self._terms.policy.approvers
        self._posted, failures = await tell(self._scope, self._desk, "notify", channels, approvers)
        seen = any(isinstance(each, Web) for each in channels)
        if failures and not self._posted and not seen:
            raise ApprovalError(
                f"nobody could be told of {self._terms.name!r}: {'; '.join(failures)}. Mend the "
                "cause and resume the run"
            )

    async def _race(self) -> dict[str, Any]:
        """Wait for the answer, and meanwhile remind and escalate; the answer ends it."""
        batch = await value_of(
            self._scope.parallel(
                "race",
                {
                    "answer": lambda inner: drive(inner, self._answer(inner)),
                    "ladder": lambda inner: drive(inner, self._ladder(inner)),
                },
                completion=Completion(min_successful=1, max_failures=0),
            )
        )
        found: dict[str, Any] = batch[0]
        return found

    async def _ladder(self, scope: AnyContext) -> None:
        for rung in self._terms.rungs:
            await self._sleep_until(scope, self._request.asked + timedelta(seconds=rung.after))
            await self._climb(scope, rung)
        # It must not end before the answer, which comes at the deadline at the latest.
        await self._sleep_until(scope, self._request.deadline + timedelta(days=1))

    async def _sleep_until(self, scope: AnyContext, moment: datetime) -> None:
        left = (moment - now_of(scope)).total_seconds()
        await value_of(scope.sleep(max(left, 1)))

    async def _climb(self, scope: AnyContext, rung: Rung) -> None:
        if rung.policy is not None:
            await tell(scope, self._desk, rung.name, rung.channels, rung.policy.approvers)
            return
        number = int(rung.name.rpartition("-")[2])
        everyone = {each.name: each for each in self._terms.policy.everyone}
        await update(
            scope,
            rung.name,
            self._posted,
            lambda receipt: self._desk.notice(
                "reminder", [everyone[name] for name in receipt.to], number=number
            ),
            SENDING,
        )

    async def _answer(self, scope: AnyContext) -> dict[str, Any]:
        """Return what was found, as it is kept."""
        if self._terms.policy.is_quorum:
            return (await self._quorum(scope)).kept()
        return (await _result_of(next(iter(self._ballots.values())))).kept()

    async def _quorum(self, scope: Any) -> Found:
        policy = self._terms.policy
        ballots = list(self._ballots.values())
        completion = Completion(
            min_successful=policy.required,
            max_failures=0 if policy.veto else len(ballots) - policy.required,
        )
        branches = {
            f"vote-{n}": lambda inner, ballot=ballot: drive(inner, _for(ballot))
            for n, ballot in enumerate(ballots, 1)
        }
        try:
            batch = await value_of(scope.parallel("votes", branches, completion=completion))
        except BatchError as error:
            batch = error.result
        against = [json.loads(each.error.message) for each in batch.failures if each.error]
        votes = [*batch, *(each for each in against if isinstance(each, dict))]
        await self._withdraw(scope)
        return Found(votes, next((each for each in against if isinstance(each, str)), None))

    async def _withdraw(self, scope: Any) -> None:
        """Close the ballots of those who have not voted: a late vote is refused, not lost."""
        ids = sorted({ballot.id for ballot in self._ballots.values()})

        def close() -> None:
            for id in ids:
                withdraw(self._scope, id, "the quorum has decided", WITHDRAWN_TYPE)

        await value_of(scope.step("withdraw", close))

    async def _recall(self) -> None:
        """Note which messages the escalations sent: a decided race is not run again at replay."""
        channels = {
            rung.name: {each.name: each for each in rung.channels}
            for rung in self._terms.rungs
            if rung.policy is not None
        }
        if not channels:
            return

        def collect() -> list[list[Any]]:
            return [
                [rung, kept["receipt"]]
                for operation in recorded_within(self._scope, NOTICE)
                for rung in channels
                if (operation.name or "").startswith(f"{rung}-")
                for kept in json.loads(operation.payload or "[]")
            ]

        for rung, kept in await value_of(self._scope.step("told", collect)):
            receipt = Receipt.model_validate_json(json.dumps(kept))
            self._posted.append(Posted(channels[rung][receipt.channel], receipt))

    async def _close(self, decision: Decision) -> None:
        """Tell where the request was seen what became of it."""
        everyone = {each.name: each for each in self._terms.policy.everyone}
        await update(
            self._scope,
            "close",
            self._posted,
            lambda receipt: self._desk.notice(
                "closed", [everyone[name] for name in receipt.to], decision=decision
            ),
            CLOSING,
        )


async def _result_of(ballot: Any) -> Found:
    """Wait for a callback; its deadline and its withdrawal are answers, too."""
    try:
        return Found([await value_of(ballot.result())])
    except CallbackTimeoutError:
        return Found([], EXPIRED)
    except CallbackError:
        return Found([], WITHDRAWN)


async def _for(ballot: Any) -> Any:
    """Return a vote in favour; raise any other, so that the batch counts it as a failure."""
    found = await _result_of(ballot)
    if not found.votes:
        raise _Against(json.dumps(found.ended))
    [vote] = found.votes
    if isinstance(vote, Mapping) and vote.get("kind") == "rejected":
        raise _Against(json.dumps(vote))
    return vote


class _Against(Exception):
    """A vote against, as JSON."""
