"""What is posted in Slack, to whom, and what becomes of it when Slack does not answer as hoped."""

from __future__ import annotations

import json
import logging
import secrets
import subprocess
import sys

import pytest

from perdure.approvals import Slack
from perdure.approvals.errors import ChannelError
from perdure.approvals.tokens import unseal
from perdure.durable import UsageError
from perdure.durable.errors import ExecutionFailedError

from .asked import decision_of, notice_of
from .clicks import buttons
from .fake_slack import BROKEN, DROPPED, LOST, TOKEN, Trouble, ratelimited, refused

ALICE, BOB = "slack:T1:UALICE", "slack:T1:UBOB"


def test_one_message_in_a_channel_asks_all(ask, slack, channel, office):
    ask(approvers=[ALICE, BOB], via=[channel], title="Pay the invoice")
    [message] = slack.posts
    assert message["channel"] == "C1"
    assert message["text"].startswith("Approval asked: “Pay the invoice”. Decide before ")
    assert "<@UALICE> <@UBOB>" in json.dumps(message["blocks"])
    claims = unseal(office.keys, "slack", buttons(message)["approve"]["value"])
    assert [each.approver for each in claims.who] == [ALICE, BOB]


def test_the_page_linked_in_a_channel_lets_nobody_decide_by_its_address(ask, slack, channel):
    run = ask(approvers=[ALICE], via=[channel])
    url = buttons(slack.posts[0])["open"]["url"]
    assert url.startswith(f"https://approvals.example.org/inbox/{run.id}/")


def test_without_a_channel_each_gets_a_message_and_a_link_of_their_own(ask, slack, direct, office):
    slack.people["bob@example.org"] = "UBOB"
    ask(approvers=[ALICE, "bob@example.org"], via=[direct])
    assert {each["channel"] for each in slack.posts} == {"DUALICE", "DUBOB"}
    for message in slack.posts:
        link = buttons(message)["open"]["url"].split("v1~")[1].removesuffix("/review")
        [person] = unseal(office.keys, "link", link).who
        assert f"slack:T1:{message['channel'][1:]}" in person.identities


def test_the_metadata_names_the_request_and_holds_no_secret(channel, slack, office):
    notice = notice_of(office, approvers=[ALICE])
    channel.send(notice)
    [post] = slack.called("chat.postMessage")
    metadata = post["metadata"]
    assert metadata["event_type"] == "perdure_approval"
    assert metadata["event_payload"]["request"] == notice.request.id
    assert notice.token("slack") not in json.dumps(metadata)


def test_a_receipt_holds_no_token(channel, slack, office):
    receipt = channel.send(notice_of(office, approvers=[ALICE]))
    value = buttons(slack.posts[0])["approve"]["value"]
    kept = receipt.model_dump_json()
    assert value not in kept
    assert TOKEN not in kept
    assert receipt.to == (ALICE,)


def test_an_approver_slack_does_not_know_is_left_out_of_the_list(channel, slack, office):
    receipt = channel.send(notice_of(office, approvers=["carol@example.org", ALICE]))
    assert receipt.to == (ALICE,)


def test_nobody_known_to_slack_is_an_error_that_says_so(channel, direct, office):
    for via in (channel, direct):
        with pytest.raises(ChannelError, match=r"knows nobody of carol@example.org") as caught:
            via.send(notice_of(office, approvers=["carol@example.org"]))
        assert caught.value.final


@pytest.mark.parametrize("error", ["missing_scope", "invalid_auth", "internal_error"])
@pytest.mark.parametrize("requested_by", [(), ("alice@example.org",)])
def test_a_lookup_that_fails_posts_nothing(channel, slack, office, error, requested_by):
    approvers = [ALICE] if requested_by else ["alice@example.org"]
    slack.trouble("users.lookupByEmail", refused(error))
    with pytest.raises(ChannelError) as caught:
        channel.send(notice_of(office, approvers=approvers, requested_by=requested_by))
    assert caught.value.final is (error != "internal_error")
    assert slack.posts == []


