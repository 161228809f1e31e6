"""Processes that share a journal: who is alive, and how they wake each other."""

from __future__ import annotations

import fcntl
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from perdure.durable.errors import JournalError
from perdure.durable.local.peers import DUE, Peers

DEADLINE = 60

MEMBER = """
import os, signal, subprocess, sys, threading
from pathlib import Path
from perdure.durable.local.peers import Peers

say = lambda *words: os.write(1, (" ".join(map(str, words)) + "\\n").encode())
peers = Peers(Path(sys.argv[1]), lambda runs: say("woken", *sorted(runs)))
peers.join()
say(peers.id)
for line in sys.stdin:
    exec(eval(line))
"""


class Member:
    """A process of its own that joined; it runs what it is told and says what it is asked."""

    def __init__(self, journal: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", MEMBER, journal],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        self.id = self.hear()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line.strip())
        self.lines.put("(the process ended)")

    def tell(self, code: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(repr(code) + "\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        return self.lines.get(timeout=DEADLINE)

    def ask(self, code: str) -> str:
        self.tell(code)
        return self.hear()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(DEADLINE)


class Inbox:
    """What a peer in this process was woken with."""

    def __init__(self) -> None:
        self.wakes: queue.Queue[frozenset[int]] = queue.Queue()
        self.put = self.wakes.put

    def next(self) -> frozenset[int]:
        return self.wakes.get(timeout=DEADLINE)

    def until(self, wanted: int) -> frozenset[int]:
        """All that came until this number did."""
        runs = frozenset[int]()
        while wanted not in runs:
            runs |= self.next()
        return runs


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "journal.db-peers"


@pytest.fixture
def peer(journal: Path) -> Iterator[Callable[..., Peers]]:
    """Makes peers in this process, joined; all leave in the end."""
    made: list[Peers] = []

    def make(on_wake: Callable[[frozenset[int]], object] = lambda runs: None) -> Peers:
        peers = Peers(journal, on_wake)  # type: ignore[arg-type]
        made.append(peers)
        peers.join()
        return peers

    yield make
    for peers in made:
        peers.leave()


@pytest.fixture
def member(journal: Path) -> Iterator[Callable[[], Member]]:
    """Makes members in processes of their own; all are killed in the end."""
    made: list[Member] = []

    def make() -> Member:
        made.append(Member(journal))
        return made[-1]

    yield make
    for one in made:
        one.kill()


def test_a_wake_up_reaches_another_process(
    peer: Callable[..., Peers], member: Callable[[], Member]
) -> None:
    inbox = Inbox()
    here, there = peer(inbox.put), member()
    here.notify(7)
    assert there.hear() == "woken 7"
    there.tell("peers.notify(8, 2**64 - 1)")
    assert inbox.next() == {8, 2**64 - 1}


def test_a_wake_up_without_a_number_says_that_something_is_due(peer: Callable[..., Peers]) -> None:
    inbox = Inbox()
    peer(inbox.put)
    peer().notify()
    assert inbox.next() == {DUE}


def test_every_other_peer_is_woken_once_and_nobody_wakes_itself(
    peer: Callable[..., Peers], member: Callable[[], Member]
) -> None:
    first, second, third = Inbox(), Inbox(), member()
    here = peer(first.put)
    peer(second.put)
    here.notify(1)
    assert second.next() == {1}
    assert third.hear() == "woken 1"
    here.notify(2)
    assert second.next() == {2}
    assert third.hear() == "woken 2"
    assert first.wakes.empty()


def test_who_never_joined_can_wake_and_look(
    journal: Path, directory: Path, peer: Callable[..., Peers]
) -> None:
    visitor = Peers(journal, lambda runs: None)
    visitor.notify(1)
    visitor.sweep()
    assert not visitor.others()
    assert visitor.is_dead("0123456789abcdef")
    assert not directory.exists()
    inbox = Inbox()
    resident = peer(inbox.put)
    visitor.notify(2)
    assert inbox.next() == {2}
    assert visitor.others()
    assert not visitor.is_dead(resident.id)


def test_paths_that_lead_to_one_journal_lead_to_the_same_peers(
    journal: Path, tmp_path: Path, peer: Callable[..., Peers], monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = Inbox()
    peer(inbox.put)
    (tmp_path / "link.db").symlink_to(journal)
    monkeypatch.chdir(tmp_path)
    Peers(Path("link.db"), lambda runs: None).notify(3)
    Peers(Path("journal.db"), lambda runs: None).notify(4)
    assert inbox.until(4) == {3, 4}


def test_what_comes_while_a_peer_is_busy_comes_in_one_go(peer: Callable[..., Peers]) -> None:
    inbox, free = Inbox(), threading.Event()

    def slow(runs: frozenset[int]) -> None:
        inbox.put(runs)
        free.wait(DEADLINE)

    peer(slow)
    other = peer()
    other.notify(1)
    assert inbox.next() == {1}
    other.notify(2)
    other.notify(3, 4)
    other.notify(2)
    free.set()
    assert inbox.next() == {2, 3, 4}


def test_a_peer_so_busy_that_its_pipe_is_full_is_told_to_look_at_everything(
    peer: Callable[..., Peers],
) -> None:
    inbox, free = Inbox(), threading.Event()

    def slow(runs: frozenset[int]) -> None:
        inbox.put(runs)
        free.wait(DEADLINE)

    peer(slow)
    other = peer()
    other.notify(1)
    assert inbox.next() == {1}
    for run in range(2, 20_000):
        other.notify(run)
    free.set()
    assert DUE in inbox.next()
    other.notify(20_000)
    assert inbox.until(20_000)


def test_more_runs_than_one_message_holds_are_everything(peer: Callable[..., Peers]) -> None:
    inbox = Inbox()
    peer(inbox.put)
    peer().notify(*range(1, 1000))
    assert inbox.next() == {DUE}


def test_what_is_no_message_is_taken_as_everything(
    peer: Callable[..., Peers], directory: Path
) -> None:
    inbox = Inbox()
    here = peer(inbox.put)
    (directory / f"{here.id}.wake").write_bytes(b"hey")
    assert inbox.next() == {DUE}


def test_an_error_in_handling_a_wake_up_is_logged_and_the_next_is_handled(
    peer: Callable[..., Peers], caplog: pytest.LogCaptureFixture
) -> None:
    inbox = Inbox()

    def failing(runs: frozenset[int]) -> None:
        inbox.put(runs)
        raise ValueError("no")

    here, other = peer(failing), peer()
    other.notify(1)
    assert inbox.next() == {1}
    other.notify(2)
    assert inbox.next() == {2}
    here.leave()
    assert "could not be handled" in caplog.text


def test_two_engines_in_a_process_are_two_peers(peer: Callable[..., Peers]) -> None:
    one, two = peer(), peer()
    assert one.id != two.id
    assert not one.is_dead(two.id)
    assert not two.is_dead(one.id)
    two.leave()
    assert one.is_dead(two.id)


def test_a_killed_process_is_dead_and_a_stopped_one_is_not(
    peer: Callable[..., Peers], member: Callable[[], Member]
) -> None:
    here, there = peer(), member()
    assert not here.is_dead(there.id)
    there.process.send_signal(signal.SIGSTOP)
    assert not here.is_dead(there.id)
    there.kill()
    assert here.is_dead(there.id)
    here.notify(1)


def test_nobody_is_dead_to_itself(peer: Callable[..., Peers], journal: Path) -> None:
    here = peer()
    assert not here.is_dead(here.id)
    stranger = Peers(journal, lambda runs: None)
    assert not stranger.is_dead(stranger.id)
    assert here.is_dead(stranger.id)


def test_those_who_look_at_the_same_time_see_the_same(
    peer: Callable[..., Peers], member: Callable[[], Member], directory: Path
) -> None:
    here, there = peer(), member()
    there.kill()
    with (directory / f"{there.id}.lock").open() as another_look:
        fcntl.flock(another_look, fcntl.LOCK_SH)
        assert here.is_dead(there.id)


@pytest.mark.parametrize(
    "start",
    [
        "child = subprocess.Popen(['sleep', '600'], close_fds=False).pid",
        "child = os.posix_spawnp('sleep', ['sleep', '600'], os.environ)",
        "child = os.fork() or say('forked') or signal.pause()",
    ],
    ids=["subprocess", "spawn", "fork"],
)
def test_a_child_that_outlives_a_killed_process_does_not_keep_it_alive(
    peer: Callable[..., Peers], member: Callable[[], Member], start: str
) -> None:
    here, there = peer(), member()
    there.tell(f"{start}\nsay('child', child)")
    heard = there.hear() + there.hear() if "fork" in start else there.hear()
    child = int(heard.replace("forked", "").removeprefix("child "))
    try:
        assert not here.is_dead(there.id)
        there.kill()
        assert here.is_dead(there.id)
        os.kill(child, 0)
    finally:
        os.kill(child, signal.SIGKILL)


FORK = """
child = os.fork()
if child == 0:
    parent = peers.id
    peers.leave()
    gone = peers.is_dead(parent)
    peers.join()
    say("child", peers.id, os.getpid(), "parent dead" if gone else "parent alive")
    signal.pause()
"""


def test_a_forked_child_is_nobody_until_it_joins_for_itself(
    peer: Callable[..., Peers], member: Callable[[], Member]
) -> None:
    here, parent = peer(), member()
    _, child_id, pid, verdict = parent.ask(FORK).split(maxsplit=3)
    try:
        assert verdict == "parent alive"
        assert child_id != parent.id
        here.notify(5)
        assert [parent.hear(), parent.hear()] == ["woken 5", "woken 5"]
        parent.kill()
        assert here.is_dead(parent.id)
        assert not here.is_dead(child_id)
    finally:
        os.kill(int(pid), signal.SIGKILL)


def test_others_says_whether_anybody_else_is_there(peer: Callable[..., Peers]) -> None:
    here = peer()
    assert not here.others()
    there = peer()
    assert here.others()
    there.leave()
    assert not here.others()


def test_a_peer_that_joins_within_a_tick_of_the_clock_is_not_missed(
    peer: Callable[..., Peers],
) -> None:
    here, inbox = peer(), Inbox()
    for run in range(1, 300):
        assert not here.others()
        there = peer(inbox.put)
        here.notify(run)
        assert inbox.next() == {run}
        there.leave()


def test_a_peer_that_joins_is_not_missed_when_the_directory_keeps_its_time(
    peer: Callable[..., Peers], directory: Path
) -> None:
    here = peer()
    before = directory.stat().st_mtime_ns
    assert not here.others()
    peer()
    os.utime(directory, ns=(before, before))
    assert here.others()


def test_the_directory_is_listed_again_only_when_it_changed(
    peer: Callable[..., Peers], directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listings: list[str] = []
    listdir = os.listdir

    def counted(path: str) -> list[str]:
        listings.append(path)
        return listdir(path)

    monkeypatch.setattr(os, "listdir", counted)
    here = peer()
    os.utime(directory, (1_000_000, 1_000_000))
    for _ in range(10):
        here.notify(1)
    assert len(listings) == 1
    peer()
    assert here.others()
    assert len(listings) == 2


def test_leaving_removes_the_peers_files_and_in_the_end_the_directory(
    peer: Callable[..., Peers], directory: Path
) -> None:
    one, two = peer(), peer()
    assert len(list(directory.iterdir())) == 4
    one.leave()
    assert {entry.name for entry in directory.iterdir()} == {f"{two.id}.lock", f"{two.id}.wake"}
    two.leave()
    assert not directory.exists()


LEAVE = """
count = lambda: (len(os.listdir("/dev/fd")), threading.active_count())
before = count()
other = Peers(Path(sys.argv[1]), print)
other.join()
during = count()
other.leave()
say(before == count() < during)
"""


def test_leaving_closes_every_file_and_ends_the_thread(member: Callable[[], Member]) -> None:
    assert member().ask(LEAVE) == "True"


def test_joining_and_leaving_twice_is_joining_and_leaving(
    peer: Callable[..., Peers], directory: Path
) -> None:
    here = peer()
    here.join()
    assert len(list(directory.iterdir())) == 2
    here.leave()
    here.leave()
    assert not directory.exists()
    here.join()
    assert not peer().is_dead(here.id)


def test_a_peer_can_leave_because_it_was_woken(
    journal: Path, directory: Path, peer: Callable[..., Peers]
) -> None:
    left = threading.Event()

    def leave(runs: frozenset[int]) -> None:
        here.leave()
        left.set()

    here = Peers(journal, leave)
    here.join()
    other = peer()
    other.notify()
    assert left.wait(DEADLINE)
    assert not other.others()
    assert len(list(directory.iterdir())) == 2


def test_a_peer_with_a_full_pipe_can_leave(peer: Callable[..., Peers], directory: Path) -> None:
    free = threading.Event()
    here = peer(lambda runs: free.wait(DEADLINE))
    other = peer()
    for run in range(1, 20_000):
        other.notify(run)
    free.set()
    here.leave()
    assert len(list(directory.iterdir())) == 2


def test_the_files_of_the_dead_are_swept_and_those_of_the_living_stay(
    peer: Callable[..., Peers], member: Callable[[], Member], directory: Path
) -> None:
    here, alive, dead = peer(), member(), member()
    dead.kill()
    assert here.others()
    here.sweep()
    names = {entry.name for entry in directory.iterdir()}
    assert names == {f"{p.id}.{kind}" for p in (here, alive) for kind in ("lock", "wake")}
    here.notify(1)
    assert alive.hear() == "woken 1"


def test_what_a_process_killed_while_joining_left_is_swept(
    peer: Callable[..., Peers], directory: Path
) -> None:
    here = peer()
    for name in ("aa.joining", "bb.joining", "cc.joining"):
        (directory / name).touch()
    os.mkfifo(directory / "bb.wake")
    with (directory / "cc.joining").open() as joining:
        fcntl.flock(joining, fcntl.LOCK_EX)
        here.sweep()
    names = {entry.name for entry in directory.iterdir()}
    assert names == {f"{here.id}.lock", f"{here.id}.wake", "cc.joining"}


def test_a_peer_that_is_swept_while_it_joins_starts_over(
    peer: Callable[..., Peers], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweeper, inbox = peer(), Inbox()
    flock = fcntl.flock
    swept: list[int] = []

    def late_flock(file: int, operation: int) -> None:
        if operation == fcntl.LOCK_EX and not swept:
            swept.append(file)
            sweeper.sweep()
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late_flock)
    there = peer(inbox.put)
    assert swept
    assert not sweeper.is_dead(there.id)
    sweeper.notify(1)
    assert inbox.next() == {1}


def test_a_peer_that_joins_as_the_last_one_leaves_starts_over(
    peer: Callable[..., Peers], monkeypatch: pytest.MonkeyPatch, directory: Path
) -> None:
    mkdir = os.mkdir
    removed: list[str] = []

    def mkdir_and_lose_it(path: str) -> None:
        mkdir(path)
        if not removed:
            removed.append(path)
            os.rmdir(path)

    monkeypatch.setattr(os, "mkdir", mkdir_and_lose_it)
    peer()
    assert removed
    assert len(list(directory.iterdir())) == 2


def test_nobody_is_lost_where_many_join_leave_and_sweep(
    peer: Callable[..., Peers], member: Callable[[], Member]
) -> None:
    sweepers = [member(), member()]
    for sweeper in sweepers:
        sweeper.tell("while True: peers.sweep()")
    here, inbox = peer(), Inbox()
    for run in range(1, 300):
        there = peer(inbox.put)
        assert not here.is_dead(there.id)
        here.notify(run)
        assert inbox.next() == {run}
        there.leave()
    assert not any(here.is_dead(sweeper.id) for sweeper in sweepers)


def test_processes_that_come_and_go_at_once_do_not_trip_over_the_directory(
    member: Callable[[], Member], directory: Path
) -> None:
    members = [member() for _ in range(3)]
    for one in members:
        one.tell("for _ in range(300): peers.leave(); peers.join()\npeers.leave(); say('done')")
    assert [one.hear() for one in members] == ["done"] * 3
    assert not directory.exists()


@pytest.mark.parametrize("obstacle", ["a file", "a missing folder"])
def test_where_peers_cannot_meet_joining_says_so(tmp_path: Path, obstacle: str) -> None:
    journal = tmp_path / "missing" / "journal.db"
    if obstacle == "a file":
        journal = tmp_path / "journal.db"
        (tmp_path / "journal.db-peers").touch()
    here = Peers(journal, lambda runs: None)
    with pytest.raises(JournalError, match="cannot join the processes that share this journal"):
        here.join()
    here.notify(1)
    here.sweep()
    here.leave()


def test_a_file_system_without_fifos_is_named_and_nothing_is_left(
    journal: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(1, "Operation not permitted", path)

    opened: list[int] = []
    os_open = os.open

    def recorded(path: str, flags: int, mode: int = 0o777) -> int:
        opened.append(os_open(path, flags, mode))
        return opened[-1]

    monkeypatch.setattr(os, "mkfifo", refuse)
    monkeypatch.setattr(os, "open", recorded)
    with pytest.raises(JournalError, match="Operation not permitted"):
        Peers(journal, lambda runs: None).join()
    assert list(directory.iterdir()) == []
    for fd in opened:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
