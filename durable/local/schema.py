"""The journal file: its tables, its version, and how a connection to it is opened.

    executions   a row per run. `status`, `wake_at`, the lease and `stalls` serve look-up and
                 scheduling; what happened is in `events`, from which they can be rebuilt.
                 `wake_at` is when the run is to be invoked (milliseconds), NULL while it is leased,
                 waits for an event only, or has ended. `lease_token` grows with each invocation
                 and each lease that is lost: whoever appends proves the token it was given.
                 `lease_until` is real time, in milliseconds.
    events       append-only, in order of `seq` within a run. A step's start and end that were
                 written together are one row (`started`). `detail` is JSON of the rarer fields.
    blobs        payloads over 4 KiB, and the texts of chains, once each, by SHA-256.
    chains       texts in an order, as the last one and the chain before it: what begins alike is
                 stored once. `events.chain` names the last link.
    open_callbacks   a row for each open callback of a run that goes on, newest at the largest
                 `number`: how they are found among all runs. Derived: written along with the
                 events that open, move and close a callback or end its run, taken up anew when a
                 run is resumed, and rebuilt from `events` when an older file is brought up.
                 Whether a callback is open is always decided by its own events.

A file is ours if its application id says so; its `user_version` is the version of this layout.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from ..errors import JournalError
from .files import APPLICATION_ID, check_journal_file

VERSION = 3
BLOB_BYTES = 4096

_SCHEMA = """
CREATE TABLE executions (
  run INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  handler TEXT NOT NULL,
  status TEXT NOT NULL,
  created INTEGER NOT NULL,
  ended INTEGER,
  deadline INTEGER NOT NULL,
  wake_at INTEGER,
  lease_owner TEXT,
  lease_token INTEGER NOT NULL DEFAULT 0,
  lease_until INTEGER,
  lease_since INTEGER,
  stalls INTEGER NOT NULL DEFAULT 0,
  seed TEXT NOT NULL,
  source TEXT,
  parent_run INTEGER,
  parent_op TEXT,
  digest BLOB NOT NULL,
  blob BLOB,
  input TEXT
);
CREATE INDEX executions_due ON executions (wake_at) WHERE wake_at IS NOT NULL;
CREATE INDEX executions_leased ON executions (lease_owner) WHERE lease_owner IS NOT NULL;
CREATE TABLE events (
  run INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  kind TEXT NOT NULL,
  at INTEGER NOT NULL,
  op TEXT,
  parent TEXT,
  name TEXT,
  subtype TEXT,
  started INTEGER,
  attempt INTEGER,
  detail TEXT,
  blob BLOB,
  payload TEXT,
  PRIMARY KEY (run, seq)
) WITHOUT ROWID;
CREATE INDEX events_blob ON events (blob) WHERE blob IS NOT NULL;
CREATE TABLE blobs (hash BLOB PRIMARY KEY, data TEXT NOT NULL) WITHOUT ROWID;
"""
_SINCE_2 = """
ALTER TABLE events ADD COLUMN chain BLOB;
CREATE INDEX events_chain ON events (chain) WHERE chain IS NOT NULL;
CREATE TABLE chains (hash BLOB PRIMARY KEY, before BLOB, text BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX chains_before ON chains (before) WHERE before IS NOT NULL;
CREATE INDEX chains_text ON chains (text);
"""
_SINCE_3 = """
CREATE TABLE open_callbacks (
  number INTEGER PRIMARY KEY,
  run INTEGER NOT NULL,
  op TEXT NOT NULL,
  parent TEXT,
  name TEXT,
  subtype TEXT,
  opened INTEGER NOT NULL,
  due INTEGER,
  deadline INTEGER,
  heartbeat INTEGER,
  UNIQUE (run, op)
);
"""


def open_journal(path: Path) -> sqlite3.Connection:
    """Return a connection for writing to the journal, made if it does not exist.

    Raises:
        JournalError: the file is damaged, foreign, newer than this perdure, or not writable.
    """
    check_journal_file(path, VERSION)
    connection = connect(path)
    try:
        _check_or_create(connection, path)
        connection.execute("PRAGMA journal_mode = WAL").fetchone()
        connection.execute("PRAGMA synchronous = FULL")
    except sqlite3.Error as error:
        connection.close()
        raise journal_error(path, error) from error
    except BaseException:
        connection.close()
        raise
    return connection


def connect(path: Path) -> sqlite3.Connection:
    """Return a plain connection, whose statements commit by themselves."""
    try:
        connection = sqlite3.connect(
            path, timeout=30, isolation_level=None, check_same_thread=False, cached_statements=64
        )
    except sqlite3.Error as error:
        raise journal_error(path, error) from error
    return connection


def journal_error(path: Path, error: Exception) -> JournalError:
    """Return an SQLite error in words that name the file and the cure."""
    text = str(error)
    cures = {
        "full": "free some space; nothing was half-written, the run can be resumed",
        "readonly": "make the file and its folder writable; nothing was written",
        "unable to open": "check that the folder exists and is writable",
        "malformed": "the file is damaged; restore a copy, or look with `sqlite3 … .recover`",
        "not a database": "this is not a perdure journal; name another file",
        "disk i/o": "the disk failed; check it, and restore a copy if the file is damaged",
        "locked": "another program holds the file; close it and try again",
    }
    cure = next((cure for word, cure in cures.items() if word in text.lower()), "see the cause")
    return JournalError(f"the journal {path} cannot be used: {text}; {cure}")


def _check_or_create(connection: sqlite3.Connection, path: Path) -> None:
    application, version = _identity(connection)
    empty = application == 0 and version == 0 and not _tables(connection)
    if empty or (application == APPLICATION_ID and version < VERSION):
        connection.execute("PRAGMA journal_mode = WAL").fetchone()
        connection.execute("BEGIN IMMEDIATE")
        try:
            _bring_up(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        application, version = _identity(connection)
    if application != APPLICATION_ID:
        raise JournalError(
            f"{path} is an SQLite file of another program (application id {application:#x}), not "
            "a perdure journal; it was not touched. Name another file"
        )
    if version > VERSION:
        raise JournalError(
            f"the journal {path} was written by a newer perdure (layout {version}; this one knows "
            f"{VERSION}); it was not touched. Upgrade perdure"
        )


def _bring_up(connection: sqlite3.Connection) -> None:
    """Make the tables of this layout, or add to an older one; another process may have done so."""
    if not _tables(connection):
        _execute(connection, _SCHEMA)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    version = _identity(connection)[1]
    if version < 2:
        _execute(connection, _SINCE_2)
    if version < 3:
        from .callbacks import take_up_all

        _execute(connection, _SINCE_3)
        take_up_all(connection)
    if version < VERSION:
        connection.execute(f"PRAGMA user_version = {VERSION}")


def _execute(connection: sqlite3.Connection, statements: str) -> None:
    for statement in statements.split(";\n"):
        connection.execute(statement)


def _identity(connection: sqlite3.Connection) -> tuple[int, int]:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    return application, version


def _tables(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