def test_twenty_approvers_fit_a_message_and_more_need_a_group(channel, slack, office):
    twenty = [f"slack:T0123456:U01234567{n:02d}" for n in range(20)]
    channel.send(notice_of(office, approvers=twenty))
    with pytest.raises(ChannelError, match="slack-group:TEAM:ID") as caught:
        channel.send(notice_of(office, approvers=[*twenty, ALICE]))
    assert caught.value.final
    assert len(slack.posts) == 1


def test_a_list_too_long_for_a_button_needs_a_group(channel, slack, office):
    long = [f"{secrets.token_hex(30)}@{secrets.token_hex(30)}.example.org" for _ in range(20)]
    slack.people = {each: f"U{n:09d}" for n, each in enumerate(long)}
    with pytest.raises(ChannelError, match=r"2000; put them in a user group") as caught:
        channel.send(notice_of(office, approvers=long))
    assert caught.value.final
    assert slack.posts == []


def test_a_quorum_is_refused_in_one_message(channel, slack, office, ask):
    with pytest.raises(ChannelError, match=r"Slack\(\) without a channel") as caught:
        channel.send(notice_of(office, approvers=[ALICE, BOB], required=2))
    assert caught.value.final
    run = ask(approvers=[ALICE, BOB], required=2, via=[channel])
    with pytest.raises(ExecutionFailedError, match="in a message of their own"):
        run.result(timeout=5)
    assert slack.calls == []


@pytest.mark.parametrize(
    ("error", "cure"),
    [
        ("channel_not_found", "invite the app"),
        ("not_in_channel", "chat:write.public"),
        ("invalid_auth", "SLACK_BOT_TOKEN"),
        ("is_archived", "unarchive"),
        ("missing_scope", "install it again"),
        ("a_word_of_tomorrow", "a_word_of_tomorrow"),
    ],
)
def test_what_slack_will_refuse_again_is_final_and_says_the_cure(
    channel, slack, office, error, cure
):
    slack.trouble("chat.postMessage", refused(error))
    with pytest.raises(ChannelError, match=cure) as caught:
        channel.send(notice_of(office, approvers=[ALICE]))
    assert caught.value.final
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    "trouble", [BROKEN, DROPPED, LOST, refused("service_unavailable"), refused("internal_error")]
)
def test_what_may_pass_is_no_final_error_and_is_sent_once(channel, slack, office, trouble):
    slack.trouble("chat.postMessage", trouble)
    with pytest.raises(ChannelError) as caught:
        channel.send(notice_of(office, approvers=[ALICE]))
    assert not caught.value.final
    assert caught.value.retry_after is None
    assert len(slack.called("chat.postMessage")) == 1


def test_slack_says_when_to_come_back(channel, slack, office):
    slack.trouble("chat.postMessage", ratelimited(2))
    with pytest.raises(ChannelError) as caught:
        channel.send(notice_of(office, approvers=[ALICE]))
    assert (caught.value.retry_after, caught.value.final) == (2.0, False)


def test_a_wrong_base_url_is_final_and_an_absent_server_is_not(office, slack):
    slack.trouble("chat.postMessage", Trouble(404))
    with pytest.raises(ChannelError, match="base_url") as caught:
        Slack("C1", base_url=slack.base_url).send(notice_of(office, approvers=[ALICE]))
    assert caught.value.final
    with pytest.raises(ChannelError) as caught:
        Slack("C1", base_url="http://127.0.0.1:9/api/").send(notice_of(office, approvers=[ALICE]))
    assert not caught.value.final


def test_a_run_gets_through_all_of_it(ask, press, slack, channel, runner, clock):
    slack.trouble("chat.postMessage", ratelimited(2), BROKEN, DROPPED)
    run = ask(approvers=[ALICE], via=[channel])
    assert slack.posts == []
    for _ in range(4):
        clock.advance(60)
        runner.settle()
    assert len(slack.called("chat.postMessage")) == 4
    slack.trouble("chat.update", refused("is_archived"))
    press("approve", "UALICE")
    assert run.result(timeout=5)["approved"] is True


