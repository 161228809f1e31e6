"""What comes back from Bedrock, whole and streamed, and goes out again in the next turn."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, message_to_dict, messages_from_dict

from .converse import MODEL, Answer, ConverseServer, bedrock

Serve = Callable[..., ConverseServer]
USAGE = {"inputTokens": 10, "outputTokens": 4, "totalTokens": 14}
THOUGHT = {"reasoningContent": {"reasoningText": {"text": "2 and 3", "signature": "sig"}}}
HIDDEN = {"reasoningContent": {"redactedContent": b"\x00\xffsecret"}}
CALL = {"toolUse": {"toolUseId": "t1", "name": "add", "input": {"a": 2, "b": 3}}}
CITED = {
    "citationsContent": {
        "content": [{"text": "The sky is green."}],
        "citations": [
            {
                "title": "doc-1",
                "sourceContent": [{"text": "a green sky"}],
                "location": {"documentPage": {"documentIndex": 0, "start": 3, "end": 4}},
            }
        ],
    }
}
SEARCHED = (
    {
        "toolUse": {
            "toolUseId": "s1",
            "name": "nova_grounding",
            "input": {"q": "x"},
            "type": "server_tool_use",
        }
    },
    {
        "toolResult": {
            "toolUseId": "s1",
            "content": [{"text": "found"}],
            "status": "success",
            "type": "nova_grounding_result",
        }
    },
)
STOPS = [
    "end_turn",
    "tool_use",
    "max_tokens",
    "stop_sequence",
    "guardrail_intervened",
    "content_filtered",
    "malformed_model_output",
    "malformed_tool_use",
    "model_context_window_exceeded",
]
ADD = {"toolSpec": {"name": "add", "inputSchema": {"json": {"type": "object"}}}}


@pytest.fixture(params=["whole", "stream"])
def ask(request: pytest.FixtureRequest, serve: Serve) -> Callable[..., AIMessage]:
    """Asks a model that answers so, whole or by a stream that is added up."""

    def ask(answer: Answer, **fields: Any) -> AIMessage:
        model = bedrock(serve([answer]).url, **fields)
        if request.param == "whole":
            return model.invoke("hello")
        chunks = list(model.stream("hello"))
        whole = chunks[0]
        for chunk in chunks[1:]:
            whole = whole + chunk
        return whole

    return ask


Ask = Callable[..., AIMessage]


def test_a_text_comes_back_with_its_usage_and_what_is_worth_keeping(ask: Ask) -> None:
    more = {"serviceTier": {"type": "flex"}, "performanceConfig": {"latency": "standard"}}

    message = ask(Answer("hi there", usage=USAGE, latency=7, more=more))

    assert message.text == "hi there"
    assert message.tool_calls == []
    assert message.usage_metadata == {"input_tokens": 10, "output_tokens": 4, "total_tokens": 14}
    kept = {
        key: value for key, value in message.response_metadata.items() if key != "output_version"
    }
    assert kept == {
        "model_name": MODEL,
        "model_provider": "bedrock",
        "stop_reason": "end_turn",
        "request_id": "req-000001",
        "latency_ms": 7,
        "botocore_retries": 0,
        "service_tier": "flex",
        "performance": {"latency": "standard"},
    }


def test_plain_text_is_a_str(serve: Serve) -> None:
    assert bedrock(serve([Answer("hi")]).url).invoke("hello").content == "hi"


def test_an_answer_with_nothing_in_it_is_still_an_answer(ask: Ask) -> None:
    message = ask(Answer("", usage=USAGE))

    assert message.text == ""
    assert message.usage_metadata is not None


def test_tokens_read_from_and_written_to_the_cache_count_as_input(ask: Ask) -> None:
    cached = {"cacheReadInputTokens": 15, "cacheWriteInputTokens": 5}
    details = [{"ttl": "5m", "inputTokens": 2}, {"ttl": "1h", "inputTokens": 3}]

    message = ask(Answer("hi", usage=USAGE | cached | {"cacheDetails": details}))

    assert message.usage_metadata == {
        "input_tokens": 30,
        "output_tokens": 4,
        "total_tokens": 34,
        "input_token_details": {
            "cache_read": 15,
            "cache_creation": 5,
            "ephemeral_5m_input_tokens": 2,
            "ephemeral_1h_input_tokens": 3,
        },
    }


@pytest.mark.parametrize("stop", STOPS)
def test_whatever_a_model_stopped_for_is_an_answer_that_was_paid(ask: Ask, stop: str) -> None:
    message = ask(Answer("as far as it went", stop=stop, usage=USAGE))

    assert message.response_metadata["stop_reason"] == stop
    assert message.usage_metadata is not None
    assert message.text == "as far as it went"


def test_tool_calls_come_back_as_tool_calls(ask: Ask) -> None:
    message = ask(Answer("I add.", tools=(("t1", "add", {"a": 2}), ("t2", "now", {}))))

    assert message.text == "I add."
    assert [(call["id"], call["name"], call["args"]) for call in message.tool_calls] == [
        ("t1", "add", {"a": 2}),
        ("t2", "now", {}),
    ]
    assert [block["type"] for block in message.content_blocks] == ["text", "tool_call", "tool_call"]


def test_reasoning_and_citations_come_back_as_standard_blocks(ask: Ask) -> None:
    blocks = ask(Answer(content=(THOUGHT, CITED))).content_blocks

    kept = [{key: value for key, value in block.items() if key != "index"} for block in blocks]
    assert kept == [
        {"type": "reasoning", "reasoning": "2 and 3", "extras": {"signature": "sig"}},
        {
            "type": "text",
            "text": "The sky is green.",
            "annotations": [
                {
                    "type": "citation",
                    "title": "doc-1",
                    "cited_text": "a green sky",
                    "extras": {"citation": CITED["citationsContent"]["citations"][0]},
                }
            ],
        },
    ]


def test_images_come_back_as_standard_blocks(ask: Ask) -> None:
    image = {"image": {"format": "png", "source": {"bytes": b"\x89PNG!!"}}}

    block = ask(Answer(content=(image,))).content_blocks[0]

    assert base64.b64decode(block["base64"]) == b"\x89PNG!!"
    assert block["mime_type"] == "image/png"


@pytest.mark.parametrize(
    "content",
    [(THOUGHT, {"text": "5"}, CALL), (HIDDEN, CALL), (CITED, {"text": "So."}), (*SEARCHED, CITED)],
    ids=["reasoning", "redacted", "citations", "server tools"],
)
def test_an_answer_goes_out_again_as_it_came_even_through_the_journal(
    ask: Ask, serve: Serve, content: tuple[dict[str, Any], ...]
) -> None:
    message = ask(Answer(content=content))
    [kept] = messages_from_dict([json.loads(json.dumps(message_to_dict(message)))])
    server = serve()

    messages = [HumanMessage("a"), kept, HumanMessage("b")]
    bedrock(server.url).invoke(messages, tools=[ADD])

    hidden = base64.b64encode(HIDDEN["reasoningContent"]["redactedContent"]).decode()
    sent = [
        {"reasoningContent": {"redactedContent": hidden}} if b is HIDDEN else b for b in content
    ]
    assert server.last["messages"][1]["content"] == sent


def test_arguments_that_are_no_object_are_an_invalid_call(serve: Serve) -> None:
    server = serve([Answer(tools=(("t1", "add", "a=2"),))])

    message = bedrock(server.url).invoke("hello")

    assert message.tool_calls == []
    assert [(call["id"], call["args"]) for call in message.invalid_tool_calls] == [("t1", "a=2")]


def test_a_stream_says_text_as_it_comes_and_usage_at_its_end(serve: Serve) -> None:
    model = bedrock(serve([Answer("hello there", usage=USAGE)]).url)

    chunks = list(model.stream("hello"))

    assert [chunk.text for chunk in chunks] == ["hello", " there", ""]
    assert [chunk.usage_metadata is not None for chunk in chunks] == [False, False, True]
    assert chunks[-1].response_metadata["request_id"] == "req-000001"
    assert chunks[-1].response_metadata["stop_reason"] == "end_turn"


def test_a_reader_that_leaves_a_stream_leaves_the_model_usable(serve: Serve) -> None:
    server = serve()
    model = bedrock(server.url, max_connections=1)

    next(iter(model.stream("first")))

    assert model.invoke("second").text == "Heard: second"


def test_callbacks_hear_each_token_of_a_stream_once(serve: Serve) -> None:
    from langchain_core.callbacks import BaseCallbackHandler

    heard: list[str] = []

    class Ear(BaseCallbackHandler):
        def on_llm_new_token(self, token: Any, *, chunk: Any = None, **_: Any) -> None:
            heard.append(chunk.message.text)

    model = bedrock(serve([Answer("hello there")]).url)
    list(model.stream("hello", config={"callbacks": [Ear()]}))

    assert "".join(heard) == "hello there"
