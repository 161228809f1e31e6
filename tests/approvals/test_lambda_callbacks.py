"""A run under AWS's local runner that asks, decided by clicks that come to a function URL."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import pytest

from perdure.approvals import Unavailable, await_approval, lambda_url
from perdure.approvals.callbacks import OpenWait, Standing
from perdure.approvals.lambda_callbacks import LambdaCallbacks
from perdure.approvals.people import Principal
from perdure.approvals.tokens import PREFIX, unseal
from perdure.approvals.withdrawing import cancel
from perdure.durable import ExecutionFailedError, LambdaEngine, durable_execution

from ..durable.aws.stand import Stand, account
from ..waiting import until
from .conftest import BASE_URL, KEY
from .test_lambda_url import event
from .ways import ALICE, BARE, BOB, CAROL, PERSON, SCRIPT, Postbox

DOMAIN = "approvals.example.org"


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with account(tmp_path_factory.mktemp("aws") / "runner.log") as stand:
        yield stand


@pytest.fixture(autouse=True)
def receiver_settings(monkeypatch: pytest.MonkeyPatch, stand: Stand) -> Iterator[None]:
    """The environment of the receiver's function; the runner's own front is its Lambda."""
    monkeypatch.setenv("PERDURE_APPROVAL_KEYS", KEY)
    monkeypatch.setenv("PERDURE_BASE_URL", BASE_URL)
    for name, text in stand.environment.items():
        monkeypatch.setenv(name, text)
    stand.front.refuse, stand.front.lose = lambda call: None, lambda call: False
    lambda_url._configured.cache_clear()
    yield
    lambda_url._configured.cache_clear()


class Asking:
    """A run that asks, its links, and the receiver they lead to."""

    def __init__(self, stand: Stand, subject: Any = "the text", **terms: Any) -> None:
        self.box = Postbox()
        given = {"approvers": [ALICE, BOB], "via": [self.box], "timeout": 60} | terms

        @durable_execution(name="asks")
        def asks(happened: Any, context: Any) -> Any:
            context.step("before", lambda: [str(number) for number in range(10)])
            return await_approval(context, subject, "release", **given).kept()

        self.front = stand.front
        self.engine = stand.engine(asks)
        self.run = self.engine.start(asks, None)
        people = len(given["approvers"])
        until(lambda: len(self.box.links) == people, "the links to be sent")
        self.callbacks = LambdaCallbacks(self.engine.api)

    def standing(self) -> Standing:
        scope = self.run.operations()["release"].id
        found = self.callbacks.lookup(self.run.arn, scope)
        assert isinstance(found, Standing)
        return found

    def look(self, who: str = ALICE) -> dict[str, Any]:
        return lambda_url.handler(event("GET", self.box.links[who], {"host": DOMAIN}))

    def press(
        self, decision: str, who: str = ALICE, headers: Any = PERSON, **form: str
    ) -> dict[str, Any]:
        body = urlencode(form | {"decision": decision}).encode()
        sent = {"host": DOMAIN} | headers
        return lambda_url.handler(event("POST", self.box.links[who], sent, body))

    def token(self, who: str = ALICE) -> str:
        return self.box.links[who].split("/")[2].removeprefix(PREFIX)

    def waits(self) -> bool:
        """Whether the invocation that asked has ended."""
        return any(each["EventType"] == "InvocationCompleted" for each in self.run.history())

    def result(self) -> Any:
        return self.run.result(timeout=30)


def text(answer: dict[str, Any]) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer["body"]))


# -- a click ----------------------------------------------------------------------------------


def test_a_click_on_a_link_decides_a_run_on_aws(stand: Stand) -> None:
    it = Asking(stand)

    answer = it.press("approve", comment="as discussed")

    assert answer["statusCode"] == 200
    assert "approve" in text(answer)
    decision = it.result()
    assert (decision["kind"], decision["by"]["identity"]) == ("approved", ALICE)
    assert decision["comment"] == "as discussed"
    assert [each.kind for each in it.box.closed] == ["approved", "approved"]


def test_a_click_that_rejects_rejects(stand: Stand) -> None:
    it = Asking(stand)

    assert it.press("reject", BOB)["statusCode"] == 200
    assert it.result()["kind"] == "rejected"


def test_the_page_shows_what_is_asked_and_a_look_never_decides(stand: Stand) -> None:
    it = Asking(stand, subject={"text": "a <b>bold</b> claim"})

    for _ in range(3):
        page = it.look()
        assert page["statusCode"] == 200
        assert "a &lt;b&gt;bold&lt;/b&gt; claim" in page["body"]
        assert it.run.id in page["body"] or it.run.arn in page["body"]
    assert it.standing().is_open
    it.run.cancel()


def test_a_script_or_no_button_decides_nothing(stand: Stand) -> None:
    it = Asking(stand)

    assert it.press("approve", headers=SCRIPT)["statusCode"] == 200
    assert it.press("banana")["statusCode"] == 400
    assert it.standing().is_open
    it.run.cancel()


def test_a_second_click_is_told_of_the_first(stand: Stand) -> None:
    it = Asking(stand)
    it.press("approve")
    it.result()

    late, again = it.press("reject", BOB), it.press("approve")

    assert (late["statusCode"], again["statusCode"]) == (200, 200)
    assert "Already approved by alice@example.org" in text(late)
    assert "rejected by" not in text(late)


def test_a_click_after_the_time_is_up_is_told_so(stand: Stand) -> None:
    it = Asking(stand, timeout=2)

    assert it.result()["kind"] == "expired"
    late = it.press("approve")

    assert late["statusCode"] == 410
    assert it.standing().ballots[0].ended == "timed out"


def test_a_click_on_a_cancelled_run_is_told_that_it_was_withdrawn(stand: Stand) -> None:
    it = Asking(stand)
    until(it.waits, "it to wait")  # the runner forgets a stop during an invocation

    withdrawn = cancel(
        it.engine, it.run.id, "no longer", by=Principal(identity="user:carol", assurance="cli")
    )

    assert [each.path for each in withdrawn.requests] == ["release"]
    assert it.press("approve")["statusCode"] == 410
    assert it.standing().status == "CANCELLED"


def test_a_quorum_is_counted_on_aws(stand: Stand) -> None:
    it = Asking(stand, approvers=[ALICE, BOB, CAROL], required=2)

    assert it.press("approve", ALICE)["statusCode"] == 200
    assert [each.approver for each in it.standing().ballots if each.open] == [BOB, CAROL]
    assert it.press("approve", CAROL)["statusCode"] == 200

    decision = it.result()
    assert decision["kind"] == "approved"
    assert [each["by"]["identity"] for each in decision["votes"]] == [ALICE, CAROL]
    assert it.press("reject", BOB)["statusCode"] == 410


def test_what_was_completed_by_hand_is_never_a_yes(stand: Stand) -> None:
    it = Asking(stand)
    [ballot] = it.standing().ballots

    it.engine.complete_callback(ballot.callback, payload='"approved"')

    with pytest.raises(ExecutionFailedError) as caught:
        it.result()
    assert caught.value.error_type == "perdure.ApprovalError"
    assert it.standing().ballots[0].ended == "foreign"
    assert it.press("approve")["statusCode"] == 410


# -- an answer that is lost -------------------------------------------------------------------


def test_a_lost_answer_is_looked_up_and_the_vote_was_sent_once(stand: Stand) -> None:
    it = Asking(stand)
    it.front.lose = lambda call: "/succeed" in call
    it.front.calls.clear()

    answer = it.press("approve")

    assert answer["statusCode"] == 200
    assert "already" not in text(answer).lower()
    assert sum("/succeed" in call for call in it.front.calls) == 1
    assert it.result()["kind"] == "approved"


def test_a_service_out_of_order_is_told_as_not_recorded(
    stand: Stand, caplog: pytest.LogCaptureFixture
) -> None:
    it = Asking(stand)
    [ballot] = it.standing().ballots
    it.front.refuse = lambda call: (403, "AccessDeniedException") if "/succeed" in call else None

    answer = it.press("approve")

    assert answer["statusCode"] == 503
    assert "AccessDeniedException" in caplog.text
    assert ballot.callback not in caplog.text
    assert it.token() not in caplog.text
    it.front.refuse = lambda call: None
    assert it.standing().is_open
    it.run.cancel()


# -- what is read -----------------------------------------------------------------------------


def test_a_token_says_where_its_run_is(stand: Stand) -> None:
    from perdure.approvals.keys import Keys

    it = Asking(stand)
    claims = unseal(Keys(KEY), "link", it.token())

    assert claims.execution == it.run.arn
    assert len(it.box.links[ALICE]) < 1500
    it.run.cancel()


def test_only_the_end_of_a_long_history_is_read(stand: Stand) -> None:
    @durable_execution(name="long")
    def long(happened: Any, context: Any) -> Any:
        for number in range(300):
            context.step(f"s{number}", lambda: None)
        return await_approval(
            context, "x", "release", approvers=[ALICE], via=[Postbox()], timeout=60
        ).kind

    engine = stand.engine(long)
    run = engine.start(None, None)
    until(lambda: "release/decision" in run.operations(), "the request")
    scope = run.operations()["release"].id
    stand.front.calls.clear()

    found = LambdaCallbacks(engine.api).lookup(run.arn, scope)

    assert isinstance(found, Standing)
    assert found.is_open
    assert sum("/history" in call for call in stand.front.calls) == 1
    run.cancel()


def test_what_is_not_there_is_none(stand: Stand) -> None:
    it = Asking(stand)

    for run, operation in ((it.run.arn, "no"), ("no/no", "no"), (it.run.arn, "")):
        assert it.callbacks.lookup(run, operation) is None
    assert it.callbacks.complete("bm8=", "true") == "closed"
    it.run.cancel()


def test_the_inbox_has_what_is_open_in_the_functions_runs(stand: Stand) -> None:
    @durable_execution(name="both")
    def both(happened: Any, context: Any) -> Any:
        def ask(inner: Any) -> Any:
            return await_approval(
                inner, "x", "release", approvers=[ALICE], via=[Postbox()], timeout=60
            ).kind

        def wait(inner: Any) -> Any:
            return inner.wait(60, name="go")

        return list(context.parallel("all", {"ask": ask, "wait": wait}))

    engine = stand.engine(both)
    callbacks = LambdaCallbacks(engine.api)
    runs = []
    for number in range(3):
        runs.append(engine.start(None, None, id=f"run-{number}"))
        until(lambda: len(callbacks.inbox().entries) == 2 * len(runs), "the entries")
    page = callbacks.inbox(limit=2)
    entries = list(page.entries)
    while page.next is not None:
        page = callbacks.inbox(page.next, limit=2)
        entries += page.entries

    assert len(entries) == 6
    asked = [each for each in entries if isinstance(each, Standing)]
    waits = [each for each in entries if isinstance(each, OpenWait)]
    assert [each.request.execution for each in asked] == [run.arn for run in reversed(runs)]
    assert {each.path for each in waits} == {"all[wait]/go"}
    found = callbacks.lookup(waits[0].execution, waits[0].operation)
    assert found == replace(waits[0], handler="")  # the ARNs of the local runner name no function
    engine.send("run-0", "all[wait]/go", 1)
    engine.cancel("run-1")
    assert len(callbacks.inbox().entries) == 3
    for run in (runs[0], runs[2]):
        run.cancel()


def test_a_service_that_cannot_be_asked_is_unavailable(stand: Stand) -> None:
    callbacks = LambdaCallbacks(LambdaEngine("f", endpoint_url=stand.front.url).api)
    stand.front.refuse = lambda call: (403, "AccessDeniedException")

    for ask in (
        lambda: callbacks.complete("bm8=", "true"),
        lambda: callbacks.lookup("a/b", "c"),
        callbacks.inbox,
    ):
        with pytest.raises(Unavailable):
            ask()


# -- the function -----------------------------------------------------------------------------


def test_without_a_base_url_the_functions_own_address_is_used(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = Asking(stand)
    monkeypatch.delenv("PERDURE_BASE_URL")
    domain = "abc.lambda-url.us-west-2.on.aws"

    def press(origin: str) -> dict[str, Any]:
        body = urlencode({"decision": "approve"}).encode()
        headers = BARE | {"host": domain, "origin": origin}
        sent = event("POST", it.box.links[ALICE], headers, body)
        sent["requestContext"]["domainName"] = domain
        return lambda_url.handler(sent)

    assert press("https://evil.example.org")["statusCode"] == 403
    assert press(f"https://{domain}")["statusCode"] == 200
    assert it.result()["kind"] == "approved"


def test_it_has_no_inbox_and_no_sign_in(stand: Stand) -> None:
    for path in ("/inbox", "/login/x", "/", "/slack/interactivity"):
        assert lambda_url.handler(event("GET", path, {}))["statusCode"] == 404


def test_with_slacks_secret_it_takes_slacks_clicks(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLACK_SIGNING_SECRET", "a-signing-secret")
    monkeypatch.setenv("SLACK_BOT_TOKEN", "xoxb-1")
    lambda_url._configured.cache_clear()

    answer = lambda_url.handler(event("POST", "/slack/interactivity", {}, b"payload=x"))

    assert answer["statusCode"] == 401


def test_without_a_key_it_says_what_to_set(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    from perdure.durable import UsageError

    monkeypatch.delenv("PERDURE_APPROVAL_KEYS")
    lambda_url._configured.cache_clear()

    with pytest.raises(UsageError, match="set PERDURE_APPROVAL_KEYS"):
        lambda_url.handler(event("GET", "/a/v1~x/review", {}))


def test_a_mail_says_the_name_of_the_run_and_not_its_arn() -> None:
    from perdure.approvals.requests import ApprovalRequest

    arn = (
        "arn:aws:lambda:us-west-2:123456789012:function:flow:7/durable-execution/doc-1/"
        "088e290b-3140-4043-b161-24b12de7681a"
    )
    named = ApprovalRequest.model_construct(execution=arn)
    assert named.run == "doc-1"
    assert ApprovalRequest.model_construct(execution="doc-2").run == "doc-2"
