"""The pages in a real browser, over HTTP, on a real engine: what people can do, and nobody else."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, Page
from pydantic import BaseModel, Field

from perdure.approvals.journal import LocalCallbacks
from perdure.approvals.keys import Keys
from perdure.approvals.office import Office
from perdure.approvals.receiver import Receiver
from perdure.approvals.requests import ACTIONS, Link
from perdure.approvals.sessions import login_url
from perdure.console.web import app_of, listen, serve_on
from perdure.durable import durable_execution
from perdure.durable.testing import ManualClock, Runner

from .chromium import DESKTOP, PHONE, chromium, contrasts, labels, tab_stops, visitor
from .conftest import KEY
from .ways import ALICE, BOB, CAROL, Asked, Asks, bytes_of

BASE = "http://127.0.0.1:8400"
HOSTILE = "<script>alert(1)</script> <!channel> \u202egnp.exe \x1b[31mred " + "x" * 120
REFUND = {
    "amount": 1.0,
    "text": "\nfirst\r\nsecond\x0b <b>\u202e 👩\u200d💻 ",
    "reason": "late",
    "day": "2026-11-26",
    "lines": [{"sku": "\u2066a"}],
}


class Refund(BaseModel):
    """The form of a refund."""

    amount: float = Field(gt=0)
    text: str
    reason: Literal["late", "damaged"]
    day: date
    lines: list[dict[str, str]]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def office(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> Office:
    """An office on this machine."""
    monkeypatch.setenv("PERDURE_APPROVAL_KEYS", KEY)
    monkeypatch.setenv("PERDURE_BASE_URL", BASE)
    return Office(Keys(KEY), BASE, clock)


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Somebody with a phone."""
    with visitor(browser) as page:
        yield page


@contextmanager
def served(receiver: Receiver) -> Iterator[str]:
    """The receiver behind a real web server; its address."""
    with serve_on(app_of(receiver, BASE), listen("127.0.0.1", 0)) as serving:
        yield serving.url


@contextmanager
def opened(asked: Asked, page: Page, approver: str = ALICE) -> Iterator[str]:
    """The page behind an approver's link, open in the browser; its address."""
    with served(asked.receiver) as url:
        address = f"{url}{asked.box.links[approver]}"
        page.goto(address)
        yield address


def is_wide(page: Page) -> bool:
    """Whether a page scrolls sideways."""
    wide: bool = page.evaluate("document.documentElement.scrollWidth > innerWidth")
    return wide


def test_looking_decides_nothing(asks: Asks, page: Page, tmp_path: Any) -> None:
    asked = asks()
    before = bytes_of(tmp_path)
    with opened(asked, page) as address:
        for _ in range(5):
            response = page.goto(address, wait_until="networkidle")
        assert response is not None
        assert response.status == 200
        assert "<script" not in page.content()
    assert asked.standing.is_open
    assert bytes_of(tmp_path) == before


def test_a_press_of_the_button_decides(asks: Asks, page: Page) -> None:
    asked = asks()
    with opened(asked, page) as address:
        page.get_by_label("Comment").first.fill("fine by me")
        page.get_by_role("button", name="Approve").click()
        assert page.locator("h1").inner_text() == "Approved"
        assert "fine by me" in page.locator("main").inner_text()
        page.goto(address)
        assert page.locator("h1").inner_text() in ("Recorded before", "Already decided")
    [vote] = asked.votes()
    assert (vote.kind, vote.comment, vote.by.identity) == ("approved", "fine by me", ALICE)
    assert asked.result()["kind"] == "approved"


