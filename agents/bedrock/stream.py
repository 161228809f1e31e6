"""The events of ConverseStream, as chunks that add up to the message. No I/O of its own.

Each chunk's content is a list of LangChain's standard blocks with the index Bedrock gives them, so
that chunks merge by themselves. The last one carries usage, stop reason and request id. A stream
that ends without them was cut off: `UnreadableAnswer`, since what it cost nobody said.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from langchain_core.messages import AIMessageChunk
from langchain_core.messages.tool import tool_call_chunk

from ..errors import UnreadableAnswer
from .answer import (
    PROVIDER,
    citation_of,
    metadata_of,
    reasoning_block,
    server_result,
    unreadable,
    usage_of,
)
from .content import Wire

_EVERY = {"output_version": "v1", "model_provider": PROVIDER}


def chunks_of(
    events: Iterable[Mapping[str, Any]], sent: Mapping[str, Any], about: Mapping[str, Any]
) -> Iterator[AIMessageChunk]:
    """Yield a stream's chunks; `sent` is its ResponseMetadata, `about` joins the last one's.

    Raises:
        UnreadableAnswer: the stream ended before it said what it stopped for and what it used.
    """
    stop: Mapping[str, Any] | None = None
    server: set[int] = set()
    images: dict[int, tuple[str, bytearray]] = {}
    seen: dict[str, Any] = {}
    for event in events:
        kind, value = next(iter(event.items()))
        seen[kind] = value
        match kind:
            case "contentBlockStart":
                yield from _begin(value["start"], value["contentBlockIndex"], server, images)
            case "contentBlockDelta":
                yield from _go_on(value["delta"], value["contentBlockIndex"], server, images)
            case "contentBlockStop" if value["contentBlockIndex"] in images:
                yield _image(value["contentBlockIndex"], images)
            case "messageStop":
                stop = value
            case "metadata" if stop is not None:
                yield _last(value, stop, sent, about)
                return
    raise UnreadableAnswer(unreadable("a stream without an end", seen | {"ResponseMetadata": sent}))


def _chunk(block: Wire, index: int) -> AIMessageChunk:
    return AIMessageChunk(content=[block | {"index": index}], response_metadata=dict(_EVERY))


def _begin(
    start: Mapping[str, Any], index: int, server: set[int], images: dict[int, Any]
) -> Iterator[AIMessageChunk]:
    if "image" in start:
        images[index] = (start["image"]["format"], bytearray())
    elif "toolResult" in start:
        yield _chunk(server_result(start["toolResult"]) | {"output": []}, index)
    elif "toolUse" in start:
        use = start["toolUse"]
        if use.get("type") == "server_tool_use":
            server.add(index)
        yield _call(index, server, use["name"], use["toolUseId"], "")


def _go_on(
    delta: Mapping[str, Any], index: int, server: set[int], images: dict[int, Any]
) -> Iterator[AIMessageChunk]:
    kind, value = next(iter(delta.items()))
    match kind:
        case "text":
            yield _chunk({"type": "text", "text": value}, index)
        case "toolUse":
            yield _call(index, server, None, None, value["input"])
        case "toolResult":
            yield _chunk({"type": "server_tool_result", "output": list(value)}, index)
        case "reasoningContent":
            yield _chunk(reasoning_block(value), index)
        case "citation":
            noted = {"type": "text", "text": "", "annotations": [citation_of(value)]}
            yield _chunk(noted, index)
        case "image" if index in images:
            images[index][1].extend((value.get("source") or {}).get("bytes") or b"")


def _call(
    index: int, server: set[int], name: str | None, call_id: str | None, args: str
) -> AIMessageChunk:
    if index in server:
        named = {"name": name, "id": call_id} if call_id else {}
        return _chunk({"type": "server_tool_call_chunk", "args": args} | named, index)
    chunk = tool_call_chunk(name=name, id=call_id, args=args, index=index)
    return AIMessageChunk(
        content=[{**chunk}], tool_call_chunks=[chunk], response_metadata=dict(_EVERY)
    )


def _image(index: int, images: dict[int, Any]) -> AIMessageChunk:
    form, data = images.pop(index)
    encoded = base64.b64encode(bytes(data)).decode()
    return _chunk({"type": "image", "base64": encoded, "mime_type": f"image/{form}"}, index)


def _last(
    event: Mapping[str, Any],
    stop: Mapping[str, Any],
    sent: Mapping[str, Any],
    about: Mapping[str, Any],
) -> AIMessageChunk:
    whole = {"ResponseMetadata": sent, **stop, **event}
    return AIMessageChunk(
        content=[],
        usage_metadata=usage_of(whole),
        response_metadata=_EVERY | metadata_of(whole, stop.get("stopReason")) | dict(about),
        chunk_position="last",
    )
