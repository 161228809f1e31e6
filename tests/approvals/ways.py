"""Ways to ask and to answer in tests: a real engine, links as they were sent, browsers' headers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from perdure.approvals import await_approval
from perdure.approvals.callbacks import Callbacks, OpenWait, Standing
from perdure.approvals.channels import Notice, Receipt
from perdure.approvals.decisions import Decision
from perdure.approvals.http import Request, Response
from perdure.approvals.journal import LocalCallbacks
from perdure.approvals.office import Office
from perdure.approvals.people import Approver
from perdure.approvals.receiver import Receiver
from perdure.approvals.tokens import PREFIX, Claims, unseal
from perdure.durable import durable_execution
from perdure.durable.testing import Runner

ALICE, BOB, CAROL = "alice@example.org", "bob@example.org", "carol@example.org"
PERSON = {
    "content-type": "application/x-www-form-urlencoded",
    "host": "approvals.example.org",
    "origin": "https://approvals.example.org",
    "sec-fetch-site": "same-origin",
    "sec-fetch-mode": "navigate",
    "sec-fetch-user": "?1",
}
"""What Chromium sends when a person presses a button of our page."""
SCRIPT = {name: text for name, text in PERSON.items() if name != "sec-fetch-user"}
"""What it sends when a script does."""
FOREIGN = PERSON | {"origin": "https://evil.example.org", "sec-fetch-site": "cross-site"}
"""What it sends when the form was on a page of somebody else."""
BARE = {"content-type": PERSON["content-type"]}
"""What an old browser, or curl, sends."""


@dataclass
class Postbox:
    """A channel that keeps the links it is given to deliver."""

    name: str = "email"
    personal: bool = True
    links: dict[str, str] = field(default_factory=dict)
    closed: list[Decision] = field(default_factory=list)

    def reaches(self, approver: Approver) -> bool:
        return True

    def send(self, notice: Notice) -> Receipt:
        [approver] = notice.to
        self.links[approver.name] = urlsplit(notice.link()).path
        at = notice.request.asked
        return Receipt(channel=self.name, to=(approver.name,), ref={}, at=at)

    def update(self, receipt: Receipt, notice: Notice) -> None:
        if notice.decision is not None:
            self.closed.append(notice.decision)

    def find(self, notice: Notice, since: Any) -> None:
        return None

    def spec(self) -> None:
        return None


class Asked:
    """An open request of a run: its links as they were sent, and a receiver for what they bring."""

    def __init__(
        self, runner: Runner, office: Office, handler: Any, box: Postbox, **options: Any
    ) -> None:
        self.runner, self.office, self.box = runner, office, box
        self.run = runner.start(handler)
        runner.settle()
        self.callbacks: Callbacks = LocalCallbacks(runner.engine)
        self.receiver = Receiver(office, self.callbacks, **options)
        open_ = self.callbacks.inbox(limit=1000).entries
        [entry] = [each for each in open_ if run_of(each) == self.run.id]
        assert isinstance(entry, Standing)
        self.operation = entry.request.operation

    @property
    def standing(self) -> Standing:
        """How the request stands now."""
        found = self.callbacks.lookup(self.run.id, self.operation)
        assert isinstance(found, Standing)
        return found

    def claims(self, approver: str = ALICE) -> Claims:
        """What the token in an approver's link says."""
        return unseal(self.office.keys, "link", self.token(approver))

    def token(self, approver: str = ALICE) -> str:
        """The token in the link that was sent to an approver."""
        return self.box.links[approver].split("/")[2].removeprefix(PREFIX)

    def look(self, approver: str = ALICE) -> Response:
        """Open the link that was sent to an approver."""
        return get(self.receiver, self.box.links[approver])

    def press(self, decision: str, approver: str = ALICE, **form: str) -> Response:
        """Press a button on the page behind that link."""
        return post(self.receiver, self.box.links[approver], decision=decision, **form)

    def votes(self) -> list[Decision]:
        """What is recorded."""
        return [each.vote for each in self.standing.ballots if each.vote is not None]

    def result(self) -> Any:
        """Let the run go on to its end; return what it came to."""
        self.runner.run_until_idle()
        return self.run.result(timeout=5)


class Asks:
    """Makes open requests on one engine."""

    def __init__(self, runner: Runner, office: Office) -> None:
        self.runner, self.office = runner, office

    def __call__(self, subject: Any = "the text", **terms: Any) -> Asked:
        """Start a run that asks alice and bob, and bring it to its open request."""
        box = Postbox()
        options = {name: terms.pop(name) for name in ("user", "slack") if name in terms}
        given = {"approvers": [ALICE, BOB], "via": [box], "timeout": 3600} | terms

        @durable_execution(name=f"asks-{id(box)}")
        def handler(event: Any, context: Any) -> Any:
            return await_approval(context, subject, "release", **given).kept()

        return Asked(self.runner, self.office, handler, box, **options)


def run_of(entry: Standing | OpenWait) -> str:
    """The run that an entry of the inbox belongs to."""
    return entry.request.execution if isinstance(entry, Standing) else entry.execution


def get(receiver: Receiver, path: str, method: str = "GET", **headers: str) -> Response:
    """Look at a page."""
    path, _, query = path.partition("?")
    sent = {"host": "approvals.example.org"} | headers
    return receiver.handle(Request(method, path, query, sent, b""))


def post(
    receiver: Receiver, path: str, headers: Mapping[str, str] = PERSON, **form: str
) -> Response:
    """Post a form; `f_name` stands for the field `f.name`."""
    fields = {re.sub("^f_", "f.", name): text for name, text in form.items()}
    body = urlencode(fields).encode()
    return receiver.handle(Request("POST", path, "", dict(headers), body))


def words(response: Response) -> str:
    """What a person reads on a page."""
    page = re.sub(r"<(style|title)\b.*?</\1>", " ", response.body.decode(), flags=re.DOTALL)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", page)))


def bytes_of(folder: Path) -> dict[str, bytes]:
    """The journal files of a folder, byte for byte; not the index of the log, which readers use."""
    found = [folder / "journal.db", folder / "journal.db-wal"]
    return {each.name: each.read_bytes() for each in found if each.exists()}
