"""Content on its way to Bedrock: LangChain's standard blocks and Bedrock's own, checked. Pure.

Documents are sent under neutral names (`doc-1`, `doc-2`, …, in the order of the request), since the
model reads a document's name as if it were prompt; `DocumentNames` keeps what they were called.
What breaks a limit that Bedrock documents raises `InvalidRequest`: nothing was sent, nothing costs.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from langchain_core.messages import HumanMessage

from ..errors import InvalidRequest

Wire = dict[str, Any]
Piece = str | dict[str, Any]

MAX_DOCUMENTS = 5
"""Documents in one turn."""
MAX_DOCUMENT = int(4.5 * 1024 * 1024)
"""Bytes of one document."""
MAX_IMAGES = 20
"""Images in one turn."""
MAX_IMAGE = int(3.75 * 1024 * 1024)
"""Bytes of one image."""

_DOCUMENTS = {
    "application/pdf": "pdf",
    "text/csv": "csv",
    "application/msword": "doc",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "text/html": "html",
    "text/plain": "txt",
    "text/markdown": "md",
}
_IMAGES = {f"image/{name}": name for name in ("png", "jpeg", "gif", "webp")} | {"image/jpg": "jpeg"}
_VIDEOS = {f"video/{name}": name for name in ("mp4", "webm", "mpeg")} | {
    "video/quicktime": "mov",
    "video/x-matroska": "mkv",
    "video/x-flv": "flv",
    "video/x-ms-wmv": "wmv",
    "video/3gpp": "three_gp",
}
_AUDIOS = {f"audio/{name}": name for name in ("opus", "aac", "flac", "mp4", "ogg", "webm")} | {
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/m4a": "m4a",
}
_MEDIA = {
    "image": ("image", _IMAGES),
    "file": ("document", _DOCUMENTS),
    "video": ("video", _VIDEOS),
    "audio": ("audio", _AUDIOS),
}
_LIMITS = {"document": MAX_DOCUMENT, "image": MAX_IMAGE}

RESULT_BLOCKS = frozenset({"text", "json", "image", "document", "video", "searchResult"})
"""Bedrock's own blocks that the result of a tool may hold."""
USER_BLOCKS = (RESULT_BLOCKS - {"json"}) | {
    *("audio", "guardContent", "cachePoint", "toolResult", "toolAddition", "toolRemoval")
}
"""Bedrock's own blocks that a user's turn may hold."""
SYSTEM_BLOCKS = frozenset({"text", "guardContent", "cachePoint"})
"""Bedrock's own blocks that the system prompt may hold."""


class DocumentNames:
    """Hands out the neutral names of one request's documents.

    Attributes:
        given: what the documents were called, by neutral name; only those that had a name.
    """

    def __init__(self) -> None:
        self.given: dict[str, str] = {}
        self._count = 0

    def next(self, given: Any) -> str:
        """Return the neutral name of the next document."""
        self._count += 1
        name = f"doc-{self._count}"
        if isinstance(given, str) and given:
            self.given[name] = given
        return name


def blocks_of(
    content: str | Sequence[Any], allowed: frozenset[str], where: str, names: DocumentNames
) -> list[Wire]:
    """Return content as Bedrock's blocks; blank text, which Bedrock refuses, is left out.

    Raises:
        InvalidRequest: a block is of no kind that is allowed here, or breaks a limit; `where`
            says in the text which message it is in.
    """
    blocks: list[Wire] = []
    for piece in [content] if isinstance(content, str) else content:
        for block in _blocks_of_piece(piece, where, names):
            kind = next(iter(block))
            if kind not in allowed:
                raise InvalidRequest(
                    f"{where}: a block of kind {kind!r} has no place here; Bedrock takes"
                    f" {', '.join(sorted(allowed))}"
                )
            if kind != "text" or block["text"].strip():
                blocks.append(block)
    return blocks


def check_user_turn(blocks: Sequence[Wire], where: str) -> None:
    """Check what Bedrock asks of the blocks of one user turn.

    Raises:
        InvalidRequest: too many documents or images, or a document without a word of text.
    """
    kinds = [next(iter(block)) for block in blocks]
    for kind, most in (("document", MAX_DOCUMENTS), ("image", MAX_IMAGES)):
        if kinds.count(kind) > most:
            raise InvalidRequest(
                f"{where}: {kinds.count(kind)} {kind}s in one turn, and Bedrock takes {most};"
                " user messages in a row are one turn, so spread them over several calls"
            )
    if "document" in kinds and "text" not in kinds:
        raise InvalidRequest(
            f"{where}: a document comes without text; say in a text block what to do with it"
        )


def media_block(piece: Mapping[str, Any], where: str, names: DocumentNames) -> Wire:
    """Return a standard block of type image, file, video or audio as Bedrock's block.

    Raises:
        InvalidRequest: no data, a type Bedrock does not take, or too large.
    """
    kind, formats = _MEDIA[piece["type"]]
    source, mime = _source(piece, where)
    if mime not in formats:
        raise InvalidRequest(
            f"{where}: {piece['type']} of mime_type {mime!r}; Bedrock takes"
            f" {', '.join(sorted(formats))}"
        )
    block: Wire = {"format": formats[mime], "source": source}
    return _finished(kind, block | (_told(piece) if kind == "document" else {}), where, names)


