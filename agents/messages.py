"""Prompts in whatever form they come, as plain messages: `{"type": "human", "data": {...}}`.

The plain form is LangChain's own, less what no model is told (ids, artifacts, usage, response
metadata), so that equal conversations are equal texts. Nothing here imports LangChain before a
message of its classes is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from perdure.durable.codec import Codec
from perdure.durable.errors import UsageError

from .reply import Reply

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

Plain = dict[str, Any]
_TYPES = {
    "system": "system",
    "user": "human",
    "human": "human",
    "assistant": "ai",
    "ai": "ai",
    "tool": "tool",
}
_SAYS_NOTHING = ("id", "artifact", "response_metadata", "usage_metadata", "type", "example")
_CODEC = Codec(None)


def plain_messages(prompt: Any, inputs: Mapping[str, Any] | None, salt: str) -> list[Plain]:
    """Return a prompt as plain messages.

    Raises:
        UsageError: it is not a prompt, or `inputs` go to one that takes none.
    """
    if hasattr(prompt, "render") and hasattr(prompt, "version"):
        prompt = prompt.render(inputs or {}, salt=salt)
    elif inputs is not None:
        raise UsageError(
            f"inputs= are for a Prompt; this one is a {type(prompt).__name__}, complete as it is"
        )
    if isinstance(prompt, str):
        return [_of_role("user", prompt)]
    if hasattr(prompt, "messages") and hasattr(prompt, "version"):
        return [_of_role(each.role, each.text) for each in prompt.messages]
    if isinstance(prompt, Mapping) or not isinstance(prompt, Iterable):
        raise UsageError(
            "a prompt is a text, a Prompt, or a list of messages such as ('user', 'text'), not "
            f"{type(prompt).__name__}"
        )
    messages = [plain_message(each) for each in prompt]
    if not messages:
        raise UsageError("the prompt holds no message; give at least one of the user")
    return messages


def plain_message(message: Any) -> Plain:
    """Return one message in the plain form.

    Raises:
        UsageError: it is none.
    """
    if isinstance(message, Reply):
        return _bare(message.record["message"])
    if isinstance(message, str):
        return _of_role("user", message)
    if isinstance(message, tuple) and len(message) == 2:
        return _of_role(*message)
    if isinstance(message, Mapping):
        return _of_mapping(message)
    if hasattr(message, "type") and hasattr(message, "model_dump"):
        return _bare({"type": message.type, "data": dict(message)})
    if hasattr(message, "role") and hasattr(message, "text"):
        return _of_role(message.role, message.text)
    raise UsageError(
        "a message is ('user', 'text'), a dict with a role, a Reply or a LangChain message, not "
        f"{type(message).__name__}"
    )


def text_of(messages: Sequence[Plain]) -> list[str]:
    """Return each message as the text that is kept of it; equal messages are equal texts."""
    return [_CODEC.encode(each, where="a message of the prompt") for each in messages]


def message_of(text: str) -> Plain:
    """Return the message that was kept as `text`."""
    message: Plain = _CODEC.decode(text, where="a message of the prompt")
    return message


def langchain(messages: Sequence[Plain]) -> list[BaseMessage]:
    """Return messages as LangChain's own."""
    from langchain_core.messages import messages_from_dict

    return messages_from_dict([{"type": each["type"], "data": each["data"]} for each in messages])


def content_text(content: Any) -> str:
    """Return the text of a message's content, a string or a list of blocks."""
    if isinstance(content, str):
        return content
    blocks = content if isinstance(content, list) else []
    return "".join(
        each if isinstance(each, str) else str(each.get("text", ""))
        for each in blocks
        if isinstance(each, str) or (isinstance(each, Mapping) and "text" in each)
    )


def estimated_tokens(messages: Sequence[str], tools: Sequence[Mapping[str, Any]]) -> int:
    """Return an upper estimate of the input's tokens: one for every three bytes, eight a message.

    Real tokenizers take about four characters of English a token, fewer of other scripts, whose
    characters have more bytes. Images and documents count by their base64 text, which is more than
    they cost. The messages are given as their texts.
    """
    size = sum(len(text.encode()) for text in messages)
    size += sum(len(json.dumps(tool, default=str)) for tool in tools)
    return size // 3 + 8 * len(messages) + 16


def _of_role(role: Any, content: Any) -> Plain:
    kind = _TYPES.get(role)
    if kind is None or kind == "tool":
        raise UsageError(f"the role of a message is system, user or assistant, not {role!r}")
    if not isinstance(content, str | list):
        raise UsageError(f"the content of a message is a text or blocks, not {content!r:.80}")
    return {"type": kind, "data": {"content": content}}


def _of_mapping(message: Mapping[str, Any]) -> Plain:
    if "data" in message and message.get("type") in _TYPES.values():
        return _bare(message)
    role = message.get("role")
    kind = _TYPES.get(str(role))
    if kind is None or "content" not in message:
        raise UsageError(
            f"a message as a dict has a role (system, user, assistant, tool) and content; found "
            f"{', '.join(map(repr, message)) or 'nothing'} with the role {role!r}"
        )
    if kind == "tool" and not message.get("tool_call_id"):
        raise UsageError("a tool's message names the call it answers: tool_call_id")
    return {"type": kind, "data": {key: message[key] for key in message if key != "role"}}


def _bare(message: Mapping[str, Any]) -> Plain:
    data = {
        key: value
        for key, value in message["data"].items()
        if key not in _SAYS_NOTHING and value not in (None, {}, [])
    }
    data.setdefault("content", "")
    return {"type": message["type"], "data": data}
