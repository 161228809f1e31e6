"""Signing in on the machine, and the inbox: what a session may see and do, and what ends it."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from html import unescape
from typing import Any

import pytest

from perdure.approvals import await_approval
from perdure.approvals.callbacks import Standing
from perdure.approvals.http import Response
from perdure.approvals.journal import LocalCallbacks
from perdure.approvals.office import Office
from perdure.approvals.receiver import Receiver
from perdure.approvals.sessions import login_token, login_url
from perdure.approvals.tokens import sign
from perdure.durable import Duration, durable_execution
from perdure.durable.testing import ManualClock, Runner

from .ways import BOB, FOREIGN, PERSON, SCRIPT, Asked, Asks, get, post, words

USER = "user:alice"


@durable_execution(name="waits")
def waits(event: Any, context: Any) -> Any:
    return context.wait(Duration.from_hours(1), name="go")


class Browser:
    """Somebody's browser: it keeps a cookie, and posts what the page before it held."""

    def __init__(self, receiver: Receiver, office: Office) -> None:
        self.receiver, self.office = receiver, office
        self.cookie = ""

    def sign_in(self, user: str = USER) -> Response:
        """Press the button on the page that `perdure login` prints the address of."""
        answer = post(self.receiver, f"/login/{login_token(self.office, user)}")
        cookie = answer.headers.get("Set-Cookie", "")
        self.cookie = cookie.partition(";")[0]
        return answer

    def look(self, path: str) -> Response:
        return get(self.receiver, path, cookie=self.cookie)

    def press(self, path: str, headers: dict[str, str] = PERSON, **form: str) -> Response:
        """Open a page, and post its form."""
        found = re.search(r'name="csrf" value="([^"]+)"', self.look(path).body.decode())
        sent = {"csrf": unescape(found[1]) if found else ""} | form
        return post(self.receiver, path, headers | {"cookie": self.cookie}, **sent)


@pytest.fixture
def browser(runner: Runner, office: Office) -> Browser:
    """The browser of alice, who has an account on the machine."""
    return Browser(Receiver(office, LocalCallbacks(runner.engine), user=USER), office)


@pytest.fixture
def it(asks: Asks) -> Asked:
    """A request to alice's account, and to bob."""
    return asks(approvers=[USER, BOB])


def entry_of(it: Asked) -> str:
    return f"/inbox/{it.run.id}/{it.operation}"


class TestSigningIn:
    def test_opening_the_address_signs_nobody_in_and_the_button_does(
        self, browser: Browser, office: Office
    ) -> None:
        path = login_url(office, USER).removeprefix(office.base_url)
        shown = get(browser.receiver, path)
        assert shown.status == 200
        assert "Set-Cookie" not in shown.headers
        answer = post(browser.receiver, path)
        assert (answer.status, answer.headers["Location"]) == (303, "/inbox")
        assert re.fullmatch(
            r"perdure_session=[^;]+; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict; Secure",
            answer.headers["Set-Cookie"],
        )

    def test_the_cookie_is_sent_without_tls_only_to_a_page_without_it(
        self, runner: Runner, office: Office
    ) -> None:
        plain = replace(office, base_url="http://127.0.0.1:8400")
        receiver = Receiver(plain, LocalCallbacks(runner.engine), user="alice")
        headers = PERSON | {"origin": plain.base_url, "host": "127.0.0.1:8400"}
        answer = post(receiver, f"/login/{login_token(plain, USER)}", headers)
        assert "Secure" not in answer.headers["Set-Cookie"]

    def test_an_address_is_good_for_five_minutes(
        self, browser: Browser, office: Office, clock: ManualClock
    ) -> None:
        token = login_token(office, USER)
        clock.advance(Duration.from_seconds(299))
        assert get(browser.receiver, f"/login/{token}").status == 200
        clock.advance(Duration.from_seconds(1))
        for answer in (
            get(browser.receiver, f"/login/{token}"),
            post(browser.receiver, f"/login/{token}"),
        ):
            assert answer.status == 401
            assert "perdure login" in words(answer)
            assert "Set-Cookie" not in answer.headers

    def test_another_account_or_page_signs_nobody_in(
        self, browser: Browser, office: Office
    ) -> None:
        assert browser.sign_in("user:bob").status == 401
        path = f"/login/{login_token(office, USER)}"
        assert post(browser.receiver, path, FOREIGN).status == 403
        assert "Set-Cookie" not in post(browser.receiver, path, SCRIPT).headers

    def test_a_session_lasts_twelve_hours(self, browser: Browser, clock: ManualClock) -> None:
        browser.sign_in()
        assert browser.look("/inbox").status == 200
        clock.advance(Duration.from_hours(12))
        assert browser.look("/inbox").status == 401

    def test_no_other_signed_text_is_a_session(
        self, browser: Browser, office: Office, it: Asked
    ) -> None:
        claims: dict[str, Any] = {"u": USER, "j": "x", "e": 2**40}
        for forged in (
            login_token(office, USER),
            it.token(USER),
            sign(office.keys, "form", claims),
            sign(office.keys, "session", claims | {"u": "user:bob"}),
            sign(office.keys, "session", claims | {"e": "never"}),
            sign(office.keys, "session", {"u": USER}),
            "x" * 5000,
            "",
        ):
            browser.cookie = f"perdure_session={forged}"
            assert browser.look("/inbox").status == 401
        browser.cookie = f"perdure_session={sign(office.keys, 'session', claims)}"
        assert browser.look("/inbox").status == 200

    def test_cookies_of_others_neither_end_it_nor_keep_the_receiver_busy(
        self, browser: Browser
    ) -> None:
        browser.sign_in()
        slow = 'a="' + "\\1" * 30_000 + '"'
        for other in ("b=[1, 2]; c=\\", "d", "=", 'e={"x": 1}', slow):
            for cookie in (f"{other}; {browser.cookie}", f"{browser.cookie}; {other}"):
                began = time.process_time()
                assert get(browser.receiver, "/inbox", cookie=cookie).status == 200
                assert time.process_time() - began < 1

    def test_signing_out_ends_it_in_this_browser(self, browser: Browser, it: Asked) -> None:
        for page in ("/inbox", entry_of(it)):
            browser.sign_in()
            found = re.search(r'name="csrf" value="([^"]+)"', browser.look(page).body.decode())
            assert found is not None
            cookie = PERSON | {"cookie": browser.cookie}
            assert post(browser.receiver, "/logout", cookie, csrf="x").status == 403
            assert post(browser.receiver, "/logout", cookie | FOREIGN, csrf=found[1]).status == 403
            answer = post(browser.receiver, "/logout", cookie, csrf=found[1])
            assert answer.status == 200
            assert "perdure_session=; Path=/; Max-Age=0" in answer.headers["Set-Cookie"]

    def test_without_an_account_there_is_no_inbox(self, it: Asked) -> None:
        for path in ("/", "/inbox", entry_of(it), "/login/x"):
            assert get(it.receiver, path).status == 404

    def test_the_front_page_leads_to_the_inbox(self, browser: Browser) -> None:
        answer = browser.look("/")
        assert (answer.status, answer.headers["Location"]) == (303, "/inbox")


