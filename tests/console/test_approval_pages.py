"""The pages that `perdure serve` has beside the runs, and signing in to them."""

from __future__ import annotations

import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest

from perdure.approvals.people import account

from ..approvals.slack.clicks import SECRET, body_of, click, signed, user
from ..approvals.slack.fake_slack import TOKEN, FakeSlack

ASKS = (Path(__file__).parent / "programs" / "asks.py").read_text()
PAGES = re.compile(r"approvals: (http\S+)/inbox \(sign in with `perdure login`\)")


class Browser(httpx.Client):
    """A browser on this machine, without scripts."""

    def __init__(self, base_url: str) -> None:
        super().__init__(base_url=base_url, trust_env=False, follow_redirects=True)

    def press(self, path: str, decision: str = "", **fields: str) -> httpx.Response:
        """Press a button on a page."""
        found = re.search(r'name="csrf" value="([^"]+)"', self.get(path).text)
        given = {"csrf": found[1]} if found else {}
        return self.post(path, data={**given, "decision": decision, **fields})


@pytest.fixture
def up(perdure: Any) -> Iterator[Any]:
    """Serve the runs of asks.py and their pages; return the command, with `.url`."""
    perdure.write("asks.py", ASKS)
    perdure.server = perdure.start("serve", "asks.py", "--port", "0")
    perdure.until_said("Ctrl-C stops")
    perdure.url = address(perdure)
    yield perdure
    perdure.server.send_signal(signal.SIGINT)
    assert perdure.server.wait(60) == 130
    assert "Traceback" not in perdure.output()
    assert "login/" not in perdure.output()


def address(perdure: Any) -> str:
    found = PAGES.search(perdure.output())
    assert found, perdure.output()
    return found[1]


@pytest.fixture
def browser(up: Any) -> Iterator[Browser]:
    """A browser that followed the link of `perdure login`."""
    with Browser(up.url) as browser:
        link = up("login").stdout.strip()
        assert browser.post(link).status_code == 200
        yield browser


def entry(browser: Browser) -> str:
    """The address of the one thing in the inbox."""
    page = browser.get("/inbox")
    [found] = re.findall(r'class="name" href="([^"]+)"', page.text)
    return urljoin(str(page.url), found)


def test_a_person_signs_in_looks_decides_and_the_run_goes_on(up: Any, browser: Browser) -> None:
    up("run", "asks.py:report", "--id", "r1")
    path = entry(browser)
    assert "Publish the report?" in browser.get(path).text
    answer = browser.press(path, "approve", comment="from the page")
    assert answer.status_code == 200
    up.until_said("done")
    assert up.status("r1") == "SUCCEEDED"
    shown = up("show", "r1").stdout
    assert f"approved by {account()} (session, web)" in shown
    assert '"from the page"' in shown


def test_a_named_wait_is_woken_by_a_button(up: Any, browser: Browser) -> None:
    up("run", "asks.py:waits", "--id", "r1", "--wait", "0")
    browser.press(entry(browser), "approve")
    up.until_said("done")
    assert '{"got": true}' in up("show", "r1").stdout


def test_a_click_in_slack_is_taken_if_it_is_signed(perdure: Any) -> None:
    perdure.write("asks.py", ASKS)
    with FakeSlack() as fake:
        env = {
            "FAKE_SLACK": fake.base_url,
            "SLACK_BOT_TOKEN": TOKEN,
            "SLACK_SIGNING_SECRET": SECRET,
        }
        env |= dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "")
        perdure.start("serve", "asks.py", "--port", "0", **env)
        perdure.until_said("Ctrl-C stops")
        assert f"clicks in Slack come to {address(perdure)}/slack/interactivity" in perdure.output()
        perdure("run", "asks.py:slack", "--id", "r1", "--wait", "0", **env)
        body = body_of(click(fake, fake.posts[0], "approve", user("U1")))
        with Browser(address(perdure)) as browser:
            for secret, code in (("another-secret", 401), (SECRET, 200)):
                request = signed(body, time.time(), secret=secret)
                headers = dict(request.headers)
                answer = browser.post("/slack/interactivity", content=body, headers=headers)
                assert answer.status_code == code
        perdure.until_said("done")
        assert "approved by" in fake.posts[0]["text"].lower()
    assert "approved by slack:T1:U1" in perdure("show", "r1").stdout
    assert not [each for each in (TOKEN, SECRET) if each in perdure.output()]


def test_looking_decides_nothing(up: Any, browser: Browser) -> None:
    up("run", "asks.py:report", "--id", "r1")
    path = entry(browser)
    for _ in range(10):
        assert browser.get(path).status_code == 200
        assert browser.head(path).status_code == 200
    assert "Publish the report?" in up("inbox").stdout


def test_who_asked_may_not_decide_on_the_page_either(up: Any, browser: Browser) -> None:
    up("run", "asks.py:pays", "--id", "r1")
    assert browser.press(entry(browser), "approve").status_code in (400, 403)
    assert "perdure show r1" in up("inbox").stdout


def test_nobody_looks_without_signing_in(up: Any) -> None:
    with Browser(up.url) as stranger:
        answer = stranger.get("/inbox")
        assert answer.status_code == 401
        assert "perdure login" in answer.text


