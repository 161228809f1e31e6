"""What cannot be meant is refused at the call, by name and with the cure; nothing is recorded."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from perdure.approvals import Approver, Escalation, await_approval
from perdure.approvals.requests import Link
from perdure.approvals.terms import terms_of
from perdure.durable import Context, Duration, UsageError, durable_execution
from perdure.durable.gated import value_of
from perdure.durable.testing import ManualClock, Runner

from .recorder import Recorder
from .scene import ALICE, BOB, CAROL, DAVE, DAY, Scene, durable, failure


class Form(BaseModel):
    amount: int


class Unaskable(BaseModel):
    how: Callable[[int], int]


class Quiet(Recorder):
    """One that has no person of its own: all are told in one message."""

    def __init__(self) -> None:
        super().__init__(Path(os.devnull), "post", personal=False)


LONG = "x" * 151
SURROGATE = "\ud800"
PERSONAL = Recorder(Path(os.devnull))
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"approvers": []}, "approvers is empty: name who may decide, for example alice@example.org"),
    ({"approvers": ["alice"]}, "an approver is alice@example.org, slack:T1:U2"),
    ({"approvers": 7}, "approvers is a list such as"),
    ({"approvers": {ALICE, BOB}}, "approvers is a list such as"),
    ({"approvers": [None]}, "an approver is a text"),
    ({"approvers": [()]}, "an approver with no identity"),
    ({"approvers": [ALICE, ALICE.upper()]}, "names 'alice@example.org' twice"),
    ({"approvers": [("user:alice", ALICE), ALICE]}, "twice; each person counts once"),
    ({"approvers": [Approver(identities=("alice",))]}, "an approver is alice@example.org"),
    ({"approvers": [Approver(identities=())]}, "no identity"),
    ({"approvers": [SURROGATE + ALICE]}, "an approver is alice@example.org"),
    ({"approvers": [f"a{n}@x.org" for n in range(101)]}, "approvers has 101, at most 100: use a"),
    ({"approvers": ["user:alice"]}, "has no channel that reaches 'user:alice'; add 'web'"),
    ({"via": []}, "via is empty: name at least one channel"),
    ({"via": "pigeon"}, "via names 'pigeon', which is no channel"),
    ({"via": 7}, "via is a list of channels"),
    ({"via": [7]}, "via takes"),
    ({"via": [PERSONAL, PERSONAL]}, "via names the channel 'recorder' twice"),
    ({"via": [Recorder(Path(), "a b")]}, "a channel named 'a b'; a name has 1 to 64"),
    ({"via": ["web"]}, "via (web) has no channel that reaches 'alice@example.org'; add 'email'"),
    ({"timeout": 0}, "timeout: a duration must be longer than zero"),
    ({"timeout": -1}, "timeout: a duration must be longer than zero"),
    ({"timeout": "1 day"}, "timeout: a duration is a number of seconds"),
    ({"timeout": float("nan")}, "timeout: a duration"),
    ({"timeout": timedelta(days=400)}, "timeout: a duration is at most 366 days"),
    ({"required": 0}, "required is a whole number from 1, not 0"),
    ({"required": True}, "required is a whole number from 1, not True"),
    ({"required": 1.5}, "required is a whole number from 1"),
    ({"required": 3}, "required is 3, and approvers has 2 who may decide; name more, or require"),
    ({"required": 2, "requested_by": ALICE}, "approvers has 1 who may decide (requested_by may"),
    ({"approvers": [ALICE], "requested_by": ALICE}, "approvers has 0 who may decide (requested_by"),
    ({"required": 2, "via": [Quiet()]}, "channel 'post' cannot carry the votes of 2 approvers"),
    ({"veto": 1}, "veto is True or False, not 1"),
    ({"requested_by": "alice"}, "an approver is alice@example.org"),
    ({"requested_by": []}, "requested_by is an identity, a list of them, or None, not []"),
    ({"requested_by": 7}, "requested_by is an identity"),
    ({"approvers": ALICE, "requested_by": "Alice@EXAMPLE.org."}, "has 0 who may decide"),
    ({"approvers": "a@caf\u00e9.org", "requested_by": "a@xn--caf-dma.org"}, "has 0 who may decide"),
    ({"approvers": [ALICE, "alice@\uff45xample.org"]}, "names 'alice@example.org' twice"),
    ({"approvers": ["\u00e9@x.org", "e\u0301@x.org"]}, "twice; each person counts once"),
    ({"approvers": "alice@x\uff0cy.org"}, "an approver is alice@example.org"),
    ({"approvers": "alice@."}, "an approver is alice@example.org"),
    ({"requested_by": "slack-group:T1:S3"}, "requested_by is one person, not the group"),
    ({"allow": []}, "allow is empty; it takes approve, reject, edit, respond"),
    ({"allow": "yes"}, "allow takes approve, reject, edit, respond, not 'yes'"),
    ({"allow": None}, "allow is a list, not None"),
    ({"allow": ["edit"], "required": 2}, "in a quorum nobody can edit for the others"),
    ({"allow": ["reject"], "required": 2}, 'allow needs "approve" in a quorum'),
    ({"form": Form}, 'form is for an answer or an edit: add "edit" or "respond" to allow'),
    ({"form": "Form"}, "form is a pydantic model class, not 'Form'"),
    ({"form": dict, "allow": ["edit"]}, "form is a pydantic model class"),
    ({"form": Form, "allow": ["edit"]}, "subject does not fit the form Form"),
    (
        {"form": Form, "allow": ["respond"], "on_timeout": {"value": {"amount": "x"}}},
        "on_timeout does not fit the form Form",
    ),
    ({"remind": 3 * DAY}, "remind has 259200 s, which is not between the request and its deadline"),
    ({"remind": [0]}, "remind: a duration must be longer than zero"),
    ({"remind": None}, "remind is a list, not None"),
    ({"remind": "daily"}, "remind is a list, not 'daily'"),
    ({"escalate": CAROL}, "escalate is a list, not 'carol@example.org'"),
    ({"escalate": [CAROL]}, "escalate takes Escalation(after, approvers), not 'carol@"),
    ({"escalate": Escalation(3 * DAY, [CAROL])}, "escalate has 259200 s"),
    ({"escalate": Escalation(DAY, [])}, "escalate: approvers is empty"),
    (
        {"escalate": Escalation(DAY, [ALICE])},
        "approvers and escalate names 'alice@example.org' twi",
    ),
    ({"escalate": Escalation(DAY, ["user:carol"])}, "escalate: via (recorder) has no channel that"),
    ({"escalate": Escalation(DAY, [CAROL], via=["fax"])}, "via names 'fax', which is no channel"),
    (
        {"escalate": Escalation(DAY, [CAROL]), "requested_by": CAROL},
        "escalate: approvers has only whoever asked",
    ),
    (
        {"escalate": Escalation(DAY, [CAROL], via=Quiet()), "required": 2},
        "cannot carry the votes of 2 approvers",
    ),
    ({"on_timeout": "maybe"}, 'on_timeout is "reject", "approve", "raise", or {"value": ...}, not'),
    ({"on_timeout": {}}, 'on_timeout is "reject", "approve", "raise", or {"value": ...}, not {}'),
    ({"on_timeout": None}, 'on_timeout is "reject"'),
    ({"on_timeout": {"value": object()}}, "plain JSON data"),
    ({"title": LONG}, "title has 151 characters, and at most 150 fit"),
    ({"title": 7}, "title is a text, not 7"),
    ({"title": SURROGATE}, "title holds half a character"),
    ({"preview": 7}, "preview is a text, not 7"),
    ({"confirm": "x" * 41}, "confirm is a word to type, at most 40 characters"),
    ({"confirm": "DE\nLETE"}, "confirm is a word to type"),
    ({"attachments": "https://example.org"}, "attachments is a list"),
    ({"attachments": ["https://example.org"]}, "attachments are pairs such as"),
    ({"attachments": [("Offer", "javascript:alert(1)")]}, "not an address that begins with https"),
    ({"attachments": [Link(title="Offer", url="ftp://x.org")]}, "not an address that begins with"),
    ({"attachments": [("Offer", "https://evil.org\\@x.org/")]}, "not an address that begins with"),
    ({"attachments": [("Offer", "https:///evil.org/")]}, "not an address that begins with"),
    ({"attachments": [("Offer", "https://[x.org/")]}, "not an address that begins with"),
    ({"subject": object()}, "the subject of an approval is plain JSON data or a pydantic model"),
    ({"subject": {1: "one"}}, "the key 1 is no text"),
    ({"subject": float("inf")}, "plain JSON data"),
    ({"subject": SURROGATE}, "plain JSON data"),
    ({"name": ""}, "the name of a await_approval has 1 to 256 characters"),
    ({"name": "é"}, "printable ASCII"),
    ({"name": "x" * 257}, "has 1 to 256 characters"),
    ({"name": ["approval"]}, "is a str, not list"),
]


def call(context: Any, **terms: Any) -> Any:
    given = {"approvers": [ALICE, BOB], "via": [PERSONAL], "timeout": 3 * DAY} | terms
    subject, name = given.pop("subject", "the text"), given.pop("name", "approval")
    return await_approval(context, subject, name, **given)


@pytest.mark.parametrize(
    ("terms", "told"), WRONG, ids=[f"{'+'.join(each)}-{n}" for n, (each, _) in enumerate(WRONG)]
)
def test_what_cannot_be_meant_is_refused_and_nothing_is_recorded(
    runner: Runner, office: Any, kind: str, terms: dict[str, Any], told: str
) -> None:
    async def body(event: Any, context: Any) -> Any:
        with pytest.raises(UsageError) as caught:
            call(context, **terms)
        return str(caught.value)

    run = runner.start(durable(kind, body))
    runner.settle()
    text = run.result(timeout=5)
    assert told in text
    if "name" not in terms:
        assert text.startswith("await_approval 'approval': ")
    assert run.operations() == {}


def test_a_deadline_after_the_end_of_the_run_is_refused(scene: Scene) -> None:
    handler = durable_execution(name="short", timeout=Duration.from_days(3))(
        lambda event, context: call(context)
    )
    run = scene.runner.start(handler)
    scene.runner.settle()
    error = failure(run)
    assert error.type == "perdure.UsageError"
    assert "timeout would end 2026-01-04 00:00 UTC, after the run itself" in error.message
    assert run.operations() == {}


def test_a_short_key_is_refused_before_anything_is_recorded(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERDURE_APPROVAL_KEYS", "canary-that-is-short")
    it = scene.runner.start(scene.handler())
    scene.runner.settle()
    error = failure(it)
    assert error.type == "perdure.UsageError"
    assert "key 1 of PERDURE_APPROVAL_KEYS has 20 bytes, and needs at least 32" in error.message
    assert "canary" not in error.message
    assert it.operations() == {}


def test_an_inbox_alone_needs_no_key(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("PERDURE_APPROVAL_KEYS")
    it = scene.ask(approvers="user:alice", via="web")
    it.vote("user:alice")
    assert it.result() == ["approved", True, "the text"]
    assert not (tmp_path / "approval.key").exists()


def test_a_form_that_cannot_be_drawn_is_refused_before_anything_is_recorded(scene: Scene) -> None:
    run = scene.runner.start(scene.handler(allow=["respond"], form=Unaskable))
    scene.runner.settle()
    error = failure(run)
    assert error.type == "perdure.UsageError"
    assert "form has no JSON Schema to ask by" in error.message
    assert run.operations() == {}


def test_a_misuse_that_is_mended_goes_on_with_a_resume(scene: Scene) -> None:
    terms: dict[str, Any] = {"approvers": []}

    async def body(event: Any, context: Any) -> Any:
        return (await value_of(call(context, via=[scene.recorder], **terms))).kind

    it = scene.start(durable(scene.kind, body))
    assert it.run.status == "FAILED"
    terms["approvers"] = [ALICE]
    scene.runner.engine.resume(it.run.id)
    scene.runner.settle()
    it.vote(ALICE)
    assert it.result() == "approved"


def test_people_have_to_decide_within_the_time_that_replays_take_no_part_in(
    scene: Scene, clock: ManualClock
) -> None:
    """A replay near the end of the run does not ask again whether the timeout fits in it."""

    async def body(event: Any, context: Any) -> Any:
        return (await value_of(call(context, via=[scene.recorder]))).kind

    made = durable_execution(name=f"tight-{scene.kind}", timeout=Duration.from_days(4))
    handler = made(durable(scene.kind, body).fn)
    it = scene.start(handler)
    clock.advance(2 * DAY)
    it.vote(ALICE)
    assert it.result() == "approved"


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        ({}, "Publish the report"),
        ({"title": "  Pay\n\n bob \t now "}, "Pay bob now"),
        ({"title": ""}, "Publish the report"),
        ({"title": "\n"}, "publish-the_report"),
    ],
)
def test_a_title_is_one_line(terms: dict[str, Any], expected: str) -> None:
    found = terms_of(1, "publish-the_report", approvers=ALICE, via=[PERSONAL], **terms)
    assert found.title == expected


def test_one_reminder_is_enough_for_one_time() -> None:
    found = terms_of(1, "x", approvers=ALICE, via=[PERSONAL], remind=[60, 60.0, 30])
    assert [(rung.name, rung.after) for rung in found.rungs] == [("remind-1", 30), ("remind-2", 60)]


def test_one_approver_channel_reminder_and_escalation_need_no_list() -> None:
    found = terms_of(
        1,
        "x",
        approvers=ALICE,
        via=PERSONAL,
        remind=timedelta(hours=1),
        escalate=Escalation(7200, DAVE),
        allow="approve",
    )
    assert [each.name for each in found.policy.everyone] == [ALICE, DAVE]
    assert [rung.name for rung in found.rungs] == ["remind-1", "escalate-1"]
    assert found.allowed == ("approve",)


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.binary(max_size=5),
    st.lists(st.one_of(st.text(max_size=5), st.integers(), st.none()), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
    st.sets(st.integers(), max_size=2),
    st.just(object()),
    st.just(Form),
    st.just(Form(amount=1)),
    st.timedeltas(),
    st.just(Escalation(60, [CAROL])),
    st.builds(Escalation, st.integers(), st.lists(st.text(max_size=5)), st.text(max_size=5)),
    st.just(lambda: None),
    st.just(("a", "https://x.org")),
)
ARGUMENTS = ["subject", "name", "approvers", "via", "timeout", "title", "required", "veto"]
ARGUMENTS += ["requested_by", "allow", "form", "remind", "escalate", "on_timeout", "preview"]
ARGUMENTS += ["attachments", "confirm"]


@pytest.fixture(scope="module")
def odd_calls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Calls with odd arguments, in a run of its own, and returns what they came to."""
    terms: dict[str, Any] = {}

    @durable_execution(name="odd")
    def handler(event: Any, context: Context) -> Any:
        try:
            call(context, **terms)
        except UsageError as error:
            return str(error)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERDURE_APPROVAL_KEYS", "a-key-for-tests-of-at-least-32-bytes")
        with Runner(tmp_path_factory.mktemp("odd") / "journal.db") as runner:

            def made(given: dict[str, Any]) -> Any:
                terms.clear()
                terms.update(given)
                run = runner.start(handler)
                runner.settle()
                return run

            yield made


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(terms=st.dictionaries(st.sampled_from(ARGUMENTS), ODD, min_size=1, max_size=2))
def test_odd_arguments_are_refused_or_meant_and_never_anything_else(
    odd_calls: Any, terms: dict[str, Any]
) -> None:
    run = odd_calls(terms)
    if run.status == "RUNNING":
        assert [each.path.rpartition("/")[2] for each in run.waiting_for()][:1] != []
        run.cancel()
    else:
        text = run.result(timeout=0)
        assert isinstance(text, str), "what was asked is over without an answer"
        assert run.operations() == {}
