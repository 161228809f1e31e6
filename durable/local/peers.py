"""The processes that share one journal file on one kernel: who lives, and how they wake each other.

Beside the journal stands a directory, `<journal>-peers`, with two files of each peer: `<id>.lock`,
under an exclusive `flock` while the peer lives, and `<id>.wake`, a FIFO that it reads. Guaranteed:

- A peer is dead exactly when its lock can be taken or its lock file is gone. The kernel drops the
  lock with the process, however it ends; neither a subprocess nor a forked child keeps it alive.
- A wake-up reaches every peer that had joined before `notify` was called. A number may be lost
  only in a pipe so full that its reader is told `DUE`, to look at everything, instead.
- Nothing sleeps or polls; alone, `notify` costs one `stat`.
- A FIFO never stands without a lock file. Whoever removes another's files shares the lock on that
  file; a peer that is just joining waits for that and, if it was swept, starts over.

Leases and their tokens, not this module, keep the journal correct.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import secrets
import struct
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

from perdure.durable.errors import JournalError

DUE = 0  # names no run: something is due, or numbers were lost; look at everything

_log = logging.getLogger(__name__)
_FRAME = struct.Struct(">Q")
_MESSAGE_RUNS = 512 // _FRAME.size  # 512 bytes: what POSIX lets every pipe write in one piece
_CROWDED = 1024  # bytes; a pipe that refused a message held more than this, on every system
_PIPE_MAX = 1 << 20  # bytes; no pipe holds more, so one read empties it
_SETTLED_NS = 2_000_000_000  # the coarsest clock of a file system with FIFOs ticks in seconds
_NO_NEED = {errno.ENXIO, errno.ENOENT, errno.EPIPE, errno.EAGAIN}  # gone, or full: about to wake

_forking = threading.RLock()  # held while a process forks: no fd is half-way into a membership
_joined: set[Peers] = set()


class _Membership(NamedTuple):
    lock: int
    reader: int
    writer: int  # keeps the reader from seeing an end of file; `leave` wakes it through this


class Peers:
    """The membership of one engine among the processes that share a journal.

    `on_wake` is called in a thread of its own with the numbers of all runs that others named
    since the last call, and `DUE` if something unnamed is due. It must not wait for `leave`.
    `id` is the random name of the membership; two engines in one process are two peers.
    """

    def __init__(self, journal: Path, on_wake: Callable[[frozenset[int]], None]) -> None:
        self.id = secrets.token_hex(8)
        self._directory = os.path.realpath(os.path.realpath(journal) + "-peers")
        self._on_wake = on_wake
        self._membership: _Membership | None = None
        self._thread: threading.Thread | None = None
        self._seen: tuple[int | None, tuple[str, ...]] = (None, ())

    def join(self) -> None:
        """Become visible to the others and hear them; does nothing when already joined."""
        with _forking:
            if self._membership is not None:
                return
            try:
                while self._membership is None:
                    self._membership = self._enter()
            except OSError as error:
                raise JournalError(
                    f"cannot join the processes that share this journal in {self._directory}: "
                    f"{error.strerror}; the directory must be writable, on a local file system "
                    "with FIFOs and file locks"
                ) from error
            _joined.add(self)
            thread = threading.Thread(target=self._listen, args=(self._membership,), daemon=True)
            thread.name = "perdure-peers"
            thread.start()
            self._thread = thread

    def leave(self) -> None:
        """Remove this peer's files and stop listening; does nothing when not joined."""
        with _forking:
            membership, self._membership = self._membership, None
            if membership is None:
                return
            _joined.discard(self)
            self._erase(self.id)
            with suppress(OSError):  # not empty, or gone with another who left
                os.rmdir(self._directory)
            with suppress(BlockingIOError):  # a full pipe wakes the reader as well
                os.write(membership.writer, _FRAME.pack(DUE))
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        _close(membership)

    def notify(self, *runs: int) -> None:
        """Wake every other peer, naming the runs that changed; without any, `DUE`.

        Needs no membership: whoever wrote to the journal may wake those who serve it.
        """
        fifos = self._others()
        if fifos:
            named = runs if 0 < len(runs) <= _MESSAGE_RUNS else (DUE,)
            message = b"".join(map(_FRAME.pack, named))
            for fifo in fifos:
                _write(fifo, message)

    def others(self) -> bool:
        """Whether anybody else is there; a dead peer counts until it is swept."""
        return bool(self._others())

    def is_dead(self, peer_id: str) -> bool:
        """Whether that peer's process is gone, by its lock alone; never true of this peer."""
        if peer_id == self.id:
            return False
        try:
            with _forking, open(self._path(peer_id, "lock"), "rb") as file:
                return _share(file)
        except FileNotFoundError:
            return True
        except OSError:  # another user's, say: no way to tell, so its lease decides
            return False

    def sweep(self) -> None:
        """Remove the files that dead peers left behind."""
        try:
            names = os.listdir(self._directory)
        except OSError:
            return
        for peer_id, _, kind in (name.partition(".") for name in names):
            if peer_id != self.id and kind in ("lock", "joining"):
                with suppress(OSError), _forking, open(self._path(peer_id, kind), "rb") as file:
                    if _share(file) and os.fstat(file.fileno()).st_nlink:
                        self._erase(peer_id)

    def _enter(self) -> _Membership | None:
        """Create and lock this peer's files; None if another removed them meanwhile."""
        passing, fifo = self._path(self.id, "joining"), self._path(self.id, "wake")
        with suppress(FileExistsError):
            os.mkdir(self._directory)
        try:
            # Python opens files close-on-exec: no subprocess of a step inherits the lock.
            held = [os.open(passing, os.O_RDWR | os.O_CREAT, 0o666)]
        except FileNotFoundError:  # the last of the others left and took the directory along
            return None
        try:
            fcntl.flock(held[0], fcntl.LOCK_EX)
            if not os.fstat(held[0]).st_nlink:  # swept before it was locked
                _close(held)
                return None
            os.mkfifo(fifo)
            held.append(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK))
            held.append(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
            os.set_blocking(held[1], True)
            os.rename(passing, self._path(self.id, "lock"))
        except BaseException:
            self._erase(self.id)
            _close(held)
            raise
        return _Membership(*held)

    def _listen(self, membership: _Membership) -> None:
        while self._membership is membership:
            runs = _runs(os.read(membership.reader, _PIPE_MAX))
            if self._membership is membership:
                try:
                    self._on_wake(runs)
                except Exception:
                    _log.exception("a wake-up from another process could not be handled")

    def _others(self) -> tuple[str, ...]:
        """List the FIFOs of the others, anew only when the directory changed."""
        try:
            mtime = os.stat(self._directory).st_mtime_ns
            seen, fifos = self._seen
            if mtime != seen:
                # Within a tick of its clock the directory may change and its time stay the same.
                settled = time.time_ns() - mtime > _SETTLED_NS
                ids = (name[:-5] for name in os.listdir(self._directory) if name.endswith(".lock"))
                fifos = tuple(self._path(peer_id, "wake") for peer_id in ids if peer_id != self.id)
                self._seen = (mtime if settled else None, fifos)
        except OSError:
            return ()
        return fifos

    def _erase(self, peer_id: str) -> None:
        for kind in ("wake", "joining", "lock"):
            with suppress(OSError):
                os.unlink(self._path(peer_id, kind))

    def _path(self, peer_id: str, kind: str) -> str:
        return f"{self._directory}/{peer_id}.{kind}"


def _runs(data: bytes) -> frozenset[int]:
    whole = len(data) - len(data) % _FRAME.size
    runs = frozenset(run for (run,) in _FRAME.iter_unpack(data[:whole]))
    return runs if whole == len(data) < _CROWDED else runs | {DUE}


def _write(fifo: str, message: bytes) -> None:
    try:
        fd = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        try:
            os.write(fd, message)
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno not in _NO_NEED:
            _log.warning("cannot wake the process behind %s: %s", fifo, error.strerror)


def _close(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)


def _share(file: IO[bytes]) -> bool:
    """Take a shared lock, so that those who look at the same time do not mistake each other."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _forget() -> None:
    """In a forked child: be nobody, and leave the parents their locks and files."""
    for peers in _joined:
        _close(peers._membership or ())
        peers._membership = peers._thread = None
        peers._seen = (None, ())
        peers.id = secrets.token_hex(8)
    _joined.clear()
    _forking.release()


os.register_at_fork(
    before=_forking.acquire, after_in_parent=_forking.release, after_in_child=_forget
)
