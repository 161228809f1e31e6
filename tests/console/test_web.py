"""The receiver behind a real server: real sockets, foreign hosts, bodies that are too long."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Iterator

import httpx
import pytest

from perdure.approvals.http import BODY_BYTES, Request, Response
from perdure.console.web import Serving, app_of, host_of, listen, serve_on
from perdure.durable.errors import UsageError

BASE_URL = "https://approvals.example.org"


class Echo:
    """Answers with what it got, as a receiver would."""

    def __init__(self) -> None:
        self.got: list[Request] = []
        self.threads: set[str] = set()

    def handle(self, request: Request) -> Response:
        self.got.append(request)
        self.threads.add(threading.current_thread().name)
        method, path, query, headers, body = request
        told = {"method": method, "path": path, "query": query, "body": body.decode("latin-1")}
        text = json.dumps(told | {"headers": dict(headers)}).encode()
        return Response(207, {"Content-Type": "application/json", "X-Own": "yes"}, text)


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
def serving(echo: Echo) -> Iterator[Serving]:
    with serve_on(app_of(echo, BASE_URL), listen("127.0.0.1", 0)) as serving:
        yield serving


def ask(serving: Serving, raw: bytes) -> bytes:
    """Send bytes as they are, and return all that comes back."""
    with socket.create_connection((serving.host, serving.port), 10) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_a_request_reaches_the_receiver_as_it_came(serving: Serving, echo: Echo) -> None:
    answer = httpx.post(
        f"{serving.url}/a/v1%7Ex%2Fy/review?q=%20",
        content=b"a=\xff",
        headers=[("X-Two", "1"), ("X-Two", "2"), ("Cookie", "a=1; b=2")],
    )
    assert answer.status_code == 207
    assert answer.headers["x-own"] == "yes"
    got = answer.json()
    assert (got["method"], got["path"], got["query"]) == ("POST", "/a/v1%7Ex%2Fy/review", "q=%20")
    assert got["body"] == "a=\xff"
    assert got["headers"]["x-two"] == "1,2"
    assert got["headers"]["cookie"] == "a=1; b=2"


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"])
def test_every_method_and_path_reaches_it(serving: Serving, echo: Echo, method: str) -> None:
    for path in ("/", "/a//b/", "/%00"):
        assert httpx.request(method, f"{serving.url}{path}").status_code == 207
    assert [each.method for each in echo.got] == [method] * 3


def test_the_receiver_runs_beside_the_event_loop(serving: Serving, echo: Echo) -> None:
    httpx.get(serving.url)
    assert echo.threads
    assert "perdure-web" not in echo.threads


@pytest.mark.parametrize(
    "host",
    [
        "evil.example.org",
        "127.0.0.1.evil.example.org",
        "evil.example.org:8400",
        "x@127.0.0.1",
        "127.0.0.1@evil.example.org",
        "127.0.0.1/x",
        "localhost.",
        "[::1",
        "",
    ],
)
def test_a_foreign_host_is_refused_before_anything_else(
    serving: Serving, echo: Echo, host: str
) -> None:
    big = b"x" * (BODY_BYTES + 1)
    lines = [b"POST / HTTP/1.1", b"Host: " + host.encode(), b"Connection: close"]
    lines += [b"Content-Length: %d" % len(big), b"", b""]
    answer = ask(serving, b"\r\n".join(lines) + big)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert echo.got == []


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:1", "LOCALHOST:8400", "[::1]:8400", "approvals.example.org:443"],
)
def test_our_own_hosts_are_answered_whatever_the_port(
    serving: Serving, echo: Echo, host: str
) -> None:
    assert httpx.get(serving.url, headers={"Host": host}).status_code == 207


def test_a_body_over_the_limit_is_refused_while_it_is_read(serving: Serving, echo: Echo) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(100):
            yield b"x" * 10_000

    assert httpx.post(serving.url, content=b"x" * BODY_BYTES).status_code == 207
    assert httpx.post(serving.url, content=b"x" * (BODY_BYTES + 1)).status_code == 413
    assert len(echo.got) == 1
    try:
        assert httpx.post(serving.url, content=endless()).status_code == 413
    except httpx.TransportError:
        pass  # the server closed while more was being sent
    assert len(echo.got) == 1


def test_half_a_form_is_no_form(serving: Serving, echo: Echo) -> None:
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n"
    ask(serving, head + b"decision=approve")
    assert echo.got == []


def test_nothing_of_a_request_is_logged(
    serving: Serving, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG, "perdure"):
        httpx.get(f"{serving.url}/a/v1~canary/review?canary=1", headers={"X-Canary": "canary"})
        ask(serving, b"GET /canary HTTP/9.9\r\nCanary\r\n\r\n")
    said = [each.getMessage() for each in caplog.records if not each.name.startswith("httpx")]
    assert "canary" not in "".join(said) + "".join(capfd.readouterr())


def test_an_address_in_use_is_told_with_the_cure(serving: Serving, echo: Echo) -> None:
    with pytest.raises(UsageError, match=f"port {serving.port}.*in use.*give another port"):
        serve_on(app_of(echo, BASE_URL), listen("127.0.0.1", serving.port))
    for host, port in (("192.0.2.1", 8400), ("127.0.0.1", 70_000), ("no.such.host.invalid", 0)):
        with pytest.raises(UsageError, match="cannot listen on"):
            serve_on(app_of(echo, BASE_URL), listen(host, port))


def test_closing_gives_the_address_back(echo: Echo) -> None:
    with serve_on(app_of(echo, BASE_URL), listen("127.0.0.1", 0)) as serving:
        assert httpx.get(serving.url).status_code == 207
        port = serving.port
    with pytest.raises(httpx.ConnectError):
        httpx.get(serving.url)
    with serve_on(app_of(echo, BASE_URL), listen("127.0.0.1", port)) as again:
        assert httpx.get(again.url).status_code == 207
    again.close()


def test_the_host_is_read_from_a_header_as_browsers_write_it() -> None:
    assert host_of("[::1]:8400") == "::1"
    assert host_of("Example.org:80") == "example.org"
    assert host_of("a b") == host_of("a,b") == host_of("[") == ""
