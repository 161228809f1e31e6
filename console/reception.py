"""The pages that `serve` has beside the runs: where they listen, and who is told of them.

They are for this machine unless another address is asked for. While they are up their address
stands in `serve.url` beside the journal, for other commands to print, and in this process's
environment, for the links that handlers send.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from perdure.durable.errors import UsageError

from .place import Place
from .screen import say

if TYPE_CHECKING:
    from perdure.approvals.office import Office
    from perdure.approvals.receiver import Receiver
    from perdure.durable import LocalEngine

PORT = 8400
_SECRET, _APP_TOKEN = "SLACK_SIGNING_SECRET", "SLACK_APP_TOKEN"


@dataclass(frozen=True, slots=True)
class Address:
    """Where the pages are to be.

    Attributes:
        port: None takes the usual one, or another if that is taken; 0 any.
        base_url: where browsers reach them, if that is not the address itself.
        web: False for no pages here; the base URL then is that of another server.
    """

    host: str = "127.0.0.1"
    port: int | None = None
    base_url: str | None = None
    web: bool = True


def check_installed(address: Address) -> None:
    """Check that what serves the pages is there, if there are to be any.

    Raises:
        UsageError: it is not.
    """
    missing = [name for name in ("starlette", "uvicorn") if not _is_there(name)]
    if missing and address.web:
        raise UsageError(
            f"serving pages needs {' and '.join(missing)}: pip install 'perdure[console]', or "
            "serve runs alone with --no-web"
        )


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ImportError:
        return False


@contextmanager
def pages(engine: LocalEngine, place: Place, address: Address, console: Console) -> Iterator[None]:
    """Serve the pages of a journal's approvals meanwhile.

    Raises:
        UsageError: the address is taken, is none of this machine's, or the base URL is none.
    """
    from perdure.approvals.office import Office, checked_url

    from .web import app_of, serve_on

    if not address.web:
        with _known(address.base_url and checked_url(address.base_url)), _socket(engine, address):
            yield
        return
    listener = _listen(address, console)
    try:
        office = Office.at(engine.home, engine.clock, address.base_url or _url(listener))
        app = app_of(_receiver(engine, office), office.base_url)
    except BaseException:
        listener.close()
        raise
    _warn(address, office, console)
    url = office.base_url
    with serve_on(app, listener), _noted(engine.home, url), _known(url), _socket(engine, address):
        _greet(office, place, console)
        yield


def _listen(address: Address, console: Console) -> socket.socket:
    from .web import listen

    if address.port is not None:
        return listen(address.host, address.port)
    try:
        return listen(address.host, PORT)
    except UsageError:
        listener = listen(address.host, 0)
        port = listener.getsockname()[1]
        say(console, f"port {PORT} is taken; using {port} (--port chooses one)", "yellow")
        return listener


def _url(listener: socket.socket) -> str:
    """Return the address for a browser on this machine."""
    host, port = listener.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _receiver(engine: LocalEngine, office: Office) -> Receiver:
    from perdure.approvals.journal import LocalCallbacks
    from perdure.approvals.people import account
    from perdure.approvals.receiver import Receiver

    callbacks, slack = LocalCallbacks(engine), None
    if os.environ.get(_SECRET, "").strip():
        from perdure.approvals.slack import SlackIn

        slack = SlackIn(office, callbacks)
    return Receiver(office, callbacks, slack=slack, user=account())


@contextmanager
def _socket(engine: LocalEngine, address: Address) -> Iterator[None]:
    """Take clicks in Slack from a socket meanwhile, if there is a token for one."""
    from perdure.approvals.journal import LocalCallbacks
    from perdure.approvals.office import Office

    if not os.environ.get(_APP_TOKEN, "").strip():
        yield
        return
    from perdure.approvals.slack.socket import listen

    with listen(Office.at(engine.home, engine.clock, address.base_url), LocalCallbacks(engine)):
        yield


def _warn(address: Address, office: Office, console: Console) -> None:
    if not _is_local(address.host) and not office.base_url.startswith("https://"):
        say(
            console,
            f"warning: {address.host} can be reached from other machines, and links and sessions "
            "travel in the clear; put https in front, and name it with --base-url",
            "yellow",
        )


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _greet(office: Office, place: Place, console: Console) -> None:
    login = place.command("login")
    say(console, f"approvals: {office.base_url}/inbox (sign in with `{login}`)")
    if os.environ.get(_SECRET, "").strip():
        say(console, f"clicks in Slack come to {office.base_url}/slack/interactivity")
    if os.environ.get(_APP_TOKEN, "").strip():
        say(console, "clicks in Slack come through a socket")


@contextmanager
def _known(url: str | None) -> Iterator[None]:
    """Have the handlers of this process know the address meanwhile."""
    from perdure.approvals.office import VARIABLE

    before = os.environ.get(VARIABLE)
    if url is not None:
        os.environ[VARIABLE] = url
    try:
        yield
    finally:
        os.environ.pop(VARIABLE, None)
        if before is not None:
            os.environ[VARIABLE] = before


@contextmanager
def _noted(home: Path, url: str) -> Iterator[None]:
    """Have the address stand beside the journal meanwhile."""
    from perdure.approvals.office import SERVING, serving

    path = home / SERVING
    made = path.with_name(f".{SERVING}.{secrets.token_hex(8)}")
    made.write_text(f"{url}\n", encoding="utf-8")
    made.replace(path)
    try:
        yield
    finally:
        if serving(home) == url:
            path.unlink(missing_ok=True)