@pytest.mark.parametrize("way", ["form.submit()", "button.click()", "form.requestSubmit(button)"])
def test_a_form_sent_by_a_script_decides_nothing(asks: Asks, page: Page, way: str) -> None:
    asked = asks()
    with opened(asked, page):
        with page.expect_navigation():
            run_script(
                page,
                """(way => {
                  const button = document.querySelector('button[value=approve]');
                  const form = button.form, kept = document.createElement('input');
                  Object.assign(kept, {type: 'hidden', name: 'decision', value: 'approve'});
                  if (way === 'form.submit()') form.append(kept);
                  form.querySelector('textarea').value = 'by a script';
                  ({'form.submit()': () => form.submit(), 'button.click()': () => button.click(),
                    'form.requestSubmit(button)': () => form.requestSubmit(button)})[way]();
                })""",
                way,
            )
        assert "Press once more" in page.get_by_role("alert").inner_text()
        assert asked.votes() == []
        assert page.get_by_label("Comment").first.input_value() == "by a script"
        page.get_by_role("button", name="Reject").click()
        assert page.locator("h1").inner_text() == "Rejected"
    assert [each.kind for each in asked.votes()] == ["rejected"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_form_on_another_site_decides_nothing(asks: Asks, page: Page, host: str) -> None:
    asked = asks()
    with opened(asked, page) as address, elsewhere(address) as port:
        page.goto(f"http://{host}:{port}/")
        with page.expect_response(address) as answered:
            page.get_by_role("button").click()
        assert answered.value.status == 403
        assert "Nothing is recorded" in page.locator("main").inner_text()
    assert asked.votes() == []


def test_it_works_with_scripts_off(asks: Asks, browser: Browser) -> None:
    asked = asks(allow=ACTIONS)
    with (
        visitor(browser, java_script_enabled=False) as page,
        opened(asked, page),
    ):
        page.get_by_text("Give an answer").click()
        page.get_by_label("Answer", exact=True).fill("on Monday\nat nine")
        page.get_by_role("button", name="Send answer").click()
        assert page.locator("h1").inner_text() == "Answered"
    assert asked.result()["value"] == "on Monday\nat nine"


def test_enter_in_a_field_sends_nothing(asks: Asks, page: Page) -> None:
    asked = asks(REFUND, allow=ACTIONS, form=None, confirm="production")
    with opened(asked, page) as address:
        posts: list[str] = []
        page.on("request", lambda request: posts.append(request.method))
        page.locator("#decide-confirm").fill("production")
        page.locator("#decide-confirm").press("Enter")
        page.get_by_text("Change it, then approve").click()
        page.locator("#edit-confirm").fill("production")
        page.locator("#edit-confirm").press("Enter")
        page.wait_for_load_state("networkidle")
        assert (page.url, posts) == (address, [])
    assert asked.votes() == []


def test_a_word_to_type_is_asked_for_and_what_was_typed_is_kept(asks: Asks, page: Page) -> None:
    asked = asks(confirm="production")
    with opened(asked, page):
        page.get_by_label("To approve, type").fill("prodction")
        page.get_by_role("button", name="Approve").click()
        assert "Nothing is recorded" in page.get_by_role("alert").inner_text()
        assert asked.votes() == []
        word = page.get_by_label("To approve, type")
        assert (word.input_value(), word.get_attribute("aria-invalid")) == ("prodction", "true")
        page.get_by_role("alert").get_by_role("link").click()
        word.fill("production")
        page.get_by_role("button", name="Approve").click()
        assert page.locator("h1").inner_text() == "Approved"


def test_everything_can_be_done_by_keyboard_in_reading_order(asks: Asks, page: Page) -> None:
    given = (Link(title="the list", url="https://files.example.org/l"),)
    asked = asks("a text", allow=ACTIONS, attachments=given, confirm="yes")
    with opened(asked, page):
        assert tab_stops(page) == [
            "Skip to the decision",
            "the list",
            "Comment (optional)",
            "To approve, type yes",
            "✓ Approve",
            "✕ Reject",
            "Change it, then approve",
            "Give an answer",
        ]
        page.reload()
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        for _ in range(4):
            page.keyboard.press("Tab")
        with page.expect_navigation():
            page.keyboard.press("Enter")
        assert page.locator("h1").inner_text() == "Rejected"
    assert [each.kind for each in asked.votes()] == ["rejected"]


def test_an_edit_that_changes_nothing_comes_back_to_the_character(asks: Asks, page: Page) -> None:
    asked = asks(REFUND, allow=ACTIONS)
    with opened(asked, page):
        page.get_by_text("Change it, then approve").click()
        page.get_by_role("button", name="Approve as changed").click()
        assert page.locator("h1").inner_text() == "Approved with changes"
    assert asked.result()["value"] == REFUND


def test_a_form_from_a_schema_is_refused_in_words_then_taken(asks: Asks, page: Page) -> None:
    asked = asks(REFUND, allow=ACTIONS, form=Refund)
    with opened(asked, page):
        page.get_by_text("Change it, then approve").click()
        page.locator("#edit-1").fill("a lot")
        page.get_by_role("button", name="Approve as changed").click()
        assert "Amount: a number, not 'a lot'" in page.get_by_role("alert").inner_text()
        assert asked.votes() == []
        page.locator("#edit-1").fill("-1")
        page.get_by_role("button", name="Approve as changed").click()
        assert "Amount: more than 0, not -1" in page.get_by_role("alert").inner_text()
        page.locator("#edit-1").fill("2.5")
        page.locator("#edit-3").select_option("damaged")
        page.get_by_role("button", name="Approve as changed").click()
        assert page.locator("h1").inner_text() == "Approved with changes"
    assert asked.result()["value"] == REFUND | {"amount": 2.5, "reason": "damaged"}


def test_words_of_others_run_nothing_and_fit_a_phone(asks: Asks, page: Page) -> None:
    asked = asks({HOSTILE: HOSTILE}, title=HOSTILE[:140], preview=HOSTILE, allow=ACTIONS)
    dialogs: list[Any] = []
    page.on("dialog", lambda dialog: dialogs.append(dialog))
    with opened(asked, page):
        assert not is_wide(page)
        assert "\\u202egnp.exe \\u001b[31mred" in page.locator("h1").inner_text()
        for each in page.locator("summary").all():
            each.click()
        assert not is_wide(page)
        assert page.locator("main script").count() == 0
    assert dialogs == []


def test_a_megabyte_can_be_read_and_decided(asks: Asks, page: Page) -> None:
    asked = asks("word " * 200_000)
    with opened(asked, page):
        assert "900,000 more characters are not shown" in page.locator("main").inner_text()
        page.get_by_role("link", name="Show all of it").click()
        assert len(page.locator(".matter").inner_text()) >= 999_999
        assert not is_wide(page)
        page.get_by_role("button", name="Approve").click()
        assert page.locator("h1").inner_text() == "Approved"
    assert asked.result()["kind"] == "approved"


def test_a_quorum_tells_a_voter_of_the_vote(asks: Asks, browser: Browser) -> None:
    asked = asks(approvers=[ALICE, BOB, CAROL], required=2)
    for approver, votes in ((ALICE, "1 of 2 approved"), (BOB, "2 of 2 approved")):
        with visitor(browser) as page, opened(asked, page, approver):
            page.get_by_role("button", name="Approve").click()
            assert page.locator("h1").inner_text() == "Your vote is recorded"
            assert votes in page.locator("main").inner_text()
    assert asked.result()["kind"] == "approved"


def test_signing_in_looking_through_the_inbox_and_deciding(
    asks: Asks, page: Page, office: Office
) -> None:
    asked = asks(approvers=["user:alice"], user="user:alice")
    with served(asked.receiver) as url:
        page.goto(f"{url}/inbox")
        assert "perdure login" in page.locator("main").inner_text()
        page.goto(login_url(office, "user:alice").replace(BASE, url))
        page.goto(f"{url}/inbox")
        assert "perdure login" in page.locator("main").inner_text()
        page.go_back()
        page.get_by_role("button", name="Sign in").click()
        assert page.locator("h1").inner_text() == "Inbox"
        page.locator("ol a").click()
        page.get_by_role("button", name="Approve").click()
        assert page.locator("h1").inner_text() == "Approved"
        page.get_by_role("link", name="Back to the inbox").click()
        assert "Nothing waits" in page.locator("main").inner_text()
        page.get_by_role("button", name="Sign out").click()
        assert page.locator("h1").inner_text() == "Signed out"
        page.goto(f"{url}/inbox")
        assert page.locator("h1").inner_text() == "Sign in first"
    [vote] = asked.votes()
    assert (vote.by.identity, vote.by.assurance, vote.channel) == ("user:alice", "session", "web")


@pytest.mark.parametrize(
    ("press", "sent"), [("Approve", True), ("Reject", False), ("Send", {"go": ["on"]})]
)
def test_a_named_wait_is_answered_by_a_button(
    runner: Runner, office: Office, page: Page, press: str, sent: Any
) -> None:
    @durable_execution(name="waits")
    def waits(event: Any, context: Any) -> Any:
        return context.wait(3600, name="editor")

    run = runner.start(waits)
    runner.settle()
    receiver = Receiver(office, LocalCallbacks(runner.engine), user="user:alice")
    with served(receiver) as url:
        page.goto(login_url(office, "user:alice").replace(BASE, url))
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("link", name="editor").click()
        if press == "Send":
            page.get_by_text("Send another answer").click()
            page.get_by_role("textbox", name="Answer").fill("{")
            page.get_by_role("button", name=press).click()
            assert "Nothing is recorded" in page.get_by_role("alert").inner_text()
            page.get_by_role("textbox", name="Answer").fill('{"go": ["on"]}')
        page.get_by_role("button", name=press).click()
        assert "the run goes on" in page.get_by_role("status").inner_text()
    runner.run_until_idle()
    assert run.result(timeout=5) == sent


def test_many_requests_fit_a_phone_and_lead_to_older_ones(
    asks: Asks, page: Page, office: Office
) -> None:
    asked = [asks(f"text {each}", approvers=["user:alice", ALICE]) for each in range(60)][-1]
    receiver = Receiver(office, asked.callbacks, user="user:alice")
    with served(receiver) as url:
        page.goto(login_url(office, "user:alice").replace(BASE, url))
        page.get_by_role("button", name="Sign in").click()
        assert "60 requests wait" in page.locator("main").inner_text()
        assert not is_wide(page)
        seen = page.locator("ol.rows > li").count()
        page.get_by_role("link", name="Older requests").click()
        assert seen + page.locator("ol.rows > li").count() == 60


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESKTOP])
def test_texts_have_contrast_fields_have_labels_and_nothing_is_wider_than_the_screen(
    asks: Asks, browser: Browser, scheme: Any, size: Any
) -> None:
    given = (Link(title="the list", url="https://example.org/x"),)
    terms = {"confirm": "yes", "preview": "first", "attachments": given}
    quorum = asks(REFUND, approvers=[ALICE, BOB, CAROL], required=2, **terms)
    quorum.press("approve", BOB, comment="a comment", confirm="yes")
    single = asks(REFUND, allow=ACTIONS, form=Refund, **terms)
    for asked, presses in ((quorum, ["Approve"]), (single, ["Approve as changed", "Reject"])):
        with visitor(browser, color_scheme=scheme, viewport=size) as page, opened(asked, page):
            check_looks(page)
            for press in presses:
                page.get_by_role("button", name=press).last.click()
                check_looks(page)


def check_looks(page: Page) -> None:
    """Check what anybody needs to read and use a page, with all of it unfolded."""
    while page.locator("details:not([open]) > summary").count():
        page.locator("details:not([open]) > summary").first.click()
    assert {text: ratio for text, ratio in contrasts(page).items() if ratio < 4.5} == {}
    assert page.locator(".told, .card").first.evaluate("e => getComputedStyle(e).padding") != "0px"
    assert set(labels(page).values()) <= {1}
    assert not is_wide(page)


def run_script(page: Page, function: str, argument: str) -> None:
    """Run a script as one runs that no person set off; the driver's own way counts as a press."""
    session = page.context.new_cdp_session(page)
    call = {"expression": f"{function}({json.dumps(argument)})", "userGesture": False}
    session.send("Runtime.evaluate", call)


@contextmanager
def elsewhere(target: str) -> Iterator[int]:
    """A site of somebody else with a form that posts to a page of ours; its port."""
    form = f"<form method=post action='{target}'><input name=decision value=approve><button>Win"

    class Site(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(form.encode())

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
