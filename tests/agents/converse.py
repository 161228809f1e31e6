"""A local Bedrock: Converse and ConverseStream over HTTP, counting what each request did and cost.

What is answered is the test's: a function of the request and its number, or a list taken in order.
Requests are told apart by ids (`req-000001`, …) and kept with what was sent back. What the server
began to answer counts as billed, whether or not the client lived to read it. `bedrock(url)` is a
model that speaks to it; `environment(url)` makes any process of its own speak to it.
"""

from __future__ import annotations

import base64
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from typing import Any
from urllib.parse import unquote
from zlib import crc32

from perdure.agents.bedrock import BedrockChat

MODEL = "us.anthropic.claude-sonnet-4-20250514-v1:0"
PATIENCE = 30.0
"""Seconds after which a gate that should open is given up."""
Wire = dict[str, Any]


@dataclass
class Request:
    """One request, as it came and as it fared.

    Attributes:
        number: which one it was, from 1; `id` is its name in the answer's headers.
        path: the path as sent, quoted; `model` is the model id in it.
        body: the JSON, or {} where the request was not read.
        usage: the tokens billed; None where nothing was.
        answered: the whole answer was sent.
    """

    number: int
    path: str
    headers: Mapping[str, str]
    body: Wire = field(default_factory=dict)
    usage: Wire | None = None
    answered: bool = False

    @property
    def id(self) -> str:
        return f"req-{self.number:06d}"

    @property
    def model(self) -> str:
        return unquote(self.path.split("/")[2])

    @property
    def streams(self) -> bool:
        return self.path.endswith("/converse-stream")

    @property
    def metadata(self) -> dict[str, str]:
        return dict(self.body.get("requestMetadata") or {})

    @property
    def text(self) -> str:
        """The text of the last turn."""
        return "".join(block.get("text", "") for block in self.body["messages"][-1]["content"])


@dataclass(frozen=True)
class Answer:
    """A model's answer.

    Attributes:
        text, tools: the content, tools as (id, name, input); or all of it in `content`.
        usage: the tokens; by default a quarter of the characters.
        gate: the answer is held until this is set.
        more: further members of the answer, over its own.
        without: members left out of it, for example ("usage",).
    """

    text: str = ""
    tools: tuple[tuple[str, str, Any], ...] = ()
    content: tuple[Wire, ...] | None = None
    stop: str | None = None
    usage: Wire | None = None
    latency: int = 5
    gate: threading.Event | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()

    @property
    def blocks(self) -> list[Wire]:
        if self.content is not None:
            return list(self.content)
        uses = [
            {"toolUse": {"toolUseId": id, "name": name, "input": given}}
            for id, name, given in self.tools
        ]
        return [*([{"text": self.text}] if self.text else []), *uses]

    @property
    def stop_reason(self) -> str:
        return self.stop or ("tool_use" if self.tools else "end_turn")

    def tokens(self, request: Request) -> Wire:
        if self.usage is not None:
            return dict(self.usage)
        spent = (
            len(json.dumps(request.body)) // 4,
            len(json.dumps(self.blocks, default=_encoded)) // 4,
        )
        return {"inputTokens": spent[0], "outputTokens": spent[1], "totalTokens": sum(spent)}

    def body(self, request: Request) -> Wire:
        whole = {
            "output": {"message": {"role": "assistant", "content": self.blocks}},
            "stopReason": self.stop_reason,
            "usage": self.tokens(request),
            "metrics": {"latencyMs": self.latency},
            **self.more,
        }
        return {key: value for key, value in whole.items() if key not in self.without}

    def events(self, request: Request) -> Iterator[tuple[str, Wire]]:
        yield "messageStart", {"role": "assistant"}
        for index, block in enumerate(self.blocks):
            yield from _block_events(block, index)
        yield "messageStop", {"stopReason": self.stop_reason}
        if "metadata" not in self.without:
            metrics = {"latencyMs": self.latency}
            yield "metadata", {"usage": self.tokens(request), "metrics": metrics, **self.more}


@dataclass(frozen=True)
class Refusal:
    """An error of the service: a status, a code, a message."""

    status: int
    code: str
    message: str = "no"
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Drop:
    """The connection is closed instead of an answer; `unread`: with the request unread."""

    unread: bool = False


@dataclass(frozen=True)
class Silence:
    """Nothing comes until the gate is set, and then nothing: the client's patience ends first."""

    gate: threading.Event


@dataclass(frozen=True)
class Cut:
    """An answer cut off after `keep` bytes; `honest`: its Content-Length says so."""

    answer: Answer
    keep: int = 40
    honest: bool = True


