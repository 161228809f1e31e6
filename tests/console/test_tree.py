"""The rows of a run, and how they are folded to fit."""

from __future__ import annotations

from typing import Any

from perdure.console.tree import Moment, Row, State, fit, news, rows_of
from perdure.console.words import length, safe, shown
from perdure.durable.operations import ErrorObject, Operation, OperationStatus, OperationType

S, T = OperationStatus, OperationType
NOW = Moment(now=100_000)


def operation(
    id: str, status: OperationStatus, type: OperationType = T.STEP, **more: Any
) -> Operation:
    return Operation(id, type, status, started=90_000, **{"name": id, "subtype": "Step"} | more)


def states(*operations: Operation, at: Moment = NOW) -> list[tuple[str, str]]:
    rows = rows_of({each.name or "": each for each in operations}, at)
    return [(row.label, row.state.value) for row in rows]


def test_each_operation_says_what_it_is_doing() -> None:
    error = ErrorObject("no\nmore", "ValueError")
    found = rows_of(
        {
            each.id: each
            for each in (
                operation("ran", S.SUCCEEDED, ended=91_500),
                operation("failed", S.FAILED, ended=91_500, attempt=3, error=error),
                operation("retried", S.PENDING, due=103_500, attempt=1, error=error),
                operation("overdue", S.PENDING, due=99_000, attempt=1, error=error),
                operation("asked", S.STARTED, T.CALLBACK, subtype="WaitForEvent", due=160_000),
                operation("napping", S.STARTED, T.WAIT, due=102_000),
            )
        },
        NOW,
    )
    assert [(row.label, row.state.value, row.seconds, row.note) for row in found] == [
        ("ran", "done", 1.5, ""),
        ("failed", "failed", 1.5, "after 3 attempts, ValueError: no"),
        ("retried", "retrying", None, "in 4 s; attempt 1: ValueError: no"),
        ("overdue", "running", 10.0, "attempt 2"),
        ("asked", "waiting", None, "for an event, times out in 60 s"),
        ("napping", "waiting", None, "goes on in 2 s"),
    ]


def test_what_was_recorded_before_is_replayed_and_what_nobody_runs_is_interrupted() -> None:
    at = Moment(100_000, began=99_000, recorded=frozenset({"old"}), active=False)
    old, new = operation("old", S.SUCCEEDED, ended=1), operation("new", S.SUCCEEDED, ended=99_500)
    assert states(old, new, operation("cut", S.STARTED), at=at) == [
        ("old", "replayed"),
        ("new", "done"),
        ("cut", "interrupted"),
    ]


def test_a_step_that_is_run_again_is_timed_from_this_command_on() -> None:
    (row,) = rows_of({"s": operation("s", S.STARTED)}, Moment(100_000, began=98_000))
    assert row.seconds == 2.0


def test_a_retry_that_is_due_and_that_nobody_runs_is_no_poll() -> None:
    due = operation("retried", S.PENDING, due=99_000, attempt=1)
    polls = operation("polled", S.PENDING, due=99_000, attempt=1, subtype="WaitForCondition")
    rows = rows_of({each.id: each for each in (due, polls)}, Moment(100_000, active=False))
    assert [row.note for row in rows] == ["attempt 2 now", "poll 2 now"]


def test_nothing_of_a_run_that_has_ended_is_said_to_wait() -> None:
    at = Moment(100_000, active=False, over=True)
    asked = operation("asked", S.STARTED, T.CALLBACK, subtype="WaitForEvent", due=160_000)
    retried = operation("retried", S.PENDING, due=103_500, attempt=1)
    cut = operation("cut", S.STARTED)
    assert states(asked, retried, operation("nap", S.STARTED, T.WAIT), cut, at=at) == [
        ("asked", "stopped"),
        ("retried", "stopped"),
        ("nap", "stopped"),
        ("cut", "interrupted"),
    ]


def test_markers_have_no_row() -> None:
    assert states(operation("clock", S.SUCCEEDED, subtype="Now", ended=1)) == []


def test_a_scope_that_only_waits_is_waiting_and_its_insides_are_named_within_it() -> None:
    operations = {
        "map": operation("map", S.STARTED, T.CONTEXT, subtype="Map"),
        "map[0]": operation("b0", S.SUCCEEDED, T.CONTEXT, subtype="MapIteration", parent="map"),
        "map[0]/read": operation("read", S.SUCCEEDED, parent="b0", ended=1),
        "map[1]": operation("b1", S.STARTED, T.CONTEXT, subtype="MapIteration", parent="map"),
        "map[1]/nap": operation("nap", S.STARTED, T.WAIT, parent="b1", due=101_000),
    }
    rows = rows_of(operations, NOW)
    assert [(row.depth, row.label, row.state.value) for row in rows] == [
        (0, "map", "waiting"),
        (1, "[0]", "done"),
        (2, "read", "done"),
        (1, "[1]", "waiting"),
        (2, "nap", "waiting"),
    ]
    assert rows[0].note == "1 done, 1 running"


def row(label: str, depth: int, state: State) -> Row:
    return Row(label, label, depth, state, 0, 0, None, "")


def test_rows_are_folded_until_they_fit() -> None:
    done = [
        each
        for n in range(30)
        for each in (row(f"b{n}", 1, State.DONE), row(f"b{n}/s", 2, State.DONE))
    ]
    going = [row("open", 1, State.RUNNING), row("open/s", 2, State.RUNNING)]
    rows = [row("map", 0, State.RUNNING), *done, *going]
    assert fit(rows, 100) == rows
    assert len(fit(rows, 40)) == 33
    assert [each.label for each in fit(rows, 10)] == ["map", "… 30 more, ended", "open", "open/s"]
    assert [each.label for each in fit(rows, 3)] == ["map", "open", "… 2 more"]


def test_failed_branches_stay_in_sight() -> None:
    rows = [row(f"b{n}", 0, State.DONE) for n in range(20)]
    rows[7] = row("b7", 0, State.FAILED)
    assert [each.label for each in fit(rows, 5)] == ["… 19 more, ended", "b7"]


def test_the_insides_of_what_is_replayed_are_no_news() -> None:
    rows = [
        row("map", 0, State.REPLAYED),
        row("map[0]", 1, State.REPLAYED),
        row("x", 0, State.DONE),
    ]
    assert [each.label for each in news(rows)] == ["map", "x"]


def test_lengths_are_told_in_two_units() -> None:
    told = [length(s) for s in (0, 0.004, 0.9996, 1, 59.96, 90, 3600, 7500, 86_400 * 7 - 3600)]
    assert told == [
        "0 ms",
        "4 ms",
        "1.0 s",
        "1.0 s",
        "1 min",
        "1 min 30 s",
        "1 h",
        "2 h 5 min",
        "6 d 23 h",
    ]


def test_values_are_shown_without_the_marks_of_their_classes() -> None:
    kept = {
        "$perdure": "model",
        "class": "m:Paper",
        "fields": {
            "kind": {"$perdure": "enum", "class": "m:Kind", "name": "LONG"},
            "pages": {"$perdure": "tuple", "value": [1, 2]},
            "cost": {"$perdure": "Decimal", "value": "1.50"},
        },
    }
    assert shown(kept) == '{"kind": "LONG", "pages": [1, 2], "cost": "1.50"}'


def test_long_values_are_cut() -> None:
    assert shown("x" * 10_000).endswith("more characters; --json has all")


def test_what_could_steer_a_terminal_is_spelt_out() -> None:
    assert safe("a\x1b[2J\u202eb\tc\n") == "a\\x1b[2J\\u202eb\tc\n"
