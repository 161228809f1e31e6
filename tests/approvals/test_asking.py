"""Asking one person: what waits, what comes of each answer, and what never counts as a yes."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from perdure.approvals import ApprovalError, Decision, await_approval
from perdure.approvals.office import Office
from perdure.approvals.people import Principal
from perdure.durable import CallbackClosedError, Duration, UsageError
from perdure.durable.gated import value_of
from perdure.durable.testing import ManualClock, Runner

from .recorder import Recorder
from .scene import ALICE, BOB, CAROL, DAY, Asked, Scene, durable, failure


class Payment(BaseModel):
    amount: float
    to: str


class Answer(BaseModel):
    city: str
    size: Literal["small", "large"] = "small"


PAYMENT = {"amount": 3.0, "to": "bob"}


def test_a_yes_approves_the_subject_as_it_was_shown(scene: Scene) -> None:
    it = scene.ask(PAYMENT)
    assert it.vote(ALICE).kind == "recorded"
    assert it.result() == ["approved", True, PAYMENT]


def test_a_no_rejects_it_with_the_reason(scene: Scene) -> None:
    it = scene.ask(then=lambda decision: [decision.kind, decision.by.identity, decision.comment])
    it.vote(BOB, "reject", comment="too dear")
    assert it.result() == ["rejected", BOB, "too dear"]


def test_the_decision_says_who_when_and_how(scene: Scene, clock: ManualClock) -> None:
    it = scene.ask(then=lambda decision: decision.kept())
    clock.advance(60)
    it.vote(BOB)
    found = Decision.read(it.result())
    assert found.by == Principal(identity=BOB, assurance="session")
    assert (found.approver, found.channel, found.at) == (BOB, "web", clock.moment())
    assert (found.request_id, found.digest) == (it.request.id, it.request.digest)


def test_a_run_that_waits_is_rows_on_disk_and_nothing_else(scene: Scene) -> None:
    it = scene.ask()
    assert not it.run.info().active
    assert [wait.path for wait in it.run.waiting_for()] == ["approval/decision"]


@pytest.mark.parametrize(
    ("on_timeout", "expected"),
    [
        ("reject", ["expired", False, PAYMENT]),
        ("approve", ["expired", True, PAYMENT]),
        (
            {"value": {"amount": 0, "to": "nobody"}},
            ["expired", True, {"amount": 0, "to": "nobody"}],
        ),
    ],
)
def test_when_nobody_decides_the_request_says_what_holds(
    scene: Scene, clock: ManualClock, on_timeout: Any, expected: Any
) -> None:
    it = scene.ask(PAYMENT, on_timeout=on_timeout)
    clock.advance(3 * DAY + 1)
    assert it.result() == expected


def test_an_expired_request_is_decided_by_the_policy_and_no_person(
    scene: Scene, clock: ManualClock
) -> None:
    it = scene.ask(then=lambda decision: decision.kept(), on_timeout="approve")
    [callback] = it.callbacks.values()
    clock.advance(3 * DAY + 1)
    assert it.vote(ALICE).kind == "expired"
    found = Decision.read(it.result())
    assert (found.by.identity, found.by.assurance, found.approver) == ("policy", "policy", None)
    assert found.at == it.request.deadline
    with pytest.raises(CallbackClosedError):
        scene.runner.engine.complete_callback(callback, payload=json.dumps(it.made()))


def test_a_request_that_has_to_be_decided_fails_when_it_is_not(
    scene: Scene, clock: ManualClock
) -> None:
    it = scene.ask(on_timeout="raise")
    clock.advance(3 * DAY + 1)
    error = it.error()
    assert error.type == "perdure.ApprovalExpired"
    assert error.message == "nobody decided 'approval' before 2026-01-04 00:00 UTC"


def test_a_click_at_the_last_moment_counts(scene: Scene, clock: ManualClock) -> None:
    it = scene.ask()
    clock.advance(3 * DAY - 0.001)
    it.vote(ALICE)
    clock.advance(60)
    assert it.result() == ["approved", True, "the text"]


def test_a_callback_that_somebody_failed_is_withdrawn_at_that_time(
    scene: Scene, clock: ManualClock
) -> None:
    it = scene.ask(
        then=lambda decision: [decision.kind, decision.approved, decision.at.isoformat()]
    )
    [callback] = it.callbacks.values()
    clock.advance(60)
    scene.runner.engine.fail_callback(callback, "no longer needed")
    assert it.result() == ["withdrawn", False, "2026-01-01T00:01:00+00:00"]


@pytest.mark.parametrize("type", ["Other", "perdure.Withdrawn"])
def test_a_callback_that_somebody_failed_is_no_yes_by_default(scene: Scene, type: str) -> None:
    it = scene.ask(on_timeout="approve")
    [callback] = it.callbacks.values()
    scene.runner.engine.fail_callback(callback, "no", type)
    assert it.result() == ["withdrawn", False, "the text"]


def test_a_cancelled_run_takes_no_answer(scene: Scene) -> None:
    it = scene.ask()
    [callback] = it.callbacks.values()
    it.run.cancel("changed our minds")
    assert it.vote(ALICE).kind == "withdrawn"
    with pytest.raises(CallbackClosedError):
        scene.runner.engine.complete_callback(callback, payload=json.dumps(it.made()))
    assert it.run.status == "CANCELLED"


class TestSubject:
    @pytest.mark.parametrize(
        "subject",
        [1.0, 1, True, None, "e\u0301 and \u00e9", {"a": None, "b": [1.0, 2]}, [], ""],
        ids=repr,
    )
    def test_what_was_approved_is_exactly_what_was_asked(self, scene: Scene, subject: Any) -> None:
        it = scene.ask(subject, then=lambda decision: repr(decision.subject))
        it.vote(ALICE)
        assert it.result() == repr(subject)

    def test_a_pydantic_subject_is_shown_as_its_json(self, scene: Scene) -> None:
        it = scene.ask(Payment(amount=3, to="bob"))
        assert it.request.subject == '{"amount":3.0,"to":"bob"}'
        it.vote(ALICE)
        assert it.result() == ["approved", True, PAYMENT]

    def test_a_subject_that_changes_while_it_is_decided_is_never_approved(
        self, scene: Scene
    ) -> None:
        now = ["one"]
        it = scene.ask(lambda: now[0])
        before = it.request.digest
        now[0] = "another"
        it.vote(ALICE)
        scene.runner.settle()
        error = failure(it.run)
        assert error.type == "perdure.ApprovalError"
        assert f"fingerprint {before[:8]}" in error.message
        now[0] = "one"
        scene.runner.engine.resume(it.run.id)
        assert it.result() == ["approved", True, "one"]

    def test_a_subject_that_changes_after_it_was_decided_is_never_approved(
        self, scene: Scene
    ) -> None:
        now = [1]

        async def body(event: Any, context: Any) -> Any:
            decision = await value_of(
                await_approval(context, now[0], approvers=[ALICE], via=[scene.recorder])
            )
            await value_of(context.wait(60, name="then"))
            return decision.subject

        it = scene.start(durable(scene.kind, body))
        it.vote(ALICE)
        scene.runner.settle()
        now[0] = 1.0
        scene.runner.engine.send(it.run.id, "then")
        scene.runner.settle()
        assert failure(it.run).type == "perdure.ApprovalError"


class TestEdit:
    def test_an_edit_is_an_instance_of_the_form_and_the_original_is_kept(
        self, scene: Scene
    ) -> None:
        seen: list[Any] = []
        it = scene.ask(
            Payment(amount=3, to="bob"),
            allow=["approve", "edit"],
            form=Payment,
            then=lambda decision: seen.append(decision) or decision.subject.amount,
        )
        assert it.vote(ALICE, "edit", value={"amount": "much"}).kind == "invalid"
        it.vote(ALICE, "edit", value={"amount": 2, "to": "carol"})
        assert it.result() == 2.0
        assert seen[0].subject == seen[0].answer == Payment(amount=2, to="carol")
        assert (seen[0].kind, seen[0].approved, seen[0].by.identity) == ("edited", True, ALICE)
        assert json.loads(it.request.subject) == PAYMENT

    def test_what_was_not_edited_is_an_instance_of_the_form_too(self, scene: Scene) -> None:
        it = scene.ask(
            PAYMENT, allow=["approve", "edit"], form=Payment, then=lambda d: d.subject.to
        )
        it.vote(ALICE)
        assert it.result() == "bob"

    def test_an_edit_without_a_form_is_plain_data(self, scene: Scene) -> None:
        it = scene.ask(PAYMENT, allow=["approve", "edit"])
        it.vote(ALICE, "edit", value={"amount": 2})
        assert it.result() == ["edited", True, {"amount": 2}]

    def test_an_answer_is_an_instance_of_the_form(self, scene: Scene) -> None:
        it = scene.ask(
            "Where?",
            allow=["respond"],
            form=Answer,
            then=lambda d: [d.kind, d.approved, d.answer.city, d.subject],
        )
        it.vote(ALICE, "respond", value={"city": "Ghent"})
        assert it.result() == ["responded", False, "Ghent", "Where?"]

    def test_what_holds_by_default_is_an_instance_of_the_form(
        self, scene: Scene, clock: ManualClock
    ) -> None:
        it = scene.ask(
            PAYMENT,
            allow=["approve", "edit"],
            form=Payment,
            on_timeout={"value": {"amount": 0, "to": "nobody"}},
            then=lambda d: d.subject.to,
        )
        clock.advance(4 * DAY)
        assert it.result() == "nobody"


class TestByHand:
    """Whoever reaches the engine can complete a callback with anything."""

    @pytest.mark.parametrize(
        "value", ["approved", True, {"approved": True}, None, [], {"kind": "approved"}], ids=repr
    )
    def test_what_is_no_decision_is_never_a_yes(self, scene: Scene, value: Any) -> None:
        it = scene.ask()
        it.complete(value)
        error = it.error()
        assert error.type == "perdure.ApprovalError"
        assert "which is not a decision; decide with `perdure approve`" in error.message

    @pytest.mark.parametrize(
        ("changed", "why"),
        [
            ({"request_id": "another"}, "about another request"),
            ({"digest": "0" * 64}, "or another subject"),
            ({"kind": "edited", "value": 1}, "'edited' was not among what could be decided"),
            ({"kind": "expired", "default": "approve"}, "'expired' was not among"),
            ({"approver": CAROL}, "'carol@example.org' is not among the approvers"),
            ({"approver": None}, "is not among the approvers"),
            ({"value": {"amount": 1e9}}, "'approved' comes with no value"),
            ({"default": "value", "value": 1}, "not the vote of a person"),
            (
                {"by": Principal(identity="policy", assurance="policy")},
                "not the vote of a person",
            ),
        ],
    )
    def test_a_decision_that_does_not_fit_the_request_is_never_a_yes(
        self, scene: Scene, changed: dict[str, Any], why: str
    ) -> None:
        it = scene.ask()
        made = it.made()
        made |= Decision.read(made).model_copy(update=changed).kept()
        it.complete(made)
        error = it.error()
        assert error.type == "perdure.ApprovalError"
        assert why in error.message

    def test_who_asked_never_says_yes(self, scene: Scene) -> None:
        it = scene.ask(requested_by=["user:alice", ALICE])
        it.complete(it.made(ALICE))
        assert "who asked may not decide" in it.error().message

    def test_who_asked_never_says_yes_for_another(self, scene: Scene) -> None:
        it = scene.ask(requested_by="user:dave")
        it.complete(it.made(ALICE, by=Principal(identity="user:dave", assurance="cli")))
        assert "who asked may not decide" in it.error().message

    def test_an_edit_that_misses_the_form_is_never_used(self, scene: Scene) -> None:
        it = scene.ask(PAYMENT, allow=["approve", "edit"], form=Payment)
        it.complete(it.made(ALICE, "edit", value={"amount": "much"}))
        assert "does not fit Payment" in it.error().message

    def test_an_edit_changed_on_its_way_is_never_used(self, scene: Scene) -> None:
        it = scene.ask(PAYMENT, allow=["approve", "edit"])
        it.complete(it.made(ALICE, "edit", value=[1]) | {"value": [2]})
        assert "not the one that was signed for" in it.error().message

    def test_the_handler_may_catch_it(self, scene: Scene) -> None:
        async def body(event: Any, context: Any) -> Any:
            try:
                await value_of(await_approval(context, 1, approvers=[ALICE], via=[scene.recorder]))
            except ApprovalError as error:
                return str(error)[:30]

        it = scene.start(durable(scene.kind, body))
        it.complete("approved")
        assert it.result() == "the callback was completed wit"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
FIELDS = ["request_id", "digest", "kind", "by", "approver", "value", "default", "votes", "nonce"]


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("by-hand")
    with pytest.MonkeyPatch.context() as patch, Runner(folder / "journal.db") as runner:
        patch.setenv("PERDURE_APPROVAL_KEYS", "a-key-for-tests-of-at-least-32-bytes")
        office = Office.at(folder, runner.clock)
        yield Scene(runner, office, "sync", Recorder(folder / "recorder.jsonl"))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(value=JSON, field=st.sampled_from([*FIELDS, ""]))
def test_no_junk_is_ever_a_yes(one: Scene, value: Any, field: str) -> None:
    it = one.ask(allow=["approve", "reject", "edit"], then=lambda decision: decision.kept())
    whole = it.made(ALICE)
    it.complete(whole | {field: value} if field else value)
    one.runner.settle()
    if it.run.status == "FAILED":
        assert failure(it.run).type == "perdure.ApprovalError"
    else:  # what was put in made no difference that matters
        found = Decision.read(it.run.result(timeout=0))
        assert (found.kind, found.approver, found.value) == (
            Decision.read(whole).kind if field != "kind" else value,
            ALICE,
            None,
        )
        assert field in ("nonce", "votes", "default", "value", "kind", "by")


def test_a_week_is_what_people_have_by_default(scene: Scene) -> None:
    asked = scene.ask(timeout=Duration.from_days(7)).request
    assert (asked.deadline - asked.asked).days == 7


def test_a_second_request_in_one_run_stands_apart(scene: Scene) -> None:
    async def body(event: Any, context: Any) -> Any:
        ways = {"approvers": [ALICE], "via": [scene.recorder]}
        first = await value_of(await_approval(context, "same", "first", **ways))
        second = await value_of(await_approval(context, "same", "second", **ways))
        return [first.kind, second.kind]

    run = scene.runner.start(durable(scene.kind, body))
    scene.runner.settle()
    first = Asked(scene.runner, scene.office, run)
    vote = first.made(ALICE)
    first.vote(ALICE)
    scene.runner.settle()
    [wait] = run.waiting_for()
    scene.runner.engine.complete_callback(wait.callback_id, payload=json.dumps(vote))
    scene.runner.settle()
    assert "about another request" in failure(run).message


def test_what_is_no_context_is_refused() -> None:
    with pytest.raises(UsageError, match="handler's context, not a dict"):
        await_approval({}, 1, approvers=[ALICE])  # type: ignore[call-overload]
