"""The matcher must be able to fail: a judge that lets everything pass proves nothing."""

from typing import Any

import pytest

from .matcher import compare, compare_history, compare_logs, fill, variables

EXPECTED = [
    {"EventType": "StepStarted", "EventId": 2, "Id": "${A}", "StepStartedDetails": {}},
    {"EventType": "StepSucceeded", "EventId": 3, "Id": "${A}", "EventTimestamp": "*"},
]


def history(*events: tuple[str, str]) -> list[dict[str, Any]]:
    """Number events of (type, operation id) from 2, after an ExecutionStarted."""
    numbered = [{"EventType": "ExecutionStarted", "EventId": 1}]
    for number, (kind, id) in enumerate(events, 2):
        details = {f"{kind}Details": {}, "EventTimestamp": 0}
        numbered.append({"EventType": kind, "EventId": number, "Id": id, **details})
    return numbered


def test_the_expected_history_matches() -> None:
    found = history(("StepStarted", "x"), ("StepSucceeded", "x"))

    assert compare_history(EXPECTED, found, {}) == []


def test_events_after_the_listed_ones_are_not_looked_at() -> None:
    found = history(("StepStarted", "x"), ("StepSucceeded", "x"), ("WaitStarted", "y"))

    assert compare_history(EXPECTED, found, {}) == []


def test_an_extra_event_shifts_the_numbers_and_fails() -> None:
    found = history(("StepStarted", "x"), ("StepStarted", "x"), ("StepSucceeded", "x"))

    assert (
        "expected 'StepSucceeded', found 'StepStarted'" in compare_history(EXPECTED, found, {})[0]
    )


def test_a_missing_event_fails() -> None:
    found = history(("StepStarted", "x"))

    assert compare_history(EXPECTED, found, {}) == ["event 3 (StepSucceeded): missing"]


def test_a_repeated_event_number_fails() -> None:
    found = history(("StepStarted", "x"), ("StepSucceeded", "x"))

    assert compare_history(EXPECTED, [*found, found[-1]], {})


@pytest.mark.parametrize("key", ["StepStartedDetails", "Id"])
def test_a_missing_key_fails_even_if_it_may_hold_anything(key: str) -> None:
    found = history(("StepStarted", "x"), ("StepSucceeded", "x"))
    del found[1][key]

    assert f"event 2 (StepStarted).{key}: missing" in compare_history(EXPECTED, found, {})


def test_another_id_for_the_same_name_fails() -> None:
    found = history(("StepStarted", "x"), ("StepSucceeded", "y"))

    assert compare_history(EXPECTED, found, {}) == [
        "event 3 (StepSucceeded).Id: expected 'x', found 'y'"
    ]


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        ("*", None),
        ({}, {"any": "thing"}),
        ({"a": 1}, {"a": 1, "more": 2}),
        ([1, "*"], [1, 2]),
        ('"${V}"', '"value"'),
        ("${V}", "value"),
        ("${/^[0-5]$/}", 3),
        ("${/.*TransientError$/}", "package.TransientError"),
    ],
)
def test_values_that_match(expected: Any, found: Any) -> None:
    assert compare(expected, found, {"V": "value"}, "here") == []


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        (1, 2),
        (1, True),
        (False, 0),
        ("1", 1),
        (None, ""),
        ({"a": 1}, {"b": 1}),
        ({"a": {"b": 1}}, {"a": None}),
        ([1], [1, 2]),
        ([1, 2], [2, 1]),
        ('"${V}"', "value"),
        ("${V}", "other"),
        ("${/^[0-5]$/}", 7),
    ],
)
def test_values_that_do_not_match(expected: Any, found: Any) -> None:
    assert compare(expected, found, {"V": "value"}, "here")


def test_a_name_inside_a_longer_text_must_be_bound() -> None:
    with pytest.raises(KeyError):
        compare('"${UNKNOWN}"', '"x"', {}, "here")


def test_generated_strings_are_filled_in_everywhere() -> None:
    bound = variables({"A": "${GEN_STR:8}", "B": "literal"}, seed="1-1")

    assert len(bound["A"]) == 8
    assert bound["A"].isalnum()
    assert fill({"x": ["${A}", "<${B}>"]}, bound) == {"x": [bound["A"], "<literal>"]}


@pytest.mark.parametrize(
    ("rule", "count", "passes"),
    [
        ({"count": 1}, 1, True),
        ({"count": 1}, 2, False),
        ({"count": 0}, 1, False),
        ({}, 1, True),
        ({}, 0, False),
        ({"min_count": 2}, 1, False),
        ({"max_count": 1}, 2, False),
        ({"max_count": 0}, 0, True),
    ],
)
def test_log_messages_are_counted(rule: dict[str, int], count: int, passes: bool) -> None:
    messages = ["another line", *["said hello twice"] * count]
    expected = [{"match": {"message": "/${WORD}/"}, **rule}]

    assert (compare_logs(expected, messages, {"WORD": "hello"}) == []) is passes


def test_a_log_message_without_slashes_must_be_equal() -> None:
    assert compare_logs([{"match": {"message": "hello"}}], ["hello there"], {})


def test_a_rule_for_logs_that_is_not_known_is_refused() -> None:
    with pytest.raises(NotImplementedError):
        compare_logs([{"match": {"message": "x"}, "before": {"message": "y"}}], [], {})
