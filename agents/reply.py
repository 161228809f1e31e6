"""The answer of a model call, as the journal holds it: readable without LangChain.

A record is plain data, versioned by `v`:

    v            1
    message      LangChain's `{"type": "ai", "data": {...}}`
    model        the model that answered; `provider` likewise
    usage        {input, output, cache_read, cache_write, estimated}, or null if none was given
    cost         {usd: decimal text or null, source}
    stop_reason, request_id, seconds, hidden_retries
    budgets      names of the budgets it counts against
    attempts     the ledger's lines of the attempts before it
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a call; `input` includes those read from and written to the provider's cache.

    `estimated` says that they were counted here, not by the provider.
    """

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    estimated: bool = False

    @property
    def total(self) -> int:
        """Input and output together."""
        return self.input + self.output


@dataclass(frozen=True, slots=True)
class Cost:
    """What a call cost in US dollars, and by whose price; `usd` is None where none is known."""

    usd: Decimal | None
    source: str


@dataclass(frozen=True)
class Reply(Generic[T]):
    """A recorded answer.

    Attributes:
        name: the name of the call.
        record: what the journal holds of it.
        output: the answer as the class that was asked for; None if none was, or if it calls tools.
    """

    name: str
    record: Mapping[str, Any] = field(repr=False)
    output: T = None  # type: ignore[assignment]
    output_tool: str | None = field(default=None, repr=False)

    @cached_property
    def text(self) -> str:
        """The text of the answer, without reasoning and tool calls."""
        from .messages import content_text

        return content_text(self._data["content"])

    @cached_property
    def tool_calls(self) -> list[dict[str, Any]]:
        """The tools the model asks for: dicts of `name`, `args` and `id`."""
        calls = self._data.get("tool_calls") or ()
        return [
            {"name": each["name"], "args": each["args"], "id": each.get("id")}
            for each in calls
            if each["name"] != self.output_tool
        ]

    @cached_property
    def usage(self) -> Usage | None:
        """The tokens it took, or None if the provider did not say."""
        return usage_of(self.record)

    @cached_property
    def cost(self) -> Cost:
        """What it cost."""
        return cost_of(self.record)

    @property
    def model(self) -> str:
        """The model that answered."""
        return str(self.record["model"])

    @property
    def stop_reason(self) -> str | None:
        """Why the model stopped, in the provider's words."""
        return cast("str | None", self.record.get("stop_reason"))

    @property
    def request_id(self) -> str | None:
        """The provider's id of the request."""
        return cast("str | None", self.record.get("request_id"))

    @cached_property
    def message(self) -> AIMessage:
        """The answer as a LangChain message."""
        from langchain_core.messages import messages_from_dict

        message = self.record["message"]
        kept = {"type": message["type"], "data": dict(message["data"])}
        return cast("AIMessage", messages_from_dict([kept])[0])

    @property
    def _data(self) -> Mapping[str, Any]:
        return cast("Mapping[str, Any]", self.record["message"]["data"])


def usage_of(record: Mapping[str, Any]) -> Usage | None:
    """Return the tokens of a record or of a ledger's line."""
    kept = record.get("usage")
    return Usage(**kept) if kept is not None else None


def cost_of(record: Mapping[str, Any]) -> Cost:
    """Return the cost in a record or in a ledger's line."""
    kept = record.get("cost") or {}
    usd = kept.get("usd")
    return Cost(None if usd is None else Decimal(usd), kept.get("source", "unpriced"))
