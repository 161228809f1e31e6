"""A conversation on its way to Bedrock's Converse API: roles, turns and metadata. No I/O.

Turns alternate as Converse demands: messages in a row of the same side, results of tools included,
are one turn. System messages stand at the head and become the system prompt; a later one
is refused, since Converse has no place for it that every model knows. What the model said before
goes back as it came: reasoning with its signature, citations, tool calls. What only LangChain needs
(ids of messages, artifacts of tools) is not sent.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal, NamedTuple

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from ..errors import InvalidRequest
from .content import (
    RESULT_BLOCKS,
    SYSTEM_BLOCKS,
    USER_BLOCKS,
    DocumentNames,
    Wire,
    blocks_of,
    cache_point,
    check_user_turn,
    media_block,
)

MAX_METADATA = 16
"""Pairs that one request may carry as `requestMetadata`."""
_NOT_IN_METADATA = re.compile(r"[^a-zA-Z0-9\s:_@$#=/+,.-]")
_TOOL_ID = re.compile(r"[a-zA-Z0-9_.:-]{1,64}")
_NOTHING = "(no output)"
_OWN_BLOCKS = frozenset(
    {
        *("text", "image", "toolUse", "toolResult", "reasoningContent", "citationsContent"),
        *("cachePoint", "guardContent", "toolAddition", "toolRemoval"),
    }
)


@dataclass(frozen=True, slots=True)
class Conversation:
    """What of a request comes from its messages.

    Attributes:
        system: the blocks of the system prompt.
        messages: the turns, user and assistant by turns, the user first.
        documents: what the documents were called, by the neutral names they are sent under.
        uses_tools: tools were called in it, so that Converse wants them declared again.
    """

    system: list[Wire]
    messages: list[Wire]
    documents: dict[str, str]
    uses_tools: bool


class Dialect(NamedTuple):
    """What not every model on Bedrock takes."""

    status: bool
    """The status of a tool's result: Claude and Nova only."""
    reasoning: Literal["all", "signed", "none"]
    """Earlier reasoning: Claude what carries its signature, DeepSeek none."""


def dialect_of(model: str) -> Dialect:
    """Return what the model of this id, profile or ARN takes."""
    name = model.lower()
    status = "claude" in name or "nova" in name
    if "deepseek" in name:
        return Dialect(status, "none")
    return Dialect(status, "signed" if "claude" in name or "arn:" in name else "all")


def conversation(messages: Sequence[BaseMessage], dialect: Dialect) -> Conversation:
    """Return the messages as Converse takes them.

    Raises:
        InvalidRequest: there is nothing to send, a message has no place in a conversation, or its
            content breaks a rule of Bedrock; the text names the message by its number.
    """
    names = DocumentNames()
    system: list[Wire] = []
    turns: list[Wire] = []
    places: list[str] = []
    for number, message in enumerate(messages, 1):
        where = f"message {number} ({message.type})"
        role = _role(message, where)
        if role == "system":
            if turns:
                raise InvalidRequest(
                    f"{where}: a system message after the conversation has begun; put it at the"
                    " head, or send it as a human message"
                )
            system += blocks_of(message.content, SYSTEM_BLOCKS, where, names)
            continue
        blocks = _blocks(message, role, dialect, where, names)
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": role, "content": blocks})
            places.append(where)
    for turn, where in zip(turns, places, strict=True):
        if turn["role"] == "user":
            check_user_turn(turn["content"], where)
    if not turns or turns[0]["role"] != "user":
        raise InvalidRequest(
            "a conversation with Bedrock begins with a user's message; none is here"
        )
    used = any("toolUse" in b or "toolResult" in b for turn in turns for b in turn["content"])
    return Conversation(system, turns, names.given, used)


def request_metadata(*given: Mapping[str, Any]) -> dict[str, str]:
    """Return pairs for `requestMetadata`, later ones over earlier; what Bedrock refuses becomes _.

    Raises:
        InvalidRequest: more pairs than Bedrock takes.
    """
    pairs = {_metadata(key): _metadata(value) for each in given for key, value in each.items()}
    if len(pairs) > MAX_METADATA:
        raise InvalidRequest(
            f"request_metadata has {len(pairs)} pairs with perdure's own, and Bedrock takes"
            f" {MAX_METADATA}"
        )
    return pairs


def _metadata(value: Any) -> str:
    return _NOT_IN_METADATA.sub("_", str(value))[:256]


def _role(message: BaseMessage, where: str) -> str:
    match message:
        case SystemMessage():
            return "system"
        case HumanMessage() | ToolMessage():
            return "user"
        case AIMessage():
            return "assistant"
        case ChatMessage(role=("user" | "assistant" | "system") as role):
            return str(role)
    raise InvalidRequest(
        f"{where}: no such message can be sent to Bedrock; it takes system, human, ai and tool"
    )


