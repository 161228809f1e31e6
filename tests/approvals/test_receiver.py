"""The receiver over a real journal: what a link shows, what a press decides, what is refused."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from perdure.approvals import Unavailable, await_approval
from perdure.approvals.http import Request
from perdure.approvals.journal import LocalCallbacks
from perdure.approvals.keys import Keys
from perdure.approvals.office import Office
from perdure.approvals.receiver import Receiver
from perdure.approvals.tokens import PREFIX, Person, seal
from perdure.durable import Duration, durable_execution
from perdure.durable.testing import ManualClock, Runner

from .ways import (
    ALICE,
    BARE,
    BOB,
    FOREIGN,
    PERSON,
    SCRIPT,
    Asked,
    Asks,
    Postbox,
    bytes_of,
    get,
    post,
    words,
)


class Refund(BaseModel):
    amount: int
    to: str


def page_of(it: Asked, token: str) -> str:
    return f"/a/{PREFIX}{token}/review"


def sealed(it: Asked, purpose: Any = "link", **changes: Any) -> str:
    """A link to the page, of claims that differ from those that were sent."""
    return page_of(it, seal(it.office.keys, purpose, replace(it.claims(), **changes)))


class TestLooking:
    """A GET, which never decides."""

    def test_looking_fifty_times_leaves_the_journal_as_it_was(
        self, asks: Asks, tmp_path: Path
    ) -> None:
        it = asks()
        before = bytes_of(tmp_path)
        for _ in range(50):
            assert it.look().status == 200
            head = get(it.receiver, it.box.links[ALICE], "HEAD")
            assert (head.status, head.body) == (200, b"")
        assert bytes_of(tmp_path) == before
        assert it.standing.is_open

    def test_the_page_shows_what_is_asked_until_when_and_its_fingerprint(self, asks: Asks) -> None:
        it = asks("<script>alert(1)</script>")
        shown = it.look()
        assert b"<script" not in shown.body
        assert "<script>alert(1)</script>" in words(shown)
        assert "1 Jan 2026, 01:00 UTC (+00:00)" in words(shown)
        assert it.standing.request.fingerprint in words(shown)

    def test_every_page_forbids_scripts_frames_and_keeping(self, asks: Asks) -> None:
        it = asks()
        for shown in (it.look(), it.press("approve"), get(it.receiver, "/nowhere")):
            headers = shown.headers
            policy = headers["Content-Security-Policy"]
            [nonce] = re.findall("style-src 'nonce-([^']+)'", policy)
            assert f'<style nonce="{nonce}">'.encode() in shown.body
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert headers["Referrer-Policy"] == "strict-origin"
            assert headers["Cache-Control"] == "no-store"
            assert headers["X-Robots-Tag"] == "noindex, nofollow"

    def test_all_of_a_long_subject_is_shown_when_it_is_asked_for(self, asks: Asks) -> None:
        it = asks("x" * 150_000)
        assert "50,000 more characters" in words(it.look())
        whole = get(it.receiver, f"{it.box.links[ALICE]}?full=1")
        assert b"x" * 150_000 in whole.body

    def test_a_closed_request_tells_what_became_of_it(self, asks: Asks, clock: ManualClock) -> None:
        decided, cancelled, expired = asks(), asks(), asks()
        decided.press("approve")
        cancelled.run.cancel()
        clock.advance(Duration.from_seconds(3601))
        assert decided.look(BOB).status == 200
        assert f"Already approved by {ALICE}" in words(decided.look(BOB))
        assert cancelled.look().status == 410
        assert "withdrawn" in words(cancelled.look())
        assert expired.look().status == 410
        assert "Time was up" in words(expired.look())


class TestDeciding:
    """A POST with a decision in it."""

    def test_a_press_is_recorded_with_who_where_and_why(self, asks: Asks) -> None:
        it = asks()
        answer = it.press("approve", comment=" fine\r\nby me ")
        assert answer.status == 200
        assert f"Recorded: approved by {ALICE}" in words(answer)
        kept = it.result()
        assert kept["by"] == {"identity": ALICE, "assurance": "link"}
        assert (kept["channel"], kept["comment"]) == ("email", "fine\nby me")

    def test_pressing_twice_is_one_decision_and_told_so(self, asks: Asks) -> None:
        it = asks()
        it.press("approve")
        assert "recorded before" in words(it.press("approve"))
        assert "Already approved" in words(it.press("reject"))
        assert len(it.votes()) == 1

    def test_a_link_is_of_its_request_even_if_a_journal_is_made_anew(
        self, office: Office, clock: ManualClock, tmp_path: Path
    ) -> None:
        box, links = Postbox(), []

        @durable_execution(name="asks")
        def handler(event: Any, context: Any) -> Any:
            return await_approval(context, "the same", approvers=ALICE, via=[box]).kind

        for journal in ("before.db", "after.db"):
            with Runner(tmp_path / journal, clock=clock) as runner:
                run = runner.start(handler, None, "doc-1")
                runner.settle()
                links.append(box.links[ALICE])
                receiver = Receiver(office, LocalCallbacks(runner.engine))
                statuses = [post(receiver, each, decision="approve").status for each in links]
                runner.settle()
                assert run.info().status == "SUCCEEDED"
            clock.advance(60)
        assert statuses == [404, 200]

    @pytest.mark.parametrize("form", [{}, {"decision": "banana"}, {"decision": ""}])
    def test_without_a_decision_nothing_is_decided(self, asks: Asks, form: dict[str, str]) -> None:
        it = asks()
        answer = post(it.receiver, it.box.links[ALICE], comment="kept words", **form)
        assert answer.status == 400
        assert b"kept words" in answer.body
        assert it.standing.is_open

    @pytest.mark.parametrize(
        "body",
        [
            b"decision=approve&decision=reject",
            b"decision=approve&x=\xff",
            b"decision=approve&x=%ff",
            b"decision",
            b'{"decision": "approve"}',
            b"&".join(b"f.%d=1" % n for n in range(300)) + b"&decision=approve",
        ],
    )
    def test_a_body_that_is_no_form_decides_nothing(self, asks: Asks, body: bytes) -> None:
        it = asks()
        answer = it.receiver.handle(Request("POST", it.box.links[ALICE], "", PERSON, body))
        assert answer.status == 400
        assert it.standing.is_open

    @pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data; boundary=x", ""])
    def test_a_body_of_another_type_decides_nothing(self, asks: Asks, kind: str) -> None:
        it = asks()
        headers = PERSON | {"content-type": kind}
        answer = post(it.receiver, it.box.links[ALICE], headers, decision="approve")
        assert answer.status == 400
        assert it.standing.is_open

    def test_a_form_submitted_by_a_script_asks_for_one_more_press(self, asks: Asks) -> None:
        it = asks()
        answer = post(it.receiver, it.box.links[ALICE], SCRIPT, decision="approve", comment="hi")
        assert answer.status == 200
        assert "Press once more" in words(answer)
        assert b">\nhi</textarea>" in answer.body
        assert it.standing.is_open

    @pytest.mark.parametrize(
        "headers",
        [
            FOREIGN,
            PERSON | {"sec-fetch-site": "same-site"},
            PERSON | {"sec-fetch-site": "none"},
            BARE | {"origin": "https://evil.example.org"},
            BARE | {"origin": "null"},
        ],
    )
    def test_a_form_on_another_page_decides_nothing(
        self, asks: Asks, headers: dict[str, str]
    ) -> None:
        it = asks()
        answer = post(it.receiver, it.box.links[ALICE], headers, decision="approve")
        assert answer.status == 403
        assert it.standing.is_open

    @pytest.mark.parametrize("headers", [BARE, BARE | {"origin": "https://approvals.example.org"}])
    def test_a_browser_that_says_nothing_decides_by_the_link(
        self, asks: Asks, headers: dict[str, str]
    ) -> None:
        it = asks()
        assert post(it.receiver, it.box.links[ALICE], headers, decision="reject").status == 200
        assert it.result()["kind"] == "rejected"

    def test_an_edit_that_does_not_fit_is_shown_again_as_it_was_filled_in(self, asks: Asks) -> None:
        it = asks({"amount": 5, "to": "a"}, allow=["approve", "edit"], form=Refund)
        bad = it.press("edit", f_amount="many", f_to="b")
        assert bad.status == 400
        assert b'value="many"' in bad.body
        assert it.standing.is_open
        good = it.press("edit", f_amount="3", f_to="b", tool="another")
        assert "approved with changes" in words(good)
        assert it.result()["value"] == {"amount": 3, "to": "b"}

    def test_the_word_for_a_dangerous_yes_is_asked_for(self, asks: Asks) -> None:
        it = asks(confirm="DELETE")
        assert it.press("approve").status == 400
        assert it.press("approve", confirm="DELETE").status == 200

    def test_who_asked_is_refused(self, asks: Asks) -> None:
        it = asks(requested_by=ALICE)
        assert list(it.box.links) == [BOB]
        alice = (Person(ALICE, (ALICE,)),)
        link = page_of(it, seal(it.office.keys, "link", replace(it.claims(BOB), who=alice)))
        shown = get(it.receiver, link)
        assert shown.status == 200
        assert b'name="decision"' not in shown.body
        assert post(it.receiver, link, decision="approve").status == 403
        assert it.standing.is_open

    def test_after_the_deadline_the_answer_is_gone(self, asks: Asks, clock: ManualClock) -> None:
        it = asks()
        clock.advance(Duration.from_seconds(3601))
        assert it.press("approve").status == 410
        assert it.result()["by"]["identity"] == "policy"

    def test_when_the_engine_cannot_be_asked_the_form_is_kept(self, asks: Asks) -> None:
        it = asks()
        link = it.box.links[ALICE]

        class Full:
            complete = staticmethod(_unavailable)
            lookup = staticmethod(it.callbacks.lookup)
            inbox = staticmethod(it.callbacks.inbox)

        answer = post(Receiver(it.office, Full()), link, decision="approve", comment="kept words")
        assert answer.status == 503
        assert "Not recorded, as far as is known; please try again" in words(answer)
        assert b"kept words" in answer.body

    def test_a_page_that_cannot_be_drawn_still_says_what_was_recorded(
        self, asks: Asks, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        it = asks()
        monkeypatch.setattr("perdure.approvals.pages.result", _unavailable)
        answer = it.press("approve")
        assert answer.status == 200
        assert answer.body.startswith(b"Recorded: approved by alice@example.org")


def _unavailable(*given: Any, **named: Any) -> Any:
    raise Unavailable("canary text")


class TestTokens:
    """Links that are not as they were sent."""

    def test_no_flip_of_a_character_reaches_another_request_or_person(self, asks: Asks) -> None:
        it, other = asks(), asks()
        token, told = it.token(), it.look()
        for place in range(len(token)):
            flipped = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
            answer = get(it.receiver, page_of(it, flipped))
            if place == len(token) - 1 and answer.status == 200:
                assert words(answer) == words(told)  # the last character has spare bits
                continue
            assert answer.status == 404
        assert it.votes() == other.votes() == []

    def test_the_spare_bits_of_the_last_character_are_no_second_vote(self, asks: Asks) -> None:
        it = asks(approvers=[ALICE, BOB], required=2)
        token = it.token()
        kinds = []
        for last in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_":
            answer = post(it.receiver, page_of(it, token[:-1] + last), decision="approve")
            kinds += [words(answer)] if answer.status == 200 else []
        assert sum("Your vote is recorded:" in each for each in kinds) == 1
        assert (
            sum("Your vote was recorded before:" in each for each in kinds) == len(kinds) - 1 == 3
        )
        assert len(it.votes()) == 1

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda token: token[:-1][:20],
            lambda token: token + "x",
            lambda token: token * 100,
            lambda token: token + "%00",
            lambda token: "%C3%A9" + token,
            lambda token: "",
            lambda token: "." * 5000,
            lambda token: "../../inbox",
        ],
    )
    def test_a_damaged_link_gives_the_one_page_of_nothing(self, asks: Asks, spoil: Any) -> None:
        it = asks()
        link = page_of(it, spoil(it.token()))
        for answer in (get(it.receiver, link), post(it.receiver, link, decision="approve")):
            assert answer.status == 404
            assert words(answer) == words(get(it.receiver, "/nowhere"))
        assert it.standing.is_open

    def test_a_token_for_another_purpose_is_no_link(self, asks: Asks) -> None:
        it = asks()
        for purpose in ("slack", "modal", "login", "session", "form"):
            assert get(it.receiver, sealed(it, purpose)).status == 404

    def test_a_key_that_is_gone_opens_nothing_and_a_rotated_one_still_does(
        self, asks: Asks, office: Office
    ) -> None:
        it = asks()
        old, new = office.keys.reveal()[0], "n" * 40
        for keys, status in ((Keys(new), 404), (Keys(old, new), 200), (Keys(new, old), 200)):
            receiver = Receiver(replace(office, keys=keys), it.callbacks)
            assert get(receiver, it.box.links[ALICE]).status == status

    def test_a_link_of_many_or_of_a_group_is_nobodys(self, asks: Asks) -> None:
        it = asks()
        many = (Person(ALICE, (ALICE,)), Person(BOB, (BOB,)))
        group = (Person("slack-group:T1:S1", ("slack-group:T1:S1",)),)
        for who in (many, group, ()):
            assert get(it.receiver, sealed(it, who=who)).status == 404

    def test_a_link_sent_through_slack_says_so_and_is_still_only_a_link(self, asks: Asks) -> None:
        it = asks(approvers=["slack:T1:U1"])
        post(it.receiver, it.box.links["slack:T1:U1"], decision="approve")
        kept = it.result()
        assert kept["by"] == {"identity": "slack:T1:U1", "assurance": "link"}
        assert kept["channel"] == "slack"

    def test_a_percent_encoded_link_works(self, asks: Asks) -> None:
        it = asks()
        assert get(it.receiver, it.box.links[ALICE].replace("~", "%7E")).status == 200


class TestRoutes:
    """Everything else that can be asked for."""

    def test_what_is_not_there_is_not_there(self, asks: Asks) -> None:
        it = asks()
        paths = ("", "/", "/inbox", "/login/x", "/logout", "/slack/interactivity", "/a", "/../etc")
        for path in (*paths, "/" + "x" * 9000, "*", "/%ff%fe"):
            assert get(it.receiver, path).status == 404

    def test_other_methods_are_refused_with_those_that_work(self, asks: Asks) -> None:
        it = asks()
        for method in ("PUT", "DELETE", "OPTIONS", "get", ""):
            answer = get(it.receiver, it.box.links[ALICE], method)
            assert answer.status == 405
            assert answer.headers["Allow"] == "GET, HEAD, POST"

    def test_a_body_over_64_kb_is_refused_before_anything(self, asks: Asks) -> None:
        it = asks()
        answer = it.press("approve", comment="x" * 66_000)
        assert answer.status == 413
        assert it.standing.is_open

    def test_the_path_of_the_base_url_comes_first(self, asks: Asks, office: Office) -> None:
        it = asks()
        below = Receiver(replace(office, base_url="https://x.example.org/some/where"), it.callbacks)
        assert get(below, it.box.links[ALICE]).status == 404
        shown = get(below, f"/some/where{it.box.links[ALICE]}")
        assert shown.status == 200
        assert f'action="/some/where{it.box.links[ALICE]}"'.encode() in shown.body


class TestSilence:
    """What is not told to anybody."""

    def test_no_log_and_no_answer_holds_a_token_or_an_errors_text(
        self, asks: Asks, caplog: pytest.LogCaptureFixture
    ) -> None:
        it = asks()
        link, token = it.box.links[ALICE], it.token()

        class Broken:
            complete = lookup = inbox = staticmethod(_break)

        with caplog.at_level(logging.DEBUG):
            answers = [
                get(Receiver(it.office, Broken()), link),
                post(Receiver(it.office, Broken()), link, decision="approve"),
                get(it.receiver, link + "x"),
                it.press("approve", comment="x", confirm="y"),
            ]
        assert [each.status for each in answers] == [503, 503, 404, 200]
        assert "ZeroDivisionError" in caplog.text
        for told in (caplog.text, *(str(each.body) + str(each.headers) for each in answers[:3])):
            assert "canary" not in told
            assert token not in told
            assert "Traceback" not in told

    def test_the_journal_holds_no_token(self, asks: Asks, tmp_path: Path) -> None:
        it = asks()
        it.press("approve")
        it.result()
        token = it.token().encode()
        assert not any(token in each for each in bytes_of(tmp_path).values())

    def test_a_request_does_not_show_what_it_carries(self) -> None:
        shown = repr(Request("POST", "/a/token", "q=token", {"cookie": "token"}, b"token"))
        assert "token" not in shown


def _break(*given: Any) -> Any:
    raise ZeroDivisionError("canary text")


def test_a_killed_engine_says_not_recorded_and_after_its_restart_the_link_works(
    asks: Asks, runner: Runner
) -> None:
    it = asks()
    runner.crash_after(0)
    assert it.press("approve").status == 503
    runner.restart()
    again = Receiver(it.office, type(it.callbacks)(runner.engine))
    answer = post(again, it.box.links[ALICE], decision="approve")
    assert "Recorded: approved" in words(answer)