@dataclass(frozen=True)
class Broken:
    """A stream that breaks after some events.

    Attributes:
        keep: how many events are sent whole.
        code: an exception event that ends it; else the connection ends in the middle of a frame.
        clean: the stream ends properly, only too soon.
    """

    answer: Answer
    keep: int = 2
    code: str | None = None
    clean: bool = False


Fault = Refusal | Drop | Silence | Cut | Broken
Reply = Answer | Fault
Behaviour = Callable[[Request, int], Reply] | Iterable[Reply]

ERRORS: dict[str, Refusal] = {
    code: Refusal(status, code)
    for code, status in {
        "ThrottlingException": 429,
        "ModelNotReadyException": 429,
        "ServiceUnavailableException": 503,
        "InternalServerException": 500,
        "ModelErrorException": 424,
        "ModelTimeoutException": 408,
        "ValidationException": 400,
        "AccessDeniedException": 403,
        "ResourceNotFoundException": 404,
        "ServiceQuotaExceededException": 400,
        "ConflictException": 409,
    }.items()
}
"""Every error of Converse, and those of its service."""


def echo(request: Request, number: int) -> Answer:
    """Answer with a pure function of the request: the same body, the same answer."""
    return Answer(f"Heard: {request.text}")


class ConverseServer:
    """The server, from `with` to the end of it.

    Attributes:
        url: where it answers.
        requests: every request that came, in order.
    """

    def __init__(self, behaviour: Behaviour = echo) -> None:
        self.requests: list[Request] = []
        self._behaviour = behaviour if callable(behaviour) else None
        self._queue = None if callable(behaviour) else iter(behaviour)
        self._lock = threading.Lock()
        self._http = _Http(self)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> ConverseServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    @property
    def count(self) -> int:
        """How many requests came."""
        with self._lock:
            return len(self.requests)

    @property
    def billed(self) -> dict[str, Wire]:
        """The tokens of each request that was billed, by its id."""
        with self._lock:
            return {each.id: each.usage for each in self.requests if each.usage is not None}

    @property
    def last(self) -> Wire:
        """The body of the last request."""
        with self._lock:
            return self.requests[-1].body

    def _came(self, path: str, headers: Mapping[str, str]) -> tuple[Request, Reply | None]:
        """Note a request; return it, and what a list has for it."""
        with self._lock:
            request = Request(len(self.requests) + 1, path, headers)
            self.requests.append(request)
            if self._queue is None:
                return request, None
            over = Refusal(400, "ValidationException", f"no answer is left for {request.id}")
            return request, next(self._queue, over)

    def _reply(self, request: Request) -> Reply:
        assert self._behaviour is not None
        try:
            return self._behaviour(request, request.number)
        except Exception as error:
            return Refusal(400, "ValidationException", f"the test's own behaviour raised {error!r}")

    def _bill(self, request: Request, usage: Wire) -> None:
        with self._lock:
            request.usage = usage


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, converse: ConverseServer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.converse = converse

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients of these tests come and go as they please."""


class _Handler(BaseHTTPRequestHandler):
    server: _Http
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        converse = self.server.converse
        request, reply = converse._came(self.path, dict(self.headers))
        if isinstance(reply, Drop) and reply.unread:
            self._hang_up(reset=True)
            return
        request.body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        reply = reply or converse._reply(request)
        match reply:
            case Answer() if request.streams:
                self._stream(request, reply, None)
            case Answer():
                self._whole(request, reply, None)
            case Cut():
                self._whole(request, reply.answer, reply)
            case Broken():
                self._stream(request, reply.answer, reply)
            case Refusal():
                told = json.dumps({"message": reply.message, **reply.more}).encode()
                self._send(reply.status, request, told, {"x-amzn-errortype": reply.code})
            case Silence():
                reply.gate.wait(PATIENCE)
                self._hang_up()
            case Drop():
                self._hang_up(reset=reply.unread)

    def _whole(self, request: Request, answer: Answer, cut: Cut | None) -> None:
        body = json.dumps(answer.body(request), default=_encoded).encode()
        self._begin(request, answer)
        if cut is None:
            self._send(200, request, body)
            request.answered = True
            return
        kept = body[: cut.keep]
        self._send(200, request, kept, length=len(kept if cut.honest else body))
        self._hang_up()

    def _begin(self, request: Request, answer: Answer) -> None:
        self.server.converse._bill(request, answer.tokens(request))
        if answer.gate is not None:
            answer.gate.wait(PATIENCE)

    def _stream(self, request: Request, answer: Answer, broken: Broken | None) -> None:
        self._begin(request, answer)
        self._head(200, request, "application/vnd.amazon.eventstream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        events = list(answer.events(request))
        for kind, event in islice(events, None if broken is None else broken.keep):
            self._chunk(frame("event", kind, event))
        if broken is not None and broken.code:
            self._chunk(frame("exception", broken.code, {"message": "it broke"}))
        elif broken is not None and not broken.clean:
            whole = frame("event", *events[broken.keep])
            self._chunk(whole[: len(whole) // 2], promised=len(whole))
            self._hang_up()
            return
        self._chunk(b"")
        request.answered = broken is None

    def _chunk(self, data: bytes, promised: int | None = None) -> None:
        end = b"" if promised else b"\r\n"
        self.wfile.write(f"{promised or len(data):x}\r\n".encode() + data + end)
        self.wfile.flush()

    def _send(
        self,
        status: int,
        request: Request,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        length: int | None = None,
    ) -> None:
        self._head(status, request, "application/json")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def _head(self, status: int, request: Request, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("x-amzn-requestid", request.id)

    def _hang_up(self, reset: bool = False) -> None:
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True


def frame(kind: str, name: str, payload: Wire) -> bytes:
    """Return one frame of vnd.amazon.eventstream: an event, or an exception."""
    told = {
        ":message-type": kind,
        f":{kind}-type": name,
        ":content-type": "application/json",
    }
    headers = b"".join(_header(key, value) for key, value in told.items())
    body = json.dumps(payload, default=_encoded).encode()
    prelude = struct.pack("!II", len(headers) + len(body) + 16, len(headers))
    start = prelude + struct.pack("!I", crc32(prelude)) + headers + body
    return start + struct.pack("!I", crc32(start))


def environment(url: str) -> dict[str, str]:
    """Return what a process of its own needs in its environment to speak to the server."""
    return {
        "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": url,
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


@cache
def session() -> Any:
    """Return a boto3 session with credentials that open nothing."""
    import boto3

    return boto3.Session(
        aws_access_key_id="none", aws_secret_access_key="none", region_name="us-east-1"
    )


def bedrock(url: str, **fields: Any) -> BedrockChat:
    """Return a model that speaks to the server; `read_timeout` is the test's patience."""
    given = {"model": MODEL, "endpoint_url": url, "session": session(), "read_timeout": PATIENCE}
    return BedrockChat(**(given | fields))


