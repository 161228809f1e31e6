"""A full disk, a file that cannot be written, a file that is no journal: clear errors, no harm."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from perdure.durable import (
    AsyncContext,
    Context,
    JournalError,
    LocalEngine,
    durable_execution,
)

from ...waiting import until

NOBODY = 65534
TIMEOUT = 30.0
_ran: list[str] = []
_go = threading.Event()


def note(name: str) -> str:
    _ran.append(name)
    return name


def large(letter: str = "x") -> str:
    _ran.append("large")
    assert _go.wait(TIMEOUT)
    return letter * 400_000


@durable_execution(name="large")
def sync_large(event: Any, context: Context) -> list[Any]:
    small = context.step("small", note, "small")
    return [
        small,
        len(context.step("large", large, *event or ())),
        context.step("last", note, "last"),
    ]


@durable_execution(name="large.async")
async def async_large(event: Any, context: AsyncContext) -> list[Any]:
    small = await context.step("small", note, "small")
    length = len(await context.step("large", large, *event or ()))
    return [small, length, await context.step("last", note, "last")]


@pytest.fixture(autouse=True)
def _again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.durable.local.worker.AGAIN", 200)
    _ran.clear()
    _go.set()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    point = tmp_path / "disk"
    point.mkdir()
    mount = shutil.which("mount")
    made = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=1500k", "tmpfs", point], capture_output=True, check=False
    )
    if not made or made.returncode:
        pytest.skip("cannot mount a small file system here")
    yield point
    subprocess.run(["umount", "-l", point], check=True)


def fill(disk: Path, leave: int) -> Path:
    """Write a file that leaves so many bytes free."""
    filler = disk / "filler"
    stat = os.statvfs(disk)
    with filler.open("wb") as file:
        file.write(bytes(max(0, stat.f_bavail * stat.f_frsize - leave)))
    return filler


def integrity(path: Path) -> str:
    with closing(sqlite3.connect(path)) as db:
        return str(db.execute("PRAGMA integrity_check").fetchone()[0])


def kinds(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as db:
        return [kind for (kind,) in db.execute("SELECT kind FROM events ORDER BY run, seq")]


@pytest.mark.parametrize("handler", [sync_large, async_large], ids=["sync", "async"])
@pytest.mark.parametrize("leave", [0, 200_000])
def test_a_full_disk_is_a_clear_error_and_the_run_goes_on_when_there_is_space(
    disk: Path, handler: Any, leave: int
) -> None:
    path = disk / "journal.db"
    with LocalEngine(path, [handler]) as engine:
        assert engine.start(handler, "a", "before").result(timeout=TIMEOUT)[1] == 400_000
        _ran.clear()
        _go.clear()
        run = engine.start(handler, "b", "run")
        until(lambda: "large" in _ran)
        filler = fill(disk, leave)
        _go.set()
        with pytest.raises(JournalError, match=r"journal\.db .*full.*free some space"):
            run.result(timeout=TIMEOUT)
        assert integrity(path) == "ok"
        assert run.status == "RUNNING"
        filler.unlink()
        assert eventually(run) == ["small", 400_000, "last"]
    assert (_ran.count("small"), _ran.count("last")) == (1, 1)
    assert integrity(path) == "ok"


def eventually(run: Any) -> Any:
    """Return a run's result; what it met while the disk was full may still come first."""
    for _ in range(100):
        try:
            return run.result(timeout=TIMEOUT)
        except JournalError:
            continue
    raise AssertionError("the run does not recover")


@pytest.mark.parametrize("handler", [sync_large, async_large], ids=["sync", "async"])
def test_a_journal_that_may_not_grow_is_a_clear_error(tmp_path: Path, handler: Any) -> None:
    path = tmp_path / "journal.db"
    with LocalEngine(path, [handler]) as engine:
        connection = engine._store._connection
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        most = connection.execute("PRAGMA max_page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 4}")
        run = engine.start(handler, None, "run")
        with pytest.raises(JournalError, match=r"journal\.db .*full.*free some space"):
            run.result(timeout=TIMEOUT)
        assert integrity(path) == "ok"
        assert kinds(path)[0] == "StepSucceeded"
        assert "x" * 100 not in path.read_text(errors="replace")
        connection.execute(f"PRAGMA max_page_count = {most}")
        assert eventually(run) == ["small", 400_000, "last"]
    assert _ran.count("small") == 1, "what was recorded before the disk was full ran again"


def test_a_run_cannot_be_started_on_a_full_disk_and_can_afterwards(disk: Path) -> None:
    with LocalEngine(disk / "journal.db", [sync_large]) as engine:
        filler = fill(disk, 0)
        with pytest.raises(JournalError, match=r"journal\.db .*full.*free some space"):
            engine.start(sync_large, ["y" * 300_000], "run")
        assert engine.list() == []
        filler.unlink()
        assert engine.start(sync_large, "z", "run").result(timeout=TIMEOUT)[1] == 400_000


def test_one_run_too_large_for_the_disk_does_not_fail_those_beside_it(tmp_path: Path) -> None:
    together = threading.Barrier(5)

    def wait_and(value: str) -> str:
        together.wait(TIMEOUT)
        return value

    @durable_execution(name="beside")
    def beside(event: int, context: Context) -> int:
        return len(context.step("one", wait_and, "x" * event))

    with LocalEngine(tmp_path / "journal.db", [beside]) as engine:
        connection = engine._store._connection
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 20}")
        small = [engine.start(beside, n + 1, f"small-{n}") for n in range(4)]
        large = engine.start(beside, 1_000_000, "large")
        assert [run.result(timeout=TIMEOUT) for run in small] == [1, 2, 3, 4]
        with pytest.raises(JournalError, match="full"):
            large.result(timeout=TIMEOUT)
        together.abort()