def cache_point(piece: Mapping[str, Any]) -> Wire:
    """Return the cache point that a `cache_point` block or a `cache_control` field asks for."""
    point = {"type": "default"} | ({"ttl": piece["ttl"]} if piece.get("ttl") else {})
    return {"cachePoint": point}


def _blocks_of_piece(piece: Any, where: str, names: DocumentNames) -> Iterable[Wire]:
    if isinstance(piece, str):
        return [{"text": piece}]
    if not isinstance(piece, Mapping):
        raise InvalidRequest(f"{where}: a content block is a str or a dict, not {_kind(piece)}")
    point = [cache_point(piece["cache_control"])] if piece.get("cache_control") else []
    return [_block(piece, where, names), *point]


def _block(piece: Mapping[str, Any], where: str, names: DocumentNames) -> Wire:
    match piece.get("type"):
        case "text":
            return {"text": str(piece.get("text") or "")}
        case "cache_point":
            return cache_point(piece)
        case "text-plain" if isinstance(piece.get("text"), str):
            text = {"format": "txt", "source": {"text": piece["text"]}}
            return _finished("document", text | _told(piece), where, names)
        case "image" | "file" | "video" | "audio" if _has_data(piece):
            return media_block(piece, where, names)
        case "non_standard" if isinstance(piece.get("value"), Mapping):
            return _block(piece["value"], where, names)
        case None if len(piece) == 1:
            return _native(piece, where, names)
        case _:
            return _foreign(piece, where, names)


def _native(piece: Mapping[str, Any], where: str, names: DocumentNames) -> Wire:
    """Return one of Bedrock's own blocks, its data as bytes and its document named neutrally."""
    kind, value = next(iter(piece.items()))
    if kind not in {"image", "document", "video", "audio"} or not isinstance(value, Mapping):
        return {kind: value}
    block = dict(value)
    given = block.pop("name", None)
    source = block.get("source")
    if isinstance(source, Mapping) and "bytes" in source:
        block["source"] = {"bytes": _bytes(source["bytes"], where)}
    return _finished(kind, block | ({"name": given} if given else {}), where, names)


def _foreign(piece: Mapping[str, Any], where: str, names: DocumentNames) -> Wire:
    """Return a block in another provider's dialect, where LangChain can translate it."""
    translated = HumanMessage(content=[dict(piece)]).content_blocks
    if len(translated) == 1 and translated[0]["type"] != "non_standard":
        block: dict[str, Any] = dict(translated[0])
        if block["type"] in {"text", "text-plain"} or (
            block["type"] in _MEDIA and _has_data(block)
        ):
            return _block(block, where, names)
    told = repr(piece["type"]) if "type" in piece else f"with the keys {sorted(map(str, piece))}"
    raise InvalidRequest(
        f"{where}: a content block {told} cannot be sent to Bedrock; it takes text, images, files,"
        " text-plain, video, audio and cache_point blocks, with base64, bytes or an s3:// url, and"
        " its own blocks as {'kind': {…}}"
    )


def _finished(kind: str, block: Wire, where: str, names: DocumentNames) -> Wire:
    data = block["source"].get("bytes") if isinstance(block.get("source"), Mapping) else None
    limit = _LIMITS.get(kind)
    if limit and data is not None and len(data) > limit:
        raise InvalidRequest(
            f"{where}: a {kind} of {len(data):,} bytes, and Bedrock takes {limit:,};"
            " split it, make it smaller, or send it from S3"
        )
    if kind == "document":
        block = block | {"name": names.next(block.get("name"))}
    return {kind: block}


def _told(piece: Mapping[str, Any]) -> Wire:
    """Return what is told of a document: its name, its context, whether to cite it."""
    extras = piece.get("extras") or {}
    either = {**extras, **{key: value for key, value in piece.items() if value}}
    name = either.get("name") or either.get("filename") or either.get("title")
    told = {"name": name, "context": either.get("context"), "citations": either.get("citations")}
    return {key: value for key, value in told.items() if value}


def _has_data(piece: Mapping[str, Any]) -> bool:
    return any(piece.get(key) for key in ("base64", "bytes", "url"))


def _source(piece: Mapping[str, Any], where: str) -> tuple[Wire, str | None]:
    """Return where the data of a standard block comes from, and its MIME type."""
    mime = piece.get("mime_type")
    if data := piece.get("base64") or piece.get("bytes"):
        return {"bytes": _bytes(data, where)}, mime
    url = str(piece.get("url") or "")
    if url.startswith("s3://"):
        return {"s3Location": {"uri": url}}, mime
    if inline := re.fullmatch(r"data:([^;,]+);base64,(.*)", url, re.DOTALL):
        return {"bytes": _bytes(inline[2], where)}, mime or inline[1]
    raise InvalidRequest(
        f"{where}: of this {piece['type']} Bedrock takes the data, as base64 or bytes, or an s3://"
        f" url; it fetches nothing else (found {url.partition(':')[0] + ':' if url else 'no data'})"
    )


def _bytes(data: Any, where: str) -> bytes:
    if isinstance(data, (bytes, bytearray)):
        return bytes(data)
    try:
        return base64.b64decode("".join(data.split()), validate=True)
    except (AttributeError, ValueError, binascii.Error):
        raise InvalidRequest(f"{where}: data is bytes or base64 text; this is neither") from None


def _kind(value: Any) -> str:
    return type(value).__name__
