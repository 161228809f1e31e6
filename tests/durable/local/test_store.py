"""The file behind the service: one commit for many, in which each piece stands for itself."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from perdure.durable import Context, JournalError, LeaseLostError, UsageError, durable_execution
from perdure.durable.clock import SystemClock
from perdure.durable.events import Event, EventKind, fold
from perdure.durable.group_commit import Ticket
from perdure.durable.limits import Limits
from perdure.durable.local.service import LocalService, Start
from perdure.durable.local.session import LocalSession
from perdure.durable.local.store import Store
from perdure.durable.names import ROOT, operation_id
from perdure.durable.operations import ErrorObject
from perdure.durable.session import Pending, Succeeded


@durable_execution(name="nothing")
def nothing(event: Any, context: Context) -> None: ...


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "journal.db")
    yield store
    store.close()


@pytest.fixture
def service(store: Store) -> LocalService:
    return LocalService(store, SystemClock(), Limits(), "me", 30_000)


def started(service: LocalService, *ids: str) -> list[LocalSession]:
    starts = [Start(id, "nothing", "null", 1_000_000) for id in ids]
    sessions = service.start(starts, take=len(ids))
    assert all(sessions)
    return [session for session in sessions if session is not None]


def step(name: str, payload: str = "1") -> list[Event]:
    id = operation_id("root", name, 0)
    return [Event(EventKind.STEP_SUCCEEDED, 1, id, None, name, "Step", 1, 1, payload)]


def names(store: Store) -> list[tuple[int, int, str]]:
    with store.read() as c:
        return c.execute("SELECT run, seq, name FROM events ORDER BY run, seq").fetchall()


def take_over(store: Store, session: LocalSession) -> None:
    store.write(
        lambda c: (
            c.execute(
                "UPDATE executions SET lease_token = lease_token + 1 WHERE run = ?", (session.run,)
            )
            and None
        )
    )


def commits(store: Store) -> Any:
    """Count the commits of the store's connection from now on."""
    counted: list[str] = []

    def count(statement: str) -> None:
        if statement == "COMMIT":
            counted.append(statement)

    store._connection.set_trace_callback(count)
    return counted


def test_a_stale_token_fails_its_run_alone(store: Store, service: LocalService) -> None:
    first, stale, third = started(service, "a", "b", "c")
    take_over(store, stale)
    counted = commits(store)
    tickets = [each.enqueue(step("one"), None) for each in (first, stale, third)]
    first.wait(tickets[0])
    third.wait(tickets[2])
    with pytest.raises(LeaseLostError, match=r"'b' was .*taken over"):
        stale.wait(tickets[1])
    assert len(counted) == 1
    assert names(store) == [(first.run, 1, "one"), (third.run, 1, "one")]


def test_two_appends_of_a_stale_run_in_one_commit_both_fail(
    store: Store, service: LocalService
) -> None:
    good, stale = started(service, "a", "b")
    take_over(store, stale)
    tickets = [
        stale.enqueue(step("one"), None),
        good.enqueue(step("one"), None),
        stale.enqueue(step("two"), None),
        good.enqueue(step("two"), None),
    ]
    good.wait(tickets[3])
    assert [type(ticket.error) for ticket in tickets] == [
        LeaseLostError,
        type(None),
        LeaseLostError,
        type(None),
    ]
    assert names(store) == [(good.run, 1, "one"), (good.run, 2, "two")]


def test_a_stale_run_cannot_end(store: Store, service: LocalService) -> None:
    (stale,) = started(service, "a")
    take_over(store, stale)
    with pytest.raises(LeaseLostError):
        stale.end(step("one"), Pending())
    assert names(store) == []


def test_a_freed_run_records_nothing_of_who_held_it(store: Store, service: LocalService) -> None:
    (session,) = started(service, "a")
    other = LocalService(store, SystemClock(), Limits(), "other", 30_000)
    assert other.recover(lambda owner: owner == "me")
    with pytest.raises(LeaseLostError):
        session.wait(session.enqueue(step("late"), None))
    (again,) = other.take(["nothing"], 1)
    again.load(store._connection)
    again.wait(again.enqueue(step("mine"), None))
    assert [name for _, _, name in names(store)] == [None, "mine"]


def test_a_stale_run_withdraws_no_callback(store: Store, service: LocalService) -> None:
    (stale,) = started(service, "a")
    id = operation_id(ROOT, "ask", 0)
    opened = Event(EventKind.CALLBACK_STARTED, 1, id, None, "ask", "Callback")
    fold(stale.operations, opened)
    stale.wait(stale.enqueue([opened], None))
    callback = stale.callback_id(stale.operations[id])
    take_over(store, stale)
    with pytest.raises(LeaseLostError):
        stale.fail_callback(callback, ErrorObject("over", "Over"))
    assert names(store) == [(stale.run, 1, "ask")]


