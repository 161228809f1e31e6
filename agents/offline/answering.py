"""The offline stand-in: answers a conversation with sentences of what it was given.

It extracts and ranks; it does not reason, and never says what does not stand in its input. The
same conversation gets the same answer in every process. With tools it follows one small strategy:
search with the words of the request, read what the results name, then answer; at most four rounds,
no call twice, and no tool that is not plainly for searching, reading or answering.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from . import facts
from .fits import canonical, type_of
from .material import (
    NUMBER_KEYS,
    Call,
    Material,
    Turn,
    is_empty,
    json_values,
    leaves,
    material_of,
    request_of,
)
from .schema import fill, speaks_of_citing
from .text import keywords
from .values import NOTHING, cited
from .words import ACTS, FINISHES, IDENTIFIERS, QUERIES, READS, SEARCHES

MODEL_NAME = "perdure-offline-extractive-1"
NOTICE = "offline stand-in: extracts sentences, does not reason"
SIMULATED_PRICE = {"input": 3.0, "output": 15.0}
"""US dollars for a million tokens: simulated, so that ledger and budgets can be seen to move."""

MOST_ROUNDS = 4
MOST_READ = 3
MOST_SENTENCES = 6
_COUNTS = ("one", "two", "three", "four", "five", "six")
_IN_SENTENCES = re.compile(rf"\b({'|'.join(_COUNTS)}|[1-6]) (?:\w+ )?sentences?\b")
_SEARCHED = (
    "The offline stand-in searched with the tools it was given and found nothing to extract."
)


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool the stand-in may call: its name, what it is for, and the schema of its arguments."""

    name: str
    description: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """A text, or calls of tools; never both."""

    text: str
    calls: tuple[Call, ...] = ()


def answer(
    turns: Sequence[Turn],
    tools: Sequence[Tool] = (),
    choice: str = "auto",
    output_schema: Mapping[str, Any] | None = None,
) -> Answer:
    """Answer a conversation.

    Args:
        turns: the messages, oldest first.
        tools: what may be called.
        choice: `auto`, `any` (a tool must be called), `none`, or the name of the tool to call.
        output_schema: answer with JSON text that fits this schema, once no tool is to be called.

    Raises:
        InvalidRequest: nothing fits the schema of a forced tool, or the output schema.
    """
    forced = next((tool for tool in tools if tool.name == choice), None)
    if choice == "any" and len(tools) == 1:
        forced = tools[0]
    material = material_of(turns)
    if forced is not None:
        return _calls(turns, [_filled(forced, material, turns)])
    if tools and choice != "none":
        calls = _strategy(turns, tools, material)
        if not calls and choice == "any":
            calls = [_filled(tools[0], material, turns)]
        if calls:
            return _calls(turns, calls)
    if output_schema is not None:
        name = str(output_schema.get("title", ""))
        value = fill(output_schema, material, name=name, cite=_citing(turns))
        return Answer(json.dumps(value, ensure_ascii=False))
    return Answer(_text(turns, material))


