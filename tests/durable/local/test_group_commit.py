"""The queue of writes: order, company, and that nobody is forgotten."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from perdure.durable.group_commit import GroupCommit, Ticket

from ...waiting import until

PATIENCE = 30.0


class Recorder:
    """A `write` that notes what it was given, and can be held."""

    def __init__(self) -> None:
        self.groups: list[list[Any]] = []
        self.writing = threading.Event()
        self.free = threading.Event()
        self.free.set()

    def __call__(self, tickets: list[Ticket]) -> None:
        self.groups.append([ticket.work for ticket in tickets])
        self.writing.set()
        assert self.free.wait(PATIENCE)
        for ticket in tickets:
            if isinstance(ticket.work, Exception):
                ticket.error = ticket.work
            else:
                ticket.result = ticket.work

    @property
    def order(self) -> list[Any]:
        return [work for group in self.groups for work in group]


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def group(recorder: Recorder) -> Iterator[GroupCommit]:
    group = GroupCommit(recorder)
    yield group
    recorder.free.set()
    group.close()


def in_thread(work: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_who_waits_alone_writes_alone_and_on_its_own_thread(recorder: Recorder) -> None:
    threads = []

    def write(tickets: list[Ticket]) -> None:
        threads.append(threading.get_ident())
        recorder(tickets)

    def alone(group: GroupCommit) -> tuple[list[int], int]:
        return [group.run(number) for number in range(3)], threading.get_ident()

    with ThreadPoolExecutor(1) as pool:
        results, own = pool.submit(alone, GroupCommit(write)).result(PATIENCE)
    assert results == [0, 1, 2]
    assert recorder.groups == [[0], [1], [2]]
    assert threads == [own] * 3


def test_the_main_thread_which_ctrl_c_strikes_never_writes(recorder: Recorder) -> None:
    threads = []

    def write(tickets: list[Ticket]) -> None:
        threads.append(threading.current_thread())
        recorder(tickets)

    group = GroupCommit(write)
    assert [group.run(number) for number in range(3)] == [0, 1, 2]
    assert threading.main_thread() not in threads


def test_what_is_queued_is_written_in_order(group: GroupCommit, recorder: Recorder) -> None:
    tickets = [group.enqueue(Ticket(number)) for number in range(10)]
    assert group.wait(tickets[3]) == 3
    assert recorder.order == list(range(10))


def test_those_that_wait_together_are_written_together(
    group: GroupCommit, recorder: Recorder
) -> None:
    recorder.free.clear()
    first = in_thread(lambda: group.run("first"))
    assert recorder.writing.wait(PATIENCE)
    others = [in_thread(lambda n=n: group.run(n)) for n in range(8)]
    until(lambda: len(group._queue) == 8)
    recorder.free.set()
    for thread in (first, *others):
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert recorder.groups[0] == ["first"]
    assert sorted(recorder.groups[1]) == list(range(8))
    assert len(recorder.groups) == 2


def test_work_that_fails_fails_alone(group: GroupCommit) -> None:
    good, bad = Ticket("good"), Ticket(ValueError("bad"))
    group.enqueue(bad)
    group.enqueue(good)
    assert group.wait(good) == "good"
    with pytest.raises(ValueError, match="bad"):
        group.wait(bad)


def test_a_write_that_raises_fails_all_it_was_given_and_nobody_waits_forever() -> None:
    def write(tickets: list[Ticket]) -> None:
        raise OSError("the disk is gone")

    group = GroupCommit(write)
    other = group.enqueue(Ticket(1))
    with pytest.raises(OSError, match="the disk is gone"):
        group.run(2)
    with pytest.raises(OSError, match="the disk is gone"):
        group.wait(other)


def test_nobody_is_forgotten_among_many_threads() -> None:
    def write(tickets: list[Ticket]) -> None:
        for ticket in tickets:
            ticket.result = ticket.work
            written[ticket.work[0]].append(ticket.work[1])

    threads, rounds = 16, 500
    written: list[list[int]] = [[] for _ in range(threads)]
    group = GroupCommit(write)

    def work(number: int) -> None:
        for turn in range(rounds):
            if turn % 7 == 3:
                group.enqueue(Ticket((number, -1)))
            ticket = group.enqueue(Ticket((number, turn)))
            if turn % 5 == 4:
                group.lead()
            if turn % 11 == 10:
                group.wake()
            assert group.wait(ticket) == (number, turn)

    running = [in_thread(lambda n=n: work(n)) for n in range(threads)]
    deadline = time.monotonic() + PATIENCE
    for thread in running:
        thread.join(max(0, deadline - time.monotonic()))
        assert not thread.is_alive(), "a waiter was never told"
    group.close()
    for each in written:
        assert [turn for turn in each if turn >= 0] == list(range(rounds))


def test_what_nobody_waits_for_is_written_when_asked(
    group: GroupCommit, recorder: Recorder
) -> None:
    told = threading.Event()
    ticket = group.enqueue(Ticket("quiet", lambda _: told.set()))
    assert recorder.groups == []
    group.wake()
    assert told.wait(PATIENCE)
    assert ticket.value() == "quiet"


def test_what_nobody_waits_for_is_written_after_a_leader_that_left(
    group: GroupCommit, recorder: Recorder
) -> None:
    recorder.free.clear()
    leader = in_thread(lambda: group.run("leader"))
    assert recorder.writing.wait(PATIENCE)
    told = threading.Event()
    group.enqueue(Ticket("quiet", lambda _: told.set()))
    recorder.free.set()
    leader.join(PATIENCE)
    assert told.wait(PATIENCE)
    assert recorder.order == ["leader", "quiet"]


def test_a_callback_that_raises_keeps_nobody_else_waiting(
    group: GroupCommit, recorder: Recorder
) -> None:
    def broken(ticket: Ticket) -> None:
        raise RuntimeError("the loop is closed")

    group.enqueue(Ticket("broken", broken))
    told = threading.Event()
    group.enqueue(Ticket("told", lambda _: told.set()))
    assert group.run("mine") == "mine"
    assert told.wait(PATIENCE)
    group.enqueue(Ticket("broken", broken))
    group.wake()
    assert group.run("after") == "after"


def test_whoever_leads_writes_on_this_thread(group: GroupCommit, recorder: Recorder) -> None:
    ticket = group.enqueue(Ticket("now"))
    assert group.lead()
    assert ticket.value() == "now"


def test_whoever_cannot_lead_does_not_wait(group: GroupCommit, recorder: Recorder) -> None:
    recorder.free.clear()
    leader = in_thread(lambda: group.run("leader"))
    assert recorder.writing.wait(PATIENCE)
    ticket = group.enqueue(Ticket("now"))
    assert not group.lead()
    recorder.free.set()
    leader.join(PATIENCE)
    assert group.wait(ticket) == "now"


def test_a_group_has_a_bound() -> None:
    recorder = Recorder()
    group = GroupCommit(recorder, batch=4)
    tickets = [group.enqueue(Ticket(number)) for number in range(10)]
    assert group.wait(tickets[-1]) == 9
    assert [len(each) for each in recorder.groups] == [4, 4, 2]


def test_closing_writes_what_is_queued(recorder: Recorder) -> None:
    group = GroupCommit(recorder)
    group.wake()
    tickets = [group.enqueue(Ticket(number)) for number in range(3)]
    group.close()
    assert all(ticket.done for ticket in tickets)
    assert recorder.order == [0, 1, 2]
