"""From what a model answered to what the journal keeps: whole if it can be, never lost.

A paid answer is recorded as it came. If something in it cannot be kept (a provider's own objects in
its metadata), it is kept without that, the text last of all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from perdure.durable.codec import Codec
from perdure.durable.errors import SerializationError

from .errors import UnreadableAnswer
from .messages import content_text
from .prices import cost
from .reply import Cost, Usage

VERSION = 1
_DROPPED_IN_TURN = ("response_metadata", "additional_kwargs", "invalid_tool_calls")
_ALWAYS = ("content", "type", "id", "tool_calls")


def record_of(
    message: Any,
    *,
    model: str,
    provider: str,
    price_as: str | None,
    own_price: Mapping[str, Any] | None,
    seconds: float,
    codec: Codec,
) -> dict[str, Any]:
    """Return the record of an answer.

    Raises:
        UnreadableAnswer: it is no answer of a chat model.
    """
    if getattr(message, "type", None) not in ("ai", "AIMessageChunk"):
        raise UnreadableAnswer(f"the model answered with {type(message).__name__}, not a message")
    metadata = message.response_metadata or {}
    answered = str(metadata.get("model_name") or metadata.get("model_id") or model)
    usage = _usage(message.usage_metadata, bool(metadata.get("usage_estimated")))
    priced = UNKNOWN_USAGE
    if usage is not None:
        own = metadata.get("simulated_price") or own_price
        priced = cost(provider, price_as or answered, usage, own)
    return {
        "v": VERSION,
        "message": {"type": "ai", "data": _kept(message, codec)},
        "model": answered,
        "provider": str(metadata.get("model_provider") or provider),
        "usage": None if usage is None else asdict(usage),
        "cost": cost_record(priced),
        "stop_reason": _first(
            metadata, "stop_reason", "stopReason", "finish_reason", "done_reason"
        ),
        "request_id": _request_id(message, metadata),
        "seconds": round(seconds, 3),
        "hidden_retries": _hidden(metadata),
    }


UNKNOWN_USAGE = Cost(None, "the provider told no usage")


def cost_record(found: Cost) -> dict[str, Any]:
    """Return a cost as the journal keeps it."""
    return {"usd": None if found.usd is None else f"{found.usd:f}", "source": found.source}


def _kept(message: Any, codec: Codec) -> dict[str, Any]:
    """Return the fields of a message that survive the journal's codec, and all that can."""
    data = {key: value for key, value in dict(message).items() if value not in (None, {}, [])}
    data["type"] = "ai"
    data.setdefault("content", "")
    data.pop("chunk_position", None)
    data.pop("tool_call_chunks", None)
    dropped: list[str] = []
    for key in ("", *_DROPPED_IN_TURN, "usage_metadata"):
        if key and data.pop(key, None) is None:
            continue
        if key:
            dropped.append(key)
        if _survives(data, codec):
            break
    else:
        data = {key: data[key] for key in _ALWAYS if key in data and _survives(data[key], codec)}
        text = content_text(message.content).encode("utf-8", "replace").decode()
        data = {"content": text, "type": "ai", **data}
        dropped.append("content blocks")
    if dropped:
        data["response_metadata"] = {"perdure_dropped": ", ".join(dropped)}
    return data


def _survives(value: Any, codec: Codec) -> bool:
    try:
        codec.roundtrip(value, where="a model's answer")
    except SerializationError:
        return False
    return True


def _usage(kept: Mapping[str, Any] | None, estimated: bool) -> Usage | None:
    if kept is None:
        return None
    details = kept.get("input_token_details") or {}
    written = sum(
        int(details.get(key) or 0)
        for key in ("cache_creation", "ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")
    )
    return Usage(
        int(kept.get("input_tokens") or 0),
        int(kept.get("output_tokens") or 0),
        int(details.get("cache_read") or 0),
        written,
        estimated,
    )


def _request_id(message: Any, metadata: Mapping[str, Any]) -> str | None:
    inner = metadata.get("ResponseMetadata") or {}
    return _first(metadata, "request_id", "id") or inner.get("RequestId") or message.id


def _hidden(metadata: Mapping[str, Any]) -> int:
    inner = metadata.get("ResponseMetadata") or {}
    return int(metadata.get("botocore_retries") or inner.get("RetryAttempts") or 0)


def _first(metadata: Mapping[str, Any], *keys: str) -> str | None:
    found: Sequence[Any] = [metadata[key] for key in keys if metadata.get(key)]
    return str(found[0]) if found else None
