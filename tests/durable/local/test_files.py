"""The checks on a journal's file before SQLite opens it for good."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from perdure.durable.errors import JournalError
from perdure.durable.local import files
from perdure.durable.local.files import (
    APPLICATION_ID,
    Header,
    check_header,
    check_journal_file,
    make_directory,
    read_header,
)

NOBODY = 65534

VISIT = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute("SELECT * FROM events").fetchall()
db.close()
"""


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A directory that any user can reach; `tmp_path` is closed to all but its owner."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def unprivileged() -> Iterator[None]:
    """Run as an ordinary user: root may write anywhere."""
    if os.getuid() != 0:
        yield
        return
    if not hasattr(os, "setresuid"):
        pytest.skip("runs as root, and cannot stop being it for a while")
    os.setresuid(NOBODY, NOBODY, 0)
    yield
    os.setresuid(0, 0, 0)


def database(path: Path, *statements: str) -> Path:
    with closing(sqlite3.connect(path)) as db:
        for statement in statements:
            db.execute(statement)
        db.commit()
    return path


def journal(path: Path, version: int = 1) -> Path:
    return database(
        path,
        "PRAGMA journal_mode=WAL",
        f"PRAGMA application_id={APPLICATION_ID}",
        f"PRAGMA user_version={version}",
        "CREATE TABLE events (id)",
    )


def contents(directory: Path) -> dict[str, tuple[bytes, int]]:
    return {
        entry.name: (entry.read_bytes(), entry.stat().st_mtime_ns)
        for entry in directory.iterdir()
        if entry.is_file()
    }


def test_a_path_where_nothing_is_yet_can_become_a_journal(tmp_path: Path) -> None:
    assert check_journal_file(tmp_path / "journal.db") is None
    assert list(tmp_path.iterdir()) == []


def test_an_empty_file_can_become_a_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    path.touch()
    assert check_journal_file(path) is None


def test_a_database_that_never_held_a_table_can_become_a_journal(tmp_path: Path) -> None:
    path = database(tmp_path / "journal.db", "PRAGMA journal_mode=WAL")
    assert path.stat().st_size > 0
    assert check_journal_file(path) == Header(0, 0, empty=True)


def test_a_journal_is_accepted_and_not_touched(tmp_path: Path) -> None:
    path = journal(tmp_path / "journal.db", version=3)
    before = contents(tmp_path)
    assert check_journal_file(path, schema=3) == Header(APPLICATION_ID, 3, empty=False)
    assert contents(tmp_path) == before


def test_the_header_is_the_one_at_its_place_in_the_file(tmp_path: Path) -> None:
    path = journal(tmp_path / "journal.db", version=7)
    data = path.read_bytes()
    assert data[68:72] == b"prdr"
    assert int.from_bytes(data[60:64], "big") == 7
    assert read_header(path) == Header(APPLICATION_ID, 7, empty=False)


@pytest.mark.parametrize("name", ["a b.db", "50%?x=1#y.db", "jöurnal.db", "-.db"])
def test_any_file_name_will_do(tmp_path: Path, name: str) -> None:
    path = journal(tmp_path / name)
    assert check_journal_file(path) == Header(APPLICATION_ID, 1, empty=False)


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="is a directory; name a file"):
        check_journal_file(tmp_path)


def test_what_is_not_a_regular_file_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(JournalError, match="not a regular file"):
        check_journal_file(tmp_path / "fifo")