def test_a_login_can_open_the_browser_itself(up: Any) -> None:
    script = up.write("browser", '#!/bin/sh\necho "$1" > "$(dirname "$0")/opened"\n')
    script.chmod(0o755)
    link = up("login", "--open", BROWSER=f"{script} %s").stdout.strip()
    assert (up.folder / "opened").read_text().strip() == link


def test_a_link_for_signing_in_is_of_no_use_to_another_server(up: Any) -> None:
    other = up("login", "--base-url", up.url, "--journal", "other.db", code=2)
    assert "there is no journal" in other.stderr
    up("run", "flow.py", "--journal", "other/other.db")
    link = up("login", "--base-url", up.url, "--journal", "other/other.db").stdout.strip()
    with Browser(up.url) as browser:
        assert browser.post(link).status_code == 401


def test_another_host_name_is_refused(up: Any) -> None:
    with Browser(up.url) as browser:
        answer = browser.get("/inbox", headers={"Host": "evil.example.org"})
        assert answer.status_code == 400


def test_a_decision_at_the_terminal_wakes_the_server_at_once(up: Any) -> None:
    up("run", "asks.py:report", "--id", "r1")
    up("approve", "r1")
    up.until_said("done")
    assert up.status("r1") == "SUCCEEDED"


def test_a_waiting_run_names_its_page(up: Any) -> None:
    said = up("run", "asks.py:report", "--id", "r1").stdout
    assert f"{up.url}/inbox/r1/" in said
    assert f"{up.url}/inbox" in up("inbox").stdout


# Where the pages are


def test_the_address_stands_beside_the_journal_while_the_server_is_up(perdure: Any) -> None:
    server = perdure.start("serve", "flow.py", "--port", "0")
    perdure.until_said("Ctrl-C stops")
    noted = perdure.journal.parent / "serve.url"
    assert noted.read_text().strip() == address(perdure)
    server.send_signal(signal.SIGINT)
    assert server.wait(60) == 130
    assert not noted.exists()
    assert "no server of" in perdure("login", code=2).stderr


def test_a_server_that_was_killed_is_not_taken_for_one_that_is_up(perdure: Any) -> None:
    server = perdure.start("serve", "flow.py", "--port", "0")
    perdure.until_said("Ctrl-C stops")
    server.kill()
    server.wait()
    assert (perdure.journal.parent / "serve.url").exists()
    assert "no server of" in perdure("login", code=2).stderr


def test_an_address_for_messages_alone_is_no_page_to_sign_in_to(perdure: Any) -> None:
    perdure.write("asks.py", ASKS)
    env = {"PERDURE_BASE_URL": "https://a.example.org"}
    assert "https://" not in perdure("run", "asks.py:report", "--id", "r1", **env).stdout
    assert "no server of" in perdure("login", code=2, **env).stderr


def test_handlers_and_logins_know_the_address_that_is_given(perdure: Any) -> None:
    perdure.start("serve", "flow.py", "--port", "0", "--base-url", "https://a.example.org/in/")
    perdure.until_said("approvals: https://a.example.org/in/inbox")
    assert perdure("login").stdout.startswith("https://a.example.org/in/login/")
    other = perdure("login", "--base-url", "http://127.0.0.1:1").stdout
    assert other.startswith("http://127.0.0.1:1/login/")


def test_a_taken_port_that_was_asked_for_is_an_error(perdure: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        error = perdure("serve", "flow.py", "--port", port, code=2).stderr
    assert f"cannot listen on 127.0.0.1, port {port}" in error
    assert len(error.splitlines()) == 1


def test_a_taken_usual_port_is_gone_around(perdure: Any) -> None:
    with socket.socket() as taken:
        try:
            taken.bind(("127.0.0.1", 8400))
            taken.listen()
        except OSError:
            pass  # somebody else has it: as good
        perdure.start("serve", "flow.py")
        perdure.until_said("Ctrl-C stops")
    assert "port 8400 is taken; using" in perdure.output()
    assert ":8400" not in address(perdure)


def test_an_open_address_without_https_is_warned_of(perdure: Any) -> None:
    perdure.start("serve", "flow.py", "--host", "0.0.0.0", "--port", "0")
    perdure.until_said("Ctrl-C stops")
    assert "warning: 0.0.0.0 can be reached from other machines" in perdure.output()
    assert address(perdure).startswith("http://127.0.0.1:")


def test_a_server_without_pages_runs_what_is_due(perdure: Any) -> None:
    perdure("run", "flow.py:asks", "--id", "r1")
    perdure.start("serve", "flow.py", "--no-web")
    perdure.until_said("Ctrl-C stops")
    assert "approvals:" not in perdure.output()
    assert not (perdure.journal.parent / "serve.url").exists()
    perdure("send", "r1", "approval")
    perdure.until_said("done")


def test_what_serves_pages_is_named_if_it_is_not_installed(perdure: Any) -> None:
    perdure.write(
        "sitecustomize.py",
        "import sys\n\n\nclass Gone:\n    @staticmethod\n"
        "    def find_spec(name, path=None, target=None):\n"
        "        if name == 'uvicorn':\n            raise ModuleNotFoundError(name)\n\n\n"
        "sys.meta_path.insert(0, Gone)\n",
    )
    error = perdure("serve", "flow.py", code=2, PYTHONPATH=str(perdure.folder)).stderr
    assert "pip install 'perdure[console]'" in error
    assert "--no-web" in error