class TestInbox:
    def test_it_shows_what_is_open_and_nothing_else(
        self, browser: Browser, it: Asked, asks: Asks, runner: Runner
    ) -> None:
        quorum = asks(approvers=[USER, BOB, "carol@example.org"], required=2)
        done, stopped = asks(approvers=[USER]), asks(approvers=[USER])
        post(done.receiver, done.box.links[USER], decision="approve")
        stopped.run.cancel()
        run = runner.start(waits)
        runner.settle()
        browser.sign_in()
        shown = browser.look("/inbox").body.decode()
        assert shown.count(f'href="inbox/{quorum.run.id}/') == 1
        assert f'href="inbox/{it.run.id}/{it.operation}"' in shown
        assert f'href="inbox/{run.id}/' in shown
        assert done.run.id not in shown
        assert stopped.run.id not in shown

    def test_it_is_read_page_by_page(self, browser: Browser, asks: Asks, runner: Runner) -> None:
        runner.engine.start_many(waits, [(None, f"w{n}") for n in range(60)])
        runner.settle()
        browser.sign_in()
        first = browser.look("/inbox").body.decode()
        [after] = re.findall(r"\?after=(\d+)", first)
        second = browser.look(f"/inbox?after={after}").body.decode()
        runs = re.findall(r'href="inbox/(w\d+)/', first + second)
        assert sorted(runs) == sorted(f"w{n}" for n in range(60))
        assert "after=" not in second
        for odd in ("x", "-1", "9" * 40, "²", "1&after=2"):
            assert browser.look(f"/inbox?after={odd}").status == 200

    def test_a_decision_is_recorded_as_signed_in(self, browser: Browser, it: Asked) -> None:
        browser.sign_in()
        assert browser.look(entry_of(it)).status == 200
        answer = browser.press(entry_of(it), decision="approve", comment="fine")
        assert "Recorded: approved by user:alice" in words(answer)
        kept = it.result()
        assert kept["by"] == {"identity": USER, "assurance": "session"}
        assert kept["channel"] == "web"
        assert "Already approved by user:alice" in words(browser.look(entry_of(it)))

    def test_looking_and_failing_to_sign_in_decide_nothing(
        self, browser: Browser, it: Asked
    ) -> None:
        assert browser.look(entry_of(it)).status == 401
        assert browser.press(entry_of(it), decision="approve").status == 401
        browser.sign_in()
        for _ in range(10):
            browser.look(entry_of(it))
        assert it.standing.is_open

    def test_a_form_has_to_be_of_this_session_and_page(
        self, browser: Browser, it: Asked, asks: Asks
    ) -> None:
        other = asks(approvers=[USER])
        browser.sign_in()
        stolen = re.search(r'csrf" value="([^"]+)"', browser.look(entry_of(other)).body.decode())
        assert stolen is not None
        before = re.search(r'csrf" value="([^"]+)"', browser.look(entry_of(it)).body.decode())
        assert before is not None
        for csrf in ("", "x", stolen[1], it.token(USER)):
            answer = browser.press(entry_of(it), decision="approve", csrf=csrf)
            assert answer.status == 403
        browser.sign_in()
        assert browser.press(entry_of(it), decision="approve", csrf=before[1]).status == 403
        assert browser.press(entry_of(it), FOREIGN, decision="approve").status == 403
        assert "Press once more" in words(browser.press(entry_of(it), SCRIPT, decision="approve"))
        assert it.standing.is_open

    def test_a_form_is_good_for_what_its_page_showed(
        self, browser: Browser, runner: Runner
    ) -> None:
        subjects = iter(["1 EUR", "1000 EUR"])

        @durable_execution(name="pays")
        def pays(event: Any, context: Any) -> Any:
            subject = context.step("sum", lambda: next(subjects))
            return await_approval(context, subject, approvers=USER).kind

        browser.sign_in()
        runner.start(pays, None, "pay-1")
        runner.settle()
        [entry] = LocalCallbacks(runner.engine).inbox().entries
        assert isinstance(entry, Standing)
        path = f"/inbox/pay-1/{entry.request.operation}"
        seen = browser.look(path).body.decode()
        runner.engine.cancel("pay-1")
        runner.engine.delete("pay-1")
        again = runner.start(pays, None, "pay-1")
        runner.settle()

        csrf = unescape(re.findall(r'name="csrf" value="([^"]+)"', seen)[-1])
        headers = PERSON | {"cookie": browser.cookie}
        answer = post(browser.receiver, path, headers, csrf=csrf, decision="approve")

        assert answer.status == 403
        assert "1000 EUR" in words(answer)
        assert again.info().status == "RUNNING"
        assert browser.press(path, decision="approve").status == 200

    def test_a_request_to_others_is_shown_and_cannot_be_decided(
        self, browser: Browser, asks: Asks
    ) -> None:
        others = asks("their text", approvers=[BOB])
        browser.sign_in()
        shown = browser.look(entry_of(others))
        assert shown.status == 200
        assert "their text" in words(shown)
        assert "only bob@example.org may decide here" in words(shown)
        assert browser.press(entry_of(others), decision="approve").status == 403
        assert others.standing.is_open


