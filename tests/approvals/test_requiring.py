"""A call that a person has to approve: what they are shown, and what is called."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from annotated_types import Gt
from langchain_core.tools import tool as langchain_tool
from pydantic import BaseModel

from perdure.agents import Agent
from perdure.agents.testing import ScriptedModel
from perdure.approvals import ApprovalRejected, require_approval
from perdure.durable import UsageError
from perdure.durable.gated import value_of

from .scene import ALICE, BOB, DAY, Asked, Scene, durable, failure


class Bank:
    """Something that pays, and remembers what it paid."""

    def __init__(self) -> None:
        self.paid: list[Any] = []

    def pay(self, amount: Annotated[int, Gt(0)], to: str = "bob", *, note: str = "") -> str:
        """Pay somebody."""
        self.paid.append((amount, to, note))
        return f"paid {amount} to {to}"


@pytest.fixture
def bank() -> Bank:
    return Bank()


@pytest.fixture
def calls(scene: Scene) -> Callable[..., Asked]:
    """Starts a run that makes one call of a guarded function."""

    def start(guarded: Any, *args: Any, **kwargs: Any) -> Asked:
        async def body(event: Any, context: Any) -> Any:
            return await value_of(guarded(context, *args, **kwargs))

        return scene.start(durable(scene.kind, body))

    return start


def ways(scene: Scene, **more: Any) -> dict[str, Any]:
    return {"approvers": [ALICE, BOB], "via": [scene.recorder], "timeout": 3 * DAY} | more


def test_a_function_is_called_once_somebody_said_yes(scene: Scene, bank: Bank, calls: Any) -> None:
    it = calls(require_approval(bank.pay, **ways(scene)), 3, note="rent")
    assert bank.paid == []
    assert it.request.title == "Call pay"
    it.vote(ALICE)
    assert it.result() == "paid 3 to bob"
    assert bank.paid == [(3, "bob", "rent")]


def test_it_decorates(scene: Scene, calls: Any) -> None:
    @require_approval(**ways(scene, title="Really?"))
    def shout(text: str) -> str:
        """Shout it."""
        return text.upper()

    assert (shout.__name__, shout.__doc__) == ("shout", "Shout it.")
    it = calls(shout, "hello")
    assert it.request.title == "Really?"
    it.vote(ALICE)
    assert it.result() == "HELLO"


def test_all_arguments_are_shown_by_name_also_those_left_out(
    scene: Scene, bank: Bank, calls: Any
) -> None:
    it = calls(require_approval(bank.pay, **ways(scene)), 3)
    assert json.loads(it.request.subject) == {"amount": 3, "to": "bob", "note": ""}


def test_parameters_of_every_kind_arrive_as_they_were_approved(scene: Scene, calls: Any) -> None:
    def every(a: int, /, b: int, *rest: int, c: int = 4, **named: int) -> Any:
        return [a, b, list(rest), c, named]

    it = calls(require_approval(every, **ways(scene)), 1, 2, 3, 3, d=5)
    shown = {"a": 1, "b": 2, "rest": [3, 3], "c": 4, "named": {"d": 5}}
    assert json.loads(it.request.subject) == shown
    it.vote(ALICE)
    assert it.result() == [1, 2, [3, 3], 4, {"d": 5}]


def test_edited_arguments_of_every_kind_arrive_too(scene: Scene, calls: Any) -> None:
    def every(a: int, /, *rest: int, _c: int = 4, **named: int) -> Any:
        return [a, list(rest), _c, named]

    it = calls(require_approval(every, **ways(scene, allow=["approve", "edit"])), 1, 2, d=5)
    edited = {"a": 7, "rest": [8, 9], "_c": 6, "named": {"e": 1}}
    assert it.vote(ALICE, "edit", value=edited).kind == "recorded"
    assert it.result() == [7, [8, 9], 6, {"e": 1}]


def test_a_function_that_takes_a_context_runs_in_a_scope_of_its_own(
    scene: Scene, calls: Any
) -> None:
    if scene.kind == "async":

        async def two_steps(context: Any, text: str) -> Any:
            return [await context.step("one", lambda: text), await context.step("two", lambda: 2)]
    else:

        def two_steps(context: Any, text: str) -> Any:
            return [context.step("one", lambda: text), context.step("two", lambda: 2)]

    it = calls(require_approval(two_steps, **ways(scene)), "hi")
    assert json.loads(it.request.subject) == {"text": "hi"}
    it.vote(ALICE)
    assert it.result() == ["hi", 2]
    assert "two_steps/one" in it.names()


def test_an_async_function_is_a_step(scene: Scene, calls: Any) -> None:
    async def fetch(url: str) -> str:
        return f"page of {url}"

    it = calls(require_approval(fetch, **ways(scene)), "x")
    it.vote(ALICE)
    assert it.result() == "page of x"


def test_a_no_raises_with_the_decision(scene: Scene, bank: Bank) -> None:
    guarded = require_approval(bank.pay, **ways(scene))

    async def body(event: Any, context: Any) -> Any:
        try:
            await value_of(guarded(context, 3))
        except ApprovalRejected as error:
            assert error.decision is not None
            return [str(error), error.decision.by.identity]

    it = scene.start(durable(scene.kind, body))
    it.vote(BOB, "reject", comment="too dear")
    assert it.result() == ["not approved (rejected, by bob@example.org): too dear", BOB]
    assert bank.paid == []


def test_when_time_is_up_nothing_is_called(scene: Scene, bank: Bank, calls: Any) -> None:
    it = calls(require_approval(bank.pay, **ways(scene)), 3)
    scene.passes(4 * DAY)
    error = failure(it.run)
    assert error.type == "perdure.ApprovalRejected"
    assert error.message == "not approved (expired, nobody decided in time)"
    assert bank.paid == []


@pytest.mark.parametrize(
    ("on_timeout", "paid"),
    [
        ("approve", [(3, "bob", "")]),
        ({"value": {"amount": 1, "to": "carol"}}, [(1, "carol", "")]),
    ],
)
def test_what_holds_by_default_is_what_is_called(
    scene: Scene, bank: Bank, calls: Any, on_timeout: Any, paid: Any
) -> None:
    it = calls(require_approval(bank.pay, **ways(scene, on_timeout=on_timeout)), 3)
    scene.passes(4 * DAY)
    it.result()
    assert bank.paid == paid


def test_an_answer_stands_for_the_result(scene: Scene, bank: Bank, calls: Any) -> None:
    it = calls(require_approval(bank.pay, **ways(scene, allow=["approve", "respond"])), 3)
    it.vote(ALICE, "respond", value="I paid it by hand")
    assert it.result() == "I paid it by hand"
    assert bank.paid == []


class TestEdit:
    def test_what_was_edited_is_called(self, scene: Scene, bank: Bank, calls: Any) -> None:
        it = calls(require_approval(bank.pay, **ways(scene, allow=["approve", "edit"])), 3)
        edited = {"amount": 2, "to": "carol", "note": "less"}
        assert it.vote(ALICE, "edit", value=edited).kind == "recorded"
        assert it.result() == "paid 2 to carol"
        assert bank.paid == [(2, "carol", "less")]

    @pytest.mark.parametrize(
        "edited",
        [
            {"amount": "much", "to": "bob", "note": ""},
            {"amount": -1, "to": "bob", "note": ""},
            {"amount": 2, "to": "bob", "note": "", "tool": "pay_more"},
            {"to": "bob"},
            [2],
        ],
    )
    def test_an_edit_that_does_not_fit_the_parameters_is_refused(
        self, scene: Scene, bank: Bank, calls: Any, edited: Any
    ) -> None:
        it = calls(require_approval(bank.pay, **ways(scene, allow=["approve", "edit"])), 3)
        assert it.vote(ALICE, "edit", value=edited).kind == "invalid"
        it.complete(it.made(ALICE, "edit", value=edited))
        assert it.error().type == "perdure.ApprovalError"
        assert bank.paid == []

    def test_where_an_answer_may_come_too_an_edit_is_checked_before_the_call(
        self, scene: Scene, bank: Bank, calls: Any
    ) -> None:
        allow = ["approve", "edit", "respond"]
        it = calls(require_approval(bank.pay, **ways(scene, allow=allow)), 3)
        it.vote(ALICE, "edit", value={"amount": -1})
        assert "these are no arguments of 'pay'" in it.error().message
        assert bank.paid == []

    def test_a_pydantic_argument_is_edited_as_one(self, scene: Scene, calls: Any) -> None:
        def send(letter: Letter) -> str:
            return f"{type(letter).__name__} to {letter.to}"

        guarded = require_approval(send, **ways(scene, allow=["approve", "edit"]))
        it = calls(guarded, Letter(to="bob"))
        it.vote(ALICE, "edit", value={"letter": {"to": "carol"}})
        assert it.result() == "Letter to carol"


class Letter(BaseModel):
    to: str


class TestWhen:
    def test_nobody_is_asked_where_it_says_no(self, scene: Scene, bank: Bank, calls: Any) -> None:
        guarded = require_approval(bank.pay, when=lambda args: args["amount"] > 10, **ways(scene))
        it = calls(guarded, 3)
        assert it.result() == "paid 3 to bob"
        assert scene.recorder.lines() == []

    def test_what_it_said_once_holds_at_each_replay(
        self, scene: Scene, bank: Bank, calls: Any
    ) -> None:
        limit = [10]
        guarded = require_approval(
            bank.pay, when=lambda args: args["amount"] > limit[0], **ways(scene)
        )
        it = calls(guarded, 30)
        assert bank.paid == []
        limit[0] = 100
        it = scene.restarted(it)
        it.vote(ALICE, "reject")
        it.settle()
        assert failure(it.run).type == "perdure.ApprovalRejected"
        assert bank.paid == []


class TestTool:
    def test_a_langchain_tool_is_called_with_what_was_approved(
        self, scene: Scene, calls: Any
    ) -> None:
        @langchain_tool
        def pay(amount: int, to: str = "bob") -> str:
            """Pay somebody."""
            return f"paid {amount} to {to}"

        it = calls(require_approval(pay, **ways(scene, allow=["approve", "edit"])), amount=3)
        assert json.loads(it.request.subject) == {"amount": 3, "to": "bob"}
        it.vote(ALICE, "edit", value={"amount": 2, "to": "carol"})
        assert it.result() == "paid 2 to carol"


class TestMisuse:
    @pytest.mark.parametrize(
        ("make", "told"),
        [
            (lambda: require_approval(7, approvers=[ALICE]), "takes a function or a LangChain too"),
            (lambda: require_approval(dict, approvers=[ALICE]), "takes a function or a LangChain"),
            (lambda: require_approval(approvers=[]), "approvers is empty"),
            (
                lambda: require_approval(approvers=[ALICE], form=Letter),  # type: ignore[call-overload]
                "require_approval has no argument 'form'",
            ),
            (
                lambda: require_approval(approvers=[ALICE], when="big"),  # type: ignore[call-overload]
                "when is a function of the arguments, not 'big'",
            ),
            (
                lambda: require_approval(
                    Bank().pay, approvers=[ALICE], on_timeout={"value": {"amount": 0}}
                ),
                "on_timeout: these are no arguments of 'pay'",
            ),
        ],
    )
    def test_it_is_refused_where_it_is_written(self, make: Callable[[], Any], told: str) -> None:
        with pytest.raises(UsageError) as caught:
            make()
        assert told in str(caught.value)

    def test_arguments_that_do_not_fit_are_refused_before_anybody_is_asked(
        self, scene: Scene, bank: Bank, calls: Any
    ) -> None:
        it = calls(require_approval(bank.pay, **ways(scene)), 3, 4, 5)
        assert failure(it.run).type == "perdure.UsageError"
        assert "pay: too many positional arguments" in failure(it.run).message
        assert it.names() == []

    def test_an_option_given_as_a_generator_serves_each_call(
        self, scene: Scene, bank: Bank
    ) -> None:
        guarded = require_approval(
            bank.pay, **ways(scene, allow=(each for each in ["approve", "edit"]))
        )

        async def body(event: Any, context: Any) -> Any:
            first = await value_of(guarded(context, 1))
            return [first, await value_of(guarded(context, 2))]

        it = scene.start(durable(scene.kind, body))
        assert it.request.allowed == ("approve", "edit")
        it.vote(ALICE)
        it.settle()
        [wait] = it.run.waiting_for()
        assert wait.path == "approve-pay#2/decision"


class TestAgent:
    """An agent whose tools ask before they act."""

    @pytest.fixture
    def work(self, scene: Scene) -> Callable[..., tuple[Asked, ScriptedModel]]:
        def start(tools: list[Any], approve: Any = None) -> tuple[Asked, ScriptedModel]:
            call = {"tool": "pay", "args": {"amount": 3, "to": "bob"}}
            model = ScriptedModel([call, "done"])
            agent = Agent(model, tools, approve=approve, name="clerk")

            async def body(event: Any, context: Any) -> Any:
                return (await value_of(agent.run(context, "Pay bob."))).text

            return scene.start(durable(scene.kind, body)), model

        return start

    @staticmethod
    def by_approve(scene: Scene, bank: Bank, **more: Any) -> Any:
        return {"tools": [bank.pay], "approve": require_approval(**ways(scene, **more))}

    @staticmethod
    def by_tool(scene: Scene, bank: Bank, **more: Any) -> Any:
        return {"tools": [require_approval(bank.pay, **ways(scene, **more))]}

    @pytest.mark.parametrize("way", ["by_approve", "by_tool"])
    def test_a_yes_lets_it_act(self, scene: Scene, bank: Bank, work: Any, way: str) -> None:
        it, _ = work(**getattr(self, way)(scene, bank))
        assert bank.paid == []
        subject = json.loads(it.request.subject)
        assert (subject["amount"], subject["to"]) == (3, "bob")
        it.vote(ALICE)
        assert it.result() == "done"
        assert bank.paid == [(3, "bob", "")]

    @pytest.mark.parametrize("way", ["by_approve", "by_tool"])
    def test_a_no_is_told_to_the_model(self, scene: Scene, bank: Bank, work: Any, way: str) -> None:
        it, model = work(**getattr(self, way)(scene, bank))
        it.vote(ALICE, "reject", comment="too dear")
        assert it.result() == "done"
        assert bank.paid == []
        assert "too dear" in str(model.requests[-1].messages[-1]["content"])

    @pytest.mark.parametrize("way", ["by_approve", "by_tool"])
    def test_an_edit_changes_the_arguments_and_never_the_tool(
        self, scene: Scene, bank: Bank, work: Any, way: str
    ) -> None:
        it, _ = work(**getattr(self, way)(scene, bank, allow=["approve", "edit"]))
        assert it.vote(ALICE, "edit", value=[1]).kind == "invalid"
        edited = {"amount": 2, "to": "carol"}
        assert it.vote(ALICE, "edit", value=edited).kind == "recorded"
        assert it.result() == "done"
        assert bank.paid == [(2, "carol", "")]

    def test_the_title_says_who_wants_what(self, scene: Scene, bank: Bank, work: Any) -> None:
        it, _ = work(**self.by_approve(scene, bank))
        assert it.request.title == "The agent clerk asks to call pay"

    def test_an_answer_is_told_to_the_model_in_place_of_a_result(
        self, scene: Scene, bank: Bank, work: Any
    ) -> None:
        it, model = work(**self.by_approve(scene, bank, allow=["approve", "respond"]))
        it.vote(ALICE, "respond", value="paid by hand")
        assert it.result() == "done"
        told = str(model.requests[-1].messages[-1]["content"])
        assert "a person answers instead: paid by hand" in told
        assert bank.paid == []

    def test_when_time_is_up_the_model_is_told(self, scene: Scene, bank: Bank, work: Any) -> None:
        it, model = work(**self.by_approve(scene, bank))
        scene.passes(4 * DAY)
        assert it.result() == "done"
        assert "nobody allowed it in time" in str(model.requests[-1].messages[-1]["content"])
        assert bank.paid == []

    def test_what_holds_by_default_is_what_is_called(
        self, scene: Scene, bank: Bank, work: Any
    ) -> None:
        held = {"value": {"amount": 1, "to": "bob"}}
        it, _ = work(**self.by_approve(scene, bank, on_timeout=held))
        scene.passes(4 * DAY)
        assert it.result() == "done"
        assert bank.paid == [(1, "bob", "")]