def test_a_message_that_slack_limits_is_sent_when_slack_asks_to(ask, slack, channel, runner, clock):
    slack.trouble("chat.postMessage", ratelimited(30))
    ask(approvers=[ALICE], via=[channel])
    clock.advance(29)
    runner.settle()
    assert len(slack.called("chat.postMessage")) == 1
    clock.advance(1)
    runner.settle()
    assert len(slack.posts) == 1


def test_a_lost_answer_leaves_one_message_where_history_may_be_read(
    ask, press, slack, runner, clock
):
    slack.trouble("chat.postMessage", LOST)
    run = ask(approvers=[ALICE], via=[Slack("C1", base_url=slack.base_url, history=True)])
    clock.advance(60)
    runner.settle()
    [message] = slack.posts
    press("approve", "UALICE", message)
    assert run.result(timeout=5)["approved"] is True
    assert "Approved by" in message["text"]


def test_without_history_there_are_two_and_either_decides_and_both_end_updated(
    ask, press, slack, channel, runner, clock
):
    slack.trouble("chat.postMessage", LOST)
    run = ask(approvers=[ALICE], via=[channel])
    clock.advance(60)
    runner.settle()
    first, second = slack.posts
    press("approve", "UALICE", first)
    assert run.result(timeout=5)["approved"] is True
    for message in (first, second):
        assert "Approved by" in message["text"]
        assert not buttons(message)


def test_a_lost_direct_message_is_found_again(ask, slack, runner, clock):
    slack.trouble("chat.postMessage", LOST)
    ask(approvers=[ALICE], via=[Slack(base_url=slack.base_url, history=True)])
    clock.advance(60)
    runner.settle()
    assert [each["channel"] for each in slack.posts] == ["DUALICE"]


def test_the_message_of_another_bot_or_request_is_not_taken_for_ours(slack, office, clock):
    via = Slack("C1", base_url=slack.base_url, history=True)
    notice = notice_of(office, approvers=[ALICE], attempt=2)
    via.send(notice)
    assert via.find(notice, notice.request.asked) is not None
    other = notice_of(office, approvers=[ALICE], attempt=2, id="another")
    assert via.find(other, notice.request.asked) is None
    more = notice_of(office, approvers=[ALICE, BOB], attempt=2)
    assert via.find(more, notice.request.asked) is None
    slack.posts[0]["bot_id"] = "B2"
    assert via.find(notice, notice.request.asked) is None


def test_a_history_that_may_not_be_read_costs_a_copy_and_not_the_request(ask, slack, runner, clock):
    slack.trouble("chat.postMessage", LOST)
    slack.trouble("conversations.history", refused("missing_scope"))
    ask(approvers=[ALICE], via=[Slack("C1", base_url=slack.base_url, history=True)])
    clock.advance(60)
    runner.settle()
    assert len(slack.posts) == 2


def test_a_reminder_is_posted_below_the_message(ask, press, slack, channel, runner, clock):
    run = ask(approvers=[ALICE], via=[channel], remind=[3600, 7200], timeout=86400)
    for _ in range(2):
        clock.advance(3600)
        runner.settle()
    first, second = (each for each in slack.messages.values() if "thread_ts" in each)
    assert first["thread_ts"] == second["thread_ts"] == slack.posts[0]["ts"]
    assert first["text"].startswith("Reminder: ")
    assert second["text"].startswith("Reminder 2: ")
    assert "<!date^" in json.dumps(first["blocks"])
    assert "<@UALICE>" in json.dumps(first["blocks"])
    press("approve", "UALICE")
    clock.advance(80000)
    runner.settle()
    assert run.result(timeout=5)["approved"] is True
    assert len(slack.messages) == 3