def test_a_new_journal_on_a_full_disk_is_a_clear_error(disk: Path) -> None:
    path = disk / "journal.db"
    filler = fill(disk, 0)
    with pytest.raises(JournalError, match=r"disk"), LocalEngine(path, [sync_large]):
        pass
    filler.unlink()
    with LocalEngine(path, [sync_large]) as engine:
        assert engine.start(sync_large).result(timeout=TIMEOUT)[0] == "small"


@pytest.mark.parametrize("handler", [sync_large, async_large], ids=["sync", "async"])
def test_a_journal_that_becomes_read_only_is_a_clear_error(tmp_path: Path, handler: Any) -> None:
    path = tmp_path / "journal.db"
    with LocalEngine(path, [handler]) as engine:
        engine._store._connection.execute("PRAGMA query_only = 1")
        with pytest.raises(JournalError, match=r"journal\.db .*readonly.*writable"):
            engine.start(handler, None, "run")
        engine._store._connection.execute("PRAGMA query_only = 0")
        assert engine.start(handler, None, "run").result(timeout=TIMEOUT)[1] == 400_000
    assert integrity(path) == "ok"


@pytest.fixture
def finished() -> Iterator[Path]:
    """A journal with one finished run, in a folder that any user can reach."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    path = folder / "journal.db"
    with LocalEngine(path, [sync_large]) as engine:
        engine.start(sync_large, None, "run").result(timeout=TIMEOUT)
    path.chmod(0o666)
    yield path
    folder.chmod(0o777)
    shutil.rmtree(folder)


@pytest.fixture
def unprivileged() -> Iterator[None]:
    """Run as an ordinary user: root may write anywhere."""
    if os.getuid() != 0:
        yield
        return
    os.setresuid(NOBODY, NOBODY, 0)
    yield
    os.setresuid(0, 0, 0)


def test_a_read_only_file_is_refused(finished: Path, unprivileged: None) -> None:
    os.setresuid(0, 0, 0) if os.getresuid()[2] == 0 else None
    finished.chmod(0o444)
    os.setresuid(NOBODY, NOBODY, 0) if os.getuid() == 0 else None
    with pytest.raises(JournalError, match=r"journal\.db cannot be read and written"):
        LocalEngine(finished, [sync_large])


def test_a_read_only_folder_is_refused(finished: Path, unprivileged: None) -> None:
    os.setresuid(0, 0, 0) if os.getresuid()[2] == 0 else None
    finished.parent.chmod(0o555)
    os.setresuid(NOBODY, NOBODY, 0) if os.getuid() == 0 else None
    with pytest.raises(JournalError, match=r"directory .* cannot be written"):
        LocalEngine(finished, [sync_large])


def test_a_read_only_file_system_is_refused(disk: Path) -> None:
    path = disk / "journal.db"
    with LocalEngine(path, [sync_large]) as engine:
        engine.start(sync_large, None, "run").result(timeout=TIMEOUT)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    before = path.read_bytes()
    with pytest.raises(JournalError, match=r"journal\.db|directory"):
        LocalEngine(path, [sync_large])
    assert path.read_bytes() == before


def look(path: Path) -> None:
    """Do with a journal what would show any damage."""
    with LocalEngine(path, [sync_large]) as engine:
        for info in engine.list():
            engine.history(info.id)
            engine.get(info.id).result(timeout=TIMEOUT)


def test_a_truncated_journal_is_a_clear_error(finished: Path) -> None:
    look(finished)
    data = finished.read_bytes()
    for part in (1, 2, 3):
        finished.write_bytes(data[: len(data) * part // 4])
        with pytest.raises(JournalError, match=r"journal\.db .*(damaged|cannot be read)"):
            look(finished)


def test_a_journal_with_garbage_inside_is_a_clear_error(finished: Path) -> None:
    data = bytearray(finished.read_bytes())
    data[4096:-4096] = os.urandom(len(data) - 8192)
    finished.write_bytes(data)
    with pytest.raises(JournalError, match=r"journal\.db .*damaged.*restore a copy"):
        look(finished)


def test_garbage_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    data = os.urandom(8192)
    path.write_bytes(data)
    with pytest.raises(JournalError, match=r"journal\.db .*left as it is.*path of its own"):
        look(path)
    assert path.read_bytes() == data


def test_another_programs_database_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE places (id)")
        db.commit()
    data = path.read_bytes()
    with pytest.raises(JournalError, match=r"journal\.db is another program's"):
        look(path)
    assert path.read_bytes() == data
    assert [entry.name for entry in tmp_path.iterdir()] == ["journal.db"]


def test_another_programs_open_database_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE places (id)")
        db.commit()
        with pytest.raises(JournalError, match=r"journal\.db is an SQLite file of another program"):
            look(path)
        names = [name for (name,) in db.execute("SELECT name FROM sqlite_master")]
        assert names == ["places"]


def test_a_newer_journal_is_refused_and_kept(finished: Path) -> None:
    with closing(sqlite3.connect(finished)) as db:
        db.execute("PRAGMA user_version = 99")
    data = finished.read_bytes()
    with pytest.raises(JournalError, match=r"journal\.db was written by a newer .*upgrade perdure"):
        look(finished)
    assert finished.read_bytes() == data
