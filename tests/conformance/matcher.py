"""How an expected history, result or log is compared with what was found.

The rules: an expected event is compared with the event of the same EventId. Only expected keys are
looked at, and each must be present. `{}` and `'*'` mean anything; `${NAME}` alone is bound at first
sight and must be equal after, inside a longer text it is filled in; `${/re/}` is searched in the
text; lists have equal length; all else is equality. Every function returns its findings as a list
of sentences: an empty one is a match. What a file asks for that is not known here is an error,
never passed over.
"""

import random
import re
import string
from collections.abc import Mapping, Sequence
from typing import Any

ANYTHING = ({}, "*")
_NAME = re.compile(r"\$\{(\w+)\}")
_REGEX = re.compile(r"\$\{/(.*)/\}", re.DOTALL)
_GENERATED = re.compile(r"\$\{GEN_STR:(\d+)\}")
_LOG_KEYS = {"match", "count", "min_count", "max_count"}

Bindings = dict[str, Any]


def variables(declared: Mapping[str, Any] | None, seed: str) -> Bindings:
    """Return the values of a requirement's variables; `${GEN_STR:n}` makes n characters up."""
    source = random.Random(seed)

    def value(text: Any) -> Any:
        made_up = _GENERATED.fullmatch(text) if isinstance(text, str) else None
        if made_up is None:
            return text
        alphabet = string.ascii_lowercase + string.digits
        return "".join(source.choices(alphabet, k=int(made_up[1])))

    return {name: value(text) for name, text in (declared or {}).items()}


def fill(value: Any, bound: Bindings) -> Any:
    """Return the value with each `${NAME}` in it replaced; one that is not bound is an error."""
    if isinstance(value, str):
        alone = _NAME.fullmatch(value)
        if alone:
            return bound[alone[1]]
        return _NAME.sub(lambda found: str(bound[found[1]]), value)
    if isinstance(value, Mapping):
        return {key: fill(item, bound) for key, item in value.items()}
    if isinstance(value, list):
        return [fill(item, bound) for item in value]
    return value


def compare(expected: Any, found: Any, bound: Bindings, where: str) -> list[str]:
    """Compare one value; names seen for the first time are added to `bound`."""
    if expected in ANYTHING:
        return []
    if isinstance(expected, Mapping):
        return _compare_mapping(expected, found, bound, where)
    if isinstance(expected, list):
        return _compare_list(expected, found, bound, where)
    if isinstance(expected, str):
        return _compare_text(expected, found, bound, where)
    if type(expected) is bool or type(found) is bool:
        return [] if expected is found else [f"{where}: expected {expected!r}, found {found!r}"]
    return [] if expected == found else [f"{where}: expected {expected!r}, found {found!r}"]


def compare_history(
    expected: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]], bound: Bindings
) -> list[str]:
    """Compare each expected event with the one of its EventId; other events are not looked at."""
    by_id = {event["EventId"]: event for event in found}
    problems = []
    if len(by_id) != len(found):
        problems.append("the history uses an EventId twice")
    for event in expected:
        number = event["EventId"]
        where = f"event {number} ({event['EventType']})"
        if number not in by_id:
            problems.append(f"{where}: missing")
        else:
            problems += compare(event, by_id[number], bound, where)
    return problems


def compare_logs(
    expected: Sequence[Mapping[str, Any]], messages: Sequence[str], bound: Bindings
) -> list[str]:
    """Count the messages that match, by equality or `/regex/`; by default at least one must."""
    problems = []
    for wanted in expected:
        if unknown := (set(wanted) - _LOG_KEYS) | (set(wanted["match"]) - {"message"}):
            raise NotImplementedError(
                f"the matcher does not know {sorted(unknown)} in ExpectedLogs"
            )
        pattern = fill(wanted["match"]["message"], bound)
        least, most = _bounds(wanted)
        count = sum(_says(pattern, message) for message in messages)
        if not least <= count <= most:
            problems.append(f"log {pattern!r}: expected {least} to {most}, found {count}")
    return problems


def _compare_mapping(
    expected: Mapping[str, Any], found: Any, bound: Bindings, where: str
) -> list[str]:
    if not isinstance(found, Mapping):
        return [f"{where}: expected keys {sorted(expected)}, found {found!r}"]
    problems = []
    for key, value in expected.items():
        if key in found:
            problems += compare(value, found[key], bound, f"{where}.{key}")
        else:
            problems.append(f"{where}.{key}: missing")
    return problems


def _compare_list(expected: list[Any], found: Any, bound: Bindings, where: str) -> list[str]:
    if not isinstance(found, list) or len(found) != len(expected):
        return [f"{where}: expected a list of {len(expected)}, found {found!r}"]
    pairs = enumerate(zip(expected, found, strict=True))
    return [
        problem
        for index, (wanted, item) in pairs
        for problem in compare(wanted, item, bound, f"{where}[{index}]")
    ]


def _compare_text(expected: str, found: Any, bound: Bindings, where: str) -> list[str]:
    if pattern := _REGEX.fullmatch(expected):
        matches = re.search(pattern[1], str(found)) is not None
        return [] if matches else [f"{where}: expected /{pattern[1]}/, found {found!r}"]
    if (alone := _NAME.fullmatch(expected)) and alone[1] not in bound:
        bound[alone[1]] = found
        return []
    wanted = fill(expected, bound)
    return [] if wanted == found else [f"{where}: expected {wanted!r}, found {found!r}"]


def _bounds(wanted: Mapping[str, Any]) -> tuple[float, float]:
    if "count" in wanted:
        return wanted["count"], wanted["count"]
    most = wanted.get("max_count", float("inf"))
    return wanted.get("min_count", min(1, most)), most


def _says(pattern: str, message: str) -> bool:
    if len(pattern) > 1 and pattern.startswith("/") and pattern.endswith("/"):
        return re.search(pattern[1:-1], message) is not None
    return pattern == message
