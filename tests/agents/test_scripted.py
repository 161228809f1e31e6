"""A scripted model says what it is told to, keeps what it was asked, and asks nobody."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from pydantic import BaseModel, Field

from perdure.agents.errors import RequestsForbidden, UnreadableAnswer
from perdure.agents.guards import VARIABLE, check_allowed, forbidden
from perdure.agents.offline.chat import OfflineChat
from perdure.agents.testing import (
    Broken,
    ScriptedModel,
    ScriptExhausted,
    forbid_model_requests,
)
from perdure.durable.errors import UsageError


class City(BaseModel):
    name: str
    people: int = Field(alias="inhabitants")


@tool
def search(q: str) -> str:
    """Search."""
    return q


def test_answers_come_in_the_order_of_the_script() -> None:
    model = ScriptedModel(["one", AIMessage("two"), lambda messages, options: "three"])
    assert [model.invoke("?").content for _ in range(3)] == ["one", "two", "three"]
    assert model.calls == 3


def test_a_used_up_script_says_how_many_answers_it_had() -> None:
    model = ScriptedModel(["one", "two"], name="critic")
    for _ in range(2):
        model.invoke("?")
    with pytest.raises(ScriptExhausted, match=r"'critic' was asked for answer 3.*script has 2"):
        model.invoke("?")
    assert issubclass(ScriptExhausted, UsageError)


def test_a_loop_starts_the_script_again() -> None:
    model = ScriptedModel(["a", "b"], loop=True)
    assert [model.invoke("?").content for _ in range(5)] == ["a", "b", "a", "b", "a"]


def test_one_function_can_give_all_answers() -> None:
    model = ScriptedModel(lambda messages, options: messages[-1].content.upper())
    assert model.invoke("hello").content == "HELLO"
    assert model.invoke("you").content == "YOU"


async def slowly(messages: list[Any], options: dict[str, Any]) -> Any:
    await asyncio.sleep(0)
    return {"tool": "search", "args": {"q": messages[-1].content}}


def test_an_async_function_answers_a_sync_caller_too() -> None:
    model = ScriptedModel(slowly)
    for said in (model.invoke("fees"), asyncio.run(model.ainvoke("fees"))):
        assert said.tool_calls[0]["args"] == {"q": "fees"}


def test_a_sync_caller_inside_a_running_loop_is_answered_as_well() -> None:
    async def main() -> Any:
        return ScriptedModel(slowly).invoke("fees")

    assert asyncio.run(main()).tool_calls[0]["name"] == "search"


def test_tool_calls_are_written_as_plain_dicts() -> None:
    model = ScriptedModel(
        [
            {"tool": "search", "args": {"q": "fees"}},
            [{"tool": "search", "args": {"q": "a"}}, {"tool": "search", "args": {"q": "b"}}],
        ]
    ).bind_tools([search])
    first, second = model.invoke("?"), model.invoke("?")
    assert first.tool_calls == [
        {"name": "search", "args": {"q": "fees"}, "id": "call-1-1", "type": "tool_call"}
    ]
    assert [call["id"] for call in second.tool_calls] == ["call-2-1", "call-2-2"]
    assert second.response_metadata["stop_reason"] == "tool_use"


def test_a_structured_answer_is_a_call_of_its_tool_or_else_json_text() -> None:
    city = City(name="Bern", inhabitants=134_000)
    model = ScriptedModel([city], loop=True)
    assert model.with_structured_output(City).invoke("?") == city
    assert City.model_validate_json(model.invoke("?").content) == city


def test_an_exception_is_raised_as_it_is() -> None:
    error = TimeoutError("too slow")
    model = ScriptedModel([error, "then it works"])
    with pytest.raises(TimeoutError) as caught:
        model.invoke("?")
    assert caught.value is error
    assert model.invoke("?").content == "then it works"


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("hello", "script is a list of answers or a function, not str"),
        ([3], r"script\[0\]: an answer is .*, not int"),
        (["a", {"tol": "x"}], r"script\[1\]: a tool call is"),
        ([[]], r"script\[0\]: an answer is"),
        ([ValueError], r"script\[0\]: an answer is"),
    ],
)
def test_what_is_no_script_is_refused_at_once(script: Any, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        ScriptedModel(script)


def test_what_a_function_returns_is_checked_as_well() -> None:
    with pytest.raises(UsageError, match="answer 1: an answer is .*, not NoneType"):
        ScriptedModel(lambda messages, options: None).invoke("?")


def test_each_answer_has_usage_and_says_where_it_comes_from() -> None:
    said = ScriptedModel(["four words are here"]).invoke("two words")
    assert said.usage_metadata == {"input_tokens": 2, "output_tokens": 4, "total_tokens": 6}
    assert said.response_metadata == {
        "model_name": "scripted",
        "model_provider": "scripted",
        "stop_reason": "end_turn",
        "request_id": "scripted-1",
    }


def test_usage_and_price_can_be_given() -> None:
    price = {"input": 1.0, "output": 2.0}
    model = ScriptedModel(["x"], usage=(1000, 50), name="judge", price=price, loop=True)
    said = model.invoke("?")
    assert said.usage_metadata == {
        "input_tokens": 1000,
        "output_tokens": 50,
        "total_tokens": 1050,
    }
    assert said.response_metadata["simulated_price"] == model.simulated_price == price
    assert said.response_metadata["model_name"] == model.model_name == "judge"


def test_a_message_of_the_script_keeps_its_own_metadata_and_is_not_changed() -> None:
    own = AIMessage("cut", response_metadata={"stop_reason": "max_tokens"})
    model = ScriptedModel([own], loop=True)
    first, second = model.invoke("?"), model.invoke("?")
    assert first.response_metadata["stop_reason"] == "max_tokens"
    assert second.response_metadata["request_id"] == "scripted-2"
    assert own.response_metadata == {"stop_reason": "max_tokens"}
    assert own.usage_metadata is None
    assert own.id is None


def test_requests_are_kept_as_plain_data() -> None:
    model = ScriptedModel(["ok"])
    call = {"name": "search", "args": {"q": "x"}, "id": "c1"}
    model.bind_tools([search], tool_choice="any").invoke(
        [
            SystemMessage("Be brief."),
            HumanMessage("Hello"),
            AIMessage("", tool_calls=[call]),
            ToolMessage("found", tool_call_id="c1"),
        ],
        stop=["END"],
        max_tokens=9,
    )
    (request,) = model.requests
    assert request.messages == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "", "tool_calls": [{**call, "type": "tool_call"}]},
        {"role": "tool", "content": "found", "tool_call_id": "c1", "status": "success"},
    ]
    assert request.options["tool_choice"] == "any"
    assert request.options["tools"][0]["function"]["name"] == "search"
    assert request.options["stop"] == ["END"]
    assert request.options["max_tokens"] == 9


def test_answers_are_handed_out_once_each_across_threads() -> None:
    model = ScriptedModel([str(number) for number in range(200)])
    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(lambda _: model.invoke("?").content, range(200)))
    assert sorted(said, key=int) == [str(number) for number in range(200)]
    assert model.calls == 200


def test_it_knows_how_many_requests_were_under_way_at_once() -> None:
    everyone = threading.Barrier(3, timeout=10)

    def together(messages: list[Any], options: dict[str, Any]) -> str:
        everyone.wait()
        return "ok"

    model = ScriptedModel(together)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: model.invoke("?"), range(3)))
    assert model.max_concurrent == 3


def test_it_is_natively_async() -> None:
    async def main() -> int:
        ready = asyncio.Event()
        waiting = 0

        async def together(messages: list[Any], options: dict[str, Any]) -> str:
            nonlocal waiting
            waiting += 1
            if waiting == 50:
                ready.set()
            await asyncio.wait_for(ready.wait(), 10)
            return "ok"

        model = ScriptedModel(together)
        await asyncio.gather(*(model.ainvoke("?") for _ in range(50)))
        return model.max_concurrent

    assert asyncio.run(main()) == 50


def test_a_stream_comes_in_words() -> None:
    model = ScriptedModel(["one two  three"], loop=True)

    async def streamed() -> list[Any]:
        return [chunk async for chunk in model.astream("?")]

    for chunks in (list(model.stream("?")), asyncio.run(streamed())):
        assert "".join(chunk.content for chunk in chunks) == "one two  three"
        assert [chunk.content.strip() for chunk in chunks if chunk.content] == [
            "one",
            "two",
            "three",
        ]
        assert chunks[-1].usage_metadata["output_tokens"] == 3


def test_a_broken_answer_breaks_in_the_middle_of_its_stream() -> None:
    model = ScriptedModel([Broken("one two three", break_after=2)], loop=True)
    heard = []
    with pytest.raises(UnreadableAnswer, match="after 2 words"):
        heard.extend(chunk.content for chunk in model.stream("?"))
    assert heard == ["one ", "two "]
    with pytest.raises(UnreadableAnswer):
        model.invoke("?")


def test_a_langchain_chain_takes_it_as_it_is() -> None:
    prompt = ChatPromptTemplate.from_messages([("human", "Where is {what}?")])
    city = City(name="Bern", inhabitants=1)
    model = ScriptedModel([city])
    assert (prompt | model.with_structured_output(City)).invoke({"what": "it"}) == city
    assert model.requests[0].messages[0]["content"] == "Where is it?"


def test_a_real_model_is_not_asked_while_requests_are_forbidden() -> None:
    check_allowed("bedrock:nova", "bedrock")
    with forbid_model_requests():
        with pytest.raises(RequestsForbidden, match=r"'bedrock:nova'.*forbid_model_requests"):
            check_allowed("bedrock:nova", "bedrock")
        check_allowed("offline", OfflineChat.provider)
        check_allowed("scripted", ScriptedModel.provider)
    assert forbidden() is None


def test_the_ban_nests_and_holds_for_other_threads() -> None:
    with forbid_model_requests():
        with forbid_model_requests():
            pass
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(forbidden).result() == "forbid_model_requests() is in force"


@pytest.mark.parametrize(("value", "holds"), [("1", True), ("true", True), ("0", False)])
def test_the_environment_can_forbid_as_well(
    monkeypatch: pytest.MonkeyPatch, value: str, holds: bool
) -> None:
    monkeypatch.setenv(VARIABLE, value)
    assert (forbidden() is not None) is holds
    if holds:
        with pytest.raises(RequestsForbidden, match=VARIABLE):
            check_allowed("gpt", "openai")
