"""What a run of an agent came to: as its scope's record, and as the handler gets it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any

from perdure.durable.errors import SerializationError

from .reply import Reply, Usage
from .tool_calls import Record, step_name

ContextPolicy = Callable[[list[Any]], Sequence[Any]]
"""What is sent of the messages so far; the same for the same messages, at each replay."""


class StopReason(StrEnum):
    """Why an agent stopped."""

    ANSWERED = "answered"
    """Its model gave an answer instead of calling tools."""
    MAX_TOKENS = "max_tokens"
    """Its model's answer was cut off at its largest length."""
    MAX_TURNS = "max_turns"
    """Its turns were used up; calls of the last one were not made, unless an output was due."""


@dataclass(frozen=True, slots=True)
class AgentResult:
    """What a run of an agent came to.

    Attributes:
        text: the text of the last turn.
        output: the answer as the class that was asked for, if one was.
        stop_reason: a value of `StopReason`.
        turns: how many turns it took.
        tool_calls: each call in order: `name`, `args` it was made with, and `status`: "success",
            "error", "refused", or "not_run".
        messages: how many messages the conversation has in the end, the last answer included.
        usage: tokens of all turns, less what the model did not tell; repairs and failed attempts
            are in the ledger.
        usd: what the turns cost; None if the price of one is not known.
    """

    text: str
    output: Any
    stop_reason: str
    turns: int
    tool_calls: list[dict[str, Any]]
    messages: int
    usage: Usage
    usd: Decimal | None


class Conversation(list[Any]):
    """The messages so far; a prompt file that began them is named in each call's record."""

    name: str = ""
    version: str | None = None

    def sent(self, policy: ContextPolicy | None) -> Conversation:
        """Return what is sent of them."""
        sent = Conversation(self if policy is None else policy(list(self)))
        sent.name, sent.version = self.name, self.version
        return sent


def has_output(reply: Reply[Any]) -> bool:
    """Tell whether a turn gave the output: by its tool, or as text where it called none."""
    calls = reply.record["message"]["data"].get("tool_calls") or ()
    return not calls or any(call["name"] == reply.output_tool for call in calls)


def calls_of(reply: Reply[Any]) -> list[dict[str, Any]]:
    """Return the tool calls of a turn; the `args` of one that is no valid JSON are its text."""
    broken = reply.record["message"]["data"].get("invalid_tool_calls") or ()
    return reply.tool_calls + [
        {"name": each.get("name") or "", "args": each.get("args") or "", "id": each.get("id")}
        for each in broken
    ]


def listed(call: Mapping[str, Any], status: str) -> dict[str, Any]:
    """Return a call as the result lists it."""
    return {"name": call["name"], "args": call["args"], "status": status}


def message_of(call: Mapping[str, Any], record: Record) -> dict[str, Any]:
    """Return the message that tells the model what its call came to."""
    name = step_name(call)
    return {
        "role": "tool",
        "content": record["content"],
        "tool_call_id": call["id"] or name,
        "name": name,
        "status": record["status"],
    }


def record_of_run(
    stop: StopReason, replies: Sequence[Reply[Any]], made: list[dict[str, Any]], messages: int
) -> dict[str, Any]:
    """Return what the journal keeps of a run: plain data, the last answer as it came."""
    told = [reply.usage for reply in replies if reply.usage is not None]
    usage = Usage(
        sum(each.input for each in told),
        sum(each.output for each in told),
        sum(each.cache_read for each in told),
        sum(each.cache_write for each in told),
        any(each.estimated for each in told),
    )
    costs = [reply.cost.usd for reply in replies]
    usd = None if None in costs else sum((each for each in costs if each is not None), Decimal(0))
    data = replies[-1].record["message"]["data"]
    answer = {
        key: data[key] for key in ("content", "tool_calls", "invalid_tool_calls") if key in data
    }
    return {
        "answer": answer,
        "stop_reason": stop.value,
        "turns": len(replies),
        "tool_calls": made,
        "messages": messages,
        "usage": asdict(usage),
        "usd": None if usd is None else f"{usd:f}",
    }


def result_of(kept: Mapping[str, Any], output: Any) -> AgentResult:
    """Return the result that a record is of; the output is read anew, as its class says.

    Raises:
        SerializationError: the recorded answer does not fit the class any more.
    """
    last: Reply[Any] = Reply("turn", {"message": {"data": kept["answer"]}})
    return AgentResult(
        last.text,
        None if output is None else _read(last, output),
        kept["stop_reason"],
        kept["turns"],
        kept["tool_calls"],
        kept["messages"],
        Usage(**kept["usage"]),
        None if kept["usd"] is None else Decimal(kept["usd"]),
    )


def _read(last: Reply[Any], output: Any) -> Any:
    from .structured import Invalid, Shape

    try:
        return Shape(output).read(last)
    except Invalid as error:
        raise SerializationError(
            f"the agent's recorded answer no longer fits {output!r}: {error}"
        ) from None
