"""A whole house for one test: `perdure serve`, a mail server, a Slack, browsers and a terminal.

Each is a process or a server of its own, and everything between them goes over sockets.
"""

from __future__ import annotations

import json
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx

from perdure.approvals.requests import NOTICE

from ...console.conftest import Shell, until
from ..conftest import KEY
from ..mail.asked import LINK
from ..mail.smtp_server import PASSWORD, USER, Server, body, free_port, serving
from ..slack.clicks import SECRET, body_of, click, signed, user
from ..slack.fake_slack import TOKEN, FakeSlack

DESK = (Path(__file__).parent / "desk.py").read_text()
ALICE, BOB = "alice@example.org", "bob@example.org"
SLACK_IDS = {ALICE: "UALICE", BOB: "UBOB"}
TEMPERED = {"sec-fetch-site": "same-origin", "sec-fetch-mode": "navigate", "sec-fetch-user": "?1"}
"""What Chromium adds when a person presses a button of our page."""


class House(Shell):
    """A folder with `desk.py`, the command `perdure` in it, and what surrounds it.

    Attributes:
        url: where the pages are.
        answers: everything a browser or Slack was answered.
        said: everything that commands printed.
        secrets: signed texts that are no links of an approval.
        more: settings of all processes.
    """

    def __init__(self, folder: Path, slack: FakeSlack, mail: Server) -> None:
        super().__init__(folder)
        self.slack, self.mail = slack, mail
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.answers: list[httpx.Response] = []
        self.said: list[str] = []
        self.secrets: list[str] = []
        self.more: dict[str, str] = {}
        self.server: subprocess.Popen[str] | None = None
        self.write("desk.py", DESK)

    def environment(self, more: dict[str, str]) -> dict[str, str]:
        kept = super().environment({})
        gone = ("PERDURE_", "SLACK_", "FORCE_COLOR")
        kept = {
            name: text
            for name, text in kept.items()
            if not name.startswith(gone) and not name.lower().endswith("_proxy")
        }
        where = f"smtp://{USER}@127.0.0.1:{self.mail.port}?ca_file={self.mail.ca_file}"
        own = {
            "FAKE_SLACK": self.slack.host,
            "PERDURE_APPROVAL_KEYS": KEY,
            "PERDURE_EMAIL_FROM": "approvals@example.org",
            "PERDURE_SMTP_PASSWORD": PASSWORD,
            "PERDURE_SMTP_URL": where,
            "SLACK_BOT_TOKEN": TOKEN,
            "SLACK_SIGNING_SECRET": SECRET,
            "SMTP_AUTHORITY": self.mail.ca_file,
            "SMTP_PORT": str(self.mail.port),
        }
        return kept | own | self.more | more

    def __call__(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        done = super().__call__(*words, **options)
        if words[0] != "login":  # its purpose is to print a link
            self.said += [done.stdout, done.stderr]
        return done

    # The server

    def serve(self) -> None:
        """Start the server, and wait until it is up."""
        self.server = self.start("serve", "desk.py", "--port", str(self.port))
        self.until_said("Ctrl-C stops")

    def kill(self) -> None:
        """End the server as `kill -9` does."""
        assert self.server is not None
        self.server.kill()
        self.server.wait()
        self.said.append(self.output())

    def ask(self, id: str = "r1", handler: str = "asks", **event: Any) -> None:
        """Start a run that the server takes up, and wait until it asked."""
        self.hand_over(id, handler, **event)
        self.until_asked(id)

    def hand_over(self, id: str, handler: str = "asks", **event: Any) -> None:
        """Leave a run for the server to run."""
        given = json.dumps(event)
        with self.engine() as engine:
            engine.start(f"desk.{handler}", json.loads(given), id=id)

    def until_asked(self, id: str) -> None:
        """Wait until all were told, and nothing of the run is running."""
        self.until(lambda: self.is_asked(id), f"{id} to have asked")

    def is_asked(self, id: str) -> bool:
        """Whether a run waits for people alone, and no message is still to be sent."""
        with self.engine() as engine:
            if engine.info(id).active:
                return False
            operations = engine.operations(id).values()
        ended = {"SUCCEEDED", "FAILED"}
        told = all(each.status in ended for each in operations if each.subtype == NOTICE)
        return told and any(
            each.type == "CALLBACK" and each.status not in ended for each in operations
        )

    def until(self, condition: Callable[[], Any], what: str) -> None:
        until(condition, what, self.output)

    def until_ended(self, id: str, status: str = "SUCCEEDED") -> Any:
        """Wait for the end of a run; return its result."""
        self.until(lambda: self.status(id) != "RUNNING", f"the end of {id}")
        assert self.status(id) == status, self.output()
        if status != "SUCCEEDED":
            return None
        with self.engine() as engine:
            return engine.get(id).result(timeout=5)

    def pending(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = json.loads(self("list", "--pending", "--json").stdout)
        return rows

    def decisions(self, id: str) -> int:
        """How many callbacks of a run were completed, by its history."""
        with self.engine() as engine:
            events = engine.history(id)
        return sum(each["EventType"] == "CallbackSucceeded" for each in events)

    def record(self, id: str) -> dict[str, Any]:
        """What `perdure show` says of a run's one approval."""
        [record] = json.loads(self("show", id, "--json").stdout)["approvals"]
        return dict(record)

    def kept(self) -> bytes:
        """The journal, byte for byte, with what is not yet merged into it."""
        files = [self.journal, self.journal.with_name(f"{self.journal.name}-wal")]
        return b"".join(each.read_bytes() for each in files if each.exists())

    # Mail

    def mails(self, to: str) -> list[str]:
        """The text of the mails somebody got."""
        return [body(each, "plain") for each in self.mail.desk.messages if each["To"] == to]

    def link(self, to: str) -> str:
        """The link in the last mail that had one."""
        found = [LINK.search(each) for each in self.mails(to)]
        return [each[0] for each in found if each is not None][-1]

    # Browsers

    def get(self, url: str, **options: Any) -> httpx.Response:
        return self.send("GET", url, **options)

    def press(self, url: str, decision: str | None, **form: str) -> httpx.Response:
        """Press a button on the page behind a link."""
        fields = ({"decision": decision} if decision else {}) | form
        return self.send("POST", url, data=fields, headers={"origin": self.url, **TEMPERED})

    def send(
        self, method: str, url: str, browser: httpx.Client | None = None, **options: Any
    ) -> httpx.Response:
        """Send a request of a browser, or of one that knows nothing."""
        with httpx.Client(trust_env=False, timeout=60) as fresh:
            answer = (browser or fresh).request(method, urljoin(self.url, url), **options)
        self.answers.append(answer)
        return answer

    @contextmanager
    def signed_in(self) -> Iterator[Member]:
        """A browser that followed the link of `perdure login`."""
        link = self("login").stdout.strip()
        self.secrets.append(link.rpartition("/")[2])
        with httpx.Client(trust_env=False, timeout=60) as browser:
            self.get(link, browser=browser)
            headers = {"origin": self.url, **TEMPERED}
            assert self.send("POST", link, browser, headers=headers).status_code == 303
            yield Member(self, browser)

    # Slack

    def click(self, message: dict[str, Any], verb: str, who: str) -> httpx.Response:
        """Click a button of a message, as Slack tells of it."""
        payload = click(self.slack, message, verb, user(SLACK_IDS.get(who, who)))
        return self.slack_says(payload)

    def slack_says(self, payload: Any) -> httpx.Response:
        made = signed(body_of(payload), time.time())
        return self.send("POST", made.path, content=made.body, headers=dict(made.headers))


class Member:
    """Somebody who is signed in to the inbox."""

    def __init__(self, house: House, browser: httpx.Client) -> None:
        self.house, self.browser = house, browser

    def inbox(self) -> list[str]:
        """The addresses of what is in the inbox."""
        page = self.house.get("/inbox", browser=self.browser)
        return re.findall(r'class="name" href="([^"]+)"', page.text)

    def look(self, path: str) -> httpx.Response:
        return self.house.get(path, browser=self.browser)

    def press(self, path: str, decision: str, **form: str) -> httpx.Response:
        return self.send(path, self.look(path), decision, **form)

    def send(self, path: str, page: httpx.Response, decision: str, **form: str) -> httpx.Response:
        """Press a button of a page that was loaded before."""
        found = re.search(r'name="csrf" value="([^"]+)"', page.text)
        fields = ({"csrf": found[1]} if found else {}) | {"decision": decision} | form
        headers = {"origin": self.house.url, **TEMPERED}
        return self.house.send("POST", path, self.browser, data=fields, headers=headers)


@contextmanager
def house_in(folder: Path) -> Iterator[House]:
    """A house in a folder; its server is not up yet."""
    with FakeSlack() as slack, serving(folder) as mail:
        slack.now = time.time
        house = House(folder, slack, mail)
        try:
            yield house
        finally:
            house.end()


def words(answer: httpx.Response) -> str:
    """What a person reads on a page."""
    page = re.sub(r"<(style|title)\b.*?</\1>", " ", answer.text, flags=re.DOTALL)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", page)))


def at_once(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Make calls from as many threads, let go together."""
    gate = threading.Barrier(len(calls))

    def go(call: Callable[[], Any]) -> Any:
        gate.wait(30)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(go, calls))