@pytest.mark.parametrize(
    "error",
    [
        "message_not_found",
        "cant_update_message",
        "edit_window_closed",
        "channel_not_found",
        "is_archived",
        "block_mismatch",
    ],
)
def test_a_message_that_cannot_be_closed_does_not_hold_up_the_run(
    ask, press, slack, channel, error
):
    run = ask(approvers=[ALICE], via=[channel])
    slack.trouble("chat.update", refused(error))
    press("approve", "UALICE")
    assert run.result(timeout=5)["approved"] is True
    assert len(slack.called("chat.update")) == 1


def test_a_message_of_a_conversation_with_one_person_is_updated_there(ask, press, slack, direct):
    run = ask(approvers=[ALICE], via=[direct])
    press("approve", "UALICE")
    assert run.result(timeout=5)["approved"] is True
    [update] = slack.called("chat.update")
    assert update["channel"] == "DUALICE"
    assert update["text"]
    assert update["blocks"]


def test_a_comment_stands_below_the_decision(channel, slack, office):
    notice = notice_of(office, approvers=[ALICE])
    receipt = channel.send(notice)
    decision = decision_of(notice.request, comment="Only <b>this</b> time, <!channel>")
    channel.update(receipt, notice_of(office, "closed", approvers=[ALICE], decision=decision))
    [message] = slack.posts
    shown = json.dumps(message["blocks"])
    assert "Comment: Only &lt;b&gt;this&lt;/b&gt; time, &lt;!channel&gt;" in shown


def test_no_secret_is_in_an_error_a_log_or_a_repr(slack, office, caplog, monkeypatch):
    monkeypatch.delenv("SLACK_BOT_TOKEN")
    via = Slack("C1", token=TOKEN, base_url=slack.base_url, history=True)
    notice = notice_of(office, approvers=[ALICE])
    troubles = [BROKEN, DROPPED, refused("invalid_auth"), ratelimited(1), refused(TOKEN)]
    with caplog.at_level(logging.DEBUG):
        for trouble in troubles:
            slack.trouble("chat.postMessage", trouble)
            with pytest.raises(ChannelError) as caught:
                via.send(notice)
            assert TOKEN not in str(caught.value)
        via.send(notice)
    value = buttons(slack.posts[0])["approve"]["value"]
    assert TOKEN not in caplog.text
    assert value not in caplog.text
    assert TOKEN not in repr(via) + json.dumps(via.spec()) + str(vars(notice))


def test_a_missing_token_is_said_before_anything_is_sent(slack, office, monkeypatch):
    monkeypatch.delenv("SLACK_BOT_TOKEN")
    with pytest.raises(ChannelError, match="SLACK_BOT_TOKEN") as caught:
        Slack("C1", base_url=slack.base_url).send(notice_of(office, approvers=[ALICE]))
    assert caught.value.final
    assert slack.calls == []


def test_a_channel_is_built_again_from_its_spec(slack, office):
    via = Slack("C1", base_url=slack.base_url, team="T1", history=True)
    spec = json.loads(json.dumps(via.spec()))
    assert spec.pop("channel") == "slack"
    again = Slack.from_spec(spec)
    assert again.spec() == via.spec()
    again.send(notice_of(office, approvers=["slack-group:S3"]))
    assert slack.called("auth.test") == []


@pytest.mark.parametrize("given", ["", "  ", 7, ["C1"]])
def test_a_channel_is_named_by_a_text(given):
    with pytest.raises(UsageError, match="C0123"):
        Slack(given)


def test_whom_slack_reaches():
    from perdure.approvals.people import approvers_of

    names = ["alice@example.org", ALICE, "slack-group:S3", "user:alice"]
    approvers = approvers_of(names)
    assert [Slack("C1").reaches(each) for each in approvers] == [True, True, True, False]
    assert [Slack().reaches(each) for each in approvers] == [True, True, False, False]


def test_an_import_and_a_replay_load_no_slack_sdk():
    code = (
        "import sys; from perdure.approvals import Slack; Slack('C1'); "
        "sys.exit('slack_sdk' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
