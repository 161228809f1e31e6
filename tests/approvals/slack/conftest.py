"""What the tests of Slack share: a Slack, an engine on a clock, and who clicks what."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from perdure.approvals import Slack, SlackIn, await_approval
from perdure.approvals.http import Response
from perdure.approvals.journal import LocalCallbacks
from perdure.approvals.office import Office
from perdure.durable import durable_execution
from perdure.durable.testing import ManualClock, Runner

from ..conftest import BASE_URL, KEY
from .clicks import SECRET, body_of, click, signed, user
from .fake_slack import TOKEN, FakeSlack


@pytest.fixture
def slack(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSlack]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLACK_BOT_TOKEN", TOKEN)
    monkeypatch.setenv("PERDURE_APPROVAL_KEYS", KEY)
    monkeypatch.setenv("PERDURE_BASE_URL", BASE_URL)
    with FakeSlack() as slack:
        yield slack


@pytest.fixture
def channel(slack: FakeSlack) -> Slack:
    """The channel C1."""
    return Slack("C1", base_url=slack.base_url)


@pytest.fixture
def direct(slack: FakeSlack) -> Slack:
    """Direct messages."""
    return Slack(base_url=slack.base_url)


@pytest.fixture
def runner(tmp_path: Path, clock: ManualClock, slack: FakeSlack) -> Iterator[Runner]:
    with Runner(tmp_path / "journal.db", clock=clock) as runner:
        yield runner


@pytest.fixture
def receiver(runner: Runner, office: Office, slack: FakeSlack) -> SlackIn:
    return SlackIn(
        office,
        LocalCallbacks(runner.engine),
        signing_secret=SECRET,
        base_url=slack.base_url,
        response_hosts=[slack.host],
    )


@pytest.fixture
def ask(runner: Runner) -> Callable[..., Any]:
    """Starts a run that asks, and returns it once the question is out."""

    def start(subject: Any = "Pay 100 EUR", **options: Any) -> Any:
        @durable_execution(name="asking")
        def handler(event: Any, context: Any) -> Any:
            decision = await_approval(context, subject, **options)
            return {"kind": decision.kind, "approved": decision.approved, "got": decision.value}

        run = runner.start(handler, {})
        runner.settle()
        return run

    return start


@pytest.fixture
def press(
    receiver: SlackIn, slack: FakeSlack, office: Office, runner: Runner
) -> Callable[..., Response]:
    """Clicks a button, and lets the run go on."""

    def press(
        verb: str, who: str | dict[str, str], message: dict[str, Any] | None = None
    ) -> Response:
        person = user(who) if isinstance(who, str) else who
        payload = click(slack, message or slack.posts[0], verb, person)
        response = receiver.handle(signed(body_of(payload), office.now))
        runner.settle()
        return response

    return press
