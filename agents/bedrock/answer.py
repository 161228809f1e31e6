"""What Converse answers, as a LangChain message: content, tool calls, usage, metadata. Pure.

Plain text is a str, as every chain expects it; anything richer (reasoning, citations, images) is a
list of LangChain's standard blocks, in the order the model gave them. Whatever the model stopped
for, an answer with usage is an answer: it was paid, and is returned. An answer without its output
or its usage is none: `UnreadableAnswer`.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, cast

from langchain_core.messages import AIMessage
from langchain_core.messages.ai import InputTokenDetails, UsageMetadata

from ..errors import UnreadableAnswer
from .content import Wire

PROVIDER = "bedrock"
_KEPT = {
    "serviceTier": "service_tier",
    "performanceConfig": "performance",
    "trace": "trace",
    "additionalModelResponseFields": "additional_fields",
}
_TTLS = {"5m": "ephemeral_5m_input_tokens", "1h": "ephemeral_1h_input_tokens"}


def answer_of(response: Mapping[str, Any], about: Mapping[str, Any]) -> AIMessage:
    """Return the message that a response of Converse holds; `about` joins its metadata.

    Raises:
        UnreadableAnswer: it lacks its output or its usage.
    """
    message = (response.get("output") or {}).get("message")
    if not isinstance(message, Mapping) or not isinstance(message.get("content"), list):
        raise UnreadableAnswer(unreadable("no output", response))
    usage = usage_of(response)
    blocks = [block_of(block) for block in message["content"]]
    kinds = [block["type"] for block in blocks]
    metadata = metadata_of(response, response.get("stopReason")) | dict(about)
    content: Any = "".join(block["text"] for block in blocks if block["type"] == "text")
    if not _is_plain(blocks, kinds):
        content, metadata = blocks, metadata | {"output_version": "v1"}
    return AIMessage(
        content=content,
        tool_calls=[block for block in blocks if block["type"] == "tool_call"],
        invalid_tool_calls=[block for block in blocks if block["type"] == "invalid_tool_call"],
        usage_metadata=usage,
        response_metadata=metadata,
    )


def usage_of(response: Mapping[str, Any]) -> UsageMetadata:
    """Return the tokens of an answer; the input includes what the cache gave and took.

    Raises:
        UnreadableAnswer: the usage is missing or no numbers.
    """
    usage = response.get("usage")
    counts = usage if isinstance(usage, Mapping) else {}
    fresh, output = counts.get("inputTokens"), counts.get("outputTokens")
    if not isinstance(fresh, int) or not isinstance(output, int):
        raise UnreadableAnswer(unreadable("no usage", response))
    read, written = counts.get("cacheReadInputTokens"), counts.get("cacheWriteInputTokens")
    taken = fresh + (read or 0) + (written or 0)
    tokens = UsageMetadata(input_tokens=taken, output_tokens=output, total_tokens=taken + output)
    details = {
        name: count
        for name, count in (("cache_read", read), ("cache_creation", written))
        if count is not None
    }
    for each in counts.get("cacheDetails") or ():
        key = _TTLS.get(each.get("ttl"))
        if key is not None:
            details[key] = details.get(key, 0) + each.get("inputTokens", 0)
    if details:
        tokens["input_token_details"] = cast("InputTokenDetails", details)
    return tokens


def metadata_of(response: Mapping[str, Any], stop_reason: Any) -> Wire:
    """Return what is worth keeping of a response beside its message and usage."""
    sent = response.get("ResponseMetadata") or {}
    kept = {
        "model_provider": PROVIDER,
        "stop_reason": stop_reason,
        "request_id": sent.get("RequestId"),
        "latency_ms": (response.get("metrics") or {}).get("latencyMs"),
        "botocore_retries": sent.get("RetryAttempts"),
    }
    kept |= {name: response.get(key) for key, name in _KEPT.items()}
    if isinstance(tier := kept["service_tier"], Mapping):
        kept["service_tier"] = tier.get("type")
    return {key: value for key, value in kept.items() if value is not None}


def unreadable(lacks: str, response: Mapping[str, Any]) -> str:
    """Return the text of an `UnreadableAnswer`: what is missing, and the id to ask AWS about."""
    request = (response.get("ResponseMetadata") or {}).get("RequestId") or "unknown"
    found = ", ".join(sorted(key for key in response if key != "ResponseMetadata")) or "nothing"
    return (
        f"Bedrock answered request {request} with {lacks} (found: {found}); the answer is cut off,"
        " and billed, most likely"
    )


def block_of(block: Mapping[str, Any]) -> Wire:
    """Return a block of Converse as LangChain's standard block."""
    kind, value = next(iter(block.items()))
    match kind:
        case "text":
            return {"type": "text", "text": value}
        case "toolUse":
            return _tool_call(value)
        case "toolResult":
            return server_result(value) | {"output": value.get("content")}
        case "reasoningContent":
            return reasoning_block(value.get("reasoningText") or value)
        case "citationsContent":
            text = "".join(part.get("text", "") for part in value.get("content") or ())
            notes = [citation_of(each) for each in value.get("citations") or ()]
            return {"type": "text", "text": text, "annotations": notes}
        case "image" if "bytes" in value.get("source", {}):
            data = base64.b64encode(value["source"]["bytes"]).decode()
            return {"type": "image", "base64": data, "mime_type": f"image/{value['format']}"}
        case _:
            return {"type": "non_standard", "value": dict(block)}


