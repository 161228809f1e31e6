"""The offline stand-in is a chat model like any other, and says what it is."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import Any

import pytest
from langchain_core.messages import HumanMessage, SystemMessage

from perdure.agents.errors import InvalidRequest
from perdure.agents.offline.answering import Answer, Turn, answer
from perdure.agents.offline.chat import OfflineChat

from .papers import ASKED, BOTH, CONTRACT, Plan, fenced

SEARCH = {
    "name": "search",
    "description": "Search.",
    "parameters": {
        "type": "object",
        "properties": {"q": {"type": "string"}},
        "required": ["q"],
    },
}


def test_each_answer_says_that_it_is_a_stand_in() -> None:
    said = OfflineChat().invoke([SystemMessage("Be brief."), HumanMessage("It rains. It pours.")])
    assert said.response_metadata == {
        "model_name": "perdure-offline-extractive-1",
        "model_provider": "offline",
        "stop_reason": "end_turn",
        "usage_estimated": True,
        "simulated_price": {"input": 3.0, "output": 15.0},
        "notice": "offline stand-in: extracts sentences, does not reason",
    }
    assert said.usage_metadata == {
        "input_tokens": 7,
        "output_tokens": -(-len(said.content) // 4),
        "total_tokens": 7 - (-len(said.content) // 4),
    }


def test_an_answer_that_is_too_long_is_cut_and_says_so() -> None:
    said = OfflineChat(max_tokens=8).invoke(f"{ASKED}\n{BOTH}")
    assert said.response_metadata["stop_reason"] == "max_tokens"
    assert said.usage_metadata["output_tokens"] == 8
    assert len(said.content) <= 32
    cut = OfflineChat().bind_tools([Plan], tool_choice="any").invoke(BOTH, max_tokens=4)
    assert cut.tool_calls == []
    assert cut.invalid_tool_calls[0]["name"] == "Plan"
    assert cut.response_metadata["stop_reason"] == "max_tokens"


def test_a_stop_word_ends_an_answer() -> None:
    said = OfflineChat().invoke(f"Who delivers?\n{fenced(CONTRACT)}", stop=["[1]"])
    assert "[1]" not in said.content
    assert said.response_metadata["stop_reason"] == "stop_sequence"


@pytest.mark.parametrize("tools", [[], [SEARCH]])
def test_a_stream_comes_in_words_and_adds_up_to_the_answer(tools: list[Any]) -> None:
    model = OfflineChat().bind_tools(tools)
    asked = f"{ASKED}\n{BOTH}"
    whole = model.invoke(asked)

    async def streamed() -> list[Any]:
        return [chunk async for chunk in model.astream(asked)]

    for chunks in (list(model.stream(asked)), asyncio.run(streamed())):
        added = chunks[0]
        for chunk in chunks[1:]:
            added += chunk
        assert added.content == whole.content
        assert added.tool_calls == whole.tool_calls
        assert added.usage_metadata == whole.usage_metadata
        assert added.response_metadata == whole.response_metadata
        assert all(chunk.usage_metadata is None for chunk in chunks[:-1])
        assert all(len(chunk.content.split()) <= 1 for chunk in chunks)


def test_the_async_answer_is_the_same() -> None:
    model = OfflineChat()
    assert asyncio.run(model.ainvoke(ASKED)).content == model.invoke(ASKED).content


def test_an_attached_text_is_read() -> None:
    blocks: list[Any] = [
        {"type": "text", "text": "What does the lake look like?"},
        {"type": "file", "base64": "VGhlIGxha2UgaXMgYmx1ZS4=", "mime_type": "text/plain"},
    ]
    assert OfflineChat().invoke([HumanMessage(content=blocks)]).content == "The lake is blue."


def test_an_attachment_that_cannot_be_read_is_refused() -> None:
    blocks: list[Any] = [{"type": "file", "base64": "%%%", "mime_type": "text/plain"}]
    with pytest.raises(InvalidRequest, match="base64"):
        OfflineChat().invoke([HumanMessage(content=blocks)])


def test_an_unknown_option_of_the_model_is_refused() -> None:
    with pytest.raises(ValueError, match="temprature"):
        OfflineChat(temprature=0)  # type: ignore[call-arg]


PROGRAM = """
import sys
from perdure.agents.offline.chat import OfflineChat
schema = {"title": "Out", "type": "object", "properties": {"summary": {"type": "string"},
    "entities": {"type": "array", "items": {"type": "string"}}, "risk": {"type": "string"}}}
asked, model = sys.stdin.read(), OfflineChat()
print(model.invoke(asked).content)
said = model.bind_tools([{"name": "Out", "parameters": schema}], tool_choice="any").invoke(asked)
print(said.tool_calls, said.usage_metadata, said.response_metadata)
"""


def test_the_same_input_gets_the_same_answer_in_every_process() -> None:
    said = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            input=f"{ASKED}\n{BOTH}",
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1


def test_the_logic_needs_nothing_but_the_standard_library() -> None:
    program = (
        "import sys, perdure.agents.offline\n"
        "print([n for n in ('langchain_core', 'pydantic', 'boto3') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_answers_are_plain_data() -> None:
    assert answer([Turn("user", "It rains.")]) == Answer("It rains.")