@pytest.mark.parametrize(
    "data",
    [
        b"x",
        b"id,amount\n1,20\n" * 1000,
        bytes(8192),
        b"SQLite format 3\0",
        b"SQLite format 3\0" + bytes(4080),
    ],
    ids=["a letter", "a table", "zeros", "a header cut off", "a header zeroed"],
)
def test_a_file_that_is_no_database_is_refused_and_kept(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(data)
    before = contents(tmp_path)
    with pytest.raises(JournalError, match=r"journal\.db cannot be read as a journal"):
        check_journal_file(path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("application_id", [0, 252006673])
@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_another_programs_database_is_refused_and_kept(
    tmp_path: Path, application_id: int, mode: str
) -> None:
    path = database(
        tmp_path / "places.db",
        f"PRAGMA journal_mode={mode}",
        f"PRAGMA application_id={application_id}",
        "CREATE TABLE places (id)",
    )
    before = contents(tmp_path)
    with pytest.raises(JournalError, match="another program's SQLite database"):
        check_journal_file(path)
    assert contents(tmp_path) == before


def test_a_newer_perdures_journal_is_refused(tmp_path: Path) -> None:
    path = journal(tmp_path / "journal.db", version=4)
    with pytest.raises(JournalError, match="version 4, this one knows up to 3; upgrade perdure"):
        check_journal_file(path, schema=3)


def test_an_older_perdures_journal_is_left_to_the_caller(tmp_path: Path) -> None:
    path = journal(tmp_path / "journal.db", version=2)
    assert check_journal_file(path, schema=3) == Header(APPLICATION_ID, 2, empty=False)


def test_a_header_that_may_still_be_in_the_wal_is_not_settled(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute(f"PRAGMA application_id={APPLICATION_ID}")
        db.execute("CREATE TABLE events (id)")
        db.commit()
        assert check_journal_file(path) == Header(0, 0, empty=True, settled=False)
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert check_journal_file(path) == Header(APPLICATION_ID, 0, empty=False)


def test_an_empty_file_with_a_wal_is_not_settled(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    path.touch()
    (tmp_path / "journal.db-wal").write_bytes(b"frames")
    assert check_journal_file(path) == Header(0, 0, empty=True, settled=False)


def test_what_the_wal_cannot_change_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with pytest.raises(JournalError, match="another program"):
        check_header(path, Header(5, 0, empty=True, settled=False))
    with pytest.raises(JournalError, match="newer perdure"):
        check_header(path, Header(APPLICATION_ID, 9, empty=False, settled=False), schema=1)
    check_header(path, Header(0, 0, empty=False, settled=False))


def test_a_journal_open_in_this_process_keeps_its_locks(tmp_path: Path) -> None:
    """Without them, whoever closes the file next takes the log away from under its writer."""
    path = tmp_path / "journal.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("CREATE TABLE events (id)")
        db.commit()
        check_journal_file(path)
        subprocess.run([sys.executable, "-c", VISIT, path], check=True, timeout=60)
        assert (tmp_path / "journal.db-wal").exists()


def test_a_link_is_followed_to_the_journal(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    journal(tmp_path / "real" / "journal.db")
    link = tmp_path / "journal.db"
    link.symlink_to(tmp_path / "real" / "journal.db")
    (tmp_path / "real" / "journal.db-wal").write_bytes(b"frames")
    assert check_journal_file(link) == Header(APPLICATION_ID, 1, empty=False, settled=False)


def test_a_new_directory_is_for_its_owner_only_and_ignored_by_git(tmp_path: Path) -> None:
    directory = tmp_path / "project" / ".perdure"
    check_journal_file(directory / "journal.db")
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert (directory / ".gitignore").read_text() == "*\n"
    assert [entry.name for entry in directory.iterdir()] == [".gitignore"]


def test_a_directory_of_another_name_gets_no_gitignore(tmp_path: Path) -> None:
    check_journal_file(tmp_path / "data" / "journal.db")
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    assert list((tmp_path / "data").iterdir()) == []


def test_a_directory_that_was_there_stays_as_it_is(tmp_path: Path) -> None:
    directory = tmp_path / ".perdure"
    directory.mkdir(0o750)
    make_directory(directory)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o750
    assert list(directory.iterdir()) == []


def test_a_refused_path_creates_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_mounts(monkeypatch, tmp_path, f"{tmp_path} - nfs4 server:/x rw")
    with pytest.raises(JournalError):
        check_journal_file(tmp_path / ".perdure" / "journal.db")
    assert not (tmp_path / ".perdure").exists()


@pytest.mark.parametrize("inside", ["file/journal.db", "file/more/journal.db"])
def test_a_file_where_the_directory_should_be_is_refused(tmp_path: Path, inside: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(JournalError, match=r"directory .* (is a file|cannot be created)"):
        check_journal_file(tmp_path / inside)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.fixture
def read_only_directory(open_to_all: Path) -> Iterator[Path]:
    open_to_all.chmod(0o555)
    yield open_to_all
    open_to_all.chmod(0o755)


def test_a_directory_that_cannot_be_created_is_refused(
    read_only_directory: Path, unprivileged: None
) -> None:
    with pytest.raises(JournalError, match="cannot be created: Permission denied"):
        check_journal_file(read_only_directory / ".perdure" / "journal.db")


def test_a_directory_that_cannot_be_written_is_refused(
    read_only_directory: Path, unprivileged: None
) -> None:
    with pytest.raises(JournalError, match="cannot be written by this user"):
        check_journal_file(read_only_directory / "journal.db")


@pytest.fixture
def read_only_journal(open_to_all: Path) -> Path:
    path = journal(open_to_all / "journal.db")
    path.chmod(0o444)
    return path


def test_a_file_that_cannot_be_written_is_refused(
    read_only_journal: Path, unprivileged: None
) -> None:
    with pytest.raises(JournalError, match="cannot be read and written by this user"):
        check_journal_file(read_only_journal)


def pretend_mounts(monkeypatch: pytest.MonkeyPatch, directory: Path, *mounts: str) -> None:
    """Each mount: its point and what follows it in a line of `mountinfo`."""
    lines = ["22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw"]
    lines += [f"{n} 22 0:{n} / {mount}" for n, mount in enumerate(mounts, 30)]
    (directory / "mountinfo").write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(files, "_MOUNTS", directory / "mountinfo")


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "ceph", "lustre"])
def test_a_network_file_system_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    (tmp_path / "share").mkdir()
    pretend_mounts(
        monkeypatch, tmp_path, f"{tmp_path}/share rw shared:9 master:1 - {kind} server:/x rw"
    )
    with pytest.raises(JournalError, match=rf"network file system \({kind}\)"):
        check_journal_file(tmp_path / "share" / "new" / "journal.db")
    check_journal_file(tmp_path / "share-of-mine.db")


@pytest.mark.parametrize("kind", ["ext4", "9p", "virtiofs", "overlay", "tmpfs", "fuse.ntfs-3g"])
def test_a_local_file_system_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    pretend_mounts(monkeypatch, tmp_path, f"{tmp_path} rw - {kind} none rw")
    check_journal_file(tmp_path / "journal.db")


def test_the_innermost_and_latest_mount_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Path(os.path.realpath(tmp_path))
    (home / "a b").mkdir()
    point = f"{home}/a\\040b"
    pretend_mounts(
        monkeypatch,
        tmp_path,
        f"{point}/disk rw - ext4 /dev/sdb rw",
        f"{point} rw - autofs auto rw",
        f"{point} rw - nfs server:/x rw",
    )
    with pytest.raises(JournalError, match=r"\(nfs\)"):
        check_journal_file(home / "a b" / "journal.db")
    check_journal_file(home / "a b" / "disk" / "journal.db")


def test_this_machines_own_mounts_can_be_read(tmp_path: Path) -> None:
    if not files._MOUNTS.exists():
        pytest.skip("no /proc here")
    assert files._filesystem(tmp_path, files._MOUNTS.read_text())
