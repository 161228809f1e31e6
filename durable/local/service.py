"""Which process runs what: runs are started, leased, given back, and taken from the dead."""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b, sha256
from typing import Any

from ..errors import ExecutionConflictError
from ..events import Event, EventKind
from ..operations import ErrorObject, OperationStatus
from . import rows
from .appends import Group, Held, completed, real_now
from .executions import Executions, closing_of, last_event
from .resuming import resume
from .session import LocalSession

_K = EventKind
STALL_LIMIT = 5
_TAKE = (
    "SELECT run, id, handler, coalesce(input, (SELECT data FROM blobs WHERE hash = blob)),"
    " seed, lease_token, stalls, deadline FROM executions"
)


@dataclass(frozen=True, slots=True)
class Start:
    """A run to be started; `timeout` in milliseconds."""

    id: str
    handler: str
    payload: str
    timeout: int
    source: str | None = None
    parent: tuple[int, str] | None = None


class LocalService(Executions):
    """What can be asked of the executions of one journal file."""

    def start(self, starts: Sequence[Start], *, take: int) -> list[LocalSession | None]:
        """Start runs in one transaction; lease the first `take` of the new ones at once."""
        return self.store.write(lambda c: self._start_all(c, starts, take))

    def _start_all(
        self, c: sqlite3.Connection, starts: Sequence[Start], take: int
    ) -> list[LocalSession | None]:
        sessions: list[LocalSession | None] = []
        for start in starts:
            session = self._start(c, start, lease=take > 0)
            take -= session is not None
            sessions.append(session)
        return sessions

    def _start(self, c: sqlite3.Connection, start: Start, *, lease: bool) -> LocalSession | None:
        digest = sha256(canonical(start.payload).encode()).digest()[:16]
        found = c.execute(
            "SELECT handler, digest FROM executions WHERE id = ?", (start.id,)
        ).fetchone()
        if found is not None:
            _check_same(start, found, digest)
            return None
        now = self.clock.now()
        blob, text = rows.store_payload(c, start.payload)
        seed = secrets.token_hex(8)
        parent_run, parent_op = start.parent or (None, None)
        since = now if lease else None
        cursor = c.execute(
            "INSERT INTO executions (id, handler, status, created, deadline, wake_at, lease_owner,"
            " lease_token, lease_until, lease_since, stalls, seed, source, parent_run, parent_op,"
            " digest, blob, input) VALUES (?,?,'RUNNING',?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (
                start.id,
                start.handler,
                now,
                now + start.timeout,
                None if lease else now,
                self.owner if lease else None,
                int(lease),
                real_now() + self.lease if lease else None,
                since,
                int(lease),
                seed,
                start.source,
                parent_run,
                parent_op,
                digest,
                blob,
                text,
            ),
        )
        run = cursor.lastrowid or 0
        if not lease:
            self.touch(run)
            return None
        return LocalSession(
            self,
            run,
            start.id,
            start.handler,
            start.payload,
            seed,
            1,
            stalls=0,
            deadline=now + start.timeout,
            since=now,
        )

    def child_starter(
        self, group: Group, session: LocalSession, event: Event
    ) -> Callable[[], None]:
        """Return what starts the run that a CHAINED_INVOKE asks for."""
        id = blake2b(f"{session.seed}\0{event.id}".encode(), digest_size=16).hexdigest()
        start = Start(
            id,
            event.function or "",
            event.payload or "null",
            366 * 86_400_000,
            parent=(session.run, event.id),
        )

        def start_child() -> None:
            c = group.connection
            found = c.execute("SELECT run, status FROM executions WHERE id = ?", (id,)).fetchone()
            if found is None:
                self._start(c, start, lease=False)
            elif found[1] in ("FAILED", "TIMED_OUT"):
                # The caller was resumed: what its callee has paid for stays paid.
                resume(self, c, id, ())
            elif found[1] != "RUNNING":
                self.tell_parent(c, found[0], closing_of(c, found[0]))

        return start_child

    def take(self, handlers: Sequence[str], limit: int) -> list[LocalSession]:
        """Lease runs of these handlers that are due."""
        return self.store.write(lambda c: self._take(c, handlers, limit))

    def _take(
        self, c: sqlite3.Connection, handlers: Sequence[str], limit: int
    ) -> list[LocalSession]:
        now = self.clock.now()
        names = ",".join("?" * len(handlers))
        due = c.execute(
            f"{_TAKE} WHERE wake_at <= ? AND handler IN ({names}) ORDER BY wake_at LIMIT ?",
            (now, *handlers, limit),
        ).fetchall()
        sessions = []
        for run, id, handler, payload, seed, token, stalls, deadline in due:
            if deadline <= now:
                self._time_out(c, run, now)
            elif stalls >= STALL_LIMIT:
                self._give_up(c, run, now, stalls)
            else:
                c.execute(
                    "UPDATE executions SET lease_owner = ?, lease_token = ?, lease_until = ?,"
                    " lease_since = ?, stalls = stalls + 1, wake_at = NULL WHERE run = ?",
                    (self.owner, token + 1, real_now() + self.lease, now, run),
                )
                sessions.append(
                    LocalSession(
                        self,
                        run,
                        id,
                        handler,
                        payload,
                        seed,
                        token + 1,
                        stalls=stalls,
                        deadline=deadline,
                        since=now,
                    )
                )
        return sessions

    def recover(self, is_dead: Callable[[str], bool]) -> bool:
        """Free the runs of dead processes and run-out leases; return whether others hold any."""
        with self.store.read() as c:
            owners = c.execute(
                "SELECT lease_owner, min(lease_until) FROM executions"
                " WHERE lease_owner IS NOT NULL AND lease_owner <> ? GROUP BY lease_owner",
                (self.owner,),
            ).fetchall()
        now = real_now()
        lost = [owner for owner, until in owners if until < now or is_dead(owner)]
        if lost:
            dead = {owner for owner in lost if is_dead(owner)}
            self.store.write(lambda c: self._free(c, lost, dead))
        return bool(owners)

    def _free(self, c: sqlite3.Connection, owners: Sequence[str], dead: set[str]) -> None:
        now, real = self.clock.now(), real_now()
        names = ",".join("?" * len(owners))
        held = c.execute(
            "SELECT run, lease_owner, lease_since, lease_token, lease_until, status"
            f" FROM executions WHERE lease_owner IN ({names})",
            tuple(owners),
        ).fetchall()
        for run, owner, since, token, until, status in held:
            if owner not in dead and until >= real:
                continue
            error = ErrorObject("the process ended during this invocation", "Runtime.ExitError")
            rows.insert(c, run, last_event(c, run), [completed(now, since, token, error)])
            self.release(c, run, status, now if status == "RUNNING" else None, 0)
            # Whoever held it and is not dead after all records nothing from now on.
            c.execute("UPDATE executions SET lease_token = lease_token + 1 WHERE run = ?", (run,))

    def renew(self) -> None:
        """Hold on to all leases of this process for another period."""
        until = real_now() + self.lease
        self.store.write(
            lambda c: (
                c.execute(
                    "UPDATE executions SET lease_until = ? WHERE lease_owner = ?",
                    (until, self.owner),
                )
                and None
            )
        )

    def extend(self, group: Group, run: int, held: Held) -> None:
        """Extend a lease along with an append, once a third of it is gone."""
        real = real_now()
        if held.until is not None and held.until - real < self.lease * 2 // 3:
            held.until = real + self.lease
            group.connection.execute(
                "UPDATE executions SET lease_until = ? WHERE run = ?", (held.until, run)
            )

    def release_all(
        self, c: sqlite3.Connection, releases: Sequence[tuple[int, int | None]]
    ) -> None:
        """Give back the leases of runs that were suspended, each with its time to wake."""
        for first in range(0, len(releases), 64):
            some = releases[first : first + 64]
            marks = ",".join(["(?,?)"] * len(some))
            c.execute(
                "UPDATE executions SET lease_owner = NULL, lease_until = NULL, lease_since = NULL,"
                f" stalls = 0, wake_at = w.column2 FROM (VALUES {marks}) AS w"
                " WHERE run = w.column1",
                [value for release in some for value in release],
            )
        for run, _ in releases:
            self.touch(run)

    def release(
        self, c: sqlite3.Connection, run: int, status: str, wake: int | None, kept: int | None
    ) -> None:
        """Give a lease back; `kept` is None where the invocation ended well, which ends a stall."""
        stalls = "0" if kept is None else "stalls"
        c.execute(
            "UPDATE executions SET lease_owner = NULL, lease_until = NULL, lease_since = NULL,"
            f" wake_at = ?, stalls = {stalls}, status = ? WHERE run = ?",
            (wake, status, run),
        )
        self.touch(run)

    def hand_back(self, session: LocalSession, *, later: int) -> None:
        """Give up a leased run without an outcome, to be invoked again after `later` ms."""

        def work(c: sqlite3.Connection) -> None:
            row = c.execute(
                "SELECT status FROM executions WHERE run = ? AND lease_token = ? AND"
                " lease_owner IS NOT NULL",
                (session.run, session.token),
            ).fetchone()
            if row is not None:
                now = self.clock.now()
                event = completed(now, session.since, session.token)
                rows.insert(c, session.run, last_event(c, session.run), [event])
                wake = now + later if row[0] == "RUNNING" else None
                self.release(c, session.run, row[0], wake, 0 if later else None)

        self.store.write(work)

    def _time_out(self, c: sqlite3.Connection, run: int, now: int) -> None:
        error = ErrorObject("the run passed the timeout of its handler", "Execution.Timeout")
        self._close(c, run, Event(_K.EXECUTION_TIMED_OUT, now, error=error))

    def _give_up(self, c: sqlite3.Connection, run: int, now: int, stalls: int) -> None:
        flying = [
            operation
            for operation in self.operations(c, run).values()
            if operation.status is OperationStatus.STARTED and operation.type == "STEP"
        ]
        what = ", ".join(f"{each.subtype} {each.name!r}" for each in flying)
        error = ErrorObject(
            f"{stalls} invocations in a row ended without an outcome and recorded nothing new; in "
            f"flight: {what or 'no step'}. Mend what kills the process, then resume",
            "perdure.NoProgress",
            f"perdure:{flying[0].id}" if flying else None,
        )
        self._close(c, run, Event(_K.EXECUTION_FAILED, now, error=error))

    def _close(self, c: sqlite3.Connection, run: int, closing: Event) -> None:
        rows.insert(c, run, last_event(c, run), [closing])
        self.conclude(c, run, closing)


def _check_same(start: Start, found: tuple[Any, ...], digest: bytes) -> None:
    handler, known = found
    if handler != start.handler:
        raise ExecutionConflictError(
            f"the execution {start.id!r} exists and runs {handler!r}, not {start.handler!r}; "
            "choose another id"
        )
    if known != digest:
        raise ExecutionConflictError(
            f"the execution {start.id!r} exists with another input; the same id and input return "
            "the same execution, another input needs another id"
        )


def canonical(payload: str) -> str:
    """Return JSON text with its keys in order, so that equal inputs compare equal."""
    return json.dumps(json.loads(payload), ensure_ascii=False, sort_keys=True)