def _blocks(
    message: BaseMessage, role: str, dialect: Dialect, where: str, names: DocumentNames
) -> list[Wire]:
    if isinstance(message, ToolMessage):
        return [_tool_result(message, dialect, where, names)]
    if role == "user":
        if blocks := blocks_of(message.content, USER_BLOCKS, where, names):
            return blocks
        raise InvalidRequest(f"{where}: it is empty, and Bedrock takes no empty message")
    said = message if isinstance(message, AIMessage) else AIMessage(content=message.content)
    answer = [_said(piece, where) for piece in _pieces(said)]
    return [block for block in answer if block is not None and _is_taken(block, dialect)]


def _tool_result(message: ToolMessage, dialect: Dialect, where: str, names: DocumentNames) -> Wire:
    content = blocks_of(message.content, RESULT_BLOCKS, where, names)
    result = {
        "toolUseId": _tool_id(message.tool_call_id),
        "content": content or [{"text": _NOTHING}],
    }
    status = {"status": message.status} if dialect.status else {}
    return {"toolResult": result | status}


def _tool_id(given: str | None) -> str:
    """Return a tool call's id as Bedrock takes it: another provider's may have to be replaced."""
    given = given or ""
    if _TOOL_ID.fullmatch(given):
        return given
    return "call-" + blake2b(given.encode(), digest_size=16).hexdigest()


def _pieces(message: AIMessage) -> Iterator[Mapping[str, Any]]:
    """Yield an answer's standard blocks, and the tool calls that are not among them."""
    if isinstance(message.content, str):
        blocks: list[Any] = [{"type": "text", "text": message.content}]
    else:
        blocks = [
            {"type": "text", "text": block} if isinstance(block, str) else block
            for block in message.content_blocks
        ]
    yield from blocks
    seen = {block.get("id") for block in blocks if "tool_call" in str(block.get("type"))}
    for call in (*message.tool_calls, *message.invalid_tool_calls):
        if call.get("id") not in seen:
            yield dict(call)


def _said(piece: Mapping[str, Any], where: str) -> Wire | None:
    """Return a standard block of an earlier answer as Bedrock's, or None if it says nothing."""
    match piece.get("type"):
        case "text":
            return _text(piece)
        case "refusal":
            return {"text": piece["refusal"]}
        case "reasoning":
            return _reasoning(piece)
        case "tool_call":
            return _tool_use(piece, piece.get("args") or {})
        case "invalid_tool_call":
            return _tool_use(piece, {})
        case "server_tool_call":
            call = _tool_use(piece, piece.get("args") or {})
            return {"toolUse": call["toolUse"] | {"type": "server_tool_use"}}
        case "server_tool_result":
            return _server_result(piece)
        case "image":
            return media_block(piece, where, DocumentNames())
        case "cache_point":
            return cache_point(piece)
        case "non_standard" if isinstance(piece.get("value"), Mapping):
            return _native(piece["value"], where)
        case None:
            return _native(piece, where)
        case other:
            raise InvalidRequest(
                f"{where}: a block of type {other!r} cannot be sent back to Bedrock"
            )


def _text(piece: Mapping[str, Any]) -> Wire:
    """Return a text, with its citations where they are Bedrock's own."""
    kept = [note["extras"]["citation"] for note in piece.get("annotations") or () if _is_own(note)]
    if not kept:
        return {"text": piece.get("text") or ""}
    return {"citationsContent": {"content": [{"text": piece["text"]}], "citations": kept}}


def _is_own(note: Mapping[str, Any]) -> bool:
    return "citation" in (note.get("extras") or {})


def _reasoning(piece: Mapping[str, Any]) -> Wire | None:
    extras = piece.get("extras") or {}
    if redacted := extras.get("redacted_content"):
        return {"reasoningContent": {"redactedContent": base64.b64decode(redacted)}}
    if not piece.get("reasoning"):
        return None
    signed = {"signature": extras["signature"]} if extras.get("signature") else {}
    return {"reasoningContent": {"reasoningText": {"text": piece["reasoning"]} | signed}}


def _tool_use(call: Mapping[str, Any], args: Any) -> Wire:
    use = {"toolUseId": _tool_id(call.get("id")), "name": call.get("name"), "input": args}
    return {"toolUse": use}


def _server_result(piece: Mapping[str, Any]) -> Wire:
    kept = {"type": (piece.get("extras") or {}).get("type"), "status": piece.get("status")}
    result = {"toolUseId": piece["tool_call_id"], "content": piece.get("output") or []}
    return {"toolResult": result | {key: value for key, value in kept.items() if value}}


def _native(block: Mapping[str, Any], where: str) -> Wire:
    if len(block) == 1 and next(iter(block)) in _OWN_BLOCKS:
        return dict(block)
    told = block.get("type") or ", ".join(sorted(map(str, block)))
    raise InvalidRequest(f"{where}: a block {told!r} of an answer cannot be sent back to Bedrock")


def _is_taken(block: Wire, dialect: Dialect) -> bool:
    if "reasoningContent" in block and dialect.reasoning != "all":
        return dialect.reasoning == "signed" and _is_signed(block["reasoningContent"])
    return "text" not in block or bool(block["text"].strip())


def _is_signed(reasoning: Mapping[str, Any]) -> bool:
    return "redactedContent" in reasoning or "signature" in reasoning["reasoningText"]
