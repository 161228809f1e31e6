"""Is this file fit to be a journal? Asked before SQLite opens it for good.

`check_journal_file` refuses, with the file untouched, what cannot or must not be a journal: a
directory, a file that is no SQLite database, another program's database, a newer perdure's, a file
that cannot be written, and a file system shared over a network, where SQLite's shared memory and
locks do not hold. Only then does it create the directory. Network file systems are recognised on
Linux by the type of the mount; elsewhere, and for the folders that a virtual machine shares with
its host (9p, virtiofs), they are the user's care.

The header is read through SQLite in its immutable mode, which takes no lock and creates no file.
To open and close the file ourselves would do harm: POSIX drops every lock a process has on a file
when it closes *any* descriptor of it, so those of another engine in this process would be gone.
"""

from __future__ import annotations

import os
import re
import sqlite3
import stat
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from perdure.durable.errors import JournalError

APPLICATION_ID = 0x70726472  # "prdr": marks an SQLite file as a journal of perdure

_NETWORK = re.compile(
    r"afs|auristorfs|beegfs|ceph|cifs|coda|davfs|gcsfuse|gfs2|glusterfs|gpfs|juicefs|lustre|"
    r"mount-s3|ncpfs|nfs|nfs4|ocfs2|orangefs|panfs|pvfs2|rclone|s3fs|smb2|smb3|smbfs|sshfs|wekafs"
)
_SMALLEST = 512  # bytes of an SQLite file with one page of the least size
_MOUNTS = Path("/proc/self/mountinfo")


@dataclass(frozen=True, slots=True)
class Header:
    """What an SQLite file says of itself.

    `empty` means that it never held a table. `settled` is False while a `-wal` or `-journal`
    beside the file may hold a newer header: check again, through SQLite, once it is open.
    """

    application_id: int
    user_version: int
    empty: bool
    settled: bool = True


def check_journal_file(path: Path, schema: int | None = None) -> Header | None:
    """Raise `JournalError` unless `path` can hold a journal; create its directory if it can.

    `schema` is the newest version (`user_version`) the caller knows. Returns `read_header(path)`.
    """
    real = Path(os.path.realpath(path))
    _check_filesystem(real)
    _check_file(real)
    header = read_header(real)
    if header is not None:
        check_header(real, header, schema)
    make_directory(real.parent)
    return header


def read_header(path: Path) -> Header | None:
    """Read the header of an SQLite file without a trace; None if nothing is there yet."""
    real = Path(os.path.realpath(path))
    settled = not any(_size(f"{real}{suffix}") for suffix in ("-wal", "-journal"))
    size = _size(real)
    if not size:
        return None if settled or not real.exists() else Header(0, 0, empty=True, settled=False)
    try:
        if size < _SMALLEST:  # SQLite takes a file of one byte for a new database
            raise sqlite3.DatabaseError("file is not a database")
        with closing(sqlite3.connect(f"{real.as_uri()}?mode=ro&immutable=1", uri=True)) as db:
            application_id, user_version, changes = (
                db.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("application_id", "user_version", "schema_version")
            )
    except sqlite3.DatabaseError as error:
        raise JournalError(
            f"{path} cannot be read as a journal: {error}; it was left as it is, "
            "give the journal a path of its own"
        ) from error
    return Header(application_id, user_version, changes == 0, settled)


def check_header(path: Path, header: Header, schema: int | None = None) -> None:
    """Raise `JournalError` if the file is another program's or a newer perdure's.

    An unsettled header without an application id passes: what it lacks may be in the `-wal`.
    """
    ours = header.application_id == APPLICATION_ID
    if not ours and (header.application_id or (header.settled and not header.empty)):
        raise JournalError(
            f"{path} is another program's SQLite database (application id "
            f"{header.application_id:#x}, a journal has {APPLICATION_ID:#x}); it was left as it "
            "is, give the journal a path of its own"
        )
    if ours and schema is not None and header.user_version > schema:
        raise JournalError(
            f"{path} was written by a newer perdure: its schema is version "
            f"{header.user_version}, this one knows up to {schema}; upgrade perdure, "
            "or use another journal"
        )


def make_directory(directory: Path) -> None:
    """Create a journal's directory, for its owner only; a new `.perdure` is ignored by git."""
    if not os.path.isdir(directory):
        try:
            os.makedirs(directory.parent, exist_ok=True)
            with suppress(FileExistsError):  # another process was faster
                os.mkdir(directory, 0o700)
                if directory.name == ".perdure":
                    (directory / ".gitignore").write_text("*\n")
        except OSError as error:
            raise JournalError(
                f"the journal's directory {directory} cannot be created: {error.strerror}"
            ) from error
    if not os.path.isdir(directory):
        raise JournalError(f"the journal's directory {directory} is a file")
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        raise JournalError(
            f"the journal's directory {directory} cannot be written by this user; "
            "SQLite keeps files beside the journal"
        )


def _check_filesystem(path: Path) -> None:
    try:
        mounts = _MOUNTS.read_text(errors="surrogateescape")
    except OSError:  # not Linux
        return
    kind = _filesystem(path, mounts)
    if _NETWORK.fullmatch(kind.removeprefix("fuse.")):
        raise JournalError(
            f"{path} is on a network file system ({kind}), where SQLite cannot protect a journal "
            "shared by processes; put it on a local disk"
        )


def _filesystem(path: Path, mounts: str) -> str:
    """Find the type of the mount that `path` is under, in the text of a `mountinfo`."""
    above = (path, *path.parents)
    found, depth = "", 0
    for line in filter(None, mounts.split("\n")):
        mount, _, source = line.partition(" - ")
        point = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), mount.split(" ")[4])
        parts = len(Path(point).parts)
        if parts >= depth and Path(point) in above:  # of two on one point, the later covers
            found, depth = source.split(" ")[0], parts
    return found


def _check_file(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except OSError:  # not there, or out of reach: then so is its directory
        return
    if stat.S_ISDIR(mode):
        raise JournalError(f"{path} is a directory; name a file, like {path / 'journal.db'}")
    if not stat.S_ISREG(mode):
        raise JournalError(f"{path} is not a regular file; give the journal a path of its own")
    if not os.access(path, os.R_OK | os.W_OK):
        raise JournalError(f"{path} cannot be read and written by this user")


def _size(path: Path | str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
