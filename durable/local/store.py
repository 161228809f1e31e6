"""The file behind the service: one connection that writes, a few that read, one commit for many.

All work that writes is queued and done in groups: each piece in a savepoint of its own, all of them
in one transaction. A piece that fails by its own fault fails alone; a commit that fails undoes all,
and each piece is then tried by itself, so that only those that cannot be written fail.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import TypeVar

from ..errors import JournalError, PerdureError
from ..group_commit import GroupCommit, Ticket
from .appends import Append, End, write_together
from .schema import connect, journal_error, open_journal

T = TypeVar("T")


class Store:
    """One journal file, open for reading and writing by the threads of this process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.after_commit: Callable[[], None] | None = None
        self._connection = open_journal(path)
        self.group = GroupCommit(self._write)
        self._readers: list[sqlite3.Connection] = []
        self._guard = threading.Lock()
        self._closed = False
        self._writes_left: int | None = None
        self._death: Exception | None = None

    @property
    def killed(self) -> bool:
        """Whether `kill_after` has struck."""
        return self._writes_left is not None and self._writes_left < 0

    def kill_after(self, writes: int, error: Exception) -> None:
        """Let so many more transactions pass, then fail each with this error."""
        self._writes_left, self._death = writes, error

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do work in a transaction, with whatever else waits; return its result once durable."""
        self._check_open()
        result: T = self.group.run(work)
        return result

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection for reading; no cursor of it may outlive the block."""
        self._check_open()
        with self._guard:
            connection = self._readers.pop() if self._readers else None
        if connection is None:
            connection = connect(self.path)
        try:
            yield connection
        except sqlite3.Error as error:
            connection.close()
            raise journal_error(self.path, error) from error
        except BaseException:
            self._give_back(connection)
            raise
        self._give_back(connection)

    def close(self) -> None:
        """Write what is queued and close the file."""
        if self._closed:
            return
        self._closed = True
        self.group.close()
        with self._guard:
            for connection in (*self._readers, self._connection):
                connection.close()

    def _count_down(self) -> None:
        if self._writes_left is not None:
            self._writes_left -= 1
            if self._writes_left < 0 and self._death is not None:
                raise self._death

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._guard:
            if self._closed or len(self._readers) >= 8:
                connection.close()
            else:
                self._readers.append(connection)

    def _check_open(self) -> None:
        if self._closed:
            raise JournalError(f"the engine on {self.path} is closed")

    def _write(self, tickets: list[Ticket]) -> None:
        self._write_all(tickets)
        if self.after_commit is not None:
            self.after_commit()

    def _write_all(self, tickets: list[Ticket]) -> None:
        try:
            self._transaction(tickets)
        except sqlite3.Error as error:
            if len(tickets) > 1:
                for ticket in tickets:
                    ticket.error = None
                    self._write_all([ticket])
                return
            tickets[0].error = journal_error(self.path, error)
        except BaseException as error:
            if len(tickets) > 1:
                for ticket in tickets:
                    ticket.error = None
                    self._write_all([ticket])
                return
            tickets[0].error = error

    def _transaction(self, tickets: list[Ticket]) -> None:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            for together, some in groupby(tickets, _is_session_write):
                if together:
                    write_together(connection, list(some))
                else:
                    for ticket in some:
                        self._piece(connection, ticket)
            self._count_down()
            connection.execute("COMMIT")
        except BaseException:
            for ticket in reversed(tickets):
                if _is_session_write(ticket):
                    ticket.work.undo()
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _piece(self, connection: sqlite3.Connection, ticket: Ticket) -> None:
        connection.execute("SAVEPOINT piece")
        try:
            ticket.result = ticket.work(connection)
        except PerdureError as error:
            ticket.error = error
            connection.execute("ROLLBACK TO piece")
        connection.execute("RELEASE piece")


def _is_session_write(ticket: Ticket) -> bool:
    return isinstance(ticket.work, Append | End)