class TestNamedWaits:
    @pytest.mark.parametrize(
        ("form", "sent"),
        [
            ({"decision": "approve"}, True),
            ({"decision": "reject"}, False),
            ({"decision": "respond", "value": '{"ok": [1, "ü"]}'}, {"ok": [1, "ü"]}),
        ],
    )
    def test_an_answer_wakes_the_handler(
        self, browser: Browser, runner: Runner, form: dict[str, str], sent: Any
    ) -> None:
        run, path = waiting(runner)
        browser.sign_in()
        assert browser.look(path).status == 200
        assert browser.press(path, **form).status == 200
        assert run.result(timeout=5) == sent

    @pytest.mark.parametrize(
        "form",
        [
            {},
            {"decision": "edit"},
            {"decision": "respond"},
            {"decision": "respond", "value": "{"},
            {"decision": "respond", "value": "null"},
            {"decision": "respond", "value": "NaN"},
            {"decision": "respond", "value": "[" * 20_000},
            {"decision": "respond", "value": '"\\ud800"'},
            {"decision": "respond", "value": "9" * 10_000},
        ],
    )
    def test_what_is_no_answer_wakes_nobody(
        self, browser: Browser, runner: Runner, form: dict[str, str]
    ) -> None:
        run, path = waiting(runner)
        browser.sign_in()
        assert browser.press(path, **form).status == 400
        assert browser.press(path, FOREIGN, decision="approve").status == 403
        assert browser.press(path, decision="approve", csrf="x").status == 403
        assert "Press once more" in words(browser.press(path, SCRIPT, decision="approve"))
        assert [each.path for each in run.waiting_for()] == ["go"]

    def test_the_second_answer_is_told_that_it_came_too_late(
        self, browser: Browser, runner: Runner
    ) -> None:
        run, path = waiting(runner)
        browser.sign_in()
        found = re.search(r'csrf" value="([^"]+)"', browser.look(path).body.decode())
        assert found is not None
        browser.press(path, decision="approve")
        late = browser.press(path, decision="reject", csrf=found[1])
        assert "your answer was not recorded" in words(late)
        assert run.result(timeout=5) is True
        assert browser.look(path).status == 404

    def test_a_vote_of_an_approval_is_no_wait_to_be_answered(
        self, browser: Browser, it: Asked, runner: Runner
    ) -> None:
        browser.sign_in()
        [callback] = runner.engine.open_callbacks()
        path = f"/inbox/{it.run.id}/{callback.operation_id}"
        assert browser.look(path).status == 404
        assert browser.press(path, decision="approve").status in (403, 404)
        assert it.standing.is_open


def waiting(runner: Runner) -> tuple[Any, str]:
    run = runner.start(waits)
    runner.settle()
    [callback] = runner.engine.open_callbacks(execution=run.id)
    return run, f"/inbox/{run.id}/{callback.operation_id}"
