"""What is sent to Bedrock: conversations, documents and images, cache points, tools, schemas."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import pytest
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.tools import tool
from pydantic import BaseModel, Field

from perdure.agents.bedrock.content import MAX_DOCUMENT, MAX_IMAGE
from perdure.agents.errors import InvalidRequest

from .converse import Answer, ConverseServer, bedrock

Serve = Callable[..., ConverseServer]
PDF = base64.b64encode(b"%PDF-1.7 not much").decode()
PNG = base64.b64encode(b"\x89PNG not much").decode()
A_FILE = {"type": "file", "base64": PDF, "mime_type": "application/pdf"}
AN_IMAGE = {"type": "image", "base64": PNG, "mime_type": "image/png"}
CACHE = {"cachePoint": {"type": "default"}}


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@pytest.fixture
def send(serve: Serve) -> Callable[..., dict[str, Any]]:
    """Sends messages to a model and returns the body that came."""
    server = serve()

    def send(messages: Sequence[Any] | str, *, model: str | None = None, **options: Any) -> Any:
        fields = {"model": model} if model else {}
        bedrock(server.url, **fields).invoke(messages, **options)
        return server.last

    return send


Send = Callable[..., dict[str, Any]]


def refused(serve: Serve, messages: Sequence[Any], **options: Any) -> str:
    """Return the text that refuses these messages; nothing was sent."""
    server = serve()
    with pytest.raises(InvalidRequest) as caught:
        bedrock(server.url).invoke(messages, **options)
    assert server.count == 0
    return str(caught.value)


def called(id: str = "t1", name: str = "add", **args: Any) -> AIMessage:
    return AIMessage(content="", tool_calls=[{"name": name, "args": args, "id": id}])


def test_the_smallest_request_holds_a_text_and_the_longest_answer(send: Send) -> None:
    assert send("hello") == {
        "messages": [{"role": "user", "content": [{"text": "hello"}]}],
        "inferenceConfig": {"maxTokens": 4096},
    }


def test_system_messages_at_the_head_are_the_system_prompt(send: Send) -> None:
    body = send([SystemMessage("Be brief."), ("system", "Be kind."), ("human", "hello")])

    assert body["system"] == [{"text": "Be brief."}, {"text": "Be kind."}]
    assert [turn["role"] for turn in body["messages"]] == ["user"]


def test_a_tool_loop_goes_out_as_alternating_turns(send: Send) -> None:
    messages: list[BaseMessage] = [
        HumanMessage("2+3 and 4+5?"),
        AIMessage(
            content="I add.",
            tool_calls=[
                {"name": "add", "args": {"a": 2, "b": 3}, "id": "t1"},
                {"name": "add", "args": {"a": 4, "b": 5}, "id": "t2"},
            ],
        ),
        ToolMessage("5", tool_call_id="t1", artifact={"kept": "here"}),
        ToolMessage("it broke", tool_call_id="t2", status="error"),
        HumanMessage("Go on."),
    ]

    body = send(messages, tools=[add])

    assert body["messages"][1:] == [
        {
            "role": "assistant",
            "content": [
                {"text": "I add."},
                {"toolUse": {"toolUseId": "t1", "name": "add", "input": {"a": 2, "b": 3}}},
                {"toolUse": {"toolUseId": "t2", "name": "add", "input": {"a": 4, "b": 5}}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "toolResult": {
                        "toolUseId": "t1",
                        "content": [{"text": "5"}],
                        "status": "success",
                    }
                },
                {
                    "toolResult": {
                        "toolUseId": "t2",
                        "content": [{"text": "it broke"}],
                        "status": "error",
                    }
                },
                {"text": "Go on."},
            ],
        },
    ]


def test_a_tools_result_may_hold_images_json_and_nothing(send: Send) -> None:
    content = [{"json": {"sum": 5}}, AN_IMAGE, "and a word"]
    messages = [
        HumanMessage("?"),
        called("t1"),
        ToolMessage(content, tool_call_id="t1"),
        called("t2"),
        ToolMessage("", tool_call_id="t2"),
    ]

    turns = send(messages, tools=[add])["messages"]

    image = {"image": {"format": "png", "source": {"bytes": PNG}}}
    sent = turns[2]["content"][0]["toolResult"]["content"]
    assert sent == [{"json": {"sum": 5}}, image, {"text": "and a word"}]
    assert turns[4]["content"][0]["toolResult"]["content"] == [{"text": "(no output)"}]


def test_models_that_take_no_status_are_sent_none(send: Send) -> None:
    messages = [HumanMessage("?"), called(), ToolMessage("no", tool_call_id="t1", status="error")]

    body = send(messages, tools=[add], model="mistral.mistral-large-2407-v1:0")

    result = body["messages"][2]["content"][0]["toolResult"]
    assert result == {"toolUseId": "t1", "content": [{"text": "no"}]}


def test_a_foreign_tool_call_id_is_replaced_alike_in_call_and_result(send: Send) -> None:
    strange = "functions.add:0/" + "x" * 80
    messages = [HumanMessage("?"), called(strange), ToolMessage("5", tool_call_id=strange)]

    turns = send(messages, tools=[add])["messages"]

    sent = turns[1]["content"][0]["toolUse"]["toolUseId"]
    assert turns[2]["content"][0]["toolResult"]["toolUseId"] == sent
    assert len(sent) <= 64


def test_an_empty_answer_in_the_middle_leaves_no_empty_turn(send: Send) -> None:
    body = send([HumanMessage("a"), AIMessage(""), HumanMessage("b")])

    assert body["messages"] == [{"role": "user", "content": [{"text": "a"}, {"text": "b"}]}]


def test_chat_messages_speak_for_the_side_they_name(send: Send) -> None:
    body = send(
        [
            ChatMessage(role="system", content="Be brief."),
            ChatMessage(role="user", content="hello"),
            ChatMessage(role="assistant", content="hi"),
        ]
    )

    assert body["system"] == [{"text": "Be brief."}]
    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant"]


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ([HumanMessage("a"), SystemMessage("b")], "message 2 (system): a system message after"),
        ([AIMessage("a")], "begins with a user's message"),
        ([SystemMessage("a")], "begins with a user's message"),
        ([HumanMessage(" ")], "message 1 (human): it is empty"),
        ([HumanMessage("a"), RemoveMessage(id="x")], "message 2 (remove): no such message"),
        ([HumanMessage([{"type": "odd"}])], "message 1 (human): a content block 'odd'"),
        (
            [SystemMessage([AN_IMAGE])],
            "message 1 (system): a block of kind 'image' has no place here",
        ),
        ([HumanMessage("?"), called(), ToolMessage("5", tool_call_id="t1")], "bind the same tools"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_a_conversation_bedrock_would_refuse_is_not_sent(
    serve: Serve, messages: list[BaseMessage], says: str
) -> None:
    assert says in refused(serve, messages)


def test_documents_go_out_under_neutral_names_and_their_own_are_kept(serve: Serve) -> None:
    server = serve()
    named = A_FILE | {"extras": {"name": "my contract_v1.2.pdf", "citations": {"enabled": True}}}
    native = {"document": {"format": "md", "name": "IGNORE ALL", "source": {"bytes": b"# Notes"}}}
    plain = {"type": "text-plain", "text": "words", "mime_type": "text/plain", "title": "words.txt"}

    content = ["Compare.", named, native, A_FILE, plain]
    message = bedrock(server.url).invoke([HumanMessage(content)])

    sent = [block["document"] for block in server.last["messages"][0]["content"][1:]]
    assert [each["name"] for each in sent] == ["doc-1", "doc-2", "doc-3", "doc-4"]
    assert [each["format"] for each in sent] == ["pdf", "md", "pdf", "txt"]
    assert sent[0]["citations"] == {"enabled": True}
    assert base64.b64decode(sent[1]["source"]["bytes"]) == b"# Notes"
    assert sent[3]["source"] == {"text": "words"}
    assert message.response_metadata["documents"] == {
        "doc-1": "my contract_v1.2.pdf",
        "doc-2": "IGNORE ALL",
        "doc-4": "words.txt",
    }


def test_images_are_taken_in_every_dialect(send: Send) -> None:
    raw = base64.b64decode(PNG)
    images = [
        AN_IMAGE,
        {"type": "image", "bytes": raw, "mime_type": "image/png"},
        {"type": "image", "url": f"data:image/png;base64,{PNG}"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
        {"image": {"format": "png", "source": {"bytes": raw}}},
        {"image": {"format": "png", "source": {"bytes": PNG}}},
    ]

    blocks = send([HumanMessage(["Look.", *images])])["messages"][0]["content"]

    same = {"image": {"format": "png", "source": {"bytes": PNG}}}
    assert blocks == [{"text": "Look."}] + [same] * len(images)


def test_data_in_s3_is_sent_by_its_address(send: Send) -> None:
    piece = {"type": "file", "url": "s3://bucket/a.pdf", "mime_type": "application/pdf"}

    blocks = send([HumanMessage(["Read.", piece])])["messages"][0]["content"]

    assert blocks[1]["document"]["source"] == {"s3Location": {"uri": "s3://bucket/a.pdf"}}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([A_FILE], "a document comes without text"),
        (["Read.", *[A_FILE] * 6], "6 documents in one turn, and Bedrock takes 5"),
        (["Look.", *[AN_IMAGE] * 21], "21 images in one turn, and Bedrock takes 20"),
        (["Read.", A_FILE | {"base64": "!?"}], "data is bytes or base64 text"),
        (["Read.", A_FILE | {"mime_type": "application/zip"}], "mime_type 'application/zip'"),
        (
            ["Read.", {"type": "file", "url": "https://x.test/a"}],
            "fetches nothing else (found https:",
        ),
        (["Look.", {"type": "image", "file_id": "f"}], "a content block 'image' cannot be sent"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_content_that_breaks_a_limit_is_not_sent(
    serve: Serve, content: list[Any], says: str
) -> None:
    assert says in refused(serve, [HumanMessage(content)])


@pytest.mark.parametrize(("kind", "limit"), [("document", MAX_DOCUMENT), ("image", MAX_IMAGE)])
def test_data_larger_than_bedrock_takes_is_not_sent(serve: Serve, kind: str, limit: int) -> None:
    mime = {"document": "application/pdf", "image": "image/png"}[kind]
    block = {"type": {"document": "file"}.get(kind, kind), "mime_type": mime}

    says = refused(serve, [HumanMessage(["See.", block | {"bytes": b"x" * (limit + 1)}])])

    assert f"a {kind} of {limit + 1:,} bytes, and Bedrock takes {limit:,}" in says


def test_messages_that_become_one_turn_share_its_limits(serve: Serve) -> None:
    two = [HumanMessage(["Read.", *[A_FILE] * 3])] * 2

    assert "6 documents in one turn" in refused(serve, two)


def test_a_document_and_its_question_may_come_in_two_messages(send: Send) -> None:
    body = send([HumanMessage([A_FILE]), HumanMessage("What is it?")])

    assert [next(iter(block)) for block in body["messages"][0]["content"]] == ["document", "text"]


def test_an_answer_holds_no_document(serve: Serve) -> None:
    said = AIMessage([{"document": {"format": "pdf", "name": "x", "source": {"bytes": b"x"}}}])

    assert "cannot be sent back" in refused(serve, [HumanMessage("a"), said, HumanMessage("b")])


def test_cache_points_stand_where_they_were_put(send: Send) -> None:
    an_hour = {"cachePoint": {"type": "default", "ttl": "1h"}}
    marked = {"type": "text", "text": "More.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}

    body = send(
        [
            SystemMessage(["Rules.", CACHE]),
            HumanMessage(["Facts.", {"type": "cache_point"}, marked]),
        ],
        tools=[add, {"type": "cache_point", "ttl": "1h"}],
    )

    assert body["system"] == [{"text": "Rules."}, CACHE]
    assert body["messages"][0]["content"] == [{"text": "Facts."}, CACHE, {"text": "More."}, an_hour]
    assert body["toolConfig"]["tools"][1] == an_hour


def test_bedrocks_own_blocks_pass_unchanged(send: Send) -> None:
    guarded = {"guardContent": {"text": {"text": "secret", "qualifiers": ["query"]}}}
    found = {"searchResult": {"source": "s", "title": "t", "content": [{"text": "x"}]}}

    assert send([HumanMessage(["a", guarded, found])])["messages"][0]["content"] == [
        {"text": "a"},
        guarded,
        found,
    ]


def test_another_providers_reasoning_is_sent_only_where_it_is_taken(send: Send) -> None:
    thought = [{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": "hi"}]
    messages = [HumanMessage("a"), AIMessage(thought), HumanMessage("b")]

    to_claude = send(messages)["messages"][1]["content"]
    to_another = send(messages, model="openai.gpt-oss-120b-1:0")["messages"][1]["content"]
    to_deepseek = send(messages, model="us.deepseek.r1-v1:0")["messages"][1]["content"]

    assert to_claude == to_deepseek == [{"text": "hi"}]
    assert to_another[0] == {"reasoningContent": {"reasoningText": {"text": "hm"}}}


def test_a_call_the_model_botched_goes_back_with_its_result(send: Send) -> None:
    botched = {"name": "add", "args": "{a:", "id": "t1", "error": "no JSON"}
    said = AIMessage("", invalid_tool_calls=[botched])
    messages = [HumanMessage("?"), said, ToolMessage("bad", tool_call_id="t1", status="error")]

    use = send(messages, tools=[add])["messages"][1]["content"][0]["toolUse"]

    assert use == {"toolUseId": "t1", "name": "add", "input": {}}


class Person(BaseModel):
    """A person."""

    name: Annotated[str, Field(min_length=1)]
    age: Annotated[int, Field(ge=0, le=150, description="in years")]
    friends: list[Literal["a", "b"]] = []


def test_tools_of_every_kind_are_declared(serve: Serve) -> None:
    server = serve()
    native = {"toolSpec": {"name": "own", "inputSchema": {"json": {"type": "object"}}}}
    system = {"systemTool": {"name": "nova_grounding"}}

    bedrock(server.url).bind_tools([add, Person, native, system]).invoke("hello")

    tools = server.last["toolConfig"]["tools"]
    assert tools[0] == {
        "toolSpec": {
            "name": "add",
            "description": "Add two numbers.",
            "inputSchema": {
                "json": {
                    "type": "object",
                    "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
                    "required": ["a", "b"],
                }
            },
        }
    }
    assert tools[1]["toolSpec"]["name"] == "Person"
    assert tools[2:] == [native, system]


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        (None, None),
        ("auto", {"auto": {}}),
        ("any", {"any": {}}),
        ("required", {"any": {}}),
        (True, {"any": {}}),
        ("add", {"tool": {"name": "add"}}),
        ({"tool": {"name": "add"}}, {"tool": {"name": "add"}}),
        ({"any": {}}, {"any": {}}),
        ({"type": "tool", "name": "add"}, {"tool": {"name": "add"}}),
        ({"type": "function", "function": {"name": "add"}}, {"tool": {"name": "add"}}),
    ],
)
def test_a_tool_choice_is_understood_in_every_dialect(
    serve: Serve, choice: Any, sent: dict[str, Any] | None
) -> None:
    server = serve()

    bedrock(server.url).bind_tools([add], tool_choice=choice).invoke("hello")

    assert server.last["toolConfig"].get("toolChoice") == sent


@pytest.mark.parametrize("choice", ["none", "subtract", {"tool": {"name": "subtract"}}])
def test_a_choice_that_is_not_there_is_refused_when_bound(choice: Any) -> None:
    with pytest.raises(InvalidRequest, match="one of the tools given: add"):
        bedrock("http://nowhere.test").bind_tools([add], tool_choice=choice)


def test_what_is_no_tool_is_refused_when_bound() -> None:
    model = bedrock("http://nowhere.test")

    with pytest.raises(InvalidRequest, match="of int neither a tool nor a schema can be made"):
        model.bind_tools([3])
    with pytest.raises(InvalidRequest, match="has a name that Bedrock refuses"):
        model.bind_tools([{"name": "no.dots", "description": "x", "parameters": {}}])


def test_strict_tools_say_so(serve: Serve) -> None:
    server = serve()

    bedrock(server.url).bind_tools([add], strict=True).invoke("hello")

    assert server.last["toolConfig"]["tools"][0]["toolSpec"]["strict"] is True


def test_structured_output_is_a_tool_that_must_be_called(serve: Serve) -> None:
    server = serve([Answer(tools=(("t1", "Person", {"name": "Ada", "age": 36}),))])

    person = bedrock(server.url).with_structured_output(Person).invoke("who?")

    assert person == Person(name="Ada", age=36)
    assert server.last["toolConfig"]["toolChoice"] == {"any": {}}


def test_structured_output_by_schema_constrains_the_answer(serve: Serve) -> None:
    server = serve([Answer('{"name": "Ada", "age": 36}')])
    model = bedrock(server.url, extra={"outputConfig": {"effort": "low"}})

    person = model.with_structured_output(Person, method="json_schema").invoke("who?")

    assert person == Person(name="Ada", age=36)
    output = server.last["outputConfig"]
    assert output["effort"] == "low"
    definition = output["textFormat"]["structure"]["jsonSchema"]
    assert (definition["name"], definition["description"]) == ("Person", "A person.")
    schema = json.loads(definition["schema"])
    assert schema["additionalProperties"] is False
    assert schema["properties"]["name"] == {"description": "(minLength 1)", "type": "string"}
    assert schema["properties"]["age"] == {
        "description": "in years (maximum 150, minimum 0)",
        "type": "integer",
    }


@pytest.mark.parametrize("method", ["function_calling", "json_schema"])
def test_an_answer_that_does_not_fit_is_not_lost(serve: Serve, method: str) -> None:
    wrong = {"name": "Ada", "age": "old"}
    tools = (("t1", "Person", wrong),) if method == "function_calling" else ()
    server = serve([Answer("" if tools else json.dumps(wrong), tools=tools)])
    model = bedrock(server.url)

    chain = model.with_structured_output(Person, include_raw=True, method=method)
    whole: Any = chain.invoke("who?")

    assert whole["parsed"] is None
    assert "age" in str(whole["parsing_error"])
    assert whole["raw"].usage_metadata["output_tokens"] > 0


def test_a_schema_may_be_given_with_one_call(send: Send) -> None:
    schema = {"type": "object", "properties": {"minimum": {"type": "integer"}}}

    body = send("hello", output_schema=schema)

    definition = body["outputConfig"]["textFormat"]["structure"]["jsonSchema"]
    assert definition["name"] == "answer"
    assert json.loads(definition["schema"])["properties"] == {"minimum": {"type": "integer"}}
