"""A model on Bedrock: its settings, what each call may change, threads, and the step it is in."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from pydantic import ValidationError

from perdure.agents.bedrock import BedrockChat
from perdure.agents.errors import InvalidRequest
from perdure.durable import Context, LocalEngine, durable_execution

from .converse import (
    MODEL,
    PATIENCE,
    Answer,
    ConverseServer,
    Request,
    bedrock,
    echo,
    environment,
    session,
)

Serve = Callable[..., ConverseServer]
PROFILE = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123"


def test_settings_are_sent_and_a_call_may_change_them(serve: Serve) -> None:
    server = serve()
    model = bedrock(server.url, max_tokens=9, temperature=0.5, top_p=0.8, stop=["END"])

    model.invoke("hello")
    own = server.last["inferenceConfig"]
    model.invoke("hello", max_tokens=7, temperature=0, stop=["STOP"])

    assert own == {"maxTokens": 9, "temperature": 0.5, "topP": 0.8, "stopSequences": ["END"]}
    assert server.last["inferenceConfig"] == {
        "maxTokens": 7,
        "temperature": 0,
        "topP": 0.8,
        "stopSequences": ["STOP"],
    }


@pytest.mark.parametrize("model", [MODEL, "amazon.nova-lite-v1:0", PROFILE])
def test_any_kind_of_id_reaches_its_model(serve: Serve, model: str) -> None:
    server = serve()

    BedrockChat(model_id=model, endpoint_url=server.url, session=session()).invoke("hello")

    assert server.requests[0].model == model
    assert ":" not in server.requests[0].path
    assert server.requests[0].path.count("/") == 3


def test_the_model_behind_a_profile_is_named_in_the_answer(serve: Serve) -> None:
    model = bedrock(serve().url, model=PROFILE, base_model_id="anthropic.claude-3-haiku-v1:0")

    metadata = model.invoke("hello").response_metadata

    assert metadata["model_name"] == PROFILE
    assert metadata["base_model_id"] == "anthropic.claude-3-haiku-v1:0"


def test_rarer_fields_go_out_as_they_are(serve: Serve) -> None:
    server = serve()
    model = bedrock(server.url, extra={"serviceTier": {"type": "flex"}})

    model.invoke("hello", extra={"additionalModelRequestFields": {"top_k": 5}})

    assert server.last["serviceTier"] == {"type": "flex"}
    assert server.last["additionalModelRequestFields"] == {"top_k": 5}


def test_what_the_model_sends_itself_is_not_taken_as_extra(serve: Serve) -> None:
    server = serve()

    with pytest.raises(InvalidRequest, match="extra may not set 'toolConfig': it comes from bind"):
        bedrock(server.url, extra={"toolConfig": {}})
    with pytest.raises(InvalidRequest, match="'inferenceConfig': it comes from max_tokens"):
        bedrock(server.url).invoke("hello", extra={"inferenceConfig": {}})
    assert server.count == 0


def test_an_unknown_option_is_refused_by_name(serve: Serve) -> None:
    server = serve()

    with pytest.raises(
        InvalidRequest, match="a call takes no 'max_token'; it takes stop, max_tokens"
    ):
        bedrock(server.url).invoke("hello", max_token=5)
    with pytest.raises(ValidationError, match="maxtokens"):
        bedrock(server.url, maxtokens=5)
    assert server.count == 0


def test_the_environment_is_enough(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve()
    for name, value in environment(server.url).items():
        monkeypatch.setenv(name, value)

    assert BedrockChat(model=MODEL).invoke("hello").text == "Heard: hello"


def test_a_model_is_made_without_a_client_and_shows_no_credentials() -> None:
    model = bedrock("http://nowhere.test")

    assert model._made is None
    assert "session" not in repr(model).lower()
    assert "none" not in str(model._identifying_params).replace("None", "")


def test_a_client_is_made_once_however_many_threads_ask_first(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    model = bedrock(server.url)
    made: list[int] = []
    make = BedrockChat._make_client
    monkeypatch.setattr(BedrockChat, "_make_client", lambda self: (made.append(1), make(self))[1])
    threads = [threading.Thread(target=model.invoke, args=("hello",)) for _ in range(8)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert made == [1]
    assert server.count == 8


def test_a_copy_with_other_settings_gets_a_client_of_its_own(serve: Serve) -> None:
    first, second = serve(), serve()
    model = bedrock(first.url)
    model.invoke("hello")

    model.model_copy(update={"endpoint_url": second.url}).invoke("hello")

    assert (first.count, second.count) == (1, 1)


def test_async_calls_run_at_once_up_to_the_models_connections(serve: Serve) -> None:
    together = threading.Barrier(40)

    def answer(request: Request, number: int) -> Answer:
        together.wait(PATIENCE)
        return echo(request, number)

    model = bedrock(serve(answer).url)

    async def ask() -> list[str]:
        answers = await asyncio.gather(*(model.ainvoke(str(n)) for n in range(40)))
        return [each.text for each in answers]

    assert asyncio.run(ask()) == [f"Heard: {n}" for n in range(40)]


def test_an_async_stream_gives_what_a_stream_gives(serve: Serve) -> None:
    model = bedrock(serve().url)

    async def ask() -> list[str]:
        return [chunk.text async for chunk in model.astream("hello")]

    assert asyncio.run(ask()) == [chunk.text for chunk in model.stream("hello")]


def test_a_call_that_is_cancelled_is_not_sent_again(serve: Serve) -> None:
    gate, came = threading.Event(), threading.Event()

    def answer(request: Request, number: int) -> Answer:
        came.set()
        return Answer("late", gate=gate)

    server = serve(answer)
    model = bedrock(server.url)

    async def ask() -> None:
        asking = asyncio.create_task(model.ainvoke("hello"))
        await asyncio.to_thread(came.wait, PATIENCE)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        gate.set()

    asyncio.run(ask())

    assert server.count == 1
    assert list(server.billed) == ["req-000001"]


def test_a_reader_that_is_cancelled_leaves_an_async_stream_closed(serve: Serve) -> None:
    gate, came = threading.Event(), threading.Event()

    def answer(request: Request, number: int) -> Answer:
        came.set()
        return Answer(f"answer {number}", gate=gate if number == 1 else None)

    server = serve(answer)
    model = bedrock(server.url, max_connections=1)

    async def ask() -> str:
        reading = asyncio.create_task(anext(model.astream("hello")))
        await asyncio.to_thread(came.wait, PATIENCE)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        gate.set()
        return (await model.ainvoke("hello")).text

    assert asyncio.run(ask()) == "answer 2"
    assert server.count == 2


def test_context_variables_follow_an_async_call(serve: Serve) -> None:
    tenant: ContextVar[str] = ContextVar("tenant")
    seen: list[str] = []

    class Watched(BedrockChat):
        def _request(self, *args: Any) -> Any:
            seen.append(tenant.get())
            return super()._request(*args)

    model = Watched(**bedrock(serve().url).model_dump(), session=session())

    async def ask() -> None:
        tenant.set("acme")
        await model.ainvoke("hello")
        async for _ in model.astream("hello"):
            pass

    asyncio.run(ask())

    assert seen == ["acme", "acme"]


def test_a_call_inside_a_step_names_the_step_to_bedrock(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    model = bedrock(server.url)

    @durable_execution(name="asking")
    def handler(event: Any, context: Context) -> str:
        def ask() -> str:
            given = {"team": "söle", "perdure_step": "not this"}
            return str(model.invoke("hello", request_metadata=given).text)

        return context.step("ask [it]", ask)

    with LocalEngine(tmp_path / "journal.db", handlers=[handler]) as engine:
        assert engine.start(handler, None, id="run-1").result(timeout=PATIENCE) == "Heard: hello"

    assert server.requests[0].metadata == {
        "team": "s_le",
        "perdure_run": "run-1",
        "perdure_step": "ask _it_",
        "perdure_attempt": "1",
    }


def test_outside_a_step_no_metadata_is_sent(serve: Serve) -> None:
    server = serve()

    bedrock(server.url).invoke("hello")

    assert "requestMetadata" not in server.last


def test_metadata_is_cut_to_what_bedrock_takes(serve: Serve) -> None:
    server = serve()
    model = bedrock(server.url)

    model.invoke("hello", request_metadata={"k" * 300: "v" * 300})
    assert server.requests[0].metadata == {"k" * 256: "v" * 256}

    with pytest.raises(InvalidRequest, match="17 pairs with perdure's own, and Bedrock takes 16"):
        model.invoke("hello", request_metadata={str(n): n for n in range(17)})
    assert server.count == 1


def test_traces_name_the_model_and_its_settings() -> None:
    model = bedrock("http://nowhere.test", temperature=0.5)

    assert model._get_ls_params(stop=["x"]) == {
        "ls_provider": "amazon_bedrock",
        "ls_model_name": MODEL,
        "ls_model_type": "chat",
        "ls_temperature": 0.5,
        "ls_max_tokens": 4096,
        "ls_stop": ["x"],
    }


def test_a_pure_behaviour_gives_one_body_one_answer(serve: Serve) -> None:
    server = serve()
    model = bedrock(server.url)

    answers = [model.invoke([HumanMessage("same")]) for _ in range(2)]

    assert answers[0].text == answers[1].text
    assert answers[0].usage_metadata == answers[1].usage_metadata
    assert list(server.billed) == ["req-000001", "req-000002"]
    assert all(request.answered for request in server.requests)
