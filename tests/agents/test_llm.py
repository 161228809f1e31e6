"""Model calls are paid once, whatever happens around them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from pydantic import BaseModel, field_validator

from perdure.agents.errors import (
    CallInDoubt,
    InvalidRequest,
    ModelCallError,
    OutputInvalid,
    UnreadableAnswer,
)
from perdure.agents.ledgers import ledger
from perdure.agents.model_calls import llm
from perdure.agents.reply import Reply
from perdure.agents.testing import Broken, ScriptedModel
from perdure.durable import ExecutionFailedError, StepError, UsageError
from perdure.durable.gated import drive, value_of
from perdure.durable.testing import Runner, check_crashes, check_replay
from perdure.prompts import Prompt

from .both import durable


class Refused(Exception):
    """What a provider says when it is asked too often."""

    status_code = 429


class Verdict(BaseModel):
    """A verdict."""

    ok: bool
    points: int


def asking(model: ScriptedModel, **options: Any) -> Callable[..., Any]:
    async def body(event: Any, context: Any) -> Any:
        reply = await value_of(llm(context, "ask", "How many?", model=model, **options))
        return reply.output.model_dump() if options.get("output") else reply.text

    return body


def test_an_answer_that_was_recorded_is_never_asked_for_again(
    make: Callable[..., Any], runner: Runner
) -> None:
    model = ScriptedModel(["Seven.", "Eight."])

    async def body(event: Any, context: Any) -> Any:
        first = await value_of(llm(context, "first", "How many?", model=model))
        await value_of(context.sleep(3600))
        second = await value_of(llm(context, "second", ["How many now?"], model=model))
        return [first.text, second.text]

    run = runner.start(make(body))
    runner.run_until_idle()
    assert run.result() == ["Seven.", "Eight."]
    assert model.calls == 2
    check_replay(run)
    assert model.calls == 2
    assert ledger(run).totals.saved_calls == 1


def test_a_crash_before_any_write_repeats_no_recorded_answer(kind: str) -> None:
    asked: list[str] = []

    def answer(messages: Any, options: Any) -> str:
        asked.append(str(messages[-1].content))
        return "fine"

    model = ScriptedModel(answer)

    async def body(event: Any, context: Any) -> Any:
        replies = []
        for number in range(3):
            replies.append(await value_of(llm(context, f"c{number}", f"q{number}", model=model)))
        return [reply.text for reply in replies]

    points = check_crashes(durable(kind, body))
    # Undisturbed once, once after the last point, and at each point at most one call more.
    assert points >= 6
    assert len(asked) <= 2 * 3 + points * (3 + 1)


def test_invalid_answers_are_mended_by_new_recorded_calls(
    make: Callable[..., Any], runner: Runner
) -> None:
    model = ScriptedModel(
        ["none", {"tool": "Verdict", "args": {"ok": "?"}}, Verdict(ok=True, points=3)]
    )
    run = runner.start(make(asking(model, output=Verdict)))
    runner.run_until_idle()
    assert run.result() == {"ok": True, "points": 3}
    assert ledger(run).totals.calls == 3
    assert list(run.operations()) == ["ask", "ask/repair", "ask/repair#2"]
    told = model.requests[2].messages
    assert "points" in told[-1]["content"]
    check_replay(run)
    assert model.calls == 3


def test_what_cannot_be_mended_fails_with_its_answers_kept(
    make: Callable[..., Any], runner: Runner
) -> None:
    model = ScriptedModel(["no"], loop=True)

    async def body(event: Any, context: Any) -> Any:
        try:
            await value_of(llm(context, "ask", "?", model=model, output=Verdict, repairs=1))
        except OutputInvalid as error:
            return [reply.text for reply in error.replies]

    run = runner.start(make(body))
    runner.run_until_idle()
    assert run.result() == ["no", "no"]
    assert ledger(run).totals.calls == 2


def test_a_mended_parser_pays_nothing_on_resume(make: Callable[..., Any], runner: Runner) -> None:
    class Strict(BaseModel):
        mended: ClassVar[bool] = False
        text: str

        @field_validator("text")
        @classmethod
        def no_bug(cls, value: str) -> str:
            if not cls.mended:
                raise ValueError("a bug in the user's own code")
            return value

    model = ScriptedModel([{"tool": "Strict", "args": {"text": "paid"}}], loop=True)
    run = runner.start(make(asking(model, output=Strict)))
    runner.run_until_idle()
    with pytest.raises(ExecutionFailedError, match="a bug in the user's own code"):
        run.result()
    assert model.calls == 3
    Strict.mended = True
    runner.engine.resume(run.id)
    runner.run_until_idle()
    assert run.result() == {"text": "paid"}
    assert model.calls == 3
    assert ledger(run).totals.calls == 3


def test_refused_requests_are_tried_again_and_cost_nothing(
    make: Callable[..., Any], runner: Runner
) -> None:
    model = ScriptedModel([Refused(), Refused(), "at last"])
    run = runner.start(make(asking(model)))
    runner.run_until_idle()
    assert run.result() == "at last"
    totals = ledger(run).totals
    assert (totals.calls, totals.free, totals.uncertain) == (1, 2, 0)


def test_a_call_that_may_have_run_is_tried_once_more_and_counted_as_uncertain(
    make: Callable[..., Any], runner: Runner
) -> None:
    model = ScriptedModel([UnreadableAnswer("cut off")], loop=True, price={"input": 1, "output": 2})
    run = runner.start(make(asking(model)))
    runner.run_until_idle()
    with pytest.raises(ExecutionFailedError, match="cut off"):
        run.result()
    assert model.calls == 2
    totals = ledger(run).totals
    assert (totals.calls, totals.uncertain) == (0, 2)
    assert totals.uncertain_usd > 0


def test_an_invalid_request_is_never_tried_again(make: Callable[..., Any], runner: Runner) -> None:
    model = ScriptedModel([InvalidRequest("six documents")], loop=True)

    async def body(event: Any, context: Any) -> Any:
        try:
            await value_of(llm(context, "ask", "?", model=model))
        except ModelCallError as error:
            return [type(error).__name__, error.error_type, isinstance(error, StepError)]

    run = runner.start(make(body))
    runner.run_until_idle()
    assert run.result() == ["ModelCallError", "perdure.InvalidRequest", True]
    assert model.calls == 1
    check_replay(run)


def test_a_fallback_answers_where_the_first_model_fails(
    make: Callable[..., Any], runner: Runner
) -> None:
    first = ScriptedModel([InvalidRequest("not for me")], name="first")
    second = ScriptedModel(["mine"], name="second")
    run = runner.start(make(asking(first, fallbacks=[second])))
    runner.run_until_idle()
    assert run.result() == "mine"
    assert list(run.operations()) == ["ask", "ask/fallback"]
    check_replay(run)
    assert (first.calls, second.calls) == (1, 1)


def interrupted(runner: Runner, handler: Any) -> Any:
    """Start a run, and kill its engine while its first call is in flight."""
    runner.crash_after(2)
    run = runner.start(handler, id="run")
    try:
        runner.settle()
    finally:
        runner.restart()
    runner.settle()
    return runner.engine.get(run.id)


def test_a_call_in_doubt_is_sent_again_and_counted(
    make: Callable[..., Any], runner: Runner
) -> None:
    model = ScriptedModel(["lost", "kept"], price={"input": 1, "output": 2})
    handler = make(asking(model))
    runner.engine.register(handler)
    runner._handlers.append(handler)
    run = interrupted(runner, handler)
    runner.run_until_idle()
    assert run.result() == "kept"
    totals = ledger(run).totals
    assert (totals.calls, totals.in_doubt, model.calls) == (1, 1, 2)
    assert totals.in_doubt_usd > 0


def test_a_call_in_doubt_fails_where_that_is_asked_for(
    make: Callable[..., Any], runner: Runner
) -> None:
    model = ScriptedModel(["lost", "kept"])

    async def body(event: Any, context: Any) -> Any:
        try:
            await value_of(llm(context, "ask", "?", model=model, if_interrupted="fail"))
        except CallInDoubt as error:
            return str(error)

    handler = make(body)
    runner._handlers.append(handler)
    run = interrupted(runner, handler)
    runner.run_until_idle()
    assert "may have been billed" in run.result()
    assert model.calls == 1


@pytest.mark.parametrize(("answer", "calls"), [("retry", 2), ("fail", 1)])
def test_a_person_decides_on_a_call_in_doubt(
    make: Callable[..., Any], runner: Runner, answer: str, calls: int
) -> None:
    model = ScriptedModel(["lost", "kept"])
    handler = make(asking(model, if_interrupted="ask"))
    runner._handlers.append(handler)
    run = interrupted(runner, handler)
    runner.run_until_idle()
    assert [wait.path for wait in run.waiting_for()] == ["ask/in-doubt"]
    assert model.calls == 1
    runner.engine.send(run.id, "ask/in-doubt", answer)
    runner.run_until_idle()
    assert run.status == ("SUCCEEDED" if answer == "retry" else "FAILED")
    assert model.calls == calls


def test_tokens_are_shown_as_they_come_and_never_at_replay(
    make: Callable[..., Any], runner: Runner
) -> None:
    said: list[str] = []
    model = ScriptedModel(["one two three"])
    run = runner.start(make(asking(model, stream=said.append)))
    runner.run_until_idle()
    assert "".join(said) == run.result() == "one two three"
    assert len(said) > 1
    check_replay(run)
    assert "".join(said) == "one two three"


def test_a_stream_that_breaks_is_an_uncertain_call(
    make: Callable[..., Any], runner: Runner
) -> None:
    model = ScriptedModel([Broken("half of it"), "all of it"])
    run = runner.start(make(asking(model, stream=True)))
    runner.run_until_idle()
    assert run.result() == "all of it"
    assert ledger(run).totals.uncertain == 1


def test_a_listener_that_fails_costs_no_answer(make: Callable[..., Any], runner: Runner) -> None:
    model = ScriptedModel(["one two"])
    run = runner.start(make(asking(model, stream=lambda text: 1 / 0)))
    runner.run_until_idle()
    assert run.result() == "one two"


def test_a_conversation_is_stored_once(make: Callable[..., Any], runner: Runner) -> None:
    model = ScriptedModel(lambda messages, options: f"answer {len(messages)}")

    async def body(event: Any, context: Any) -> Any:
        messages: list[Any] = [("system", "s" * 2000)]
        for number in range(event["turns"]):
            messages.append(("user", f"question {number} " + "x" * 500))
            messages.append(await value_of(llm(context, "turn", messages, model=model)))
        return len(messages)

    handler = make(body)

    def size(turns: int) -> int:
        run = runner.start(handler, {"turns": turns}, id=f"turns-{turns}")
        runner.run_until_idle()
        run.result()
        with sqlite3.connect(runner.engine.path) as journal:
            events = journal.execute(
                "SELECT sum(length(coalesce(payload, '')) + length(coalesce(detail, '')))"
                " FROM events JOIN executions USING (run) WHERE id = ?",
                (run.id,),
            ).fetchone()[0]
            texts = journal.execute("SELECT sum(length(data)) FROM blobs").fetchone()[0]
            links = journal.execute("SELECT count(*) * 96 FROM chains").fetchone()[0]
        runner.engine.delete(run.id)
        return int(events + texts + links)

    fifty, hundred = size(50), size(100)
    assert hundred < 2.1 * fifty


def test_the_prompt_of_a_call_can_be_read_again(make: Callable[..., Any], runner: Runner) -> None:
    model = ScriptedModel(["fine"], loop=True)

    async def body(event: Any, context: Any) -> Any:
        prompt = [("system", "be brief"), HumanMessage("How many?", id="left-out")]
        await value_of(llm(context, "kept", prompt, model=model))
        await value_of(llm(context, "digest", prompt, model=model, record_prompts=False))

    run = runner.start(make(body))
    runner.run_until_idle()
    kept, digest = run.operations().values()
    texts = run.texts(json.loads(kept.note or "")["prompt"])
    assert [json.loads(text)["data"]["content"] for text in texts] == ["be brief", "How many?"]
    assert json.loads(digest.note or "")["prompt"] == json.loads(kept.note or "")["prompt"]
    runner.engine.delete(run.id)
    with sqlite3.connect(runner.engine.path) as journal:
        left = journal.execute(
            "SELECT (SELECT count(*) FROM chains), (SELECT count(*) FROM blobs)"
        ).fetchone()
    assert left == (0, 0)


def test_a_prompt_that_only_has_a_digest_keeps_no_text(
    make: Callable[..., Any], runner: Runner
) -> None:
    model = ScriptedModel(["fine"])
    run = runner.start(make(asking(model, record_prompts=False)))
    runner.run_until_idle()
    (operation,) = run.operations().values()
    assert run.texts(json.loads(operation.note or "")["prompt"]) == []
    assert b"How many?" not in runner.engine.path.read_bytes()


ANSWER = AIMessage(
    content=[
        {"type": "reasoning", "reasoning": "hm", "extras": {"signature": "abc"}},
        {"type": "text", "text": "Two files."},
        {"type": "image", "base64": "aGk=", "mime_type": "image/png"},
        {"type": "file", "source": {"bytes": b"ascii\xff"}},
    ],
    tool_calls=[{"name": "read", "args": {"n": 1, "at": [1.5, None]}, "id": "t1"}],
    additional_kwargs={"native": {"x": (1, 2)}},
    usage_metadata={
        "input_tokens": 30,
        "output_tokens": 4,
        "total_tokens": 34,
        "input_token_details": {"cache_read": 10, "cache_creation": 5},
    },
)


def test_an_answer_comes_back_as_it_was(make: Callable[..., Any], runner: Runner) -> None:
    replies: list[Reply[Any]] = []
    model = ScriptedModel([ANSWER])

    async def body(event: Any, context: Any) -> Any:
        replies.append(await value_of(llm(context, "ask", "?", model=model)))

    run = runner.start(make(body))
    runner.run_until_idle()
    run.result()
    check_replay(run)
    for reply in replies:
        message = reply.message
        assert message.content == ANSWER.content
        assert message.tool_calls == ANSWER.tool_calls
        assert message.additional_kwargs == ANSWER.additional_kwargs
        assert message.usage_metadata == ANSWER.usage_metadata
        assert reply.text == "Two files."
        assert reply.usage is not None
        assert (reply.usage.cache_read, reply.usage.cache_write) == (10, 5)
    assert len(replies) == 2


def test_a_paid_answer_is_kept_without_metadata_that_cannot_be(
    make: Callable[..., Any], runner: Runner
) -> None:
    message = AIMessage("paid", response_metadata={"client": object(), "model_name": "m"})
    run = runner.start(make(asking(ScriptedModel([message]))))
    runner.run_until_idle()
    assert run.result() == "paid"
    (operation,) = run.operations().values()
    record = json.loads(operation.payload or "")
    assert "response_metadata" in record["message"]["data"]["response_metadata"]["perdure_dropped"]
    assert record["model"] == "m"


@pytest.mark.parametrize(
    ("prompt", "options", "told"),
    [
        ([], {}, "holds no message"),
        ({"role": "user"}, {}, "not dict"),
        ([("doctor", "hm")], {}, "system, user or assistant"),
        ([{"role": "tool", "content": "x"}], {}, "tool_call_id"),
        ("text", {"inputs": {"a": 1}}, "inputs= are for a Prompt"),
        ("text", {"if_interrupted": "maybe"}, "'retry', 'fail' or 'ask'"),
        ("text", {"repairs": -1}, "repairs is a whole number"),
        ("text", {"budjet": 1}, "no option 'budjet'"),
        ("text", {"budget": 5}, "budget is a Budget"),
        ("text", {"model": "gpt"}, "there is no model 'gpt'"),
        ("text", {"model": "openai:gpt-x"}, "pip install langchain-openai"),
        ("text", {"model": 3}, "not int"),
        ("text", {"output": object()}, "pydantic"),
    ],
)
def test_a_call_that_cannot_be_meant_is_named(
    runner: Runner, prompt: Any, options: dict[str, Any], told: str
) -> None:
    options = {"model": ScriptedModel(["x"]), **options}

    async def body(event: Any, context: Any) -> Any:
        with pytest.raises(UsageError, match=told):
            await value_of(llm(context, "ask", prompt, **options))

    run = runner.start(durable("sync", body))
    runner.run_until_idle()
    run.result()
    assert options["model"] is None or not getattr(options["model"], "calls", 0)


def test_calls_side_by_side_replay(runner: Runner) -> None:
    import asyncio

    model = ScriptedModel(lambda messages, options: f"to {messages[-1].content}")

    async def body(event: Any, context: Any) -> Any:
        calls = [llm(context, f"ask-{n}", f"q{n}", model=model) for n in range(20)]
        same = [llm(context, "same", f"s{n}", model=model) for n in range(3)]
        return [reply.text for reply in await asyncio.gather(*calls, *same)]

    run = runner.start(durable("async", body))
    runner.run_until_idle()
    assert run.result() == [f"to q{n}" for n in range(20)] + [f"to s{n}" for n in range(3)]
    check_replay(run)
    assert model.calls == 23


def test_calls_in_the_branches_of_a_map(make: Callable[..., Any], runner: Runner) -> None:
    model = ScriptedModel(lambda messages, options: f"to {messages[-1].content}")

    async def branch(scope: Any, item: str) -> str:
        return str((await value_of(llm(scope, "ask", item, model=model))).text)

    async def body(event: Any, context: Any) -> Any:
        items = ["a", "b", "c"]
        batch = context.map("each", items, lambda scope, item: drive(scope, branch(scope, item)))
        return list(await value_of(batch))

    run = runner.start(make(body))
    runner.run_until_idle()
    assert run.result() == ["to a", "to b", "to c"]
    assert "each[1]/ask" in ledger(run).by_step
    check_replay(run)


def test_a_prompt_file_brings_its_settings_and_its_version(
    make: Callable[..., Any], runner: Runner
) -> None:
    text = (
        "---\nname: count\nconfig: {max_tokens: 77, temperature: 0.5}\n"
        "input:\n  schema:\n    what: string\n---\nHow many {{ what }}?\n"
    )
    prompt = Prompt.from_string(text)
    model = ScriptedModel(["Seven."])

    async def body(event: Any, context: Any) -> Any:
        call = llm(context, "ask", prompt, inputs={"what": "cats"}, model=model, temperature=0)
        return (await value_of(call)).text

    run = runner.start(make(body))
    runner.run_until_idle()
    assert run.result() == "Seven."
    (request,) = model.requests
    assert request.messages[-1]["content"].strip() == "How many cats?"
    assert (request.options["max_tokens"], request.options["temperature"]) == (77, 0)
    (entry,) = ledger(run).entries
    assert entry.template == f"count@{prompt.version[:12]}"


def test_a_changed_prompt_is_told_and_the_recorded_answer_used(
    runner: Runner, caplog: pytest.LogCaptureFixture
) -> None:
    prompts = [Prompt.from_string("How many?"), Prompt.from_string("How many now?")]
    model = ScriptedModel(["Seven."])

    async def body(event: Any, context: Any) -> Any:
        return (await value_of(llm(context, "ask", prompts[0], model=model))).text

    run = runner.start(durable("sync", body))
    runner.run_until_idle()
    prompts.pop(0)
    with caplog.at_level("INFO", logger="perdure"):
        check_replay(run)
    assert run.result() == "Seven."
    assert "is replayed from the answer to version" in caplog.text


def test_what_no_model_is_told_is_no_part_of_the_prompt(
    make: Callable[..., Any], runner: Runner
) -> None:
    asked = AIMessage("", tool_calls=[{"name": "read", "args": {}, "id": "t1"}])
    told = ToolMessage("the text", tool_call_id="t1", artifact=object(), id="left-out")
    model = ScriptedModel(["fine"])

    async def body(event: Any, context: Any) -> Any:
        return (await value_of(llm(context, "ask", [("user", "?"), asked, told], model=model))).text

    run = runner.start(make(body))
    runner.run_until_idle()
    assert run.result() == "fine"
    assert model.requests[0].messages[-1]["content"] == "the text"


def test_an_answer_that_is_none_counts_as_one_that_may_be_billed(
    make: Callable[..., Any], runner: Runner
) -> None:
    class Odd:
        max_retries = 0
        asked = 0

        def invoke(self, messages: Any, **options: Any) -> Any:
            self.asked += 1
            return {"text": "no message"}

        async def ainvoke(self, messages: Any, **options: Any) -> Any:
            return self.invoke(messages)

    odd: Any = Odd()
    run = runner.start(make(asking(odd)))
    runner.run_until_idle()
    with pytest.raises(ExecutionFailedError, match="answered with dict"):
        run.result()
    assert (ledger(run).totals.uncertain, odd.asked) == (2, 2)


def test_a_mended_answer_is_replayed_without_its_prompt(
    make: Callable[..., Any], runner: Runner
) -> None:
    prompts = [Prompt.from_string("How many?"), Prompt.from_string("---\nno such key: 1\n---\n?")]
    model = ScriptedModel(["none", Verdict(ok=True, points=3)])

    async def body(event: Any, context: Any) -> Any:
        reply = await value_of(llm(context, "ask", prompts[0], model=model, output=Verdict))
        return reply.output.points

    run = runner.start(make(body))
    runner.run_until_idle()
    prompts.pop(0)
    check_replay(run)
    assert (run.result(), model.calls) == (3, 2)