def test_a_run_that_was_given_back_records_nothing_more(
    store: Store, service: LocalService
) -> None:
    (session,) = started(service, "a")
    session.end(step("one"), Pending())
    with pytest.raises(LeaseLostError, match="'a' was given up"):
        session.wait(session.enqueue(step("late"), None))
    assert [name for _, _, name in names(store)] == ["one", None]


def test_a_commit_that_fails_is_tried_piece_by_piece(store: Store, service: LocalService) -> None:
    first, second = started(service, "a", "b")

    def impossible(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO nowhere VALUES (1)")

    tickets = [
        first.enqueue(step("one"), None),
        store.group.enqueue(Ticket(impossible)),
        second.enqueue(step("one"), None),
        first.enqueue(step("two"), None),
    ]
    first.wait(tickets[3])
    with pytest.raises(JournalError, match="nowhere"):
        store.group.wait(tickets[1])
    assert names(store) == [(first.run, 1, "one"), (first.run, 2, "two"), (second.run, 1, "one")]


def test_a_refusal_undoes_what_its_piece_wrote(store: Store, service: LocalService) -> None:
    (session,) = started(service, "a")

    def refuse(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM executions")
        raise UsageError("no")

    ticket = store.group.enqueue(Ticket(refuse))
    session.wait(session.enqueue(step("one"), None))
    with pytest.raises(UsageError, match="no"):
        store.group.wait(ticket)
    with pytest.raises(UsageError, match="no"):
        store.write(refuse)
    assert names(store) == [(session.run, 1, "one")]
    with store.read() as c:
        assert c.execute("SELECT count(*) FROM executions").fetchone() == (1,)


def test_a_watcher_that_fails_has_nothing_written_twice(
    store: Store, service: LocalService
) -> None:
    def watch() -> None:
        raise RuntimeError("nobody there")

    first, second = started(service, "a", "b")
    store.after_commit = watch
    tickets = [first.enqueue(step("one"), None), second.enqueue(step("one"), None)]
    for session, ticket in zip((first, second), tickets, strict=True):
        with suppress(RuntimeError):
            session.wait(ticket)
    assert names(store) == [(first.run, 1, "one"), (second.run, 1, "one")]


def test_those_who_write_at_once_share_commits(store: Store, service: LocalService) -> None:
    sessions = started(service, *(f"run-{n}" for n in range(16)))
    counted = commits(store)
    ready = threading.Barrier(len(sessions))

    def work(session: LocalSession) -> None:
        ready.wait(30)
        for n in range(20):
            session.wait(session.enqueue(step(f"step-{n}"), None))

    threads = [threading.Thread(target=work, args=(each,), daemon=True) for each in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert len(names(store)) == 16 * 20
    assert len(counted) < 16 * 20


def test_equal_large_payloads_are_stored_once(store: Store, service: LocalService) -> None:
    (session,) = started(service, "a")
    large = '"' + "x" * 10_000 + '"'
    for name in ("one", "two"):
        session.wait(session.enqueue(step(name, large), None))
    session.wait(session.enqueue(step("small", '"y"'), None))
    with store.read() as c:
        assert c.execute("SELECT count(*), max(length(data)) FROM blobs").fetchone() == (1, 10_002)
        operations = service.operations(c, session.run)
    assert [each.payload for each in operations.values()] == [large, large, '"y"']


def test_a_closed_store_says_so(store: Store) -> None:
    store.close()
    with pytest.raises(JournalError, match="is closed"):
        store.write(lambda c: None)
    with pytest.raises(JournalError, match="is closed"), store.read():
        pass


def test_a_run_that_ends_wakes_its_caller_that_suspends_in_the_same_commit(
    store: Store, service: LocalService
) -> None:
    (caller,) = started(service, "caller")
    call = operation_id("root", "call", 0)
    invoke = Event(
        EventKind.INVOKE_STARTED, 1, call, None, "call", payload="null", function="nothing"
    )
    fold(caller.operations, invoke)
    caller.wait(caller.enqueue([invoke], None))
    (called,) = service.take(["nothing"], 1)
    tickets = [
        caller.enqueue_end([], Pending(), None),
        called.enqueue_end([], Succeeded("1"), None),
    ]
    called.wait(tickets[1])
    caller.wait(tickets[0])
    (again,) = service.take(["nothing"], 1)
    assert again.execution_id == "caller"
