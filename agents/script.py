"""What a scripted model is told to say, and what it was asked."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage
from pydantic import BaseModel

from perdure.durable.errors import UsageError

from .errors import UnreadableAnswer


class ScriptExhausted(UsageError):
    """A scripted model was asked more often than its script has answers."""


@dataclass(frozen=True, slots=True)
class Broken:
    """An answer that breaks off: a stream of its first words, then an `UnreadableAnswer`.

    Attributes:
        text: what would have been said.
        break_after: after how many words it breaks; all of them by default.
    """

    text: str
    break_after: int | None = None

    def words(self) -> list[str]:
        """Return the words that do arrive."""
        words = re.findall(r"\S+\s*", self.text)
        return words if self.break_after is None else words[: self.break_after]

    def error(self) -> UnreadableAnswer:
        """Return the error that ends it."""
        return UnreadableAnswer(f"the scripted answer broke off after {len(self.words())} words")


@dataclass(frozen=True, slots=True)
class Request:
    """What a scripted model was asked.

    Attributes:
        messages: each with `role`, `content`, and where it has them `tool_calls`, `tool_call_id`,
            `status` and `name`.
        options: what came with them: tools, tool_choice, stop, max_tokens and the like.
    """

    messages: list[dict[str, Any]]
    options: dict[str, Any]


Answering = Callable[[list[BaseMessage], dict[str, Any]], Any]


class Script:
    """The answers of a model and the requests it had, for all threads and loops."""

    def __init__(self, script: Sequence[Any] | Answering, name: str) -> None:
        self.requests: list[Request] = []
        self.most = 0
        self._name = name
        self._running = 0
        self._lock = threading.Lock()
        self._always = script if callable(script) and not isinstance(script, type) else None
        if self._always is not None:
            self._items: tuple[Any, ...] = ()
            return
        if isinstance(script, (str, bytes)) or not isinstance(script, Sequence):
            raise UsageError(
                f"script is a list of answers or a function, not {type(script).__name__}; write"
                " script=[…] for a single answer"
            )
        self._items = tuple(script)
        for at, item in enumerate(self._items):
            check(item, f"script[{at}]")

    def begin(
        self, messages: list[BaseMessage], stop: list[str] | None, options: dict[str, Any]
    ) -> int:
        """Keep a request; return its number, from 1."""
        kept = {**options, "stop": stop} if stop else dict(options)
        request = Request([plain(message) for message in messages], kept)
        with self._lock:
            self.requests.append(request)
            self._running += 1
            self.most = max(self.most, self._running)
            return len(self.requests)

    def end(self) -> None:
        """Count a request as answered."""
        with self._lock:
            self._running -= 1

    def item(self, number: int, loop: bool) -> Any:
        """Return the answer to the request of this number."""
        if self._always is not None:
            return self._always
        given = len(self._items)
        if given and (loop or number <= given):
            return self._items[(number - 1) % given]
        raise ScriptExhausted(
            f"the model {self._name!r} was asked for answer {number}, and its script has {given};"
            " give it one more, or loop=True"
        )


def plain(message: BaseMessage) -> dict[str, Any]:
    """Return a message as a plain dict: role, content, and what else it has to say."""
    roles = {"human": "user", "ai": "assistant", "AIMessageChunk": "assistant"}
    told: dict[str, Any] = {
        "role": roles.get(message.type, message.type),
        "content": message.content,
    }
    for name in ("tool_calls", "tool_call_id", "status", "name"):
        value = getattr(message, name, None)
        if value:
            told[name] = value
    return told


def check(item: Any, place: str) -> None:
    """Refuse what is no answer, and say what one is."""
    calls = item if isinstance(item, list) else [item]
    if isinstance(item, (str, AIMessage, BaseModel, BaseException, Broken)) or is_function(item):
        return
    if calls and all(isinstance(each, Mapping) for each in calls):
        for each in calls:
            if not isinstance(each.get("tool"), str) or each.keys() - {"tool", "args", "id"}:
                raise UsageError(
                    f"{place}: a tool call is {{'tool': name, 'args': {{…}}}}, not {each!r}"
                )
        return
    raise UsageError(
        f"{place}: an answer is a text, a message, a tool call or a list of them, a pydantic"
        f" instance, an exception, a Broken or a function, not {type(item).__name__}"
    )


def is_function(item: Any) -> bool:
    """Return whether an answer is still to be made: a function of messages and options."""
    return callable(item) and not isinstance(item, (type, BaseModel, BaseMessage))
