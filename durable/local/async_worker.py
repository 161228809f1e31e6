"""Invokes async handlers: thousands of runs side by side on the host's one event loop."""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import TYPE_CHECKING, Any

from ..async_run import AsyncRun, install, run_handler
from ..clock import Clock
from ..group_commit import Ticket
from ..handler import Handler
from ..hold import hold
from ..host import Host
from ..session import Ending
from .session import LocalSession

if TYPE_CHECKING:
    from .worker import Worker


class AsyncWorker:
    """The async half of a worker."""

    def __init__(self, worker: Worker, host: Host, clock: Clock) -> None:
        self._worker = worker
        self._host = host
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()
        host.loop.call_soon_threadsafe(install, host.loop)

    def launch(self, session: LocalSession, handler: Handler[Any]) -> None:
        """Invoke the handler of a leased run."""
        self._host.post(self._begin, session, handler)

    def _begin(self, session: LocalSession, handler: Handler[Any]) -> None:
        # Not in the context of a task of another run, which would end this one with its own.
        task = Context().run(self._host.loop.create_task, self._invoke(session, handler))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _invoke(self, session: LocalSession, handler: Handler[Any]) -> None:
        try:
            if session.token > 1:
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(self._host.pool, self._worker.prepare, session)
            run = AsyncRun(session, handler.codec, self._clock, self._host)
            self._worker.active[session.run] = run
            if self._worker.closing:
                run.stopped = True
            ending = hold(run, handler, await run_handler(run, handler))
            await self._end(run, session, ending)
        except BaseException as error:
            self._worker.failed(session, error)
        finally:
            self._worker.ended(session)

    async def _end(self, run: AsyncRun, session: LocalSession, ending: Ending) -> None:
        future: asyncio.Future[None] = run.loop.create_future()

        def written(ticket: Ticket) -> None:
            if ticket.error is not None:
                future.set_exception(ticket.error)
            else:
                future.set_result(None)

        ticket = session.enqueue_end(
            run.journal.outbox.take(), ending, lambda ticket: self._host.post(written, ticket)
        )
        session.soon(ticket)
        await future
