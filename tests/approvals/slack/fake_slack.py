"""A Slack of our own: a real HTTP server that keeps what it is told and misbehaves when asked to.

It refuses what Slack refuses: blocks beyond the limits, an unknown channel, a message that is not
there. What was posted can be read back as people see it, and clicked.
"""

from __future__ import annotations

import json
import threading
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

TOKEN = "xoxb-canary-bot-token"
APP_TOKEN = "xapp-canary-app-token"
TEAM = "T1"
BOT = "B1"


@dataclass(frozen=True)
class Call:
    """One request as it came in."""

    method: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Trouble:
    """An answer that is none: a status, an error word, or a connection that breaks."""

    status: int = 200
    error: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False
    after: bool = False
    """Do what was asked first, then break."""
    then: Callable[[], None] | None = None
    """Do this before the answer goes out."""


def ratelimited(seconds: int) -> Trouble:
    return Trouble(429, "ratelimited", {"Retry-After": str(seconds)})


def refused(error: str) -> Trouble:
    return Trouble(error=error)


BROKEN = Trouble(500)
DROPPED = Trouble(drop=True)
LOST = Trouble(drop=True, after=True)
"""What was asked is done, and the answer does not arrive."""


class FakeSlack:
    """The server; a context manager."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.messages: dict[tuple[str, str], dict[str, Any]] = {}
        self.views: list[dict[str, Any]] = []
        self.private: list[str] = []
        self.people: dict[str, str] = {}
        self.groups: dict[str, list[str]] = {}
        self.channels: set[str] = {"C1"}
        self.socket = ""
        self.now: Callable[[], float] = lambda: 1_767_225_600
        self._troubles: dict[str, deque[Trouble]] = defaultdict(deque)
        self._lock = threading.Lock()
        self._count = 0
        slack = self

        class Handler(_Handler):
            fake = slack

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> FakeSlack:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def host(self) -> str:
        """Host and port, as an answer's address has them."""
        return f"127.0.0.1:{self._server.server_port}"

    @property
    def base_url(self) -> str:
        return f"http://{self.host}/api/"

    def response_url(self, channel: str, ts: str) -> str:
        return f"http://{self.host}/respond/{channel}/{ts}"

    def trouble(self, method: str, *troubles: Trouble) -> None:
        """Answer the next calls of a method like this."""
        self._troubles[method].extend(troubles)

    def called(self, method: str) -> list[dict[str, Any]]:
        """Return the arguments of each call of a method."""
        return [each.arguments for each in self.calls if each.method == method]

    @property
    def posts(self) -> list[dict[str, Any]]:
        """The messages as they are now, oldest first; without those in threads."""
        return [each for each in self.messages.values() if "thread_ts" not in each]

    def take(self, path: str, arguments: dict[str, Any], bearer: str) -> tuple[Trouble, Any]:
        """Do what a request asks; return how to answer, and what."""
        with self._lock:
            method = path.removeprefix("/api/")
            name = "response_url" if path.startswith("/respond/") else method
            self.calls.append(Call(name, arguments))
            queue = self._troubles[name]
            trouble = queue.popleft() if queue else Trouble()
            if trouble.status != 200 or trouble.error or (trouble.drop and not trouble.after):
                return trouble, {"ok": False, "error": trouble.error}
            if name == "response_url":
                return trouble, self._respond(*path.split("/")[2:4], arguments)
            if bearer != f"Bearer {APP_TOKEN if method == 'apps.connections.open' else TOKEN}":
                return trouble, {"ok": False, "error": "invalid_auth"}
            handler = getattr(self, "_" + method.replace(".", "_"), None)
            if handler is None:
                return trouble, {"ok": False, "error": "unknown_method"}
            try:
                return trouble, {"ok": True, **handler(arguments)}
            except _Refused as refused:
                return trouble, {"ok": False, "error": str(refused)}

    def _apps_connections_open(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return {"url": self.socket}

    def _auth_test(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return {"team_id": TEAM, "user_id": "UBOT", "bot_id": BOT}

    def _chat_postMessage(self, arguments: dict[str, Any]) -> dict[str, Any]:
        channel = self._place(arguments["channel"])
        check_message(arguments)
        self._count += 1
        ts = f"{int(self.now()) + self._count}.000100"
        self.messages[(channel, ts)] = {**arguments, "channel": channel, "ts": ts, "bot_id": BOT}
        return {"channel": channel, "ts": ts}

    def _chat_update(self, arguments: dict[str, Any]) -> dict[str, Any]:
        channel, ts = arguments["channel"], arguments["ts"]
        if channel.startswith("U"):
            raise _Refused("channel_not_found")
        message = self.messages.get((channel, ts))
        if message is None:
            raise _Refused("message_not_found")
        check_message(arguments)
        fresh = {each["block_id"] for each in arguments["blocks"]}
        if fresh & {each["block_id"] for each in message["blocks"]}:
            raise _Refused("block_mismatch")
        message.update(text=arguments["text"], blocks=arguments["blocks"])
        return {"channel": channel, "ts": ts}

    def _conversations_open(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return {"channel": {"id": self._place(arguments["users"])}}

    def _conversations_history(self, arguments: dict[str, Any]) -> dict[str, Any]:
        found = [
            each
            for (channel, ts), each in self.messages.items()
            if channel == arguments["channel"]
            and float(ts) >= float(arguments["oldest"])
            and "thread_ts" not in each
        ]
        if arguments.get("include_all_metadata") not in ("1", "true", True):
            found = [{k: v for k, v in each.items() if k != "metadata"} for each in found]
        return {"messages": found[::-1]}

    def _users_lookupByEmail(self, arguments: dict[str, Any]) -> dict[str, Any]:
        user = self.people.get(arguments["email"])
        if user is None:
            raise _Refused("users_not_found")
        return {"user": {"id": user, "team_id": TEAM, "deleted": False, "is_bot": False}}

    def _usergroups_users_list(self, arguments: dict[str, Any]) -> dict[str, Any]:
        if arguments["usergroup"] not in self.groups:
            raise _Refused("no_such_subteam")
        return {"users": self.groups[arguments["usergroup"]]}

    def _views_open(self, arguments: dict[str, Any]) -> dict[str, Any]:
        view = arguments["view"]
        check_view(json.loads(view) if isinstance(view, str) else view)
        self.views.append(view)
        return {"view": {"id": f"V{len(self.views)}"}}

    def _respond(self, channel: str, ts: str, arguments: dict[str, Any]) -> Any:
        if arguments.get("replace_original"):
            check_message(arguments)
            self.messages[(channel, ts)].update(text=arguments["text"], blocks=arguments["blocks"])
        else:
            self.private.append(arguments["text"])
        return "ok"

    def _place(self, name: str) -> str:
        if name.startswith("U"):
            return f"D{name}"
        if name not in self.channels:
            raise _Refused("channel_not_found")
        return name


class _Refused(Exception):
    pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Say nothing of a caller that hung up."""


class _Handler(BaseHTTPRequestHandler):
    fake: FakeSlack
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        bearer = self.headers.get("Authorization", "")
        trouble, answer = self.fake.take(self.path, self._arguments(body), bearer)
        if trouble.then is not None:
            trouble.then()
        if trouble.drop:
            self.close_connection = True
            self.connection.close()
            return
        text = answer if isinstance(answer, str) else json.dumps(answer)
        if trouble.status >= 500:
            text = "<html>an error page</html>"
        self.send_response(trouble.status)
        for name, value in trouble.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def _arguments(self, body: bytes) -> dict[str, Any]:
        if self.headers.get_content_type() == "application/json":
            found: dict[str, Any] = json.loads(body)
            return found
        return dict(parse_qsl(body.decode()))

    def log_message(self, *_: Any) -> None:
        pass


def check_message(message: dict[str, Any]) -> None:
    """Refuse what Slack refuses: a message without text, or blocks beyond the limits."""
    blocks = message.get("blocks") or []
    if not message.get("text"):
        raise _Refused("no_text")
    if len(json.dumps(blocks, ensure_ascii=False)) > 13_000:
        raise _Refused("msg_blocks_too_long")
    ids = [each["block_id"] for each in blocks if "block_id" in each]
    if len(blocks) > 50 or len(set(ids)) != len(ids):
        raise _Refused("invalid_blocks")
    for block in blocks:
        _check_block(block)
    payload = (message.get("metadata") or {}).get("event_payload", {})
    if len(json.dumps(payload)) > 8000:
        raise _Refused("metadata_too_large")


def check_view(view: dict[str, Any]) -> None:
    """Refuse a modal that Slack refuses."""
    short = all(len(view[each]["text"]) <= 24 for each in ("title", "submit") if each in view)
    if not short or not 1 <= len(view["blocks"]) <= 100:
        raise _Refused("invalid_arguments")
    if len(view.get("private_metadata", "")) > 3000:
        raise _Refused("invalid_arguments")
    for block in view["blocks"]:
        _check_block(block)


def _check_block(block: dict[str, Any]) -> None:
    texts = {"section": 3000, "header": 150}
    if len(block.get("block_id", "")) > 255:
        raise _Refused("invalid_blocks")
    if block["type"] in texts and not 1 <= len(block["text"]["text"]) <= texts[block["type"]]:
        raise _Refused("invalid_blocks")
    most = {"actions": 25, "context": 10}.get(block["type"])
    if most is not None and not 1 <= len(block["elements"]) <= most:
        raise _Refused("invalid_blocks")
    for element in block.get("elements", []):
        if element.get("type") == "button":
            _check_button(element)


def _check_button(button: dict[str, Any]) -> None:
    limits = {"value": 2000, "action_id": 255, "url": 3000}
    too_long = any(len(button.get(name, "")) > most for name, most in limits.items())
    confirm = button.get("confirm", {})
    sizes = {"title": 100, "text": 300, "confirm": 30, "deny": 30}
    if too_long or len(button["text"]["text"]) > 75:
        raise _Refused("invalid_blocks")
    if any(len(confirm[each]["text"]) > sizes[each] for each in sizes if each in confirm):
        raise _Refused("invalid_blocks")