def tokens(characters: int) -> int:
    """Estimate the tokens of a text from its length: a quarter, rounded up."""
    return -(-characters // 4)


def _text(turns: Sequence[Turn], material: Material) -> str:
    asked = _sentences_asked(material.request)
    best = material.answer(asked or MOST_SENTENCES, whole=asked is not None)
    if best:
        return "\n".join(cited(passage) for passage in best)
    return _SEARCHED if any(turn.role == "tool" for turn in turns) else NOTHING


def _sentences_asked(request: str) -> int | None:
    asked = _IN_SENTENCES.search(request.casefold())
    if asked is None:
        return None
    return _COUNTS.index(asked[1]) + 1 if asked[1] in _COUNTS else int(asked[1])


def _filled(tool: Tool, material: Material, turns: Sequence[Turn]) -> Call:
    arguments = fill(tool.schema, material, name=tool.name, cite=_citing(turns))
    return Call(tool.name, arguments if isinstance(arguments, dict) else {"value": arguments})


def _citing(turns: Sequence[Turn]) -> bool:
    asked = [turn.text for turn in turns if turn.role == "system"]
    return speaks_of_citing("\n".join([*asked, request_of(turns)]))


def _calls(turns: Sequence[Turn], calls: Iterable[Call]) -> Answer:
    """Return calls as an answer, each with an id made of its content and place."""
    named = []
    for at, call in enumerate(calls):
        content = f"{len(turns)}/{at}/{call.name}/{canonical(call.arguments)}"
        digest = hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()
        named.append(replace(call, id=f"call_{digest[:20]}"))
    return Answer("", tuple(named))


def _strategy(turns: Sequence[Turn], tools: Sequence[Tool], material: Material) -> list[Call]:
    """Return the calls of the next round: search, then read, then the tool that takes an answer."""
    made = [call for turn in turns for call in turn.calls]
    done = {(call.name, canonical(call.arguments)) for call in made}
    calls: list[Call] = []
    if _rounds(turns) < MOST_ROUNDS:
        calls = _reads(turns, tools, made) or _searches(turns, tools, made)
        calls = [each for each in calls if (each.name, canonical(each.arguments)) not in done]
    if calls:
        return calls
    finishing = [tool for tool in tools if _words(tool.name) & FINISHES]
    return [_filled(finishing[0], material, turns)] if finishing else []


def _rounds(turns: Sequence[Turn]) -> int:
    last = max((at for at, turn in enumerate(turns) if turn.role == "user"), default=0)
    return sum(1 for turn in turns[last:] if turn.calls)


def _searches(turns: Sequence[Turn], tools: Sequence[Tool], made: Sequence[Call]) -> list[Call]:
    """Return the first search, or a broader one when the first found nothing."""
    searching = [tool for tool in tools if _is_for(tool, SEARCHES)]
    found = any(turn.role == "tool" and turn.ok and not is_empty(turn.text) for turn in turns)
    names = {tool.name for tool in searching}
    before = sum(1 for call in made if call.name in names)
    if not searching or found or before >= 2 * len(names):
        return []
    request = request_of(turns)
    words = keywords(request, 2 if before else 6)
    return [_search(tool, " ".join(words) or request[:80], request) for tool in searching[:2]]


def _search(tool: Tool, query: str, request: str) -> Call:
    arguments = _required(tool, Material(request, ()))
    parameter = _parameter(tool, QUERIES)
    if parameter:
        arguments[parameter] = query
    return Call(tool.name, arguments)


def _reads(turns: Sequence[Turn], tools: Sequence[Tool], made: Sequence[Call]) -> list[Call]:
    """Return calls that read what the results of earlier calls name, or else the request."""
    reading = [tool for tool in tools if _is_for(tool, READS) and not _is_for(tool, SEARCHES)]
    searching = any(_is_for(tool, SEARCHES) for tool in tools)
    for tool in reading:
        parameter = _parameter(tool, IDENTIFIERS)
        if parameter is None:
            continue
        read = [call.arguments.get(parameter) for call in made if call.name == tool.name]
        whole = _member(tool, parameter) == "integer"
        named: list[Any] = []
        if len(read) < MOST_READ:
            named = list(dict.fromkeys(_named(turns, made, tool, parameter, whole)))
        if not named and (made or not searching) and not whole:
            named = facts.identifiers(request_of(turns))
        arguments = _required(tool, Material(request_of(turns), ()))
        numbered = [each for each in arguments if each in NUMBER_KEYS and each != parameter]
        new = [each for each in named if each not in read][: max(0, MOST_READ - len(read))]
        if new:
            return [
                Call(tool.name, arguments | dict.fromkeys(numbered, at) | {parameter: each})
                for at, each in enumerate(new, len(read) + 1)
            ]
    return []


def _named(
    turns: Sequence[Turn], made: Sequence[Call], tool: Tool, parameter: str, whole: bool
) -> Iterator[Any]:
    """Yield what results name that this tool can read; its own results name nothing new."""
    own = {call.id for call in made if call.name == tool.name}
    results = [
        turn.text
        for turn in turns
        if turn.role == "tool" and turn.ok and turn.answers not in own and not is_empty(turn.text)
    ]
    for result in results:
        values = json_values(result)
        if values is None:
            yield from () if whole else _in_text(result)
            continue
        listed = list(leaves(values))
        exact = [each for key, each in listed if key == parameter]
        near = [each for key, each in listed if _near(key, parameter)]
        fitting = [each for each in exact or near if type(each) is (int if whole else str)]
        if fitting or whole:
            yield from fitting
        else:
            bare = [each for key, each in listed if not key and isinstance(each, str)]
            yield from (
                (each for each in bare if each and " " not in each) if bare else _in_text(result)
            )


def _in_text(result: str) -> Iterator[str]:
    for line in result.splitlines():
        yield from facts.identifiers(line)[:1]


def _near(key: str, parameter: str) -> bool:
    ends = {part for part in re.split(r"[^a-z]+", key.casefold()) if part}
    return bool(ends & set(re.split(r"[^a-z]+", parameter.casefold())) & IDENTIFIERS)


def _parameter(tool: Tool, names: frozenset[str]) -> str | None:
    """Return the parameter that takes the query or the id: the one called so, or the first."""
    members = tool.schema.get("properties", {})
    required = [name for name in tool.schema.get("required", ()) if name in members]
    fitting = [
        name
        for name in [*required, *(name for name in members if name not in required)]
        if _member(tool, name) in ("string", "integer") and "enum" not in members[name]
    ]
    called = [name for name in fitting if _words(name) & names]
    first = [name for name in fitting if name in required and _member(tool, name) == "string"]
    return next(iter([*called, *first]), None)


def _member(tool: Tool, name: str) -> str | None:
    part = tool.schema.get("properties", {}).get(name)
    return type_of(part) if isinstance(part, Mapping) else None


def _required(tool: Tool, material: Material) -> dict[str, Any]:
    """Return the least arguments that a tool accepts."""
    required = tool.schema.get("required", ())
    if not required:
        return {}
    filled = fill(tool.schema, material, name=tool.name)
    return {name: filled[name] for name in required if name in filled}


def _is_for(tool: Tool, purpose: frozenset[str]) -> bool:
    """Return whether a tool's name says so, or, if that says nothing, the start of its text."""
    named = _words(tool.name)
    if named & ACTS:
        return False
    if named & (SEARCHES | READS | FINISHES):
        return bool(named & purpose)
    opening = re.findall(r"[a-z]+", tool.description.casefold())[:8]
    return bool(_singular(opening) & purpose) and not _singular(opening) & ACTS


def _words(name: str) -> set[str]:
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return _singular(re.findall(r"[a-z]+", spaced.casefold()))


def _singular(words: Iterable[str]) -> set[str]:
    return {form for word in words for form in (word, word.removesuffix("s"))}