def _header(name: str, value: str) -> bytes:
    told = value.encode()
    return bytes([len(name)]) + name.encode() + b"\x07" + struct.pack("!H", len(told)) + told


def _block_events(block: Wire, index: int) -> Iterator[tuple[str, Wire]]:
    """Yield the events of one block; text and input come in two pieces."""
    kind, value = next(iter(block.items()))
    deltas: list[Wire] = []
    match kind:
        case "text":
            deltas = [{"text": piece} for piece in _halves(value)]
        case "toolUse":
            start = {key: value[key] for key in ("toolUseId", "name", "type") if key in value}
            yield _at("contentBlockStart", index, start={"toolUse": start})
            halves = _halves(json.dumps(value["input"]))
            deltas = [{"toolUse": {"input": piece}} for piece in halves]
        case "toolResult":
            start = {key: value[key] for key in ("toolUseId", "status", "type") if key in value}
            yield _at("contentBlockStart", index, start={"toolResult": start})
            deltas = [{"toolResult": [each]} for each in value["content"]]
        case "reasoningContent" if "reasoningText" in value:
            said = value["reasoningText"]
            deltas = [{"reasoningContent": {"text": piece}} for piece in _halves(said["text"])]
            deltas.append({"reasoningContent": {"signature": said["signature"]}})
        case "reasoningContent":
            deltas = [{"reasoningContent": value}]
        case "citationsContent":
            deltas = [{"text": part["text"]} for part in value["content"]]
            deltas += [{"citation": each} for each in value["citations"]]
        case "image":
            yield _at("contentBlockStart", index, start={"image": {"format": value["format"]}})
            data = value["source"]["bytes"]
            deltas = [{"image": {"source": {"bytes": piece}}} for piece in _halves(data)]
    for delta in deltas:
        yield _at("contentBlockDelta", index, delta=delta)
    yield _at("contentBlockStop", index)


def _at(kind: str, index: int, **members: Any) -> tuple[str, Wire]:
    return kind, {**members, "contentBlockIndex": index}


def _halves(whole: Any) -> tuple[Any, Any]:
    middle = len(whole) // 2
    return whole[:middle], whole[middle:]


def _encoded(value: Any) -> str:
    assert isinstance(value, bytes)
    return base64.b64encode(value).decode()