def server_result(result: Mapping[str, Any]) -> Wire:
    """Return a standard block for the result, still empty, of a tool that Bedrock itself ran."""
    block = {
        "type": "server_tool_result",
        "tool_call_id": result.get("toolUseId"),
        "status": result.get("status", "success"),
    }
    return block | ({"extras": {"type": result["type"]}} if result.get("type") else {})


def reasoning_block(reasoning: Mapping[str, Any]) -> Wire:
    """Return a standard reasoning block, of a whole one or of a piece from a stream."""
    block: Wire = {"type": "reasoning"}
    if reasoning.get("text"):
        block["reasoning"] = reasoning["text"]
    extras = {}
    if reasoning.get("signature"):
        extras["signature"] = reasoning["signature"]
    if reasoning.get("redactedContent"):
        extras["redacted_content"] = base64.b64encode(reasoning["redactedContent"]).decode()
    return block | ({"extras": extras} if extras else {})


def citation_of(citation: Mapping[str, Any]) -> Wire:
    """Return a standard citation; Bedrock's own, with its location, is kept among the extras."""
    quoted = "".join(part.get("text", "") for part in citation.get("sourceContent") or ())
    web = (citation.get("location") or {}).get("web") or {}
    told = {"title": citation.get("title"), "url": web.get("url"), "cited_text": quoted or None}
    note = {"type": "citation"} | {key: value for key, value in told.items() if value is not None}
    return note | {"extras": {"citation": dict(citation)}}


def _tool_call(use: Mapping[str, Any]) -> Wire:
    args = {} if use.get("input") is None else use["input"]
    call = {"name": use.get("name"), "id": use.get("toolUseId"), "args": args}
    if use.get("type") == "server_tool_use":
        return call | {"type": "server_tool_call"}
    if isinstance(args, dict):
        return call | {"type": "tool_call"}
    error = "the arguments are no JSON object"
    return call | {"type": "invalid_tool_call", "args": str(args), "error": error}


def _is_plain(blocks: list[Wire], kinds: list[str]) -> bool:
    """Whether the answer is text and then tool calls, so that a str and a list say it all."""
    calls = {"tool_call", "invalid_tool_call"}
    text = [kind for kind in kinds if kind not in calls]
    in_order = kinds[: len(text)] == text
    return in_order and text in ([], ["text"]) and not any("annotations" in b for b in blocks)
