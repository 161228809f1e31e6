"""One invocation's hold on an execution that the Lambda service keeps.

Whoever waits together is written in one call: the updates of all tickets in the queue, in order.
The service alone ends waits, callbacks, invokes and the delays of retries; each answer brings what
changed, and a call without updates only asks. So a due time here means when to ask next, and the
start of a retry is held back until the service has called it READY.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from typing import Any

from ..clock import Clock
from ..errors import InvocationEnded, UsageError
from ..events import Event, EventKind, fold
from ..group_commit import GroupCommit, Ticket
from ..hold import holds, opening
from ..invocation import Wakeable
from ..offloaded import text_of
from ..operations import ErrorObject, Operation, OperationStatus, OperationType, SubType
from ..reopening import reopened_by_resume
from ..session import Ending, Pending, Reply, Succeeded, hear, is_news
from .generations import Generations, names_of
from .offload import Store
from .outgoing import Outgoing, limits_of
from .service import LambdaService, ServiceError
from .watch import Watch
from .wire import Update, error_of, execution_update, operation_of, wire_error

_log = logging.getLogger("perdure")
_S, _T = OperationStatus, OperationType
_K = EventKind
_TIMED = frozenset({_K.WAIT_STARTED, _K.CALLBACK_STARTED, _K.STEP_RETRIED, _K.INVOKE_STARTED})
LOOK = 5_000
"""Milliseconds after which to ask again for what others end at any time, while this runs anyway."""
SOONEST = 100
"""The least milliseconds between two questions after something that is overdue."""
GRACE = 50
"""Milliseconds a run has to ask by itself for what is due, before it is woken."""
_WATCH = Watch()


class AwsSession:
    """The session of one invocation; see `perdure.durable.session.Session`."""

    def __init__(
        self,
        service: LambdaService,
        clock: Clock,
        arn: str,
        token: str,
        operations: Iterable[Operation],
        *,
        holding: bool = False,
    ) -> None:
        self.execution_id = arn.rpartition("/")[2]
        self.address = arn
        self.seed = blake2b(arn.encode(), digest_size=8).hexdigest()
        store = Store.of(os.environ)
        self.limits = limits_of(os.environ, store)
        self.cautious = False
        self.replay_only = False
        self.home = None
        self.deadline = None
        self.payload = "null"
        self.operations: dict[str, Operation] = {}
        self.concluded = False
        self.revoked = False
        self._service = service
        self._clock = clock
        self._arn = arn
        self._token = token
        self._group = GroupCommit(self._write, batch=self.limits.updates)
        self._closed = False
        self._broken: ServiceError | None = None
        # When each open timer was first due; the retries that the service has not called READY.
        self._timers: dict[str, int] = {}
        self._delayed: set[str] = set()
        self._news: dict[str, Operation] = {}
        self._came = False
        self._result: tuple[Succeeded, Succeeded] | None = None
        self._run: Wakeable | None = None
        states = list(operations)
        self._outgoing = Outgoing(self.execution_id, self.limits, store, states)
        self._holding = holding
        self._generations = Generations(holding=holding, errors=self.limits.error)
        for operation in self._generations.fold(states).values():
            self._load(operation)

    @classmethod
    def open(
        cls,
        service: LambdaService,
        clock: Clock,
        event: Mapping[str, Any],
        *,
        holding: bool = False,
    ) -> AwsSession:
        """Return the session that an invocation's event describes, all pages of it read.

        Args:
            holding: whether a failing run is kept open, to be resumed.

        Raises:
            ServiceError: the further pages could not be read.
        """
        arn, token = event["DurableExecutionArn"], event["CheckpointToken"]
        state = event.get("InitialExecutionState") or {}
        operations = [operation_of(wire) for wire in state.get("Operations") or ()]
        operations += service.pages(arn, token, state.get("NextMarker"))
        return cls(service, clock, arn, token, operations, holding=holding)

    def take_up(self) -> None:
        """Open again what a resume asks for, if one came since this run was held.

        Raises:
            ServiceError: it could not be written.
            InvocationEnded: the service takes no more of this invocation.
        """
        held = next(reversed(holds(self.operations)), None)
        if held is None or held.status is not _S.SUCCEEDED or self._generations.is_resumed(held):
            return
        now = self._clock.now()
        try:
            self._read_batches()
            known = self._generations.reopenable(self.operations)
            reopened = reopened_by_resume(known, held.error, names_of(held.payload))
        except UsageError as error:
            # Nobody is there any more to be refused: the run is held again, and says why.
            source = held.error.data if held.error is not None else None
            refused = ErrorObject(str(error), "perdure.UsageError", source)
            event = opening(self.operations, refused, now)
            fold(self.operations, event)
            updates = self._generations.resume(self.operations, held, (), now)
            updates += self._generations.updates(event)
        else:
            updates = self._generations.resume(self.operations, held, reopened, now)
        self.wait(self._queue(updates, None))

    def hold(self, error: ErrorObject) -> None:
        """Keep a run open that failed for a reason of its own, with nothing more of it written.

        Raises:
            ServiceError: it could not be written.
            InvocationEnded: the service takes no more of this invocation.
        """
        event = opening(self.operations, error, self._clock.now())
        fold(self.operations, event)
        self.wait(self._queue(self._updates([event]), None))

    def _read_batches(self) -> None:
        """Fetch what batches came to: which of their branches failed is asked of it."""
        for operation in self.operations.values():
            if operation.subtype in (SubType.MAP, SubType.PARALLEL) and operation.payload:
                operation.payload = text_of(operation.payload)

    @property
    def room(self) -> int | None:
        """How many operations may still be added; None for any number."""
        return self._outgoing.room(holding=self._holding)

    def begun(self, run: Wakeable) -> None:
        """Wake this run when something of it is due and its own threads are all in bodies."""
        self._run = run
        if self._timers:
            _WATCH.look_after(self)

    def overdue_in(self) -> float | None:
        """Return the seconds until something is due and was not asked for, or None."""
        dues = [self.operations[id].due for id in list(self._timers)]
        due = min((due for due in dues if due is not None), default=None)
        return None if due is None else max(0, due + GRACE - self._clock.now()) / 1000

    def ring(self) -> None:
        """Have it asked for."""
        self._put_off()
        if self._run is not None:
            self._run.wake()

    def enqueue(self, events: list[Event], callback: Callable[[Ticket], None] | None) -> Ticket:
        """Queue events; none asks what others did."""
        if self._watch(events):
            _WATCH.look_after(self)
        self._put_off()
        return self._queue(self._updates(events), callback)

    def wait(self, ticket: Ticket) -> Reply:
        """Return once the service has the ticket's events.

        Raises:
            ServiceError: it did not take them.
            InvocationEnded: it takes no more of this invocation.
        """
        reply: Reply = self._group.wait(ticket)
        return reply

    def soon(self, ticket: Ticket) -> None:
        """Have a queued ticket written by a thread of the session's own."""
        self._group.wake()

    def callback_id(self, operation: Operation) -> str:
        """Return the id that the service gave a CALLBACK, once it has its start."""
        if operation.callback_id is None:
            # Somebody else's call carries the start; this one comes after it.
            reply = self.wait(self.enqueue([], None))
            for state in reply.operations:
                if state.id == operation.id:
                    hear(operation, state)
        assert operation.callback_id is not None, operation.id
        return operation.callback_id

    def fail_callback(self, callback_id: str, error: ErrorObject) -> bool:
        """Fail a CALLBACK of this run; its end comes back with the next answer.

        Raises:
            ServiceError: the service did not take it, or it is not known whether it did.
        """
        own = any(each.callback_id == callback_id for each in list(self.operations.values()))
        return own and self._service.fail_callback(callback_id, error)

    def end(self, events: list[Event], ending: Ending) -> None:
        """Write the last events of a pass, and its result where an output could not hold it.

        Raises:
            ServiceError: the service did not take them.
        """
        with suppress(InvocationEnded):
            self.wait(self.enqueue_end(events, ending, None))

    def enqueue_end(
        self, events: list[Event], ending: Ending, callback: Callable[[Ticket], None] | None
    ) -> Ticket:
        """Queue the last events of a pass; with none, the ticket only waits for calls under way."""
        self._watch(events)
        updates = self._updates(events)
        conclusion = execution_update(self.sent(ending), self._clock.now())
        if conclusion is not None:
            updates.append(conclusion)
        return self._queue(updates or None, callback)

    def sent(self, ending: Ending) -> Ending:
        """Return an ending as it is told: of a large result, where it is kept.

        Raises:
            ServiceError: it could not be put there.
        """
        if not isinstance(ending, Succeeded):
            return ending
        if self._result is None or self._result[0] is not ending:
            self._result = ending, Succeeded(self._outgoing.result(ending.payload))
        return self._result[1]

    def goes_on(self, pending: Pending) -> bool:
        """Take over what nobody has heard; return whether this invocation runs the handler again.

        What an answer has told, the service does not invoke the handler again for: a handler that
        suspended in a pass in which it was told is to look for itself.
        """
        for id, state in list(self._news.items()):
            if (known := self.operations.get(id)) is not None:
                hear(known, state)
        came, self._came = self._came, False
        return (came or pending.again) and not self.revoked

    def close(self) -> None:
        """Write nothing more: what comes from threads that were left behind is dropped."""
        self._closed = True
        _WATCH.leave(self)
        self._group.close()

    def _load(self, operation: Operation) -> None:
        if operation.type is _T.EXECUTION:
            self.payload = operation.payload or "null"
            return
        self.operations[operation.id] = operation
        if operation.status is _S.PENDING:
            self._delayed.add(self._generations.wire_id(operation.id))
        if self._look_after(operation):
            self._timers[operation.id] = operation.due or 0

    def _watch(self, events: Iterable[Event]) -> bool:
        """Note what has a due time among events; return whether something has."""
        timed = [self.operations[event.id] for event in events if event.kind in _TIMED]
        found = [operation for operation in timed if self._look_after(operation)]
        self._timers.update((operation.id, operation.due or 0) for operation in found)
        return bool(found)

    def _look_after(self, operation: Operation) -> bool:
        """Set when to ask for an operation that others end; return whether there is a time."""
        if operation.closed:
            return False
        if operation.type in (_T.CALLBACK, _T.CHAINED_INVOKE):
            operation.due = self._clock.now() + LOOK
        return operation.due is not None

    def _put_off(self) -> None:
        """Move the due times that have passed: this call asks, the next one is for later."""
        now = self._clock.now()
        for id, first in list(self._timers.items()):
            operation = self.operations[id]
            if operation.closed or operation.due is None:
                self._timers.pop(id, None)
            elif operation.due <= now:
                operation.due = now + min(max(now - first, SOONEST), LOOK)

    def _updates(self, events: Iterable[Event]) -> list[Update]:
        updates: list[Update] = []
        for event in events:
            if event.error is not None:
                self._cut_error(event, event.error)
            self._outgoing.note_prompt(event)
            updates += self._generations.updates(event)
        return updates

    def _cut_error(self, event: Event, error: ErrorObject) -> None:
        """Cut an error to what is kept of it, so that the handler meets the same at each replay."""
        event.error = error_of(wire_error(error, self.limits.error))
        operation = self.operations.get(event.id)
        if operation is not None and operation.error is error:
            operation.error = event.error

    def _queue(
        self, updates: list[Update] | None, callback: Callable[[Ticket], None] | None
    ) -> Ticket:
        return self._group.enqueue(Ticket(updates, callback))

    def _write(self, tickets: list[Ticket]) -> None:
        asked = [ticket for ticket in tickets if ticket.work is not None]
        updates = [update for ticket in asked for update in ticket.work]
        if asked:
            self._check_open()
            self._until_ready(updates)
            for part in self._outgoing.calls(updates):
                self._call(part)
        reply = self._reply()
        for ticket in tickets:
            ticket.result = reply

    def _check_open(self) -> None:
        if self._broken is not None:
            raise self._broken
        if self.revoked or self._closed:
            raise InvocationEnded

    def _call(self, updates: Sequence[Update]) -> None:
        self._check_open()
        try:
            answer = self._service.checkpoint(self._arn, self._token, updates)
        except ServiceError as error:
            # The token may be used up: nothing that follows would be taken.
            self._broken = error
            raise
        self._delayed.update(each["Id"] for each in updates if each["Action"] == "RETRY")
        self._learn(answer.operations)
        if answer.token is not None:
            self._token = answer.token
        elif any(update["Type"] == "EXECUTION" for update in updates):
            self.concluded = True
        else:
            _log.warning("the service takes no more of this invocation of %s", self._arn)
            self.revoked = True

    def _until_ready(self, updates: Sequence[Update]) -> None:
        starts = [each["Id"] for each in updates if each["Action"] == "START"]
        pause = SOONEST / 1000
        while any(id in self._delayed for id in starts):
            self._call(())
            if any(id in self._delayed for id in starts):
                time.sleep(pause)
                pause = min(2 * pause, LOOK / 1000)

    def _learn(self, states: Iterable[Operation]) -> None:
        for told in states:
            if told.type is _T.STEP and told.status is not _S.PENDING:
                self._delayed.discard(told.id)
            if (state := self._generations.heard(told)) is None:
                continue
            self._look_after(state)
            if (known := self.operations.get(state.id)) is not None and is_news(known, state):
                self._news[state.id] = state
                self._came = self._came or state.closed or state.status is _S.READY

    def _reply(self) -> Reply:
        """Return all news, until the journal shows that somebody took it over."""
        self._news = {
            id: state for id, state in self._news.items() if is_news(self.operations[id], state)
        }
        return Reply(operations=tuple(self._news.values()), ended=self.revoked)
