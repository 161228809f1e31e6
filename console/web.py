"""The receiver behind a web server: a Starlette application of one route, and uvicorn in a thread.

A request for a host that is not ours is refused before anything else is looked at: a page of
another site that points its name at this machine gets no further. No request is ever logged, since
its path may hold a token.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self
from urllib.parse import quote, urlsplit

from perdure.approvals.http import Request, Response, most_bytes, plain
from perdure.approvals.reviewing import message
from perdure.durable.errors import UsageError

if TYPE_CHECKING:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.types import Receive, Scope, Send

    from perdure.approvals.receiver import Incoming

_HERE = ("127.0.0.1", "localhost", "::1")
_STOP_SECONDS = 5
_AUTHORITY = re.compile(r"[A-Za-z0-9.:\[\]_-]{1,260}")


def app_of(receiver: Incoming, base_url: str) -> Starlette:
    """Return the web application of a receiver.

    Args:
        base_url: where the pages are reached; its host is one of ours.
    """
    from starlette.applications import Starlette
    from starlette.routing import Route

    hosts = frozenset({*_HERE, (urlsplit(base_url).hostname or "").lower()})
    return Starlette(
        routes=[Route("/{path:path}", _Door(receiver, hosts), include_in_schema=False)]
    )


class Serving:
    """A server in a thread of its own; stop it with `close`, or as a context manager.

    Attributes:
        host, port: where it listens; the port that was free, if 0 was asked for.
    """

    def __init__(self, server: uvicorn.Server, listener: socket.socket) -> None:
        self._server = server
        self._listener = listener
        self.host, self.port = listener.getsockname()[:2]
        run = {"sockets": [listener]}
        self._thread = threading.Thread(target=server.run, kwargs=run, name="perdure-web")
        self._thread.daemon = True
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The address, for a browser on this machine."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def close(self) -> None:
        """Answer what is being answered, then stop listening."""
        self._server.should_exit = True
        self._thread.join(_STOP_SECONDS)
        self._listener.close()


def serve_on(app: Starlette, listener: socket.socket) -> Serving:
    """Serve an application on what `listen` returned, until it is closed.

    Raises:
        UsageError: uvicorn is not installed.
    """
    try:
        import uvicorn
    except ImportError:
        raise UsageError("serving pages needs: pip install 'perdure[console]'") from None
    return Serving(uvicorn.Server(_config(app)), listener)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; bound before the address is told to anyone.

    Raises:
        UsageError: the address is in use, or not one of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
    except (OSError, OverflowError) as error:
        listener.close()
        why = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"cannot listen on {host}, port {port}: {why}; give another port (0 is any that is "
            "free)"
        ) from None
    return listener


def _config(app: Starlette) -> uvicorn.Config:
    import uvicorn

    return uvicorn.Config(
        app,
        access_log=False,
        log_config=None,
        log_level="warning",
        lifespan="off",
        proxy_headers=False,
        server_header=False,
        ws="none",
        http="h11",
        timeout_keep_alive=5,
        timeout_graceful_shutdown=_STOP_SECONDS - 1,
    )


class _Door:
    """Turns a request of a server into one of ours, and the answer back."""

    def __init__(self, receiver: Incoming, hosts: frozenset[str]) -> None:
        self._receiver = receiver
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        from starlette.responses import Response as Answer

        found = await self._answer(scope, receive)
        answer = Answer(found.body, found.status, dict(found.headers))
        await answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        from starlette.concurrency import run_in_threadpool

        headers = _headers(scope)
        if host_of(headers.get("host", "")) not in self._hosts:
            return plain(400, "This server is not the host that was asked for.\n")
        try:
            body = await _body(receive, most_bytes(scope["path"]))
        except _Cut:
            return plain(400, "Nothing was recorded: the request was cut off.\n")
        if body is None:
            return await run_in_threadpool(message, 413)
        raw = scope.get("raw_path") or quote(scope["path"]).encode()
        request = Request(
            scope["method"],
            raw.decode("latin-1").partition("?")[0],
            scope["query_string"].decode("latin-1"),
            headers,
            body,
        )
        return await run_in_threadpool(self._receiver.handle, request)


def host_of(header: str) -> str:
    """Return the host that a Host header names, without its port."""
    if not _AUTHORITY.fullmatch(header):
        return ""
    try:
        return (urlsplit(f"//{header}").hostname or "").lower()
    except ValueError:
        return ""


def _headers(scope: Scope) -> Mapping[str, str]:
    """Return the headers, those that came twice joined."""
    joined: dict[str, str] = {}
    for name, text in scope["headers"]:
        key, value = name.decode("latin-1").lower(), text.decode("latin-1")
        between = "; " if key == "cookie" else ","
        joined[key] = f"{joined[key]}{between}{value}" if key in joined else value
    return joined


async def _body(receive: Receive, most: int) -> bytes | None:
    """Return the body; None as soon as it is larger than what is read.

    Raises:
        _Cut: it did not come whole.
    """
    read = bytearray()
    while True:
        part = await receive()
        if part["type"] != "http.request":
            raise _Cut
        read += part.get("body", b"")
        if len(read) > most:
            return None
        if not part.get("more_body"):
            return bytes(read)


class _Cut(Exception):
    """The other side went away before it had sent all: half a form is no form."""
