"""A run that asks, in both worlds, and the people who answer it by the one way votes are cast."""

from __future__ import annotations

import itertools
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from perdure.approvals import await_approval
from perdure.approvals.callbacks import Standing
from perdure.approvals.decisions import Decision, vote
from perdure.approvals.journal import LocalCallbacks
from perdure.approvals.office import Office
from perdure.approvals.people import Principal
from perdure.approvals.requests import REQUEST, ApprovalRequest
from perdure.approvals.voting import Outcome, cast, claims_of
from perdure.durable import ExecutionFailedError, durable_execution
from perdure.durable.gated import drive, value_of
from perdure.durable.testing import Runner, check_replay

from .recorder import Recorder

ALICE, BOB, CAROL, DAVE = (f"{name}@example.org" for name in ("alice", "bob", "carol", "dave"))
DAY = 86_400
_numbers = itertools.count(1)


def durable(kind: str, body: Callable[[Any, Any], Awaitable[Any]], name: str | None = None) -> Any:
    """Return the handler of this kind, "sync" or "async", whose body this is.

    The body is `async def` and awaits durable calls by `value_of` only.
    """
    name = name or f"asks-{next(_numbers)}"
    if kind == "async":

        async def awaited(event: Any, context: Any) -> Any:
            return await body(event, context)

        return durable_execution(name=name)(awaited)

    def plain(event: Any, context: Any) -> Any:
        return drive(context, body(event, context))

    return durable_execution(name=name)(plain)


def shown(decision: Decision) -> Any:
    """What a test compares of a decision, as a handler returns it."""
    return [decision.kind, decision.approved, decision.subject]


def failure(run: Any) -> Any:
    """The error that a run ended with."""
    with pytest.raises(ExecutionFailedError) as caught:
        run.result(timeout=0)
    assert caught.value.error is not None
    return caught.value.error


class Scene:
    """Makes handlers that ask, and runs of them."""

    def __init__(self, runner: Runner, office: Office, kind: str, recorder: Recorder) -> None:
        self.runner, self.office, self.kind, self.recorder = runner, office, kind, recorder

    def handler(
        self,
        subject: Any = "the text",
        *,
        name: str | None = None,
        then: Callable[[Decision], Any] = shown,
        **terms: Any,
    ) -> Any:
        """Return a handler that asks alice and bob, or whom the terms name."""
        given = {"approvers": [ALICE, BOB], "via": [self.recorder], "timeout": 3 * DAY} | terms

        async def body(event: Any, context: Any) -> Any:
            what = subject() if callable(subject) else subject
            return then(await value_of(await_approval(context, what, **given)))

        return durable(self.kind, body, name)

    def ask(self, subject: Any = "the text", **terms: Any) -> Asked:
        """Start a run that asks, and bring it to where it waits."""
        return self.start(self.handler(subject, **terms))

    def start(self, handler: Any) -> Asked:
        """Start a run of a handler, and bring it to where it waits."""
        return self.again(handler, None)

    def again(self, handler: Any, id: str | None) -> Asked:
        """Start a run, or find it where it is known, and bring it to where it waits."""
        run = self.runner.start(handler, None, id)
        self.runner.settle()
        return Asked(self.runner, self.office, run, handler)

    def passes(self, seconds: float) -> None:
        """Let time pass, timer by timer, as a server that is up sees it."""
        clock = self.runner.clock
        end = clock.now() + round(seconds * 1000)
        while (due := self.runner.engine.next_timer()) is not None and due <= end:
            clock.set(due)
            self.runner.settle()
        clock.set(end)
        self.runner.settle()

    def restarted(self, it: Asked) -> Asked:
        """Return a run on a new engine, as after a crash of the old one."""
        self.runner.restart()
        return self.again(it.handler, it.run.id)


class Asked:
    """A run that asked once."""

    def __init__(self, runner: Runner, office: Office, run: Any, handler: Any = None) -> None:
        self.runner, self.office, self.run, self.handler = runner, office, run, handler
        self.engine = runner.engine

    @property
    def request(self) -> ApprovalRequest:
        """The request as the journal keeps it."""
        [step] = self.run.steps(REQUEST)
        return ApprovalRequest.read(json.loads(step.payload))

    @property
    def callbacks(self) -> dict[str, str]:
        """The ids of the callbacks of the request, by name, open or not."""
        return {
            operation.name: operation.callback_id
            for operation in self.engine.children(self.run.id, self.request.operation)
            if operation.callback_id is not None
        }

    @property
    def standing(self) -> Standing:
        """How the request stands."""
        found = LocalCallbacks(self.engine).lookup(self.run.id, self.request.operation)
        assert isinstance(found, Standing)
        return found

    def vote(self, who: str = ALICE, action: Any = "approve", **more: Any) -> Outcome:
        """Vote as somebody who is known by this identity."""
        claims = claims_of(self.standing, [who])
        assert claims is not None, f"{who} may not decide"
        engine = LocalCallbacks(self.engine)
        by = Principal(identity=who, assurance="session")
        return cast(
            self.office, engine, claims, action=action, by=by, approver=who, channel="web", **more
        )

    def made(self, who: str = ALICE, action: Any = "approve", **changed: Any) -> dict[str, Any]:
        """Return a vote as it completes a callback, with some of it changed."""
        by = Principal(identity=who, assurance="session")
        made = vote(
            self.request,
            action,
            digest=self.request.digest,
            by=by,
            approver=who,
            at=datetime.now(UTC),
            channel="web",
            seed="seed",
            value=changed.pop("value", None),
        )
        return made.model_copy(update=changed).kept()

    def complete(self, value: Any, callback: str = "decision") -> None:
        """Complete a callback by hand, as whoever reaches the engine can."""
        self.engine.complete_callback(self.callbacks[callback], payload=json.dumps(value))

    def settle(self) -> None:
        self.runner.settle()

    def result(self) -> Any:
        """Let the run go on with what is due, and return what it came to; it replays the same."""
        self.runner.settle()
        result = self.run.result(timeout=5)
        check_replay(self.run)
        return result

    def error(self) -> Any:
        """Let the run go on with what is due, and return the error it ended with."""
        self.runner.settle()
        check_replay(self.run)
        return failure(self.run)

    def names(self) -> list[str]:
        """The paths of the run's operations."""
        return list(self.run.operations())
